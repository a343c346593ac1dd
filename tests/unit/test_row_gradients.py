"""Gradients of rows for themselves, against torch's autograd run row by row, and against the oracle of whole batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from protocols.errors import ConfideError
from protocols.job import Task
from protocols.model import reference
from protocols.model.export import export_model
from protocols.model.layers import BatchNorm, Dropout, Linear
from protocols.model.row_gradients import row_gradients
from protocols.model.spec import ModelSpec
from protocols.training import Loss

# Sums of at most some hundred products of numbers around 1 in float64, in another order.
TOLERANCE = 1e-12


class Residual(nn.Module):
    """A block whose result is added to what it took."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out, self.act = nn.Linear(6, 6), nn.Linear(6, 3), nn.GELU()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.out(rows + self.act(self.inner(rows)))


@dataclass(frozen=True)
class Case:
    module: nn.Module
    shape: tuple[int, ...]
    loss: Loss
    task: Task


def cases() -> dict[str, Case]:
    """A model for every operator that a private training may hold."""
    classes, binary, real = Task.CLASSES, Task.BINARY, Task.REAL
    entropy, logits, squares = Loss.CROSS_ENTROPY, Loss.BINARY_CROSS_ENTROPY, Loss.MEAN_SQUARED_ERROR
    convolution = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
        nn.Softmax(dim=1),
    )
    pools = nn.Sequential(
        nn.Conv2d(1, 3, (2, 3), bias=False), nn.ReLU(), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)
    )
    line = nn.Sequential(nn.Conv1d(2, 3, 3, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(18, 1), nn.Sigmoid())
    norms = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 1), nn.Sigmoid())
    places = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3, bias=False), nn.Flatten(), nn.Linear(6, 1))
    return {
        "logistic": Case(nn.Sequential(nn.Linear(6, 1), nn.Sigmoid()), (6,), logits, binary),
        "network": Case(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), (6,), entropy, classes),
        "residual": Case(Residual(), (6,), entropy, classes),
        "convolution": Case(convolution, (2, 8, 8), entropy, classes),
        "pools": Case(pools, (1, 6, 7), entropy, classes),
        "one dimension": Case(line, (2, 6), logits, binary),
        "layer norm": Case(norms, (6,), logits, binary),
        "places": Case(places, (2, 4), squares, real),
    }


def torch_loss(case: Case, module: nn.Module, row: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """The loss of one row in torch, before the last sigmoid or softmax."""
    ends = isinstance(module, nn.Sequential) and isinstance(module[-1], nn.Sigmoid | nn.Softmax)
    inner = module[:-1] if ends and isinstance(module, nn.Sequential) else module
    output = inner(row[None])
    match case.loss:
        case Loss.CROSS_ENTROPY:
            return functional.cross_entropy(output, label.long()[None])
        case Loss.BINARY_CROSS_ENTROPY:
            return functional.binary_cross_entropy_with_logits(output, label[None, None])
        case Loss.MEAN_SQUARED_ERROR:
            return functional.mse_loss(output, label[None, None])


def labels_of(case: Case, count: int) -> np.ndarray:
    generator = np.random.default_rng(8)
    if case.task is Task.REAL:
        return generator.uniform(-1, 1, count)
    return generator.integers(0, 3 if case.task is Task.CLASSES else 2, count).astype(np.float64)


@pytest.mark.parametrize("name", cases())
def test_gradients_of_rows_match_torch_row_by_row(name: str) -> None:
    torch.manual_seed(4)
    case = cases()[name]
    module = case.module
    spec, weights = export_model(module, case.shape)
    double = module.double()
    rows = np.random.default_rng(9).uniform(-1, 1, (7, spec.input_features))
    truth = labels_of(case, len(rows))
    found = row_gradients(spec, weights, rows, truth, loss=case.loss, task=case.task)
    for row, label, mine in zip(rows, truth, found, strict=True):
        double.zero_grad()
        torch_loss(case, double, torch.from_numpy(row).reshape(case.shape), torch.tensor(label, dtype=torch.float64)).backward()
        wanted = torch.cat([parameter.grad.flatten() for parameter in double.parameters() if parameter.grad is not None])
        assert np.abs(mine - wanted.numpy()).max() <= TOLERANCE
    whole = reference.gradients(spec, weights, rows, truth, loss=case.loss, task=case.task, coin=None)
    mean = np.concatenate([whole[parameter.name].reshape(-1) for parameter in spec.trained])
    assert np.abs(found.mean(axis=0) - mean).max() <= TOLERANCE


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e308, -1e200])
@pytest.mark.parametrize("name", cases())
def test_row_that_is_no_number_leaves_the_gradients_of_others_as_they_are(name: str, value: float) -> None:
    torch.manual_seed(4)
    case = cases()[name]
    spec, weights = export_model(case.module, case.shape)
    rows = np.random.default_rng(9).uniform(-1, 1, (5, spec.input_features))
    truth = labels_of(case, len(rows))
    before = row_gradients(spec, weights, rows, truth, loss=case.loss, task=case.task)
    rows[2] = value
    after = row_gradients(spec, weights, rows, truth, loss=case.loss, task=case.task)
    assert np.array_equal(np.delete(before, 2, axis=0), np.delete(after, 2, axis=0))


@pytest.mark.parametrize("refused", [BatchNorm(), Dropout("0.5")])
def test_layers_that_mix_rows_or_draw_are_refused(refused: BatchNorm | Dropout) -> None:
    spec = ModelSpec.chain(4, first=Linear(3), second=refused, last=Linear(1))
    with pytest.raises(ConfideError):
        row_gradients(spec, {}, np.zeros((2, 4)), np.zeros(2), loss=Loss.BINARY_CROSS_ENTROPY, task=Task.BINARY)
