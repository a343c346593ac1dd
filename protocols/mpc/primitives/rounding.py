"""Rounding to a number of decimals, exactly, so that no finer digit is left in the shares (docs/protocols/rounding.md)."""

from __future__ import annotations

import numpy as np

from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.comparison import nonnegative
from protocols.mpc.primitives.truncation import truncate
from protocols.ring import RingArray


def round_to_decimals(engine: Engine, share: RingArray, *, scale_bits: int, decimals: int) -> Steps[RingArray]:
    """Returns this party's share of the whole number nearest to 10^decimals times the value; a tie goes up. Exact.

    Five rounds, 12.375 bytes an element; corrections 56.125 bytes an element.

    Args:
        engine: this party's engine.
        share: int64, secret, any shape; the ring number times 10^decimals lies in [-2^61, 2^61).
        scale_bits: fractional bits of the value, 1 to 60, public.
        decimals: 0 or more, public.

    Learns: nobody anything; everything opened is uniform.
    """
    half = engine.public(np.full(share.shape, 1 << (scale_bits - 1), np.int64))
    return (yield from floor_shift(engine, share * np.int64(10**decimals) + half, scale_bits))


def floor_shift(engine: Engine, share: RingArray, shift: int) -> Steps[RingArray]:
    """Returns this party's share of the value divided by 2^shift and rounded down, exactly.

    A truncation may be one unit too large; what is left then is negative, and its sign takes the unit back. Five rounds, 12.375
    bytes an element; corrections 53.125 to 60.125 bytes an element, as the shift grows.

    Args:
        engine: this party's engine.
        share: int64, secret, any shape; the value lies in [-2^62, 2^62).
        shift: 1 to 62, public.

    Learns: nobody anything; everything opened is uniform.
    """
    quotient = yield from truncate(engine, share, shift)
    is_right = yield from nonnegative(engine, share - (quotient << np.int64(shift)))
    result: RingArray = quotient + is_right - engine.public(np.ones_like(share))
    return result
