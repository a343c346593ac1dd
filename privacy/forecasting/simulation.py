"""A joint private training of a logistic regression, simulated on rows that one institution has.

The training is the protocol's own arithmetic in the clear (`privacy.twin.shared_gradients`). The noise is that of the agreed
size: own rows stand for all, each as often as makes up for the rows of the others, so that signal and noise are to each other as
in the joint training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

import numpy as np
from numpy.typing import NDArray

from privacy.forecasting.terms import STEPS, JointTerms
from privacy.twin.shared_gradients import train_twin
from protocols.fixed_point import VALUE_BITS
from protocols.job import Task
from protocols.mpc.primitives.sigmoid import MAX_ERROR
from protocols.mpc.row_bounds import shorten_rows
from protocols.private_training import Mechanism, PrivateTraining, Unit
from protocols.ring import RingArray
from protocols.training import CheckpointRule, Loss, Optimiser, OptimiserKind, Schedule, Training

# One setting for all tables: no step depends on rows but by what the budget pays for.
_RATE = 2.4  # over the square of the bound of a row, which is what the curvature of the loss is at most
_MOMENTUM, _DECAY = "0.9", "0.0001"
_SPREAD = 3.0  # a feature is shared in units of three deviations, so that few values are cut
_LEAST_DEVIATION = 0.14  # of a feature from -1 to 1; a smaller one would be noise
_PLACES = Decimal("0.000000001")
_GRID = 2.0 ** (2 * VALUE_BITS)


@dataclass(frozen=True, eq=False)
class LinearModel:
    """Means, deviations and weights, all of them private; scores are logits."""

    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    weights: NDArray[np.float64]

    def scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns (rows,) logits of (rows, features) from -1 to 1."""
        rows = bounded_rows(features, self.centre, self.spread) / 2.0**VALUE_BITS
        found: NDArray[np.float64] = rows @ self.weights[:-1] + self.weights[-1]
        return found


def simulate(
    features: NDArray[np.float64], labels: NDArray[np.int64], terms: JointTerms, *, noise: np.random.Generator | None
) -> LinearModel:
    """Trains on rows with the noise of the agreed terms.

    Args:
        features: (rows, features) float64 from -1 to 1 by public bounds, secret: all rows, or those of one institution.
        labels: (rows,) 0 or 1, secret.
        terms: whose `rows` sums are divided by.
        noise: of a simulation; a real training draws from the owners' generators. None for a training without noise, which
            tells what the noise costs.
    """

    def drawn(deviation: float, *shape: int) -> NDArray[np.float64]:
        return np.zeros(shape) if noise is None else deviation * noise.normal(size=shape)

    count, width = features.shape
    copies = terms.rows / count
    deviation = terms.statistics_multiplier * statistics_bound(width) / copies
    sums = features.sum(axis=0) + drawn(deviation, width)
    squares = np.square(features).sum(axis=0) + drawn(deviation, width)
    centre = np.clip(sums / count, -1, 1)
    spread = np.sqrt(np.clip(squares / count - centre**2, _LEAST_DEVIATION**2, 1))
    training = training_of(terms, width, rows=count)
    deviation = terms.step_multiplier * gradient_bound(width) / copies
    trained = train_twin(
        bounded_rows(features, centre, spread),
        np.asarray(labels << VALUE_BITS),
        training=training,
        task=Task.BINARY,
        noise=np.rint(drawn(deviation * _GRID, STEPS, width + 1)).astype(np.int64),
        start={"weight": np.zeros((1, width)), "bias": np.zeros(1)},
    )
    return LinearModel(centre, spread, np.concatenate([trained["weight"][0], trained["bias"]]))


def training_of(terms: JointTerms, width: int, *, rows: int) -> Training:
    """Returns the hyper-parameters of the training, as a request would have them, for so many nominal rows; public."""
    rate = Decimal(f"{_RATE / (norm_bound(width) ** 2 + 1):.6f}")
    privacy = PrivateTraining(
        mechanism=Mechanism.SHARED_GRADIENTS,
        noise_multiplier=f"{terms.step_multiplier / terms.noise_factor:.6f}",
        colluders=terms.colluders,
        nominal_rows=rows,
        nominal_people=rows,
        epsilon=f"{terms.epsilon:.9f}",
        delta=str(Decimal(terms.delta).quantize(_PLACES, ROUND_FLOOR)),
        unit=Unit.ROW if terms.rows_per_person == 1 else Unit.PERSON,
        rows_per_person=terms.rows_per_person,
        norm_bound=f"{norm_bound(width):.6f}",
        canaries=0,
    )
    return Training(
        epochs=STEPS,
        batch_size=rows,
        loss=Loss.BINARY_CROSS_ENTROPY,
        optimiser=Optimiser(OptimiserKind.SGD, str(rate), weight_decay=_DECAY, momentum=_MOMENTUM),
        schedule=Schedule(),
        checkpoints=CheckpointRule(0, 0),
        shuffle_seed="00" * 16,
        privacy=privacy,
    )


def bounded_rows(features: NDArray[np.float64], centre: NDArray[np.float64], spread: NDArray[np.float64]) -> RingArray:
    """Returns (rows, features) at 16 bits as they would be shared: standardised, and shortened to the norm bound."""
    scaled = np.clip((features - centre) / (_SPREAD * spread), -1, 1)
    return shorten_rows(scaled, squared=int((norm_bound(scaled.shape[1]) * 2**VALUE_BITS) ** 2), limit=1.0)


def norm_bound(width: int) -> float:
    """Returns the bound of a row of so many features: the root of the mean square of a standardised one."""
    return math.sqrt(width) / _SPREAD


def statistics_bound(width: int) -> float:
    """Returns the largest norm of what one row adds to the sums: x and x^2 - 1 of each feature, at most 1 together."""
    return math.sqrt(width)


def gradient_bound(width: int) -> float:
    """Returns the largest norm of the gradient of one row, with its bias and the sigmoid's error."""
    return (1 + MAX_ERROR) * math.sqrt(norm_bound(width) ** 2 + 1)
