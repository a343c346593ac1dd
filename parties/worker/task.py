"""What a worker does: derive one plan, or run one party's part of one session.

Parcels of a session task (the header is public, the blobs are what they say):
    in:  header party, attempt, participants, peers, plan_digest; blobs job, plan, initial_weights?, training_state?,
         model_share?, query_share?, rows/<index of the data set in the job>?
    out: prepared; progress (phase, step, steps, rounds, bytes); checkpoint (run, head; blob state); finished (shapes, timing,
         noise_test, canary_audit, counters; blobs model_share?, output/<name>)
"""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread

import numpy as np
from numpy.typing import NDArray

from parties.arrays import arrays_from_bytes, arrays_to_bytes
from parties.transport.timing import HEARTBEAT_S
from parties.worker.canary_audit import canary_audit
from parties.worker.channel import Channel, Parcel
from parties.worker.handshake import shake_hands
from parties.worker.link import WorkerLink
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.model.weights import weights_from_safetensors
from protocols.mpc.inputs import LocalInputs, Rows
from protocols.mpc.keys import SessionKeys, derive_keys
from protocols.mpc.planning import derive_plan
from protocols.mpc.session import Progress, SessionOutputs, run_session
from protocols.mpc.timing import Stopwatch
from protocols.plan.plan import Plan

_PROGRESS_EVERY_S = 0.2
PLAN_BYTES = 2 << 30  # a job is a few kilobytes that a researcher wrote, whatever its plan would take


def plan(parcel: Parcel, channel: Channel) -> None:
    """Derives the plan of a job within `PLAN_BYTES`; needs no secret.

    Raises:
        ConfideError: TOO_LARGE (the querier's fault) if that is not enough: the session would take several times as much.
    """
    job = Job.from_bytes(parcel.blobs["job"])
    resource.setrlimit(resource.RLIMIT_DATA, (PLAN_BYTES, PLAN_BYTES))
    try:
        derived = derive_plan(job)
    except MemoryError as error:
        what = f"the job's plan alone takes more than {PLAN_BYTES >> 20} MiB; use smaller batches or narrower layers"
        raise ConfideError(ErrorCode.TOO_LARGE, what) from error
    channel.send({"event": "finished"}, {"plan": canonical_bytes(derived.to_document())})


@dataclass(frozen=True, repr=False)
class Joined:
    """A worker that shares links and keys with all others of its session.

    Attributes:
        job: the agreed job.
        plan: its plan.
        party: this worker's party.
        keys: its first key schedule; secret.
        links: to every other participant, by id.
        reporter: says how far it is.
    """

    job: Job
    plan: Plan
    party: str
    keys: SessionKeys
    links: Mapping[str, WorkerLink]
    reporter: Reporter


@contextmanager
def joined(parcel: Parcel, endpoints: Sequence[socket.socket], channel: Channel) -> Iterator[Joined]:
    """Opens the links of a session's worker and agrees on keys; closes the links after the `with` block.

    Raises:
        ConfideError: what the handshake or the links raise.
    """
    header, blobs = parcel.header, parcel.blobs
    job = Job.from_bytes(blobs["job"])
    the_plan = Plan.from_document(parse_canonical(blobs["plan"]))
    session, attempt = bytes.fromhex(job.job_id), int(header["attempt"])
    links = {
        peer: WorkerLink(endpoint, peer=peer, session=session, attempt=attempt)
        for peer, endpoint in zip(header["peers"], endpoints, strict=True)
    }
    reporter, stopped = Reporter(channel, links), Event()
    Thread(target=_keep_alive, args=(list(links.values()), reporter, stopped), daemon=True).start()
    party, participants = header["party"], tuple(header["participants"])
    agreed = shake_hands(party=party, participants=participants, links=links, job_digest=job.digest, plan_digest=the_plan.digest)
    channel.send({"event": "prepared"})
    keys = derive_keys(
        party=party,
        participants=participants,
        pair_secrets=agreed.pair_secrets,
        nonces=agreed.nonces,
        job_digest=job.digest,
        attempt=attempt,
        plan_digest=the_plan.digest,
    )
    if party == the_plan.computing_parties[-1]:
        links[the_plan.dealer].read_ahead()  # corrections never wait for the engine, nor it for them while the dealer is ahead
    yield Joined(job, the_plan, party, keys, links, reporter)
    stopped.set()
    for link in links.values():
        link.close()  # waits until the peer has taken what was sent


def run(parcel: Parcel, endpoints: Sequence[socket.socket], channel: Channel) -> None:
    """Runs every role that this party has in one session."""
    with joined(parcel, endpoints, channel) as member:
        outputs = run_session(
            job=member.job,
            plan=member.plan,
            party=member.party,
            keys=member.keys,
            links=member.links,
            inputs=_inputs(member.job, parcel.blobs),
            progress=member.reporter.report,
            checkpoint=lambda made: channel.send(
                {"event": "checkpoint", "run": made.run, "head": made.head}, {"state": arrays_to_bytes(made.state)}
            ),
            now=time.monotonic,
            random=os.urandom,
            stopwatch=Stopwatch(wall=time.monotonic, processor=time.thread_time),
        )
    _finish(channel, outputs, member.reporter, audit=canary_audit(member.job, outputs.canaries))


