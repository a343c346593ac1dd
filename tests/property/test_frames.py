"""The frames of a session link, for any content: what is encoded comes back, and no bytes raise anything but BAD_FRAME."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, example, given
from hypothesis import strategies as st

from parties.transport.frames import (
    HEADER_BYTES,
    MAGIC,
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
from protocols.links import DTYPES, TensorSpec

SPECS = st.builds(
    TensorSpec, st.sampled_from(DTYPES), st.lists(st.integers(1, 2**32 - 1), max_size=4).map(lambda shape: tuple(shape))
)
HEADERS = st.builds(
    Header,
    kind=st.sampled_from(FrameKind),
    session=st.binary(min_size=16, max_size=16),
    attempt=st.integers(0, 2**32 - 1),
    sequence=st.integers(0, 2**64 - 1),
    operation=st.integers(0, 2**32 - 1),
    offset=st.integers(0, 2**63),
    total=st.just(2**64 - 1),
    layout=st.lists(SPECS, max_size=8).map(lambda layout: tuple(layout)),
)
HEADER = Header(FrameKind.DATA, bytes(16), 1, 3, 9, 0, 64, (TensorSpec("int64", (2, 4)),))
FRAME = encode_header(HEADER) + bytes(64)


def decoded(data: bytes) -> tuple[Header, memoryview] | ErrorCode:
    try:
        return decode(memoryview(data))
    except ConfideError as error:
        return error.code


@given(HEADERS, st.binary(max_size=200))
def test_frame_any_header_and_body_survives_the_round_trip(header: Header, body: bytes) -> None:
    decoded, found = decode(memoryview(encode_header(header) + body))
    assert decoded == header
    assert bytes(found) == body
    assert difference(header, decoded) == ""


@given(st.binary(max_size=400))
@example(b"")
@example(MAGIC)
def test_decode_any_bytes_raises_nothing_but_bad_frame(data: bytes) -> None:
    found = decoded(data)
    assert isinstance(found, tuple) or found is ErrorCode.BAD_FRAME


@given(st.binary(max_size=120))
def test_decode_any_bytes_behind_a_right_beginning_raises_nothing_but_bad_frame(data: bytes) -> None:
    found = decoded(FRAME[:6] + data)
    if isinstance(found, tuple):
        header, body = found
        assert header.offset + len(body) <= header.total
    else:
        assert found is ErrorCode.BAD_FRAME


@given(st.integers(0, len(FRAME) - 64 - 1), st.integers(1, 255))
def test_frame_any_altered_header_byte_is_refused_or_seen(at: int, flip: int) -> None:
    altered = bytearray(FRAME)
    altered[at] ^= flip
    found = decoded(bytes(altered))
    if isinstance(found, tuple):
        header, body = found
        assert difference(HEADER, header) or len(body) != 64
    else:
        assert found is ErrorCode.BAD_FRAME


@given(HEADERS, HEADERS)
def test_difference_names_a_field_that_differs(one: Header, other: Header) -> None:
    named = difference(one, other)
    assert bool(named) == (one != other)
    if named:
        assert getattr(one, named) != getattr(other, named)
        assert difference(replace(one, **{named: getattr(other, named)}), other) != named


@given(st.integers(0, 3 * MAX_FRAME_BYTES), st.lists(SPECS, max_size=64))
def test_chunks_cover_every_byte_once_and_fit_their_frames(total: int, layout: list[TensorSpec]) -> None:
    header_bytes = HEADER_BYTES + len(encode_layout(layout))
    assume(header_bytes + TAG_BYTES < MAX_FRAME_BYTES)
    reached = 0
    for offset, length in chunks(total, header_bytes):
        assert offset == reached
        assert header_bytes + length + TAG_BYTES <= MAX_FRAME_BYTES
        reached += length
    assert reached == total
