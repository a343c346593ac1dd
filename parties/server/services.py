"""The behaviours of the three services of the public port; each asks what is its own question after the access table's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from threading import BoundedSemaphore
from typing import Any, TypeAlias

import grpc

from governance.admission import admit
from governance.documents import DocumentKind, verify
from governance.identity.names import MemberKind
from parties.server.access import caller
from parties.server.board import Status
from parties.server.courier import JobPapers
from parties.server.party import Party, holdings
from parties.server.results import hand_out
from parties.server.sessions import Sessions
from parties.server.workers import Template, derive_plan
from parties.transport.streams import ATTEMPT_KEY, LINK_METHOD, SESSION_KEY, LinkTable, accept
from parties.wire import methods
from parties.wire.documents import from_wire, to_wire
from parties.wire.generated.confide.v1 import common_pb2, jobs_pb2, party_pb2, session_pb2
from protocols import PROTOCOL_VERSION
from protocols.canonical import sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType
from protocols.model.weights import weights_from_safetensors
from protocols.session.messages import SessionMessage
from protocols.session.states import State

LISTED_JOBS = 100
WATCH_EVERY_S = 2.0
DERIVATIONS_AT_ONCE = 4  # each is a process: a researcher who asks for many plans waits, and the machine lives
_REQUEST_ID = re.compile(r"[0-9a-f]{32}")
Handlers: TypeAlias = "dict[str, grpc.RpcMethodHandler[Any, Any]]"  # gRPC's classes take no parameters at run time


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


class PartyBehaviour:
    """PartyService: public facts about this party."""

    def __init__(self, party: Party, software_version: str) -> None:
        self._party = party
        self._version = software_version

    def handlers(self) -> Handlers:
        """Returns the registrations."""
        return dict(
            (
                methods.HELLO.unary_handler(self.hello),
                methods.LIST_DATASETS.unary_handler(self.list_datasets),
                methods.LIST_MODELS.unary_handler(self.list_models),
            )
        )

    def hello(self, _request: party_pb2.HelloRequest) -> party_pb2.HelloReply:
        """Tells who and which version this is."""
        directory = self._party.directory
        return party_pb2.HelloReply(
            party=self._party.id,
            protocol_version=int(PROTOCOL_VERSION),
            software_version=self._version,
            directory_version=directory.version,
            roles=[role.value for role in directory.party(self._party.id).roles],
        )

    def list_datasets(self, _request: party_pb2.ListDatasetsRequest) -> party_pb2.ListDatasetsReply:
        """Tells the public descriptions of the registered data sets."""
        with self._party.database.transaction() as tables:
            records = tables.datasets.latest()
        found = [
            party_pb2.Dataset(
                name=record.name,
                version=record.version,
                num_rows=record.num_rows,
                schema=record.schema_document,
                commitment=record.commitment,
            )
            for record in records
        ]
        return party_pb2.ListDatasetsReply(party=self._party.id, datasets=found)

    def list_models(self, _request: party_pb2.ListModelsRequest) -> party_pb2.ListModelsReply:
        """Tells the public descriptions of the models held as shares, with their lineage."""
        found = []
        with self._party.database.transaction() as tables:
            for record in tables.models.usable():
                training = Job.from_bytes(tables.jobs.get(record.job_id).document)
                sources = [
                    party_pb2.ModelSource(party=d.party, dataset=f"{d.name}/{d.version}", commitment=d.commitment)
                    for d in training.datasets
                ]
                found.append(
                    party_pb2.Model(
                        name=record.ref.name,
                        version=record.ref.version,
                        manifest=record.model_document,
                        schema=record.schema_document,
                        job_id=record.job_id,
                        plan_digest=record.plan_digest,
                        computing_parties=training.computing_parties,
                        sources=sources,
                        created=record.created.isoformat(),
                    )
                )
        return party_pb2.ListModelsReply(party=self._party.id, models=found)


class JobsBehaviour:
    """JobsService: what researchers ask."""

    def __init__(self, party: Party, sessions: Sessions, check: Callable[[Job], bytes]) -> None:
        self._party = party
        self._sessions = sessions
        self._check = check

    def handlers(self) -> Handlers:
        """Returns the registrations."""
        return dict(
            (
                methods.PLAN_JOB.unary_handler(self.plan_job),
                methods.SUBMIT_JOB.unary_handler(self.submit_job),
                methods.GET_JOB.unary_handler(self.get_job),
                methods.LIST_JOBS.unary_handler(self.list_jobs),
                methods.WATCH_JOB.stream_handler(self.watch_job),
                methods.CANCEL_JOB.unary_handler(self.cancel_job),
                methods.FETCH_OUTPUT.unary_handler(self.fetch_output),
            )
        )

    def plan_job(self, request: jobs_pb2.PlanJobRequest) -> jobs_pb2.PlanJobReply:
        """Checks a job and tells its plan; keeps nothing."""
        job = Job.from_bytes(request.job)
        if caller().id != job.querier:
            raise ConfideError(ErrorCode.NOT_AUTHORISED, "a job's plan is asked for by its querier")
        plan = self._check(job)
        return jobs_pb2.PlanJobReply(party=self._party.id, plan=plan, plan_digest=sha256_hex(plan))

    def submit_job(self, request: jobs_pb2.SubmitJobRequest) -> jobs_pb2.JobStatus:
        """Takes a signed job in; a refusal goes to the caller and to the other parties."""
        job, papers = read_papers(self._party, request.job, request.initial_weights)
        if caller().id != job.querier:
            raise ConfideError(ErrorCode.NOT_AUTHORISED, "a job is submitted by its querier")
        share = _query_share(self._party, job, request.query_share)
        if not self._sessions.knows(job.job_id):
            try:
                checked: bytes | ConfideError = self._check(job)
            except ConfideError as error:
                checked = error
            self._sessions.propose(job, papers, query_share=share, checked=checked)
            if isinstance(checked, ConfideError):
                raise checked
        return self._shown(job.job_id)

    def get_job(self, request: jobs_pb2.GetJobRequest) -> jobs_pb2.JobStatus:
        """Tells the status of a job."""
        return self._shown(request.job_id)

    def list_jobs(self, _request: jobs_pb2.ListJobsRequest) -> jobs_pb2.ListJobsReply:
        """Tells the caller's jobs, the latest first."""
        with self._party.database.transaction() as tables:
            ids = [record.job_id for record in tables.jobs.recent(querier=caller().id, limit=LISTED_JOBS)]
        return jobs_pb2.ListJobsReply(jobs=[self._shown(job_id) for job_id in ids])

    def watch_job(self, request: jobs_pb2.GetJobRequest) -> Iterator[jobs_pb2.JobStatus]:
        """Tells the status at every change until the session has ended."""
        status = self._visible(request.job_id)

        def follow(status: Status) -> Iterator[jobs_pb2.JobStatus]:
            while True:
                yield _status(self._party.id, status)
                if status.ending is not None:
                    return
                status = self._sessions.wait_for_change(request.job_id, revision=status.revision, timeout_s=WATCH_EVERY_S)

        return follow(status)

    def cancel_job(self, request: jobs_pb2.CancelJobRequest) -> jobs_pb2.JobStatus:
        """Asks for the cancellation of a job."""
        status = self._visible(request.job_id)
        if caller().id != status.job.querier:
            raise ConfideError(ErrorCode.NOT_AUTHORISED, "a job is cancelled by its querier")
        self._sessions.cancel(request.job_id)
        return self._shown(request.job_id)

    def fetch_output(self, request: jobs_pb2.FetchOutputRequest) -> jobs_pb2.FetchOutputReply:
        """Hands this party's share of an output to its recipient."""
        if not _REQUEST_ID.fullmatch(request.request_id):
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, "a request id is 32 hexadecimal digits")
        status = self._visible(request.job_id)
        if status.state is not State.COMPLETED:
            code = ErrorCode.JOB_FAILED if status.state.is_terminal else ErrorCode.NOT_READY
            raise ConfideError(code, f"the job is {status.state.value}; nothing is opened")
        out = hand_out(
            self._party,
            job_id=request.job_id,
            output=request.output,
            recipient=caller().id,
            request_id=request.request_id,
        )
        return jobs_pb2.FetchOutputReply(
            party=self._party.id, share=out.share, shape=out.output.shape, scale_bits=out.output.scale_bits
        )

    def _visible(self, job_id: str) -> Status:
        status, who = self._sessions.status(job_id), caller()
        members = {status.job.querier} if who.kind is MemberKind.RESEARCHER else set(status.job.participants)
        if who.id not in members:
            raise ConfideError(ErrorCode.UNKNOWN_JOB, f"no job {job_id[:32]} is known here")  # not even that it exists
        return status

    def _shown(self, job_id: str) -> jobs_pb2.JobStatus:
        return _status(self._party.id, self._visible(job_id))


