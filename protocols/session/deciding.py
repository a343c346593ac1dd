"""One ending for all: a ballot among the participants (Lamport, "The Part-Time Parliament", single decree).

Purpose: all participants adopt one `Ending`, although any of them may crash and restart and messages may be lost.

An ending takes effect when a majority of the participants has stored it as accepted under one ballot. Ballot 0 is the lead's
and needs no inquiry. Anybody else, and a lead that restarted, takes a higher ballot (ballot modulo number of participants is
the place of its owner, so no two own the same), first asks all whether they know an ending or have accepted one, and goes on
with a majority behind it: it proposes the ending accepted under the highest ballot it met, and its own only if there is none.
So once an ending has taken effect, no other can.

Additions to the textbook, each safe because it only forbids or waits:
  - Only the lead writes COMPLETED or WITHHELD, and a participant accepts them only after its own vote for them.
  - COMPLETED carries the computing parties' commitments to their output shares. A participant accepts it only if it holds one
    for each output of each computing party, and its own as it voted them: whoever opens a share has seen all commitments.
  - A participant that reaches no majority and did not vote DONE knows that COMPLETED is impossible. It ends alone after a
    while and marks its document; a document by majority replaces that one later. One that voted DONE waits much longer.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from protocols.errors import ErrorCode
from protocols.job import TIME_FORMAT
from protocols.session import actions as act
from protocols.session.cause import weigh
from protocols.session.documents import clean_text
from protocols.session.memory import BallotPhase
from protocols.session.messages import (
    AskEnding,
    Ending,
    EndingAccepted,
    EndingReply,
    FailureReport,
    ProposeEnding,
    Verdict,
    Vote,
)
from protocols.session.states import State
from protocols.session.turn import Turn

# A release of outputs must have been voted for by the very participant that accepts it.
_VOTES_FOR = {State.COMPLETED: {Verdict.DONE}, State.WITHHELD: {Verdict.DONE, Verdict.WITHHELD}}


def decide(turn: Turn) -> None:
    """Begins to decide, unless this party already does or there is nothing to decide yet."""
    memory = turn.memory
    memory.decide_at = None
    if memory.ballot_phase is not BallotPhase.IDLE:
        return
    untouched = memory.promised == 0 and memory.accepted is None and not memory.careful
    if turn.leads and untouched:
        ending = _compose(turn)
        if ending is not None:
            _propose(turn, 0, ending)
    else:
        inquire(turn)


def inquire(turn: Turn) -> None:
    """Takes a new ballot and asks everybody to support it."""
    memory = turn.memory
    count = len(turn.spec.participants)
    memory.ballot = (max(memory.promised, memory.ballot) // count + 1) * count + turn.place
    memory.promised = memory.ballot
    memory.ballot_phase = BallotPhase.ASKING
    memory.supporters = {turn.me}
    memory.found_ballot, memory.found = memory.accepted_ballot, memory.accepted
    memory.ask_until = turn.now + turn.timing.ask_s
    _seek(turn)
    for party in turn.others:
        turn.say(party, AskEnding(memory.ballot))


def close_inquiry(turn: Turn) -> None:
    """Goes on with what the inquiry found, or asks again if no majority answered."""
    memory = turn.memory
    memory.ballot_phase = BallotPhase.IDLE
    if len(memory.supporters) < turn.spec.majority:
        inquire(turn)
        return
    ending = memory.found if memory.found is not None else _compose(turn)
    if ending is None:
        memory.seeking_since = None
        return
    _propose(turn, memory.ballot, ending)


def answer_inquiry(turn: Turn, sender: str, body: AskEnding) -> None:
    """Promises the ballot and says what is known here. A plain question needs no answer: delivery is the sign of life."""
    memory = turn.memory
    if body.ballot == 0:
        return
    _check_owner(turn, sender, body.ballot)
    if body.ballot > memory.promised:
        memory.promised = body.ballot
        _stand_back(turn)
    turn.say(sender, _reply(turn, body.ballot))


def count_answer(turn: Turn, sender: str, body: EndingReply) -> None:
    """Counts the support for the own ballot."""
    memory = turn.memory
    if body.accepted is not None:
        _check_ending(turn, sender, body.accepted)
    if body.vote is not None:
        check_vote(turn, sender, body.vote)
        memory.votes.setdefault(sender, body.vote)
    if body.ballot != memory.ballot or memory.ballot_phase is BallotPhase.IDLE:
        return
    if body.promised > memory.ballot:
        memory.promised = max(memory.promised, body.promised)
        _stand_back(turn)
        return
    if memory.ballot_phase is not BallotPhase.ASKING:
        return
    memory.supporters.add(sender)
    if body.accepted is not None and body.accepted_ballot > memory.found_ballot:
        memory.found_ballot, memory.found = body.accepted_ballot, body.accepted
    if len(memory.supporters) == len(turn.spec.participants):
        close_inquiry(turn)


def accept_ending(turn: Turn, sender: str, body: ProposeEnding) -> None:
    """Accepts a proposal unless a higher ballot is promised; refuses one that this party did not vote for."""
    memory = turn.memory
    _check_owner(turn, sender, body.ballot)
    _check_ending(turn, sender, body.ending)
    if body.ballot < memory.promised:
        turn.say(sender, _reply(turn, body.ballot))
        return
    if body.ballot > memory.promised:
        _stand_back(turn)
    memory.promised = memory.accepted_ballot = body.ballot
    memory.accepted = body.ending
    turn.say(sender, EndingAccepted(body.ballot))
    # Its author accepted the proposal before sending it, so with two of three this is already a majority.
    if len({sender, turn.me}) >= turn.spec.majority:
        conclude(turn, body.ending)
    elif turn.leads:
        memory.decide_at = memory.retry_at = turn.now + turn.timing.ballot_patience_s  # should its author fall silent


def count_acceptance(turn: Turn, sender: str, body: EndingAccepted) -> None:
    """Counts an acceptance of the own proposal; with a majority the ending takes effect and everybody is told."""
    memory = turn.memory
    if body.ballot != memory.ballot or memory.ballot_phase is not BallotPhase.PROPOSING or memory.accepted is None:
        return
    memory.acceptors.add(sender)
    memory.outbox.drop(ProposeEnding, to=sender)
    if len(memory.acceptors) >= turn.spec.majority:
        ending = memory.accepted
        conclude(turn, ending)
        for party in turn.others:
            turn.say(party, ending)


def adopt_ending(turn: Turn, sender: str, ending: Ending) -> None:
    """Adopts the ending that another participant knows."""
    _check_ending(turn, sender, ending)
    conclude(turn, ending)


def conclude(turn: Turn, ending: Ending) -> None:
    """Ends the session here: work stops, outputs are published or discarded, the ending is shown."""
    memory = turn.memory
    memory.ending = ending
    memory.ballot_phase = BallotPhase.IDLE
    memory.outbox.clear()
    stop_work(turn)
    turn.go(ending.state)
    turn.do(act.PublishOutputs() if ending.state is State.COMPLETED else act.DiscardOutputs())
    turn.do(act.Announce(ending))
    if not ending.by_majority:
        look_for_majority(turn)


def end_alone(turn: Turn) -> None:
    """Ends the session without a majority, and tells whoever listens."""
    memory = turn.memory
    ending = memory.accepted
    if ending is None or ending.state in _VOTES_FOR:
        for party in turn.others:
            if party not in memory.votes and turn.now - turn.last_heard(party) > turn.timing.alone_after_s:
                report = turn.report(ErrorCode.PARTY_UNREACHABLE, f"{party} does not answer", accused=party)
                memory.findings.setdefault(party, report)
        ending = _compose(turn)
    if ending is None or ending.state in _VOTES_FOR:
        ending = _write(turn, [(turn.me, turn.report(ErrorCode.PARTY_UNREACHABLE, "no majority of the parties answers"))])
    ending = replace(ending, decided_by=turn.me, by_majority=False)
    conclude(turn, ending)
    for party in turn.others:
        turn.say(party, ending)


def look_for_majority(turn: Turn) -> None:
    """After ending alone: asks the others now and then whether they ended otherwise."""
    memory = turn.memory
    memory.agrees = {turn.me}
    memory.alone_poll_at = turn.now + turn.timing.alone_poll_s
    memory.alone_until = turn.now + turn.timing.doubt_limit_s


def set_record_right(turn: Turn, sender: str, ending: Ending) -> None:
    """Replaces the document of a party that ended alone by one with more standing; nothing was released in either case.

    An ending by majority stands above one written alone, and among those the one of the party that comes first in the order.
    """
    memory = turn.memory
    if memory.ending is None or memory.ending.by_majority or ending.state in _VOTES_FOR:
        return
    turn.demand(ending.session == turn.spec.session and ending.attempt == turn.spec.attempt, sender, "ending of another session")
    turn.demand(ending.decided_by in turn.spec.participants, sender, "an ending by somebody who does not take part")
    if _standing(turn, ending) > _standing(turn, memory.ending):
        memory.ending = ending
        memory.agrees = {turn.me}
        turn.go(ending.state)
        turn.do(act.Announce(ending))
    if ending == memory.ending:
        memory.agrees.add(sender)
    if memory.ending.by_majority or len(memory.agrees) == len(turn.spec.participants):
        memory.alone_poll_at = None


def check_vote(turn: Turn, sender: str, vote: Vote) -> None:
    """Refuses a vote for done that does not commit to the sender's share of each output (BAD_FRAME, the sender's fault)."""
    expected = turn.spec.committed_by(sender) if vote.verdict is Verdict.DONE else frozenset()
    turn.demand(set(vote.commitments) == expected, sender, "a vote without one commitment to each output")


def stop_work(turn: Turn) -> None:
    """Stops the worker and gives the slot back, if there are any."""
    memory = turn.memory
    if memory.works:
        memory.works = False
        turn.do(act.StopWorker(memory.worker))
    give_slot_back(turn)


def give_slot_back(turn: Turn) -> None:
    """Gives the slot back, or withdraws the request for it."""
    memory = turn.memory
    if memory.ticket:
        turn.do(act.ReleaseSlot(memory.ticket))
        memory.ticket = 0


def may_be_completed(turn: Turn) -> bool:
    """Whether COMPLETED can be in effect elsewhere, as far as this party can know."""
    memory = turn.memory
    if turn.leads:
        return memory.accepted is not None and memory.accepted.state in _VOTES_FOR
    own = memory.votes.get(turn.me)
    return own is not None and own.verdict is Verdict.DONE


def _propose(turn: Turn, ballot: int, ending: Ending) -> None:
    memory = turn.memory
    memory.ballot = memory.promised = memory.accepted_ballot = ballot
    memory.accepted = ending
    memory.ballot_phase = BallotPhase.PROPOSING
    memory.acceptors = {turn.me}
    _seek(turn)
    for party in turn.others:
        turn.ask(party, ProposeEnding(ballot, ending))


def _seek(turn: Turn) -> None:
    memory = turn.memory
    if memory.seeking_since is None:
        memory.seeking_since = turn.now
        memory.alone_check_at = turn.now + turn.timing.alone_after_s


def _stand_back(turn: Turn) -> None:
    """Leaves the decision to the owner of a higher ballot for a while; places differ, so that two do not collide for ever."""
    memory = turn.memory
    memory.ballot_phase = BallotPhase.IDLE
    memory.outbox.drop(ProposeEnding)
    memory.retry_at = turn.now + turn.timing.ballot_patience_s + turn.place * turn.timing.deputy_stagger_s
    if turn.leads and (memory.decide_at is not None or memory.accepted is not None or memory.failing_since is not None):
        memory.decide_at = memory.retry_at


def _reply(turn: Turn, ballot: int) -> EndingReply:
    memory = turn.memory
    return EndingReply(ballot, memory.promised, memory.accepted_ballot, memory.accepted, memory.votes.get(turn.me))


def _check_owner(turn: Turn, sender: str, ballot: int) -> None:
    participants = turn.spec.participants
    owns = participants[ballot % len(participants)] == sender and (ballot == 0 or ballot >= len(participants))
    turn.demand(owns, sender, "a ballot that belongs to another participant")


def _check_ending(turn: Turn, sender: str, ending: Ending) -> None:
    own = turn.memory.votes.get(turn.me)
    wanted = _VOTES_FOR.get(ending.state)
    turn.demand(ending.session == turn.spec.session and ending.attempt == turn.spec.attempt, sender, "ending of another session")
    turn.demand(ending.decided_by in turn.spec.participants, sender, "an ending by somebody who does not take part")
    turn.demand(
        wanted is None or (own is not None and own.verdict in wanted), sender, "a release that this party did not vote for"
    )
    turn.demand(wanted is None or ending.by_majority, sender, "a release without a majority")
    if ending.state is State.COMPLETED and own is not None:
        _check_commitments(turn, sender, ending, own)


def _check_commitments(turn: Turn, sender: str, ending: Ending, own: Vote) -> None:
    wanted = {party: turn.spec.committed_by(party) for party in turn.spec.committers if turn.spec.outputs}
    found = {party: frozenset(commitments) for party, commitments in ending.commitments.items()}
    turn.demand(found == wanted, sender, "a completed ending without the commitments of all computing parties")
    mine = dict(ending.commitments.get(turn.me, {}))
    turn.demand(mine == dict(own.commitments), sender, "other commitments than this party voted")


def _standing(turn: Turn, ending: Ending) -> tuple[bool, int, str, str]:
    return (ending.by_majority, -turn.spec.participants.index(ending.decided_by), ending.time, ending.cause)


def _compose(turn: Turn) -> Ending | None:
    """The ending that follows from what is known here; None if nothing does. Only the lead composes a release."""
    memory = turn.memory
    votes = [(party, memory.votes[party]) for party in turn.spec.participants if party in memory.votes]
    reports = [(party, vote.report) for party, vote in votes if vote.report is not None and vote.verdict is Verdict.FAILED]
    reports += [(turn.me, memory.findings[party]) for party in turn.spec.participants if party in memory.findings]
    if memory.cancelled:
        reports.append((turn.me, turn.report(ErrorCode.CANCELLED, "cancelled by the querier")))
    if reports:
        return _write(turn, reports)
    if not turn.leads or len(votes) < len(turn.spec.participants):
        return None
    withheld = [(party, vote.report) for party, vote in votes if vote.report is not None]
    if withheld:
        party, report = withheld[0]
        return _document(turn, State.WITHHELD, report, at_fault="", text=f"{party}: {report.text}")
    committed = {party: vote.commitments for party, vote in votes if vote.commitments}
    return replace(_document(turn, State.COMPLETED, None, at_fault="", text=""), commitments=committed)


def _write(turn: Turn, reports: list[tuple[str, FailureReport]]) -> Ending:
    memory = turn.memory
    since = memory.failing_since if memory.failing_since is not None else turn.now
    reporters = {reporter for reporter, _ in reports}
    silent = frozenset(p for p in turn.others if p not in reporters and memory.heard.get(p, 0.0) < since)
    cause = weigh(reports, turn.spec.participants, silent)
    text = (
        _difference(turn) if cause.report.code is ErrorCode.PLAN_DIFFERS and len(set(memory.digests.values())) > 1 else cause.text
    )
    return _document(turn, cause.state, cause.report, at_fault=cause.at_fault, text=text)


def _document(turn: Turn, state: State, report: FailureReport | None, *, at_fault: str, text: str) -> Ending:
    return Ending(
        session=turn.spec.session,
        attempt=turn.spec.attempt,
        state=state,
        code="" if report is None else report.code.name,
        phase=State.RELEASING if report is None else report.phase,
        at_fault=at_fault,
        cause=clean_text(text),
        remedy="" if report is None else report.code.entry.remedy,
        decided_by=turn.me,
        time=datetime.fromtimestamp(int(turn.now), UTC).strftime(TIME_FORMAT),
        by_majority=True,
        commitments={},
    )


def _difference(turn: Turn) -> str:
    """Who derived which plan. A minority differs; that does not prove which side is wrong, so nobody is at fault."""
    digests = turn.memory.digests
    known = [party for party in turn.spec.participants if party in digests]
    text = ", ".join(f"{party} {digests[party][:12]}" for party in known)
    counts = {digest: list(digests.values()).count(digest) for digest in digests.values()}
    common = max(counts, key=lambda digest: counts[digest])
    if len(known) == len(turn.spec.participants) and 2 * counts[common] > len(known):
        text += "; differs: " + ", ".join(party for party in known if digests[party] != common)
    return f"plan digests: {text}"
