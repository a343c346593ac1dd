"""What an owner's shadow models say of each of its rows: the numbers that it shares when a model held as shares is assessed.

The owner trains small networks on halves of its own rows, in the clear, where the rows are. Of each row it keeps what
`protocols.attack_numbers` describes. The networks and their answers never leave.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from privacy.risk.lira import half_memberships
from privacy.risk.shadows import Schedule, ShadowRows, train_shadows_on
from protocols.attack_numbers import FACTOR_LIMIT, LIRA, OFFSET_LIMIT
from protocols.job_parts import Assessment
from protocols.model.layers import Linear
from protocols.model.spec import ModelSpec

STEPS = 600  # of a shadow: enough that a network with more units than rows learns its rows by heart
WEIGHT_DECAY = 0.0
OTHER_HIDDEN = 64  # of the shadows of a model that is no chain of linear layers
_LEAST_DEVIATION = 0.05  # of margins: a row must not be told by the last digits of networks that are all alike
_ROOM = 1 - 2.0**-10  # a number at its limit would be refused
_BLOCK = 1 << 22  # logits at once


def schedule_for(model: ModelSpec) -> Schedule:
    """Returns how shadows of a model are trained: like it, one affine map, or one hidden layer as wide as its first."""
    linear = [layer.operator for layer in model.layers if isinstance(layer.operator, Linear)]
    if len(linear) == 1 and len(model.parameters) <= 2:
        return Schedule(hidden=0, steps=STEPS, weight_decay=WEIGHT_DECAY)
    chain = 2 * len(linear) >= len(model.parameters)
    hidden = linear[0].out_features if chain and len(linear) > 1 else OTHER_HIDDEN
    return Schedule(hidden=hidden, steps=STEPS, weight_decay=WEIGHT_DECAY)


def shadow_numbers(
    features: NDArray[np.float64], labels: NDArray[np.int64], *, model: ModelSpec, assessment: Assessment, seed: int
) -> NDArray[np.float64]:
    """Trains an owner's shadows and returns what they say of its rows.

    Args:
        features: (rows, features) float64 within [-1, 1], secret.
        labels: (rows,) int64, classes from 0, secret.
        model: of the job.
        assessment: of the job.
        seed: of all random choices, secret.

    Returns:
        (rows, numbers of the attack) float64, secret, within the limits of `protocols.attack_numbers`.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): so few rows that a shadow has none.
    """
    generator = np.random.default_rng(seed)
    inside = half_memberships(assessment.shadows, len(labels), generator)
    shadows = train_shadows_on(
        ShadowRows(features, labels),
        inside,
        classes=max(2, model.output_features),
        schedule=schedule_for(model),
        seed=int(generator.integers(2**62)),
    )
    block = max(1, _BLOCK // (assessment.shadows * max(2, model.output_features)))
    parts = []
    for start in range(0, len(labels), block):
        rows = slice(start, start + block)
        logits = shadows.logits(features[rows])
        parts.append(margins(logits, labels[rows]) if assessment.attack == LIRA else log_probabilities(logits, labels[rows]))
    shown = np.concatenate(parts, axis=1)
    if assessment.attack == LIRA:
        return linear_likelihood(shown, inside)
    # The mean of probabilities, from their logarithms.
    return np.clip(-_log_mean(shown), 0.0, OFFSET_LIMIT * _ROOM)[:, None]


def margins(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the logit of the right class less the largest other, (shadows, rows), of (shadows, rows, classes)."""
    right = np.arange(logits.shape[2])[None, None, :] == labels[None, :, None]
    own = np.where(right, logits, -np.inf).max(axis=2)
    found: NDArray[np.float64] = own - np.where(right, -np.inf, logits).max(axis=2)
    return found


def log_probabilities(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the logarithm of the right class's probability, (shadows, rows), of (shadows, rows, classes)."""
    largest = logits.max(axis=2, keepdims=True)
    total = np.log(np.exp(logits - largest).sum(axis=2)) + largest[:, :, 0]
    own: NDArray[np.float64] = np.take_along_axis(logits, labels[None, :, None], axis=2)[:, :, 0]
    found: NDArray[np.float64] = own - total
    return found


def linear_likelihood(shown: NDArray[np.float64], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns factor and offset of each row's score, the log ratio of two normal densities with one deviation for all rows.

    Args:
        shown: (shadows, rows) float64 margins, secret.
        inside: (shadows, rows), which rows each shadow was trained on; every row in and out of at least one.

    Returns:
        (rows, 2) float64, within the limits of `protocols.attack_numbers`.
    """
    count = inside.sum(axis=0)
    with_row = np.where(inside, shown, 0.0).sum(axis=0) / count
    without_row = np.where(inside, 0.0, shown).sum(axis=0) / (len(shown) - count)
    scatter = (shown - np.where(inside, with_row, without_row)) ** 2
    freedom = max(1, shown.size - 2 * shown.shape[1])
    variance = max(float(scatter.sum()) / freedom, _LEAST_DEVIATION**2)
    factor = np.clip((with_row - without_row) / variance, -FACTOR_LIMIT * _ROOM, FACTOR_LIMIT * _ROOM)
    offset = np.clip(-factor * (with_row + without_row) / 2, -OFFSET_LIMIT * _ROOM, OFFSET_LIMIT * _ROOM)
    return np.stack([factor, offset], axis=1)


def _log_mean(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = logs.max(axis=0)
    mean: NDArray[np.float64] = largest + np.log(np.exp(logs - largest).mean(axis=0))
    return mean
