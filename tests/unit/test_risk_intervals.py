"""Intervals of shares and areas against what is known of them, and the figures that opened counts give."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from privacy.risk.intervals import area, clopper_pearson, difference, difference_of_gains, least_area, wilson
from privacy.risk.rates import figures_of_counts, figures_of_scores
from protocols.errors import ConfideError


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (1, 10), (5, 10), (10, 10), (3, 1000)])
def test_ends_of_the_exact_interval_leave_a_fortieth_on_each_side(successes: int, trials: int) -> None:
    found = clopper_pearson(successes, trials)
    if successes > 0:
        assert binom.sf(successes - 1, trials, found.low) == pytest.approx(0.025, rel=1e-6)
    if successes < trials:
        assert binom.cdf(successes, trials, found.high) == pytest.approx(0.025, rel=1e-6)


def test_score_interval_and_difference_are_the_published_ones() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table II: 56/70 and 48/80, method 10, to four places.
    found = difference((56, 70), (48, 80))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    # Newcombe (1998), Statistics in Medicine 17, 857-872, table I: 81/263, score method.
    share = wilson(81, 263)
    assert (share.low, share.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20).low == 0
    assert wilson(20, 20).high == 1


@pytest.mark.parametrize(("up", "down", "others_up"), [(0.0, 0.0, 0.0), (0.01, 0.01, 0.0), (0.05, 0.02, 0.02), (0.3, 0.2, 0.1)])
def test_interval_of_gains_covers_and_is_no_point_where_all_gains_are_alike(up: float, down: float, others_up: float) -> None:
    drawn, trials, covered = np.random.default_rng(11), 400, 0
    for _ in range(trials):
        members = drawn.choice([1.0, -1.0, 0.0], 150, p=[up, down, 1 - up - down])
        others = drawn.choice([1.0, 0.0], 40, p=[others_up, 1 - others_up])
        found = difference_of_gains(members, others)
        assert found.value == pytest.approx(members.mean() - others.mean(), abs=1e-12)
        assert found.low < found.value < found.high
        covered += found.low <= up - down - others_up <= found.high
    # 400 intervals of 95 %: fewer than 366 cover in one of a thousand such tests.
    assert covered >= 366


def test_area_that_was_found_to_be_one_may_be_less() -> None:
    # 14 pairs in order have this chance of a fortieth.
    assert least_area(14, 300) == pytest.approx(0.025 ** (1 / 14), rel=1e-9)
    assert least_area(300, 14) == least_area(14, 300)


def test_area_is_that_of_scikit_learn_and_its_interval_covers() -> None:
    drawn, covered = np.random.default_rng(2), 0
    truth = 0.7602499389065233  # of normal scores one deviation apart: the normal distribution at 1 / sqrt 2
    for _ in range(200):
        members = np.arange(160) < 60
        scores = drawn.normal(members, 1.0)
        found = figures_of_scores(scores, members, prefix="m")["m.auc"]
        assert found.value == pytest.approx(roc_auc_score(members, scores), abs=1e-12)
        covered += found.low <= truth <= found.high
    # 200 intervals of 95 %: fewer than 179 cover in one of a thousand such tests.
    assert covered >= 179


@pytest.mark.parametrize("others", [110, 200])
def test_attack_that_knows_nothing_finds_the_false_alarms_on_average(others: int) -> None:
    drawn, trials, members = np.random.default_rng(6), 500, np.arange(400 + others) < 400
    found = [figures_of_scores(drawn.normal(size=len(members)), members, prefix="m") for _ in range(trials)]
    shares = np.array([one["m.tpr_at_1_percent"].value for one in found])
    # A threshold that one other in a hundred is above, as near as may be, would find 2 in 111 and 3 in 201.
    error = shares.std() / np.sqrt(trials)
    assert shares.mean() == pytest.approx(0.01, abs=4 * error)
    assert 0.01 + 4 * error < min(2 / 111, 3 / 201)


def test_scores_that_tell_nothing_have_an_area_of_a_half() -> None:
    assert area(np.array([5]), np.array([7])).value == 0.5


def test_members_alone_are_refused() -> None:
    with pytest.raises(ConfideError):
        figures_of_scores(np.zeros(3), np.ones(3, bool), prefix="m")
    with pytest.raises(ConfideError):
        figures_of_counts(np.zeros((1, 2), np.int64), members=0, others=3, min_cell=2, prefix="m")


def test_counts_that_are_all_told_give_the_figures_of_the_scores() -> None:
    drawn = np.random.default_rng(3)
    members = np.arange(3000) < 1000
    scores = drawn.normal(members, 1.0)
    thresholds = np.unique(scores)[1:]
    counts = np.stack([(scores[side][:, None] >= thresholds).sum(axis=0) for side in (members, ~members)], axis=1)
    found = figures_of_counts(counts, members=1000, others=2000, min_cell=1, prefix="m")
    expected = figures_of_scores(scores, members, prefix="m")
    assert found["m.auc"].value == pytest.approx(expected["m.auc"].value, abs=1e-12)
    highest = np.sort(scores[~members])[::-1]
    for name, alarms in (("m.tpr_at_1_percent", 20), ("m.tpr_at_0_1_percent", 2)):
        # Each is read between the last score that so many others reach and the next one.
        least, most = ((scores[members] > highest[rank - 1]).mean() for rank in (alarms, alarms + 1))
        for one in (found, expected):
            assert least <= one[name].value <= most


@pytest.mark.parametrize("min_cell", [2, 5, 20])
def test_interval_of_withheld_counts_holds_what_all_counts_say(min_cell: int) -> None:
    drawn = np.random.default_rng(4)
    members = np.arange(2000) < 800
    scores = drawn.normal(members * 1.5, 1.0)
    thresholds = np.linspace(-3, 4, 40)
    counts = np.stack([(scores[side][:, None] >= thresholds).sum(axis=0) for side in (members, ~members)], axis=1)
    told = np.full_like(counts, -1)
    for side, rows in enumerate((800, 1200)):
        last = 0
        for place in reversed(range(len(counts))):
            count = int(counts[place, side])
            if count - last >= min_cell and rows - count >= min_cell:
                told[place, side] = last = count
    found = figures_of_counts(told, members=800, others=1200, min_cell=min_cell, prefix="m")
    expected = figures_of_scores(scores, members, prefix="m")
    assert (told == -1).any()
    for name, figure in found.items():
        assert figure.low <= expected[name].value <= figure.high
        assert figure.low <= figure.value <= figure.high


@pytest.mark.parametrize("thresholds", [[9.0], [1.0], [-1.0, 2.0], [0.0, 0.5, 1.0, 1.5]])
def test_interval_of_the_area_at_few_thresholds_holds_that_of_all_orders_between_them(thresholds: list[float]) -> None:
    drawn = np.random.default_rng(5)
    members = np.arange(2000) < 800
    scores = drawn.normal(members * 1.5, 1.0)
    counts = np.stack([(scores[side][:, None] >= thresholds).sum(axis=0) for side in (members, ~members)], axis=1)
    found = figures_of_counts(counts, members=800, others=1200, min_cell=1, prefix="m")["m.auc"]
    bins = np.searchsorted(thresholds, scores, side="right")
    first, last = (float(roc_auc_score(members, bins + step * members)) for step in (-0.5, 0.5))
    assert found.low <= first < found.value < last <= found.high


def test_nothing_told_says_nothing() -> None:
    found = figures_of_counts(np.full((4, 2), -1), members=50, others=50, min_cell=5, prefix="m")
    assert (found["m.auc"].value, found["m.auc"].low, found["m.auc"].high) == (0.5, 0.0, 1.0)
    assert (found["m.tpr_at_1_percent"].low, found["m.tpr_at_1_percent"].high) == (0.0, 1.0)
