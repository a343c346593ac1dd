"""A researcher's side: she asks every party herself and believes what they agree on.

client = Client.open(Path("alice/researcher.yaml"), now=...)
prepared = prepare_job(client, read_request(path), folder=path.parent, now=...)
plan = client.plan(prepared.job)            # every party derived the same plan, or an error names who did not
client.submit(prepared)
end = client.wait(prepared.job, timeout_s=60)
values = client.result(prepared.job)        # shares of all computing parties, combined here and nowhere else
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from governance.documents import DocumentKind, SignedDocument, sign_bytes, verify
from governance.identity.names import MemberKind
from parties.client.records import JobRecords
from parties.config import load_researcher_config
from parties.storage.state import Member
from parties.transport.peers import Peers
from parties.transport.tls import TlsIdentity
from parties.wire import methods
from parties.wire.documents import from_wire, to_wire
from parties.wire.generated.confide.v1 import jobs_pb2, party_pb2
from protocols.canonical import parse_canonical
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job
from protocols.mpc.query import combine_output, share_query
from protocols.plan.plan import Plan
from protocols.prg import KEY_BYTES, AesCtrStream
from protocols.secrets import SecretBytes
from protocols.session.messages import Ending

CALL_TIMEOUT_S = 10.0
CHECK_TIMEOUT_S = 90.0
_POLL_S = 0.5
Value = TypeVar("Value")
Values: TypeAlias = NDArray[np.float64] | NDArray[np.int64]


@dataclass(frozen=True)
class PreparedJob:
    """A job with what travels beside it; `features` are the querier's samples, (rows, features) float64, secret."""

    job: Job
    initial_weights: bytes = b""
    features: NDArray[np.float64] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Progress:
    """What one party says of a job."""

    party: str
    state: str
    phase: str
    step: int
    steps: int
    rounds: int
    payload_bytes: int
    frame_bytes: int
    plan_digest: str
    ending: Ending | None


