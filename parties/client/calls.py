"""One question to one party or to all of them: what everything that a researcher's client does comes down to."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
import numpy as np
from numpy.typing import NDArray

from governance.documents import DocumentKind, SignedDocument, sign_bytes
from governance.encrypted.enquiry import Enquiry, sign_enquiry
from governance.identity.directory import Directory
from governance.utility_report import StatedUtility, sign_utility_report
from parties.client.everybody import ask_everybody, tell_anybody
from parties.client.opening import Opened, agreed_commitments, open_output
from parties.client.preparations import preparation_notes
from parties.client.progress import Progress, read_progress
from parties.client.records import JobRecords
from parties.client.released_moments import keep_released
from parties.released import HandedShare
from parties.storage.state import Member
from parties.transport.peers import Peers
from parties.transport.tls import TlsIdentity
from parties.wire import methods
from parties.wire.documents import to_wire
from parties.wire.generated.confide.v1 import governance_pb2, jobs_pb2, party_pb2
from protocols.canonical import parse_canonical
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.model.ranges import RangeReport
from protocols.mpc.query import share_query
from protocols.plan.plan import Plan
from protocols.prg import KEY_BYTES, AesCtrStream
from protocols.row_noise import opens_moments
from protocols.secrets import SecretBytes
from protocols.session.messages import Ending
from protocols.session.states import State

CALL_TIMEOUT_S = 10.0
CHECK_TIMEOUT_S = 90.0
_POLL_S = 0.5
_LATE_S = 15.0  # after the first participant that shows a completed job, for the others to show it
Values: TypeAlias = NDArray[np.float64] | NDArray[np.int64]


@dataclass(frozen=True)
class PreparedJob:
    """A job with what travels beside it, and what stays with its querier.

    Attributes:
        job: the document.
        initial_weights: train: public.
        features: infer: the querier's samples, (rows, features) float64, secret.
        query_salt: infer: of the commitment to them; serve: from which the salts of all queries follow; secret, it leaves only if
            the querier shows it in a dispute.
        ranges: what is known of the limits of numbers; None of a training that is taken up again.
    """

    job: Job
    initial_weights: bytes = b""
    features: NDArray[np.float64] | None = field(default=None, repr=False)
    query_salt: bytes = field(default=b"", repr=False)
    ranges: RangeReport | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the querier should know before she submits the job.

        Which layers are not proven to stay within their limits, and what becomes of a job that prepares trainings.
        """
        return (*(() if self.ranges is None else self.ranges.warnings), *preparation_notes(self.job))


