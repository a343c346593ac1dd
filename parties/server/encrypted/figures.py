"""What the desk of enquiries tells those who watch over a party: how it works, never what about or for whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

ANSWERED = "OK"


class Observe(Protocol):
    """Who is told how requests end; called from several threads."""

    def ended(self, code: str) -> None:
        """A request has ended: with an error code's name, or with OK once its answer is debited."""
        ...

    def evaluated(self, seconds: float) -> None:
        """An evaluator was occupied for so long with one query, loading what it needs included; however that ended."""
        ...


@dataclass(frozen=True)
class Figures:
    """What is occupied now.

    Attributes:
        waiting: queries that wait for an evaluator.
        busy: evaluators that have a query.
        upload_bytes: evaluation keys and large queries in memory, of all researchers.
    """

    waiting: int
    busy: int
    upload_bytes: int
