"""The turns of a serving session, as the lead takes them and as the other computing parties follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Serving
from protocols.mpc.channels import Channel
from protocols.mpc.serving_desk import Desk, Waiting
from protocols.mpc.serving_supply import Totals
from protocols.mpc.serving_turns import (
    ANNOUNCEMENT,
    CHOICE,
    MAX_OFFERED,
    REPLY,
    Announcement,
    EndReason,
    Query,
    Reply,
    Turn,
    choice_from_message,
    choice_to_message,
    choose,
)

TICK_S = 2.0  # a turn at least this often, so that everybody is heard
RETRY_S = 0.05  # until a query that another party did not hold yet is offered again
MATCH_S = 0.25  # how long a party waits for a query that the lead holds already
UNMATCHED_S = 5.0  # how long a query is kept that not every party got


class Turns(Protocol):
    """One computing party's way to know what is next."""

    def begin_epoch(self) -> None:
        """Says that the weights are open under fresh keys."""
        ...

    def take(self, totals: Totals) -> tuple[Announcement, tuple[Query, ...]]:
        """Takes part in one turn.

        Args:
            totals: what was answered so far; the same at all parties.

        Returns:
            What was announced, and the batch that is answered now, if any.

        Raises:
            ConfideError: BAD_FRAME (the fault of the party named); what the links raise.
        """
        ...


class LeadTurns:
    """The lead decides by its own desk and clock.

    Args:
        serving: how the job serves.
        desk: this party's.
        channels: to the other computing parties, by id.
        now: a clock in seconds that never goes back.
    """

    def __init__(self, *, serving: Serving, desk: Desk, channels: Mapping[str, Channel], now: Callable[[], float]) -> None:
        self._serving = serving
        self._desk = desk
        self._channels = dict(channels)
        self._now = now
        self._began: float | None = None
        self._epoch_began = self._last_query = 0.0
        self._offers = 0  # since then
        self._missing: set[str] = set()  # offered, and not held by all
        self._others_stop = False

    def begin_epoch(self) -> None:
        """See `Turns`."""
        self._epoch_began = self._now()
        self._offers = 0
        if self._began is None:
            self._began = self._last_query = self._epoch_began

    def take(self, totals: Totals) -> tuple[Announcement, tuple[Query, ...]]:
        """See `Turns`."""
        waiting = self._answerable(totals)
        announced = self._next(totals, waiting)
        message = announced.to_message()
        for channel in self._channels.values():
            channel.send([message])
        if announced.turn is not Turn.OFFER:
            return announced, ()
        lacking: list[list[str]] = [[] for _ in announced.queries]  # for each query, who does not hold it
        for peer, channel in self._channels.items():
            reply = Reply.from_message(channel.receive(REPLY)[0], offered=len(lacking), party=peer)
            for parties, is_held in zip(lacking, reply.held, strict=True):
                parties += [] if is_held else [peer]
            self._others_stop = self._others_stop or reply.stops
        self._sort_out(waiting, lacking)
        held = [not parties for parties in lacking]
        if not announced.queries:
            return announced, ()
        chosen = choose(
            announced.queries,
            held,
            block_rows=self._serving.block_rows,
            left_queries=self._serving.max_queries - totals.queries,
            left_rows=self._serving.max_rows - totals.rows,
        )
        for channel in self._channels.values():
            channel.send([choice_to_message(chosen)])
        batch = tuple(query for query, is_chosen in zip(announced.queries, chosen, strict=True) if is_chosen)
        if batch:
            self._last_query = self._now()
        return announced, batch

    def _answerable(self, totals: Totals) -> Sequence[Waiting]:
        """Waits for queries, and returns those that the quota reaches for."""
        timeout_s = 0.0 if self._others_stop or self._is_used_up(totals) else RETRY_S if self._missing else self._tick_s()
        waiting = self._desk.waiting(besides=self._missing, timeout_s=timeout_s)
        left = self._serving.max_rows - totals.rows
        for item in waiting:
            if item.query.rows > left:
                what = f"{left} rows are left of those that this serving answers"
                self._desk.refuse(item.query.query_id, ErrorCode.QUOTA_EXHAUSTED, what)
        return [item for item in waiting if item.query.rows <= left][:MAX_OFFERED]

    def _is_used_up(self, totals: Totals) -> bool:
        return totals.queries >= self._serving.max_queries or totals.rows >= self._serving.max_rows

    def _tick_s(self) -> float:
        return min(TICK_S, self._serving.idle_s, self._serving.rekey_s)

    def _next(self, totals: Totals, waiting: Sequence[Waiting]) -> Announcement:
        now = self._now()
        began = now if self._began is None else self._began
        if self._desk.is_stopping or self._others_stop:
            return Announcement(Turn.END, reason=EndReason.STOPPED)
        if self._is_used_up(totals):
            return Announcement(Turn.END, reason=EndReason.QUOTA)
        if now - began >= self._serving.lifetime_s:
            return Announcement(Turn.END, reason=EndReason.LIFETIME)
        if not waiting and now - self._last_query >= self._serving.idle_s:
            return Announcement(Turn.END, reason=EndReason.IDLE)
        # At least one offer an epoch: were fresh keys slower than they last, nothing would ever be answered.
        if self._offers and now - self._epoch_began >= self._serving.rekey_s:
            return Announcement(Turn.REKEY)
        self._offers += 1
        return Announcement(Turn.OFFER, tuple(item.query for item in waiting))

    def _sort_out(self, waiting: Sequence[Waiting], lacking: Sequence[Sequence[str]]) -> None:
        """Notes which queries were not held by all, and refuses those that never will be."""
        self._missing = set()
        for item, parties in zip(waiting, lacking, strict=True):
            if not parties:
                continue
            if item.age_s > UNMATCHED_S:
                _refuse_unmatched(self._desk, item.query, parties)
            else:
                self._missing.add(item.query.query_id)


