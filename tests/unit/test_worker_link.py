"""A worker's end of a link: what arrives is what the plan expects, or a failure that names the peer."""

from __future__ import annotations

import gc
import re
import socket
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from parties.transport.frames import HEADER_BYTES, MAX_FRAME_BYTES, FrameKind, decode, encode_layout
from parties.transport.tags import TAG_BYTES
from parties.worker import link as link_module
from parties.worker.link import WorkerLink
from protocols.errors import ConfideError, ErrorCode
from protocols.links import TensorSpec
from tests.support.link_pairs import (
    Running,
    a_frame,
    a_link,
    a_link_and_raw_peer,
    framed,
    read_frames,
    tagged,
    two_links,
)

THREE = [TensorSpec("int64", (3,))]
HEARTBEAT = {"kind": FrameKind.HEARTBEAT, "operation": 0, "total": 0, "layout": ()}


def spec(array: np.ndarray) -> TensorSpec:
    return TensorSpec(array.dtype.name, array.shape)


def refusal(link: WorkerLink, *, operation: int = 1, layout: list[TensorSpec] = THREE) -> ConfideError:
    with pytest.raises(ConfideError) as caught:
        link.receive(operation, layout)
    assert caught.value.party == "hospital-b"
    return caught.value


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4), (2, 1, 3, 2)])
def test_message_every_type_and_shape_arrives_as_sent(dtype: str, shape: tuple[int, ...]) -> None:
    limits = np.iinfo(dtype)
    array = np.random.default_rng(1).integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    array = np.asarray(array, dtype)
    with two_links() as (ours, theirs):
        ours.send(1, [array])
        (received,) = theirs.receive(1, [spec(array)])
    assert (received.dtype, received.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(received, array)
    assert not received.flags.writeable


def test_message_of_several_arrays_arrives_in_order_whatever_their_alignment() -> None:
    arrays = [np.arange(3, dtype=np.uint8), np.array([-(2**63), 2**63 - 1]), np.array([[1, 65535]], np.uint16)]
    with two_links() as (ours, theirs):
        ours.send(5, arrays)
        received = theirs.receive(5, [spec(array) for array in arrays])
    for sent, found in zip(arrays, received, strict=True):
        np.testing.assert_array_equal(found, sent)


def test_message_of_a_strided_view_arrives_as_seen() -> None:
    array = np.arange(24).reshape(4, 6)[::2, 1::2]
    with two_links() as (ours, theirs):
        ours.send(1, [array])
        np.testing.assert_array_equal(theirs.receive(1, [spec(array)])[0], array)


def test_message_without_arrays_arrives() -> None:
    with two_links() as (ours, theirs):
        ours.send(1, [])
        assert theirs.receive(1, []) == []
    assert (ours.payload_bytes, ours.frame_bytes) == (0, HEADER_BYTES + TAG_BYTES)


def test_message_of_five_mebibytes_arrives_in_frames_below_the_limit() -> None:
    array = np.random.default_rng(2).integers(-(2**63), 2**63 - 1, (5 << 20) // 8, dtype=np.int64)
    header_bytes = HEADER_BYTES + len(encode_layout([spec(array)])) + TAG_BYTES
    with two_links() as (ours, theirs):
        sending = Running(lambda: ours.send(1, [array]))
        (received,) = theirs.receive(1, [spec(array)])
        sending.result()
        ours.close()  # a large message is sent aside: now it has been counted
    np.testing.assert_array_equal(received, array)
    frames = -(-array.nbytes // (MAX_FRAME_BYTES - header_bytes))
    assert frames == 6
    assert ours.payload_bytes == array.nbytes
    assert ours.frame_bytes == array.nbytes + frames * header_bytes


def test_array_of_no_elements_is_our_defect_and_nothing_is_sent() -> None:
    with a_link_and_raw_peer() as (link, peer):
        with pytest.raises(ConfideError) as caught:
            link.send(1, [np.empty((0, 3), np.int64)])
        assert caught.value.code is ErrorCode.INTERNAL
        assert read_frames(peer) == []


def test_counters_messages_handshake_and_heartbeats_count_exactly() -> None:
    with a_link_and_raw_peer() as (link, peer):
        link.send_control(FrameKind.HELLO, b"hello")
        link.heartbeat()
        link.send(1, [np.zeros(3, np.int64)])
        link.send(2, [np.zeros(2, np.uint16), np.zeros(1, np.uint8)])
        frames = read_frames(peer)
    assert link.payload_bytes == 24 + 5
    assert (
        link.frame_bytes
        == sum(len(frame) + TAG_BYTES for frame in frames)
        == 4 * (HEADER_BYTES + TAG_BYTES) + 5 + 6 + 24 + 12 + 5
    )
    assert [decode(memoryview(frame))[0].sequence for frame in frames] == [0, 1, 2, 3]


def test_receive_heartbeats_before_a_message_are_passed_over() -> None:
    with two_links() as (ours, theirs):
        for _ in range(3):
            ours.heartbeat()
        ours.send(1, [np.arange(3)])
        ours.heartbeat()
        ours.send(2, [np.arange(3)])
        assert theirs.receive(1, THREE)[0].tolist() == [0, 1, 2]
        assert theirs.receive(2, THREE)[0].tolist() == [0, 1, 2]


def test_receive_control_heartbeats_before_it_are_passed_over() -> None:
    """A peer that waits for a third party in the handshake already sends heartbeats."""
    with two_links() as (ours, theirs):
        ours.heartbeat()
        ours.send_control(FrameKind.HELLO, b"{}")
        ours.heartbeat()
        ours.heartbeat()
        ours.send_control(FrameKind.KEY, b"[]")
        assert theirs.receive_control(FrameKind.HELLO) == b"{}"
        assert theirs.receive_control(FrameKind.KEY) == b"[]"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("session", bytes(16)),
        ("attempt", 2),
        ("kind", FrameKind.HELLO),
        ("kind", FrameKind.KEY),
        ("sequence", 1),
        ("sequence", 2**64 - 1),
        ("operation", 2),
        ("layout", [TensorSpec("int64", (1, 3))]),
        ("layout", [TensorSpec("uint8", (24,))]),
        ("layout", []),
        ("total", 32),
        ("offset", 8),
    ],
)
def test_receive_altered_header_field_is_refused_by_its_name(field: str, value: object) -> None:
    body = bytes(16) if field == "offset" else bytes(24)
    value = tuple(value) if isinstance(value, list) else value
    with a_link_and_raw_peer() as (link, peer):
        peer.sendall(a_frame(body, **{field: value}))
        error = refusal(link)
    assert error.code is ErrorCode.BAD_FRAME
    assert error.what == f"a frame from hospital-b differs from the plan in its {field}"


@pytest.mark.parametrize("field", ["session", "attempt", "sequence", "operation"])
def test_receive_altered_heartbeat_is_refused(field: str) -> None:
    value: object = bytes(16) if field == "session" else 9
    with a_link_and_raw_peer() as (link, peer):
        peer.sendall(a_frame(b"", **(HEARTBEAT | {field: value})))
        assert refusal(link).what == f"a frame from hospital-b differs from the plan in its {field}"


def test_receive_heartbeat_with_a_body_is_refused() -> None:
    with a_link_and_raw_peer() as (link, peer):
        peer.sendall(a_frame(b"x", **(HEARTBEAT | {"total": 1})))
        assert refusal(link).code is ErrorCode.BAD_FRAME


def test_receive_replayed_frame_is_refused() -> None:
    with a_link_and_raw_peer() as (link, peer):
        peer.sendall(a_frame() + a_frame())
        link.receive(1, THREE)
        assert refusal(link).what.endswith("in its sequence")


def test_receive_duplicate_under_a_new_sequence_is_refused() -> None:
    with a_link_and_raw_peer() as (link, peer):
        peer.sendall(a_frame() + a_frame(sequence=1))
        link.receive(1, THREE)
        assert refusal(link, operation=2).what.endswith("in its operation")


def test_receive_reordered_messages_are_refused() -> None:
    with a_link_and_raw_peer() as (link, peer):
        peer.sendall(a_frame(sequence=1, operation=2) + a_frame())
        assert refusal(link).what.endswith("in its sequence")


def test_receive_frame_of_the_other_direction_is_refused() -> None:
    """What this party sent itself comes back: the sequence of a direction is its own, the operations differ."""
    with a_link_and_raw_peer() as (link, peer):
        link.send(1, [np.zeros(3, np.int64)])
        (mine,) = read_frames(peer)
        peer.sendall(framed(tagged(mine)))
        assert refusal(link, operation=2).what.endswith("in its operation")


@pytest.mark.parametrize("length", [23, 16, 0])
def test_receive_short_body_is_refused(length: int) -> None:
    with a_link_and_raw_peer() as (link, peer):
        peer.sendall(a_frame(bytes(length)))
        assert refusal(link).what == "a frame whose length is not the plan's"


def test_receive_long_body_is_refused() -> None:
    with a_link_and_raw_peer() as (link, peer):
        peer.sendall(a_frame(bytes(25)))
        assert refusal(link).code is ErrorCode.BAD_FRAME


def test_receive_oversized_frame_is_refused_before_it_is_read() -> None:
    with a_link_and_raw_peer() as (link, peer):
        peer.sendall((2**32 - 1).to_bytes(4, "little"))
        assert refusal(link).what == f"a frame of {2**32 - 1} bytes"


def test_receive_garbage_frame_is_refused() -> None:
    with a_link_and_raw_peer() as (link, peer):
        peer.sendall(framed(b"GET / HTTP/1.1\r\n"))
        assert refusal(link).code is ErrorCode.BAD_FRAME


def test_receive_control_frame_above_its_limit_is_refused() -> None:
    with a_link_and_raw_peer() as (link, peer):
        peer.sendall(a_frame(bytes(4097), kind=FrameKind.HELLO, operation=0, total=4097, layout=()))
        with pytest.raises(ConfideError) as caught:
            link.receive_control(FrameKind.HELLO)
    assert (caught.value.code, caught.value.party) == (ErrorCode.BAD_FRAME, "hospital-b")


def test_receive_control_data_frame_in_its_place_is_refused() -> None:
    with a_link_and_raw_peer() as (link, peer):
        peer.sendall(a_frame())
        with pytest.raises(ConfideError, match="differs from the plan in its kind"):
            link.receive_control(FrameKind.KEY)


@pytest.mark.parametrize("sent", [b"", b"\x10", a_frame()[:4], a_frame()[:30]])
def test_receive_peer_that_ends_anywhere_is_lost(sent: bytes) -> None:
    with a_link_and_raw_peer() as (link, peer):
        peer.sendall(sent)
        peer.close()
        assert refusal(link).code is ErrorCode.PEER_LOST


def test_receive_what_a_peer_sent_before_its_end_still_arrives() -> None:
    with two_links() as (ours, theirs):
        ours.send(1, [np.arange(3)])
        ours.close()
        assert theirs.receive(1, THREE)[0].tolist() == [0, 1, 2]


def test_send_to_a_peer_that_ended_is_lost() -> None:
    with a_link_and_raw_peer() as (link, peer):
        peer.close()
        with pytest.raises(ConfideError) as caught:
            link.send(1, [np.zeros(3, np.int64)])
    assert (caught.value.code, caught.value.party) == (ErrorCode.PEER_LOST, "hospital-b")


def test_receive_peer_that_never_speaks_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "CONNECT_S", 0.1)
    with a_link_and_raw_peer() as (link, _):
        started = time.monotonic()
        assert refusal(link).code is ErrorCode.PEER_SILENT
    assert time.monotonic() - started >= 0.09


