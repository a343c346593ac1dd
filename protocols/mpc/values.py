"""Shared values, assigned once, and the masks bound to them.

A mask hides one value. Were it to hide another one too, the difference of the two openings would show the difference of the
values, which is why a recomputed value (it may differ by a rounding) is a new `SharedValue` with a mask of its own. The types
leave no way around this: a mask is made only by `SharedValue.open_masked`, stays inside the value it was made for, and a
value's share never changes. Linear views of a value (its transpose, the rows of a batch) see its mask through the same view.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.engine import Engine, Opening, Steps
from protocols.mpc.material.context import Window
from protocols.mpc.material.products import View
from protocols.ring import RingArray, subtract

MAX_MAGNITUDE_BITS = 62
_MAX_MULTIPLIER = 1 << 53


# What is made for every operation of every step is not frozen: making it so would cost three times as much as making it. None of
# it is ever changed.
@dataclass(slots=True, repr=False, eq=False)
class _Masked:
    """The mask of one value: its id, in which segment it was dealt, this party's share of it, and the opened value - mask."""

    mask_id: int
    segment: int
    share: RingArray
    opened: RingArray


@dataclass(slots=True, repr=False, eq=False)
class Lacking:
    """A multiple of a product of masks that the dealer keeps and no party has a share of yet; public.

    Attributes:
        kept_id: under which the dealer keeps it.
        multiplier: whole number.
        transposed: whether it is seen with its dimensions reversed.
        engine: deals shares of it, where they are needed.
        segment: in which it was made; the dealer forgets it at its end.
    """

    kept_id: int
    multiplier: int
    transposed: bool
    engine: Engine
    segment: int

    def times(self, factor: int) -> Lacking:
        """Returns a multiple of it."""
        return Lacking(self.kept_id, self.multiplier * factor, self.transposed, self.engine, self.segment)

    def transpose(self) -> Lacking:
        """Returns its transpose."""
        return Lacking(self.kept_id, self.multiplier, not self.transposed, self.engine, self.segment)

    def shares(self, shape: tuple[int, ...]) -> RingArray:
        """Returns this party's share of it; corrections 8 bytes an element."""
        self._check()
        stored = shape[::-1] if self.transposed else shape
        dealt = self.engine.deal("shares_of_kept", self.kept_id, stored, result=np.ndarray)
        dealt = dealt.T if self.transposed else dealt
        # Multipliers may leave 64 bits, where they matter modulo 2^64 only.
        return np.asarray(dealt * np.int64((self.multiplier + 2**63) % 2**64 - 2**63))

    def parameters(self) -> tuple[int, int, int]:
        """Returns how the plan names it: id, 1 if negative and 2 if transposed, absolute value of the multiplier."""
        self._check()
        return self.kept_id, (self.multiplier < 0) + 2 * self.transposed, abs(self.multiplier)

    def _check(self) -> None:
        if self.engine.segments != self.segment:
            raise ConfideError(ErrorCode.INTERNAL, "a product of another segment was never finished")


