"""Every operator of a model on shares, forward, gradients and running statistics, against torch in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from protocols.errors import ConfideError, ErrorCode
from protocols.model.layers import (
    AdaptiveAveragePool,
    AveragePool,
    BatchNorm,
    Convolution,
    Embedding,
    Flatten,
    Gelu,
    LayerNorm,
    LeakyRelu,
    Linear,
    MaxPool,
    Operator,
    Relu,
)
from protocols.model.spec import ModelSpec
from protocols.mpc import convolutions
from protocols.mpc.convolutions import Bilinear, Geometry, bilinear
from protocols.mpc.primitives import gelu
from protocols.mpc.tensor import SharedTensor, build_module, crypten
from protocols.plan.operations import Open
from tests.support.tensor_world import UNIT, TensorRun, run_tensors

BATCH = 3
nn = torch.nn


def grid(seed: int, *shape: int, low: float = -2, high: float = 2) -> np.ndarray:
    """Multiples of 2^-8 in a range, so that values and products of two are exact."""
    return np.random.default_rng(seed).integers(int(low * 256), int(high * 256) + 1, shape) / 256


@dataclass(frozen=True)
class Case:
    """A layer, the torch module it equals, its input, and bounds in units of 2^-16: of the result and of the input's gradient.

    `weights` bounds the gradients of parameters, `statistics` the running ones.
    """

    operator: Operator
    module: Any
    rows: np.ndarray
    result: float = 0
    gradient: float = 0
    weights: float = 0
    statistics: float = 0


def an_image(*shape: int) -> np.ndarray:
    return grid(1, BATCH, *shape)


# Convolutions, sums and selections are exact: inputs, weights and gradients have 8 fractional bits each. A mean is a sum times a
# fraction that is rounded to 16 bits when it is settled: 2 units of 2^-24 and 2^-17 of values below 2; of gradients below 2 that
# up to four windows add up.
MEAN = 1.1
# Batch norms: deviations are cut to 16 bits and their mean to a unit, so they are off by 2 units; factors of groups are below 2
# here, and relatively within 2^-14. So a result is off by 5 units. In x's gradient, deviations (2 units, below 4) meet the mean
# of g d, below 2: at most 2 * 2 * 2 * (1 + 2) = 24 units; the weight's is a sum of 60 products of deviations with g below 2.
NORM = {"result": 5.0, "gradient": 24.0, "weights": 60 * 2 * 2.0, "statistics": 2.0}
ONE_HOT = np.eye(4)[np.random.default_rng(1).integers(0, 4, (BATCH, 5))]
CONVOLUTIONS: dict[str, tuple[Operator, Any, tuple[int, ...]]] = {
    "stride, padding and groups": (
        Convolution(6, (3, 2), (2, 1), (1, 0), 2),
        nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), groups=2),
        (4, 6, 5),
    ),
    "one by one, stride two": (Convolution(2, (1, 1), (2, 2), (0, 0), bias=False), nn.Conv2d(3, 2, 1, 2, bias=False), (3, 5, 4)),
    "as large as the input": (Convolution(2, (4, 3), (1, 1), (0, 0)), nn.Conv2d(3, 2, (4, 3)), (3, 4, 3)),
    "every channel alone": (Convolution(4, (3, 3), (1, 1), (1, 1), 4), nn.Conv2d(4, 4, 3, padding=1, groups=4), (4, 4, 4)),
    "skips the last columns": (Convolution(2, (2, 2), (3, 3), (0, 0)), nn.Conv2d(1, 2, 2, 3), (1, 7, 6)),
    "a line": (Convolution(3, (3,), (2,), (1,)), nn.Conv1d(2, 3, 3, 2, 1), (2, 7)),
}
CASES = {
    **{f"convolution, {name}": Case(one, other, an_image(*shape)) for name, (one, other, shape) in CONVOLUTIONS.items()},
    "linear": Case(Linear(4), nn.Linear(5, 4), an_image(5)),
    "linear over the last dimension": Case(Linear(4, bias=False), nn.Linear(5, 4, bias=False), an_image(3, 5)),
    "max-pool": Case(MaxPool((2, 2), (2, 2), (0, 0)), nn.MaxPool2d(2), an_image(2, 6, 5)),
    "max-pool, overlapping with borders": Case(MaxPool((3, 3), (2, 2), (1, 1)), nn.MaxPool2d(3, 2, 1), an_image(2, 6, 5) - 3),
    "max-pool, a line": Case(MaxPool((3,), (1,), (1,)), nn.MaxPool1d(3, 1, 1), an_image(2, 6)),
    "max-pool, single values": Case(MaxPool((1, 1), (2, 2), (0, 0)), nn.MaxPool2d(1, 2), an_image(2, 3, 3)),
    "average": Case(AveragePool((3, 2), (2, 2), (1, 0)), nn.AvgPool2d((3, 2), 2, (1, 0)), an_image(2, 6, 5), MEAN, 4 * MEAN),
    "average, a line": Case(AveragePool((2,), (2,), (0,)), nn.AvgPool1d(2), an_image(2, 6), MEAN, MEAN),
    "adaptive average": Case(AdaptiveAveragePool((3, 2)), nn.AdaptiveAvgPool2d((3, 2)), an_image(2, 7, 5), MEAN, 4 * MEAN),
    "adaptive average, a line": Case(AdaptiveAveragePool((3,)), nn.AdaptiveAvgPool1d(3), an_image(2, 8), MEAN, 4 * MEAN),
    "batch norm": Case(BatchNorm(), nn.BatchNorm2d(3), an_image(3, 4, 5), **NORM),
    "batch norm, momentum and epsilon": Case(BatchNorm("0.01", "0.5"), nn.BatchNorm1d(4, 0.01, 0.5), an_image(4, 5), **NORM),
    "batch norm without weights": Case(BatchNorm(affine=False), nn.BatchNorm1d(3, affine=False), an_image(3), **NORM),
    "layer norm": Case(LayerNorm(2), nn.LayerNorm((4, 5)), an_image(3, 4, 5), **NORM),
    "layer norm without bias": Case(LayerNorm(bias=False), nn.LayerNorm(6, bias=False), an_image(6), **NORM),
    "embedding": Case(Embedding(3), nn.Linear(4, 3, bias=False), ONE_HOT),
    # x times the distribution's error, and the slope's times g below 2; products are rounded once.
    "gelu": Case(Gelu(), nn.GELU(), grid(1, BATCH, 40, low=-10, high=10), 10 * gelu.MAX_DISTRIBUTION_ERROR / UNIT + 1, 3.2),
    # The slope is rounded to 20 bits.
    "leaky relu": Case(LeakyRelu("0.1"), nn.LeakyReLU(0.1), an_image(6), 2 * 2.0**-21 / UNIT + 1, 2 * 2.0**-21 / UNIT + 1),
    "relu": Case(Relu(), nn.ReLU(), an_image(6)),
}  # fmt: skip


def some_parameters(case: Case) -> dict[str, np.ndarray]:
    """Values of the layer's tensors by the names within it, which the torch module gets too."""
    model, module = one_layer(case), case.module.double()
    values = {}
    for index, spec in enumerate(model.parameters):
        suffix = spec.name.removeprefix("layer.")
        values[suffix] = grid(index + 7, *spec.shape, low=0.25 if suffix == "running_var" else -1, high=1)
        # torch's embedding takes indices; a linear layer without bias holds the table transposed.
        value = values[suffix].T if isinstance(case.operator, Embedding) else values[suffix]
        held = module.get_parameter(suffix) if spec.is_trained else module.get_buffer(suffix)
        with torch.no_grad():
            held.copy_(torch.tensor(value))
    return values


