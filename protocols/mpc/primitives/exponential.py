"""The exponential in four rounds: one-hot tables of a mask inside its domain, constants outside (docs/protocols/exponential.md).

With c = x + r public, e^x = e^(c - r) = e^m e^(fraction of c) e^-(fraction of r), where m is the difference of the integer parts
of c and r modulo 32. Whether the fractions borrow does not matter: m and the factors then change by the same power of e. The
dealer knows r and deals e^-(fraction of r) in the row of r's integer part; everything else follows from the public c.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from math import factorial

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.engine import Engine, Opening, Steps
from protocols.mpc.material.exponential import PERIOD, ExponentialMaterial
from protocols.mpc.primitives.clamping import gated_series
from protocols.ring import RingArray, unsigned

RESULT_BITS = 16
FINE_BITS = 24  # fractional bits of the result for arguments that are not positive
BOTTOM = -20  # below, the exponential is 0 to 2.1e-9
TOP = 11  # TOP - BOTTOM stays below the period, so that a borrow has room
MAX_SCALE_BITS = 46
MAX_ABSOLUTE_ERROR = 1.13 * 2.0**-16
MAX_RELATIVE_ERROR = 2.0**-27
MAX_FINE_ERROR = 1.1 * 2.0**-24  # of exp_nonpositive

# Decimal arithmetic and, below, basic float64 operations are the same on every machine; the mathematics library is not.
_POWERS = np.array([float(Context(prec=40).exp(Decimal(BOTTOM + m))) for m in range(PERIOD)])
_TAYLOR = tuple(1 / factorial(i) for i in range(20))


@dataclass(frozen=True)
class _Precision:
    """Log2 of what a row of the dealt table stands for; fractional bits of the table, of the public weights and of the result.

    Fewer rows need more bits of the table, whose error grows by e^unit.
    """

    unit_log2: int
    table: int
    weights: int
    result: int

    @property
    def shift(self) -> int:
        return self.table + self.weights - self.result


_WIDE = _Precision(0, 28, 18, RESULT_BITS)  # e^11 at 46 bits stays below 2^62
_FINE = _Precision(2, 33, 28, FINE_BITS)  # 1 at 61 bits


def exp(engine: Engine, share: RingArray, scale_bits: int) -> Steps[RingArray]:
    """Returns this party's share of e^x at 16 fractional bits.

    The error is at most 1.13 * 2^-16 plus 2^-27 of the value. Below -20 the result is 0, above 11 it is e^11 = 59874.1.

    Four rounds, 24.5 bytes an element; corrections 364.125 bytes an element.

    Args:
        engine: this party's engine.
        share: int64, secret, any shape; the value lies in [-2^62, 2^62) and so do its sum with 20 and its difference to 11.
        scale_bits: fractional bits of the value, 0 to 46.

    Raises:
        ConfideError: INTERNAL (ours) for another scale.

    Learns: nobody anything; everything opened is uniform.
    """
    material, masked, series = yield from _series(engine, share, scale_bits, _WIDE, 2)
    thresholds = np.concatenate([masked - np.int64(BOTTOM << scale_bits), masked - np.int64(TOP << scale_bits)])
    gated = yield from gated_series(engine, thresholds, series, material.clamp, _WIDE.shift)
    largest = np.int64(round(float(_POWERS[TOP - BOTTOM]) * 2.0**RESULT_BITS))
    result: RingArray = gated.products[0] - gated.products[1] + largest * gated.bits[1]
    return result.reshape(share.shape)


def exp_nonpositive(engine: Engine, share: RingArray, scale_bits: int) -> Steps[RingArray]:
    """Returns this party's share of e^x for x <= 0 at 24 fractional bits, error at most 1.1 * 2^-24; below -20 it is 0.

    Four rounds, 20.25 bytes an element; corrections 148.125 bytes an element. Otherwise as `exp`.
    """
    material, masked, series = yield from _series(engine, share, scale_bits, _FINE, 1)
    gated = yield from gated_series(engine, masked - np.int64(BOTTOM << scale_bits), series, material.clamp, _FINE.shift)
    result: RingArray = gated.products[0]
    return result.reshape(share.shape)


def _series(
    engine: Engine, share: RingArray, scale_bits: int, precision: _Precision, tests: int
) -> Steps[tuple[ExponentialMaterial, RingArray, RingArray]]:
    """Opens c; returns the material, c as (1, count), and the share of e^x where x is in the domain."""
    if not 0 <= scale_bits <= MAX_SCALE_BITS:
        raise ConfideError(ErrorCode.INTERNAL, f"an exponential of a value with {scale_bits} fractional bits")
    shape = share.shape
    kind = (shape, scale_bits, precision.unit_log2, precision.table, tests, precision.shift)
    material = engine.deal("exponential", *kind, result=ExponentialMaterial)
    opened = yield Opening("exponential", (share + material.mask,))
    masked = opened.numbers[0].reshape(1, -1)
    weights = _weights(masked[0], scale_bits, precision)
    return material, masked, (weights * material.table).sum(axis=0)


def _weights(opened: RingArray, scale_bits: int, precision: _Precision) -> RingArray:
    """Weights of the table's rows, (rows, count): e^(m + BOTTOM) e^(fraction of c); row i has m = c - i * unit modulo 32."""
    shifted = unsigned(opened - np.int64(BOTTOM << scale_bits))
    whole = (shifted >> np.uint64(scale_bits)) & np.uint64(PERIOD - 1)
    fraction = (shifted & np.uint64((1 << scale_bits) - 1)).astype(np.float64) * 2.0**-scale_bits
    rows = np.arange(0, PERIOD, 1 << precision.unit_log2, dtype=np.uint64)[:, None]
    integer_parts = ((whole[None, :] - rows) & np.uint64(PERIOD - 1)).astype(np.intp)
    return np.asarray(np.rint(_POWERS[integer_parts] * _exp_of_fraction(fraction) * 2.0**precision.weights), np.int64)


def _exp_of_fraction(values: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.full_like(values, _TAYLOR[-1])
    for coefficient in reversed(_TAYLOR[:-1]):
        total = total * values + coefficient
    return total
