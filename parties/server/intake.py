"""How a job gets into a party: its papers are read and verified, then the party checks it for itself."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from threading import BoundedSemaphore, Lock

from governance.documents import DocumentKind, verify
from parties.server.capacity import capacity, demand_room, need_of
from parties.server.courier import JobPapers
from parties.server.party import Party
from parties.server.reasons import JobRefusal, admission_findings, reasons, warm_reasons
from parties.server.workers import Template, derive_plan
from parties.storage.jobs import PlanRecord
from parties.wire.documents import from_wire
from parties.wire.generated.confide.v1 import common_pb2
from protocols.canonical import parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.model.weights import weights_from_safetensors
from protocols.plan.estimate import LOOPBACK, estimate
from protocols.plan.plan import Plan
from protocols.plan.ranges import ranges_of, refuse_overflow

DERIVATIONS_AT_ONCE = 4  # each is a process: a researcher who asks for many plans waits, and the machine lives


@dataclass(frozen=True)
class CheckedJob:
    """A job that this party takes part in: the plan's canonical bytes, and the memory that it predicts for one worker."""

    plan: bytes
    memory_bytes: int

    @property
    def plan_digest(self) -> str:
        """SHA-256 of the plan, 64 hexadecimal digits."""
        return sha256_hex(self.plan)

    def record(self, job_id: str) -> PlanRecord:
        """Returns the plan as it is kept."""
        return PlanRecord(job_id, self.plan, self.plan_digest, self.memory_bytes)


class Checker:
    """Admits jobs and derives their plans, for this party."""

    def __init__(self, party: Party, template: Template) -> None:
        self._party = party
        self._template = template
        self._turns = BoundedSemaphore(DERIVATIONS_AT_ONCE)
        self._lock = Lock()
        self._under_way: dict[str, Future[CheckedJob]] = {}

    def check(self, job: Job) -> CheckedJob:
        """Returns the plan of a job that this party takes part in; whoever asks while it is being checked waits for that check.

        The querier brings a job and so does every participant that was faster, each again and again until it is known here.

        Raises:
            ConfideError: with every reason against the job, or what the derivation of the plan found.
        """
        with self._lock:
            found = self._under_way.get(job.digest)
            outcome = found or self._under_way.setdefault(job.digest, Future())
        if found is not None:
            return found.result()
        try:
            outcome.set_result(self._check(job))
        except BaseException as error:
            outcome.set_exception(error)
        finally:
            with self._lock:
                del self._under_way[job.digest]
        return outcome.result()

    def derive(self, job: Job) -> bytes:
        """Returns the canonical bytes of a job's plan, whatever this party says to the job; waits for its turn.

        Raises:
            ConfideError: what the derivation found.
        """
        with self._turns:
            return derive_plan(job, template=self._template)

    def _check(self, job: Job) -> CheckedJob:
        party = self._party
        if party.id not in job.participants:
            raise ConfideError(ErrorCode.INVALID_JOB, f"{party.id} has no role in this job", party=party.id)
        warm_reasons(party, job)
        with party.database.transaction() as tables:
            # A job that is not sound in itself costs no derivation; one that nobody consents to is told what else is against it.
            if admission_findings(party, tables, job, party.now()):
                raise JobRefusal(reasons(party, tables, job, plan=None, now=party.now()), party=party.id)
        plan = self.derive(job)
        with party.database.transaction() as tables:
            against = reasons(party, tables, job, plan=plan, now=party.now())
        if against:
            raise JobRefusal(against, party=party.id)
        memory_bytes = estimate(Plan.from_document(parse_canonical(plan)), LOOPBACK).memory_bytes
        need = need_of(job, party=party.id, memory_bytes=memory_bytes)
        demand_room(need, capacity(party.config), party=party.id)
        return CheckedJob(plan, memory_bytes)


def read_papers(party: Party, message: common_pb2.SignedDocument, initial_weights: bytes) -> tuple[Job, JobPapers]:
    """Reads a signed job with its public weights and verifies both.

    Raises:
        ConfideError: INVALID_DOCUMENT, INVALID_JOB, INVALID_MODEL, BAD_SIGNATURE or NOT_ENROLLED (the querier's fault).
    """
    signed = from_wire(message)
    job = Job.from_bytes(signed.body)
    key = party.directory.researcher(job.querier).signing_key
    verify(signed, kind=DocumentKind.JOB, signer=job.querier, key=key)
    if job.initial_weights_sha256 is not None and job.resumes is None:
        if sha256_hex(initial_weights) != job.initial_weights_sha256:
            raise ConfideError(ErrorCode.INVALID_JOB, "the initial weights are not those that the job names")
        refuse_overflow(ranges_of(job, weights_from_safetensors(initial_weights, job.model)))
    elif initial_weights:
        raise ConfideError(ErrorCode.INVALID_JOB, "this job begins with no public weights; none may come with it")
    return job, JobPapers(signed, initial_weights)


def read_query_share(party: Party, job: Job, share: bytes) -> bytes | None:
    """Returns this party's share of the querier's samples, secret, or None if it has none in this job.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault): it has not the size that the job says.
    """
    expected = 8 * (job.query_rows or 0) * job.model.input_features if party.id in job.computing_parties else 0
    if len(share) != expected:
        what = f"the share of the samples has {len(share)} bytes; {expected} are expected at {party.id}"
        raise ConfideError(ErrorCode.INVALID_JOB, what)
    return share or None
