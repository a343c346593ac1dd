"""Failures on the wire: `ConfideError` to google.rpc.Status and back. Nothing else translates.

The status carries ErrorInfo (reason = the code's name, domain, who is at fault, what to do), Help (the code's page) and
BadRequest with every problem. For clients that know the standard details alone: QuotaFailure where something is used up,
PreconditionFailure where something has to happen first, RetryInfo where waiting helps. Ours reads the first three.
"""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from protocols.error_pages import page_of
from protocols.errors import ConfideError, ErrorCode, Kind, Problem

DOMAIN = "confide"
MAX_PROBLEMS = 50
MAX_TEXT = 500
# Of the packed problems; with base64, the text in both forms and what gRPC adds it stays below `tls.MAX_STATUS_BYTES`.
MAX_PROBLEM_BYTES = 24 << 10

_CODES = {
    Kind.INVALID: code_pb2.INVALID_ARGUMENT,
    Kind.NOT_FOUND: code_pb2.NOT_FOUND,
    Kind.CONFLICT: code_pb2.ALREADY_EXISTS,
    Kind.UNAUTHENTICATED: code_pb2.UNAUTHENTICATED,
    Kind.DENIED: code_pb2.PERMISSION_DENIED,
    Kind.NOT_READY: code_pb2.FAILED_PRECONDITION,
    Kind.UNAVAILABLE: code_pb2.UNAVAILABLE,
    Kind.TIMEOUT: code_pb2.DEADLINE_EXCEEDED,
    Kind.INTEGRITY: code_pb2.DATA_LOSS,
    Kind.EXHAUSTED: code_pb2.RESOURCE_EXHAUSTED,
    Kind.ENDED: code_pb2.ABORTED,
    Kind.INTERNAL: code_pb2.INTERNAL,
}


# After how many seconds it makes sense to ask again, unchanged.
_RETRY_S = {Kind.UNAVAILABLE: 2, Kind.TIMEOUT: 2, Kind.NOT_READY: 5}
_RETRY_OF_CODE_S = {ErrorCode.PARTY_BUSY: 2, ErrorCode.TOO_MANY_STREAMS: 5}


def grpc_status(code: ErrorCode) -> str:
    """Returns the name of the gRPC status that a code travels under."""
    return str(code_pb2.Code.Name(_CODES[code.kind]))


def to_status(error: ConfideError) -> status_pb2.Status:
    """Returns the status that a caller receives; it holds public text only."""
    info = error_details_pb2.ErrorInfo(
        reason=error.code.name,
        domain=DOMAIN,
        metadata={"party": error.party, "remedy": error.remedy[:MAX_TEXT]},
    )
    page = error_details_pb2.Help.Link(description=f"what {error.code.name} means", url=page_of(error.code))
    details = [_packed(info), _packed(error_details_pb2.Help(links=[page]))]
    if error.problems:
        details.append(_packed(error_details_pb2.BadRequest(field_violations=_violations(error.problems))))
    details += _standard(error)
    return status_pb2.Status(code=_CODES[error.code.kind], message=error.what[:MAX_TEXT], details=details)


def from_rpc_error(error: grpc.RpcError, *, party: str) -> ConfideError:
    """Returns the failure that a called party reported, or the one that the connection to it is."""
    try:
        reported = _reported(_status(error), party)
    except DecodeError:  # details that are no message: not written by a party of ours
        reported = None
    if reported is not None:
        return reported
    grpc_code = error.code() if hasattr(error, "code") else None  # every error of a call is a Call too
    if grpc_code is grpc.StatusCode.UNAUTHENTICATED:
        return ConfideError(ErrorCode.UNAUTHENTICATED, f"{party} does not accept this certificate", party=party)
    if grpc_code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ConfideError(ErrorCode.PEER_SILENT, f"{party} did not answer in time", party=party)
    if grpc_code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        what = f"what {party} was asked, or its answer, is larger than a message may be"
        return ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="ask for less at once, for example fewer samples")
    return ConfideError(
        ErrorCode.PARTY_UNREACHABLE, f"{party} cannot be reached, or its certificate is not accepted", party=party
    )


def _standard(error: ConfideError) -> list[any_pb2.Any]:
    """Returns the details that say of a whole class of failures what kind of remedy there is."""
    details = []
    subject, what = error.party or DOMAIN, error.what[:MAX_TEXT]
    if error.code.kind is Kind.EXHAUSTED:
        spent = error_details_pb2.QuotaFailure.Violation(subject=subject, description=what)
        details.append(_packed(error_details_pb2.QuotaFailure(violations=[spent])))
    if error.code.kind is Kind.NOT_READY:
        missing = error_details_pb2.PreconditionFailure.Violation(type=error.code.name, subject=subject, description=what)
        details.append(_packed(error_details_pb2.PreconditionFailure(violations=[missing])))
    delay_s = _RETRY_OF_CODE_S.get(error.code) or _RETRY_S.get(error.code.kind)
    if delay_s is not None:
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=delay_s))))
    return details


def _reported(status: status_pb2.Status, party: str) -> ConfideError | None:
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN and info.reason in ErrorCode.__members__:
            code = ErrorCode[info.reason]
            at_fault = info.metadata.get("party", "") or party
            what, remedy = _shown(status.message), _shown(info.metadata.get("remedy", ""))
            return ConfideError(code, what, problems=_problems(status), remedy=remedy, party=_shown(at_fault))
    return None


def _status(error: grpc.RpcError) -> status_pb2.Status:
    try:
        found: object = rpc_status.from_call(error)  # its stub says that it is never None
    except ValueError:  # the status and its details contradict each other: not written by a party of ours
        found = None
    return found if isinstance(found, status_pb2.Status) else status_pb2.Status()


def _problems(status: status_pb2.Status) -> list[Problem]:
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Unpack(bad):
            found = bad.field_violations[: MAX_PROBLEMS + 1]
            return [Problem(_shown(v.field), _shown(v.description), _shown(v.reason)) for v in found]
    return []


def _violations(problems: Sequence[Problem]) -> list[error_details_pb2.BadRequest.FieldViolation]:
    """Returns the problems that fit, and how many more there are."""
    found: list[error_details_pb2.BadRequest.FieldViolation] = []
    room = MAX_PROBLEM_BYTES
    for number, problem in enumerate(problems):
        where, what, remedy = (text[:MAX_TEXT] for text in (problem.where, problem.what, problem.remedy))
        violation = error_details_pb2.BadRequest.FieldViolation(field=where, description=what, reason=remedy)
        room -= violation.ByteSize()
        if number == MAX_PROBLEMS or room < 0:
            more = f"and {len(problems) - number} more"
            return [*found, error_details_pb2.BadRequest.FieldViolation(description=more, reason="mend these first")]
        found.append(violation)
    return found


def _shown(text: str) -> str:
    """Returns a text of another party as it may be shown: on one line, without control characters, of bounded length."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:MAX_TEXT])


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
