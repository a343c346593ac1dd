"""Every operation of shared tensors, forward and gradient, against torch autograd in float64.

Inputs are multiples of 2^-8, so encoding them is exact. The scalar that is differentiated is the sum of the result times public
weights that are multiples of 1/8, at most 1 in absolute value. Bounds, with u = 2^-16 the unit of a value at 16 fractional bits:

    EXACT      moves, sums and one product have at most 32 fractional bits; opening at 30 cuts off at most 2^-29 a term
    factor     a public factor that is no short binary fraction is rounded to 16 significant bits: 2^-16 of the result
    cut(m)     an operand brought to 16 bits is off by one unit, which a factor of at most m makes m u
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from protocols.mpc.primitives import exponential, logarithm, reciprocal, roots, sigmoid, softmax, tanh
from protocols.mpc.tensor import crypten, public_mask
from tests.support.tensor_world import UNIT, run_tensors

EXACT = 2.0**-27
MASK = public_mask("ab" * 16, 3, "layer", (3, 4), rate=Fraction(1, 4))
PUBLIC = torch.tensor([[0.5, -1.25, 3.0, 0.125], [1.0, 2.0, -0.75, 0.25], [-2.5, 1.5, 0.5, 1.0]], dtype=torch.float64)


def grid(seed: int, *shape: int, low: float = -3, high: float = 3) -> np.ndarray:
    """Multiples of 2^-8 in a range; no two of a tensor's values are equal, so that maxima are unique."""
    steps = np.arange(int(low * 256), int(high * 256) + 1)
    return np.random.default_rng(seed).choice(steps, shape, replace=False) / 256


@dataclass(frozen=True)
class Case:
    """An operation on one to three tensors.

    Attributes:
        ours: what is run on shared tensors, and on torch's unless `torchs` says otherwise.
        inputs: of the operation.
        forward: bound on the error of the result.
        gradient: bound on the error of every gradient.
        torchs: the same in torch.
    """

    ours: Callable[..., Any]
    inputs: tuple[np.ndarray, ...]
    forward: float
    gradient: float
    torchs: Callable[..., Any] | None = None


X, Y = grid(1, 3, 4), grid(2, 3, 4)
POSITIVE = grid(3, 3, 4, low=0.25, high=8)
CUBE = grid(4, 2, 3, 4)

