"""A whole serving session in one process: all parties as threads over in-memory links, each computing party with its desk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from parties.worker.channel import Channel, Parcel
from parties.worker.serving_desk import ServingDesk
from protocols.commitments import CommittedShare, answer_name, check_opening
from protocols.job import Job
from protocols.mpc.planning import derive_plan
from protocols.mpc.query import combine_output, share_query
from protocols.mpc.serving import ServingOutcome, run_serving
from protocols.mpc.serving_desk import Waiting
from protocols.mpc.session import Progress
from protocols.mpc.timing import Stopwatch
from tests.support.memory_links import as_links, connect
from tests.support.mpc_world import in_threads, keys_for, stream
from tests.support.programs import shares_of

WAIT_S = 30.0


class DeskChannel:
    """The party process's end of a serving worker's channel, in memory."""

    def __init__(self) -> None:
        self.parcels: list[Parcel] = []
        self._condition = threading.Condition()

    def send(self, header: Mapping[str, Any], blobs: Mapping[str, bytes] | None = None) -> None:
        with self._condition:
            self.parcels.append(Parcel(dict(header), dict(blobs or {})))
            self._condition.notify_all()

    def wait_for(self, event: str, query: str = "") -> Parcel:
        """The first parcel of this event (about this query)."""

        def found() -> Parcel | None:
            matching = (p for p in self.parcels if p.header["event"] == event and p.header.get("query", "") == query)
            return next(matching, None)

        with self._condition:
            assert self._condition.wait_for(lambda: found() is not None, WAIT_S), f"no {event} {query}"
            parcel = found()
        assert parcel is not None
        return parcel


class HastyDesk(ServingDesk):
    """A desk that never lets the lead wait long, so that tests with a clock of their own take no time."""

    def waiting(self, *, besides: Collection[str] = (), timeout_s: float) -> Sequence[Waiting]:
        return super().waiting(besides=besides, timeout_s=min(timeout_s, 0.02))


@dataclass
class Clock:
    """The lead's clock; it stands still until it is moved."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


class ServingWorld:
    """A serving session; only the lead has the clock, and desks their own."""

    def __init__(
        self,
        job: Job,
        weights: Mapping[str, np.ndarray],
        *,
        desk_clock: Callable[[], float] = time.monotonic,
        seed: str = "",
    ) -> None:
        self.job = job
        self.plan = derive_plan(job)
        self.clock = Clock()
        self.links = connect(self.plan.participants)
        self.keys = keys_for(self.plan, job, seed=seed)
        self._seed = seed
        parties = job.computing_parties
        self._shares = dict(zip(parties, shares_of(weights, len(parties)), strict=True))
        self.channels = {party: DeskChannel() for party in parties}
        self.desks: dict[str, ServingDesk] = {
            party: HastyDesk(job=job, plan=self.plan, party=party, channel=cast(Channel, self.channels[party]), now=desk_clock)
            for party in parties
        }
        self.progress: dict[str, list[Progress]] = {party: [] for party in self.plan.participants}
        self.outcomes: dict[str, ServingOutcome] = {}
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._queries = 0

    def start(self) -> ServingWorld:
        """Starts all parties."""
        self._thread.start()
        return self

    def ask(self, rows: np.ndarray, *, only: Sequence[str] = (), query: str = "") -> str:
        """Shares rows among all computing parties, or hands their shares to some only; returns the query's id."""
        self._queries += 1
        query = query or f"{self._queries:032x}"
        parties = self.job.computing_parties
        shares = share_query(rows, num_parties=len(parties), source=stream(f"query {query}"))
        for party, share in zip(parties, shares, strict=True):
            if not only or party in only:
                self.desks[party].put(a_query(query, share))
        return query

    def answer(self, query: str) -> np.ndarray:
        """Waits for all parties' answers, checks their commitments as a querier does, and opens the answer."""
        output, planned = self.job.outputs[0], self.plan.outputs[0]
        shares, shown = [], []
        for party in self.job.computing_parties:
            parcel = self.channels[party].wait_for("answer", query)
            opened = CommittedShare(
                session=self.job.job_id,
                attempt=1,
                output=answer_name(planned.name, query),
                party=party,
                shape=tuple(parcel.header["shape"]),
                scale_bits=planned.scale_bits,
                share=parcel.blobs["output"],
                nonce=parcel.blobs["nonce"],
            )
            check_opening(opened, parcel.header["commitments"][party])
            shown.append(parcel.header["commitments"])
            shares.append(np.frombuffer(opened.share, "<i8").astype(np.int64).reshape(opened.shape))
        assert all(commitments == shown[0] for commitments in shown)
        assert set(shown[0]) == set(self.job.computing_parties)
        return combine_output(shares, output=output, scale_bits=planned.scale_bits)

    def stop(self) -> None:
        """Asks the lead to end, and waits for all parties."""
        self.desks[self.job.lead].stop()
        self.wait()

    def wait(self) -> None:
        """Waits until all parties have ended; raises the first failure."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure
        assert set(self.outcomes) == set(self.plan.participants)

    def _run(self) -> None:
        tasks = {name: lambda name=name: self._party(name) for name in self.plan.participants}
        try:
            self.outcomes = in_threads(tasks, self.links)
        except BaseException as error:
            self._failure = error

    def _party(self, name: str) -> ServingOutcome:
        def no_clock() -> float:
            raise AssertionError("only the lead looks at its clock")

        fresh = stream(f"fresh {name}{self._seed}")
        return run_serving(
            job=self.job,
            plan=self.plan,
            party=name,
            keys=self.keys[name],
            links=as_links(self.links[name]),
            model_share=self._shares.get(name),
            desk=self.desks.get(name),
            fresh=lambda count: fresh.take(count).tobytes(),
            now=self.clock if name == self.job.lead else no_clock,
            progress=self.progress[name].append,
            stopwatch=Stopwatch(wall=time.monotonic, processor=time.thread_time),
        )


def a_query(query: str, share: np.ndarray) -> Parcel:
    """The parcel with which a party process hands a query to its worker."""
    header = {"type": "query", "query": query, "rows": len(share)}
    return Parcel(header, {"share": share.astype("<i8").tobytes()})
