"""The first words of a link: what is said is heard, and nothing else is."""

from __future__ import annotations

import io

import pytest

from parties.transport.opening import JOINED, OPENING_BYTES, LinkOpening, read_answer, refused
from protocols.errors import ConfideError, ErrorCode

OPENING = LinkOpening("0f" * 16, 70_000)


def refusal(data: bytes) -> ErrorCode:
    with pytest.raises(ConfideError) as caught:
        read_answer(io.BytesIO(data).read, party="hospital-b")
    assert caught.value.party == "hospital-b"
    return caught.value.code


def test_opening_that_is_written_is_read() -> None:
    assert len(OPENING.to_bytes()) == OPENING_BYTES
    assert LinkOpening.from_bytes(OPENING.to_bytes()) == OPENING


@pytest.mark.parametrize("data", [b"", OPENING.to_bytes()[:-1], OPENING.to_bytes() + b"\x00", b"CFL2" + OPENING.to_bytes()[4:]])
def test_opening_of_no_party_of_this_protocol_is_refused(data: bytes) -> None:
    with pytest.raises(ConfideError) as caught:
        LinkOpening.from_bytes(data)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_answer_that_joins_says_nothing() -> None:
    words = io.BytesIO(JOINED + b"frames")
    read_answer(words.read, party="hospital-b")
    assert words.read() == b"frames"


@pytest.mark.parametrize("code", ErrorCode)
def test_answer_that_refuses_is_read_as_its_code(code: ErrorCode) -> None:
    assert refusal(refused(code)) is code


@pytest.mark.parametrize("data", [b"\x03ABC", b"\x01\xff", b"\x04O"])
def test_answer_without_a_known_code_is_the_peers_fault(data: bytes) -> None:
    assert refusal(data) is ErrorCode.BAD_FRAME
