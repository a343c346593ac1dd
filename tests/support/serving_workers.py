"""A serving session of real worker processes, joined by local sockets: everything but party processes and the network."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from parties.arrays import arrays_to_bytes
from parties.server.workers import Template, Worker
from parties.worker.channel import Parcel
from protocols.canonical import canonical_bytes
from protocols.commitments import CommittedShare, answer_name, check_opening
from protocols.job import Job
from protocols.mpc.planning import derive_plan
from protocols.mpc.query import combine_output, share_query
from tests.support.mpc_world import stream
from tests.support.programs import shares_of
from tests.support.serving_world import DeskChannel, a_query


class ServingWorkers:
    """Workers of all participants of a serving job; ends them on exit."""

    def __init__(self, job: Job, weights: Mapping[str, np.ndarray], log: Path) -> None:
        self.job = job
        self.plan = derive_plan(job)
        names = self.plan.participants
        self._template = Template(log)
        self.workers: dict[str, Worker] = {name: self._template.fork() for name in names}
        self.said = {name: DeskChannel() for name in names}
        ends: dict[str, dict[str, socket.socket]] = {name: {} for name in names}
        for index, name in enumerate(names):
            for peer in names[index + 1 :]:
                ends[name][peer], ends[peer][name] = socket.socketpair()
        shares = dict(zip(job.computing_parties, shares_of(weights, len(job.computing_parties)), strict=True))
        for name, worker in self.workers.items():
            blobs = {"job": job.to_bytes(), "plan": canonical_bytes(self.plan.to_document())}
            if name in shares:
                blobs["model_share"] = arrays_to_bytes(shares[name])
            header = {"task": "serving", "party": name, "attempt": 1, "participants": list(names), "peers": list(ends[name])}
            worker.give(header, blobs, list(ends[name].values()))
            threading.Thread(target=self._listen, args=(name,), daemon=True).start()
        self._queries = 0

    def __enter__(self) -> ServingWorkers:
        for party in self.job.computing_parties:
            self.said[party].wait_for("serving")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for worker in self.workers.values():
            worker.stop()
        self._template.stop()

    def ask(self, rows: np.ndarray) -> str:
        """Hands every computing party its share of a query; returns the query's id."""
        self._queries += 1
        query = f"{self._queries:032x}"
        parties = self.job.computing_parties
        for party, share in zip(parties, share_query(rows, num_parties=len(parties), source=stream(query)), strict=True):
            parcel = a_query(query, share)
            self.workers[party].say(parcel.header, parcel.blobs)
        return query

    def answer(self, query: str) -> np.ndarray:
        """Waits for an answer, checks it and opens it."""
        output, planned = self.job.outputs[0], self.plan.outputs[0]
        shares = []
        for party in self.job.computing_parties:
            parcel = self.said[party].wait_for("answer", query)
            shape = tuple(parcel.header["shape"])
            opened = CommittedShare(
                self.job.job_id, 1, answer_name(planned.name, query), party, shape, planned.scale_bits,
                parcel.blobs["output"], parcel.blobs["nonce"],
            )  # fmt: skip
            check_opening(opened, parcel.header["commitments"][party])
            shares.append(np.frombuffer(opened.share, "<i8").astype(np.int64).reshape(shape))
        return combine_output(shares, output=output, scale_bits=planned.scale_bits)

    def stop(self) -> dict[str, Parcel]:
        """Asks one party to stop, and returns every worker's last word but one."""
        self.workers[self.job.computing_parties[-1]].say({"type": "stop"}, {})
        return {name: said.wait_for("drained") for name, said in self.said.items()}

    def _listen(self, name: str) -> None:
        while True:
            parcel = self.workers[name].take()
            self.said[name].send(parcel.header, parcel.blobs)
            if parcel.header["event"] in ("finished", "failed"):
                return
