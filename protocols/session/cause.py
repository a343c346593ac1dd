"""From reports to one cause: which of several failures is the reason of the others, and whose fault it provably is.

When one party fails, the others notice that it fell silent and report that too. The ranking says which report explains the
others; it is data. Between equal ranks a party that confesses is believed before one that accuses, then an accusation of a
party that is silent, then the order of the participants decides, so that everybody reaches the same cause from the same
reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from protocols.errors import ErrorCode, Fault
from protocols.session.messages import FailureReport
from protocols.session.states import State

# Higher explains lower. Every code that is not listed is a party's own and specific reason.
OWN_REASON = 80
RANK: Mapping[ErrorCode, int] = {
    ErrorCode.CANCELLED: 100,
    ErrorCode.PLAN_DIFFERS: 90,
    ErrorCode.VERSION_DIFFERS: 90,
    ErrorCode.BAD_FRAME: 70,
    ErrorCode.PARTY_RESTARTED: 65,
    ErrorCode.WORKER_LOST: 60,
    ErrorCode.JOB_EXPIRED: 50,
    ErrorCode.DEADLINE_PASSED: 40,
    ErrorCode.PEER_SILENT: 35,  # a lost connection may only mean that the other side gave up for this reason
    ErrorCode.PEER_LOST: 30,
    ErrorCode.PARTY_UNREACHABLE: 20,
    ErrorCode.INTERNAL: 10,
}
# What somebody says about another party that does not speak for itself.
ACCUSATIONS = frozenset(
    {
        ErrorCode.PEER_SILENT,
        ErrorCode.PEER_LOST,
        ErrorCode.PARTY_UNREACHABLE,
        ErrorCode.DEADLINE_PASSED,
        ErrorCode.JOB_EXPIRED,
    }
)
# What every computing party finds out for itself about a party that still answers: one word alone proves nothing, but two that
# agree leave only a party that is at fault, or two that lie together; or, where a finding rests on shares that were opened, one
# that altered its own and so misled the others. Against the last the protocols promise nothing: they are semi-honest.
FOUND_BY_SEVERAL = frozenset({ErrorCode.NOISE_MISSING})
_ENOUGH = 2


@dataclass(frozen=True)
class Cause:
    """Why a session ended without output.

    Attributes:
        state: the terminal state that follows.
        report: the report that explains the others.
        at_fault: the party at fault where provable, else empty.
        text: for people; names who reported.
    """

    state: State
    report: FailureReport
    at_fault: str
    text: str


def weigh(reports: Sequence[tuple[str, FailureReport]], participants: Sequence[str], silent: frozenset[str]) -> Cause:
    """Returns the cause that explains all reports.

    Args:
        reports: reporter and report, at least one; a reporter may appear more than once.
        participants: party ids in order.
        silent: participants that neither reported nor were heard since the first failure.
    """

    def strength(entry: tuple[str, FailureReport]) -> tuple[int, bool, bool, int]:
        reporter, report = entry
        return (
            RANK.get(report.code, OWN_REASON),
            report.accused == reporter,
            report.accused in silent,
            -participants.index(reporter),
        )

    reporter, report = max(reports, key=strength)
    # Several parties may have reasons of their own to refuse; the querier needs all of them.
    told = [
        f"{who}: {other.text}" for who, other in reports if _same_weight(other, report) and (who, other) != (reporter, report)
    ]
    text = "; ".join(
        [f"{reporter}: {report.text}", *dict.fromkeys(told)] if _is_reason(report) else [f"{reporter}: {report.text}"]
    )
    at_fault = _at_fault(reporter, report, silent) or _found_by_several(report, reports)
    return Cause(_end_state(report), report, at_fault, text)


def _is_reason(report: FailureReport) -> bool:
    return report.code not in RANK


def _same_weight(one: FailureReport, other: FailureReport) -> bool:
    return _is_reason(one) and _is_reason(other)


def _at_fault(reporter: str, report: FailureReport, silent: frozenset[str]) -> str:
    if report.accused == reporter and report.code.fault in (Fault.OPERATOR, Fault.OURS):
        return reporter
    # An accusation of a party that answers is one word against another: perhaps only the connection between the two broke.
    if report.code in ACCUSATIONS and report.accused in silent:
        return report.accused
    return ""


def _found_by_several(report: FailureReport, reports: Sequence[tuple[str, FailureReport]]) -> str:
    if report.code not in FOUND_BY_SEVERAL:
        return ""
    # An owner that does not compute hears what was found, and says it of itself: that neither proves nor disproves it.
    finders = {who: found.accused for who, found in reports if found.code is report.code and who != found.accused}
    agree = set(finders.values()) == {report.accused}
    return report.accused if agree and len(finders) >= _ENOUGH else ""


def _end_state(report: FailureReport) -> State:
    if report.code is ErrorCode.CANCELLED:
        return State.CANCELLED
    if report.code is ErrorCode.JOB_EXPIRED:
        return State.EXPIRED
    if report.phase is State.PROPOSED and report.code is not ErrorCode.PARTY_UNREACHABLE:
        return State.REJECTED
    return State.ABORTED
