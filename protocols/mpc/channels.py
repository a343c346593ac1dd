"""Links as the engine uses them: numbered messages, rounds of openings, the dealer's corrections.

The operation number of a message is its position in its direction, from 1: both ends count along the plan, so a message that
is lost, repeated or out of order shows. Nobody ever asks for a message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.links import Array, Link, TensorSpec
from protocols.mpc.engine import Opened
from protocols.ring import BitArray, RingArray

MAX_MESSAGE_BYTES = 1 << 22  # of inputs and corrections, which can be cut anywhere


class Channel:
    """A link with its message numbers and payload counts."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._sent_messages = 0
        self._received_messages = 0
        self.sent_bytes = 0

    def send(self, arrays: Sequence[Array]) -> None:
        """Sends the next message of this direction."""
        self._sent_messages += 1
        self.sent_bytes += sum(array.nbytes for array in arrays)
        self._link.send(self._sent_messages, arrays)

    def receive(self, layout: Sequence[TensorSpec]) -> list[Array]:
        """Receives the next message of the other direction."""
        self._received_messages += 1
        return self._link.receive(self._received_messages, layout)

    def send_bytes(self, data: NDArray[np.uint8]) -> None:
        """Sends a long run of bytes in messages of at most `MAX_MESSAGE_BYTES`."""
        start = 0
        for size in _message_sizes(data.size):
            self.send([data[start : start + size]])
            start += size

    def receive_bytes(self, count: int) -> NDArray[np.uint8]:
        """Receives a long run of bytes."""
        pieces = [self.receive([TensorSpec("uint8", (size,))])[0] for size in _message_sizes(count)]
        return np.concatenate(pieces) if pieces else np.empty(0, np.uint8)


class LinkExchange:
    """Openings over the channels to the other computing parties."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._channels = tuple(channels)
        self.rounds = 0

    def open(self, numbers: Sequence[RingArray], bits: Sequence[BitArray]) -> Opened:
        """Sends this party's masked shares to every other party, receives theirs, and combines."""
        self.rounds += 1
        mine: list[Array] = [np.ascontiguousarray(array) for array in (*numbers, *bits)]
        layout = [TensorSpec(array.dtype.name, array.shape) for array in mine]
        for channel in self._channels:
            channel.send(mine)
        total: list[NDArray[Any]] = [array.copy() for array in mine]
        for channel in self._channels:
            for index, array in enumerate(channel.receive(layout)):
                if index < len(numbers):
                    total[index] += array
                else:
                    total[index] ^= array
        return Opened(tuple(total[: len(numbers)]), tuple(total[len(numbers) :]))


class ZeroExchange:
    """The dry run's openings: zeros of the right shape, sent nowhere."""

    def open(self, numbers: Sequence[RingArray], bits: Sequence[BitArray]) -> Opened:
        """Returns zeros."""
        return Opened(
            tuple(np.broadcast_to(np.int64(0), array.shape) for array in numbers),
            tuple(np.broadcast_to(np.uint8(0), array.shape) for array in bits),
        )


class CorrectionReader:
    """The dealer's corrections at the last computing party, received run by run of the plan."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._buffer = np.empty(0, np.uint8)
        self._position = 0

    def begin_run(self, count: int) -> None:
        """Receives the corrections of the next run of a segment.

        Raises:
            ConfideError: INTERNAL (ours) if the run before left some, or what the link raises.
        """
        if self._position != self._buffer.size:
            raise ConfideError(ErrorCode.INTERNAL, "a run of the plan left corrections over")
        self._buffer = self._channel.receive_bytes(count)
        self._position = 0

    def take(self, count: int) -> NDArray[np.uint8]:
        """Returns the next bytes, aligned."""
        end = self._position + count
        if end > self._buffer.size:
            raise ConfideError(ErrorCode.INTERNAL, "a run of the plan takes more corrections than it says")
        piece = self._buffer[self._position : end].copy()
        self._position = end
        return piece


class CorrectionWriter:
    """The dealer's end: gathers corrections and sends them in full messages, the rest at the end of each run."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._pieces: list[NDArray[np.uint8]] = []
        self._size = 0

    def put(self, data: NDArray[np.uint8]) -> None:
        """Appends bytes."""
        self._pieces.append(data)
        self._size += data.size
        if self._size >= MAX_MESSAGE_BYTES:
            gathered = np.concatenate(self._pieces)
            whole = gathered.size - gathered.size % MAX_MESSAGE_BYTES
            self._channel.send_bytes(gathered[:whole])
            self._pieces = [gathered[whole:]]
            self._size = gathered.size - whole

    def end_run(self) -> None:
        """Sends what is left of the run."""
        if self._size:
            self._channel.send_bytes(np.concatenate(self._pieces))
        self._pieces = []
        self._size = 0


def _message_sizes(count: int) -> Iterator[int]:
    for start in range(0, count, MAX_MESSAGE_BYTES):
        yield min(MAX_MESSAGE_BYTES, count - start)
