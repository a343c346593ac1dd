"""One case or more for every operation of shared tensors, at the borders of its domain, with an oracle in float64.

Inputs are declared below 2^20, as between the layers of a model, and are multiples of 2^-16, so that encoding them is exact.
With u = 2^-16, and results opened at 24 fractional bits:

    EXACT     sums and single products: opening cuts off less than two units of 2^-24
    relative  a bound that grows with the result, |result| times what the operation's page states
    cut(m)    an operand brought to 16 bits is off by one unit, which a factor of at most m makes m u

Where a function is not smooth, or clamps, the oracle says which value and which slope is ours: `value_and_slope`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from protocols.mpc.primitives import exponential, logarithm, reciprocal, roots, sigmoid, softmax, tanh
from protocols.mpc.tensor import crypten

UNIT = 2.0**-16
FINE = 2.0**-24
EXACT = 2 * FINE
TOP = 2.0**20 - UNIT  # the largest value that is declared
Bound = float | np.ndarray


@dataclass(frozen=True)
class OperatorCase:
    """An operation on one to three tensors.

    Attributes:
        covers: names of the operations, as the page lists them.
        ours: what is run on shared tensors, and on torch's unless `oracle` says otherwise.
        inputs: of the operation; gradients are computed of all.
        forward: bound on the error of the result, of its shape or a number.
        gradient: the same of every gradient; None where there is none.
        oracle: the same in torch, float64.
    """

    covers: tuple[str, ...]
    ours: Callable[..., Any]
    inputs: tuple[np.ndarray, ...]
    forward: Bound = EXACT
    gradient: Bound | None = EXACT
    oracle: Callable[..., Any] | None = None


def value_and_slope(value: torch.Tensor, slope: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A tensor of this value whose gradient with respect to x is this slope, whatever x is."""
    return value.detach() + slope.detach() * (x - x.detach())


def _column(*values: float) -> np.ndarray:
    return np.array(values).reshape(-1, 1)


# Ends of the declared range, one unit from zero, zero, and ordinary numbers.
ENDS = np.array([[TOP, -TOP, 0.0], [UNIT, -UNIT, 1.0], [-1.0, 513.25, -7.5]])
HALF = np.array([[TOP / 2 - UNIT, -TOP / 2 + UNIT, 0.0], [UNIT, -UNIT, 1.0], [-1.0, 2.5, TOP / 2 - 1]])
HALF = np.floor(HALF / UNIT) * UNIT
OTHER = np.array([[1.0, -1.0, TOP], [UNIT, 2.0**10, -2.0]])
FACTOR = np.array([[TOP, 1.0, 0.0], [UNIT, 2.0**10 - UNIT, UNIT - 2.0**19]])
TWELFTH = np.floor(HALF / 12 / UNIT) * UNIT
CUBE = np.arange(-12, 12).reshape(2, 3, 4) * 2.0**15 + UNIT
ROOT = np.array([[2.0**10 - UNIT, -(2.0**10) + UNIT], [UNIT, 0.0]])
LEFT, RIGHT = np.array([[511.0, -511.5, 0.5], [UNIT, 0.0, -512.0]]), np.array([[512.0, -UNIT], [511.0, 1.0], [-512.0, 512.0]])
PUBLIC = torch.tensor([[3.0, -0.25, 7.0], [1.0, 0.5, -3.0], [2.0, 1.0, -1.0]], dtype=torch.float64)


def _of(name: str, *arguments: Any, **keywords: Any) -> Callable[..., Any]:
    return lambda x, *others: getattr(x, name)(*others, *arguments, **keywords)