class SessionBehaviour:
    """SessionService: what the other participants say, and the streams of links."""

    def __init__(self, party: Party, sessions: Sessions, links: LinkTable, check: Callable[[Job], bytes]) -> None:
        self._party = party
        self._sessions = sessions
        self._links = links
        self._check = check

    def handlers(self) -> Handlers:
        """Returns the registrations."""
        link: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(self.link)
        return dict((methods.DELIVER.unary_handler(self.deliver), (LINK_METHOD.rsplit("/", 1)[1], link)))

    def deliver(self, request: session_pb2.DeliverRequest) -> session_pb2.DeliverReply:
        """Takes one control message in."""
        signed, sender = from_wire(request.message), caller().id
        key = self._party.directory.signing_key(sender)
        message = SessionMessage.from_document(verify(signed, kind=DocumentKind.SESSION_MESSAGE, signer=sender, key=key))
        if message.sender != sender:
            raise ConfideError(ErrorCode.BAD_SIGNATURE, "the sender of a session message is not its signer", party=sender)
        if request.HasField("job") and not self._sessions.knows(message.session):
            self._adopt(request)
        self._sessions.deliver(message, signed)
        return session_pb2.DeliverReply()

    def link(self, incoming: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Joins a peer's stream to the worker that expects it."""
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        session, attempt = metadata.get(SESSION_KEY, ""), metadata.get(ATTEMPT_KEY, "")
        if not attempt.isascii() or not attempt.isdigit() or len(attempt) > 6:
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, "a link names its session and attempt")
        return accept(self._links.take(session, int(attempt), caller().id), incoming)

    def _adopt(self, request: session_pb2.DeliverRequest) -> None:
        job, papers = read_papers(self._party, request.job, request.initial_weights)
        if job.query_rows is not None and self._party.id in job.computing_parties:
            return  # the samples' share comes from the querier alone; until then this party does not know the session
        try:
            checked: bytes | ConfideError = self._check(job)
        except ConfideError as error:
            checked = error
        self._sessions.propose(job, papers, query_share=None, checked=checked)


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


def _query_share(party: Party, job: Job, share: bytes) -> bytes | None:
    expected = 8 * (job.query_rows or 0) * job.model.input_features if party.id in job.computing_parties else 0
    if len(share) != expected:
        what = f"the share of the samples has {len(share)} bytes; {expected} are expected at {party.id}"
        raise ConfideError(ErrorCode.INVALID_JOB, what)
    return share or None


def _status(party: str, status: Status) -> jobs_pb2.JobStatus:
    measured = status.measured
    return jobs_pb2.JobStatus(
        job_id=status.job.job_id,
        party=party,
        state=status.state.value,
        phase=measured.phase,
        step=measured.step,
        steps=measured.steps,
        plan_digest=status.plan_digest,
        rounds=measured.rounds,
        payload_bytes=measured.payload_bytes,
        frame_bytes=measured.frame_bytes,
        ending=None if status.ending is None else to_wire(status.ending),
        job_type=status.job.job_type.value,
        created=status.job.created.isoformat(),
        terminal=status.ending is not None,
        countersigned_by=status.countersigned_by,
    )
