"""The frames of a session link: their form, their cutting, and every way in which one can be wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from parties.transport.frames import (
    HEADER_BYTES,
    MAX_ARRAYS,
    MAX_FRAME_BYTES,
    FrameKind,
    Header,
    chunks,
    decode,
    difference,
    encode_header,
    encode_layout,
)
from parties.transport.tags import TAG_BYTES
from protocols.errors import ConfideError, ErrorCode
from protocols.links import TensorSpec

HEADER = Header(FrameKind.DATA, bytes(range(16)), 1, 7, 42, 0, 24, (TensorSpec("int64", (3,)),))
LAYOUT_BYTES = 6


def refusal(frame: bytes) -> str:
    with pytest.raises(ConfideError) as caught:
        decode(memoryview(frame))
    assert caught.value.code is ErrorCode.BAD_FRAME
    return caught.value.what


def test_header_bytes_are_the_documented_ones() -> None:
    expected = (
        b"CFD2\x03\x01"
        + bytes(range(16))
        + (1).to_bytes(4, "little")
        + (7).to_bytes(8, "little")
        + (42).to_bytes(4, "little")
        + (0).to_bytes(8, "little")
        + (24).to_bytes(8, "little")
        + b"\x02\x01\x03\x00\x00\x00"
    )
    assert encode_header(HEADER) == expected
    assert len(expected) == HEADER_BYTES + LAYOUT_BYTES


def test_decode_whole_frame_gives_header_and_body() -> None:
    header, body = decode(memoryview(encode_header(HEADER) + b"x" * 24))
    assert (header, bytes(body)) == (HEADER, b"x" * 24)


@pytest.mark.parametrize("header_bytes", [HEADER_BYTES, HEADER_BYTES + LAYOUT_BYTES])
@pytest.mark.parametrize("excess", [-1, 0, 1])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_chunks_around_frame_limit_cover_the_message_in_full_frames(header_bytes: int, excess: int, frames: int) -> None:
    room = MAX_FRAME_BYTES - header_bytes - TAG_BYTES
    total = frames * room + excess
    found = list(chunks(total, header_bytes))
    assert [offset for offset, _ in found] == [number * room for number in range(len(found))]
    assert sum(length for _, length in found) == total
    assert all(length == room for _, length in found[:-1])
    assert len(found) == frames + (excess > 0)


def test_chunks_empty_message_is_one_empty_frame() -> None:
    assert list(chunks(0, HEADER_BYTES)) == [(0, 0)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("session", bytes(16)),
        ("attempt", 2),
        ("kind", FrameKind.KEY),
        ("sequence", 8),
        ("operation", 43),
        ("layout", (TensorSpec("int64", (1, 3)),)),
        ("layout", (TensorSpec("uint8", (3,)),)),
        ("layout", ()),
        ("total", 25),
        ("offset", 1),
    ],
)
def test_difference_one_field_changed_names_it(field: str, value: object) -> None:
    assert difference(HEADER, replace(HEADER, **{field: value})) == field  # type: ignore[arg-type]  # by parameter


def test_difference_same_header_is_empty() -> None:
    assert difference(HEADER, replace(HEADER)) == ""


def test_decode_other_magic_is_refused() -> None:
    assert refusal(b"CFD1" + encode_header(HEADER)[4:]) == "not a frame of this protocol version"


@pytest.mark.parametrize("kind", [0, 6, 255])
def test_decode_unknown_kind_is_refused(kind: int) -> None:
    data = bytearray(encode_header(HEADER))
    data[4] = kind
    assert refusal(bytes(data)) == "not a frame of this protocol version"


@pytest.mark.parametrize("length", [0, 1, HEADER_BYTES - 1])
def test_decode_shorter_than_header_is_refused(length: int) -> None:
    assert refusal(encode_header(HEADER)[:length]) == f"a frame of {length} bytes"


@pytest.mark.parametrize("length", [HEADER_BYTES, HEADER_BYTES + 1, HEADER_BYTES + 2, HEADER_BYTES + 5])
def test_decode_cut_inside_layout_is_refused(length: int) -> None:
    assert "layout" in refusal(encode_header(HEADER)[:length])


def test_decode_frame_above_limit_is_refused() -> None:
    frame = encode_header(replace(HEADER, total=2 * MAX_FRAME_BYTES))
    assert refusal(frame + bytes(MAX_FRAME_BYTES + 1 - len(frame))) == f"a frame of {MAX_FRAME_BYTES + 1} bytes"


def test_decode_body_beyond_total_is_refused() -> None:
    assert refusal(encode_header(HEADER) + bytes(25)) == "a frame that reaches beyond its message"


def test_decode_offset_beyond_total_is_refused() -> None:
    assert refusal(encode_header(replace(HEADER, offset=2**64 - 1))) == "a frame that reaches beyond its message"


def test_decode_too_many_arrays_is_refused() -> None:
    data = bytearray(encode_header(HEADER))
    data[5] = MAX_ARRAYS + 1
    assert refusal(bytes(data)) == f"a message of {MAX_ARRAYS + 1} arrays"


@pytest.mark.parametrize(("at", "value"), [(0, 4), (0, 255), (1, 5), (1, 255)])
def test_decode_impossible_layout_entry_is_refused(at: int, value: int) -> None:
    data = bytearray(encode_header(HEADER))
    data[HEADER_BYTES + at] = value
    assert refusal(bytes(data)) == "a frame with an impossible layout"


@pytest.mark.parametrize(
    "layout",
    [
        [TensorSpec("float32", (3,))],
        [TensorSpec("int64", (0,))],
        [TensorSpec("int64", (1, 1, 1, 1, 1))],
        [TensorSpec("int64", (2**32,))],
        [TensorSpec("int64", (1,))] * (MAX_ARRAYS + 1),
    ],
)
def test_encode_layout_outside_the_protocol_is_our_defect(layout: list[TensorSpec]) -> None:
    with pytest.raises(ConfideError) as caught:
        encode_layout(layout)
    assert caught.value.code is ErrorCode.INTERNAL
