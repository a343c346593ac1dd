"""Whose query is evaluated next, when there are more queries than evaluators.

A query of one sample takes tens of milliseconds, one of thousands of samples takes seconds: the short ones go first, long ones
never hold all evaluators where there are several, and are not passed over for ever. Among queries of one kind the researcher with
the fewest under way comes first, then whoever asked first.

Pure: what waits and what is under way are arguments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

PASSED_OVER = 16
"""So many short queries that came later may begin before a long one that could have."""


@dataclass(frozen=True)
class Ticket:
    """A query that waits or is under way.

    Attributes:
        number: in the order of arrival.
        querier: researcher id.
        is_long: whether it is of many samples.
    """

    number: int
    querier: str
    is_long: bool


def next_turn(waiting: Sequence[Ticket], under_way: Collection[Ticket], *, evaluators: int, last: int) -> Ticket | None:
    """Returns the query that begins next, or None if none may.

    Args:
        waiting: in the order of arrival.
        under_way: what is evaluated now.
        evaluators: how many there are.
        last: the highest number that ever began.
    """
    if len(under_way) >= evaluators:
        return None
    busy = Counter(ticket.querier for ticket in under_way)
    most_long = max(evaluators - 1, 1)
    may_be_long = sum(ticket.is_long for ticket in under_way) < most_long
    able = [ticket for ticket in waiting if may_be_long or not ticket.is_long]
    return min(
        able,
        key=lambda ticket: (ticket.is_long and last - ticket.number < PASSED_OVER, busy[ticket.querier], ticket.number),
        default=None,
    )
