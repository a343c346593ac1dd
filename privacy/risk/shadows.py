"""Shadow models: many small networks trained at once as one tensor program, each on rows of its own.

A membership attack compares a model with others that were trained with and without a row. Training them one by one would take
longer than the model itself; as one batched program, 64 networks with 64 hidden units take seconds on one core.

Every network is an affine map, a rectifier and an affine map to one logit a class, or one affine map alone, trained by stochastic
gradient descent with momentum on batches that are drawn with replacement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode


@dataclass(frozen=True, eq=False, repr=False)
class ShadowRows:
    """The rows that one shadow is trained on; secret.

    Attributes:
        features: (rows, features) float64, finite.
        labels: (rows,) int64, classes from 0.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Schedule:
    """How every shadow is trained; public.

    Attributes:
        hidden: units of the hidden layer; 0 for one affine map alone.
        steps: gradient steps.
        batch_rows: rows a step, drawn with replacement.
        learning_rate: of every step.
        momentum: share of the last step's velocity that is kept.
        weight_decay: factor of the weights in the gradient.
    """

    hidden: int = 64
    steps: int = 400
    batch_rows: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0


class Shadows:
    """Trained shadow networks; secret, as their rows are."""

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        self._parameters = tuple(parameters)

    def __len__(self) -> int:
        """How many networks there are."""
        return int(self._parameters[0].shape[0])

    def logits(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the answers of all networks to the same rows.

        Args:
            features: (rows, features) float64.

        Returns:
            (shadows, rows, classes) float64.
        """
        rows = torch.from_numpy(np.array(features, np.float32))
        with torch.no_grad():
            for weights, bias in zip(self._parameters[:-2:2], self._parameters[1:-2:2], strict=True):
                rows = torch.relu(rows @ weights + bias)
            answers = rows @ self._parameters[-2] + self._parameters[-1]
        return answers.numpy().astype(np.float64)


def train_shadows(rows: Sequence[ShadowRows], *, classes: int, schedule: Schedule, seed: int) -> Shadows:
    """Trains one network on each set of rows; equal arguments give equal networks on one machine.

    Args:
        rows: of each network, secret; as many features everywhere, at least one row each.
        classes: how many there are.
        schedule: how they are trained.
        seed: of the first weights and the batches.

    Returns:
        The networks, in the order of their rows.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): no rows, or cells that are not finite.
    """
    if not rows or any(len(own.labels) == 0 for own in rows):
        raise ConfideError(ErrorCode.INVALID_DATA, "a shadow model has no rows to be trained on")
    if not all(np.isfinite(own.features).all() for own in rows):
        raise ConfideError(ErrorCode.INVALID_DATA, "rows of a shadow model have cells that are missing or not finite")
    together = ShadowRows(np.concatenate([own.features for own in rows]), np.concatenate([own.labels for own in rows]))
    counts = np.array([len(own.labels) for own in rows])
    return _train(together, np.arange(counts.sum()), counts, classes=classes, schedule=schedule, seed=seed)


def train_shadows_on(rows: ShadowRows, members: NDArray[np.bool_], *, classes: int, schedule: Schedule, seed: int) -> Shadows:
    """Trains one network on each choice of the same rows, which are held once; else as `train_shadows`.

    Args:
        rows: all of them, secret.
        members: (shadows, rows), which rows each network is trained on.
        classes: how many there are.
        schedule: how they are trained.
        seed: of the first weights and the batches.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): a network without rows, or cells that are not finite.
    """
    counts = members.sum(axis=1)
    if not len(counts) or not counts.all():
        raise ConfideError(ErrorCode.INVALID_DATA, "a shadow model has no rows to be trained on")
    if not np.isfinite(rows.features).all():
        raise ConfideError(ErrorCode.INVALID_DATA, "rows of a shadow model have cells that are missing or not finite")
    return _train(rows, np.nonzero(members)[1], counts, classes=classes, schedule=schedule, seed=seed)


def _train(
    rows: ShadowRows, places: NDArray[np.int64], sizes: NDArray[np.int64], *, classes: int, schedule: Schedule, seed: int
) -> Shadows:
    """Trains on rows at `places`: the first network on the first `sizes[0]` of them, and so on."""
    drawn = torch.Generator().manual_seed(seed)
    features = torch.from_numpy(np.array(rows.features, np.float32))
    targets = torch.nn.functional.one_hot(torch.from_numpy(np.array(rows.labels, np.int64)), classes).float()
    own, counts = torch.as_tensor(places), torch.as_tensor(sizes)
    starts = torch.cumsum(counts, 0) - counts
    parameters = _first_weights(len(counts), features.shape[1], schedule.hidden, classes, drawn)
    velocities = [torch.zeros_like(parameter) for parameter in parameters]
    for _ in range(schedule.steps):
        drawn_at = (torch.rand(len(counts), schedule.batch_rows, generator=drawn) * counts[:, None]).long()
        # A uniform float32 just below 1 times a large count can round up to the count.
        chosen = own[starts[:, None] + torch.minimum(drawn_at, counts[:, None] - 1)]
        gradients = _gradients(parameters, features[chosen], targets[chosen])
        for parameter, velocity, gradient in zip(parameters, velocities, gradients, strict=True):
            velocity.mul_(schedule.momentum).add_(gradient).add_(parameter, alpha=schedule.weight_decay)
            parameter.sub_(velocity, alpha=schedule.learning_rate)
    return Shadows(parameters)


def _first_weights(shadows: int, features: int, hidden: int, classes: int, drawn: torch.Generator) -> list[torch.Tensor]:
    if hidden == 0:
        return [torch.zeros(shadows, features, classes), torch.zeros(shadows, 1, classes)]
    first = torch.randn(shadows, features, hidden, generator=drawn) * math.sqrt(2 / features)
    second = torch.randn(shadows, hidden, classes, generator=drawn) * math.sqrt(1 / hidden)
    return [first, torch.zeros(shadows, 1, hidden), second, torch.zeros(shadows, 1, classes)]


def _gradients(parameters: Sequence[torch.Tensor], rows: torch.Tensor, targets: torch.Tensor) -> list[torch.Tensor]:
    """The gradients of the mean cross-entropy, written out: the engine of gradients would double the time of so small steps."""
    if len(parameters) == 2:
        weights, bias = parameters
        outer = (torch.softmax(rows @ weights + bias, -1) - targets) / rows.shape[1]
        return [rows.transpose(1, 2) @ outer, outer.sum(1, keepdim=True)]
    first, first_bias, second, second_bias = parameters
    before = rows @ first + first_bias
    after = torch.relu(before)
    outer = (torch.softmax(after @ second + second_bias, -1) - targets) / rows.shape[1]
    inner = (outer @ second.transpose(1, 2)) * (before > 0)
    return [rows.transpose(1, 2) @ inner, inner.sum(1, keepdim=True), after.transpose(1, 2) @ outer, outer.sum(1, keepdim=True)]