ARITHMETIC = {
    "add": Case(lambda x, y: x + y, (X, Y), EXACT, EXACT),
    "add broadcast": Case(lambda x, y: x + y, (X, grid(5, 4)), EXACT, EXACT),
    "add number": Case(lambda x: 1.5 + x + 2, (X,), EXACT, EXACT),
    "add public": Case(lambda x: x + PUBLIC, (X,), EXACT, EXACT),
    "sub": Case(lambda x, y: x - y, (X, Y), EXACT, EXACT),
    "sub from number": Case(lambda x: 1.5 - x, (X,), EXACT, EXACT),
    "neg": Case(lambda x: -x, (X,), EXACT, EXACT),
    "mul": Case(lambda x, y: x * y, (X, Y), EXACT, EXACT),
    "mul row": Case(lambda x, y: x * y, (X, grid(6, 4)), EXACT, EXACT),
    "mul column": Case(lambda x, y: x * y, (X, grid(6, 3, 1)), EXACT, EXACT),
    "mul scalar": Case(lambda x, y: x * y.sum(), (X, grid(6, 2)), EXACT, EXACT),
    "mul number": Case(lambda x: 0.3 * x * 2, (X,), 2 * UNIT, UNIT),
    "mul public": Case(lambda x: x * PUBLIC, (X,), EXACT, EXACT),
    "mul public row": Case(lambda x: x * PUBLIC[0], (X,), EXACT, EXACT),
    # Coefficients keep 16 significant bits of the largest, 3 / 4096.
    "mul small public": Case(lambda x: x * (PUBLIC / 4096), (X,), 2.0**-24, 2.0**-24),
    "public operand to the left": Case(lambda x: (PUBLIC * x + (PUBLIC - x)) + PUBLIC @ x.t() @ x, (X,), EXACT, EXACT),
    "mul itself": Case(lambda x: x * x, (X,), EXACT, EXACT),
    "div number": Case(lambda x: x / 7, (X,), UNIT, UNIT),
    "div public": Case(lambda x: x / PUBLIC, (X,), 3 * UNIT, UNIT),
    # |x / y| is at most 12 and its derivatives 48; relative error 2^-20 of each reciprocal, one unit of a cut operand times 12.
    "div": Case(lambda x, y: x / y, (X, POSITIVE), 12 * reciprocal.MAX_RELATIVE_ERROR + 4 * UNIT, 100 * UNIT),
    "number div": Case(lambda y: 3 / y, (POSITIVE,), 12 * reciprocal.MAX_RELATIVE_ERROR + UNIT, 100 * UNIT),
    "matmul": Case(lambda x, y: x @ y.t(), (X, Y), EXACT, EXACT),
    "matmul vector": Case(lambda x, y: x.matmul(y), (X, grid(7, 4)), EXACT, EXACT),
    "vector matmul": Case(lambda x, y: x.matmul(y), (grid(7, 3), Y), EXACT, EXACT),
    "vector matmul vector": Case(lambda x, y: x.matmul(y), (grid(7, 4), grid(8, 4)), EXACT, EXACT),
    "batched matmul": Case(lambda x, y: x.matmul(y), (CUBE, grid(8, 2, 4, 2)), EXACT, EXACT),
    "matmul broadcast": Case(lambda x, y: x.matmul(y), (CUBE, grid(8, 4, 2)), EXACT, EXACT),
    "affine": Case(lambda x, y, z: x.affine(y, z), (X, grid(9, 5, 4), grid(10, 5)), EXACT, EXACT, torch.nn.functional.linear),
    "affine without bias": Case(lambda x, y: x.affine(y), (X, grid(9, 5, 4)), EXACT, EXACT, torch.nn.functional.linear),
    "matmul public": Case(lambda x: x.matmul(PUBLIC.t()), (X,), EXACT, EXACT),
    "square": Case(lambda x: x.square(), (X,), EXACT, EXACT),
    "pow 0": Case(lambda x: x**0 + x, (X,), EXACT, EXACT),
    "pow 2": Case(lambda x: x**2, (X,), EXACT, EXACT),
    # x^3 = x^2 x has the operand x^2 cut to 16 bits: 3 u; the gradient has 2 x x and x^2, cut alike.
    "pow 3": Case(lambda x: x**3, (X,), 6 * UNIT, 12 * UNIT),
    "pow -2": Case(lambda x: x**-2, (grid(3, 3, 4, low=1, high=8),), 8 * UNIT, 16 * UNIT),
}
SHAPES = {
    "view": Case(lambda x: x.view(2, 6), (X,), EXACT, EXACT),
    "view minus one": Case(lambda x: x.view(-1), (X,), EXACT, EXACT),
    "reshape": Case(lambda x: x.reshape((4, 3)), (X,), EXACT, EXACT),
    "flatten": Case(lambda x: x.flatten(), (CUBE,), EXACT, EXACT),
    "flatten from 1": Case(lambda x: x.flatten(start_dim=1), (CUBE,), EXACT, EXACT),
    "squeeze": Case(lambda x: x.squeeze(), (grid(1, 3, 1, 4),), EXACT, EXACT),
    "squeeze dim": Case(lambda x: x.squeeze(-2), (grid(1, 3, 1, 4),), EXACT, EXACT),
    "unsqueeze": Case(lambda x: x.unsqueeze(-1), (X,), EXACT, EXACT),
    "t": Case(lambda x: x.t(), (X,), EXACT, EXACT),
    "transpose": Case(lambda x: x.transpose(0, 2), (CUBE,), EXACT, EXACT),
    "permute": Case(lambda x: x.permute((2, 0, -2)), (CUBE,), EXACT, EXACT),
    "expand": Case(lambda x: x.expand(2, 3, -1), (grid(1, 3, 1),), EXACT, EXACT, lambda x: x.expand(2, 3, 1)),
    "expand repeats": Case(lambda x: x.expand((3, 4)), (grid(1, 3, 1),), EXACT, EXACT),
    "repeat": Case(lambda x: x.repeat(2, 1, 3), (X,), EXACT, EXACT),
    "item": Case(lambda x: x[1], (X,), EXACT, EXACT),
    "slice": Case(lambda x: x[:, 1:3], (X,), EXACT, EXACT),
    "ellipsis": Case(lambda x: x[..., 0], (CUBE,), EXACT, EXACT),
    "none": Case(lambda x: x[None, 2], (X,), EXACT, EXACT),
    "positions": Case(lambda x: x[[2, 0, 2]], (X,), EXACT, EXACT),
    "index_select": Case(lambda x: x.index_select(1, torch.tensor([3, 0, 3])), (X,), EXACT, EXACT),
    "narrow": Case(lambda x: x.narrow(1, 1, 2), (X,), EXACT, EXACT),
    "split": Case(lambda x: x.split(3, 1)[1] * x.split([1, 3], 1)[0], (X,), EXACT, EXACT),
    "unbind": Case(lambda x: x.unbind(1)[2] * x.unbind(1)[0], (X,), EXACT, EXACT),
    "roll": Case(lambda x: x.roll(1, 0), (X,), EXACT, EXACT),
    "roll two": Case(lambda x: x.roll((1, -1), (0, 1)), (X,), EXACT, EXACT),
    "flip": Case(lambda x: x.flip((0, 1)), (X,), EXACT, EXACT),
    "cumsum": Case(lambda x: x.cumsum(1), (X,), EXACT, EXACT),
    "trace": Case(lambda x: x.trace(), (grid(1, 3, 3),), EXACT, EXACT),
    "diagonal": Case(lambda x: x.diagonal(), (grid(1, 3, 3),), EXACT, EXACT),
    "cat": Case(
        lambda x, y: crypten.cat([x, y * x, x], dim=1), (X, Y), EXACT, EXACT, lambda x, y: torch.cat([x, y * x, x], dim=1)
    ),
    "torch.cat": Case(lambda x, y: torch.cat([x, y], dim=1), (X, Y), EXACT, EXACT),
    "stack": Case(lambda x, y: crypten.stack([x, y], dim=1), (X, Y), EXACT, EXACT, lambda x, y: torch.stack([x, y], dim=1)),
    "clone": Case(lambda x: x.clone(), (X,), EXACT, EXACT),
}
REDUCTIONS = {
    "sum": Case(lambda x: x.sum(), (X,), EXACT, EXACT),
    "sum dim": Case(lambda x: x.sum(0), (X,), EXACT, EXACT),
    "sum dim keepdim": Case(lambda x: x.sum(dim=-1, keepdim=True), (X,), EXACT, EXACT),
    "sum dims": Case(lambda x: x.sum((0, 2)), (CUBE,), EXACT, EXACT),
    "mean": Case(lambda x: x.mean(), (X,), UNIT, UNIT),
    "mean dim": Case(lambda x: x.mean(0), (X,), UNIT, UNIT),
    "mean dim keepdim": Case(lambda x: x.mean(1, keepdim=True), (X,), EXACT, EXACT),
    # x - mean has the factor 1 / n rounded (3 u) and is cut (u); squares are at most 36, so 2 * 6 * 4 u, and the sum's factor.
    "var": Case(lambda x: x.var(), (X,), 60 * UNIT, 20 * UNIT),
    "var dim": Case(lambda x: x.var(1, keepdim=True), (X,), 60 * UNIT, 20 * UNIT),
    "var biased": Case(lambda x: x.var(dim=0, correction=0), (X,), 60 * UNIT, 20 * UNIT),
    # The sum of squares is exact; the root's error is 2^-22 of at most 11, the gradient x / norm has one cut operand.
    "norm": Case(lambda x: x.norm(), (X,), 4 * UNIT, 8 * UNIT),
    "norm dim": Case(lambda x: x.norm(2, 1), (X,), 4 * UNIT, 8 * UNIT),
    "dot": Case(lambda x, y: x.dot(y), (grid(1, 5), grid(2, 5)), EXACT, EXACT),
    "ger": Case(lambda x, y: x.ger(y), (grid(1, 3), grid(2, 4)), EXACT, EXACT),
}
SMALL = grid(9, 3, 4, low=-2, high=2)
FUNCTIONS = {
    # e^x is at most 7.4; the gradient is the result.
    "exp": Case(lambda x: x.exp(), (SMALL,), exponential.MAX_ABSOLUTE_ERROR, exponential.MAX_ABSOLUTE_ERROR + UNIT),
    # 1 / x is at most 4.
    "log": Case(lambda x: x.log(), (POSITIVE,), logarithm.SERIES_ERROR + UNIT, 4 * reciprocal.MAX_RELATIVE_ERROR + 2 * UNIT),
    # 1 / x^2 is at most 16, its two factors at most 4 each cut to 16 bits.
    "reciprocal": Case(lambda x: x.reciprocal(), (POSITIVE,), 4 * reciprocal.MAX_RELATIVE_ERROR + UNIT, 12 * UNIT),
    "reciprocal of negative": Case(lambda x: x.reciprocal(), (-POSITIVE,), 4 * reciprocal.MAX_RELATIVE_ERROR + UNIT, 12 * UNIT),
    "sqrt": Case(lambda x: x.sqrt(), (POSITIVE,), 3 * roots.MAX_RELATIVE_ERROR + UNIT, 2 * UNIT),
    "inv_sqrt": Case(lambda x: x.inv_sqrt(), (POSITIVE,), UNIT, 12 * UNIT, lambda x: x.rsqrt()),
    # s (1 - s) moves by at most as much as s.
    "sigmoid": Case(lambda x: x.sigmoid(), (2 * X,), sigmoid.MAX_ERROR, sigmoid.MAX_ERROR + 2 * UNIT),
    # 1 - t^2 moves by at most twice as much as t.
    "tanh": Case(lambda x: x.tanh(), (X,), tanh.MAX_ERROR, 2 * tanh.MAX_ERROR + 2 * UNIT),
    "relu": Case(lambda x: x.relu(), (X,), EXACT, EXACT),
    "abs": Case(lambda x: abs(x), (X,), EXACT, EXACT),
    "hardtanh": Case(lambda x: x.hardtanh(-1, 2), (X,), EXACT, EXACT, lambda x: torch.nn.functional.hardtanh(x, -1, 2)),
    "relu6": Case(lambda x: x.relu6(), (4 * X,), EXACT, EXACT, torch.nn.functional.relu6),
    # Four classes: the Jacobian has rows of absolute sum at most 1/2 and moves by at most 3 times the error of a probability.
    "softmax": Case(lambda x: x.softmax(1), (X,), softmax.MAX_ERROR, 6 * softmax.MAX_ERROR + 4 * UNIT),
    "softmax first dim": Case(lambda x: x.softmax(0), (X,), softmax.MAX_ERROR, 6 * softmax.MAX_ERROR + 4 * UNIT),
    "softmax of a cube": Case(lambda x: x.softmax(1), (CUBE,), softmax.MAX_ERROR, 6 * softmax.MAX_ERROR + 4 * UNIT),
    "log_softmax": Case(lambda x: x.log_softmax(1), (X,), softmax.MAX_LOG_ERROR, 4 * (softmax.MAX_LOG_ERROR + 2 * UNIT)),
    "max": Case(lambda x: x.max(), (X,), EXACT, EXACT),
    "max dim": Case(lambda x: x.max(1)[0], (X,), EXACT, EXACT),
    "max dim keepdim": Case(lambda x: x.max(0, keepdim=True)[0], (X,), EXACT, EXACT),
    "max of a cube": Case(lambda x: x.max(1)[0], (CUBE,), EXACT, EXACT),
    "min": Case(lambda x: x.min(), (X,), EXACT, EXACT),
    "min dim": Case(lambda x: x.min(1)[0], (X,), EXACT, EXACT),
    "keep": Case(
        lambda x: x.keep(MASK, Fraction(4, 3)), (X,), 4 * UNIT, 2 * UNIT, lambda x: x * torch.tensor(MASK) * (4.0 / 3.0)
    ),
    "where": Case(lambda x, y: x.where(x > y, y), (X, Y), EXACT, EXACT, lambda x, y: x.where(x > y, y)),
    "where public": Case(
        lambda x, y: crypten.where(PUBLIC > 0, x, y), (X, Y), EXACT, EXACT, lambda x, y: torch.where(PUBLIC > 0, x, y)
    ),
    "where secret": Case(
        lambda x, y: crypten.where(x < 0.5, x * y, y), (X, Y), EXACT, EXACT, lambda x, y: torch.where(x < 0.5, x * y, y)
    ),
}
CASES = {**ARITHMETIC, **SHAPES, **REDUCTIONS, **FUNCTIONS}
NAMES = ("x", "y", "z")


