"""The access table: it covers exactly what is served, and permits exactly what it says."""

from __future__ import annotations

from typing import Any, cast

import pytest

from governance.identity.names import MemberKind, PeerIdentity
from parties.server.access import ACCESS, permit
from parties.server.jobs_service import JobsService
from parties.server.party_service import PartyService
from parties.server.session_service import SessionService
from parties.wire.methods import JOBS_SERVICE, PARTY_SERVICE, SESSION_SERVICE
from protocols.errors import ConfideError, ErrorCode

NOTHING = cast(Any, None)  # registering a method needs nothing of what calling it needs


def test_table_lists_exactly_the_methods_that_are_served() -> None:
    served = {
        PARTY_SERVICE: PartyService(NOTHING, "0").handlers(),
        JOBS_SERVICE: JobsService(NOTHING, NOTHING, NOTHING).handlers(),
        SESSION_SERVICE: SessionService(NOTHING, NOTHING, NOTHING, NOTHING).handlers(),
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
