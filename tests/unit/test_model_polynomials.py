"""Squares and polynomials: exported, computed, derived and bounded; refused where shares are computed with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from protocols.errors import ConfideError
from protocols.job_checks import check_model
from protocols.job_parts import Task
from protocols.model import reference
from protocols.model.export import export_model
from protocols.model.intervals import intervals, polynomial_interval
from protocols.model.layers import Linear, Misfit, Operator, Polynomial, Square, read_operator
from protocols.model.spec import ModelSpec
from protocols.training import Loss

QUARTIC = Polynomial(("0.5", "-1", "0", "0.25", "-0.125"))


class Spellings(nn.Module):
    """Every way of writing a square that is read."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(5))
        self.last = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layers[0](x)
        x = self.layers[1](x * x)
        x = self.layers[2](x**2)
        x = self.layers[3](torch.square(x))
        x = self.layers[4](torch.pow(x, 2))
        return self.last(x.square())


class Cube(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x**3)


class Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x) * x)


def test_square_is_read_however_it_is_written_and_computes_as_torch_does() -> None:
    torch.manual_seed(1)
    module = Spellings()
    spec, weights = export_model(module, 4)
    assert [layer.operator.kind for layer in spec.layers] == ["linear", "square"] * 5 + ["linear"]
    assert ModelSpec.from_document(spec.to_document()) == spec
    rows = torch.randn(6, 4, dtype=torch.float64)
    found = reference.outputs(spec, weights, rows.numpy())
    assert np.allclose(found, module.double()(rows).detach().numpy(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("module", [Cube(), Product()])
def test_other_powers_and_products_of_two_results_are_refused(module: nn.Module) -> None:
    with pytest.raises(ConfideError, match="problem"):
        export_model(module, 4)


@pytest.mark.parametrize("operator", [Square(), QUARTIC])
def test_derivatives_are_those_of_torch(operator: Operator) -> None:
    spec = ModelSpec.chain(3, first=Linear(4), act=operator, out=Linear(1))
    rng = np.random.default_rng(2)
    weights = {parameter.name: rng.normal(size=parameter.shape).astype(np.float32) for parameter in spec.parameters}
    rows, truth = rng.normal(size=(5, 3)), np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    found = reference.gradients(spec, weights, rows, truth, loss=Loss.BINARY_CROSS_ENTROPY, task=Task.BINARY, coin=None)
    own = {name: torch.from_numpy(values).double().requires_grad_() for name, values in weights.items()}
    hidden = torch.from_numpy(rows) @ own["first.weight"].T + own["first.bias"]
    coefficients = (0.0, 0.0, 1.0) if isinstance(operator, Square) else tuple(map(float, QUARTIC.coefficients))
    hidden = sum((c * hidden**power for power, c in enumerate(coefficients)), torch.zeros_like(hidden))
    logits = hidden @ own["out.weight"].T + own["out.bias"]
    nn.functional.binary_cross_entropy_with_logits(logits[:, 0], torch.from_numpy(truth)).backward()
    for name, values in own.items():
        assert np.allclose(found[name], values.grad.numpy(), rtol=1e-9, atol=1e-12), name


def test_interval_of_a_polynomial_is_exact() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        coefficients = rng.normal(size=rng.integers(3, 9))
        low, high = np.sort(rng.uniform(-2, 2, 2))
        least, most = polynomial_interval(tuple(coefficients), np.array([low]), np.array([high]))
        values = np.polynomial.polynomial.polyval(np.linspace(low, high, 20_001), coefficients)
        assert least[0] <= values.min() + 1e-9
        assert most[0] >= values.max() - 1e-9
        assert max(values.min() - least[0], most[0] - values.max()) < 1e-4  # the grid's distance from an inner extreme
    spec = ModelSpec.chain(1, act=Square())
    assert [float(end[0, 0]) for end in intervals(spec, {}, batch_rows=None)["act"]] == [0.0, 1.0]


@pytest.mark.parametrize(
    "coefficients",
    [
        ["1", "2"],
        ["1"] * 9,
        ["0", "0", "0"],
        ["0", "1", "-0.0"],
        ["0", "1", "1e3"],
        ["0", "1", "+1"],
        ["0", "1", 1],
        "123",
        ["0", "1", "nan"],
    ],
)
def test_polynomial_of_other_settings_is_refused(coefficients: object) -> None:
    with pytest.raises(Misfit):
        read_operator("polynomial", {"coefficients": coefficients}).output_shape([(2,)])


@pytest.mark.parametrize("operator", [Square(), QUARTIC])
def test_models_with_polynomials_are_refused_for_shares_by_the_layers_name(operator: Operator) -> None:
    spec = ModelSpec.chain(3, first=Linear(4), act=operator, out=Linear(1))
    (problem,) = check_model(spec, Task.BINARY)
    assert problem.where == "model.act"
    assert "not computed on shares" in problem.what
