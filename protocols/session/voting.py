"""Votes: how a participant's part went, and when the lead has seen enough to decide."""

from __future__ import annotations

from dataclasses import replace

from protocols.errors import ErrorCode
from protocols.session.cause import FOUND_BY_SEVERAL
from protocols.session.deciding import check_vote, give_slot_back, stop_work
from protocols.session.memory import BallotPhase
from protocols.session.messages import AskEnding, FailureReport, Refusal, Verdict, Vote
from protocols.session.states import State
from protocols.session.turn import Turn


def fail(turn: Turn, report: FailureReport) -> None:
    """Votes FAILED, stops the work and waits for the ending; a party that has voted stays with its vote."""
    if turn.me in turn.memory.votes:
        return
    stop_work(turn)
    turn.go(State.STOPPING)
    cast(turn, Vote(Verdict.FAILED, report, {}))


def refuse(turn: Turn, report: FailureReport) -> None:
    """Says to everybody that this party does not take part; for the lead that counts as its vote."""
    if turn.me in turn.memory.votes:
        return
    if turn.memory.state is State.PROPOSED:
        turn.go(State.STOPPING)
    turn.memory.votes[turn.me] = Vote(Verdict.FAILED, report, {})
    note_failure(turn)
    for party in turn.others:
        turn.post(party, Refusal(report))
    consider(turn)


def end_consent(turn: Turn, report: FailureReport) -> None:
    """Ends this party's part: it refuses a job that it has not countersigned, and fails one that it has."""
    report = replace(report, phase=turn.memory.phase)
    if turn.memory.state is State.PROPOSED and turn.me not in turn.memory.digests:
        refuse(turn, report)
    else:
        fail(turn, report)


def release(turn: Turn, vote: Vote) -> None:
    """Votes that the work is done. Another session may have the slot; links stay open until the end, peers may still read."""
    give_slot_back(turn)
    turn.go(State.RELEASING)
    cast(turn, vote)


def cast(turn: Turn, vote: Vote) -> None:
    """Stores the vote and tells the lead."""
    turn.memory.votes[turn.me] = vote
    if vote.verdict is Verdict.FAILED:
        note_failure(turn)
    if not turn.leads:
        turn.post(turn.spec.lead, vote)
    consider(turn)


def count_vote(turn: Turn, sender: str, vote: Vote) -> None:
    """Lead: counts a vote; the first one of a party stands."""
    turn.demand(turn.leads, sender, "votes go to the lead")
    check_vote(turn, sender, vote)
    turn.memory.votes.setdefault(sender, vote)
    if vote.verdict is Verdict.FAILED:
        note_failure(turn)
    consider(turn)


def find_silent(turn: Turn, party: str) -> None:
    """Notes that a party is presumed gone."""
    silence_s = round(turn.now - turn.last_heard(party))
    report = turn.report(ErrorCode.PARTY_UNREACHABLE, f"{party} has not answered for {silence_s} s", accused=party)
    turn.memory.findings[party] = report
    note_failure(turn)
    consider(turn)


def note_failure(turn: Turn) -> None:
    """Notes when the first failure became known here."""
    if turn.memory.failing_since is None:
        turn.memory.failing_since = turn.now


def consider(turn: Turn) -> None:
    """Lead: sets the time to decide. All in: at once. A failure: after a grace for reports that explain it better."""
    memory = turn.memory
    if not turn.leads or memory.accepted is not None or memory.ballot_phase is not BallotPhase.IDLE:
        return
    complete = set(memory.votes) | set(memory.findings) >= set(turn.spec.participants)
    if memory.cancelled or (complete and memory.phase is not State.PROPOSED):  # before agreement more reasons may be coming
        when = turn.now
    elif turn.is_failing:
        since = memory.failing_since if memory.failing_since is not None else turn.now
        when = max(turn.now, since + (turn.timing.finding_grace_s if _is_finding(turn) else turn.timing.grace_s))
        # Whoever takes this question in time is alive, and an accusation of it is not proven.
        if memory.decide_at is None:
            for party in turn.others:
                turn.say(party, AskEnding(0))
        elif _is_finding(turn):
            memory.decide_at = None  # it may have been set by a report of what only follows from the finding
    else:
        return
    when = max(when, memory.retry_at)
    memory.decide_at = when if memory.decide_at is None else min(when, memory.decide_at)


def _is_finding(turn: Turn) -> bool:
    """Whether somebody reported what others find out for themselves too: whether they agree decides who is at fault."""
    reports = [vote.report for vote in turn.memory.votes.values() if vote.report is not None]
    return any(report.code in FOUND_BY_SEVERAL for report in reports)
