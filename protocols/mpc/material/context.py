"""What a kind of correlated randomness is written against.

A kind is a function of a `Material`. It asks for *uniform* values, which all computing parties expand from their own
stream, and for *derived* values, given as a function of the plaintexts: all computing parties but the last expand their
share, and the dealer sends the last one a correction that makes the shares add up. The same function runs

    at a computing party   on shares              (`ShareMaterial`)
    at the dealer          on plaintexts          (`DealerMaterial`)
    in the dry run         on zeros, shapes only  (`ShapeMaterial`)

so the three cannot drift apart. Learns: a party its shares, uniform and independent of everything; the dealer every mask,
but no value, since it never sees an opening.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.prg import ByteSource
from protocols.ring import BitArray, RingArray, highest
from protocols.sharing import combine_bits, draw

Shape = tuple[int, ...]
Kept = tuple[int, ...]
RING = "int64"
SHORT = "uint32"  # of masks that hide the highest 32 bits of a number


@dataclass(frozen=True)
class Window:
    """The rows of the current batch: `start` to before `stop`; public."""

    start: int
    stop: int


class Material(ABC):
    """Where a kind of correlated randomness gets its values from."""

    def __init__(self) -> None:
        self.window: Window | None = None

    @abstractmethod
    def uniform(self, shape: Shape, dtype: str = RING) -> NDArray[Any]:
        """Returns uniform ring elements, or numbers modulo 2^w of an unsigned type of w bits, shared additively."""

    @abstractmethod
    def uniform_bits(self, shape: Shape) -> BitArray:
        """Returns uniform bytes of packed bits, shared by exclusive-or."""

    @abstractmethod
    def own_bits(self, count: int) -> BitArray:
        """Returns `count` uniform bytes of packed bits that each computing party knows alone: its own, or at the dealer all.

        Returns:
            (count,) at a party, (parties, count) at the dealer.
        """

    @abstractmethod
    def derived(self, compute: Callable[[], NDArray[Any]], shape: Shape, dtype: str = RING) -> NDArray[Any]:
        """Returns numbers that follow from others, shared additively; `compute` runs on plaintexts, at the dealer alone.

        Args:
            compute: gives the plaintexts.
            shape: of the numbers.
            dtype: "int64" for ring elements, or an unsigned type of w bits for numbers that only matter modulo 2^w.
        """

    @abstractmethod
    def derived_bits(self, compute: Callable[[], NDArray[Any]], shape: Shape, dtype: str) -> NDArray[Any]:
        """Returns bits that follow from others, in unsigned integers of `dtype`, shared by exclusive-or."""

    def begin_segment(self, window: Window | None) -> None:
        """Starts a segment of the plan; masks that belong to a segment end with it."""
        self.window = window

    def remember(self, mask_id: int, value: RingArray, *, for_session: bool) -> None:
        """Keeps the plaintext of a mask for the products that use it; only the dealer has one to keep."""
        return

    def keep(self, kept_id: int, compute: Callable[[], RingArray]) -> None:
        """Keeps a product of masks that no party has a share of yet; only the dealer computes it."""
        return

    def lacking(self, kept: Kept) -> RingArray:
        """Returns the sum of multiples of what is kept; only the dealer has it.

        Args:
            kept: of each product its id, 1 if it is to be subtracted plus 2 if transposed, and its multiplier; flat.
        """
        raise ConfideError(ErrorCode.INTERNAL, "a product of masks is known to the dealer alone")

    def less(self, values: NDArray[Any], kept: Kept) -> NDArray[Any]:
        """Returns values less multiples of what is kept; only the dealer knows that, a party's share stays as it is.

        Args:
            values: uniform, and changed by this; of numbers of 32 bits the highest 32 bits of the multiples' sum are taken.
            kept: as for `lacking`.
        """
        return values

    def recall(self, mask_id: int) -> RingArray:
        """Returns the plaintext of a mask."""
        raise ConfideError(ErrorCode.INTERNAL, f"mask {mask_id} is known to the dealer alone")


class CorrectionSource(Protocol):
    """Where the last computing party reads the dealer's corrections from, in plan order."""

    def take(self, count: int) -> NDArray[np.uint8]:
        """Returns the next `count` bytes."""
        ...


class CorrectionSink(Protocol):
    """Where the dealer puts the corrections, in plan order."""

    def room(self, count: int) -> NDArray[np.uint8]:
        """Returns the place of the next `count` bytes, for the dealer to fill before it asks for more."""
        ...


class ShareMaterial(Material):
    """A computing party's shares.

    Args:
        stream: this party's stream shared with the dealer.
        corrections: only at the last computing party.
    """

    def __init__(self, stream: ByteSource, corrections: CorrectionSource | None) -> None:
        super().__init__()
        self._stream = stream
        self._derived: CorrectionSource = stream if corrections is None else corrections

    def uniform(self, shape: Shape, dtype: str = RING) -> NDArray[Any]:
        """Expands this party's share."""
        return draw(self._stream, shape, dtype)

    def uniform_bits(self, shape: Shape) -> BitArray:
        """Expands this party's share."""
        return self._stream.take(_size(shape)).reshape(shape)

    def own_bits(self, count: int) -> BitArray:
        """Expands this party's bits."""
        return self._stream.take(count)

    def derived(self, compute: Callable[[], NDArray[Any]], shape: Shape, dtype: str = RING) -> NDArray[Any]:
        """Expands this party's share, or reads the correction."""
        return self.derived_bits(compute, shape, dtype)

    def derived_bits(self, compute: Callable[[], NDArray[Any]], shape: Shape, dtype: str) -> NDArray[Any]:
        """Expands this party's share, or reads the correction."""
        return self._derived.take(np.dtype(dtype).itemsize * _size(shape)).view(dtype).reshape(shape)