def one_layer(case: Case) -> ModelSpec:
    return ModelSpec.chain(case.rows.shape[1:], layer=case.operator, end=Flatten())


def run_layer(case: Case, values: Mapping[str, np.ndarray], slopes: np.ndarray, *, trains: bool, parties: int = 2) -> TensorRun:
    model = one_layer(case)
    trained = [spec.name.removeprefix("layer.") for spec in model.trained]

    def program(tensors: Mapping[str, SharedTensor]) -> Mapping[str, SharedTensor]:
        module = build_module(model, {f"layer.{name}": tensors[name] for name in values}, trains=trains)
        rows = tensors["rows"].reshape(len(case.rows), -1)
        if not trains:
            with crypten.no_grad():
                return {"result": module.outputs(rows)}
        result = module.outputs(rows)
        result.backward(tensors["slopes"])
        moved = {name.removeprefix("layer."): SharedTensor(combination=to) for name, to in module.moved_statistics().items()}
        return {"result": result.detach(), **{name: tensors[name].grad for name in ("rows", *trained)}, **moved}

    inputs = {"rows": case.rows, "slopes": slopes, **values}
    return run_tensors(program, inputs, parties=parties, grad=("rows", *trained) if trains else (), result_bits=24)


def check_training(case: Case, *, parties: int = 2) -> None:
    values = some_parameters(case)
    case.module.train()
    rows = torch.tensor(case.rows, requires_grad=True)
    expected = case.module(rows)
    slopes = grid(5, *expected.shape)
    case.module.zero_grad()
    expected.backward(torch.tensor(slopes))
    run = run_layer(case, values, slopes.reshape(BATCH, -1), trains=True, parties=parties)
    assert rows.grad is not None
    assert off(run.values["result"], expected.detach().numpy().reshape(BATCH, -1)) <= case.result
    assert off(run.values["rows"], rows.grad.numpy()) <= case.gradient
    for name, parameter in case.module.named_parameters():
        plain = parameter.grad.numpy()
        assert off(run.values[name], plain.T if isinstance(case.operator, Embedding) else plain) <= case.weights
    for name, buffer in case.module.named_buffers():
        if name in values:
            assert off(run.values[name], buffer.numpy()) <= case.statistics
            assert np.abs(buffer.numpy() - values[name]).max() > 0.01


