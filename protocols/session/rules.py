"""The rules of the transition table as functions; which rule applies is the table's matter alone."""

from __future__ import annotations

from protocols.errors import ConfideError, ErrorCode
from protocols.session import agreement, clock, deciding, recovery, reservation, voting, working
from protocols.session import events as on
from protocols.session import messages as said
from protocols.session.memory import BallotPhase
from protocols.session.table import Rule
from protocols.session.turn import Turn


def perform(turn: Turn, rule: Rule, event: on.Event) -> None:
    """Applies one rule to one event.

    Raises:
        ConfideError: BAD_FRAME (the sender's fault), CANCEL_TOO_LATE (the request's) or INTERNAL (ours).
    """
    if rule is Rule.IGNORE:
        if isinstance(event, on.Received):
            _hear(turn, event.message.sender)
        return
    match event:
        case on.Received(message):
            _hear_out(turn, rule, message.sender, message.body)
        case on.Delivered() | on.Undelivered() | on.Tick() | on.CancelRequested() | on.Recovered() | on.OutputsSettled():
            _go_on(turn, rule, event)
        case _:
            _work(turn, rule, event)


def _hear_out(turn: Turn, rule: Rule, sender: str, body: said.Body) -> None:
    _hear(turn, sender)
    match rule, body:
        case Rule.COUNT_COUNTERSIGNATURE, said.Countersignature():
            agreement.count_countersignature(turn, sender, body)
        case Rule.HEAR_REFUSAL, said.Refusal():
            agreement.hear_refusal(turn, sender, body)
        case Rule.PREPARE_LATER, said.Prepare():
            reservation.prepare_later(turn, sender, body)
        case Rule.TRY_SLOT, said.Prepare():
            reservation.try_slot(turn, sender, body)
        case Rule.PREPARE_AGAIN, said.Prepare():
            reservation.prepare_again(turn, sender, body)
        case Rule.COUNT_RESERVATION, said.PrepareReply():
            reservation.count_reservation(turn, sender, body)
        case Rule.RELEASE_SLOT, said.Release():
            reservation.release_slot(turn, sender, body)
        case Rule.OPEN_LINKS, said.Start():
            reservation.open_links(turn, sender, body)
        case Rule.COUNT_VOTE, said.Vote():
            voting.count_vote(turn, sender, body)
        case Rule.ANSWER_INQUIRY, said.AskEnding():
            deciding.answer_inquiry(turn, sender, body)
        case Rule.COUNT_ANSWER, said.EndingReply():
            deciding.count_answer(turn, sender, body)
        case Rule.ACCEPT_ENDING, said.ProposeEnding():
            deciding.accept_ending(turn, sender, body)
        case Rule.COUNT_ACCEPTANCE, said.EndingAccepted():
            deciding.count_acceptance(turn, sender, body)
        case Rule.ADOPT_ENDING, said.Ending():
            deciding.adopt_ending(turn, sender, body)
        case Rule.SET_RECORD_RIGHT, said.Ending():
            deciding.set_record_right(turn, sender, body)
        case Rule.HEAR_CANCEL, said.CancelRequest():
            agreement.hear_cancel(turn, sender)
        case Rule.TELL_ENDING, _:
            if turn.memory.ending is not None:
                turn.say(sender, turn.memory.ending)
        case _:
            raise _unfit(rule, body)


def _go_on(turn: Turn, rule: Rule, event: on.Event) -> None:
    match rule, event:
        case Rule.KEEP_TIME, on.Tick():
            clock.keep_time(turn)
        case Rule.NOTE_DELIVERY, on.Delivered(to, token):
            if turn.leads:
                turn.reached(to)
            else:
                _hear(turn, to)
            turn.memory.outbox.delivered(token, turn.now, turn.timing)
        case Rule.NOTE_DELIVERY, on.Undelivered(to, token, needs_job):
            _note_undelivered(turn, to, token, needs_job)
        case Rule.ASK_CANCEL, on.CancelRequested():
            agreement.ask_cancel(turn)
        case Rule.REFUSE_CANCEL, on.CancelRequested():
            agreement.refuse_cancel(turn)
        case Rule.RECOVER_WAITING, on.Recovered():
            recovery.recover_waiting(turn)
        case Rule.RECOVER_WORKING, on.Recovered(cause):
            recovery.recover_working(turn, cause)
        case Rule.RECOVER_ENDING, on.Recovered():
            recovery.recover_ending(turn)
        case Rule.RECOVER_ENDED, on.Recovered():
            recovery.recover_ended(turn)
        case Rule.NOTE_SETTLED, on.OutputsSettled():
            turn.memory.settled = True
        case _:
            raise _unfit(rule, event)


def _work(turn: Turn, rule: Rule, event: on.Event) -> None:
    match rule, event:
        case Rule.ACCEPT_JOB, on.JobAccepted(plan_digest, manifest):
            agreement.accept_job(turn, plan_digest, manifest)
        case Rule.REFUSE_JOB, on.JobRefused(report):
            voting.refuse(turn, report)
        case Rule.END_CONSENT, on.ConsentEnded(report):
            voting.end_consent(turn, report)
        case Rule.TAKE_SLOT, on.SlotGranted(ticket):
            reservation.take_slot(turn, ticket)
        case Rule.BE_BUSY, on.SlotBusy(ticket):
            reservation.be_busy(turn, ticket)
        case Rule.NOTE_PREPARED, on.WorkerPrepared():
            working.note_prepared(turn, event)
        case Rule.NOTE_RUNNING, on.WorkerRunning():
            working.note_running(turn, event)
        case Rule.NOTE_PROGRESS, on.WorkerProgress():
            working.note_progress(turn, event)
        case Rule.VOTE_DONE, on.WorkerFinished():
            working.vote_done(turn, event)
        case Rule.VOTE_WITHHELD, on.OutputWithheld():
            working.vote_withheld(turn, event)
        case Rule.VOTE_FAILED, on.WorkerFailed():
            working.vote_failed(turn, event)
        case _:
            raise _unfit(rule, event)


def _hear(turn: Turn, party: str) -> None:
    """Notes a sign of life. When the lead shows one, a deputy that has not gone beyond asking steps back."""
    memory = turn.memory
    turn.heard(party)
    if party == turn.spec.lead and memory.ballot_phase is not BallotPhase.PROPOSING:
        memory.ballot_phase = BallotPhase.IDLE
        memory.seeking_since = None


def _note_undelivered(turn: Turn, to: str, token: int, needs_job: bool) -> None:
    memory = turn.memory
    memory.outbox.undelivered(token, turn.now, turn.timing)
    if needs_job and to not in memory.lacks_job:
        memory.lacks_job.add(to)
        memory.outbox.hurry(to, turn.now)


def _unfit(rule: Rule, event: object) -> ConfideError:
    return ConfideError(ErrorCode.INTERNAL, f"rule {rule.name} does not fit {type(event).__name__}")