class ShapeMaterial(Material):
    """Zeros of the right shape, and a count of the correction bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.correction_bytes = 0

    def uniform(self, shape: Shape, dtype: str = RING) -> NDArray[Any]:
        """Zeros; takes no memory."""
        return np.broadcast_to(np.zeros((), dtype), shape)

    def uniform_bits(self, shape: Shape) -> BitArray:
        """Zeros; takes no memory."""
        return np.broadcast_to(np.uint8(0), shape)

    def own_bits(self, count: int) -> BitArray:
        """Zeros; takes no memory."""
        return self.uniform_bits((count,))

    def derived(self, compute: Callable[[], NDArray[Any]], shape: Shape, dtype: str = RING) -> NDArray[Any]:
        """Zeros; counts the correction."""
        return self.derived_bits(compute, shape, dtype)

    def derived_bits(self, compute: Callable[[], NDArray[Any]], shape: Shape, dtype: str) -> NDArray[Any]:
        """Zeros; counts the correction."""
        self.correction_bytes += np.dtype(dtype).itemsize * _size(shape)
        return np.broadcast_to(np.zeros((), dtype), shape)


class DealerMaterial(Material):
    """The plaintexts, at the dealer.

    Args:
        streams: the dealt streams of all computing parties, in order.
        sink: takes the corrections for the last computing party.
    """

    def __init__(self, streams: Sequence[ByteSource], sink: CorrectionSink) -> None:
        super().__init__()
        self._streams = tuple(streams)
        self._sink = sink
        self._session_masks: dict[int, RingArray] = {}
        self._segment_masks: dict[int, RingArray] = {}

    def begin_segment(self, window: Window | None) -> None:
        """Forgets the masks of the segment before."""
        super().begin_segment(window)
        self._segment_masks.clear()

    def remember(self, mask_id: int, value: RingArray, *, for_session: bool) -> None:
        """Keeps a mask; a mask has one value, so an id is used once."""
        if mask_id in self._session_masks or mask_id in self._segment_masks:
            raise ConfideError(ErrorCode.INTERNAL, f"the plan assigns mask {mask_id} twice")
        (self._session_masks if for_session else self._segment_masks)[mask_id] = value

    def recall(self, mask_id: int) -> RingArray:
        """Returns a mask of this segment or of the session."""
        value = self._segment_masks.get(mask_id, self._session_masks.get(mask_id))
        if value is None:
            raise ConfideError(ErrorCode.INTERNAL, f"the plan uses mask {mask_id} before it exists")
        return value

    def keep(self, kept_id: int, compute: Callable[[], RingArray]) -> None:
        """Computes the product and keeps it for this segment."""
        self.remember(kept_id, compute(), for_session=False)

    def lacking(self, kept: Kept) -> RingArray:
        """Adds up."""
        return reduce(np.add, [self._multiple(*kept[place : place + 3]) for place in range(0, len(kept), 3)])

    def less(self, values: NDArray[Any], kept: Kept) -> NDArray[Any]:
        """Subtracts."""
        if not kept:
            return values
        total = self.lacking(kept)
        values -= total if values.dtype == total.dtype else highest(total)
        return values

    def _multiple(self, kept_id: int, flags: int, multiplier: int) -> RingArray:
        product = self.recall(kept_id).T if flags & 2 else self.recall(kept_id)
        signed = -multiplier if flags & 1 else multiplier
        return product if signed == 1 else np.int64(signed) * product

    def uniform(self, shape: Shape, dtype: str = RING) -> NDArray[Any]:
        """The sum of all parties' shares."""
        total, *others = (draw(stream, shape, dtype) for stream in self._streams)
        for other in others:
            total += other
        return total

    def uniform_bits(self, shape: Shape) -> BitArray:
        """The exclusive-or of all parties' shares."""
        return combine_bits([stream.take(_size(shape)).reshape(shape) for stream in self._streams])

    def own_bits(self, count: int) -> BitArray:
        """The bits of every party."""
        return np.stack([stream.take(count) for stream in self._streams])

    def derived(self, compute: Callable[[], NDArray[Any]], shape: Shape, dtype: str = RING) -> NDArray[Any]:
        """Computes the value and sends what the last party's share must be."""
        value = _checked(compute(), shape).astype(dtype, copy=False)
        size = np.dtype(dtype).itemsize * _size(shape)
        first, *others = [stream.take(size).view(dtype) for stream in self._streams[:-1]]
        correction = np.subtract(value.reshape(-1), first, out=self._sink.room(size).view(dtype))
        for other in others:
            correction -= other
        return value

    def derived_bits(self, compute: Callable[[], NDArray[Any]], shape: Shape, dtype: str) -> NDArray[Any]:
        """Computes the bits and sends what the last party's share must be."""
        value = _checked(compute(), shape)
        size = np.dtype(dtype).itemsize * _size(shape)
        first, *others = [stream.take(size).view(dtype) for stream in self._streams[:-1]]
        bits = value.astype(dtype, copy=False).reshape(-1)
        correction = np.bitwise_xor(bits, first, out=self._sink.room(size).view(dtype))
        for other in others:
            correction ^= other
        return value


def _size(shape: Shape) -> int:
    return math.prod(shape)


def _checked(values: NDArray[Any], shape: Shape) -> NDArray[Any]:
    if values.shape != shape:
        raise ConfideError(ErrorCode.INTERNAL, f"material of shape {values.shape} where the plan says {shape}")
    return values
