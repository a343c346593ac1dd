"""The catalogue of failures: complete, without aliases, and with names that stay."""

from __future__ import annotations

import pytest

from protocols.errors import ConfideError, ErrorCode, Problem

# Names travel between versions and stand in scripts: one is never taken away, renamed or given another meaning. New ones are
# added here when they have been released.
RELEASED = {
    "BAD_FRAME",
    "BAD_SIGNATURE",
    "CANCELLED",
    "CANCEL_TOO_LATE",
    "DEADLINE_PASSED",
    "FILE_MODE",
    "FINGERPRINT_DIFFERS",
    "GRANT_USED",
    "INTERNAL",
    "INVALID_ARGUMENT",
    "INVALID_CONFIG",
    "INVALID_DATA",
    "INVALID_DOCUMENT",
    "INVALID_JOB",
    "INVALID_MODEL",
    "INVALID_SCHEMA",
    "JOB_CONFLICT",
    "JOB_EXPIRED",
    "JOB_FAILED",
    "NOT_AUTHORISED",
    "NOT_ENOUGH_ROWS",
    "NOT_ENROLLED",
    "NOT_READY",
    "NO_GRANT",
    "PARTY_BUSY",
    "PARTY_RESTARTED",
    "PARTY_UNREACHABLE",
    "PEER_LOST",
    "PEER_SILENT",
    "PLAN_DIFFERS",
    "SETUP_INCOMPLETE",
    "STALE_DIRECTORY",
    "STATE_DAMAGED",
    "STATE_LOCKED",
    "STATE_SCHEMA",
    "UNAUTHENTICATED",
    "UNKNOWN_DATASET",
    "UNKNOWN_JOB",
    "UNKNOWN_MODEL",
    "UNKNOWN_OUTPUT",
    "UNKNOWN_SESSION",
    "VERSION_DIFFERS",
    "WORKER_LOST",
}


@pytest.mark.parametrize("code", ErrorCode)
def test_code_has_a_summary_and_a_remedy_in_whole_sentences(code: ErrorCode) -> None:
    for text in (code.entry.summary, code.entry.remedy):
        assert text[0].isupper() or text[0] == "`"
        assert text.endswith(".")
        assert text.isprintable()


def test_codes_are_no_aliases_of_each_other() -> None:
    assert len(ErrorCode.__members__) == len(list(ErrorCode))
    assert all(ErrorCode[name].name == name for name in ErrorCode.__members__)


def test_codes_with_the_same_entry_stay_apart() -> None:
    codes = list(ErrorCode)
    assert len({code.value for code in codes}) == len(codes)


def test_released_names_are_still_there() -> None:
    assert set(ErrorCode.__members__) >= RELEASED


def test_error_without_texts_takes_them_from_the_catalogue() -> None:
    error = ConfideError(ErrorCode.PEER_LOST)
    assert (error.what, error.remedy) == (ErrorCode.PEER_LOST.entry.summary, ErrorCode.PEER_LOST.entry.remedy)
    assert (error.problems, error.party) == ((), "")


def test_error_text_shows_code_every_problem_and_the_remedy() -> None:
    problems = (Problem("nonce", "too short", "use 32 digits"), Problem("", "it rains", ""))
    error = ConfideError(ErrorCode.INVALID_JOB, "2 problems", problems=iter(problems), remedy="mend it", party="hospital-a")
    assert str(error).splitlines() == [
        "INVALID_JOB: 2 problems",
        "  - nonce: too short (use 32 digits)",
        "  - it rains",
        "  what to do: mend it",
    ]
    assert error.problems == problems
    assert error.party == "hospital-a"
