"""Who may call what: one table, one interceptor.

Every call passes here before any code of its method: the caller's certificate (verified by TLS against the consortium's CA)
must be the one that the directory lists, and the table must permit that kind of caller. A method that is not in the table
does not exist. Whether this member may touch this session, job or output is then the method's own question.
"""

from __future__ import annotations

import contextvars
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeAlias

import grpc
import structlog
from grpc_status import rpc_status

from governance.identity.directory import Directory
from governance.identity.names import MemberKind, PeerIdentity
from parties import defect
from parties.server.stream_limits import call_limits, stream_limits
from parties.wire.status import to_status
from protocols.errors import ConfideError, ErrorCode, Kind

PARTY, RESEARCHER = MemberKind.PARTY, MemberKind.RESEARCHER
_ANY = frozenset({PARTY, RESEARCHER})
_PARTIES = frozenset({PARTY})
_RESEARCHERS = frozenset({RESEARCHER})

ACCESS: Mapping[str, frozenset[MemberKind]] = {
    "/grpc.health.v1.Health/Check": _ANY,
    "/grpc.health.v1.Health/Watch": _ANY,
    "/confide.v1.PartyService/Hello": _ANY,
    "/confide.v1.PartyService/ListDatasets": _ANY,
    "/confide.v1.PartyService/ListModels": _ANY,
    "/confide.v1.PartyService/Probe": _PARTIES,
    "/confide.v1.JobsService/PlanJob": _RESEARCHERS,
    "/confide.v1.JobsService/SubmitJob": _RESEARCHERS,
    "/confide.v1.JobsService/GetJob": _ANY,
    "/confide.v1.JobsService/ListJobs": _RESEARCHERS,
    "/confide.v1.JobsService/WatchJob": _RESEARCHERS,
    "/confide.v1.JobsService/CancelJob": _RESEARCHERS,
    "/confide.v1.JobsService/ExplainJob": _RESEARCHERS,
    "/confide.v1.JobsService/FetchOutput": _RESEARCHERS,
    "/confide.v1.ServingService/ListServings": _RESEARCHERS,
    "/confide.v1.ServingService/Ask": _RESEARCHERS,
    "/confide.v1.ServingService/StopServing": _RESEARCHERS,
    "/confide.v1.EncryptedInferenceService/ListPublished": _RESEARCHERS,
    "/confide.v1.EncryptedInferenceService/OpenEnquiry": _RESEARCHERS,
    "/confide.v1.EncryptedInferenceService/GetEnquiry": _RESEARCHERS,
    "/confide.v1.EncryptedInferenceService/PutPart": _RESEARCHERS,
    "/confide.v1.EncryptedInferenceService/AskEncrypted": _RESEARCHERS,
    "/confide.v1.EncryptedInferenceService/FetchAnswer": _RESEARCHERS,
    "/confide.v1.EncryptedInferenceService/EndEnquiry": _RESEARCHERS,
    "/confide.v1.GovernanceService/ListAgreements": _ANY,
    "/confide.v1.GovernanceService/Tell": _PARTIES,
    "/confide.v1.GovernanceService/ListStatements": _PARTIES,
    "/confide.v1.GovernanceService/HandAssessment": _PARTIES,
    "/confide.v1.AuditService/Cosign": _PARTIES,
    "/confide.v1.AuditService/LastSeen": _PARTIES,
    "/confide.v1.LinkingService/EvaluatePseudonyms": _PARTIES,
    "/confide.v1.LinkingService/OpenIntersection": _PARTIES,
    "/confide.v1.LinkingService/PutPart": _PARTIES,
    "/confide.v1.LinkingService/GetPart": _PARTIES,
    "/confide.v1.LinkingService/FinishIntersection": _PARTIES,
    "/confide.v1.LinkingService/BreakOffIntersection": _PARTIES,
    "/confide.v1.SessionService/Deliver": _PARTIES,
}
# Streams live as long as their watcher; everything else must say how long the caller waits.
_WITHOUT_DEADLINE = frozenset({"/confide.v1.JobsService/WatchJob", "/grpc.health.v1.Health/Watch"})

MAX_DEADLINE_S = 3600.0

Observe: TypeAlias = Callable[[str, str, float], None]
Settle: TypeAlias = Callable[[str, PeerIdentity], None]  # told what gRPC calls a caller, and which member it is
_OK = "OK"
_caller: contextvars.ContextVar[PeerIdentity] = contextvars.ContextVar("caller")
_log = structlog.get_logger()


