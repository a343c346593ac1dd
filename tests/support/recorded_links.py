"""One conversation of two workers as it stood on their sockets, and a worker that hears it again, altered or not."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread, current_thread

import numpy as np
import pytest

from parties.worker import handshake
from parties.worker.handshake import shake_hands
from protocols.errors import ConfideError
from protocols.links import TensorSpec
from tests.support.link_pairs import ATTEMPT, SESSION, a_link, framed

FIRST, SECOND = "hospital-a", "hospital-b"
PAIR = (FIRST, SECOND)
JOB, PLAN = "a" * 64, "b" * 64

Messages = Sequence[Sequence[np.ndarray]]


@dataclass(frozen=True)
class Conversation:
    """What each party sent, frame by frame, what it drew, and the messages that it was to receive."""

    frames: dict[str, list[bytes]]
    drawn: dict[str, list[bytes]]
    messages: Messages
    session: bytes
    attempt: int

    def hear(self, listener: str, frames: Sequence[bytes], patch: pytest.MonkeyPatch) -> list[list[np.ndarray]]:
        """Lets a party that draws the same again hear these frames; returns the messages that it accepted.

        Raises:
            Refused: what it found, and which messages it had accepted before.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs:
            draws = iter(self.drawn[listener])
            patch.setattr(handshake.os, "urandom", lambda count: next(draws, bytes(count)))
            data = b"".join(framed(frame) for frame in frames)
            if len(data) <= 1 << 16:
                _write(theirs, data)
            else:
                Thread(target=_write, args=(theirs, data), daemon=True).start()
            accepted: list[list[np.ndarray]] = []
            try:
                self._listen(listener, ours, accepted)
            except ConfideError as error:
                raise Refused(error, accepted) from error
            return accepted

    def _listen(self, listener: str, endpoint: socket.socket, accepted: list[list[np.ndarray]]) -> None:
        (peer,) = set(PAIR) - {listener}
        link = a_link(endpoint, peer=peer, session=self.session, attempt=self.attempt)
        shake_hands(party=listener, participants=PAIR, links={peer: link}, job_digest=JOB, plan_digest=PLAN)
        for operation, arrays in enumerate(self.messages, start=1):
            accepted.append(link.receive(operation, [TensorSpec(array.dtype.name, array.shape) for array in arrays]))


class Refused(Exception):
    """A listener gave up: why, and what it had accepted before."""

    def __init__(self, error: ConfideError, accepted: list[list[np.ndarray]]) -> None:
        super().__init__(str(error))
        self.error = error
        self.accepted = accepted


def record(
    messages: Messages, patch: pytest.MonkeyPatch, *, session: bytes = SESSION, attempt: int = ATTEMPT, seed: int = 0
) -> Conversation:
    """Lets both workers greet each other and send every message, with heartbeats between, and writes all frames down."""
    drawn: dict[str, list[bytes]] = {party: [] for party in PAIR}
    heard: dict[str, bytearray] = {party: bytearray() for party in PAIR}

    def draw(count: int) -> bytes:
        party = current_thread().name
        value = bytes([seed, PAIR.index(party), len(drawn[party])]).ljust(count, b"\x5c")
        drawn[party].append(value)
        return value

    patch.setattr(handshake.os, "urandom", draw)
    with tapped(heard) as endpoints:

        def speak(party: str, peer: str) -> None:
            link = a_link(endpoints[party], peer=peer, session=session, attempt=attempt)
            link.heartbeat()
            shake_hands(party=party, participants=PAIR, links={peer: link}, job_digest=JOB, plan_digest=PLAN)
            for operation, arrays in enumerate(messages, start=1):
                link.heartbeat()
                link.send(operation, arrays)
                link.receive(operation, [TensorSpec(array.dtype.name, array.shape) for array in arrays])
            link.close()

        speaking = [Thread(target=speak, args=pair, name=pair[0]) for pair in (PAIR, PAIR[::-1])]
        for thread in speaking:
            thread.start()
        for thread in speaking:
            thread.join(30)
    return Conversation({party: split_frames(bytes(heard[party])) for party in PAIR}, drawn, messages, session, attempt)


@contextmanager
def tapped(heard: dict[str, bytearray]) -> Iterator[dict[str, socket.socket]]:
    """A socket for each party; what it writes is kept and handed to the other."""
    outer: dict[str, socket.socket] = {}
    inner: dict[str, socket.socket] = {}
    for party in PAIR:
        outer[party], inner[party] = socket.socketpair()
    pumps = [Thread(target=_pump, args=(inner[one], inner[other], heard[one].extend)) for one, other in (PAIR, PAIR[::-1])]
    for pump in pumps:
        pump.start()
    try:
        yield outer
    finally:
        for pump in pumps:
            pump.join(30)
        for end in (*outer.values(), *inner.values()):
            end.close()


def _pump(source: socket.socket, sink: socket.socket, keep: Callable[[bytes], None]) -> None:
    while data := _received(source):
        keep(data)
        with suppress(OSError):  # the other party is through; what comes is still kept
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(1 << 16)
    except ConnectionResetError:  # it ended without having read everything; what it sent before still stands here
        return source.recv(1 << 16)


def split_frames(data: bytes) -> list[bytes]:
    """The whole frames, with their tags, of what stood on a socket."""
    frames = []
    while data:
        length = int.from_bytes(data[:4], "little")
        frames.append(data[4 : 4 + length])
        data = data[4 + length :]
    return frames


def _write(endpoint: socket.socket, data: bytes) -> None:
    try:
        endpoint.sendall(data)
        endpoint.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the listener has given up