def _inputs(job: Job, blobs: Mapping[str, bytes]) -> LocalInputs:
    rows = {}
    for index in range(len(job.datasets)):
        if (blob := blobs.get(f"rows/{index}")) is not None:
            arrays = arrays_from_bytes(blob)
            rows[index] = (arrays["features"], arrays["labels"])
    query = blobs.get("query_share")
    query_share = None
    if query is not None:
        shape = (job.query_rows or 0, job.model.input_features)
        if len(query) != 8 * shape[0] * shape[1]:
            raise ConfideError(ErrorCode.INVALID_JOB, "the share of the samples has not the size that the job says")
        query_share = np.frombuffer(query, "<i8").astype(np.int64).reshape(shape)
    weights = blobs.get("initial_weights")
    model_share = blobs.get("model_share")
    state = blobs.get("training_state")
    return LocalInputs(
        rows=rows,
        initial_weights={} if weights is None else weights_from_safetensors(weights, job.model),
        training_state=None if state is None else arrays_from_bytes(state),
        model_share=None if model_share is None else arrays_from_bytes(model_share),
        query_share=query_share,
        attack_numbers=_attack_numbers(job, rows),
    )


def _attack_numbers(job: Job, rows: Mapping[int, Rows]) -> dict[int, NDArray[np.float64]]:
    """Trains shadows on this party's own rows, where a model is assessed; they end with this process."""
    if job.assessment is None or not rows:
        return {}
    from privacy.risk.shadow_numbers import shadow_numbers

    # One set of shadows for all of them: scores of members and of others must differ by nothing but what the model learnt.
    numbers = shadow_numbers(
        np.concatenate([features for features, _ in rows.values()]),
        np.concatenate([labels for _, labels in rows.values()]).astype(np.int64),
        model=job.model,
        assessment=job.assessment,
        seed=int.from_bytes(os.urandom(8), "little") >> 1,
    )
    ends = np.cumsum([len(labels) for _, labels in rows.values()])
    return dict(zip(rows, np.split(numbers, ends[:-1]), strict=True))


def _keep_alive(links: list[WorkerLink], reporter: Reporter, stopped: Event) -> None:
    while not stopped.wait(HEARTBEAT_S):
        for link in links:
            link.heartbeat()
        reporter.repeat()


class Reporter:
    """Hands progress to the party process, at most a few times a second; counters are public, values never appear."""

    def __init__(self, channel: Channel, links: Mapping[str, WorkerLink]) -> None:
        self._channel = channel
        self._links = links
        self._next = 0.0
        self._began = time.monotonic()
        self._last: Progress | None = None

    def report(self, progress: Progress) -> None:
        """Takes the engine's progress."""
        self._last = progress
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PROGRESS_EVERY_S
            self.repeat()

    def repeat(self) -> None:
        """Says again how far the engine is: the sign of life of a long operation."""
        self._channel.send({"event": "progress", **self.counters()})

    def counters(self) -> dict[str, str | int | dict[str, int]]:
        """Phase, rounds, bytes and time so far, and the most memory, as engine, links and the system counted them."""
        last = self._last
        return {
            "phase": "" if last is None else last.phase,
            "step": 0 if last is None else last.step,
            "steps": 0 if last is None else last.total,
            "rounds": 0 if last is None else last.rounds,
            "payload_bytes": sum(link.payload_bytes for link in self._links.values()),
            "frame_bytes": sum(link.frame_bytes for link in self._links.values()),
            "sent_bytes": {peer: link.payload_bytes for peer, link in self._links.items()},
            "received_bytes": {peer: link.received_bytes for peer, link in self._links.items()},
            "elapsed_ms": int(1000 * (time.monotonic() - self._began)),
            "memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        }


def _finish(channel: Channel, outputs: SessionOutputs, reporter: Reporter, *, audit: Mapping[str, str | int] | None) -> None:
    blobs: dict[str, bytes] = {}
    shapes: dict[str, list[int]] = {}
    if outputs.model_share is not None:
        blobs["model_share"] = arrays_to_bytes(outputs.model_share)
    for name, share in (outputs.output_shares or {}).items():
        blobs[f"output/{name}"] = np.ascontiguousarray(share, "<i8").tobytes()
        shapes[name] = list(share.shape)
    timing = [entry.to_document() for entry in outputs.timing]
    noise_test = None if outputs.noise_test is None else outputs.noise_test.to_document()
    made = {"shapes": shapes, "timing": timing, "noise_test": noise_test, "canary_audit": audit}
    channel.send({"event": "finished", **made, **reporter.counters()}, blobs)
