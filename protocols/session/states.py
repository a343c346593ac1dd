"""The states of a session; the same at every participant."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where one participant stands; the value travels in documents and is shown to people.

    The order is the order of a session's life. Failures name the last working state as their phase, never `STOPPING`.
    """

    PROPOSED = "proposed"  # the job is known; countersignatures are collected
    AGREED = "agreed"  # everybody countersigned the same plan; the session waits for its turn
    PREPARING = "preparing"  # the slot is reserved, the worker starts, links open
    PREPARED = "prepared"  # links are authenticated, plan digests compared again
    RUNNING = "running"  # the worker computes
    RELEASING = "releasing"  # outputs are sealed and unusable, the vote is cast
    STOPPING = "stopping"  # it cannot complete any more; the ending is being agreed
    COMPLETED = "completed"
    WITHHELD = "withheld"
    ABORTED = "aborted"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the session is over in this state."""
        return self in TERMINAL


TERMINAL = frozenset({State.COMPLETED, State.WITHHELD, State.ABORTED, State.REJECTED, State.EXPIRED, State.CANCELLED})
OPEN = tuple(state for state in State if state not in TERMINAL)
