"""The hyperbolic tangent, from the sigmoid's series (docs/protocols/sigmoid.md)."""

from __future__ import annotations

from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.sigmoid import RESULT_BITS, sigmoid
from protocols.ring import RingArray

MAX_ERROR = 2e-4  # twice the sigmoid's


def tanh(engine: Engine, share: RingArray, scale_bits: int, magnitude_bits: int) -> Steps[RingArray]:
    """Returns this party's share of 2 sigmoid(2 x) - 1 at 16 fractional bits, within 2e-4 of the true value.

    Rounds and bytes of the sigmoid.

    Args:
        engine: this party's engine.
        share: int64, secret, any shape; absolute value at most 2^magnitude_bits. From 10 on in absolute value the result is 1
            or -1.
        scale_bits: fractional bits of the value, 2 to 47.
        magnitude_bits: at most 20 more than the fractional bits; public.

    Raises:
        ConfideError: INTERNAL (ours) for another scale or magnitude.

    Learns: nobody anything; everything opened is uniform.
    """
    # Twice the value is the same ring element with one fractional bit less.
    half = yield from sigmoid(engine, share, scale_bits - 1, magnitude_bits)
    result: RingArray = 2 * half
    return result - (1 << RESULT_BITS) if engine.leads else result