def caller() -> PeerIdentity:
    """Who makes the current call; set by the interceptor for every method."""
    return _caller.get()


def permit(method: str, identity: PeerIdentity) -> None:
    """Checks the table.

    Raises:
        ConfideError: NOT_AUTHORISED (the caller's fault).
    """
    if identity.kind not in ACCESS.get(method, frozenset()):
        raise ConfideError(ErrorCode.NOT_AUTHORISED, f"a {identity.kind.value} may not call {method}")


class AccessInterceptor(grpc.ServerInterceptor):
    """Authenticates and authorises every call, then translates what the method raises.

    Every call has a random id: it stands in every log line that the call leads to, and in the text of a defect, so that the
    caller can name the line to the operator.
    """

    def __init__(
        self,
        directory: Callable[[], Directory],
        *,
        observe: Observe = lambda method, code, seconds: None,
        settle: Settle = lambda peer, member: None,
    ) -> None:
        """Takes the directory as it is now, and who is told of every call's method, outcome and seconds, and of its caller."""
        self._directory = directory
        self._observe = observe
        self._settle = settle
        self._streams, self._calls = stream_limits(), call_limits()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wraps the method's handler."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        read, write = handler.request_deserializer, handler.response_serializer
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(self._streaming(method, handler.stream_stream), read, write)
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(self._streaming(method, handler.unary_stream), read, write)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._unary(method, handler.unary_unary), read, write)
        return None

    def _unary(self, method: str, behaviour: Callable[[Any, grpc.ServicerContext], Any]) -> Callable[..., Any]:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            with self._watched(method, context):
                self._admit(method, context)
                with self._calls.one_more(caller()):
                    return behaviour(request, context)

        return call

    def _streaming(self, method: str, behaviour: Callable[[Any, grpc.ServicerContext], Iterator[Any]]) -> Callable[..., Any]:
        def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with self._watched(method, context):
                self._admit(method, context)
                with self._streams.one_more(caller()):
                    yield from behaviour(request, context)

        return call

    @contextmanager
    def _watched(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Names the call in the log, tells its outcome and how long it took, and translates what it raises."""
        structlog.contextvars.clear_contextvars()  # threads serve one call after another
        structlog.contextvars.bind_contextvars(request_id=secrets.token_hex(8))
        began, outcome = time.perf_counter(), _OK
        try:
            yield
        except Exception as error:
            outcome = error.code.name if isinstance(error, ConfideError) else ErrorCode.INTERNAL.name
            self._refuse(method, error, context)
        finally:
            took = time.perf_counter() - began
            self._observe(method, outcome, took)
            _log.debug("call", method=method, code=outcome if outcome != _OK else "", after_s=round(took, 6))

    def _admit(self, method: str, context: grpc.ServicerContext) -> None:
        shown: bytes | Iterable[bytes] = context.auth_context().get("x509_pem_cert", [])
        pems = [shown] if isinstance(shown, bytes) else list(shown)
        if len(pems) != 1:
            raise ConfideError(ErrorCode.UNAUTHENTICATED, "the caller shows no certificate")
        identity = self._directory().check_peer(pems[0], now=datetime.now(UTC))
        self._settle(context.peer(), identity)
        permit(method, identity)
        # A call without a deadline has some 292 years left.
        if method not in _WITHOUT_DEADLINE and context.time_remaining() > MAX_DEADLINE_S:
            what = f"the call has no deadline within {MAX_DEADLINE_S:.0f} s"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="set one on every call")
        _caller.set(identity)
        structlog.contextvars.bind_contextvars(caller=identity.id)

    def _refuse(self, method: str, error: Exception, context: grpc.ServicerContext) -> None:
        if not isinstance(error, ConfideError):
            if not context.is_active():
                raise error  # nobody listens any more
            _log.error("defect", method=method, path=defect.path(error), error=type(error).__name__)
            request_id = structlog.contextvars.get_contextvars().get("request_id", "")
            error = ConfideError(ErrorCode.INTERNAL, f"a defect of Confide; its log calls this request {request_id}")
        elif error.code.kind in (Kind.UNAUTHENTICATED, Kind.DENIED, Kind.INTEGRITY):
            _log.warning("refused", method=method, code=error.code.name, what=error.what)
        context.abort_with_status(rpc_status.to_status(to_status(error)))
