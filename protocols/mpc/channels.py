"""Links as the engine uses them: numbered messages, rounds of openings, the dealer's corrections.

The operation number of a message is its position in its direction, from 1: both ends count along the plan, so a message that
is lost, repeated or out of order shows. Nobody ever asks for a message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.links import Array, Link, TensorSpec
from protocols.mpc.engine import Opened
from protocols.mpc.timing import Stopwatch
from protocols.ring import BitArray, RingArray, ShortArray

# Of inputs and corrections, which can be cut anywhere. With its header such a message is one frame of 1 MiB, so that its bytes
# are used where they were received.
MAX_MESSAGE_BYTES = (1 << 20) - 128
_ALIGNMENT = 8


class Channel:
    """A link with its message numbers and payload counts."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._sent_messages = 0
        self._received_messages = 0
        self.sent_bytes = 0

    @property
    def peer(self) -> str:
        """Party id of the other end."""
        return self._link.peer

    def send(self, arrays: Sequence[Array]) -> None:
        """Sends the next message of this direction."""
        self._sent_messages += 1
        self.sent_bytes += sum([array.nbytes for array in arrays])
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
        data = np.empty(count, np.uint8)
        start = 0
        for size in _message_sizes(count):
            (data[start : start + size],) = self.receive([TensorSpec("uint8", (size,))])
            start += size
        return data


class Mail(Protocol):
    """Bytes that travel with the messages of rounds (`protocols.mpc.round_mail`)."""

    def aboard(self) -> Array | None:
        """Returns what goes with this party's message of a round, uint8; None for nothing, at all parties alike."""
        ...

    def layout_of(self, peer: str) -> TensorSpec:
        """Returns what comes with a peer's."""
        ...

    def deliver(self, peer: str, array: Array) -> None:
        """Takes what came with a peer's."""
        ...


class Beside(Protocol):
    """What a party does beside the rounds of openings."""

    @property
    def mail(self) -> Mail:
        """What it tells the other computing parties."""
        ...

    def meanwhile(self) -> None:
        """Does a piece of work: this party's message of a round has left, and the others' are not yet here."""
        ...


class LinkExchange:
    """Openings over the channels to the other computing parties.

    Attributes:
        rounds: so far.
        beside: what this party does beside the rounds; None for nothing.
    """

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._channels = tuple(channels)
        self.rounds = 0
        self.beside: Beside | None = None

    def open(self, numbers: Sequence[RingArray | ShortArray], bits: Sequence[BitArray]) -> Opened:
        """Sends this party's masked shares to every other party, receives theirs, and combines."""
        self.rounds += 1
        mine: list[Array] = [np.ascontiguousarray(array) for array in (*numbers, *bits)]
        layout = _layout_of(tuple([(array.dtype, array.shape) for array in mine]))
        aboard = None if self.beside is None else self.beside.mail.aboard()
        for channel in self._channels:
            channel.send(mine if aboard is None else [*mine, aboard])
        if self.beside is not None:
            self.beside.meanwhile()
        total: list[NDArray[Any]] = mine
        for place, channel in enumerate(self._channels):
            if aboard is None or self.beside is None:
                received = channel.receive(layout)
            else:
                *received, brought = channel.receive([*layout, self.beside.mail.layout_of(channel.peer)])
                self.beside.mail.deliver(channel.peer, brought)
            for index, array in enumerate(received):
                combine = np.add if index < len(numbers) else np.bitwise_xor
                # The first sum is a new array: what this party sent must not change.
                total[index] = combine(total[index], array, out=total[index] if place else None)
        return Opened(tuple(total[: len(numbers)]), tuple(total[len(numbers) :]))


class ZeroExchange:
    """The dry run's openings: zeros of the right shape, sent nowhere."""

    def open(self, numbers: Sequence[RingArray | ShortArray], bits: Sequence[BitArray]) -> Opened:
        """Returns zeros."""
        return Opened(
            tuple(np.broadcast_to(np.zeros((), array.dtype), array.shape) for array in numbers),
            tuple(np.broadcast_to(np.uint8(0), array.shape) for array in bits),
        )