@pytest.mark.parametrize("sent", [b"", b"\x10\x00", a_frame(sequence=1)[:50]])
def test_receive_peer_that_falls_silent_is_silent(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "SILENCE_S", 0.1)
    with a_link_and_raw_peer() as (link, peer):
        peer.sendall(a_frame() + sent)
        link.receive(1, THREE)
        started = time.monotonic()
        assert refusal(link).code is ErrorCode.PEER_SILENT
    assert 0.09 <= time.monotonic() - started < link_module.CONNECT_S


def test_receive_peer_that_only_sends_heartbeats_is_silent_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "MESSAGE_S", 0.0)
    with two_links() as (ours, theirs):
        theirs.heartbeat()
        with pytest.raises(ConfideError, match="lives but sent no message") as caught:
            ours.receive(1, THREE)
    assert (caught.value.code, caught.value.party) == (ErrorCode.PEER_SILENT, "hospital-b")


def test_receive_control_peer_that_only_sends_heartbeats_is_silent_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "MESSAGE_S", 0.0)
    with two_links() as (ours, theirs):
        theirs.heartbeat()
        with pytest.raises(ConfideError) as caught:
            ours.receive_control(FrameKind.HELLO)
    assert caught.value.code is ErrorCode.PEER_SILENT


def test_send_peer_that_takes_nothing_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "SEND_S", 0.1)
    with a_link_and_raw_peer() as (link, _):
        link.send(1, [np.zeros(4 << 20, np.uint8)])  # large: sent aside, and what became of it shows at the next step
        with pytest.raises(ConfideError) as caught:
            link.close()
    assert (caught.value.code, caught.value.party) == (ErrorCode.PEER_SILENT, "hospital-b")


