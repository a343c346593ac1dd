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


@dataclass(frozen=True, repr=False)
class _Masked:
    """The mask of one value: its id, this party's share of it, and the opened difference value - mask."""

    mask_id: int
    share: RingArray
    opened: RingArray


class SharedValue:
    """One secret tensor, held as this party's additive share; it has no text form and cannot be pickled.

    Args:
        share: int64 ring elements, secret.
        scale_bits: fractional bits of the value; public.
        magnitude_bits: the ring element's absolute value is at most 2^magnitude_bits; public.
        for_session: whether its mask serves all later segments (the data matrix) or only the current one.

    Raises:
        ConfideError: INTERNAL (ours) if the magnitude leaves the domain of truncation and comparison.
    """

    __slots__ = ("_for_session", "_magnitude_bits", "_masked", "_scale_bits", "_share")

    def __init__(self, share: RingArray, *, scale_bits: int, magnitude_bits: int, for_session: bool = False) -> None:
        if magnitude_bits > MAX_MAGNITUDE_BITS:
            raise ConfideError(
                ErrorCode.INVALID_MODEL,
                f"a value may reach 2^{magnitude_bits} in the ring, beyond 2^{MAX_MAGNITUDE_BITS}",
                remedy="Use fewer features or smaller batches.",
            )
        self._share = share
        self._scale_bits = scale_bits
        self._magnitude_bits = magnitude_bits
        self._for_session = for_session
        self._masked: _Masked | None = None

    def __repr__(self) -> str:
        return f"SharedValue(shape={self.shape}, scale_bits={self._scale_bits})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("shares are not pickled")

    @property
    def share(self) -> RingArray:
        """This party's share; secret. It must not be sent anywhere unmasked or unrefreshed."""
        return self._share

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape; public."""
        return self._share.shape

    @property
    def scale_bits(self) -> int:
        """Fractional bits; public."""
        return self._scale_bits

    @property
    def magnitude_bits(self) -> int:
        """Log2 of the bound on the ring element; public."""
        return self._magnitude_bits

    @staticmethod
    def open_masked(engine: Engine, values: Iterable[SharedValue]) -> Steps[None]:
        """Opens each value under a fresh mask of its own, all in one round; values that have one already are left alone."""
        fresh = list({id(value): value for value in values if value._masked is None}.values())
        if not fresh:
            return
        made: list[tuple[SharedValue, int, RingArray]] = []
        for value in fresh:
            mask_id = engine.new_mask(for_session=value._for_session)
            mask = engine.deal("mask", mask_id, int(value._for_session), value.shape, result=np.ndarray)
            made.append((value, mask_id, mask))
        opened = yield Opening("operands", tuple(subtract(value._share, mask) for value, _, mask in made))
        for (value, mask_id, mask), difference in zip(made, opened.numbers, strict=True):
            value._masked = _Masked(mask_id, mask, difference)


class ValueView:
    """A shared value seen through linear maps that only move elements: rows of the current batch, then transposition."""

    __slots__ = ("_transposed", "_value", "_window")

    def __init__(self, value: SharedValue, *, window: Window | None = None, transposed: bool = False) -> None:
        self._value = value
        self._window = window
        self._transposed = transposed

    def __repr__(self) -> str:
        return f"ValueView(shape={self.shape}, scale_bits={self._value.scale_bits})"

    @property
    def value(self) -> SharedValue:
        """What is seen."""
        return self._value

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left out or moved."""
        return self._window is None and not self._transposed

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what is seen; public."""
        return self.share.shape

    @property
    def share(self) -> RingArray:
        """This party's share of what is seen; secret."""
        return self._see(self._value.share)

    @property
    def transpose(self) -> ValueView:
        """The same, transposed; shares the mask."""
        return ValueView(self._value, window=self._window, transposed=not self._transposed)

    def opened(self) -> RingArray:
        """The opened difference value - mask through this view; public to the computing parties."""
        return self._see(self._mask().opened)

    def mask_share(self) -> RingArray:
        """This party's share of the mask through this view; secret."""
        return self._see(self._mask().share)

    def reference(self, engine: Engine) -> View:
        """How the plan names the mask through this view."""
        if self._window is not None and self._window != engine.window:
            raise ConfideError(ErrorCode.INTERNAL, "a view of another batch's rows")
        return (self._mask().mask_id, int(self._window is not None), int(self._transposed))

    def _mask(self) -> _Masked:
        masked = self._value._masked
        if masked is None:
            raise ConfideError(ErrorCode.INTERNAL, "a product of a value that was not opened masked")
        return masked

    def _see(self, array: NDArray[Any]) -> NDArray[Any]:
        seen = array if self._window is None else array[self._window.start : self._window.stop]
        return seen.T if self._transposed else seen