def check(case: Case, parties: int) -> None:
    """Compares the result and all gradients with torch's."""
    names = NAMES[: len(case.inputs)]
    theirs = [torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in case.inputs]
    expected = (case.torchs or case.ours)(*theirs)
    weights = torch.tensor(np.random.default_rng(11).integers(-8, 9, expected.shape) / 8, dtype=torch.float64)
    (expected * weights).sum().backward()

    def program(tensors: Any) -> Any:
        result = case.ours(*(tensors[name] for name in names))
        (result * weights).sum().backward()
        return {"result": result.detach(), **{name: tensors[name].grad for name in names}}

    run = run_tensors(program, dict(zip(names, case.inputs, strict=True)), parties=parties, grad=names)
    assert run.values["result"].shape == tuple(expected.shape)
    assert np.abs(run.values["result"] - expected.detach().numpy()).max() <= case.forward
    for name, tensor in zip(names, theirs, strict=True):
        assert tensor.grad is not None
        assert run.values[name].shape == tuple(tensor.shape)
        assert np.abs(run.values[name] - tensor.grad.numpy()).max() <= case.gradient, name


@pytest.mark.parametrize("name", CASES)
def test_operation_and_its_gradient_among_two_parties_equal_torch(name: str) -> None:
    check(CASES[name], 2)


@pytest.mark.parametrize("parties", [3, 5])
@pytest.mark.parametrize("name", ["mul row", "div", "batched matmul", "cat", "var", "relu", "softmax", "max of a cube", "log"])
def test_operation_and_its_gradient_among_more_parties_equal_torch(name: str, parties: int) -> None:
    check(CASES[name], parties)
