"""Protections of a training and of answers: what LiRA finds under each, and what predictions lose.

Every line is about 64 networks that are each trained on half of the rows and attacked with the help of all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import NDArray

from privacy.ablation.clipped import PrivateSchedule, logits_of, train_clipped
from privacy.ablation.lines import AblatedRows, Line, Part, accuracy, attacked
from privacy.accounting.calibration import choose_noise
from privacy.accounting.samplers import PrivatePoisson
from privacy.figures import Figure
from privacy.risk.intervals import mean
from privacy.risk.lira import confidences, membership_scores
from privacy.risk.shadows import Schedule, ShadowRows, train_shadows_on
from protocols.private_training import RELATION

HIDDEN = 64
OVERFITTED = Schedule(hidden=HIDDEN, steps=600, batch_rows=64, learning_rate=0.1, momentum=0.9)
DECAYED = replace(OVERFITTED, weight_decay=5e-3)
RATE, STEPS, BOUND = Fraction(1, 8), 150, 1.0
EPSILONS = ("8", "3", "1")
MOST_EPSILONS = 40  # all parts have 20 lines beside them, and a report holds 64
_UNBOUNDED = 1e9  # no gradient is as long
_SURE = 1e-6  # an answer is taken to be no surer, or its logit would be infinite

Measure = Callable[[], Line]
Told = NDArray[np.float64]  # what an answer tells: of two classes the probability of the second, else those of all


@dataclass(frozen=True)
class Settings:
    """What is measured; public.

    Attributes:
        delta: of the private trainings, a decimal.
        epsilons: of the private trainings, decimals.
        seed: of everything that is drawn.
    """

    delta: str
    epsilons: Sequence[str] = EPSILONS
    seed: int = 0


def overfitted(rows: AblatedRows, schedule: Schedule, *, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns logits of networks without privacy, on their own rows and on the others, (networks, rows, classes)."""
    own = ShadowRows(rows.features, rows.labels)
    shadows = train_shadows_on(own, rows.members(seed), classes=rows.classes, schedule=schedule, seed=seed)
    return shadows.logits(rows.features), shadows.logits(rows.other_features)


def membership_line(part: Part, setting: str, rows: AblatedRows, schedule: Schedule, *, seed: int) -> Line:
    """Returns what LiRA finds in networks without privacy, and how accurate they are."""
    own, other = overfitted(rows, schedule, seed=seed)
    return Line(part, setting, _found(own, rows, seed), accuracy(other, rows.other_labels))


def training_lines(rows: AblatedRows, settings: Settings) -> Iterator[Measure]:
    """Yields what measures weight decay, clipping, and clipping with noise, each by itself.

    Raises:
        ConfideError: INVALID_ARGUMENT (the owner's fault): an epsilon that no noise gives; before anything is measured.
    """
    seed = settings.seed
    noises = [
        (epsilon, float(choose_noise(PrivatePoisson(RATE, STEPS), epsilon=epsilon, delta=settings.delta)))
        for epsilon in settings.epsilons
    ]

    def plain(setting: str, schedule: Schedule) -> Measure:
        return lambda: membership_line(Part.TRAINING, setting, rows, schedule, seed=seed)

    def clipped(setting: str, noise: float, bound: float) -> Line:
        schedule = PrivateSchedule(HIDDEN, STEPS, float(RATE), bound, noise, learning_rate=1.0)
        networks = train_clipped(rows.features, rows.labels, rows.members(seed), schedule, seed, classes=rows.classes)
        own, other = logits_of(networks, rows.features), logits_of(networks, rows.other_features)
        return Line(Part.TRAINING, setting, _found(own, rows, seed), accuracy(other, rows.other_labels))

    yield plain("off (over-fitted)", OVERFITTED)
    yield plain("weight decay", DECAYED)
    yield lambda: clipped("steps of the private training, no clipping", 0.0, _UNBOUNDED)
    yield lambda: clipped("clipping alone", 0.0, BOUND)
    for epsilon, noise in noises:
        claim = f"epsilon {epsilon}, delta {settings.delta}, {RELATION}, row"
        yield partial(clipped, f"{claim}, noise multiplier {noise:.2f}", noise, BOUND)


def answer_lines(rows: AblatedRows, settings: Settings) -> Iterator[Measure]:
    """Yields what measures protections of answers, of the over-fitted network: rounding, clipping, noise, labels alone."""
    inside = rows.members(settings.seed)
    draw = np.random.default_rng(settings.seed)
    known: list[tuple[Told, Told]] = []

    def told() -> tuple[Told, Told]:
        if not known:  # trained by the first line, and held for the others
            own, other = overfitted(rows, OVERFITTED, seed=settings.seed)
            known.append((_told(own), _told(other)))
        return known[0]

    def noisy(deviation: float) -> Callable[[Told], Told]:
        return lambda p: p + draw.normal(0, deviation, p.shape)

    def line(setting: str, change: Callable[[Told], Told]) -> Line:
        own, other = told()
        shown, heard = change(own), change(other)
        # An attacker knows how answers are made, and its shadows answer likewise.
        bounded = np.clip(_of_class(shown, rows.labels), _SURE, 1 - _SURE)
        scores = membership_scores(np.log(bounded / (1 - bounded)), inside)
        right = np.asarray((_decided(heard) == rows.other_labels).mean(axis=1), np.float64)
        off = np.asarray(np.abs(np.clip(heard, 0, 1) - other).mean(axis=(1, 2)), np.float64)
        analysis = {"accuracy": mean(right), "probability.error": mean(off)}
        return Line(Part.ANSWERS, setting, attacked(scores, inside, seed=settings.seed), analysis)

    yield lambda: line("off: probabilities", lambda p: p)
    yield lambda: line("2 decimals", lambda p: np.round(p, 2))
    yield lambda: line("1 decimal", lambda p: np.round(p, 1))
    yield lambda: line("clipped to 0.1 and 0.9", lambda p: np.clip(p, 0.1, 0.9))
    yield lambda: line("noise 0.1", noisy(0.1))
    yield lambda: line("noise 0.5", noisy(0.5))
    yield lambda: line("label only", _label_only)
    yield lambda: line("label of probabilities with noise 0.5", lambda p: _label_only(noisy(0.5)(p)))


def _found(logits: NDArray[np.float64], rows: AblatedRows, seed: int) -> dict[str, Figure]:
    inside = rows.members(seed)
    return attacked(membership_scores(confidences(logits, rows.labels), inside), inside, seed=seed)


def _told(logits: NDArray[np.float64]) -> Told:
    largest = logits.max(axis=2, keepdims=True)
    weights = np.exp(logits - largest)
    chances: Told = weights / weights.sum(axis=2, keepdims=True)
    return chances[..., 1:] if chances.shape[2] == 2 else chances


def _of_class(told: Told, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """What an answer tells of each row's class, (networks, rows)."""
    if told.shape[2] == 1:
        return np.where(labels == 1, told[..., 0], 1 - told[..., 0])
    return np.asarray(np.take_along_axis(told, labels[None, :, None], axis=2)[..., 0], np.float64)


def _decided(told: Told) -> NDArray[np.int64]:
    return np.asarray(told[..., 0] > 0.5, np.int64) if told.shape[2] == 1 else np.asarray(told.argmax(axis=2), np.int64)


def _label_only(told: Told) -> Told:
    if told.shape[2] == 1:
        return np.where(told > 0.5, 0.9, 0.1)
    return np.where(np.arange(told.shape[2]) == _decided(told)[..., None], 0.9, 0.1)