LINEAR: Mapping[str, OperatorCase] = {
    "add": OperatorCase(("add",), lambda x, y: x + y, (HALF, -HALF[::-1].copy())),
    "sub": OperatorCase(("sub",), lambda x, y: x - y, (HALF, HALF[::-1].copy())),
    "rsub": OperatorCase(("rsub",), lambda x: 1.0 - x, (HALF,)),
    "neg": OperatorCase(("neg",), lambda x: -x, (ENDS,)),
    "clone": OperatorCase(("clone",), _of("clone"), (ENDS,)),
    "sum": OperatorCase(("sum",), _of("sum"), (TWELFTH,)),
    "cumsum": OperatorCase(("cumsum",), _of("cumsum", 1), (TWELFTH,)),
    "trace": OperatorCase(("trace",), _of("trace"), (TWELFTH,)),
    "diagonal": OperatorCase(("diagonal",), _of("diagonal"), (ENDS,)),
    "mean of a power of two": OperatorCase(("mean",), _of("mean", 1), (np.repeat(ENDS, 2, axis=1)[:, :4],)),
    # 1/9 is rounded to 16 significant bits.
    "mean": OperatorCase(("mean",), _of("mean"), (np.full((3, 3), TOP),), TOP * UNIT + UNIT, UNIT),
    "view": OperatorCase(("view",), _of("view", 9), (ENDS,)),
    "reshape": OperatorCase(("reshape",), lambda x: x.reshape(1, 9), (ENDS,)),
    "flatten": OperatorCase(("flatten",), _of("flatten", start_dim=1), (CUBE,)),
    "squeeze": OperatorCase(("squeeze",), _of("squeeze", 1), (ENDS[:, :1],)),
    "unsqueeze": OperatorCase(("unsqueeze",), _of("unsqueeze", 0), (ENDS,)),
    "t": OperatorCase(("t",), _of("t"), (ENDS,)),
    "transpose": OperatorCase(("transpose",), _of("transpose", 0, 2), (CUBE,)),
    "permute": OperatorCase(("permute",), lambda x: x.permute((2, 0, 1)), (CUBE,)),
    "expand": OperatorCase(("expand",), lambda x: x.expand(3, 2), (_column(TOP, -TOP, UNIT),)),
    "repeat": OperatorCase(("repeat",), lambda x: x.repeat(2, 1), (ENDS,)),
    "flip": OperatorCase(("flip",), lambda x: x.flip((0, 1)), (ENDS,)),
    "roll": OperatorCase(("roll",), _of("roll", 1, 0), (ENDS,)),
    "narrow": OperatorCase(("narrow",), _of("narrow", 1, 1, 2), (ENDS,)),
    "split": OperatorCase(("split",), lambda x: x.split(2, 1)[1], (ENDS,)),
    "unbind": OperatorCase(("unbind",), lambda x: x.unbind(0)[2], (ENDS,)),
    "index_select": OperatorCase(("index_select",), lambda x: x.index_select(1, torch.tensor([2, 0, 2])), (ENDS,)),
    "take_item": OperatorCase(("take_item",), lambda x: x[1:, [0, 0, 2]], (ENDS,)),
    "rearrange": OperatorCase(
        ("rearrange",), lambda x: x.rearrange(lambda places: places[::-1]), (ENDS,), oracle=lambda x: x.flip(0)
    ),
    "cat": OperatorCase(
        ("cat",), lambda x, y: crypten.cat([x, y], dim=1), (ENDS, -ENDS), oracle=lambda x, y: torch.cat([x, y], dim=1)
    ),
    "stack": OperatorCase(
        ("stack",), lambda x, y: crypten.stack([x, y], dim=2), (ENDS, -ENDS), oracle=lambda x, y: torch.stack([x, y], dim=2)
    ),
    "keep": OperatorCase(
        ("keep",),
        lambda x: x.keep(np.array([[1, 0, 1]] * 3), Fraction(1, 4)),
        (ENDS,),
        oracle=lambda x: x * torch.tensor([0.25, 0, 0.25]),
    ),
}
PRODUCTS: Mapping[str, OperatorCase] = {
    "mul": OperatorCase(("mul",), lambda x, y: x * y, (OTHER, FACTOR[:, [1, 0, 2]])),
    "mul by zero and one unit": OperatorCase(
        ("mul",), lambda x, y: x * y, (ENDS[:2, [2, 0]], np.array([[TOP, 1.0], [TOP, 0.0]]))
    ),
    # A public factor that is no short binary fraction is rounded to 16 significant bits.
    "mul by a number": OperatorCase(("mul",), lambda x: x * 0.3, (ENDS,), TOP * 0.3 * UNIT + UNIT, UNIT),
    "square": OperatorCase(("square",), _of("square"), (ROOT,)),
    "pow 2": OperatorCase(("pow",), lambda x: x**2, (ROOT,)),
    "pow 0": OperatorCase(("pow",), lambda x: x**0 + x, (ENDS / 2 // UNIT * UNIT,)),
    # Each of six squarings has its operands cut: e' <= 2 |v| e + u with |v| <= 1, at most 63 u, and as much again for the slopes.
    "pow 64": OperatorCase(("pow",), lambda x: x**64, (_column(1.0, -1.0, 0.0, UNIT, 0.5),), 128 * UNIT, 64 * 128 * UNIT),
    "matmul": OperatorCase(("matmul",), lambda x, y: x.matmul(y), (LEFT, RIGHT)),
    "multiply_matrices": OperatorCase(
        ("multiply_matrices",), _of("multiply_matrices"), (LEFT, RIGHT), oracle=lambda x, y: x.matmul(y)
    ),
    "affine": OperatorCase(
        ("affine",),
        lambda x, y, z: x.affine(y, z),
        (LEFT, RIGHT.T.copy(), np.array([2.0**18, -UNIT])),
        oracle=torch.nn.functional.linear,
    ),
    "dot": OperatorCase(("dot",), lambda x, y: x.dot(y), (LEFT[0], RIGHT[:, 0].copy())),
    "ger": OperatorCase(("ger",), lambda x, y: x.ger(y), (LEFT[0], RIGHT[:, 0].copy())),
    "div by numbers": OperatorCase(("div",), lambda x: x / PUBLIC, (ENDS,), 4 * TOP * UNIT + UNIT, 4 * UNIT + UNIT),
    # |1/y| <= 2: 2^-20 of the quotient and x cut units of 2^-24; the slopes x / y^2 and 1 / y are products of cut reciprocals.
    "div": OperatorCase(
        ("div",),
        lambda x, y: x / y,
        (_column(2.0**19, -1.0, UNIT, 0.0, 100.0), _column(1.0, TOP, -0.5, 3.0, 2.0**10)),
        TOP * reciprocal.MAX_RELATIVE_ERROR + TOP * FINE + UNIT,
        TOP * 4 * UNIT,
    ),
    "rdiv": OperatorCase(
        ("rdiv",), lambda x: 3.0 / x, (_column(1.0, -TOP, 2.0**-9, -3.5),), 1536 * reciprocal.MAX_RELATIVE_ERROR + UNIT,
        3 * 2 * 512 * UNIT + 3 * 2.0**19 * reciprocal.MAX_RELATIVE_ERROR,
    ),
    # x - mean is cut and its square's mean rounded: the square is at most 2^16, so 2 * 2^8 u each, and 2^-16 of the variance.
    "var": OperatorCase(
        ("var",), lambda x: x.var(), (_column(256.0, -256.0, 0.0, UNIT),), 2 * 2 * 512 * UNIT + 2.0**17 * UNIT, 8 * 512 * UNIT
    ),
    # The sum of squares is exact, its root within 2^-22; the slope x / norm has its reciprocal within 2^-22 and one cut operand.
    "norm": OperatorCase(
        ("norm",), lambda x: x.norm(), (np.array([511.0, -700.0, UNIT, 1.0]),),
        1024 * roots.MAX_RELATIVE_ERROR + EXACT, 1024 * UNIT,
    ),
}  # fmt: skip
CHOICES: Mapping[str, OperatorCase] = {
    "where": OperatorCase(("where",), lambda x, y: x.where(x > y, y), (ENDS, ENDS[::-1].copy())),
    "relu": OperatorCase(
        ("relu",), _of("relu"), (ENDS,), oracle=lambda x: value_and_slope(torch.relu(x), (x >= 0).double(), x)
    ),
    "abs": OperatorCase(
        ("abs",), lambda x: x.abs(), (ENDS,), oracle=lambda x: value_and_slope(x.abs(), 2 * (x >= 0).double() - 1, x)
    ),
    "hardtanh": OperatorCase(
        ("hardtanh",), _of("hardtanh"), (ENDS,),
        oracle=lambda x: value_and_slope(x.clamp(-1, 1), ((x >= -1) & (x < 1)).double(), x),
    ),
    "relu6": OperatorCase(
        ("relu6",), _of("relu6"), (np.append(ENDS.reshape(-1), [6.0, 6.0 - UNIT, 6.0 + UNIT]),),
        oracle=lambda x: value_and_slope(x.clamp(0, 6), ((x >= 0) & (x < 6)).double(), x),
    ),
    "max": OperatorCase(("max",), lambda x: x.max(1)[0], (ENDS,)),
    "max of twenty": OperatorCase(("max",), lambda x: x.max(1)[0], (np.linspace(-1000, 1000, 40).reshape(2, 20) // UNIT * UNIT,)),
    "min": OperatorCase(("min",), lambda x: x.min(), (ENDS,)),
    "largest_of_rows": OperatorCase(
        ("largest_of_rows",), lambda x: x.largest_of_rows()[0], (ENDS,), oracle=lambda x: x.max(1)[0]
    ),
    "argmax": OperatorCase(
        ("argmax",), lambda x: x.argmax(1, one_hot=False), (ENDS,), 0.0, None, lambda x: torch.tensor(ENDS.argmax(1))
    ),
    "argmin with ties": OperatorCase(
        ("argmin",), lambda x: x.argmin(1, one_hot=False), (np.zeros((2, 3)),), 0.0, None, lambda x: torch.zeros(2)
    ),
    **{
        name: OperatorCase((name,), _of(name), (ENDS, ENDS.T.copy()), 0.0, None)
        for name in ("ge", "gt", "le", "lt", "eq", "ne")
    },
    "sign": OperatorCase(("sign",), _of("sign"), (ENDS,), 0.0, None, lambda x: 2.0 * (x >= 0) - 1),
}  # fmt: skip

_EXPONENTS = _column(-TOP, -21.0, -20.0, -1.0, UNIT, 0.0, 10.5, 11.0)
_LOGS = _column(UNIT, 0.5, 1.0, 3.0, TOP)
_FAR = np.array([[TOP / 4, -TOP / 4, 0.0], [7.5, 7.5, 7.5], [-110.0, 0.0, 1.0], [UNIT, 0.0, -UNIT]]) // UNIT * UNIT
_PAIRS = np.array([[2.0**15, -(2.0**15)], [0.0, 0.0], [-3.0, 8.25], [16.0, -16.0]])
_HOT = np.eye(2)[[0, 1, 1, 0]]
_MANY = (np.arange(-64, 64).reshape(2, 64) * 0.75)[:, ::-1].copy()
_LOGIT_TARGETS = np.array([1.0, 1.0, 0.0, 0.0])
_CHANCES, _CHANCE_TARGETS = np.array([UNIT * 64, 1 - UNIT * 64, 0.5, 0.25]), np.array([1.0, 0.0, 1.0, 0.0])


def _clamped_exp(x: torch.Tensor) -> torch.Tensor:
    value = x.detach().clamp(max=exponential.TOP).exp()
    return value_and_slope(value, value, x)


def _clamped_log(x: torch.Tensor) -> torch.Tensor:
    return x.detach().clamp(min=UNIT).log()


FUNCTIONS: Mapping[str, OperatorCase] = {
    "exp": OperatorCase(
        ("exp",), _of("exp"), (_EXPONENTS,),
        exponential.MAX_ABSOLUTE_ERROR + exponential.MAX_RELATIVE_ERROR * np.exp(_EXPONENTS) + EXACT,
        exponential.MAX_ABSOLUTE_ERROR + exponential.MAX_RELATIVE_ERROR * np.exp(_EXPONENTS) + UNIT, _clamped_exp,
    ),
    "exp beyond": OperatorCase(
        ("exp",), _of("exp"), (_column(11.0 + UNIT, 12.0, TOP),), exponential.MAX_ABSOLUTE_ERROR + UNIT, 2 * UNIT, _clamped_exp
    ),
    "log": OperatorCase(
        ("log",), _of("log"), (_LOGS[1:],), logarithm.SERIES_ERROR + EXACT,
        2 * reciprocal.MAX_RELATIVE_ERROR + 2 * FINE, lambda x: x.log(),
    ),
    "log of the smallest, of zero and below": OperatorCase(
        ("log",), _of("log"), (_column(UNIT, 0.0, -UNIT, -TOP),), logarithm.SERIES_ERROR + EXACT, None, _clamped_log
    ),
    "reciprocal": OperatorCase(
        ("reciprocal",), _of("reciprocal"), (_column(2.0**-9, -(2.0**-9), 1.0, -3.0, TOP, -TOP),),
        512 * reciprocal.MAX_RELATIVE_ERROR + EXACT, 2 * 2.0**18 * reciprocal.MAX_RELATIVE_ERROR + 2 * 512 * UNIT,
    ),
    "reciprocal of the smallest and of zero": OperatorCase(
        ("reciprocal",), _of("reciprocal"), (_column(UNIT, -UNIT, 0.0),), 2.0**16 * reciprocal.MAX_RELATIVE_ERROR + EXACT, None,
        lambda x: torch.tensor([[2.0**16], [-(2.0**16)], [2.0**16]]),
    ),
    # The slope is half the inverse root, at most 128.
    "sqrt": OperatorCase(
        ("sqrt",), _of("sqrt"), (_column(UNIT, 2.0, 9.0, TOP),), 1024 * roots.MAX_RELATIVE_ERROR + EXACT,
        128 * roots.MAX_RELATIVE_ERROR + 2 * FINE,
    ),
    "sqrt of zero and below": OperatorCase(
        ("sqrt",), _of("sqrt"), (_column(0.0, -UNIT, -TOP),), 0.0, None, lambda x: torch.zeros(3, 1)
    ),
    # x^-1.5 / 2 is at most 2^11 with three factors of at most 2^4, one of them squared and cut at 2^8.
    "inv_sqrt": OperatorCase(
        ("inv_sqrt",), _of("inv_sqrt"), (_column(2.0**-8, 2.0, 9.0, TOP),), 16 * roots.MAX_RELATIVE_ERROR + EXACT,
        4 * 2.0**11 * roots.MAX_RELATIVE_ERROR + (256 + 3 * 256) * UNIT, lambda x: x.rsqrt(),
    ),
    "inv_sqrt of zero and below": OperatorCase(
        ("inv_sqrt",), _of("inv_sqrt"), (_column(UNIT, 0.0, -TOP),), 256 * roots.MAX_RELATIVE_ERROR + EXACT, None,
        lambda x: torch.full((3, 1), 256.0),
    ),
    # s (1 - s) moves by at most as much as s, 1 - t^2 by at most twice as much as t.
    "sigmoid": OperatorCase(
        ("sigmoid",), _of("sigmoid"), (_column(-TOP, -16.0, -16.0 + UNIT, 0.0, UNIT, 16.0, 16.5, TOP),),
        sigmoid.MAX_ERROR + EXACT, sigmoid.MAX_ERROR + 2 * UNIT,
    ),
    "tanh": OperatorCase(
        ("tanh",), _of("tanh"), (_column(-TOP, -8.0, -8.0 + UNIT, 0.0, UNIT, 8.0, 8.5, TOP),),
        tanh.MAX_ERROR + EXACT, 2 * tanh.MAX_ERROR + 2 * UNIT,
    ),
    # g_i = s_i (w_i - sum s_j w_j) with |w| <= 1: (2 + classes) errors of a probability, and cut operands.
    "softmax": OperatorCase(
        ("softmax",), lambda x: x.softmax(1), (_FAR,), softmax.MAX_ERROR + EXACT, 5 * softmax.MAX_ERROR + 4 * UNIT
    ),
    "softmax_of_rows of 64": OperatorCase(
        ("softmax_of_rows",), lambda x: x.softmax_of_rows(), (_MANY,), softmax.MAX_ERROR + EXACT,
        66 * softmax.MAX_ERROR + 4 * UNIT, lambda x: x.softmax(1),
    ),
    # The slope is w - softmax times the sum of w, at most the number of classes.
    "log_softmax": OperatorCase(
        ("log_softmax",), lambda x: x.log_softmax(1), (_FAR,), softmax.MAX_LOG_ERROR + EXACT,
        3 * (softmax.MAX_LOG_ERROR + 2 * UNIT),
    ),
    "log_softmax_of_rows of 64": OperatorCase(
        ("log_softmax_of_rows",), lambda x: x.log_softmax_of_rows(), (_MANY,), softmax.MAX_LOG_ERROR + EXACT,
        64 * (softmax.MAX_LOG_ERROR + 2 * UNIT), lambda x: x.log_softmax(1),
    ),
    "cross_entropy": OperatorCase(
        ("cross_entropy",), lambda x: x.cross_entropy(crypten.cryptensor(torch.tensor(_HOT))), (_PAIRS,),
        softmax.MAX_LOG_ERROR + EXACT, softmax.MAX_ERROR + EXACT,
        lambda x: -(x.log_softmax(1) * torch.tensor(_HOT)).sum() / 4,
    ),
    # The value takes the two logits' log-softmax; the slope is a quarter of sigmoid - target.
    "binary_cross_entropy_with_logits": OperatorCase(
        ("binary_cross_entropy_with_logits",),
        lambda x: x.binary_cross_entropy_with_logits(crypten.cryptensor(torch.tensor(_LOGIT_TARGETS))),
        (np.array([2.0**15, -16.0, 16.0, UNIT]),), softmax.MAX_LOG_ERROR + EXACT, sigmoid.MAX_ERROR / 4 + EXACT,
        lambda x: torch.nn.functional.binary_cross_entropy_with_logits(x, torch.tensor(_LOGIT_TARGETS)),
    ),
    # 1 / (p (1 - p)) is at most 1025, off by 2^-20 of itself and by one cut unit of p (1 - p), 2^20 of them; a quarter of it.
    "binary_cross_entropy": OperatorCase(
        ("binary_cross_entropy",), lambda x: x.binary_cross_entropy(crypten.cryptensor(torch.tensor(_CHANCE_TARGETS))),
        (_CHANCES,), 2 * (logarithm.SERIES_ERROR + EXACT) + UNIT, (1025**2 * UNIT + 1025 * 2.0**-20 + UNIT) / 4 + 1025 * UNIT,
        lambda x: torch.nn.functional.binary_cross_entropy(x, torch.tensor(_CHANCE_TARGETS)),
    ),
}  # fmt: skip
COVERED_ELSEWHERE: Mapping[str, str] = {"dropout": "test_dropout_keeps_what_its_public_coin_says"}