@dataclass(slots=True, repr=False, eq=False)
class PartialShare:
    """This party's share of a value that may lack products of masks.

    A protocol that masks the value anyway has the dealer take them out of its mask (`material.truncation`), which spares their
    correction; anything else asks for shares of them.

    Attributes:
        share: int64, secret.
        lacks: what is missing.
    """

    share: RingArray
    lacks: tuple[Lacking, ...] = ()

    @staticmethod
    def of(share: RingArray | PartialShare) -> PartialShare:
        """Returns a share as one that may lack something."""
        return share if isinstance(share, PartialShare) else PartialShare(share)

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape; public."""
        return self.share.shape

    def times(self, factor: int) -> PartialShare:
        """Returns the product with a public whole number; local, but for multipliers that no plan can hold."""
        if factor == 1:
            return self
        if not self.lacks:
            return PartialShare(self.share * np.int64(factor))
        lacks = tuple([part.times(factor) for part in self.lacks])
        if any(abs(part.multiplier) >= _MAX_MULTIPLIER for part in lacks):
            return PartialShare(self.whole() * np.int64(factor))
        return PartialShare(self.share * np.int64(factor), lacks)

    def plus(self, other: PartialShare) -> PartialShare:
        """Returns the sum; shapes are equal."""
        return PartialShare(self.share + other.share, (*self.lacks, *other.lacks))

    def transpose(self) -> PartialShare:
        """Returns the transpose."""
        return PartialShare(self.share.T, tuple([part.transpose() for part in self.lacks]))

    def contiguous(self) -> PartialShare:
        """Returns the same with its share's elements in order."""
        # A protocol does not know tensors without dimensions: they get one here.
        if self.share.ndim and self.share.flags.c_contiguous:
            return self
        return PartialShare(np.ascontiguousarray(self.share), self.lacks)

    def parameters(self) -> tuple[int, ...]:
        """Returns what is lacking, as the plan names it."""
        return tuple([number for part in self.lacks for number in part.parameters()]) if self.lacks else ()

    def whole(self) -> RingArray:
        """Returns this party's share of the whole value."""
        share = self.share
        for part in self.lacks:
            share = share + part.shares(self.shape)
        return share


class SharedValue:
    """One secret tensor, held as this party's additive share; it has no text form and cannot be pickled.

    Args:
        share: int64 ring elements, secret.
        scale_bits: fractional bits of the value; public.
        magnitude_bits: the ring element's absolute value is at most 2^magnitude_bits; public.
        for_session: whether its mask serves all later segments (the data matrix) or only the current one.

    Attributes:
        shape: the tensor's; public.
        scale_bits: see the arguments, as the others; they are never changed.

    Raises:
        ConfideError: INTERNAL (ours) if the magnitude leaves the domain of truncation and comparison.
    """

    __slots__ = ("_lacks", "_masked", "_share", "for_session", "magnitude_bits", "scale_bits", "shape")
    _share: RingArray
    _lacks: tuple[Lacking, ...]

    def __init__(
        self, share: RingArray | PartialShare, *, scale_bits: int, magnitude_bits: int, for_session: bool = False
    ) -> None:
        if magnitude_bits > MAX_MAGNITUDE_BITS:
            raise ConfideError(
                ErrorCode.INVALID_MODEL,
                f"a value may reach 2^{magnitude_bits} in the ring, beyond 2^{MAX_MAGNITUDE_BITS}",
                remedy="Use fewer features or smaller batches.",
            )
        self._share, self._lacks = (share.share, share.lacks) if isinstance(share, PartialShare) else (share, ())
        # Attributes and no properties: a step of a training asks for them some hundred times.
        self.shape: tuple[int, ...] = self._share.shape
        self.scale_bits = scale_bits
        self.magnitude_bits = magnitude_bits
        self.for_session = for_session
        self._masked: _Masked | None = None

    def __repr__(self) -> str:
        return f"SharedValue(shape={self.shape}, scale_bits={self.scale_bits})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("shares are not pickled")

    @property
    def share(self) -> RingArray:
        """This party's share; secret. It must not be sent anywhere unmasked or unrefreshed."""
        if self._lacks:
            self._share, self._lacks = self.partial.whole(), ()
        return self._share

    @property
    def partial(self) -> PartialShare:
        """This party's share with what it still lacks, for protocols that have the dealer take that in; secret."""
        return PartialShare(self._share, self._lacks)

    @staticmethod
    def open_masked(engine: Engine, values: Iterable[SharedValue]) -> Steps[None]:
        """Opens each value under a fresh mask of its own, all in one round; values that have one already are left alone."""
        fresh = [value for value in values if value._masked is None]
        if not fresh:
            return
        if len(fresh) > 1:
            fresh = list({id(value): value for value in fresh}.values())
        made: list[tuple[SharedValue, int, RingArray]] = []
        for value in fresh:
            mask_id = engine.new_mask(for_session=value.for_session)
            mask = engine.deal("mask", mask_id, int(value.for_session), value.shape, result=np.ndarray)
            made.append((value, mask_id, mask))
        opened = yield Opening("operands", tuple([subtract(value.share, mask) for value, _, mask in made]))
        for (value, mask_id, mask), difference in zip(made, opened.numbers, strict=True):
            value._masked = _Masked(mask_id, engine.segments, mask, difference)