def off(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, in units of 2^-16."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / UNIT)


@pytest.mark.parametrize("name", ["convolution, stride, padding and groups", "convolution, a line"])
def test_convolution_in_pieces_of_the_batch_equals_torch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolutions, "_MAX_GATHERED", 1)
    monkeypatch.setattr(convolutions, "_MAX_BATCH", 2)
    check_training(CASES[name])


def test_convolution_gradients_of_many_channels_equal_their_definition() -> None:
    """So many channels that matrices are widened with zeros, in tiles that do not divide the plane."""
    geometry = Geometry((5, 9), (2, 3), (2, 1), (1, 0), 2)
    generator = np.random.default_rng(5)
    rows, weight, gradient = (
        generator.integers(-(2**63), 2**63, shape) for shape in ((700, 2, 5, 9), (80, 1, 2, 3), (700, 80, *geometry.places))
    )
    padded = np.zeros((700, 2, 7, 9), np.int64)
    padded[:, :, 1:6] = rows
    result, of_weight, of_rows = np.zeros_like(gradient), np.zeros_like(weight), np.zeros_like(padded)
    for out in range(80):
        for row, column in np.ndindex(2, 3):
            seen = (slice(None), out // 40, slice(row, row + 6, 2), slice(column, column + 7))
            result[:, out] += padded[seen] * weight[out, 0, row, column]
            of_weight[out, 0, row, column] = (padded[seen] * gradient[:, out]).sum()
            of_rows[seen] += gradient[:, out] * weight[out, 0, row, column]
    expected = {
        Bilinear.CONVOLVE: (rows, weight, result),
        Bilinear.WEIGHT_GRADIENT: (rows, gradient, of_weight),
        Bilinear.INPUT_GRADIENT: (gradient, weight, of_rows[:, :, 1:6]),
    }
    for operation, (left, right, product) in expected.items():
        assert np.array_equal(bilinear(operation, [(left, right)], geometry), product)
        assert np.array_equal(bilinear(operation, [(left, right)] * 3, geometry), 3 * product)


@pytest.mark.parametrize("name", CASES)
def test_layer_in_training_equals_torch(name: str) -> None:
    check_training(CASES[name])


@pytest.mark.parametrize(
    "name", ["convolution, stride, padding and groups", "max-pool", "batch norm", "layer norm", "gelu", "leaky relu"]
)
def test_layer_among_three_parties_equals_torch(name: str) -> None:
    check_training(CASES[name], parties=3)


@pytest.mark.parametrize("name", CASES)
def test_layer_at_inference_equals_torch(name: str) -> None:
    case = CASES[name]
    values = some_parameters(case)
    case.module.eval()
    expected = case.module(torch.tensor(case.rows)).detach().numpy().reshape(BATCH, -1)
    run = run_layer(case, values, np.zeros_like(expected), trains=False)
    assert off(run.values["result"], expected) <= case.result


def test_max_pool_gives_the_gradient_of_a_tie_to_the_first() -> None:
    rows = np.array([[3, 3, 1, 3], [2, 5, 5, 0], [-1, -1, -1, -1]], np.float64).reshape(3, 1, 2, 2)
    case = Case(MaxPool((2, 2), (2, 2), (0, 0)), nn.MaxPool2d(2), rows)
    run = run_layer(case, {}, np.ones((3, 1)), trains=True)
    assert run.values["rows"].reshape(3, 4).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]]


