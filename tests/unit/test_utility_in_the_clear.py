"""Utility on rows in the clear has the figures that scikit-learn gives, and so those of an evaluation in shares."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from privacy.utility.in_the_clear import clear_figures

ROWS = 300


def some_logits(classes: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(3)
    labels = draw.integers(0, classes, ROWS)
    return draw.normal(0, 1, (ROWS, classes)) + 1.2 * (labels[:, None] == np.arange(classes)), labels


@pytest.mark.parametrize("classes", [2, 4])
def test_figures_are_those_of_scikit_learn(classes: int) -> None:
    logits, labels = some_logits(classes)
    found, predicted = clear_figures(logits, labels), logits.argmax(axis=1)
    assert found["accuracy"].value == pytest.approx(accuracy_score(labels, predicted))
    average = "binary" if classes == 2 else "macro"
    assert found["f1"].value == pytest.approx(f1_score(labels, predicted, average=average))
    if classes == 2:
        assert found["roc_auc"].value == pytest.approx(roc_auc_score(labels, logits[:, 1] - logits[:, 0]))
    assert ("roc_auc" in found) == (classes == 2)
    assert not any(name.startswith("group.") for name in found)


def test_calibration_error_is_that_of_tenths() -> None:
    logits, labels = some_logits(2)
    chance = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    tenths = np.minimum((chance * 10).astype(int), 9)
    expected = sum(abs(labels[tenths == k].sum() - chance[tenths == k].sum()) for k in range(10)) / ROWS
    assert clear_figures(logits, labels)["ece"].value == pytest.approx(expected)


def test_figures_of_a_model_that_makes_no_mistake_have_intervals() -> None:
    labels = np.arange(38) % 2
    found = clear_figures(np.column_stack([np.zeros(38), np.where(labels == 1, 3.0, -3.0)]), labels)
    assert (found["accuracy"].value, found["roc_auc"].value) == (1.0, 1.0)
    # 19 pairs of either class, all of them in order: that has a chance of a fortieth at this area.
    assert found["roc_auc"].low == pytest.approx(0.025 ** (1 / 19), rel=1e-9)
    # Two tenths of 19 rows, each taken as 20 right ones of 21: 1.96 deviations of the sum of both.
    reach = 1.959964 * np.sqrt(2 * 19 * (20 / 21) * (1 / 21)) / 38
    assert found["ece"].high - found["ece"].value == pytest.approx(reach, rel=1e-6)
    inverted = clear_figures(np.column_stack([np.zeros(38), np.where(labels == 1, -3.0, 3.0)]), labels)["roc_auc"]
    assert (inverted.value, inverted.low, inverted.high) == pytest.approx((0.0, 0.0, 1 - 0.025 ** (1 / 19)), rel=1e-9)


def test_gap_between_groups_is_the_largest_rate_less_the_smallest() -> None:
    logits, labels = some_logits(2)
    groups = np.arange(ROWS) % 3
    found, predicted = clear_figures(logits, labels, groups=groups), logits.argmax(axis=1)
    accuracies = [(labels == predicted)[groups == k].mean() for k in range(3)]
    missed = [((labels == 1) & (predicted == 0))[groups == k].sum() / (labels == 1)[groups == k].sum() for k in range(3)]
    alarms = [((labels == 0) & (predicted == 1))[groups == k].sum() / (labels == 0)[groups == k].sum() for k in range(3)]
    assert found["group.accuracy_gap"].value == pytest.approx(max(accuracies) - min(accuracies))
    assert found["group.fnr_gap"].value == pytest.approx(max(missed) - min(missed))
    assert found["group.fpr_gap"].value == pytest.approx(max(alarms) - min(alarms))