class Calls:
    """One researcher's connections to the parties of her consortium."""

    def __init__(self, member: Member, records: JobRecords) -> None:
        """Takes her keys and directory, and where she keeps her jobs."""
        self.directory: Directory = member.directory
        self.researcher = member.identity.id
        self.records = records
        self._key = member.signing_key
        identity = TlsIdentity(
            private_key=member.tls_key.export_secret_pem(),
            certificate=member.certificate.encode(),
            ca_certificate=member.directory.ca_certificate.encode(),
        )
        self._peers = Peers(identity, lambda: self.directory)
        self._shares: dict[str, dict[str, bytes]] = {}  # of samples that not every party has taken yet; secret

    def close(self) -> None:
        """Closes the connections."""
        self._peers.close()

    def channel(self, party: str) -> grpc.Channel:
        """Returns the kept connection to a party.

        Raises:
            ConfideError: NOT_ENROLLED, or UNAUTHENTICATED (that party's fault).
        """
        return self._peers.channel(party)

    def signed_enquiry(self, enquiry: Enquiry) -> SignedDocument:
        """Returns an enquiry with the researcher's signature.

        Raises:
            ConfideError: INVALID_DOCUMENT: it would be refused.
        """
        return sign_enquiry(enquiry, self._key)

    def signed_utility(self, stated: StatedUtility) -> SignedDocument:
        """Returns what an evaluation of the researcher's told, signed by her, for the evidence of the model's holders.

        Raises:
            ConfideError: INVALID_ARGUMENT (the caller's fault): it is in somebody else's name.
        """
        if (stated.consortium, stated.querier) != (self.directory.consortium, self.researcher):
            what = f"the report is in the name of {stated.querier}, not of {self.researcher}"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
        return sign_utility_report(stated, self._key)

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

    def agreements(self, party: str) -> list[governance_pb2.Agreement]:
        """Returns the agreements that a party knows, with the signatures that it has, and whether it holds them in force."""
        request = governance_pb2.ListAgreementsRequest()
        channel = self._peers.channel(party)
        return list(methods.LIST_AGREEMENTS.call(channel, request, party=party, timeout_s=CALL_TIMEOUT_S).agreements)

    def plan(self, job: Job) -> Plan:
        """Asks every participant for the plan; nothing is kept and nothing runs.

        Raises:
            ConfideError: a party's refusal with all its reasons, or PLAN_DIFFERS.
        """
        request = jobs_pb2.PlanJobRequest(job=job.to_bytes())

        def ask(party: str) -> bytes:
            reply = methods.PLAN_JOB.call(self._peers.channel(party), request, party=party, timeout_s=CHECK_TIMEOUT_S)
            return reply.plan

        plans = ask_everybody(job.participants, ask)
        if len(set(plans)) != 1:
            raise ConfideError(ErrorCode.PLAN_DIFFERS, "the parties derived different plans from the job")
        plan = Plan.from_document(parse_canonical(plans[0]))
        if plan.job_digest != job.digest:
            raise ConfideError(ErrorCode.PLAN_DIFFERS, "the parties' plan is not of this job")
        return plan

    def explain(self, party: str, request: jobs_pb2.ExplainJobRequest) -> jobs_pb2.ExplainJobReply:
        """Asks one party what it says to a job."""
        return methods.EXPLAIN_JOB.call(self._peers.channel(party), request, party=party, timeout_s=CHECK_TIMEOUT_S)

    def submit(self, prepared: PreparedJob) -> None:
        """Signs the job and gives it to every participant; shares the samples to the computing parties.

        After a failure it may be called again with the same job: parties that have it keep what they have, so samples go to the
        others in the same shares.

        Learns: each computing party one share of the samples, which alone is uniformly random.

        Raises:
            ConfideError: a party's refusal with all its reasons; the job then ends as rejected everywhere.
        """
        job = prepared.job
        signed = sign_bytes(job.to_bytes(), kind=DocumentKind.JOB, signer=self.researcher, key=self._key)
        shares = self._shares.get(job.job_id, {})
        if prepared.features is not None and not shares:
            source = AesCtrStream(SecretBytes(secrets.token_bytes(KEY_BYTES)))
            parts = share_query(prepared.features, num_parties=len(job.computing_parties), source=source)
            shares = {p: np.ascontiguousarray(s, "<i8").tobytes() for p, s in zip(job.computing_parties, parts, strict=True)}
            self._shares[job.job_id] = shares
        request_ids = {output.name: secrets.token_hex(16) for output in job.outputs}
        self.records.add(job, request_ids=request_ids, query_salt=prepared.query_salt)

        def give(party: str) -> None:
            request = jobs_pb2.SubmitJobRequest(
                job=to_wire(signed), initial_weights=prepared.initial_weights, query_share=shares.get(party, b"")
            )
            methods.SUBMIT_JOB.call(self._peers.channel(party), request, party=party, timeout_s=CHECK_TIMEOUT_S)

        ask_everybody(job.participants, give)
        self._shares.pop(job.job_id, None)

    def progress(self, job_id: str, party: str) -> Progress:
        """Asks one party how a job stands."""
        request = jobs_pb2.GetJobRequest(job_id=job_id)
        status = methods.GET_JOB.call(self._peers.channel(party), request, party=party, timeout_s=CALL_TIMEOUT_S)
        return read_progress(status, party=party, job_id=job_id, directory=self.directory)

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
                    said = read_progress(status, party=party, job_id=job.job_id, directory=self.directory)
                    yield said
                    if said.ending is not None:
                        return
            except ConfideError as error:
                lost = error
        raise lost or ConfideError(ErrorCode.PARTY_UNREACHABLE, "no participant can be asked about the job")

    def wait(self, job: Job, *, timeout_s: float) -> Ending:
        """Waits for a job's ending, whichever participants are up; a moment longer for those that have not heard of it yet.

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
                    if ending.state is State.COMPLETED:
                        self._let_others_end(job)
                    return ending
            if time.monotonic() > deadline:
                what = f"job {job.job_id} has not ended within {timeout_s:.0f} s"
                raise ConfideError(ErrorCode.DEADLINE_PASSED, what, remedy="Look at how it stands, or wait longer.")
            time.sleep(_POLL_S)

    def _let_others_end(self, job: Job) -> None:
        """An ending reaches the participants one after the other; what it left can be used where it has arrived."""
        deadline = time.monotonic() + _LATE_S
        for party in job.participants:
            with suppress(ConfideError):  # one that is down may miss it for long
                while self.progress(job.job_id, party).ending is None and time.monotonic() < deadline:
                    time.sleep(_POLL_S)

    def cancel(self, job: Job) -> None:
        """Asks for a job's cancellation at the first participant that answers.

        Raises:
            ConfideError: if none answers, or the job is unknown.
        """
        request = jobs_pb2.CancelJobRequest(job_id=job.job_id)
        tell_anybody(
            job.participants,
            lambda party: methods.CANCEL_JOB.call(self._peers.channel(party), request, party=party, timeout_s=CALL_TIMEOUT_S),
        )

    def result(self, job: Job) -> dict[str, Values]:
        """Fetches every output's shares from the computing parties, checks them against their commitments and combines them here.

        Learns: the caller alone the outputs.

        Raises:
            ConfideError: NOT_READY, JOB_FAILED, NO_GRANT, GRANT_USED; RELEASE_WITHHELD: a party's rule; COMMITMENT_DIFFERS:
                a party shows other commitments than the others, or hands out another share than it committed to; or a party's
                failure to answer.
        """
        return {name: opened.value for name, opened in self.opened(job).items()}

    def opened(self, job: Job) -> dict[str, Opened]:
        """Opens the outputs as `result`, and returns beside each the shares that it was combined of.

        Learns: the caller alone the outputs.

        Raises:
            ConfideError: as `result`.
        """
        if not job.closing_outputs:
            return {}
        commitments = self._commitments(job)
        found = {
            output.name: open_output(job, output, replies=self._fetch(job, output.name), commitments=commitments)
            for output in job.outputs
        }
        if opens_moments(job):  # however they were asked for: without the shares no owner believes a schema that is made of them
            keep_released(self.records.folder.parent, job.job_id, found[job.outputs[0].name].shares)
        return found

    def released(self, job: Job) -> list[HandedShare]:
        """Fetches each computing party's share of the weights that a release opens, with its nonce and licence.

        Learns: the caller alone the weights.

        Raises:
            ConfideError: as `result`.
        """
        commitments, output = self._commitments(job), job.outputs[0]
        replies = self._fetch(job, output.name)
        open_output(job, output, replies=replies, commitments=commitments)
        handed = zip(job.computing_parties, replies, strict=True)
        return [HandedShare(party, reply.share, reply.nonce, reply.licence) for party, reply in handed]

    def _commitments(self, job: Job) -> Mapping[str, Mapping[str, str]]:
        parties = job.computing_parties
        endings = ask_everybody(parties, lambda party: self.progress(job.job_id, party).ending)
        return agreed_commitments(job, dict(zip(parties, endings, strict=True)))

    def _fetch(self, job: Job, name: str) -> list[jobs_pb2.FetchOutputReply]:
        request_id = self.records.request_id(job.job_id, name)
        request = jobs_pb2.FetchOutputRequest(job_id=job.job_id, output=name, request_id=request_id)

        def fetch(party: str) -> jobs_pb2.FetchOutputReply:
            return methods.FETCH_OUTPUT.call(self._peers.channel(party), request, party=party, timeout_s=CALL_TIMEOUT_S)

        return ask_everybody(job.computing_parties, fetch)
