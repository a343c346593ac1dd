"""From a proposed job to the same plan at everybody: countersignatures, refusals, cancelling."""

from __future__ import annotations

from protocols.errors import ConfideError, ErrorCode
from protocols.session import actions as act
from protocols.session.messages import CancelRequest, Countersignature, Refusal, Verdict, Vote
from protocols.session.states import State
from protocols.session.turn import Turn
from protocols.session.voting import consider, fail, note_failure


def accept_job(turn: Turn, plan_digest: str, manifest: str) -> None:
    """Countersigns the plan; refuses a second, different countersignature (INTERNAL, ours)."""
    memory = turn.memory
    if memory.digests.get(turn.me, plan_digest) != plan_digest:
        raise ConfideError(ErrorCode.INTERNAL, "this party has countersigned another plan of the same session")
    memory.digests[turn.me] = plan_digest
    memory.poll_at = turn.now + turn.timing.poll_s
    for party in turn.others:
        turn.post(party, Countersignature(plan_digest, manifest))
    compare(turn)


def count_countersignature(turn: Turn, sender: str, body: Countersignature) -> None:
    """Counts a countersignature; a party that signs two plans is refused (BAD_FRAME, the sender's fault)."""
    digests = turn.memory.digests
    turn.demand(digests.get(sender, body.plan_digest) == body.plan_digest, sender, "two plans countersigned in one session")
    digests[sender] = body.plan_digest
    if turn.memory.state is State.PROPOSED:
        compare(turn)


def compare(turn: Turn) -> None:
    """Agrees when all countersigned the same plan; stops as soon as two plans differ."""
    digests = turn.memory.digests
    if turn.me not in digests:
        return
    if len(set(digests.values())) > 1:
        other = next(p for p in turn.spec.participants if p in digests and digests[p] != digests[turn.me])
        text = f"derived plan {digests[turn.me][:12]}, {other} derived {digests[other][:12]}"
        fail(turn, turn.report(ErrorCode.PLAN_DIFFERS, text))
    elif len(digests) == len(turn.spec.participants):
        turn.go(State.AGREED)
        request_slot(turn, 0.0)


def request_slot(turn: Turn, backoff_s: float) -> None:
    """Lead: waits for the local slot; the others wait for the lead."""
    memory = turn.memory
    if not turn.leads:
        return
    memory.tickets += 1
    memory.ticket = memory.tickets
    turn.do(act.RequestSlot(memory.ticket, backoff_s))


def hear_refusal(turn: Turn, sender: str, body: Refusal) -> None:
    """Stops: without this participant there is no session."""
    turn.memory.votes.setdefault(sender, Vote(Verdict.FAILED, body.report, {}))
    note_failure(turn)
    if turn.memory.state is not State.STOPPING:
        turn.go(State.STOPPING)
    consider(turn)


def ask_cancel(turn: Turn) -> None:
    """Takes the querier's wish to the lead.

    Raises:
        ConfideError: CANCEL_TOO_LATE (the request's fault): an ending is already proposed.
    """
    memory = turn.memory
    if memory.accepted is not None:
        refuse_cancel(turn)
    if not memory.cancelled:
        memory.watch_since = max(memory.watch_since, turn.now) if memory.state is State.PROPOSED else memory.watch_since
    memory.cancelled = True
    note_failure(turn)
    if turn.leads:
        consider(turn)
    else:
        turn.post(turn.spec.lead, CancelRequest())


def hear_cancel(turn: Turn, sender: str) -> None:
    """Lead: cancels unless an ending is already proposed."""
    turn.demand(turn.leads, sender, "a request to cancel goes to the lead")
    if turn.memory.accepted is None:
        turn.memory.cancelled = True
        note_failure(turn)
        consider(turn)


def refuse_cancel(_turn: Turn) -> None:
    """Refuses to cancel: too late."""
    raise ConfideError(ErrorCode.CANCEL_TOO_LATE)