class ValueView:
    """A shared value seen through linear maps that only move elements: rows of the current batch, another shape, transposition.

    Args:
        value: what is seen.
        window: only these rows of it.
        fold: the rows' elements in this shape; empty for their own.
        transposed: with its dimensions reversed.

    Attributes:
        value: see the arguments.
        is_transposed: whether the dimensions are reversed; public.
        is_whole: whether nothing is left out or moved; public.
        shape: of what is seen; public.
    """

    __slots__ = ("_fold", "_window", "is_transposed", "is_whole", "shape", "value")

    def __init__(
        self, value: SharedValue, *, window: Window | None = None, fold: tuple[int, ...] = (), transposed: bool = False
    ) -> None:
        self.value = value
        self._window = window
        self._fold = fold
        self.is_transposed = transposed
        self.is_whole = window is None and not fold and not transposed
        self.shape = self._shape_seen()

    def __repr__(self) -> str:
        return f"ValueView(shape={self.shape}, scale_bits={self.value.scale_bits})"

    @property
    def share(self) -> RingArray:
        """This party's share of what is seen; secret."""
        return self.value.share if self.is_whole else self._see(self.value.share)

    @property
    def partial(self) -> PartialShare:
        """This party's share of what is seen, with what it still lacks unless only a part or another shape is seen; secret."""
        if self._window is not None or self._fold:
            return PartialShare(self.share)
        return self.value.partial.transpose() if self.is_transposed else self.value.partial

    @property
    def transpose(self) -> ValueView:
        """The same, transposed; shares the mask."""
        return ValueView(self.value, window=self._window, fold=self._fold, transposed=not self.is_transposed)

    def folded(self, shape: tuple[int, ...]) -> ValueView:
        """Returns the same elements in another shape; shares the mask, unless the view is transposed: then it is a new value."""
        if self.is_transposed:
            seen = np.ascontiguousarray(self.share).reshape(shape)
            return ValueView(SharedValue(seen, scale_bits=self.value.scale_bits, magnitude_bits=self.value.magnitude_bits))
        return ValueView(self.value, window=self._window, fold=shape)

    def opened(self) -> RingArray:
        """The opened difference value - mask through this view; public to the computing parties."""
        return self._see(self._mask().opened)

    def mask_share(self) -> RingArray:
        """This party's share of the mask through this view; secret."""
        return self._see(self._mask().share)

    def reference(self, engine: Engine) -> View:
        """How the plan names the mask through this view."""
        window = self._window
        if window is not None and window is not engine.window and window != engine.window:
            raise ConfideError(ErrorCode.INTERNAL, "a view of another batch's rows")
        masked = self._mask()
        if not self.value.for_session and masked.segment != engine.segments:
            # The dealer has forgotten that mask, and the same id names another one now.
            raise ConfideError(ErrorCode.INTERNAL, "a product of a value that was opened in another segment")
        return (masked.mask_id, int(window is not None), int(self.is_transposed), *self._fold)

    def _mask(self) -> _Masked:
        masked = self.value._masked
        if masked is None:
            raise ConfideError(ErrorCode.INTERNAL, "a product of a value that was not opened masked")
        return masked

    def _shape_seen(self) -> tuple[int, ...]:
        if self._window is not None or self._fold:
            return self._see(self.value._share).shape
        return self.value.shape[::-1] if self.is_transposed else self.value.shape

    def _see(self, array: NDArray[Any]) -> NDArray[Any]:
        seen = array if self._window is None else array[self._window.start : self._window.stop]
        seen = seen.reshape(self._fold) if self._fold else seen
        return seen.T if self.is_transposed else seen
