"""What a party takes in of other participants' countersignatures: only what their witnesses can hold them to is kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from governance.consent.revocation import Effect
from governance.documents import DocumentKind, SignedDocument, sign_bytes
from governance.identity.names import MemberKind, PeerIdentity
from parties.server import access, session_service
from parties.server.board import Status
from parties.server.cascade import Cascade
from parties.server.session_service import SessionService
from parties.server.statements import take_in
from parties.storage.checkpoints import CheckpointRecord
from parties.storage.jobs import CountersignatureRecord
from parties.wire.documents import to_wire
from parties.wire.generated.confide.v1 import session_pb2
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.session.messages import Countersignature, SessionMessage
from protocols.session.states import State
from tests.support.consent import ConsentWorld, under
from tests.support.holders import HolderWorld, holders
from tests.support.jobs import CREATED, a_training

A, B, C = "hospital-a", "hospital-b", "hospital-c"
JOB = under(a_training())
SIGNED = "d0" * 32


class OneSession:
    """Sessions of which the party knows one, and what was done to it."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self.delivered: list[SignedDocument | None] = []
        self.refused: list[ErrorCode] = []

    def knows(self, job_id: str) -> bool:
        return job_id == JOB.job_id

    def status(self, _job_id: str) -> Status:
        return self._status

    def deliver(self, _message: SessionMessage, signed: SignedDocument | None) -> None:
        self.delivered.append(signed)

    def refuse(self, _job_id: str, error: ConfideError) -> None:
        self.refused.append(error.code)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HolderWorld]:
    folder: Path = tmp_path_factory.mktemp("holders")
    with holders(folder, now=CREATED + timedelta(minutes=1), consent=ConsentWorld(), parties=(A,)) as made:
        yield made


def deliver(world: HolderWorld, sessions: OneSession) -> None:
    """Hospital B countersigns, and shows nothing for it."""
    message = SessionMessage(JOB.job_id, JOB.attempt, B, Countersignature(SIGNED, "no manifest"))
    key = world.consent.keys[B].signing
    body = canonical_bytes(message.to_document())
    signed = sign_bytes(body, kind=DocumentKind.SESSION_MESSAGE, signer=B, key=key)
    service = SessionService(world.parties[A], cast(Any, sessions), cast(Any, None))
    token = access._caller.set(PeerIdentity(MemberKind.PARTY, "cardio", B))
    try:
        service.deliver(session_pb2.DeliverRequest(message=to_wire(signed)))
    finally:
        access._caller.reset(token)


def test_countersignature_without_a_proof_ends_a_job_that_is_not_agreed(world: HolderWorld) -> None:
    sessions = OneSession(Status(JOB, State.PROPOSED))
    with pytest.raises(ConfideError) as caught:
        deliver(world, sessions)
    assert (caught.value.code, caught.value.party) == (ErrorCode.NOT_LOGGED, B)
    assert (sessions.refused, sessions.delivered) == ([ErrorCode.NOT_LOGGED], [])


@pytest.mark.parametrize("state", [State.STOPPING, State.ABORTED, State.CANCELLED, State.COMPLETED])
def test_countersignature_without_a_proof_that_comes_too_late_is_heard_and_not_kept(world: HolderWorld, state: State) -> None:
    # What a job rested on is read from the manifests that are kept: one that does not read would blind the watch over consents.
    sessions = OneSession(Status(JOB, state))
    deliver(world, sessions)
    assert (sessions.refused, sessions.delivered) == ([], [None])


def test_countersignature_of_a_job_that_arrives_just_after_it_is_told_to_come_again(world: HolderWorld) -> None:
    class JobComesBetween(OneSession):
        """Does not know the job when it is looked up, and would take its countersignature a moment later."""

        def knows(self, _job_id: str) -> bool:
            return False

    sessions = JobComesBetween(Status(JOB, State.PROPOSED))
    with pytest.raises(ConfideError) as caught:
        deliver(world, sessions)
    # Counted without being kept, it would let the job run and have the release gate withhold whatever comes of it.
    assert (caught.value.code, sessions.delivered) == (ErrorCode.UNKNOWN_SESSION, [])


def test_countersignature_whose_proof_was_checked_is_not_checked_again(
    world: HolderWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_service, "check_consent", lambda *_: pytest.fail("its proof was fresh when it came"))
    sessions = OneSession(Status(JOB, State.STOPPING, countersigned_by=(B,)))
    deliver(world, sessions)
    assert [signed is None for signed in sessions.delivered] == [False]


def test_training_whose_papers_do_not_read_keeps_no_other_from_its_end(world: HolderWorld) -> None:
    """As an earlier version may have kept one: models are marked all the same."""
    party, grant = world.parties[A], "c0" * 16
    model, damaged = world.train(under(a_training(nonce="33" * 16)), {C: [(grant, None)]}), under(a_training(nonce="44" * 16))
    world.keep_job(A, damaged, {C: [(grant, None)]}, state=State.ABORTED)
    message = SessionMessage(damaged.job_id, 1, "hospital-d", Countersignature(SIGNED, "no manifest"))
    kept = CountersignatureRecord(damaged.job_id, "hospital-d", SIGNED, canonical_bytes(message.to_document()), bytes(64))
    with party.database.transaction() as tables:
        tables.jobs.add_countersignature(kept)
        tables.checkpoints.add(CheckpointRecord(damaged.job_id, 3, "f" * 64, "a file", world.now), keep=2)
    take_in(party, world.revocation(C, grant, Effect.DELETE))
    Cascade(party).run(now=world.now)
    with party.database.transaction() as tables:
        assert [(mark.issuer, mark.subject) for mark in tables.registry.marks(model)] == [(C, grant)]
