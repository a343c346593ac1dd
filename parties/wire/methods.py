"""The methods of the wire contract with their types; servers register from it and callers call through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message

from parties.wire.generated.confide.v1 import (
    audit_pb2,
    encrypted_pb2,
    governance_pb2,
    jobs_pb2,
    linking_pb2,
    party_pb2,
    serving_pb2,
    session_pb2,
)
from parties.wire.status import from_rpc_error

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)
Handlers: TypeAlias = "dict[str, grpc.RpcMethodHandler[Any, Any]]"  # gRPC's classes take no parameters at run time


class Begun(Generic[Reply]):
    """A call that has been begun; see `Method.begin`."""

    def __init__(self, under_way: Any, party: str) -> None:
        self._under_way = under_way  # grpc.Future, of which gRPC gives no type with a parameter
        self.party = party

    def reply(self) -> Reply:
        """Waits for the reply, or raises as `Method.call`."""
        try:
            reply: Reply = self._under_way.result()
        except grpc.RpcError as error:
            raise from_rpc_error(error, party=self.party) from error
        return reply

    def when_done(self, tell: Callable[[Begun[Reply]], object]) -> None:
        """Has somebody told, on a thread of gRPC's, once `reply` would not wait."""
        self._under_way.add_done_callback(lambda _: tell(self))

    def cancel(self) -> None:
        """Waits no longer; one that has its reply keeps it."""
        self._under_way.cancel()


