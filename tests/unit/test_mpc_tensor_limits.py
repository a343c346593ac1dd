"""Comparisons, the bit budget, and what shared tensors refuse."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import PARAMETER_BITS, VALUE_BITS
from protocols.mpc.channels import ZeroExchange
from protocols.mpc.convolutions import Geometry
from protocols.mpc.engine import Engine
from protocols.mpc.material.context import ShapeMaterial
from protocols.mpc.primitives import reciprocal
from protocols.mpc.tapes import RecordingTape
from protocols.mpc.tensor import SharedTensor, crypten, operations, use_engine
from protocols.mpc.tensor.shared_tensor import VALUE_LIMIT_BITS
from protocols.mpc.values import SharedValue
from protocols.plan.operations import Deal, Open
from tests.support.tensor_world import UNIT, run_tensors

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tensors.md"
X = np.array([[-1.5, 0.0, 2.0**-16], [3.0, -(2.0**-16), 1.0]])
Y = np.array([[-1.5, 0.5, 0.0], [2.0, 0.0, 1.0]])

COMPARISONS: dict[str, tuple[Callable[[Any, Any], Any], np.ndarray]] = {
    "ge": (lambda x, y: x >= y, X >= Y),
    "gt": (lambda x, y: x > y, X > Y),
    "le": (lambda x, y: x <= y, X <= Y),
    "lt": (lambda x, y: x < y, X < Y),
    "eq": (lambda x, y: x == y, X == Y),
    "ne": (lambda x, y: x != y, X != Y),
    "ge number": (lambda x, y: x >= 0, X >= 0),
    "lt public": (lambda x, y: x < torch.tensor(Y), X < Y),
    "gt of a scaled value": (lambda x, y: (x * -3) > (y * -3), X < Y),
    "sign": (lambda x, y: x.sign(), np.where(X >= 0, 1, -1)),
    "argmax": (lambda x, y: x.argmax(1), np.eye(3)[[2, 0]]),
    "argmax position": (lambda x, y: x.argmax(1, one_hot=False), np.array([2, 0])),
    "argmax of all": (lambda x, y: x.argmax(), np.eye(6)[3].reshape(2, 3)),
    "argmin": (lambda x, y: x.argmin(0), np.array([[1, 0, 1], [0, 1, 0]])),
    "argmin position": (lambda x, y: x.argmin(1, one_hot=False, keepdim=True), np.array([[0], [1]])),
    "max one hot": (lambda x, y: x.max(1)[1], np.eye(3)[[2, 0]]),
}


@pytest.mark.parametrize("parties", [2, 3])
def test_comparisons_are_exact(parties: int) -> None:
    run = run_tensors(
        lambda t: {name: compare(t["x"], t["y"]) for name, (compare, _) in COMPARISONS.items()},
        {"x": X, "y": Y},
        parties=parties,
        grad=("x",),
    )
    for name, (_, expected) in COMPARISONS.items():
        assert run.values[name].tolist() == expected.astype(float).tolist(), name


def test_comparison_has_no_gradient() -> None:
    def program(tensors: Any) -> Any:
        bits = tensors["x"] > 0
        assert not bits.requires_grad
        (tensors["x"] * bits).sum().backward()
        return {"gradient": tensors["x"].grad}

    run = run_tensors(program, {"x": X}, grad=("x",))
    assert run.values["gradient"].tolist() == (X > 0).astype(float).tolist()


def test_values_near_the_declared_limit_do_not_wrap() -> None:
    # Inputs are declared below 2^20 only, and results are within it: no product's proven bound is below 2^62.
    x, y = np.array([[1000.0, -1000.0], [0.5, 1023.0]]), np.array([[1000.0, 1000.0], [-(2.0**19), -1000.0]])
    run = run_tensors(
        lambda t: {
            "product": t["x"] * t["y"],
            "three factors": t["x"] * t["y"] * 0.001 * t["x"],
            "scaled": t["x"].mul(t["y"]).div(3),
            "matrix": (t["x"] / 2) @ t["x"].t(),
            "sum of squares": (t["x"].square() / 1024).square().sum(),
            "quotient": t["y"] / t["x"],
        },
        {"x": x, "y": y},
        magnitude_bits=VALUE_BITS + VALUE_LIMIT_BITS,
        result_bits=VALUE_BITS,
    )
    expected = {
        # Every cut to 16 fractional bits is a unit times what it is multiplied with; rounded factors are 2^-16 of the result.
        "product": (x * y, UNIT),
        "three factors": (x * y * 0.001 * x, 2.0**20 * UNIT + 1024 * 2 * UNIT),
        "scaled": (x * y / 3, 2.0**19 * UNIT),
        "matrix": ((x / 2) @ x.T, UNIT),
        "sum of squares": (((x**2 / 1024) ** 2).sum(), 4 * 2 * 1024 * UNIT),
        "quotient": (y / x, 2.0**20 * reciprocal.MAX_RELATIVE_ERROR + 2.0**19 * 2.0**-24 + 2 * UNIT),
    }
    for name, (values, bound) in expected.items():
        assert np.abs(run.values[name] - values).max() <= bound, name


def test_parameters_keep_their_precision_through_products_of_themselves() -> None:
    weights = np.array([[1.0 + 2.0**-24, -0.5], [3.0 * 2.0**-24, 900.0]])

    def program(tensors: Any) -> Any:
        parameter = SharedTensor.from_public(weights, PARAMETER_BITS)
        parameter.requires_grad = True
        penalty = parameter.square().sum()
        penalty.backward()
        return {"weights": parameter.detach(), "gradient": parameter.grad, "penalty": penalty.detach()}

    run = run_tensors(program, {"x": X}, result_bits=PARAMETER_BITS)
    # The operands of the square, and the one of the gradient, are cut to 16 fractional bits; the parameter is not.
    assert run.values["weights"].tolist() == weights.tolist()
    assert np.abs(run.values["gradient"] - 2 * weights).max() <= 2 * UNIT
    assert abs(run.values["penalty"] - (weights**2).sum()) <= 2 * np.abs(weights).sum() * UNIT


def test_sum_in_a_loop_stays_exact_enough() -> None:
    def program(tensors: Any) -> Any:
        total = tensors["x"]
        for step in range(20):
            total = total + tensors["x"] * tensors["y"] / (3 + step)
        assert len(total.combination.terms) <= 9
        return {"total": total}

    run = run_tensors(program, {"x": X, "y": Y})
    expected = X + X * Y * sum(1 / (3 + step) for step in range(20))
    # Each of 20 terms has its factor rounded, 2^-16 of at most 2, and is settled once or twice, at 24 fractional bits.
    assert np.abs(run.values["total"] - expected).max() <= 20 * (2 * UNIT + 4 * 2.0**-24)


def test_copy_and_in_place_operations_replace_the_value() -> None:
    def program(tensors: Any) -> Any:
        x, y = tensors["x"].clone(), tensors["y"]
        x += y
        x.mul_(2).sub_(1)
        z = y.clone()
        z.set(torch.ones(2, 3))
        return {"x": x, "z": z, "y": y}

    run = run_tensors(program, {"x": X, "y": Y})
    assert run.values["x"].tolist() == (2 * (X + Y) - 1).tolist()
    assert run.values["z"].tolist() == np.ones((2, 3)).tolist()
    assert run.values["y"].tolist() == Y.tolist()


def test_gradients_add_up_over_uses_and_two_backward_passes() -> None:
    def program(tensors: Any) -> Any:
        x = tensors["x"]
        (x * x + x).sum().backward()
        (x * 3).sum().backward()
        return {"gradient": x.grad}

    run = run_tensors(program, {"x": X}, grad=("x",))
    assert np.abs(run.values["gradient"] - (2 * X + 4)).max() <= 2.0**-28


def test_gradient_that_nobody_asked_for_costs_nothing() -> None:
    def program(grad: bool) -> Callable[[Any], Any]:
        def run(tensors: Any) -> Any:
            result = tensors["x"] @ tensors["y"].t()
            if grad:
                result.sum().backward()
            return {"result": result.detach()}

        return run

    plain = run_tensors(program(False), {"x": X, "y": Y})
    with_gradient = run_tensors(program(True), {"x": X, "y": Y}, grad=("y",))
    # The gradient of y is x summed over rows: a product with public ones. That of x is not computed. (Who asks for the sum of a
    # product asks for shares of it, which the truncation of the result alone does without.)
    opened = [[step for step in run.operations if isinstance(step, Open)] for run in (plain, with_gradient)]
    dealt = [[step.kind for step in run.operations if isinstance(step, Deal)] for run in (plain, with_gradient)]
    assert opened[0] == opened[1]
    assert [kind for kind in dealt[1] if kind != "shares_of_kept"] == dealt[0]


REFUSED: dict[str, Callable[[Any], Any]] = {
    "conv2d": lambda x: crypten.nn.Conv2d(1, 1, 2).encrypt()(x),
    "max_pool2d": lambda x: crypten.nn.MaxPool2d(2).encrypt()(x),
    "avg_pool2d": lambda x: crypten.nn.AvgPool2d(2).encrypt()(x),
    "batchnorm": lambda x: crypten.nn.BatchNorm1d(3).encrypt()(x),
    "gather": lambda x: x.gather(0, torch.zeros(1)),
    "scatter": lambda x: x.scatter(0, torch.zeros(1), x),
    "get_plain_text": lambda x: x.get_plain_text(),
    "reveal": lambda x: x.reveal(),
    "__setitem__": lambda x: x.__setitem__(0, 1.0),
    "erf": lambda x: x.erf(),
    "sin": lambda x: x.sin(),
    "rand": lambda x: SharedTensor.rand(2),
    "_feature_dropout": lambda x: crypten.nn.Dropout2d(0.5).encrypt()(x),
    "rappor_loss": lambda x: x.rappor_loss(x, 0.1),
    "pow with an exponent": lambda x: x**0.5,
    "div by zero": lambda x: x / 0,
    "a product with a public number that is not finite": lambda x: x * float("inf"),
    "a product with public numbers beyond": lambda x: x * torch.tensor([1.0, 2.0, float("nan")]),
    "norm with p = 1": lambda x: x.norm(p=1),
    "var with unbiased": lambda x: x.var(unbiased=True),
    "indexing with a secret position": lambda x: x[x],
    "matmul of shapes": lambda x: x @ x,
    "torch.exp": lambda x: torch.exp(x),
    "a tensor from str": lambda x: x + "1",
    "dropout in place": lambda x: x.dropout(0.5, inplace=True),
    "hardtanh with an empty range": lambda x: x.hardtanh(1, -1),
    "t of more than two": lambda x: x.unsqueeze(0).t(),
    "var of too few": lambda x: x[0, 0].var(),
}


@pytest.mark.parametrize("requires_grad", [False, True])
def test_unsupported_operation_is_refused_by_its_name(requires_grad: bool) -> None:
    def program(tensors: Any) -> Any:
        for name, operation in REFUSED.items():
            with pytest.raises(ConfideError, match=f"operation {name}") as caught:
                operation(tensors["x"])
            assert caught.value.code is ErrorCode.INVALID_MODEL, name
        return {"x": tensors["x"]}

    run_tensors(program, {"x": X}, grad=("x",) if requires_grad else ())


def test_every_public_operation_of_cryptens_tensor_is_available_or_refused() -> None:
    kept = {"backward", "detach", "detach_", "new", "shape", "set", "no_grad", "enable_grad", "set_grad_enabled"}
    names = {name for name in dir(crypten.mpc.MPCTensor) if not name.startswith("_") and not name.isupper()}
    available = {*operations.METHODS, *operations.STATIC, *dir(SharedTensor)}
    assert names - available - kept - {f"{name}_" for name in available} == set()


PLANE = Geometry((4, 4), (4, 4), (1, 1), (0, 0), 1)
WINDOWS = Geometry((4, 4), (2, 2), (2, 2), (0, 0), 1)
# One operation for each row of the page's first table that has rounds.
ROUNDS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "mul": lambda x, y: x * y,
    "matmul": lambda x, y: x @ y,
    "affine": lambda x, y: x.affine(y, y[0]),
    "div": lambda x, y: x / y,
    "pow": lambda x, y: x**2,
    "sum": lambda x, y: x.mean(),
    "var": lambda x, y: x.var(),
    "norm": lambda x, y: x.norm(),
    "view": lambda x, y: crypten.cat([x.view(2, 8), y.view(2, 8)]).flip(0),
    "ge": lambda x, y: x == y,
    "where": lambda x, y: x.where(y, y),
    "max": lambda x, y: x.max(1)[0],
    "relu": lambda x, y: x.hardtanh(),
    "sigmoid": lambda x, y: x.tanh(),
    "exp": lambda x, y: x.exp(),
    "log": lambda x, y: x.log(),
    "reciprocal": lambda x, y: x.inv_sqrt(),
    "gelu": lambda x, y: x.gelu(),
    "leaky_relu": lambda x, y: x.leaky_relu(Fraction(1, 10)),
    "convolve": lambda x, y: x.view(1, 1, 4, 4).convolve(y.view(1, 1, 4, 4), PLANE),
    "max_pool": lambda x, y: x.view(1, 1, 4, 4).max_pool(WINDOWS),
    "map_planes": lambda x, y: x.map_planes(np.ones((2, 4), np.int64), np.eye(4, dtype=np.int64)),
    "normalise": lambda x, y: x.normalise(None, (1,), Fraction(1, 1000), []),
    "softmax": lambda x, y: x.softmax(1),
    "log_softmax": lambda x, y: x.log_softmax(1),
    "dropout": lambda x, y: x.keep(np.ones((4, 4), np.int64), Fraction(2)),
    "binary_cross_entropy_with_logits": lambda x, y: x.binary_cross_entropy_with_logits(y),
    "binary_cross_entropy": lambda x, y: x.binary_cross_entropy(y),
    "cross_entropy": lambda x, y: x.cross_entropy(y),
}


def test_page_states_the_rounds_of_every_operation() -> None:
    table = PAGE.read_text(encoding="utf-8").split("| operations | rounds | error |")[1].split("\n\n")[0]
    rows = [line.split(" | ") for line in table.splitlines()[2:]]
    stated = {row[0].split("`")[1]: int(row[1]) for row in rows}
    measured = {name: _rounds(operation) for name, operation in ROUNDS.items()}
    assert measured == stated


def _rounds(operation: Callable[[Any, Any], Any]) -> int:
    tape = RecordingTape()
    engine = Engine(index=0, parties=2, exchange=ZeroExchange(), material=ShapeMaterial(), tape=tape)
    with use_engine(engine), engine.segment(None):
        zeros = [SharedValue(np.zeros((4, 4), np.int64), scale_bits=VALUE_BITS, magnitude_bits=20) for _ in range(2)]
        operation(*(SharedTensor.of(value) for value in zeros))
    return sum(isinstance(operation, Open) for operation in tape.operations)


def test_page_lists_the_operations_that_there_are() -> None:
    text = PAGE.read_text(encoding="utf-8")
    available, refused = text.split("## What is refused")
    for name in (*operations.METHODS, *operations.STATIC):
        assert f"`{name}`" in available, f"docs/tensors.md does not name {name}"
    for name in operations.refused_names():
        assert f"`{name}`" in refused, f"docs/tensors.md does not say that {name} is refused"


@pytest.mark.parametrize("factor", [1.0, 3.0, 1000.0, -1000.0, 0.01])
def test_rectifier_of_a_multiple_is_off_by_one_unit_whatever_the_factor(factor: float) -> None:
    x, y = X[0] + 2.0**-16, Y[0] + 3 * 2.0**-16
    run = run_tensors(
        lambda t: {"relu": (t["x"] * t["y"] * factor).relu(), "abs": (t["x"] * t["y"] * factor).abs()}, {"x": x, "y": y}
    )
    product = x * y * factor
    for name, expected in (("relu", np.maximum(product, 0)), ("abs", np.abs(product))):
        # One unit, and settling a factor to 16 bits: 2^-16 of the result. The absolute value adds one more unit.
        assert (np.abs(run.values[name] - expected) <= UNIT * (1 + np.abs(expected)) * (2 if name == "abs" else 1)).all()


def test_rectifier_takes_values_of_any_scale() -> None:
    # Tiny public numbers have up to 40 fractional bits each: more at once than a rectifier can cut off.
    tiny = np.array([1e-5, -1e-5, 3e-5])
    run = run_tensors(lambda t: {"relu": ((t["x"] * tiny) * tiny * -(2.0**20)).relu()}, {"x": np.array([[-8.0, 4.0, 8.0]])})
    expected = np.maximum(np.array([[-8.0, 4.0, 8.0]]) * tiny * tiny * -(2.0**20), 0)
    assert np.abs(run.values["relu"] - expected).max() < 2 * UNIT
