"""The verdict on a technique, by a rule that is stated and never bent.

For each data set and figure the difference between the runs with and without is taken seed by seed, and an interval of
Student's t is put around its mean. The intervals of one technique hold together with a chance of 95 % (Bonferroni): with dozens
of figures, some single ones would miss by chance. A figure is said to change if its interval excludes zero and the mean is at
least as large as what matters; else no effect was shown, which is not to say that there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from privacy.augmentation.evaluation import METRICS, Figures

JOINT_LEVEL = 0.95
LEAST_SEEDS = 3


class Verdict(Enum):
    """What a technique was measured to do."""

    HELPS = "helps"
    HURTS = "hurts"
    MIXED = "helps and hurts"
    NO_EFFECT = "no effect shown"


@dataclass(frozen=True)
class Metric:
    """How a figure is judged.

    Attributes:
        title: for people.
        better: 1 if more is better, -1 if less is.
        matters: the least mean difference that is an effect.
    """

    title: str
    better: int
    matters: float


JUDGED: Mapping[str, Metric] = {
    "accuracy": Metric("accuracy", 1, 0.005),
    "balanced_accuracy": Metric("balanced accuracy", 1, 0.005),
    "calibration_error": Metric("calibration error", -1, 0.005),
    "group_gap": Metric("group gap", -1, 0.01),
    "attack_auc": Metric("attack AUC", -1, 0.005),
    "attack_tpr_1": Metric("attack TPR at 1 %", -1, 0.005),
    "attack_tpr_01": Metric("attack TPR at 0.1 %", -1, 0.002),
}


@dataclass(frozen=True)
class Effect:
    """The change of one figure on one data set.

    Attributes:
        without: mean of the runs without the technique.
        difference: mean of with minus without.
        low: lower end of its interval.
        high: upper end.
        verdict: helps, hurts or no effect shown.
    """

    without: float
    difference: float
    low: float
    high: float
    verdict: Verdict


def effects(runs: Mapping[str, tuple[Sequence[Figures], Sequence[Figures]]]) -> dict[tuple[str, str], Effect]:
    """Returns the effect on every figure of every data set.

    Args:
        runs: by data set, the figures without and with the technique, in the order of the same seeds, at least `LEAST_SEEDS`.

    Returns:
        By data set and name of the figure; figures that a data set does not have are left out.
    """
    pairs: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    for data, (without, applied) in runs.items():
        for metric in METRICS:
            before, after = ([getattr(figures, metric) for figures in side] for side in (without, applied))
            if None not in before and None not in after:
                pairs[data, metric] = before, after
    return {key: _effect(JUDGED[key[1]], before, after, len(pairs)) for key, (before, after) in pairs.items()}


def overall(found: Mapping[tuple[str, str], Effect]) -> Verdict:
    """Returns the verdict on the technique: of all figures on all data sets."""
    verdicts = {effect.verdict for effect in found.values()}
    if {Verdict.HELPS, Verdict.HURTS} <= verdicts:
        return Verdict.MIXED
    return next((verdict for verdict in (Verdict.HELPS, Verdict.HURTS) if verdict in verdicts), Verdict.NO_EFFECT)


def _effect(metric: Metric, without: Sequence[float], applied: Sequence[float], figures: int) -> Effect:
    differences = np.array(applied) - np.array(without)
    mean = float(differences.mean())
    quantile = float(stats.t.ppf(1 - (1 - JOINT_LEVEL) / (2 * figures), len(differences) - 1))
    half = quantile * float(differences.std(ddof=1)) / float(np.sqrt(len(differences)))
    verdict = Verdict.NO_EFFECT
    if abs(mean) > half and abs(mean) >= metric.matters:
        verdict = Verdict.HELPS if mean * metric.better > 0 else Verdict.HURTS
    return Effect(float(np.mean(without)), mean, mean - half, mean + half, verdict)
