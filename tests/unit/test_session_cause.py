"""Whose fault an ended session is: what one party says of another is a word; what several found out is more."""

from __future__ import annotations

import pytest

from protocols.errors import ErrorCode
from protocols.session.cause import weigh
from protocols.session.messages import FailureReport
from protocols.session.states import State

PARTIES = ("hospital-a", "hospital-b", "hospital-c")
A, B, C = PARTIES


def found(accused: str, code: ErrorCode = ErrorCode.NOISE_MISSING) -> FailureReport:
    return FailureReport(code, State.RUNNING, accused, f"the noise of {accused or 'somebody'} failed its test")


def at_fault(*reports: tuple[str, FailureReport]) -> str:
    return weigh(list(reports), PARTIES, frozenset()).at_fault


def test_owner_whose_noise_both_computing_parties_miss_is_at_fault() -> None:
    lost = (C, found(A, ErrorCode.PEER_LOST))  # the owner only sees that the others gave up
    cause = weigh([(A, found(C)), (B, found(C)), lost], PARTIES, frozenset())
    assert (cause.report.code, cause.at_fault, cause.state) == (ErrorCode.NOISE_MISSING, C, State.ABORTED)


def test_owner_that_repeats_what_it_was_told_of_itself_is_no_witness_either_way() -> None:
    assert at_fault((C, found(C)), (A, found(C)), (B, found(C))) == C
    assert at_fault((C, found(C)), (A, found(C))) == ""


@pytest.mark.parametrize(
    "reports",
    [
        [(A, found(C))],  # one word against another
        [(A, found(C)), (A, found(C))],  # the same word twice
        [(A, found(B)), (B, found(A))],
        [(A, found(C)), (B, found(A))],
        [(A, found(C)), (B, found(""))],
        [(A, found(""))],
        [(A, found(C)), (B, found(C)), (C, found(A))],  # the accused accuses too: it is not said by all who speak
    ],
)
def test_nobody_is_at_fault_where_those_who_tested_do_not_agree(reports: list[tuple[str, FailureReport]]) -> None:
    assert at_fault(*reports) == ""


def test_party_that_answers_is_not_at_fault_for_a_lost_connection_however_many_say_so() -> None:
    assert at_fault((A, found(C, ErrorCode.PEER_LOST)), (B, found(C, ErrorCode.PEER_LOST))) == ""