class FollowerTurns:
    """The other computing parties do what the lead announces, on what they hold themselves.

    Args:
        serving: how the job serves.
        lead: its id.
        desk: this party's.
        channel: to the lead.
    """

    def __init__(self, *, serving: Serving, lead: str, desk: Desk, channel: Channel) -> None:
        self._serving = serving
        self._lead = lead
        self._desk = desk
        self._channel = channel
        self._missing: set[str] = set()  # offered before, and not held here

    def begin_epoch(self) -> None:
        """See `Turns`."""

    def take(self, totals: Totals) -> tuple[Announcement, tuple[Query, ...]]:
        """See `Turns`."""
        announced = Announcement.from_message(self._channel.receive(ANNOUNCEMENT)[0], self._lead)
        if announced.turn is not Turn.OFFER:
            return announced, ()
        queries = announced.queries
        # Once: a query that only the lead ever gets must not hold up the others again and again.
        is_new = any(query.query_id not in self._missing for query in queries)
        held = self._desk.held(queries, timeout_s=MATCH_S if is_new else 0.0)
        self._missing = {query.query_id for query, is_held in zip(queries, held, strict=True) if not is_held}
        self._channel.send([Reply(held, self._desk.is_stopping).to_message()])
        self._refuse_others({query.query_id for query in queries})
        if not queries:
            return announced, ()
        chosen = choice_from_message(self._channel.receive(CHOICE)[0], held=held, lead=self._lead)
        batch = tuple(query for query, is_chosen in zip(queries, chosen, strict=True) if is_chosen)
        self._check_quota(batch, totals)
        return announced, batch

    def _check_quota(self, batch: Sequence[Query], totals: Totals) -> None:
        rows = totals.rows + sum(query.rows for query in batch)
        if totals.queries + len(batch) > self._serving.max_queries or rows > self._serving.max_rows:
            raise ConfideError(ErrorCode.BAD_FRAME, "a batch beyond the quota of the serving", party=self._lead)

    def _refuse_others(self, offered: set[str]) -> None:
        """Refuses queries that wait here and that the lead, which offers all that it has, never got."""
        for item in self._desk.waiting(timeout_s=0.0):
            if item.age_s > UNMATCHED_S and item.query.query_id not in offered:
                _refuse_unmatched(self._desk, item.query, [self._lead])


def _refuse_unmatched(desk: Desk, query: Query, lacking: Sequence[str]) -> None:
    what = f"{', '.join(lacking)} did not get this query within {UNMATCHED_S:.0f} s, or not with these rows and this commitment"
    desk.refuse(query.query_id, ErrorCode.DEADLINE_PASSED, what)
