"""The attack on membership: planted cases with known answers, a slow independent computation, and real networks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score, roc_curve

from privacy.risk.lira import attack_result, bootstrap_interval, confidences, half_memberships, membership_scores
from privacy.risk.shadows import Schedule, ShadowRows, train_shadows
from protocols.errors import ConfideError, ErrorCode


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    """As measurements run; threads would only wait for each other in programs as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def planted(shift: float, *, shadows: int = 64, rows: int = 400, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Confidences of rows of different difficulty, raised by `shift` deviations where a row was trained on."""
    drawn = np.random.default_rng(seed)
    members = half_memberships(shadows, rows, drawn)
    return drawn.normal(0, 1, (shadows, rows)) + 5 * drawn.normal(0, 1, rows) + shift * members, members


def test_every_row_is_in_half_of_the_shadows() -> None:
    members = half_memberships(64, 500, np.random.default_rng(0))
    assert (members.sum(axis=0) == 32).all()
    # The size of a shadow is a sum of 500 draws of one half; six deviations.
    assert (np.abs(members.sum(axis=1) - 250) < 6 * (500 / 4) ** 0.5).all()


def test_model_that_remembers_is_told_apart_as_well_as_theory_allows() -> None:
    shown, members = planted(2.0)
    found = attack_result(membership_scores(shown, members), members)
    # With the true means and deviation the score is normal: AUC Phi(2 / sqrt 2), TPR Phi(2 - z). Means of 32 draws blur it by
    # up to 1 / 32 of the variance on either side, and 25,600 scores leave less than 0.01 to chance.
    assert found.auc == pytest.approx(norm.cdf(2 / 2**0.5), abs=0.02)
    assert found.tpr_at_1_percent == pytest.approx(norm.cdf(2 - norm.ppf(0.99)), abs=0.05)
    assert found.auc < norm.cdf(2 / 2**0.5)


def test_model_that_remembers_nothing_is_not_told_apart() -> None:
    shown, members = planted(0.0)
    found = attack_result(membership_scores(shown, members), members)
    # 12,800 members and as many others: the deviation of an AUC by chance is 0.0036, of a TPR at 1 % 0.0012.
    assert abs(found.auc - 0.5) < 5 * 0.0036
    assert found.tpr_at_1_percent < 0.01 + 5 * 0.0012


def test_scores_equal_those_of_a_plain_loop() -> None:
    shown, members = planted(1.0, shadows=10, rows=30)
    scores = membership_scores(shown, members)
    for attacked in range(10):
        others = [shadow for shadow in range(10) if shadow != attacked]
        inside = [[shown[shadow, row] for shadow in others if members[shadow, row]] for row in range(30)]
        outside = [[shown[shadow, row] for shadow in others if not members[shadow, row]] for row in range(30)]
        deviations = [np.std(np.concatenate([np.array(row) - np.mean(row) for row in side])) for side in (inside, outside)]
        for row in range(30):
            expected = norm.logpdf(shown[attacked, row], np.mean(inside[row]), deviations[0])
            expected -= norm.logpdf(shown[attacked, row], np.mean(outside[row]), deviations[1])
            assert scores[attacked, row] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_result_equals_that_of_an_independent_implementation() -> None:
    drawn = np.random.default_rng(4)
    members = drawn.random(5000) < 0.4
    scores = np.round(drawn.normal(0, 1, 5000) + members, 1)  # many are equal
    found = attack_result(scores, members)
    assert found.auc == pytest.approx(roc_auc_score(members, scores), abs=1e-12)
    false_positives, true_positives, _ = roc_curve(members, scores, drop_intermediate=False)
    for wanted, tpr in ((0.01, found.tpr_at_1_percent), (0.001, found.tpr_at_0_1_percent)):
        assert tpr == pytest.approx(true_positives[false_positives <= wanted].max(), abs=1e-12)


def test_confidence_of_a_sure_model_keeps_its_digits() -> None:
    logits = np.array([[[60.0, 0.0], [0.0, 60.0]], [[0.0, 0.0], [1.0, 3.0]]])
    assert np.allclose(confidences(logits, np.array([0, 0])), [[60, -60], [0, -2]], rtol=1e-12)


def test_interval_covers_the_result_and_narrows_with_rows() -> None:
    widths = []
    for rows in (60, 960):
        shown, members = planted(1.0, rows=rows)
        scores = membership_scores(shown, members)
        low, high = bootstrap_interval(scores, members, generator=np.random.default_rng(0), resamples=100)
        assert low.auc <= attack_result(scores, members).auc <= high.auc
        widths.append(high.auc - low.auc)
    # Sixteen times the rows: a quarter of the width, up to the chance in 100 resamples.
    assert widths[1] < widths[0] / 2


@pytest.mark.parametrize("members", [np.ones((8, 3), bool), np.eye(8, 3, dtype=bool)])
def test_rows_that_too_few_models_hold_or_lack_are_refused(members: np.ndarray) -> None:
    with pytest.raises(ConfideError) as failure:
        membership_scores(np.zeros((8, 3)), members)
    assert failure.value.code is ErrorCode.INVALID_ARGUMENT


def _attacked(steps: int, noisy_labels: bool) -> tuple[float, float]:
    """AUC of the attack and accuracy on members, of networks on 300 digits."""
    digits = load_digits()
    drawn = np.random.default_rng(2)
    chosen = drawn.permutation(len(digits.target))[:300]
    rows = digits.data[chosen] / 8 - 1
    labels = drawn.integers(0, 10, 300) if noisy_labels else digits.target[chosen].astype(np.int64)
    members = half_memberships(16, 300, drawn)
    owned = [ShadowRows(rows[own], labels[own]) for own in members]
    shadows = train_shadows(owned, classes=10, schedule=Schedule(steps=steps), seed=3)
    logits = shadows.logits(rows)
    assert logits.shape == (16, 300, 10)
    assert len(shadows) == 16
    right = logits.argmax(axis=2) == labels
    return attack_result(membership_scores(confidences(logits, labels), members), members).auc, float(right[members].mean())


def test_networks_that_learn_random_labels_by_heart_give_their_members_away() -> None:
    auc, accuracy = _attacked(steps=400, noisy_labels=True)
    assert accuracy > 0.95  # ten classes by chance would be 0.1
    assert auc > 0.9


def test_networks_that_were_not_trained_give_nobody_away() -> None:
    auc, _ = _attacked(steps=0, noisy_labels=False)
    # 2,400 members and as many others, all confidences of 16 random networks: deviation of the AUC by chance 0.0083.
    assert abs(auc - 0.5) < 5 * 0.0083


def test_training_learns_and_repeats_itself() -> None:
    digits = load_digits()
    rows, labels = digits.data / 8 - 1, digits.target.astype(np.int64)
    owned = [ShadowRows(rows[:600], labels[:600]), ShadowRows(rows[600:1200], labels[600:1200])]
    first = train_shadows(owned, classes=10, schedule=Schedule(), seed=5).logits(rows[1200:])
    again = train_shadows(owned, classes=10, schedule=Schedule(), seed=5).logits(rows[1200:])
    assert np.array_equal(first, again)
    assert ((first.argmax(axis=2) == labels[1200:]).mean(axis=1) > 0.85).all()


def test_rows_that_are_missing_or_not_finite_are_refused() -> None:
    sound = ShadowRows(np.zeros((3, 2)), np.zeros(3, np.int64))
    for wrong in (
        ShadowRows(np.zeros((0, 2)), np.zeros(0, np.int64)),
        ShadowRows(np.full((3, 2), np.nan), np.zeros(3, np.int64)),
    ):
        with pytest.raises(ConfideError, match="INVALID_DATA"):
            train_shadows([sound, wrong], classes=2, schedule=Schedule(steps=1), seed=0)
