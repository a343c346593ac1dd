"""Two workers' ends of one link over a local socket pair, and a peer that writes whatever it likes."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

from parties.transport.frames import FrameKind, Header, encode_header
from parties.transport.tags import TAG_BYTES, opening_key
from parties.worker.link import WorkerLink
from protocols.links import TensorSpec

SESSION = bytes.fromhex("00112233445566778899aabbccddeeff")
ATTEMPT = 1


def a_link(endpoint: socket.socket, *, peer: str = "hospital-b", session: bytes = SESSION, attempt: int = ATTEMPT) -> WorkerLink:
    return WorkerLink(endpoint, peer=peer, session=session, attempt=attempt)


@contextmanager
def two_links() -> Iterator[tuple[WorkerLink, WorkerLink]]:
    """The ends of hospital-a (whose peer is hospital-b) and of hospital-b."""
    left, right = socket.socketpair()
    with left, right:
        yield a_link(left, peer="hospital-b"), a_link(right, peer="hospital-a")


@contextmanager
def a_link_and_raw_peer() -> Iterator[tuple[WorkerLink, socket.socket]]:
    """One link, and the bare socket of the peer that it knows as hospital-b."""
    left, right = socket.socketpair()
    with left, right:
        yield a_link(left), right


def a_header(**changes: object) -> Header:
    """The header of the first frame of a message of three int64 in operation 1."""
    fields: dict[str, object] = {
        "kind": FrameKind.DATA,
        "session": SESSION,
        "attempt": ATTEMPT,
        "sequence": 0,
        "operation": 1,
        "offset": 0,
        "total": 24,
        "layout": (TensorSpec("int64", (3,)),),
    }
    return Header(**(fields | changes))  # type: ignore[arg-type]  # tests name the fields


def framed(frame: bytes) -> bytes:
    """What stands on the local socket for a frame."""
    return struct.pack("<I", len(frame)) + frame


def tagged(frame: bytes, sequence: int = 0) -> bytes:
    """A frame with the tag that anybody can make before a pair has keys."""
    return frame + opening_key(SESSION, ATTEMPT).tag(sequence, frame)


def a_frame(body: bytes = bytes(24), **changes: object) -> bytes:
    """What a hostile peer, who knows how tags are made, puts on the local socket."""
    header = a_header(**changes)
    return framed(tagged(encode_header(header) + body, header.sequence))


def read_frames(endpoint: socket.socket) -> list[bytes]:
    """Every whole frame that waits at a bare socket, without its tag."""
    endpoint.setblocking(False)
    data = b""
    try:
        while part := endpoint.recv(1 << 20):
            data += part
    except BlockingIOError:
        pass
    endpoint.setblocking(True)
    frames = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        frames.append(data[4 : 4 + length - TAG_BYTES])
        data = data[4 + length :]
    return frames


class Running(Thread):
    """A function on a thread of its own; `result` waits for what it returns or raises."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._result: object = None
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._work()
        except Exception as error:
            self._error = error

    def result(self, timeout_s: float = 10.0) -> object:
        self.join(timeout_s)
        if self.is_alive():
            raise TimeoutError("the thread has not ended")
        if self._error is not None:
            raise self._error
        return self._result

    def failure(self, timeout_s: float = 10.0) -> Exception | None:
        self.join(timeout_s)
        if self.is_alive():
            raise TimeoutError("the thread has not ended")
        return self._error
