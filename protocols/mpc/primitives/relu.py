"""max(x, 0) with its truncation, and the saved bit that gates a gradient in one round (docs/protocols/relu.md).

One opened c = x + r + 2^62 serves the truncation and the sign test. `rectify` gives the kept values and a `SavedBit`, which
`gate` multiplies any value of the same shape with: ReLU and LeakyReLU backward, the choices of a maximum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.engine import Engine, Opening, Steps
from protocols.mpc.material.comparison import MAX_LOW_BITS
from protocols.mpc.material.rectifier import GateMaterial, RectifierMaterial
from protocols.mpc.primitives.comparison import hidden_nonnegative, unflip
from protocols.mpc.primitives.multiplication import fan_out
from protocols.mpc.primitives.truncation import BLOCK, mask_for_truncation, public_part, recombine
from protocols.mpc.values import PartialShare
from protocols.ring import TOP, RingArray


class SavedBit:
    """The bits [x >= 0] of one value, hidden by dealt flips; secret. It has no text form and cannot be pickled.

    Only `rectify` makes one. The flips are never seen from outside, so nothing else can be hidden by them.
    """

    __slots__ = ("_bit_id", "_flip", "_flipped", "_segment")

    def __init__(self, bit_id: int, segment: int, flipped: NDArray[np.bool_], flip: RingArray) -> None:
        self._bit_id = bit_id
        self._segment = segment
        self._flipped = flipped
        self._flip = flip

    def __repr__(self) -> str:
        return f"SavedBit(shape={self.shape})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("shares are not pickled")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the bits; public."""
        return self._flip.shape

    def share(self, engine: Engine) -> RingArray:
        """Returns this party's share of the bits as 0 or 1; local."""
        return unflip(engine, self._flipped.astype(np.int64), self._flip)


@dataclass(frozen=True, repr=False)
class Gated:
    """This party's shares of a truncated value where a bit is 1 and 0 elsewhere, and of the truncated value itself."""

    kept: RingArray
    whole: RingArray


@dataclass(frozen=True, repr=False)
class Rectified:
    """This party's shares of max(v, 0) and of v, and the bit [v >= 0], for a truncated value v."""

    kept: RingArray
    whole: RingArray
    bit: SavedBit


def rectify(engine: Engine, share: RingArray | PartialShare, shift: int) -> Steps[Rectified]:
    """Truncates a value by `shift` bits and rectifies it: v is x / 2^shift with an error of 0 or +1 unit, max(v, 0) is exact.

    Four rounds. With shift 0: exact for every x of the ring, 12.25 bytes an element, corrections 60.125. With shift 24: 10.625
    bytes an element, corrections 56.625 (fewer digits are compared, and both parts of the truncation are dealt twice).

    Args:
        engine: this party's engine.
        share: int64, secret, any shape; for a shift the value lies in [-2^62, 2^62).
        shift: 0 to 58, public.

    Raises:
        ConfideError: INTERNAL (ours) for another shift.

    Learns: nobody anything; everything opened is uniform.
    """
    _check(shift)
    bit_id = engine.new_mask(for_session=False)
    partial = PartialShare.of(share)
    material = engine.deal("rectifier", share.shape, shift, bit_id, partial.parameters(), result=RectifierMaterial)
    opened = yield Opening("rectifier", (mask_for_truncation(engine, partial.share, material.gate.truncation),))
    masked = opened.numbers[0]
    flipped = yield from hidden_nonnegative(engine, masked.reshape(1, -1) - np.int64(TOP), material.sign)
    hidden = flipped.reshape(share.shape).astype(np.bool_)
    bit = SavedBit(bit_id, engine.segments, hidden, material.sign.flip_number.reshape(share.shape))
    gated = _gated(engine, masked, shift, material.gate, bit)
    return Rectified(gated.kept, gated.whole, bit)


def gate(engine: Engine, share: RingArray | PartialShare, bit: SavedBit, shift: int) -> Steps[Gated]:
    """Truncates a value by `shift` bits and multiplies it with a saved bit: error 0 or +1 unit where that is 1, else exactly 0.

    One round, 8 bytes an element; corrections 8 bytes an element with shift 0, otherwise 16 and twice what `truncate` needs for
    the top bit (24 with shift 24).

    Args:
        engine: this party's engine.
        share: int64, secret, of the bit's shape; for a shift the value lies in [-2^62, 2^62).
        bit: of another value.
        shift: 0 to 62, public.

    Raises:
        ConfideError: INTERNAL (ours) if the shapes differ, or the bit is of another segment.

    Learns: nobody anything; the opened number is uniform.
    """
    if bit._segment != engine.segments:
        # The dealer has forgotten that flip, and the same id names another one now.
        raise ConfideError(ErrorCode.INTERNAL, "a bit that was saved in another segment")
    if share.shape != bit.shape:
        raise ConfideError(ErrorCode.INTERNAL, f"a value of shape {share.shape} at bits of shape {bit.shape}")
    partial = PartialShare.of(share)
    material = engine.deal("gate", share.shape, shift, bit._bit_id, partial.parameters(), result=GateMaterial)
    opened = yield Opening("gate", (mask_for_truncation(engine, partial.share, material.truncation),))
    return _gated(engine, opened.numbers[0], shift, material, bit)


def relu(engine: Engine, share: RingArray) -> Steps[tuple[RingArray, RingArray]]:
    """Returns this party's shares of max(x, 0) and of [x >= 0] as 0 or 1, both exact for every x of the ring.

    Rounds, bytes and leakage as `rectify` with shift 0.
    """
    rectified = yield from rectify(engine, share, 0)
    return rectified.kept, rectified.bit.share(engine)


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


def _gated(engine: Engine, opened: RingArray, shift: int, material: GateMaterial, bit: SavedBit) -> Gated:
    kept, whole = np.empty(opened.size, np.int64), np.empty(opened.size, np.int64)
    flat, flips, hidden = opened.reshape(-1), bit._flip.reshape(-1), bit._flipped.reshape(-1)
    cut = material.truncation
    of_whole, of_flip = [
        (high.reshape(-1), top.reshape(-1)) for high, top in ((cut.high, cut.top), (material.flip_high, material.flip_top))
    ]
    for start in range(0, flat.size, BLOCK):
        some = slice(start, start + BLOCK)
        public = public_part(flat[some], shift)
        uncut = recombine(public, of_whole[0][some], of_whole[1][some], into=whole[some])
        if engine.leads:
            uncut += public.base
        # b v for b = t xor flip is flip v where t is 0, and v - flip v where it is 1.
        flipped = recombine(public, of_flip[0][some], of_flip[1][some])
        flipped += public.base * flips[some]
        kept[some] = np.where(hidden[some], uncut - flipped, flipped)
    return Gated(kept.reshape(opened.shape), whole.reshape(opened.shape))


def _check(shift: int) -> None:
    if not 0 <= shift <= MAX_LOW_BITS:
        raise ConfideError(ErrorCode.INTERNAL, f"a rectifier that cuts off {shift} bits")
