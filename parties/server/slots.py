"""The party's slots: how many sessions run at once, and who waits.

Pure bookkeeping; the session loop asks it and tells the sessions. A session that leads waits in the queue for its turn; one
that follows is told at once whether there is room, so that two leads never wait for each other's slot.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """One claim of a session to a slot; a session that claims again does so under another ticket."""

    job_id: str
    ticket: int


@dataclass(frozen=True)
class _Waiting:
    claim: Claim
    not_before: float


class Slots:
    """Who holds a slot and who waits for one; used by one thread."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: set[Claim] = set()
        self._queue: list[_Waiting] = []

    def request(self, claim: Claim, *, not_before: float) -> None:
        """Queues a claim."""
        self._queue = [w for w in self._queue if w.claim != claim]
        self._queue.append(_Waiting(claim, not_before))

    def attempt(self, claim: Claim) -> bool:
        """Takes a slot now if one is free; True if the claim now holds one."""
        if claim not in self._held and len(self._held) >= self._capacity:
            return False
        self._held.add(claim)
        return True

    def release(self, claim: Claim) -> None:
        """Gives a slot back and leaves the queue; nothing happens to a claim that has neither."""
        self._held.discard(claim)
        self._queue = [w for w in self._queue if w.claim != claim]

    def grant(self, now: float) -> Claim | None:
        """Gives a free slot to the first claim that may have one, and returns it."""
        if len(self._held) >= self._capacity:
            return None
        for waiting in self._queue:
            if waiting.not_before <= now:
                self._queue.remove(waiting)
                self._held.add(waiting.claim)
                return waiting.claim
        return None

    def next_time(self) -> float | None:
        """When the next waiting claim may be granted a slot, or None if nothing can be granted."""
        if len(self._held) >= self._capacity or not self._queue:
            return None
        return min(waiting.not_before for waiting in self._queue)
