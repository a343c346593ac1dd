"""Where queries wait and answers leave, as a serving session sees it; the worker has the real one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from protocols.errors import ErrorCode
from protocols.mpc.serving_turns import EndReason, Query
from protocols.ring import RingArray


@dataclass(frozen=True)
class Waiting:
    """A query whose share is held here; `age_s` is for how many seconds."""

    query: Query
    age_s: float


class Desk(Protocol):
    """One computing party's desk. It takes a query id once, however often somebody sends it."""

    @property
    def is_stopping(self) -> bool:
        """Whether somebody at this party asked for the end."""
        ...

    def open(self) -> None:
        """Says that queries are answered from now on."""
        ...

    def waiting(self, *, besides: Collection[str] = (), timeout_s: float) -> Sequence[Waiting]:
        """Returns all that wait, in the order in which they came.

        Args:
            besides: ids of queries that are no reason to return.
            timeout_s: how long to wait for another one, or for being asked to stop; seconds.
        """
        ...

    def held(self, queries: Sequence[Query], *, timeout_s: float) -> tuple[bool, ...]:
        """Returns which of these queries, with so many rows, wait here, after waiting for the others for at most so long."""
        ...

    def take(self, query_id: str) -> RingArray:
        """Returns a waiting query's share, (rows, features) int64, once; secret."""
        ...

    def refuse(self, query_id: str, code: ErrorCode, what: str) -> None:
        """Tells the querier why a waiting query is not answered, and forgets it."""
        ...

    def commit(self, query_id: str, share: RingArray) -> bytes:
        """Keeps an answer, this party's refreshed share, under a fresh nonce, and returns the commitment to it: 32 bytes."""
        ...

    def answer(self, query_id: str, commitments: Mapping[str, bytes]) -> None:
        """Hands out the answer that was committed to, with the commitments of all computing parties."""
        ...

    def close(self, reason: EndReason) -> None:
        """Refuses all that wait, and whatever comes."""
        ...
