"""max(x, 0) and the bit that its backward pass needs, exactly (docs/protocols/relu.md)."""

from __future__ import annotations

from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.multiplication import fan_out
from protocols.mpc.primitives.staircase import staircase
from protocols.ring import RingArray


def relu(engine: Engine, share: RingArray) -> Steps[tuple[RingArray, RingArray]]:
    """Returns this party's shares of max(x, 0) and of [x >= 0] as 0 or 1, both exact for every x of the ring.

    Four rounds, 12.375 bytes an element; corrections 61 bytes an element.

    Args:
        engine: this party's engine.
        share: int64, secret, any shape; the first result has its scale, the second is an integer.

    Learns: nobody anything; everything opened is uniform.
    """
    steps = yield from staircase(engine, share.reshape(-1), (0,))
    return steps.products[0].reshape(share.shape), steps.bits[0].reshape(share.shape)


def select(engine: Engine, bit: RingArray, *values: RingArray) -> Steps[list[RingArray]]:
    """Returns this party's share of every value where the bit is 1, and of 0 where it is 0; exact, at the values' scales.

    One round, 8 bytes an element of the bit and of every value; corrections 8 bytes an element of every value.

    Args:
        engine: this party's engine.
        bit: int64 share of 0 or 1, secret.
        values: int64, secret, of the bit's shape; at least one.

    Learns: nobody anything; everything opened is uniform.
    """
    return (yield from fan_out(engine, bit, values))