class CorrectionReader:
    """The dealer's corrections at the last computing party, run by run of the plan.

    A message is received when its first byte is taken and given up when its last one is, so a run may need more than fits into
    memory. Who reads the link ahead of this (`parties.worker.link`) spares it the wait.
    """

    def __init__(self, channel: Channel, stopwatch: Stopwatch | None = None) -> None:
        """Takes the channel to the dealer, and what counts the time that is waited for it, if anything does."""
        self._channel = channel
        self._stopwatch = stopwatch
        self._sizes: Iterator[int] = iter(())
        self._left = 0
        self._message = np.empty(0, np.uint8)
        self._position = 0

    def begin_run(self, count: int) -> None:
        """Starts a run of a segment that takes `count` bytes.

        Raises:
            ConfideError: INTERNAL (ours) if the run before left some.
        """
        self.end_run()
        self._sizes = _message_sizes(count)
        self._left = count

    def end_run(self) -> None:
        """Checks that the run took everything.

        Raises:
            ConfideError: INTERNAL (ours) if not.
        """
        if self._left:
            raise ConfideError(ErrorCode.INTERNAL, "a run of the plan left corrections over")

    def fetch_all(self) -> None:
        """Waits until everything that the run has not taken yet is here: what follows it then never waits for the dealer."""
        rest = np.empty(self._left, np.uint8)
        self._fill(rest)
        self._message, self._position = rest, 0

    def take(self, count: int) -> NDArray[np.uint8]:
        """Returns the next bytes, aligned to 8; they may be read-only.

        Raises:
            ConfideError: INTERNAL (ours) if the run has not so many; what the link raises.
        """
        if count > self._left:
            raise ConfideError(ErrorCode.INTERNAL, "a run of the plan takes more corrections than it says")
        self._left -= count
        if self._position == self._message.size and count:
            self._receive()
        end = self._position + count
        if end <= self._message.size and self._position % _ALIGNMENT == 0:
            piece = self._message[self._position : end]
            self._position = end
            return piece
        piece = np.empty(count, np.uint8)
        self._fill(piece)
        return piece

    def _fill(self, into: NDArray[np.uint8]) -> None:
        filled = 0
        while filled < into.size:
            if self._position == self._message.size:
                self._receive()
            part = self._message[self._position : self._position + into.size - filled]
            into[filled : filled + part.size] = part
            filled += part.size
            self._position += part.size

    def _receive(self) -> None:
        layout = [TensorSpec("uint8", (next(self._sizes),))]
        with nullcontext() if self._stopwatch is None else self._stopwatch.waiting_for_dealer():
            (self._message,) = self._channel.receive(layout)
        self._position = 0


class CorrectionWriter:
    """The dealer's end: gathers corrections and sends them in full messages, the rest at the end of each run."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._message = np.empty(MAX_MESSAGE_BYTES, np.uint8)
        self._size = 0
        self._elsewhere: NDArray[np.uint8] | None = None

    def room(self, count: int) -> NDArray[np.uint8]:
        """Returns the place of the next `count` bytes, aligned to 8, to be filled before more is asked for or the run ends.

        Almost always it is in the message itself, so that nothing is copied.
        """
        self._gather()
        end = self._size + count
        if end <= MAX_MESSAGE_BYTES and self._size % _ALIGNMENT == 0:
            place = self._message[self._size : end]
            self._size = end
            return place
        self._elsewhere = np.empty(count, np.uint8)
        return self._elsewhere

    def end_run(self) -> None:
        """Sends what is left of the run."""
        self._gather()
        if self._size:
            self._send()

    def _gather(self) -> None:
        """Copies what was filled elsewhere, and sends every message that is full."""
        data, self._elsewhere = self._elsewhere, None
        start = 0
        while data is not None and start < data.size:
            if self._size == MAX_MESSAGE_BYTES:
                self._send()
            part = data[start : start + MAX_MESSAGE_BYTES - self._size]
            self._message[self._size : self._size + part.size] = part
            self._size += part.size
            start += part.size
        if self._size == MAX_MESSAGE_BYTES:
            self._send()

    def _send(self) -> None:
        self._channel.send([self._message[: self._size]])
        self._size = 0


@lru_cache(maxsize=4096)
def _layout_of(form: tuple[tuple[np.dtype[Any], tuple[int, ...]], ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(dtype.name, shape) for dtype, shape in form)


def _message_sizes(count: int) -> Iterator[int]:
    for start in range(0, count, MAX_MESSAGE_BYTES):
        yield min(MAX_MESSAGE_BYTES, count - start)
