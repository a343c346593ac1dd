"""What joining a private training gains over staying alone, from own rows and agreed sizes only.

Two things are measured on random splits of the own rows. How the simple models that one trains alone, tuned within the rows that
they are trained on (`lone`), and the training that is proposed but without its noise, improve with rows: with half and with all,
from which quality at any size follows as a - b / rows, the rate at which the error of a model of fixed size falls. And what the
noise of the agreed terms costs, at the agreed size (`simulation`). Then

    gain = (quality of the private model at the size of all) - (quality of the best simple model alone, at the own size).

Which simple model is best is told by the cross-validations that tuned them, so rows held out judge nothing that they have chosen.
Rows of other institutions are taken to be like the own ones; where they are not, joining may gain more, or less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from privacy.figures import Figure
from privacy.forecasting.lone import SIMPLE_MODELS, rank_quality
from privacy.forecasting.simulation import simulate
from privacy.forecasting.terms import JointTerms
from protocols.errors import ConfideError, ErrorCode

SPLITS = 12
TEST_SHARE = 0.25
CONFIDENCE = 0.95
MIN_ROWS_OF_A_CLASS = 16  # so that every half of a split has some of either class to train on and to test with
_HALF = 0.5
_JOINT = "joint training without noise"
DRAWS = 3  # of noise, for each split

FloatRows = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Forecast:
    """What is expected, as areas under the ROC curve; secret: it is computed from own rows, and nothing of it leaves.

    Attributes:
        own_rows: how many there are.
        terms: what would be agreed.
        alone_by: the simple model that does best alone, by cross-validation.
        alone: what it reaches at the own size.
        joint_without_noise: what the training that is proposed would reach at the size of all, without its noise.
        cost: what the noise takes from it.
        gain: of joining under the terms, over staying alone.
    """

    own_rows: int
    terms: JointTerms
    alone_by: str
    alone: Figure
    joint_without_noise: Figure
    cost: Figure
    gain: Figure

    @property
    def verdict(self) -> str:
        """What to make of it: join, stay alone, or that own rows are too few to tell; with the sign that is likelier."""
        likelier = "gains" if self.gain.value > 0 else "loses"
        is_clear = self.gain.low > 0 or self.gain.high < 0
        return f"joining {likelier}" if is_clear else f"unclear; likelier that joining {likelier}"


def forecast(
    features: FloatRows, labels: Labels, terms: Sequence[JointTerms], *, random: Callable[[int], bytes]
) -> list[Forecast]:
    """Estimates what joining gains, for each of several terms that might be agreed.

    Args:
        features: (rows, features) float64 from -1 to 1 by public bounds, own, secret.
        labels: (rows,) 0 or 1, own, secret.
        terms: what might be agreed; public.
        random: gives so many random bytes, for splits and simulated noise.

    Raises:
        ConfideError: INVALID_DATA (the owner's): too few rows of a class, or labels that are not 0 and 1; INVALID_ARGUMENT: an
            agreed size is not more than the own rows.

    Learns: whoever reads the result, about own rows; nobody else.
    """
    _check(labels, terms)
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(random(16), "big")))
    # Tables of one institution are small: threads would wait for one another, and take twice the processor time for nothing.
    with threadpool_limits(limits=1):
        splits = [_Split.measure(features, labels, terms, generator) for _ in range(SPLITS)]
    trained = round(len(labels) * (1 - TEST_SHARE))
    curves = {name: _Curve.through(name, splits, trained) for name in (*SIMPLE_MODELS, _JOINT)}
    # Chosen over all splits: the best of each would be whoever was lucky.
    best = max(SIMPLE_MODELS, key=lambda name: float(np.mean([split.judged[name] for split in splits])))
    alone = curves[best].at(len(labels))
    found = []
    for number, agreed in enumerate(terms):
        joint = curves[_JOINT].at(agreed.rows)
        cost = curves[_JOINT].wholes - np.array([split.private[number] for split in splits])
        gain = _figure(joint - cost - alone)
        found.append(Forecast(len(labels), agreed, best, _area(alone), _area(joint), _figure(cost), gain))
    return found


@dataclass(frozen=True)
class _Split:
    """Qualities of one split of the own rows: of every model with half of the training rows and with all, and with noise.

    Attributes:
        halves: on the rows held out.
        wholes: likewise.
        private: likewise, of each of the terms.
        judged: of each simple model with all training rows, by the cross-validation on these that tuned it.
    """

    halves: dict[str, float]
    wholes: dict[str, float]
    private: list[float]
    judged: dict[str, float]

    @staticmethod
    def measure(features: FloatRows, labels: Labels, terms: Sequence[JointTerms], generator: np.random.Generator) -> _Split:
        seed = int(generator.integers(1 << 31))
        train, test, train_labels, test_labels = train_test_split(
            features, labels, test_size=TEST_SHARE, random_state=seed, stratify=labels
        )
        # Both halves in turn would double the cost; one is as good, since what is averaged is over splits.
        half, _, half_labels, _ = train_test_split(
            train, train_labels, train_size=_HALF, random_state=seed, stratify=train_labels
        )
        halves, wholes, judged = {}, {}, {}
        for name, trainer in SIMPLE_MODELS.items():
            whole = trainer(train, train_labels, seed)
            halves[name] = rank_quality(test_labels, trainer(half, half_labels, seed).scores(test))
            wholes[name], judged[name] = rank_quality(test_labels, whole.scores(test)), whole.judged
        halves[_JOINT] = rank_quality(test_labels, simulate(half, half_labels, terms[0], noise=None).scores(test))
        wholes[_JOINT] = rank_quality(test_labels, simulate(train, train_labels, terms[0], noise=None).scores(test))
        private = []
        for agreed in terms:
            models = [simulate(train, train_labels, agreed, noise=generator) for _ in range(DRAWS)]
            private.append(float(np.mean([rank_quality(test_labels, model.scores(test)) for model in models])))
        return _Split(halves, wholes, private, judged)


@dataclass(frozen=True, eq=False)
class _Curve:
    """How a simple model does with any number of rows: a - b / rows, with b from all splits and a from each."""

    wholes: NDArray[np.float64]
    slope: float
    trained: int

    @staticmethod
    def through(name: str, splits: Sequence[_Split], trained: int) -> _Curve:
        wholes = np.array([split.wholes[name] for split in splits])
        rise = float(wholes.mean() - np.mean([split.halves[name] for split in splits]))
        # Never negative: more rows do no harm.
        return _Curve(wholes, max(rise, 0.0) / (1 / (_HALF * trained) - 1 / trained), trained)

    def at(self, rows: int) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.wholes + self.slope * (1 / self.trained - 1 / rows)
        return found


def _figure(values: NDArray[np.float64]) -> Figure:
    """The mean over splits with its interval; splits share rows, which the correction of Nadeau and Bengio (2003) allows for."""
    mean = float(values.mean())
    share = 1 / len(values) + TEST_SHARE / (1 - TEST_SHARE)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * math.sqrt(share * float(values.var(ddof=1)))
    return Figure(mean, mean - reach, mean + reach)


def _area(values: NDArray[np.float64]) -> Figure:
    """As `_figure`, of areas, which are 0 to 1: an extrapolation and its interval may reach beyond."""
    found = _figure(values)
    value, low, high = (min(max(end, 0.0), 1.0) for end in (found.value, found.low, found.high))
    return Figure(value, low, high)


def _check(labels: Labels, terms: Sequence[JointTerms]) -> None:
    counts = np.bincount(labels, minlength=2) if len(labels) and labels.min() >= 0 else np.zeros(2)
    if len(counts) > 2 or counts.min() < MIN_ROWS_OF_A_CLASS:
        what = f"a forecast needs labels of two classes, and {MIN_ROWS_OF_A_CLASS} rows of either at least"
        raise ConfideError(ErrorCode.INVALID_DATA, what)
    for agreed in terms:
        if agreed.rows <= len(labels):
            what = f"{agreed.rows} rows of all institutions are not more than the own {len(labels)}"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Give the agreed number of rows of all of them.")
