"""One call of the machine: what the rules read, and the few things that they can do."""

from __future__ import annotations

from protocols.errors import ConfideError, ErrorCode
from protocols.session import actions as act
from protocols.session.memory import Memory
from protocols.session.messages import Body, FailureReport, Prepare, PrepareReply, Release, SessionMessage, Start, Verdict
from protocols.session.outbox import Letter
from protocols.session.spec import SessionSpec
from protocols.session.states import State
from protocols.session.timing import Timing


class Turn:
    """The session as the rules see it during one event.

    Attributes:
        spec: what is fixed.
        me: this party.
        memory: what is remembered; changed in place.
        now: Unix time in seconds.
        actions: what the runner will be asked to do, in order.
    """

    def __init__(self, spec: SessionSpec, me: str, memory: Memory, now: float) -> None:
        self.spec = spec
        self.me = me
        self.memory = memory
        self.now = now
        self.actions: list[act.Action] = []

    @property
    def timing(self) -> Timing:
        """The session's time constants."""
        return self.spec.timing

    @property
    def leads(self) -> bool:
        """Whether this party leads."""
        return self.me == self.spec.lead

    @property
    def others(self) -> tuple[str, ...]:
        """All participants but this one."""
        return tuple(party for party in self.spec.participants if party != self.me)

    @property
    def place(self) -> int:
        """This party's place in the order; the lead's is 0."""
        return self.spec.participants.index(self.me)

    @property
    def is_failing(self) -> bool:
        """Whether anything is known here because of which the session cannot complete."""
        memory = self.memory
        failed = any(vote.verdict is Verdict.FAILED for vote in memory.votes.values())
        return failed or memory.cancelled or bool(memory.findings) or memory.state is State.STOPPING

    def do(self, action: act.Action) -> None:
        """Asks the runner for something."""
        self.actions.append(action)

    def say(self, to: str, body: Body) -> None:
        """Sends a message once; it may be lost."""
        self._send(to, body)

    def post(self, to: str, body: Body) -> None:
        """Sends a message and repeats it until it is delivered."""
        self.memory.outbox.post(Letter(to, body, wants_answer=False, due=self.now))

    def ask(self, to: str, body: Body) -> None:
        """Sends a message and repeats it until it is answered, that is until the letter is dropped."""
        self.memory.outbox.post(Letter(to, body, wants_answer=True, due=self.now))

    def send_letter(self, letter: Letter) -> None:
        """Sends a letter of the outbox again."""
        letter.token = self._send(letter.to, letter.body)
        letter.tries += 1
        letter.due = self.now + self.timing.send_timeout_s

    def go(self, state: State) -> None:
        """Moves to another state."""
        memory = self.memory
        memory.state = state
        memory.entered_at = self.now
        if state is State.AGREED:
            memory.watch_since = max(memory.watch_since, self.now)
        if state is State.STOPPING:
            memory.watch_since = self.now if memory.phase is State.PROPOSED else memory.watch_since
            memory.outbox.drop(Prepare, PrepareReply, Release, Start)
        elif not state.is_terminal:
            memory.phase = state

    def heard(self, party: str) -> None:
        """Notes what a party said; it takes back what was presumed from silence."""
        memory = self.memory
        memory.spoke[party] = self.now
        self.reached(party)
        if memory.findings.pop(party, None) is not None and not self.is_failing:
            memory.failing_since = None

    def reached(self, party: str) -> None:
        """Notes that the party took a message: it lives, though what it says may not arrive."""
        self.memory.heard[party] = self.now
        self.memory.lacks_job.discard(party)

    def last_heard(self, party: str) -> float:
        """When the party last gave the sign of life that this one waits for, or since when it could have.

        The others ask the lead, whose taking the question is the sign. The lead waits to be asked: if it only spoke and heard
        nothing, the others would have given it up, and it would not know.
        """
        signs = self.memory.spoke if self.leads else self.memory.heard
        return max(signs.get(party, 0.0), self.memory.watch_since)

    def report(self, code: ErrorCode, text: str, *, accused: str = "") -> FailureReport:
        """Returns a report about the current phase."""
        return FailureReport(code, self.memory.phase, accused, text)

    def demand(self, met: bool, sender: str, what: str) -> None:
        """Refuses a message that its sender may not send.

        Raises:
            ConfideError: BAD_FRAME (the sender's fault).
        """
        if not met:
            raise ConfideError(ErrorCode.BAD_FRAME, f"{sender}: {what}", party=sender)

    def _send(self, to: str, body: Body) -> int:
        memory = self.memory
        memory.token += 1
        message = SessionMessage(self.spec.session, self.spec.attempt, self.me, body)
        self.do(act.Send(to, memory.token, message, attach_job=to in memory.lacks_job))
        return memory.token
