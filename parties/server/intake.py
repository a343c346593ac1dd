"""How a job gets into a party: its papers are read and verified, then the party checks it for itself."""

from __future__ import annotations

from threading import BoundedSemaphore

from governance.admission import admit
from governance.documents import DocumentKind, verify
from parties.server.courier import JobPapers
from parties.server.party import Party, holdings
from parties.server.workers import Template, derive_plan
from parties.wire.documents import from_wire
from parties.wire.generated.confide.v1 import common_pb2
from protocols.canonical import sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType
from protocols.model.weights import weights_from_safetensors

DERIVATIONS_AT_ONCE = 4  # each is a process: a researcher who asks for many plans waits, and the machine lives


class Checker:
    """Admits jobs and derives their plans, for this party."""

    def __init__(self, party: Party, template: Template) -> None:
        self._party = party
        self._template = template
        self._turns = BoundedSemaphore(DERIVATIONS_AT_ONCE)

    def check(self, job: Job) -> bytes:
        """Returns the plan of a job that this party takes part in.

        Raises:
            ConfideError: with every reason against the job, or what the derivation of the plan found.
        """
        party = self._party
        if party.id not in job.participants:
            raise ConfideError(ErrorCode.INVALID_JOB, f"{party.id} has no role in this job", party=party.id)
        with party.database.transaction() as tables:
            brought = holdings(party, tables)
        admit(job, directory=party.directory, holdings=brought, now=party.now())
        with self._turns:
            return derive_plan(job, template=self._template)


def read_papers(party: Party, message: common_pb2.SignedDocument, initial_weights: bytes) -> tuple[Job, JobPapers]:
    """Reads a signed job with its public weights and verifies both.

    Raises:
        ConfideError: INVALID_DOCUMENT, INVALID_JOB, INVALID_MODEL, BAD_SIGNATURE or NOT_ENROLLED (the querier's fault).
    """
    signed = from_wire(message)
    job = Job.from_bytes(signed.body)
    key = party.directory.researcher(job.querier).signing_key
    verify(signed, kind=DocumentKind.JOB, signer=job.querier, key=key)
    if job.job_type is JobType.TRAIN:
        if sha256_hex(initial_weights) != job.initial_weights_sha256:
            raise ConfideError(ErrorCode.INVALID_JOB, "the initial weights are not those that the job names")
        weights_from_safetensors(initial_weights, job.model)
    elif initial_weights:
        raise ConfideError(ErrorCode.INVALID_JOB, f"a {job.job_type.value} job has no initial weights")
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
