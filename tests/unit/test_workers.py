"""What a party makes of its workers' words, above all of wrong ones: the session ends, it never waits for nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from threading import Event
from typing import Any, cast

import pytest

from parties.server.workers import Worker, failure, watch
from parties.worker.channel import Channel, Parcel
from protocols.errors import ConfideError, ErrorCode


class HeardWorker:
    """A worker of which only the channel exists."""

    def __init__(self, endpoint: socket.socket) -> None:
        self._channel = Channel(endpoint)

    take = Worker.take


class Listener:
    """Keeps what `watch` hands on."""

    def __init__(self) -> None:
        self.parcels: list[Parcel] = []
        self.lost: list[ConfideError] = []
        self.ended = Event()

    def on_parcel(self, parcel: Parcel) -> None:
        self.parcels.append(parcel)
        if parcel.header["event"] == "finished":
            self.ended.set()
        if parcel.header["event"] == "progress":
            parcel.header["rounds"] + 0  # as the session does with what it expects

    def on_lost(self, error: ConfideError) -> None:
        self.lost.append(error)
        self.ended.set()


@pytest.fixture
def watched() -> Iterator[tuple[Channel, Listener]]:
    """The worker's end of the channel, and who hears it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        listener = Listener()
        watch(cast(Any, HeardWorker(ours)), on_parcel=listener.on_parcel, on_lost=listener.on_lost)
        yield Channel(theirs), listener


def test_watch_hands_everything_on_until_the_last_word(watched: tuple[Channel, Listener]) -> None:
    channel, listener = watched
    channel.send({"event": "prepared"})
    channel.send({"event": "progress", "rounds": 1})
    channel.send({"event": "finished"}, {"model_share": b"x"})
    assert listener.ended.wait(10)
    assert [parcel.header["event"] for parcel in listener.parcels] == ["prepared", "progress", "finished"]
    assert listener.lost == []


def test_watch_worker_that_ends_without_a_last_word_is_lost(watched: tuple[Channel, Listener]) -> None:
    channel, listener = watched
    channel.send({"event": "prepared"})
    channel.close()
    assert listener.ended.wait(10)
    assert [error.code for error in listener.lost] == [ErrorCode.WORKER_LOST]


@pytest.mark.parametrize("header", [{}, {"event": "progress"}, {"event": "progress", "rounds": None}])
def test_watch_word_that_cannot_be_understood_ends_the_session(
    header: dict[str, object], watched: tuple[Channel, Listener], capsys: pytest.CaptureFixture[str]
) -> None:
    channel, listener = watched
    channel.send(header, {"secret": b"31.337"})
    assert listener.ended.wait(10)
    assert [error.code for error in listener.lost] == [ErrorCode.INTERNAL]
    assert "31.337" not in f"{listener.lost[0]}{capsys.readouterr()}"


def test_failure_keeps_code_text_and_who_is_accused() -> None:
    error = failure(Parcel({"event": "failed", "code": "BAD_FRAME", "text": "x", "accused": "hospital-b"}))
    assert (error.code, error.what, error.party) == (ErrorCode.BAD_FRAME, "x", "hospital-b")


def test_failure_under_an_unknown_code_is_a_defect() -> None:
    assert failure(Parcel({"code": "NO_SUCH", "text": "x", "accused": ""})).code is ErrorCode.INTERNAL
