"""What a computing party tells of the test of the noise: its bytes, and what others take from them."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.noise_test import Finding, OwnerFigures
from protocols.mpc.noise_verdict import Verdict, check_verdicts, finding_of, read_verdict, verdict_of

OWNERS = ("alpha", "beta", "delta")
SPARES = np.arange(-9, 9, dtype=np.int64).reshape(3, 3, 2)
SOUND = [OwnerFigures(owner, 1_000_123, 400_000, 700_000, 30_000 + index, Finding.NOTHING) for index, owner in enumerate(OWNERS)]


def verdict(*accused: str) -> Verdict:
    found = [OwnerFigures.of(each.owner, each.numbers, Finding(2 * (each.owner in accused))) for each in SOUND]
    return verdict_of(SPARES, found)


def test_verdict_has_the_bytes_that_its_page_names() -> None:
    numbers = np.array([each.numbers for each in SOUND], "<i8").tobytes()
    assert verdict("beta").to_bytes() == sha256(SPARES.tobytes()).digest() + bytes([0, 2, 0]) + numbers


def test_spares_that_do_not_lie_one_after_the_other_have_the_same_digest() -> None:
    apart = np.repeat(SPARES, 2, axis=2)[:, :, ::2]
    assert not apart.flags.c_contiguous
    assert verdict_of(apart, SOUND) == verdict()


def test_verdict_is_read_as_it_was_found() -> None:
    read = read_verdict(verdict("delta").to_bytes(), OWNERS, party="alpha")
    assert read == verdict("delta")
    assert [each.finding for each in read.figures] == [Finding.NOTHING, Finding.NOTHING, Finding.VARIANCE]
    assert [each.numbers for each in read.figures] == [each.numbers for each in SOUND]
    assert [each.owner for each in read.figures] == [*OWNERS]


@pytest.mark.parametrize("size", [0, 32, 32 + 33 * 3 - 1, 32 + 33 * 3 + 1])
def test_verdict_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ConfideError, match="beta sent no result") as refused:
        read_verdict((verdict().to_bytes() + bytes(1))[:size], OWNERS, party="beta")
    assert (refused.value.code, refused.value.party) == (ErrorCode.BAD_FRAME, "beta")


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("flag", [5, 255])
def test_finding_that_there_is_not_is_refused(place: int, flag: int) -> None:
    said = bytearray(verdict().to_bytes())
    said[32 + place] = flag
    with pytest.raises(ConfideError, match="beta sent no result"):
        read_verdict(bytes(said), OWNERS, party="beta")


def ended(party: str, **verdicts: Verdict) -> tuple[ErrorCode, str]:
    with pytest.raises(ConfideError) as error:
        check_verdicts(verdicts, party=party)
    return error.value.code, error.value.party


def test_sound_noise_that_all_saw_alike_ends_nothing() -> None:
    check_verdicts({"alpha": verdict(), "beta": verdict()}, party="alpha")
    assert finding_of(verdict()) is None


def test_owner_is_named_by_who_saw_it_or_by_all_that_can() -> None:
    named = (ErrorCode.NOISE_MISSING, "delta")
    assert ended("alpha", alpha=verdict("delta"), beta=verdict()) == named
    assert ended("delta", alpha=verdict("delta"), beta=verdict("delta")) == named
    found = finding_of(verdict("delta"))
    assert found is not None
    assert (found.code, found.party) == named


def test_one_word_against_another_names_nobody() -> None:
    assert ended("beta", alpha=verdict("delta"), beta=verdict()) == (ErrorCode.NOISE_MISSING, "")
    assert ended("delta", alpha=verdict("delta"), beta=verdict()) == (ErrorCode.NOISE_MISSING, "")


def test_other_spares_are_told_before_one_word_against_another_and_after_what_all_saw() -> None:
    others = verdict_of(SPARES + 1, SOUND)
    assert ended("alpha", alpha=verdict(), beta=others) == (ErrorCode.BAD_FRAME, "")
    assert ended("beta", alpha=verdict("delta"), beta=others) == (ErrorCode.BAD_FRAME, "")
    assert ended("alpha", alpha=verdict("delta"), beta=others) == (ErrorCode.NOISE_MISSING, "delta")