def test_send_after_a_frame_was_sent_in_part_is_refused_and_no_heartbeat_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "SEND_S", 0.1)
    with a_link_and_raw_peer() as (link, peer):
        link.send(1, [np.zeros(4 << 20, np.uint8)])
        with pytest.raises(ConfideError):
            link.send(2, [np.zeros(1, np.uint8)])
        peer.recv(1 << 22)  # there is room again
        counted = link.frame_bytes
        link.heartbeat()
        assert link.frame_bytes == counted
        with pytest.raises(ConfideError) as caught:
            link.send(3, [np.zeros(1, np.uint8)])
    assert caught.value.code is ErrorCode.PEER_SILENT


def test_send_large_messages_of_both_sides_at_once_do_not_lock_up() -> None:
    # A round: both send more than all sockets between them hold, then both receive.
    numbers = np.arange(1 << 21, dtype=np.int64)
    with two_links() as (ours, theirs), ThreadPoolExecutor(2) as pool:

        def take_round(link: WorkerLink, mine: np.ndarray) -> np.ndarray:
            link.send(1, [mine])
            return link.receive(1, [spec(mine)])[0]

        first = pool.submit(take_round, ours, numbers)
        second = pool.submit(take_round, theirs, -numbers)
        np.testing.assert_array_equal(first.result(timeout=20), -numbers)
        np.testing.assert_array_equal(second.result(timeout=20), numbers)