@dataclass(frozen=True)
class Method(Generic[Request, Reply]):
    """One method: its path and the types of its messages."""

    service: str
    name: str
    request: type[Request]
    reply: type[Reply]

    @property
    def path(self) -> str:
        """The path on the wire."""
        return f"/{self.service}/{self.name}"

    def call(self, channel: grpc.Channel, request: Request, *, party: str, timeout_s: float) -> Reply:
        """Calls the method once.

        Raises:
            ConfideError: what the party reported, or PARTY_UNREACHABLE, PEER_SILENT or UNAUTHENTICATED, naming the party.
        """
        stub = channel.unary_unary(self.path, self.request.SerializeToString, self.reply.FromString)
        try:
            reply: Reply = stub(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise from_rpc_error(error, party=party) from error
        return reply

    def begin(self, channel: grpc.Channel, request: Request, *, party: str, timeout_s: float) -> Begun[Reply]:
        """Begins a call and returns at once."""
        stub = channel.unary_unary(self.path, self.request.SerializeToString, self.reply.FromString)
        return Begun(stub.future(request, timeout=timeout_s), party)

    def stream(self, channel: grpc.Channel, request: Request, *, party: str, timeout_s: float | None = None) -> Iterator[Reply]:
        """Calls a method that answers with a stream; the stream is cancelled when the iterator is closed.

        Args:
            channel: to the party.
            request: the message.
            party: its id.
            timeout_s: for the whole stream; None for one that lasts as long as there is something to say.

        Raises:
            ConfideError: as `call`.
        """
        stub = channel.unary_stream(self.path, self.request.SerializeToString, self.reply.FromString)
        call = stub(request, timeout=timeout_s)
        try:
            yield from call
        except grpc.RpcError as error:
            raise from_rpc_error(error, party=party) from error
        finally:
            call.cancel()

    def unary_handler(self, behaviour: Callable[[Request], Reply]) -> tuple[str, grpc.RpcMethodHandler[Any, Any]]:
        """Returns the registration of a server's behaviour."""
        handler = grpc.unary_unary_rpc_method_handler(
            lambda request, _: behaviour(request), self.request.FromString, self.reply.SerializeToString
        )
        return self.name, handler

    def stream_handler(self, behaviour: Callable[[Request], Iterator[Reply]]) -> tuple[str, grpc.RpcMethodHandler[Any, Any]]:
        """Returns the registration of a server's behaviour that answers with a stream."""
        handler = grpc.unary_stream_rpc_method_handler(
            lambda request, _: behaviour(request), self.request.FromString, self.reply.SerializeToString
        )
        return self.name, handler


PARTY_SERVICE = "confide.v1.PartyService"
JOBS_SERVICE = "confide.v1.JobsService"
SESSION_SERVICE = "confide.v1.SessionService"
SERVING_SERVICE = "confide.v1.ServingService"
ENCRYPTED_SERVICE = "confide.v1.EncryptedInferenceService"
GOVERNANCE_SERVICE = "confide.v1.GovernanceService"
AUDIT_SERVICE = "confide.v1.AuditService"
LINKING_SERVICE = "confide.v1.LinkingService"

HELLO = Method(PARTY_SERVICE, "Hello", party_pb2.HelloRequest, party_pb2.HelloReply)
LIST_DATASETS = Method(PARTY_SERVICE, "ListDatasets", party_pb2.ListDatasetsRequest, party_pb2.ListDatasetsReply)
LIST_MODELS = Method(PARTY_SERVICE, "ListModels", party_pb2.ListModelsRequest, party_pb2.ListModelsReply)
PROBE = Method(PARTY_SERVICE, "Probe", party_pb2.ProbeRequest, party_pb2.ProbeReply)
PLAN_JOB = Method(JOBS_SERVICE, "PlanJob", jobs_pb2.PlanJobRequest, jobs_pb2.PlanJobReply)
SUBMIT_JOB = Method(JOBS_SERVICE, "SubmitJob", jobs_pb2.SubmitJobRequest, jobs_pb2.JobStatus)
GET_JOB = Method(JOBS_SERVICE, "GetJob", jobs_pb2.GetJobRequest, jobs_pb2.JobStatus)
LIST_JOBS = Method(JOBS_SERVICE, "ListJobs", jobs_pb2.ListJobsRequest, jobs_pb2.ListJobsReply)
WATCH_JOB = Method(JOBS_SERVICE, "WatchJob", jobs_pb2.GetJobRequest, jobs_pb2.JobStatus)
CANCEL_JOB = Method(JOBS_SERVICE, "CancelJob", jobs_pb2.CancelJobRequest, jobs_pb2.JobStatus)
EXPLAIN_JOB = Method(JOBS_SERVICE, "ExplainJob", jobs_pb2.ExplainJobRequest, jobs_pb2.ExplainJobReply)
FETCH_OUTPUT = Method(JOBS_SERVICE, "FetchOutput", jobs_pb2.FetchOutputRequest, jobs_pb2.FetchOutputReply)
LIST_SERVINGS = Method(SERVING_SERVICE, "ListServings", serving_pb2.ListServingsRequest, serving_pb2.ListServingsReply)
ASK = Method(SERVING_SERVICE, "Ask", serving_pb2.AskRequest, serving_pb2.AskReply)
STOP_SERVING = Method(SERVING_SERVICE, "StopServing", serving_pb2.StopServingRequest, serving_pb2.StopServingReply)
DELIVER = Method(SESSION_SERVICE, "Deliver", session_pb2.DeliverRequest, session_pb2.DeliverReply)
LIST_AGREEMENTS = Method(
    GOVERNANCE_SERVICE, "ListAgreements", governance_pb2.ListAgreementsRequest, governance_pb2.ListAgreementsReply
)
TELL = Method(GOVERNANCE_SERVICE, "Tell", governance_pb2.TellRequest, governance_pb2.TellReply)
LIST_STATEMENTS = Method(
    GOVERNANCE_SERVICE, "ListStatements", governance_pb2.ListStatementsRequest, governance_pb2.ListStatementsReply
)
HAND_ASSESSMENT = Method(
    GOVERNANCE_SERVICE, "HandAssessment", governance_pb2.HandAssessmentRequest, governance_pb2.HandAssessmentReply
)
COSIGN = Method(AUDIT_SERVICE, "Cosign", audit_pb2.CosignRequest, audit_pb2.CosignReply)
LAST_SEEN = Method(AUDIT_SERVICE, "LastSeen", audit_pb2.LastSeenRequest, audit_pb2.LastSeenReply)
EVALUATE_PSEUDONYMS = Method(
    LINKING_SERVICE, "EvaluatePseudonyms", linking_pb2.EvaluatePseudonymsRequest, linking_pb2.EvaluatePseudonymsReply
)
OPEN_INTERSECTION = Method(
    LINKING_SERVICE, "OpenIntersection", linking_pb2.OpenIntersectionRequest, linking_pb2.OpenIntersectionReply
)
PUT_PART_OF_SET = Method(LINKING_SERVICE, "PutPart", linking_pb2.PutPartOfSetRequest, linking_pb2.PutPartOfSetReply)
GET_PART_OF_SET = Method(LINKING_SERVICE, "GetPart", linking_pb2.GetPartOfSetRequest, linking_pb2.GetPartOfSetReply)
FINISH_INTERSECTION = Method(
    LINKING_SERVICE, "FinishIntersection", linking_pb2.FinishIntersectionRequest, linking_pb2.FinishIntersectionReply
)
BREAK_OFF_INTERSECTION = Method(
    LINKING_SERVICE, "BreakOffIntersection", linking_pb2.BreakOffIntersectionRequest, linking_pb2.BreakOffIntersectionReply
)
LIST_PUBLISHED = Method(ENCRYPTED_SERVICE, "ListPublished", encrypted_pb2.ListPublishedRequest, encrypted_pb2.ListPublishedReply)
OPEN_ENQUIRY = Method(ENCRYPTED_SERVICE, "OpenEnquiry", encrypted_pb2.OpenEnquiryRequest, encrypted_pb2.EnquiryStatus)
GET_ENQUIRY = Method(ENCRYPTED_SERVICE, "GetEnquiry", encrypted_pb2.GetEnquiryRequest, encrypted_pb2.EnquiryStatus)
PUT_PART = Method(ENCRYPTED_SERVICE, "PutPart", encrypted_pb2.PutPartRequest, encrypted_pb2.PutPartReply)
ASK_ENCRYPTED = Method(ENCRYPTED_SERVICE, "AskEncrypted", encrypted_pb2.AskEncryptedRequest, encrypted_pb2.AnswerPart)
FETCH_ANSWER = Method(ENCRYPTED_SERVICE, "FetchAnswer", encrypted_pb2.FetchAnswerRequest, encrypted_pb2.AnswerPart)
END_ENQUIRY = Method(ENCRYPTED_SERVICE, "EndEnquiry", encrypted_pb2.EndEnquiryRequest, encrypted_pb2.EnquiryStatus)
