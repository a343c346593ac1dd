"""Many small networks trained at once with per-row clipping and noise, as one tensor program: what an ablation attacks.

The noise is drawn by torch: this measures what protections do, it protects nobody.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class PrivateSchedule:
    """How every network is trained.

    Attributes:
        hidden: units of the hidden layer.
        steps: gradient steps.
        rate: with which each row is in a step, apart from all others.
        bound: of the norm of a row's gradient.
        noise_multiplier: deviation of the noise of a step in units of the bound; 0 for none.
        learning_rate: of every step.
    """

    hidden: int
    steps: int
    rate: float
    bound: float
    noise_multiplier: float
    learning_rate: float


def train_clipped(
    features: NDArray[np.float64],
    labels: NDArray[np.int64],
    members: NDArray[np.bool_],
    schedule: PrivateSchedule,
    seed: int,
    *,
    classes: int,
) -> list[torch.Tensor]:
    """Returns the parameters of one network for each choice of rows: (networks, inputs, outputs), (networks, 1, outputs), twice.

    Args:
        features: (rows, features).
        labels: (rows,) from 0.
        members: (networks, rows), which each is trained on.
        schedule: how.
        seed: of everything that is drawn.
        classes: how many labels there are.
    """
    drawn = torch.Generator().manual_seed(seed)
    rows = torch.as_tensor(features, dtype=torch.float32)
    targets = torch.nn.functional.one_hot(torch.as_tensor(labels), classes).float()
    own = torch.as_tensor(members)
    networks, count = own.shape
    expected = float(own.float().sum(1).mean()) * schedule.rate
    widest = min(count, int(expected + 8 * expected**0.5) + 8)  # a draw of more rows is as good as impossible
    first = torch.randn(networks, rows.shape[1], schedule.hidden, generator=drawn) * (2 / rows.shape[1]) ** 0.5
    second = torch.randn(networks, schedule.hidden, targets.shape[1], generator=drawn) * (1 / schedule.hidden) ** 0.5
    parameters = [first, torch.zeros(networks, 1, schedule.hidden), second, torch.zeros(networks, 1, targets.shape[1])]
    for _ in range(schedule.steps):
        tickets = torch.rand(networks, count, generator=drawn).masked_fill(~own, 2.0)
        kept, chosen = torch.topk(tickets, widest, largest=False)
        sums = _clipped_sums(parameters, rows[chosen], targets[chosen], (kept < schedule.rate).float(), schedule.bound)
        for parameter, total in zip(parameters, sums, strict=True):
            noise = torch.randn(parameter.shape, generator=drawn) * (schedule.noise_multiplier * schedule.bound)
            parameter.sub_((total + noise) / expected, alpha=schedule.learning_rate)
    return parameters


def logits_of(parameters: list[torch.Tensor], features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (networks, rows, classes)."""
    first, first_bias, second, second_bias = parameters
    with torch.no_grad():
        hidden = torch.relu(torch.as_tensor(features, dtype=torch.float32) @ first + first_bias)
        return np.asarray((hidden @ second + second_bias).numpy(), np.float64)


def _clipped_sums(
    parameters: list[torch.Tensor], rows: torch.Tensor, targets: torch.Tensor, taken: torch.Tensor, bound: float
) -> list[torch.Tensor]:
    """The sums of rows' gradients, each shortened to the bound; their norms follow from those of the layers' two sides."""
    first, first_bias, second, second_bias = parameters
    before = rows @ first + first_bias
    after = torch.relu(before)
    outer = torch.softmax(after @ second + second_bias, -1) - targets
    inner = (outer @ second.transpose(1, 2)) * (before > 0)
    squares = (rows.square().sum(-1) + 1) * inner.square().sum(-1) + (after.square().sum(-1) + 1) * outer.square().sum(-1)
    factor = (taken * torch.clamp(bound / torch.sqrt(squares + 1e-12), max=1.0)).unsqueeze(-1)
    inner, outer = inner * factor, outer * factor
    return [rows.transpose(1, 2) @ inner, inner.sum(1, keepdim=True), after.transpose(1, 2) @ outer, outer.sum(1, keepdim=True)]