def test_heartbeat_full_socket_does_not_block() -> None:
    with a_link_and_raw_peer() as (link, peer):
        sent = 0
        for _ in range(100_000):
            before = link.frame_bytes
            link.heartbeat()
            if link.frame_bytes == before:
                break
            sent += 1
        assert sent > 0
        started = time.monotonic()
        link.heartbeat()
        assert time.monotonic() - started < 1
        # Nothing was lost or cut: the frames that went are whole and in order.
        assert [decode(memoryview(frame))[0].sequence for frame in read_frames(peer)] == list(range(sent))


def test_heartbeat_while_a_message_is_being_sent_is_left_out() -> None:
    array = np.zeros(4 << 20, np.uint8)
    with two_links() as (ours, theirs):
        sending = Running(lambda: ours.send(1, [array]))
        while not ours._outgoing._lock.locked():
            time.sleep(0)
        ours.heartbeat()
        theirs.receive(1, [spec(array)])
        sending.result()
        ours.close()
    header_bytes = HEADER_BYTES + len(encode_layout([spec(array)])) + TAG_BYTES
    assert ours.frame_bytes == array.nbytes + 5 * header_bytes


def test_heartbeat_closed_link_is_no_error() -> None:
    left, right = socket.socketpair()
    right.close()
    link = a_link(left)
    link.heartbeat()
    link.close()
    link.heartbeat()
    assert link.frame_bytes == 0


def test_failure_texts_never_hold_the_payload() -> None:
    secret = b"\x42" * 24
    with a_link_and_raw_peer() as (link, peer):
        peer.sendall(a_frame(secret, operation=2))
        error = refusal(link)
    assert re.search(r"BBBB|4242|66, 66", f"{error!r}{error}") is None


def test_link_that_is_given_up_frees_its_buffers_at_once() -> None:
    gc.disable()  # a peer that is refused again and again must not fill the memory until somebody collects cycles
    try:
        with a_link_and_raw_peer() as (link, raw):
            raw.sendall(framed(bytes(200)))
            with pytest.raises(ConfideError):
                link.receive(1, THREE)
            given_up = weakref.ref(link)
            del link
            assert given_up() is None
    finally:
        gc.enable()
