"""The desk of a serving worker: queries come from the party process, answers go back to it.

Two threads share it: the channel's hands in queries, the engine's takes them and hands out answers. A query id is taken once in
the life of a worker, so no answer is ever computed or sent twice.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Condition

import numpy as np

from parties.worker.channel import Channel, Parcel
from protocols.commitments import NONCE_BYTES, CommittedShare, answer_name, commitment_of
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.mpc.serving_desk import Waiting
from protocols.mpc.serving_turns import MAX_OFFERED, QUERY_ID_BYTES, EndReason, Query
from protocols.plan.plan import Plan
from protocols.ring import RingArray

_ELEMENT_BYTES = 8
_ID = re.compile(rf"[0-9a-f]{{{2 * QUERY_ID_BYTES}}}")


@dataclass(frozen=True)
class _Held:
    query: Query
    since: float
    share: RingArray = field(repr=False)


class ServingDesk:
    """See `protocols.mpc.serving_desk.Desk`.

    Args:
        job: what is served.
        plan: its plan.
        party: this party's id.
        channel: to the party process.
        now: a clock in seconds that never goes back.
        random: gives so many random bytes.
    """

    def __init__(
        self,
        *,
        job: Job,
        plan: Plan,
        party: str,
        channel: Channel,
        now: Callable[[], float] = time.monotonic,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._job = job
        self._most_rows = 0 if job.serving is None else job.serving.max_rows
        self._output = plan.outputs[0]
        self._party = party
        self._channel = channel
        self._now = now
        self._random = random
        self._condition = Condition()
        self._waiting: dict[str, _Held] = {}  # in the order in which they came
        self._seen: set[str] = set()
        self._committed: dict[str, CommittedShare] = {}
        self._is_stopping = False
        self._is_closed = False

    @property
    def is_stopping(self) -> bool:
        """Whether the party process asked for the end."""
        return self._is_stopping

    def put(self, parcel: Parcel) -> None:
        """Takes a query of the party process, or says why not.

        Raises:
            ConfideError: INTERNAL (ours) if the parcel is not a query: the two processes are of different versions.
        """
        query_id, rows = parcel.header.get("query"), parcel.header.get("rows")
        share = parcel.blobs.get("share")
        if not isinstance(query_id, str) or not _ID.fullmatch(query_id) or type(rows) is not int or share is None:
            raise ConfideError(ErrorCode.INTERNAL, "a parcel that is no query")
        try:
            self._add(query_id, rows, share)
        except ConfideError as error:
            self._say_refused(query_id, error.code, error.what)

    def stop(self) -> None:
        """Asks for the end."""
        with self._condition:
            self._is_stopping = True
            self._condition.notify_all()

    def open(self) -> None:
        """Says that queries are answered from now on."""
        self._channel.send({"event": "serving"})

    def waiting(self, *, besides: Collection[str] = (), timeout_s: float) -> Sequence[Waiting]:
        """See `protocols.mpc.serving_desk.Desk`."""
        with self._condition:
            self._condition.wait_for(lambda: self._is_stopping or bool(self._waiting.keys() - set(besides)), timeout_s)
            now = self._now()
            return [Waiting(held.query, now - held.since) for held in self._waiting.values()]

    def held(self, queries: Sequence[Query], *, timeout_s: float) -> tuple[bool, ...]:
        """See `protocols.mpc.serving_desk.Desk`."""
        with self._condition:
            ids = {query.query_id for query in queries}
            self._condition.wait_for(lambda: self._is_stopping or ids <= self._waiting.keys(), timeout_s)
            return tuple(query.query_id in self._waiting and self._waiting[query.query_id].query == query for query in queries)

    def take(self, query_id: str) -> RingArray:
        """See `protocols.mpc.serving_desk.Desk`."""
        with self._condition:
            return self._waiting.pop(query_id).share

    def refuse(self, query_id: str, code: ErrorCode, what: str) -> None:
        """See `protocols.mpc.serving_desk.Desk`."""
        with self._condition:
            self._waiting.pop(query_id, None)
        self._say_refused(query_id, code, what)

    def commit(self, query_id: str, share: RingArray) -> bytes:
        """See `protocols.mpc.serving_desk.Desk`."""
        committed = CommittedShare(
            session=self._job.job_id,
            attempt=self._job.attempt,
            output=answer_name(self._output.name, query_id),
            party=self._party,
            shape=share.shape,
            scale_bits=self._output.scale_bits,
            share=np.ascontiguousarray(share, "<i8").tobytes(),
            nonce=self._random(NONCE_BYTES),
        )
        self._committed[query_id] = committed
        return bytes.fromhex(commitment_of(committed))

    def answer(self, query_id: str, commitments: Mapping[str, bytes]) -> None:
        """See `protocols.mpc.serving_desk.Desk`."""
        committed = self._committed.pop(query_id)
        header = {
            "event": "answer",
            "query": query_id,
            "rows": committed.shape[0],
            "shape": list(committed.shape),
            "commitments": {party: value.hex() for party, value in commitments.items()},
        }
        self._channel.send(header, {"output": committed.share, "nonce": committed.nonce})

    def close(self, reason: EndReason) -> None:
        """See `protocols.mpc.serving_desk.Desk`."""
        with self._condition:
            self._is_closed = True
            left = list(self._waiting)
            self._waiting.clear()
        for query_id in left:
            self._say_refused(query_id, ErrorCode.NOT_READY, f"the serving session has ended: {reason.value}")

    def _add(self, query_id: str, rows: int, share: bytes) -> None:
        features = self._job.model.input_features
        if not 1 <= rows <= self._most_rows or len(share) != _ELEMENT_BYTES * rows * features:
            what = f"a query is 1 to {self._most_rows} rows of {features} values"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
        held = _Held(Query(query_id, rows), self._now(), np.frombuffer(share, "<i8").astype(np.int64).reshape(rows, features))
        with self._condition:
            if self._is_closed:
                raise ConfideError(ErrorCode.NOT_READY, "the serving session has ended")
            if query_id in self._seen:
                raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the id of this query was used before; choose a fresh one")
            if len(self._waiting) >= MAX_OFFERED:
                raise ConfideError(ErrorCode.PARTY_BUSY, f"{MAX_OFFERED} queries wait already")
            self._seen.add(query_id)
            self._waiting[query_id] = held
            self._condition.notify_all()

    def _say_refused(self, query_id: str, code: ErrorCode, what: str) -> None:
        self._channel.send({"event": "refused", "query": query_id, "code": code.name, "what": what})
