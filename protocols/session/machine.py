"""The session machine: pure, the same at every participant; the runner does all input and output.

How a runner uses it:

    machine = SessionMachine(spec, party)                  # once the signed job is stored; or restore(spec, party, snapshot)
    loop: wait for an event, or until machine.next_deadline (then the event is Tick())
        actions = machine.handle(event, now)               # now: Unix time in seconds, never running backwards
        store machine.snapshot() in one transaction        # only if it differs from the stored one
        perform the actions in order                       # their results come back as events
        to a Received event: only now answer the sender    # so that Delivered means stored

1. A new machine wants `JobAccepted` or `JobRefused` as soon as the local check is done; messages may come before that.
2. After `restore` the first event must be `Recovered`. A snapshot that cannot be stored is as good as a crash: restore the
   machine from the stored one, stop its worker, give its slot back, let whatever was still to come to it come to nothing, and
   feed `Recovered` when storing works again.
3. `Send` never blocks and always comes back as `Delivered` or `Undelivered`, at the latest after 5 s. A call that the receiver
   refuses for good counts as delivered; one that it refuses because it does not know the session is
   `Undelivered(needs_job=True)`. A receiver that gets the job with a message first checks the job and makes its machine.
4. A slot is room for the session's one worker; how many a party has is the runner's matter. Answers to `RequestSlot` and
   `TrySlot` carry the ticket; a grant that crosses a `ReleaseSlot` is void at both ends.
5. Events of a worker carry the number that `StartWorker` gave it. It reports at least every 5 s.
6. `handle` raises `ConfideError` and changes nothing if the event does not fit: BAD_FRAME, UNKNOWN_SESSION or NOT_AUTHORISED
   (the sender's fault), CANCEL_TOO_LATE (tell the querier), INTERNAL (the runner's).
7. After the terminal state the machine answers others that ask for the ending; keep it, or make it again from its snapshot.
"""

from __future__ import annotations

from typing import Any

from protocols.canonical import Document
from protocols.errors import ConfideError, ErrorCode
from protocols.session import actions as act
from protocols.session import clock
from protocols.session import events as on
from protocols.session import messages as said
from protocols.session.memory import Memory
from protocols.session.rules import perform
from protocols.session.spec import SessionSpec
from protocols.session.states import State
from protocols.session.table import Cell, look_up
from protocols.session.turn import Turn


class SessionMachine:
    """One participant's view of one session; see the module for its use."""

    def __init__(self, spec: SessionSpec, party: str) -> None:
        """Makes the machine of a newly proposed session.

        Raises:
            ConfideError: NOT_AUTHORISED (the request's fault): the party does not take part.
        """
        if party not in spec.participants:
            raise ConfideError(ErrorCode.NOT_AUTHORISED, f"{party} takes no part in session {spec.session}")
        self._spec = spec
        self._party = party
        self._memory = Memory()
        self._asleep = False

    @staticmethod
    def restore(spec: SessionSpec, party: str, snapshot: Document) -> SessionMachine:
        """Makes the machine from its snapshot; feed `Recovered` first.

        Raises:
            ConfideError: STATE_DAMAGED (the operator's set-up): the snapshot cannot be read.
        """
        machine = SessionMachine(spec, party)
        try:
            machine._memory = Memory.from_document(dict(snapshot))
        except ConfideError as error:
            raise ConfideError(ErrorCode.STATE_DAMAGED, f"stored state of session {spec.session}: {error.what}") from error
        machine._asleep = True
        return machine

    @property
    def spec(self) -> SessionSpec:
        """What is fixed about the session."""
        return self._spec

    @property
    def party(self) -> str:
        """Whose view this is."""
        return self._party

    @property
    def state(self) -> State:
        """Where this participant stands."""
        return self._memory.state

    @property
    def ending(self) -> said.Ending | None:
        """The end, once there is one."""
        return self._memory.ending

    @property
    def vote(self) -> said.Vote | None:
        """This party's own vote, once it is cast; it is never changed."""
        return self._memory.votes.get(self._party)

    @property
    def is_settled(self) -> bool:
        """Whether the outputs are known to be published or discarded."""
        return self._memory.settled

    @property
    def next_deadline(self) -> float | None:
        """Unix time in seconds at which `Tick` is due; None if nothing is waited for."""
        turn = Turn(self._spec, self._party, self._memory, 0.0)
        return None if self._asleep else min((timer.due for timer in clock.timers(turn)), default=None)

    def snapshot(self) -> dict[str, Any]:
        """Returns what must survive a restart: strings, whole numbers, booleans, lists, objects; nothing secret."""
        return self._memory.to_document()

    def handle(self, event: on.Event, now: float) -> tuple[act.Action, ...]:
        """Follows the transition table for one event, then does what is due.

        Args:
            event: what happened.
            now: Unix time in seconds.

        Returns:
            What the runner has to do, in order, after storing the snapshot.

        Raises:
            ConfideError: the event does not fit; see the module. Nothing has changed then.
        """
        turn = Turn(self._spec, self._party, self._memory, now)
        if self._asleep != isinstance(event, on.Recovered):
            raise ConfideError(ErrorCode.INTERNAL, "Recovered is the first event after a restore, and comes only then")
        self._asleep = False
        if isinstance(event, on.Received):
            self._check_sender(event.message)
        self._follow(turn, event)
        if not isinstance(event, on.Tick):
            self._follow(turn, on.Tick())
        return tuple(turn.actions)

    def _check_sender(self, message: said.SessionMessage) -> None:
        if (message.session, message.attempt) != (self._spec.session, self._spec.attempt):
            raise ConfideError(ErrorCode.UNKNOWN_SESSION, "a message of another session or attempt", party=message.sender)
        if message.sender not in self._spec.participants or message.sender == self._party:
            raise ConfideError(ErrorCode.NOT_AUTHORISED, f"{message.sender} is no other participant", party=message.sender)

    def _follow(self, turn: Turn, event: on.Event) -> None:
        memory = turn.memory
        before = memory.state
        cell = _cell_for(before, event)
        perform(turn, cell.rule, event)
        if memory.state is not before and memory.state not in cell.to:
            raise ConfideError(ErrorCode.INTERNAL, f"rule {cell.rule.name} moved from {before.name} to {memory.state.name}")


def _cell_for(state: State, event: on.Event) -> Cell:
    kind: on.Kind = type(event.message.body) if isinstance(event, on.Received) else type(event)
    cell = look_up(state, kind)
    if cell is not None:
        return cell
    if isinstance(event, on.Received):
        sender = event.message.sender
        raise ConfideError(ErrorCode.BAD_FRAME, f"{sender} sent {kind.__name__} in state {state.name}", party=sender)
    raise ConfideError(ErrorCode.INTERNAL, f"event {kind.__name__} in state {state.name}")
