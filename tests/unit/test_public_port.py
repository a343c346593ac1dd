"""How the public port tells links from calls: by the first record, whatever pieces it comes in."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from parties.transport.port import first_record
from tests.support.link_pairs import Running

RECORD = b"\x16\x03\x01" + (300).to_bytes(2, "big") + bytes(300)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def read(endpoint: socket.socket, within_s: float = 10.0) -> bytes:
    return first_record(endpoint, time.monotonic() + within_s)


@pytest.mark.parametrize("size", [1, 4, 299, len(RECORD)])
def test_first_record_is_waited_for_in_whatever_pieces_it_comes(size: int, ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends

    def send() -> None:
        for start in range(0, len(RECORD), size):
            near.sendall(RECORD[start : start + size])

    sending = Running(send)
    assert read(far) == RECORD
    sending.result()


def test_first_record_keeps_what_follows_it(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(RECORD + b"more")
    assert read(ends[1]) == RECORD + b"more"


def test_first_bytes_of_no_tls_are_not_waited_for(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(b"P")
    assert read(ends[1]) == b"P"


def test_record_longer_than_tls_has_is_not_waited_for_beyond_that(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(b"\x16\x03\x01\xff\xff" + bytes(16 << 10))
    assert len(read(ends[1])) == 5 + (16 << 10)


@pytest.mark.parametrize("said", [b"", RECORD[:1], RECORD[:-1]])
def test_caller_that_stops_in_the_middle_is_given_up(said: bytes, ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(said)
    with pytest.raises(TimeoutError):
        read(ends[1], within_s=0.05)
    ends[0].close()
    with pytest.raises(ConnectionResetError):
        read(ends[1])
