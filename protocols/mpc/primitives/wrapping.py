"""Truncation between two parties: each divides its own share, and one opened bit tells how often both wrap (truncation.md).

With z = x + 2^62 - 1 below 2^63, the shares of z add up to z + 2^64 unless both have no top bit, so that

    z >> f  =  (z_0 >> f) + (z_1 >> f) - 2^(64 - f) (1 - u v)  or one more,    u and v: no top bit in z_0, in z_1.

Either party knows its factor of u v, so what is opened is one bit of each, hidden by a bit that this party and the dealer know.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.mpc.engine import Engine, Opening, Steps
from protocols.mpc.material.wrapping import WrapMaterial
from protocols.mpc.values import PartialShare
from protocols.ring import SHORT_BITS, TOP, BitArray, RingArray, highest, pack_bits, unpack_bits, unsigned

_LONG_BITS = 64
_BLOCK = 1 << 13  # elements at once, a multiple of 8: what is computed in between stays in the processor's cache

Raised = NDArray[np.uint64] | NDArray[np.uint32]


def truncate_own(engine: Engine, partial: PartialShare, shift: int) -> Steps[RingArray]:
    """Returns this party's share of the value divided by 2^shift, error 0 or +1 unit; see `truncation.truncate`."""
    material = engine.deal("wrap", partial.shape, shift, partial.parameters(), result=WrapMaterial)
    return (yield from _truncated(engine, _raised(engine, unsigned(partial.share), material), material, shift))


def truncate_highest(engine: Engine, partial: PartialShare, shift: int) -> Steps[RingArray]:
    """Likewise from the highest 32 bits of every share, rounded; see `truncation.truncate_roughly`."""
    material = engine.deal("short_wrap", partial.shape, shift, partial.parameters(), result=WrapMaterial)
    return (yield from _truncated(engine, _raised(engine, highest(partial.share), material), material, shift))


def _raised(engine: Engine, share: Raised, material: WrapMaterial) -> Raised:
    """Returns this party's share of x + 2^62 - 1, or of the highest 32 bits of x, raised by 2^30 - 1."""
    raised = share if material.lacks is None else share + material.lacks.view(share.dtype)
    if not engine.leads:
        return raised
    top = TOP if share.dtype == np.uint64 else TOP >> SHORT_BITS
    # One less, so that rounding every share down and the sum up by one unit leaves whole multiples of the unit as they are.
    return raised + share.dtype.type(top - 1)


def _truncated(engine: Engine, raised: Raised, material: WrapMaterial, shift: int) -> Steps[RingArray]:
    flat = raised.reshape(-1)
    half = flat.dtype.type(1 << (8 * flat.itemsize - 1))
    hidden = pack_bits((flat < half).view(np.uint8)) ^ material.own
    opened = yield Opening("truncation", (), (hidden,))
    return _divided(engine, flat, material, hidden, opened.bits[0], shift).reshape(raised.shape)


def _divided(engine: Engine, raised: Raised, material: WrapMaterial, hidden: BitArray, opened: BitArray, shift: int) -> RingArray:
    """Adds up what the shares divided by 2^shift and the opened bits give.

    With the hiding bits a and b, U = u xor a and V = v xor b are open, and D = U xor V: u v = u V + (1 - 2 D) (a b - U b). The
    lead knows u and its share of a b, the other party b and its own.
    """
    theirs = opened ^ hidden
    known = ~(theirs & (hidden ^ material.own)) if engine.leads else theirs & material.own
    product = material.product.reshape(-1)
    result = np.empty(raised.size, np.uint64)
    cut = shift - _LONG_BITS + 8 * raised.itemsize
    for start in range(0, result.size, _BLOCK):
        some, packed = slice(start, start + _BLOCK), slice(start // 8, (start + _BLOCK) // 8)
        share = result[some]
        share[...] = raised[some] >> raised.dtype.type(cut) if cut else raised[some]
        signs = unpack_bits(opened[packed], share.size).astype(product.dtype)
        np.negative(signs, out=signs)
        mine = unpack_bits(known[packed], share.size)
        if engine.leads:
            wraps = product[some] ^ signs
            wraps -= signs
            wraps -= mine  # u V - 1
            share += np.uint64((1 - (TOP >> shift)) % 2**_LONG_BITS)
        else:
            wraps = product[some] - mine
            wraps ^= signs
            wraps -= signs
        raising = wraps.astype(np.uint64)
        raising <<= np.uint64(_LONG_BITS - shift)
        share += raising
    return result.view(np.int64)
