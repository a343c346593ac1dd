"""JobsService: what researchers ask of a party."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from governance.admission import demand_new
from governance.identity.names import MemberKind
from parties.server.access import caller
from parties.server.board import Status
from parties.server.explaining import Explained, approvals_needed, explain
from parties.server.intake import CheckedJob, Checker, read_papers, read_query_share
from parties.server.party import Party
from parties.server.releases import licence_for, warm_release
from parties.server.results import hand_out
from parties.server.sessions import Sessions
from parties.storage.checkpoints import CheckpointRecord
from parties.wire import methods
from parties.wire.documents import to_wire
from parties.wire.generated.confide.v1 import jobs_pb2
from parties.wire.methods import Handlers
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType
from protocols.mpc.timing import SegmentTiming
from protocols.session.states import State

LISTED_JOBS = 100
WATCH_EVERY_S = 2.0
_REQUEST_ID = re.compile(r"[0-9a-f]{32}")


class JobsService:
    """JobsService: what researchers ask."""

    def __init__(self, party: Party, sessions: Sessions, checker: Checker) -> None:
        self._party = party
        self._sessions = sessions
        self._checker = checker

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
                methods.EXPLAIN_JOB.unary_handler(self.explain_job),
                methods.FETCH_OUTPUT.unary_handler(self.fetch_output),
            )
        )

    def plan_job(self, request: jobs_pb2.PlanJobRequest) -> jobs_pb2.PlanJobReply:
        """Checks a job and tells its plan; keeps nothing."""
        job = Job.from_bytes(request.job)
        if caller().id != job.querier:
            raise ConfideError(ErrorCode.NOT_AUTHORISED, "a job's plan is asked for by its querier")
        checked = self._checker.check(job)
        return jobs_pb2.PlanJobReply(
            party=self._party.id,
            plan=checked.plan,
            plan_digest=checked.plan_digest,
            approvals_needed=approvals_needed(self._party, job, checked.plan),
        )

    def submit_job(self, request: jobs_pb2.SubmitJobRequest) -> jobs_pb2.JobStatus:
        """Takes a signed job in; a refusal goes to the caller and to the other parties."""
        job, papers = read_papers(self._party, request.job, request.initial_weights)
        if caller().id != job.querier:
            raise ConfideError(ErrorCode.NOT_AUTHORISED, "a job is submitted by its querier")
        share = read_query_share(self._party, job, request.query_share)
        if not self._sessions.knows(job.job_id):
            try:
                checked: CheckedJob | ConfideError = self._checker.check(job)
                demand_new(job, now=self._party.now())
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
            ids = tables.jobs.recent_ids(querier=caller().id, limit=LISTED_JOBS)
        return jobs_pb2.ListJobsReply(jobs=[self._shown(job_id) for job_id in ids])

    def watch_job(self, request: jobs_pb2.GetJobRequest) -> Iterator[jobs_pb2.JobStatus]:
        """Tells the status at every change until the session has ended."""
        status = self._visible(request.job_id)

        def follow(status: Status) -> Iterator[jobs_pb2.JobStatus]:
            while True:
                yield self._status(status)
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

    def explain_job(self, request: jobs_pb2.ExplainJobRequest) -> jobs_pb2.ExplainJobReply:
        """Tells every reason for which this party would refuse a job, or what it would wait for; keeps nothing."""
        if request.job_id:
            status = self._visible(request.job_id)
            if status.state is not State.PROPOSED:  # it was decided; how it ended stands in its ending
                return jobs_pb2.ExplainJobReply(party=self._party.id)
            job = status.job
        else:
            job = Job.from_bytes(request.job)
        if caller().id != job.querier:
            raise ConfideError(ErrorCode.NOT_AUTHORISED, "a job is explained to its querier")
        return _explained(self._party.id, explain(self._party, job, self._checker.derive))

    def fetch_output(self, request: jobs_pb2.FetchOutputRequest) -> jobs_pb2.FetchOutputReply:
        """Hands this party's share of an output to its recipient."""
        if not _REQUEST_ID.fullmatch(request.request_id):
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, "a request id is 32 hexadecimal digits")
        status = self._visible(request.job_id)
        if status.state is not State.COMPLETED:
            code = ErrorCode.JOB_FAILED if status.state.is_terminal else ErrorCode.NOT_READY
            raise ConfideError(code, f"the job is {status.state.value}; nothing is opened")
        warm_release(self._party, status.job)
        out = hand_out(
            self._party,
            job_id=request.job_id,
            output=request.output,
            recipient=caller().id,
            request_id=request.request_id,
        )
        return jobs_pb2.FetchOutputReply(
            party=self._party.id,
            share=out.share,
            shape=out.output.shape,
            scale_bits=out.output.scale_bits,
            nonce=out.nonce,
            licence=licence_for(self._party, status.job, request.output),
        )

    def _visible(self, job_id: str) -> Status:
        status, who = self._sessions.status(job_id), caller()
        members = {status.job.querier} if who.kind is MemberKind.RESEARCHER else set(status.job.participants)
        if who.id not in members:
            raise ConfideError(ErrorCode.UNKNOWN_JOB, f"no job {job_id[:32]} is known here")  # not even that it exists
        return status

    def _shown(self, job_id: str) -> jobs_pb2.JobStatus:
        return self._status(self._visible(job_id))

    def _status(self, status: Status) -> jobs_pb2.JobStatus:
        checkpoints: Sequence[CheckpointRecord] = ()
        if status.job.job_type is JobType.TRAIN and self._party.id in status.job.computing_parties:
            with self._party.database.transaction() as tables:
                checkpoints = tables.checkpoints.of_job(status.job.job_id)
        return _status(self._party.id, status, checkpoints)


def _status(party: str, status: Status, checkpoints: Sequence[CheckpointRecord]) -> jobs_pb2.JobStatus:
    measured = status.measured
    kept = [jobs_pb2.Checkpoint(run=c.run, head=c.head, created=c.created.isoformat()) for c in checkpoints]
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
        attempt=status.job.attempt,
        checkpoints=kept,
        waiting_for=status.waiting_for,
        timing=[_timing(entry) for entry in measured.timing],
    )


def _timing(entry: SegmentTiming) -> jobs_pb2.SegmentTiming:
    return jobs_pb2.SegmentTiming(
        segment=entry.segment,
        runs=entry.runs,
        seconds_total=entry.seconds_total,
        seconds_median=entry.seconds_median,
        online_seconds_median=entry.online_seconds_median,
        wait_dealer_seconds=entry.wait_dealer_seconds,
        processor_seconds=entry.processor_seconds,
        dealer_seconds=entry.dealer_seconds,
    )


def _explained(party: str, found: Explained) -> jobs_pb2.ExplainJobReply:
    standing, preview = found.standing, found.preview
    reasons = [
        jobs_pb2.Reason(code=f.code.name, where=f.problem.where, what=f.problem.what, remedy=f.problem.remedy)
        for f in found.findings
    ]
    return jobs_pb2.ExplainJobReply(
        party=party,
        reasons=reasons,
        approvals_needed=0 if standing is None else standing.decision.needed,
        approvals_given=0 if standing is None else len(standing.tally.approved),
        rule="" if standing is None else standing.decision.rule,
        preview=b"" if preview is None else preview.to_bytes(),
    )
