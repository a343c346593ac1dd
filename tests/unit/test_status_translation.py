"""Failures on the wire: what a party raises is what its caller catches, and nothing of a hostile party gets further."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from parties.transport.tls import MAX_STATUS_BYTES
from parties.wire.status import DOMAIN, MAX_PROBLEMS, MAX_TEXT, from_rpc_error, to_status
from protocols.errors import ConfideError, ErrorCode, Problem

PROBLEMS = (Problem("nonce", "too short", "use 32 digits"), Problem("", "it rains", ""), Problem("größe", "€", "\u4e2d"))


class FakeCall(grpc.RpcError, grpc.Call):
    """An error of a call as the caller's gRPC gives it."""

    def __init__(self, status: status_pb2.Status, *, code: grpc.StatusCode | None = None, raw: bytes | None = None) -> None:
        codes = {known.value[0]: known for known in grpc.StatusCode}
        self._code = code or codes[status.code]
        self._message = status.message
        self._raw = status.SerializeToString() if raw is None else raw

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._message

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return (("grpc-status-details-bin", self._raw),) if self._raw else ()

    def initial_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float | None:
        return None

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: object) -> bool:
        return False


def there_and_back(error: ConfideError, *, party: str = "hospital-b") -> ConfideError:
    return from_rpc_error(FakeCall(to_status(error)), party=party)


@pytest.mark.parametrize("code", ErrorCode)
def test_error_every_code_keeps_all_its_parts(code: ErrorCode) -> None:
    error = ConfideError(code, "what happened", problems=PROBLEMS, remedy="do this", party="hospital-c")
    found = there_and_back(error)
    assert (found.code, found.what, found.remedy, found.party) == (code, "what happened", "do this", "hospital-c")
    assert found.problems == PROBLEMS


@pytest.mark.parametrize("code", ErrorCode)
def test_error_every_code_is_a_failure_for_grpc(code: ErrorCode) -> None:
    assert to_status(ConfideError(code)).code not in (code_pb2.OK, code_pb2.CANCELLED, code_pb2.UNKNOWN)


def test_error_without_a_party_at_fault_names_the_one_that_answered() -> None:
    assert there_and_back(ConfideError(ErrorCode.NOT_READY)).party == "hospital-b"


def test_status_holds_nothing_but_the_public_text() -> None:
    try:
        raise ValueError("row 7: 31.337")
    except ValueError as cause:
        error = ConfideError(ErrorCode.INTERNAL)
        error.__cause__ = cause
    assert b"31.337" not in to_status(error).SerializeToString()


def test_status_many_problems_are_cut_and_the_rest_counted() -> None:
    problems = [Problem(f"row {number}", "x", "y") for number in range(MAX_PROBLEMS + 20)]
    found = there_and_back(ConfideError(ErrorCode.INVALID_DATA, problems=problems)).problems
    assert found[:-1] == tuple(problems[:MAX_PROBLEMS])
    assert found[-1].what == "and 20 more"


def test_status_long_texts_fit_the_trailers_of_a_call() -> None:
    long = "\u20ac" * 10_000
    error = ConfideError(
        ErrorCode.INVALID_DATA, long, problems=[Problem(long, long, long)] * 200, remedy=long, party="hospital-c"
    )
    status = to_status(error)
    on_the_wire = 4 * len(status.SerializeToString()) // 3 + 3 * len(status.message.encode())
    assert on_the_wire + 1024 < MAX_STATUS_BYTES
    found = there_and_back(error)
    assert found.what == long[:MAX_TEXT]
    assert found.problems[0] == Problem(long[:MAX_TEXT], long[:MAX_TEXT], long[:MAX_TEXT])
    assert found.problems[-1].what == f"and {200 - len(found.problems) + 1} more"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, ErrorCode.UNAUTHENTICATED),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ErrorCode.PEER_SILENT),
        (grpc.StatusCode.UNAVAILABLE, ErrorCode.PARTY_UNREACHABLE),
        (grpc.StatusCode.UNIMPLEMENTED, ErrorCode.PARTY_UNREACHABLE),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ErrorCode.INVALID_ARGUMENT),
    ],
)
def test_error_of_the_connection_itself_names_the_party(code: grpc.StatusCode, expected: ErrorCode) -> None:
    found = from_rpc_error(FakeCall(status_pb2.Status(), code=code, raw=b""), party="hospital-b")
    assert found.code is expected
    assert found.party == "hospital-b" or expected is ErrorCode.INVALID_ARGUMENT


def hostile(reason: str = "PEER_LOST", *, domain: str = DOMAIN, text: str = "x", remedy: str = "y") -> FakeCall:
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata={"remedy": remedy, "party": text}))
    return FakeCall(status_pb2.Status(code=code_pb2.UNAVAILABLE, message=text, details=[packed]))


@pytest.mark.parametrize("call", [hostile("NO_SUCH_CODE"), hostile("__class__"), hostile(domain="other.example")])
def test_error_of_an_unknown_code_or_domain_is_no_error_of_ours(call: FakeCall) -> None:
    assert from_rpc_error(call, party="hospital-b").code is ErrorCode.PARTY_UNREACHABLE


@pytest.mark.parametrize("raw", [b"\xff\xff", b"\x0a", b"garbage" * 10])
def test_error_with_garbage_for_details_is_no_error_of_ours(raw: bytes) -> None:
    call = FakeCall(status_pb2.Status(code=code_pb2.UNAVAILABLE), raw=raw)
    assert from_rpc_error(call, party="hospital-b").code is ErrorCode.PARTY_UNREACHABLE


def test_error_with_contradicting_details_is_no_error_of_ours() -> None:
    call = FakeCall(to_status(ConfideError(ErrorCode.NOT_READY)), code=grpc.StatusCode.INTERNAL)
    assert from_rpc_error(call, party="hospital-b").code is ErrorCode.PARTY_UNREACHABLE


def test_error_texts_of_a_party_are_shown_on_one_line_and_bounded() -> None:
    found = from_rpc_error(hostile(text="\x1b[2J\n\r" + "a" * 5_000, remedy="\x07\u202e"), party="hospital-b")
    for text in (found.what, found.remedy, found.party):
        assert text.isprintable()
        assert len(text) <= MAX_TEXT


@pytest.mark.parametrize(
    ("code", "kinds"),
    [
        (ErrorCode.BUDGET_EXHAUSTED, {"QuotaFailure"}),
        (ErrorCode.GRANT_EXHAUSTED, {"QuotaFailure"}),
        (ErrorCode.TOO_MANY_STREAMS, {"QuotaFailure", "RetryInfo"}),
        (ErrorCode.APPROVAL_PENDING, {"PreconditionFailure", "RetryInfo"}),
        (ErrorCode.PARTY_UNREACHABLE, {"RetryInfo"}),
        (ErrorCode.NO_CONSENT, set()),
    ],
)
def test_status_a_class_of_failures_has_the_standard_details(code: ErrorCode, kinds: set[str]) -> None:
    status = to_status(ConfideError(code, "what happened", party="hospital-c"))
    found = {detail.TypeName().rpartition(".")[2] for detail in status.details}
    assert found == {"ErrorInfo", "Help"} | kinds
    for detail in status.details:
        for kind in (error_details_pb2.QuotaFailure(), error_details_pb2.PreconditionFailure()):
            if detail.Unpack(kind):
                assert [(v.subject, v.description) for v in kind.violations] == [("hospital-c", "what happened")]