def test_max_pool_takes_four_rounds_for_every_doubling_and_one_back() -> None:
    case = CASES["max-pool"]
    run = run_layer(case, {}, grid(5, BATCH, 12), trains=True)
    opened = [operation for operation in run.operations if isinstance(operation, Open)]
    names = [operation.name for operation in opened]
    assert [names.count(name) for name in ("rectifier", "comparison tree", "comparison result", "gate")] == [2, 4, 2, 2]
    # Two pairs of every window meet first, then the winners.
    windows = BATCH * 2 * 3 * 2
    assert [op.num_bytes for op in opened if op.name in ("rectifier", "gate")] == [8 * windows * n for n in (2, 1, 1, 2)]


@pytest.mark.parametrize("spread", [0.0, 2.0**-10])
def test_batch_norm_of_almost_equal_values_stays_finite(spread: float) -> None:
    # Deviations are within 2 units, and 1 / sqrt(0.00001) is 316.3: where the variance is far below epsilon the result is within
    # 2 * 317 units of d / sqrt(epsilon), never garbage.
    rows = 1 + spread * grid(3, 8, 2, low=-1, high=1)
    case = Case(BatchNorm(affine=False), nn.BatchNorm1d(2, affine=False), rows)
    values = some_parameters(case)
    case.module.train()
    inputs = torch.tensor(rows, requires_grad=True)
    expected = case.module(inputs)
    slopes = grid(5, 8, 2)
    expected.backward(torch.tensor(slopes))
    run = run_layer(case, values, slopes, trains=True)
    assert inputs.grad is not None
    assert off(run.values["result"], expected.detach().numpy()) <= 2 * 317
    assert np.abs(run.values["rows"] - inputs.grad.numpy()).max() <= 0.05 * np.abs(inputs.grad.numpy()).max()


def test_batch_norm_over_a_single_value_is_refused() -> None:
    case = Case(BatchNorm(affine=False), nn.BatchNorm1d(2, affine=False), np.ones((1, 2)))
    with pytest.raises(ConfideError) as caught:
        run_layer(case, some_parameters(case), np.ones((1, 2)), trains=True)
    assert caught.value.code is ErrorCode.INVALID_MODEL


def test_gelu_at_the_borders_of_its_series_is_within_its_error() -> None:
    # The series ends at 8 on either side; beyond, the result is 0 or the value, up to the declared limit of values.
    borders = [sign * (8 + step * UNIT) for sign in (-1, 1) for step in (-1, 0, 1)]
    rows = np.array([[*borders, 0, UNIT, -UNIT, 2.0**19, -(2.0**19)]])
    case = Case(Gelu(), nn.GELU(), rows)

    def program(tensors: Mapping[str, SharedTensor]) -> Mapping[str, SharedTensor]:
        result: Any = tensors["rows"].gelu()
        result.backward(tensors["slopes"])
        return {"result": result.detach(), "slope": tensors["rows"].grad}

    inputs = {"rows": rows, "slopes": np.ones_like(rows)}
    run = run_tensors(program, inputs, grad=("rows",), magnitude_bits=36, result_bits=24)
    values = torch.tensor(rows, requires_grad=True)
    expected = case.module(values)
    expected.sum().backward()
    assert values.grad is not None
    far = np.abs(rows) > 8
    assert off(run.values["result"][far], expected.detach().numpy()[far]) <= 2.0**-8
    assert off(run.values["result"][~far], expected.detach().numpy()[~far]) <= 8 * gelu.MAX_DISTRIBUTION_ERROR / UNIT + 2.0**-8
    assert off(run.values["slope"], values.grad.numpy()) <= gelu.MAX_SLOPE_ERROR / UNIT