class Client:
    """One researcher's connections to the parties of her consortium."""

    def __init__(self, member: Member, records: JobRecords) -> None:
        """Takes her keys and directory, and where she keeps her jobs; use `open`."""
        self.directory = member.directory
        self.researcher = member.identity.id
        self._key = member.signing_key
        self._records = records
        identity = TlsIdentity(
            private_key=member.tls_key.export_secret_pem(),
            certificate=member.certificate.encode(),
            ca_certificate=member.directory.ca_certificate.encode(),
        )
        self._peers = Peers(identity, lambda: self.directory)

    @staticmethod
    def open(config_file: Path, *, now: datetime) -> Client:
        """Reads a researcher's folder.

        Raises:
            ConfideError: INVALID_CONFIG, NOT_ENROLLED, FILE_MODE or UNAUTHENTICATED (the researcher's to mend).
        """
        config = load_researcher_config(config_file)
        member = config.folder.load_member(kind=MemberKind.RESEARCHER, member=config.researcher, now=now)
        return Client(member, JobRecords(config.folder.root / "jobs"))

    def close(self) -> None:
        """Closes the connections."""
        self._peers.close()

    def datasets(self, party: str) -> list[party_pb2.Dataset]:
        """Returns the public descriptions of a party's data sets."""
        request = party_pb2.ListDatasetsRequest()
        return list(
            methods.LIST_DATASETS.call(self._peers.channel(party), request, party=party, timeout_s=CALL_TIMEOUT_S).datasets
        )

    def models(self, party: str) -> list[party_pb2.Model]:
        """Returns the public descriptions of the models that a party holds shares of."""
        request = party_pb2.ListModelsRequest()
        return list(methods.LIST_MODELS.call(self._peers.channel(party), request, party=party, timeout_s=CALL_TIMEOUT_S).models)

    def plan(self, job: Job) -> Plan:
        """Asks every participant for the plan; nothing is kept and nothing runs.

        Raises:
            ConfideError: a party's refusal with all its reasons, or PLAN_DIFFERS.
        """
        request = jobs_pb2.PlanJobRequest(job=job.to_bytes())

        def ask(party: str) -> bytes:
            reply = methods.PLAN_JOB.call(self._peers.channel(party), request, party=party, timeout_s=CHECK_TIMEOUT_S)
            return reply.plan

        plans = self._everybody(job.participants, ask)
        if len(set(plans)) != 1:
            raise ConfideError(ErrorCode.PLAN_DIFFERS, "the parties derived different plans from the job")
        plan = Plan.from_document(parse_canonical(plans[0]))
        if plan.job_digest != job.digest:
            raise ConfideError(ErrorCode.PLAN_DIFFERS, "the parties' plan is not of this job")
        return plan

    def submit(self, prepared: PreparedJob) -> None:
        """Signs the job and gives it to every participant; shares the samples to the computing parties.

        Learns: each computing party one share of the samples, which alone is uniformly random.

        Raises:
            ConfideError: a party's refusal with all its reasons; the job then ends as rejected everywhere.
        """
        job = prepared.job
        signed = sign_bytes(job.to_bytes(), kind=DocumentKind.JOB, signer=self.researcher, key=self._key)
        shares: dict[str, bytes] = {}
        if prepared.features is not None:
            source = AesCtrStream(SecretBytes(secrets.token_bytes(KEY_BYTES)))
            parts = share_query(prepared.features, num_parties=len(job.computing_parties), source=source)
            shares = {p: np.ascontiguousarray(s, "<i8").tobytes() for p, s in zip(job.computing_parties, parts, strict=True)}
        self._records.add(job, request_ids={output.name: secrets.token_hex(16) for output in job.outputs})

        def give(party: str) -> None:
            request = jobs_pb2.SubmitJobRequest(
                job=to_wire(signed), initial_weights=prepared.initial_weights, query_share=shares.get(party, b"")
            )
            methods.SUBMIT_JOB.call(self._peers.channel(party), request, party=party, timeout_s=CHECK_TIMEOUT_S)

        self._everybody(job.participants, give)

    def job(self, job_id: str) -> Job:
        """Returns a job that was submitted from this folder.

        Raises:
            ConfideError: UNKNOWN_JOB.
        """
        return self._records.job(job_id)

    def jobs(self) -> list[Job]:
        """Returns the jobs that were submitted from this folder, the latest first."""
        return self._records.jobs()

    def progress(self, job_id: str, party: str) -> Progress:
        """Asks one party how a job stands."""
        request = jobs_pb2.GetJobRequest(job_id=job_id)
        status = methods.GET_JOB.call(self._peers.channel(party), request, party=party, timeout_s=CALL_TIMEOUT_S)
        return self._read(status, party=party, job_id=job_id)

    def watch(self, job: Job) -> Iterator[Progress]:
        """Yields how a job goes on until it has ended; turns to the next participant when one is lost.

        Raises:
            ConfideError: if no participant can be asked any more.
        """
        lost: ConfideError | None = None
        for party in job.participants:
            request = jobs_pb2.GetJobRequest(job_id=job.job_id)
            try:
                for status in methods.WATCH_JOB.stream(self._peers.channel(party), request, party=party):
                    said = self._read(status, party=party, job_id=job.job_id)
                    yield said
                    if said.ending is not None:
                        return
            except ConfideError as error:
                lost = error
        raise lost or ConfideError(ErrorCode.PARTY_UNREACHABLE, "no participant can be asked about the job")

    def wait(self, job: Job, *, timeout_s: float) -> Ending:
        """Waits for a job's ending, whichever participants are up.

        Raises:
            ConfideError: DEADLINE_PASSED if it has not ended in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            for party in job.participants:
                try:
                    ending = self.progress(job.job_id, party).ending
                except ConfideError:
                    continue  # the others may know
                if ending is not None:
                    return ending
            if time.monotonic() > deadline:
                what = f"job {job.job_id} has not ended within {timeout_s:.0f} s"
                raise ConfideError(ErrorCode.DEADLINE_PASSED, what, remedy="Look at how it stands, or wait longer.")
            time.sleep(_POLL_S)

    def cancel(self, job: Job) -> None:
        """Asks for a job's cancellation at the first participant that answers.

        Raises:
            ConfideError: if none answers, or the job is unknown.
        """
        lost: ConfideError | None = None
        for party in job.participants:
            request = jobs_pb2.CancelJobRequest(job_id=job.job_id)
            try:
                methods.CANCEL_JOB.call(self._peers.channel(party), request, party=party, timeout_s=CALL_TIMEOUT_S)
                return
            except ConfideError as error:
                lost = error
        raise lost or ConfideError(ErrorCode.PARTY_UNREACHABLE, "no participant can be asked")

    def result(self, job: Job) -> dict[str, Values]:
        """Fetches every output's shares from the computing parties and combines them here.

        Learns: the caller alone the outputs.

        Raises:
            ConfideError: NOT_READY, JOB_FAILED, NO_GRANT, GRANT_USED, or a party's failure to answer.
        """
        return {output.name: self._open_output(job, output.name) for output in job.outputs}

    def _open_output(self, job: Job, name: str) -> Values:
        request_id = self._records.request_id(job.job_id, name)
        request = jobs_pb2.FetchOutputRequest(job_id=job.job_id, output=name, request_id=request_id)

        def fetch(party: str) -> jobs_pb2.FetchOutputReply:
            return methods.FETCH_OUTPUT.call(self._peers.channel(party), request, party=party, timeout_s=CALL_TIMEOUT_S)

        replies = self._everybody(job.computing_parties, fetch)
        shares = []
        for reply in replies:
            if (reply.shape, reply.scale_bits) != (replies[0].shape, replies[0].scale_bits):
                raise ConfideError(ErrorCode.BAD_FRAME, "the parties' shares of an output do not fit together", party=reply.party)
            if len(reply.share) != 8 * int(np.prod(reply.shape, dtype=np.int64)):
                raise ConfideError(ErrorCode.BAD_FRAME, "a share has not the size of its shape", party=reply.party)
            shares.append(np.frombuffer(reply.share, "<i8").astype(np.int64).reshape(tuple(reply.shape)))
        kind = next(output.kind for output in job.outputs if output.name == name)
        return combine_output(shares, kind=kind, scale_bits=replies[0].scale_bits)

    def _read(self, status: jobs_pb2.JobStatus, *, party: str, job_id: str) -> Progress:
        ending = None
        if status.HasField("ending"):
            ending = self._read_ending(from_wire(status.ending), party=party, job_id=job_id)
        return Progress(
            party=party,
            state=status.state,
            phase=status.phase,
            step=status.step,
            steps=status.steps,
            rounds=status.rounds,
            payload_bytes=status.payload_bytes,
            frame_bytes=status.frame_bytes,
            plan_digest=status.plan_digest,
            ending=ending,
        )

    def _read_ending(self, signed: SignedDocument, *, party: str, job_id: str) -> Ending:
        key = self.directory.party(party).signing_key
        ending = Ending.from_document(verify(signed, kind=DocumentKind.ENDING, signer=party, key=key))
        if ending.session != job_id:
            raise ConfideError(ErrorCode.BAD_SIGNATURE, "the ending is of another job", party=party)
        return ending

    def _everybody(self, parties: Sequence[str], ask: Callable[[str], Value]) -> list[Value]:
        """Asks all at once; reports all failures together."""
        with ThreadPoolExecutor(len(parties)) as pool:
            futures = [pool.submit(ask, party) for party in parties]
        errors = [(p, f.exception()) for p, f in zip(parties, futures, strict=True) if f.exception() is not None]
        for _, error in errors:
            if not isinstance(error, ConfideError):
                raise error or RuntimeError
        known = [(party, error) for party, error in errors if isinstance(error, ConfideError)]
        if len(known) == 1:
            raise known[0][1]
        if known:
            problems = [
                Problem(f"{party} {problem.where}".strip(), problem.what, problem.remedy)
                for party, error in known
                for problem in (error.problems or (Problem("", error.what, error.remedy),))
            ]
            raise ConfideError(known[0][1].code, f"{len(known)} parties refuse", problems=problems)
        return [future.result() for future in futures]
