"""The client library's exceptions: every code has exactly one class, and nothing is lost on the way to it."""

from __future__ import annotations

import pytest

import parties.client as library
from parties.client.failures import (
    BudgetExhausted,
    ClientError,
    IntegrityError,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    NotFound,
    NotReady,
    PartyUnavailable,
    PolicyRefused,
    SetupError,
    TimedOut,
    class_of,
    raises_typed,
    typed,
    typed_failures,
)
from protocols.errors import ConfideError, ErrorCode, Kind, Problem


@pytest.mark.parametrize("code", ErrorCode)
def test_typed_every_code_keeps_all_its_parts(code: ErrorCode) -> None:
    problem = Problem("nonce", "too short", "use 32 digits")
    found = typed(ConfideError(code, "what", problems=[problem], remedy="do this", party="hospital-a"))
    assert type(found) is class_of(code)
    assert (found.code, found.what, found.problems, found.fix, found.party) == (code, "what", (problem,), "do this", "hospital-a")
    assert found.page == f"docs/errors/{code.name}.md"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (ErrorCode.INVALID_JOB, InvalidRequest),
        (ErrorCode.UNKNOWN_MODEL, NotFound),
        (ErrorCode.NOT_READY, NotReady),
        (ErrorCode.CANCEL_TOO_LATE, NotReady),
        (ErrorCode.PARTY_UNREACHABLE, PartyUnavailable),
        (ErrorCode.PARTY_BUSY, PartyUnavailable),
        (ErrorCode.TOO_MANY_STREAMS, PartyUnavailable),
        (ErrorCode.DISK_FULL, PartyUnavailable),
        (ErrorCode.PEER_SILENT, PartyUnavailable),
        (ErrorCode.DEADLINE_PASSED, TimedOut),
        (ErrorCode.NOT_ENOUGH_ROWS, PolicyRefused),
        (ErrorCode.BUDGET_EXHAUSTED, BudgetExhausted),
        (ErrorCode.BAD_SIGNATURE, IntegrityError),
        (ErrorCode.PLAN_DIFFERS, IntegrityError),
        (ErrorCode.JOB_FAILED, JobFailed),
        (ErrorCode.CANCELLED, JobCancelled),
        (ErrorCode.JOB_EXPIRED, JobFailed),
        (ErrorCode.INVALID_CONFIG, SetupError),
        (ErrorCode.SETUP_INCOMPLETE, SetupError),
    ],
)
def test_class_of_code_says_how_to_go_on(code: ErrorCode, expected: type[ClientError]) -> None:
    assert class_of(code) is expected


def test_class_of_every_kind_is_defined() -> None:
    assert {code.kind for code in ErrorCode} <= set(Kind)
    assert all(issubclass(class_of(code), ClientError) for code in ErrorCode)


def test_typed_twice_is_the_same_failure() -> None:
    once = typed(ConfideError(ErrorCode.NOT_READY))
    assert typed(once) is once


def test_raises_typed_keeps_the_place_and_what_led_to_it() -> None:
    @raises_typed
    def fail() -> None:
        try:
            int("x")
        except ValueError as error:
            raise ConfideError(ErrorCode.INVALID_JOB) from error

    with pytest.raises(InvalidRequest) as caught:
        fail()
    assert isinstance(caught.value.__cause__, ValueError)


def test_typed_failures_let_everything_else_pass() -> None:
    with pytest.raises(KeyError), typed_failures():
        raise KeyError


def test_library_offers_every_name_that_it_lists() -> None:
    for name in library.__all__:
        assert getattr(library, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = library.Weights  # type: ignore[attr-defined]
