"""The access table: it covers exactly what is served, and permits exactly what it says."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

import pytest
import structlog

from governance.identity.names import MemberKind, PeerIdentity
from parties.server.access import ACCESS, AccessInterceptor, permit
from parties.server.audit_service import AuditService
from parties.server.encrypted.service import EncryptedInferenceService
from parties.server.governance_service import GovernanceService
from parties.server.jobs_service import JobsService
from parties.server.linking_service import LinkingService
from parties.server.party_service import PartyService
from parties.server.serving_service import ServingService
from parties.server.session_service import SessionService
from parties.wire.methods import (
    AUDIT_SERVICE,
    ENCRYPTED_SERVICE,
    GOVERNANCE_SERVICE,
    JOBS_SERVICE,
    LINKING_SERVICE,
    PARTY_SERVICE,
    SERVING_SERVICE,
    SESSION_SERVICE,
)
from protocols.errors import ConfideError, ErrorCode

NOTHING = cast(Any, None)  # registering a method needs nothing of what calling it needs


def test_table_lists_exactly_the_methods_that_are_served() -> None:
    served = {
        PARTY_SERVICE: PartyService(NOTHING, "0").handlers(),
        JOBS_SERVICE: JobsService(NOTHING, NOTHING, NOTHING).handlers(),
        GOVERNANCE_SERVICE: GovernanceService(NOTHING).handlers(),
        AUDIT_SERVICE: AuditService(NOTHING).handlers(),
        SERVING_SERVICE: ServingService(NOTHING, NOTHING, NOTHING).handlers(),
        ENCRYPTED_SERVICE: EncryptedInferenceService(NOTHING, NOTHING).handlers(),
        LINKING_SERVICE: LinkingService(NOTHING, NOTHING).handlers(),
        SESSION_SERVICE: SessionService(NOTHING, NOTHING, NOTHING).handlers(),
        "grpc.health.v1.Health": ("Check", "Watch"),
    }
    assert {f"/{service}/{name}" for service, names in served.items() for name in names} == set(ACCESS)


@pytest.mark.parametrize("method", sorted(ACCESS))
@pytest.mark.parametrize("kind", MemberKind)
def test_permit_follows_the_table(kind: MemberKind, method: str) -> None:
    identity = PeerIdentity(kind, "cardio", "somebody")
    if kind in ACCESS[method]:
        permit(method, identity)
    else:
        with pytest.raises(ConfideError) as caught:
            permit(method, identity)
        assert caught.value.code is ErrorCode.NOT_AUTHORISED


def test_table_lets_researchers_into_no_session_and_parties_to_no_output() -> None:
    for method, kinds in ACCESS.items():
        assert kinds
        if "/confide.v1.SessionService/" in method:
            assert kinds == {MemberKind.PARTY}
    assert ACCESS["/confide.v1.JobsService/FetchOutput"] == {MemberKind.RESEARCHER}


@pytest.mark.parametrize("method", ["", "/", "/confide.v1.PartyService/hello", "/confide.v1.PartyService/Hello/"])
def test_permit_method_that_is_not_in_the_table_is_refused(method: str) -> None:
    for kind in MemberKind:
        with pytest.raises(ConfideError):
            permit(method, PeerIdentity(kind, "cardio", "somebody"))


class FakeContext:
    """A call whose caller still listens; keeps the status that it is ended with."""

    status: Any = None

    def is_active(self) -> bool:
        return True

    def abort_with_status(self, status: Any) -> None:
        self.status = status
        raise RuntimeError("aborted")  # as gRPC does it


def watched(error: Exception | None) -> tuple[list[tuple[str, str]], str]:
    """Runs a call that ends in this way; returns what was observed of it and what its caller is told."""
    seen: list[tuple[str, str]] = []
    interceptor = AccessInterceptor(lambda: NOTHING, observe=lambda method, code, seconds: seen.append((method, code)))
    context = FakeContext()
    with suppress(RuntimeError), interceptor._watched("/confide.v1.PartyService/Hello", cast(Any, context)):
        if error is not None:
            raise error
    return seen, "" if context.status is None else context.status.details


def test_call_that_succeeds_is_observed_as_such() -> None:
    assert watched(None) == ([("/confide.v1.PartyService/Hello", "OK")], "")


def test_call_that_is_refused_is_observed_under_its_code() -> None:
    seen, told = watched(ConfideError(ErrorCode.NOT_READY, "wait"))
    assert seen == [("/confide.v1.PartyService/Hello", "NOT_READY")]
    assert told == "wait"


def test_defect_tells_its_caller_the_id_of_its_log_line_and_nothing_else() -> None:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        seen, told = watched(ValueError("4711-canary"))
    assert seen == [("/confide.v1.PartyService/Hello", "INTERNAL")]
    (line,) = [line for line in lines if line["event"] == "defect"]
    assert told == f"a defect of Confide; its log calls this request {line['request_id']}"
    assert "canary" not in str(lines)


def test_two_calls_on_one_thread_have_different_ids() -> None:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        watched(None)
        watched(None)
    assert len({line["request_id"] for line in lines}) == 2
