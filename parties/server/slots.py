"""The party's slots: which sessions run at once, and who waits.

Pure bookkeeping; the session loop asks it and tells the sessions. A session takes a slot of what its worker needs: cores and
predicted memory. A session that leads waits in the queue for its turn; one that follows is told at once whether there is room,
so that two leads never wait for each other's slot.

The queue is fair in two ways:
  - Queriers take turns: of the claims that may have a slot now, the one whose querier was served longest ago comes first, and
    of one querier's claims the oldest.
  - A claim that has waited for `PATIENCE_S`, or has been refused for so long, is passed by no younger claim: what it needs is
    kept free until it comes. Older means created earlier. That order is the same at every party, so the oldest job of all is
    held up nowhere and large jobs neither starve nor wait for each other. A claim that was refused and does not come again is
    forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PATIENCE_S = 60.0
FORGET_S = 40.0  # above the longest wait of a lead before it asks again


@dataclass(frozen=True)
class Need:
    """What a session takes of a machine, or what a machine gives to sessions."""

    cores: int
    memory_bytes: int

    def __add__(self, other: Need) -> Need:
        return Need(self.cores + other.cores, self.memory_bytes + other.memory_bytes)

    def fits(self, room: Need) -> bool:
        """Whether there is as much in `room`."""
        return self.cores <= room.cores and self.memory_bytes <= room.memory_bytes


@dataclass(frozen=True)
class Applicant:
    """A session that wants a slot.

    Attributes:
        job_id: its id.
        querier: whose turn it is.
        created: Unix time in seconds at which the job was made; the same at every party.
        need: what its worker takes here.
    """

    job_id: str
    querier: str
    created: float
    need: Need

    @property
    def age(self) -> tuple[float, str]:
        """Sorts the oldest first."""
        return self.created, self.job_id


@dataclass(frozen=True)
class Claim:
    """One claim of a session to a slot; a session that claims again does so under another ticket."""

    job_id: str
    ticket: int


@dataclass(frozen=True)
class _Waiting:
    claim: Claim
    not_before: float


@dataclass
class _Known:
    """What is remembered of a session that has not got its slot for good."""

    applicant: Applicant
    since: float
    seen: float


class Slots:
    """Who holds a slot and who waits for one; used by one thread."""

    def __init__(self, capacity: Need) -> None:
        self._capacity = capacity
        self._held: dict[Claim, Need] = {}
        self._queue: list[_Waiting] = []
        self._known: dict[str, _Known] = {}
        self._turns: dict[str, int] = {}
        self._turn = 0

    @property
    def held(self) -> Need:
        """What all sessions with a slot take together."""
        return sum(self._held.values(), Need(0, 0))

    @property
    def num_held(self) -> int:
        """How many sessions have a slot."""
        return len(self._held)

    @property
    def num_waiting(self) -> int:
        """How many sessions wait in the queue."""
        return len(self._queue)

    def holds(self, claim: Claim) -> bool:
        """Whether the claim has a slot."""
        return claim in self._held

    def request(self, claim: Claim, applicant: Applicant, *, now: float, not_before: float) -> None:
        """Queues a claim; it gets a slot at `not_before` or later."""
        self._note(applicant, now)
        self._queue = [w for w in self._queue if w.claim != claim]
        self._queue.append(_Waiting(claim, not_before))

    def attempt(self, claim: Claim, applicant: Applicant, *, now: float) -> bool:
        """Takes a slot now if there is room; True if the claim now holds one."""
        if claim in self._held:
            return True
        self._note(applicant, now)
        if not self._may_have(applicant, now):
            return False
        self._held[claim] = applicant.need
        return True

    def release(self, claim: Claim) -> None:
        """Gives a slot back and leaves the queue; nothing happens to a claim that has neither."""
        self._held.pop(claim, None)
        self._queue = [w for w in self._queue if w.claim != claim]

    def forget(self, job_id: str) -> None:
        """Releases all claims of a session and forgets how long it has waited: it has ended, or starts anew."""
        self._held = {claim: need for claim, need in self._held.items() if claim.job_id != job_id}
        self._queue = [w for w in self._queue if w.claim.job_id != job_id]
        self._known.pop(job_id, None)

    def grant(self, now: float) -> Claim | None:
        """Gives a slot to the first claim that may have one, and returns it."""
        for waiting in self._in_turn(now):
            applicant = self._known[waiting.claim.job_id].applicant
            if self._may_have(applicant, now):
                self._queue.remove(waiting)
                self._held[waiting.claim] = applicant.need
                self._turn += 1
                self._turns[applicant.querier] = self._turn
                return waiting.claim
        return None

    def next_time(self, now: float) -> float | None:
        """When a claim that backs off is due next, or None if none does; those that wait for room need no clock."""
        return min((w.not_before for w in self._queue if w.not_before > now), default=None)

    def _in_turn(self, now: float) -> Iterable[_Waiting]:
        def place(waiting: _Waiting) -> tuple[int, tuple[float, str], int]:
            applicant = self._known[waiting.claim.job_id].applicant
            return self._turns.get(applicant.querier, 0), applicant.age, waiting.claim.ticket

        return sorted((w for w in self._queue if w.not_before <= now), key=place)

    def _note(self, applicant: Applicant, now: float) -> None:
        known = self._known.setdefault(applicant.job_id, _Known(applicant, now, now))
        known.applicant, known.seen = applicant, now

    def _may_have(self, applicant: Applicant, now: float) -> bool:
        """Whether there is room beside what is held and what older claims have waited for too long."""
        held = self.held
        queued = {w.claim.job_id for w in self._queue}
        holding = {claim.job_id for claim in self._held}
        for job_id, known in list(self._known.items()):
            if job_id not in queued | holding and now - known.seen > FORGET_S:
                del self._known[job_id]
            elif known.applicant.age < applicant.age and job_id not in holding and now - known.since >= PATIENCE_S:
                held += known.applicant.need
        return (held + applicant.need).fits(self._capacity)
