"""One worker of one session: started early, given its task when the links open, watched until its last word."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from parties.arrays import arrays_to_bytes
from parties.registration import open_rows
from parties.server.party import Party
from parties.server.results import kept_shares
from parties.server.workers import Template, watch
from parties.transport.peers import Peers
from parties.transport.streams import LinkTable, dial
from parties.worker.channel import Parcel
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job


@dataclass(frozen=True)
class Task:
    """What a session's worker needs; the query share is secret and kept in memory only.

    Attributes:
        job: the job.
        plan: canonical bytes of the plan.
        initial_weights: public initial weights (safetensors), train only.
        query_share: this party's share of the samples, infer at a computing party only.
    """

    job: Job
    plan: bytes
    initial_weights: bytes | None
    query_share: bytes | None = field(repr=False)


class Execution:
    """A worker and its links. The later participant of a pair dials the earlier one."""

    def __init__(self, party: Party, task: Task, *, template: Template, links: LinkTable, peers: Peers) -> None:
        self._party = party
        self._task = task
        self._peers = peers
        self._links = links
        self._worker = template.fork()
        self._ours: dict[str, socket.socket] = {}
        self._theirs: dict[str, socket.socket] = {}
        participants = task.job.participants
        try:
            for peer in participants:
                if peer == party.id:
                    continue
                self._ours[peer], self._theirs[peer] = socket.socketpair()
                if participants.index(party.id) < participants.index(peer):
                    links.expect(task.job.job_id, task.job.attempt, peer, self._ours[peer])
        except OSError:  # no descriptor is left: the worker and the links so far must not stay
            self.stop()
            raise

    def open_links(self, *, on_parcel: Callable[[Parcel], None], on_lost: Callable[[ConfideError], None]) -> None:
        """Dials the earlier participants, gives the worker its task, and reports what it says.

        Raises:
            ConfideError: WORKER_LOST, STATE_DAMAGED, UNKNOWN_MODEL, UNKNOWN_DATASET or CHECKPOINT_DIFFERS (this party's fault).
        """
        job, participants = self._task.job, self._task.job.participants
        mine = participants.index(self._party.id)
        for peer in participants[:mine]:
            route, counter = self._peers.route(peer), self._links.counter(peer)
            dial(route, session=job.job_id, attempt=job.attempt, endpoint=self._ours[peer], count=counter)
        header = {
            "task": "session" if job.serving is None else "serving",
            "party": self._party.id,
            "attempt": job.attempt,
            "participants": list(participants),
            "peers": list(self._theirs),
        }
        self._worker.give(header, self._blobs(), list(self._theirs.values()))
        watch(self._worker, on_parcel=on_parcel, on_lost=on_lost)

    def say(self, header: Mapping[str, object], blobs: Mapping[str, bytes]) -> None:
        """Says something more to the worker; raises WORKER_LOST (this party's fault) if it has ended."""
        self._worker.say(header, blobs)

    def stop(self) -> None:
        """Ends the worker and its links; safe to call again."""
        self._worker.stop()
        self._links.forget(self._task.job.job_id)
        for endpoint in (*self._ours.values(), *self._theirs.values()):
            endpoint.close()

    def _blobs(self) -> dict[str, bytes]:
        task, job, party = self._task, self._task.job, self._party
        blobs = {"job": job.to_bytes(), "plan": task.plan}
        if task.initial_weights:
            blobs["initial_weights"] = task.initial_weights
        with party.database.transaction() as tables:
            for index, dataset in enumerate(job.datasets):
                if dataset.party == party.id:
                    record = tables.datasets.get(dataset.name, dataset.version)
                    rows = open_rows(party.sealed, record)
                    blobs[f"rows/{index}"] = arrays_to_bytes({"features": rows.features, "labels": rows.labels})
            if party.id in job.computing_parties:
                blobs.update(kept_shares(party, tables, job))
                if job.query_rows is not None:
                    if task.query_share is None:
                        what = "this party was restarted and no longer holds its share of the samples"
                        raise ConfideError(ErrorCode.PARTY_RESTARTED, what, party=party.id)
                    blobs["query_share"] = task.query_share
        return blobs
