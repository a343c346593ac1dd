"""Cases like those of `operator_cases`, of the operations that layers of convolutional networks are made of."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import torch
from torch.nn import functional

from protocols.mpc.convolutions import Geometry
from protocols.mpc.primitives import gelu
from tests.support.operator_cases import ENDS, EXACT, FINE, TOP, UNIT, OperatorCase, value_and_slope

_EPSILON = Fraction(1, 100_000)
_HALF_KERNEL = 2.0**3 - UNIT


def _spread(shape: tuple[int, ...], bound: float, seed: int) -> np.ndarray:
    """Multiples of a unit up to a bound, both ends among them, no two alike."""
    steps = np.random.default_rng(seed).permutation(int(np.prod(shape)))
    return np.rint((2 * steps / (len(steps) - 1) - 1) * bound / UNIT).reshape(shape) * UNIT


# Windows of at most 18 products below 2^15: every result is below 2^20. Each plane has other strides, borders and groups.
_PLANES, _GROUPED = Geometry((5, 4), (3, 3), (2, 1), (1, 0), 1), Geometry((1, 7), (1, 2), (1, 2), (0, 1), 2)
_SQUARES, _OVERLAPPING = Geometry((4, 4), (2, 2), (2, 2), (0, 0), 1), Geometry((5, 5), (3, 3), (2, 2), (1, 1), 1)
_ROWS = np.stack([_spread((8,), 500.0, 5), _spread((8,), 0.125, 6), np.full(8, -3.25)])


def _normal_bounds(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far the result and the slope may be off; k, d and v as in protocols/mpc/tensor/normalising.py, |g| <= 1."""
    d = np.abs(rows - rows.mean(1, keepdims=True)) + UNIT
    v = (d**2).mean(1, keepdims=True) + float(_EPSILON)
    k = v**-0.5
    # The variance is off by what d is, and by its own rounding; the inverse root by 2^-22 of itself and one unit of 2^-24.
    relative = (2 * d.mean(1, keepdims=True) * UNIT + UNIT**2 + 2.0**-32) / (2 * v) + 2.0**-22 + FINE / k
    forward = k * UNIT + d * k * relative + EXACT
    # k (g - mean of g) - d k^3 mean of g d: both terms are below 2 k; what is settled at 24 bits is multiplied with d.
    slope = 2 * 2 * k * 3 * relative + 2 * d * k**3 * UNIT + 4 * (d + 2) * FINE
    return forward, slope


_FORWARD, _SLOPE = _normal_bounds(_ROWS)
_GELU_AT = np.array([-TOP, -8.0, -8.0 + UNIT, -0.75, 0.0, UNIT, 1.5, 8.0 - UNIT, 8.0, TOP])


def _normalised(x: torch.Tensor) -> torch.Tensor:
    d = x - x.mean(1, keepdim=True)
    return d * (d.square().mean(1, keepdim=True) + float(_EPSILON)).rsqrt()


LAYERS: Mapping[str, OperatorCase] = {
    "fold": OperatorCase(("fold",), lambda x: x.fold((9, 1)), (ENDS,), oracle=lambda x: x.reshape(9, 1)),
    "convolve": OperatorCase(
        ("convolve",),
        lambda x, w: x.convolve(w, _PLANES),
        (_spread((2, 2, 5, 4), 2.0**12, 1), _spread((3, 2, 3, 3), _HALF_KERNEL, 2)),
        oracle=lambda x, w: functional.conv2d(x, w, stride=(2, 1), padding=(1, 0)),
    ),
    "convolve in groups along a line": OperatorCase(
        ("convolve",),
        lambda x, w: x.convolve(w, _GROUPED),
        (_spread((2, 4, 1, 7), 2.0**12, 3), _spread((6, 2, 1, 2), _HALF_KERNEL, 4)),
        oracle=lambda x, w: functional.conv2d(x, w, stride=(1, 2), padding=(0, 1), groups=2),
    ),
    "max_pool": OperatorCase(
        ("max_pool",),
        lambda x: x.max_pool(_SQUARES),
        (_spread((2, 1, 4, 4), TOP, 7),),
        oracle=lambda x: functional.max_pool2d(x, 2),
    ),
    "max_pool of overlapping windows and borders": OperatorCase(
        ("max_pool",),
        lambda x: x.max_pool(_OVERLAPPING),
        (_spread((1, 2, 5, 5), TOP / 2 // UNIT * UNIT, 8) - 2.0**19,),
        oracle=lambda x: functional.max_pool2d(x, 3, 2, 1),
    ),
    "map_planes": OperatorCase(
        ("map_planes",),
        lambda x: x.map_planes(np.array([[1, 1, 0], [0, -1, 2]]), np.array([[1, 0, 0, 3]])),
        (_spread((2, 1, 3, 4), 2.0**16, 9),),
        oracle=lambda x: (
            torch.tensor([[1.0, 1, 0], [0, -1, 2]], dtype=torch.float64) @ x @ torch.tensor([[1.0], [0], [0], [3]]).double()
        ),
    ),
    # Inside [-8, 8] the distribution's error is multiplied with x; outside it is exactly 0 or 1.
    "gelu": OperatorCase(
        ("gelu",),
        lambda x: x.gelu(),
        (_GELU_AT,),
        8 * gelu.MAX_DISTRIBUTION_ERROR + EXACT,
        gelu.MAX_SLOPE_ERROR + EXACT,
        functional.gelu,
    ),
    "leaky_relu": OperatorCase(
        ("leaky_relu",),
        lambda x: x.leaky_relu(Fraction(1, 64)),
        (ENDS,),
        oracle=lambda x: value_and_slope(functional.leaky_relu(x, 1 / 64), torch.where(x >= 0, 1.0, 1 / 64).double(), x),
    ),
    "normalise": OperatorCase(
        ("normalise",), lambda x: x.normalise(None, (1,), _EPSILON, []), (_ROWS,), _FORWARD, _SLOPE, _normalised
    ),
}
