"""The local channel between a party process and its worker."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator

import pytest

from parties.worker.channel import MAX_BLOB_BYTES, MAX_HEADER_BYTES, Channel, ChannelClosed, Parcel
from tests.support.link_pairs import Running


@pytest.fixture
def pair() -> Iterator[tuple[Channel, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield Channel(left), right


def header_bytes(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text


def test_parcel_header_and_blobs_arrive_as_sent(pair: tuple[Channel, socket.socket]) -> None:
    ours, theirs = pair[0], Channel(pair[1])
    ours.send({"event": "finished", "steps": 3}, {"share": b"\x00\xff", "empty": b"", "rows/0": b"x" * 10})
    ours.send({"event": "more"})
    parcel = theirs.receive()
    assert parcel.header == {"event": "finished", "steps": 3}
    assert parcel.blobs == {"share": b"\x00\xff", "empty": b"", "rows/0": b"x" * 10}
    assert theirs.receive() == Parcel({"event": "more"}, {})


def test_parcel_larger_than_the_socket_holds_arrives_whole(pair: tuple[Channel, socket.socket]) -> None:
    ours, theirs = pair[0], Channel(pair[1])
    blob = bytes(range(256)) * (1 << 14)
    sending = Running(lambda: ours.send({"event": "finished"}, {"share": blob}))
    assert theirs.receive().blobs["share"] == blob
    sending.result()


def test_parcels_of_several_threads_are_not_mixed(pair: tuple[Channel, socket.socket]) -> None:
    ours, theirs = pair[0], Channel(pair[1])

    def send(number: int) -> None:
        for _ in range(20):
            ours.send({"from": number}, {"blob": bytes([number]) * 5_000})

    senders = [Running(lambda number=number: send(number)) for number in range(4)]  # type: ignore[misc]  # bound per sender
    for _ in range(80):
        parcel = theirs.receive()
        assert parcel.blobs["blob"] == bytes([parcel.header["from"]]) * 5_000
    for sender in senders:
        sender.result()


def test_parcel_shows_no_blob() -> None:
    assert "s3cret" not in repr(Parcel({"event": "x"}, {"share": b"s3cret"}))


@pytest.mark.parametrize("sent", [b"", b"\x02", header_bytes(b"{}")[:5], header_bytes(b'{"blobs": [["a", 4]]}') + b"xyz"])
def test_receive_other_end_that_ends_anywhere_is_closed(sent: bytes, pair: tuple[Channel, socket.socket]) -> None:
    channel, other = pair
    other.sendall(sent)
    other.close()
    with pytest.raises(ChannelClosed):
        channel.receive()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b"[" * 100_000,
        b'{"blobs": 1}',
        b'{"blobs": [1]}',
        b'{"blobs": [["a"]]}',
        b'{"blobs": [["a", -1]]}',
        b'{"blobs": [["a", 1.5]]}',
        b'{"blobs": [["a", true]]}',
        b'{"blobs": [["a", "1"]]}',
        b'{"blobs": [[["a"], 1]]}',
        b'{"blobs": [["a", 1], ["a", 1]]}',
        json.dumps({"blobs": [["a", MAX_BLOB_BYTES + 1]]}).encode(),
        b'{"blobs": [["a", 1' + b"0" * 5_000 + b"]]}",
    ],
)
def test_receive_what_is_no_parcel_is_closed_and_nothing_else(text: bytes, pair: tuple[Channel, socket.socket]) -> None:
    channel, other = pair
    sending = Running(lambda: other.sendall(header_bytes(text) + b"xx"))
    with pytest.raises(ChannelClosed):
        channel.receive()
    sending.result()


def test_receive_header_above_its_limit_is_closed_before_it_is_read(pair: tuple[Channel, socket.socket]) -> None:
    channel, other = pair
    other.sendall(struct.pack("<I", MAX_HEADER_BYTES + 1))
    with pytest.raises(ChannelClosed):
        channel.receive()


def test_send_to_an_end_that_is_gone_is_closed(pair: tuple[Channel, socket.socket]) -> None:
    channel, other = pair
    other.close()
    with pytest.raises(ChannelClosed):
        channel.send({"event": "prepared"}, {"blob": bytes(100)})


def test_close_wakes_whoever_waits_and_may_be_repeated(pair: tuple[Channel, socket.socket]) -> None:
    channel, other = pair
    waiting = Running(channel.receive)
    channel.close()
    channel.close()
    assert isinstance(waiting.failure(), ChannelClosed)
    assert other.recv(1) == b""


def test_receive_more_than_the_caller_takes_is_closed_before_it_is_held(pair: tuple[Channel, socket.socket]) -> None:
    channel, other = pair
    other.sendall(header_bytes(b'{"blobs": [["a", 3], ["b", 3]]}'))  # and the blobs would follow
    with pytest.raises(ChannelClosed):
        channel.receive(max_blob_bytes=5)


def test_receive_header_above_what_the_caller_takes_is_closed(pair: tuple[Channel, socket.socket]) -> None:
    channel, other = pair
    other.sendall(header_bytes(b'{"blobs": [], "text": "a long one"}'))
    with pytest.raises(ChannelClosed):
        channel.receive(max_header_bytes=20)
