"""The watch over consents: which sessions it tells that theirs has ended, when, and how seldom it looks if nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from governance.audit.manifest import GrantUse
from governance.consent.grant import Grant, sign_grant
from parties.server import consent_watch
from parties.server.board import Board, Status
from parties.server.consent_watch import ConsentWatch
from parties.server.desk import Desks
from parties.server.sessions import Sessions
from parties.server.statements import take_in
from parties.storage.acceptances import AcceptanceRecord
from parties.storage.registry import MarkRecord
from protocols.errors import ErrorCode
from protocols.job import Job, Resumption
from protocols.session.messages import FailureReport
from protocols.session.states import State
from tests.support.consent import ConsentWorld, a_grant, an_agreement, under
from tests.support.holders import HolderWorld, holders
from tests.support.jobs import CREATED, a_training, an_inference

A, B, C = "hospital-a", "hospital-b", "hospital-c"


@pytest.fixture(scope="module")
def consent() -> ConsentWorld:
    return ConsentWorld()


class Watched:
    """Hospital A with an agreement in force, a grant of its own, one session, and a watch that the test has look."""

    def __init__(self, world: HolderWorld) -> None:
        self.world = world
        self.party = world.parties[A]
        self.board = Board()
        self.told: list[tuple[str, FailureReport]] = []
        tell = SimpleNamespace(board=self.board, end_consent=lambda job_id, report: self.told.append((job_id, report)))
        self.watch = ConsentWatch(self.party, cast(Sessions, tell), Desks(self.party))
        self.grant = self.issue(a_grant())
        with self.party.database.transaction() as tables:
            tables.agreements.add(world.consent.signed(an_agreement()), now=world.now)

    def issue(self, grant: Grant) -> Grant:
        with self.party.database.transaction() as tables:
            tables.grants.add(sign_grant(grant, self.world.consent.keys[A].signing), now=self.world.now)
        return grant

    def session(self, job: Job, state: State, *, uses: Grant | None = None) -> Job:
        self.world.keep_job(A, job, {}, state=state)
        if uses is not None:
            with self.party.database.transaction() as tables:
                tables.grants.use(uses.grant_id, job.job_id)
        self.board.post(Status(job, state))
        return job

    def look(self) -> list[tuple[str, ErrorCode]]:
        self.told.clear()
        self.watch.look()
        return [(job_id, report.code) for job_id, report in self.told]


@pytest.fixture
def watched(consent: ConsentWorld, tmp_path: Path) -> Iterator[Watched]:
    with holders(tmp_path, now=CREATED + timedelta(minutes=1), consent=consent, parties=(A,)) as world:
        made = Watched(world)
        yield made
        made.watch.stop()


@pytest.fixture
def job() -> Job:
    return under(a_training())


@pytest.mark.parametrize("state", [State.AGREED, State.PREPARING, State.PREPARED, State.RUNNING])
def test_session_whose_grant_is_revoked_is_told_in_every_state_before_its_vote(watched: Watched, job: Job, state: State) -> None:
    watched.session(job, state, uses=watched.grant)
    assert watched.look() == []
    with watched.party.database.transaction() as tables:
        tables.revocations.add(watched.world.revocation(A, watched.grant.grant_id), now=watched.world.now)
    assert watched.look() == [(job.job_id, ErrorCode.GRANT_REVOKED)]
    (_, report) = watched.told[0]
    assert report.phase is state
    assert watched.grant.grant_id[:12] in report.text


@pytest.mark.parametrize("state", [State.RELEASING, State.STOPPING, State.COMPLETED, State.ABORTED])
def test_session_that_has_voted_or_ended_is_left_alone(watched: Watched, job: Job, state: State) -> None:
    watched.session(job, state, uses=watched.grant)
    with watched.party.database.transaction() as tables:
        tables.revocations.add(watched.world.revocation(A, watched.grant.grant_id), now=watched.world.now)
    assert watched.look() == []


def test_session_that_uses_a_grant_which_another_party_has_revoked_is_told(watched: Watched, job: Job) -> None:
    # An owner that does not compute has voted long before the others are through; it is they who stop.
    revoked, other = "b7" * 16, "b8" * 16
    watched.world.keep_job(A, job, {B: [(revoked, None)]}, state=State.RUNNING)
    with watched.party.database.transaction() as tables:
        tables.grants.use(watched.grant.grant_id, job.job_id)
    watched.board.post(Status(job, State.RUNNING))
    for issuer, subject in ((B, other), (C, revoked)):
        take_in(watched.party, watched.world.revocation(issuer, subject))
    assert watched.look() == []
    take_in(watched.party, watched.world.revocation(B, revoked))
    assert watched.look() == [(job.job_id, ErrorCode.GRANT_REVOKED)]


def test_session_that_uses_a_grant_of_another_party_which_expires_is_told_at_that_time(watched: Watched, job: Job) -> None:
    soon = watched.world.now + timedelta(seconds=9)
    watched.world.keep_job(A, job, {B: [GrantUse("b7" * 16, soon + timedelta(days=9), soon)]}, state=State.RUNNING)
    with watched.party.database.transaction() as tables:
        tables.grants.use(watched.grant.grant_id, job.job_id)
    watched.board.post(Status(job, State.RUNNING))
    assert watched.look() == []
    watched.world.clock[0] = soon
    assert watched.look() == [(job.job_id, ErrorCode.GRANT_EXPIRED)]
    assert "hospital-b's grant" in watched.told[0][1].text


def test_resumed_training_whose_earlier_attempt_rests_on_a_revoked_grant_is_told(watched: Watched) -> None:
    # The new attempt has grants of its own; the checkpoint that it goes on from came of the old one.
    earlier = under(a_training(nonce="ee" * 16))
    watched.world.keep_job(A, earlier, {C: [("c7" * 16, None)]}, state=State.ABORTED)
    job = under(a_training(resumes=Resumption(earlier.job_id, "6b" * 32, run=7, attempt=2)))
    watched.session(job, State.RUNNING, uses=watched.grant)
    assert watched.look() == []
    take_in(watched.party, watched.world.revocation(C, "c7" * 16))
    assert watched.look() == [(job.job_id, ErrorCode.GRANT_REVOKED)]


def test_job_that_is_still_being_checked_is_left_to_its_check_and_one_that_waits_for_people_is_told(
    watched: Watched, job: Job
) -> None:
    watched.session(job, State.PROPOSED)
    with watched.party.database.transaction() as tables:
        tables.revocations.add(watched.world.revocation(A, watched.grant.grant_id), now=watched.world.now)
    assert watched.look() == []
    with watched.party.database.transaction() as tables:
        tables.acceptances.put(AcceptanceRecord(job.job_id, "d0" * 32, "approve", waiting_for="1 of 1 approvals"))
    assert watched.look() == [(job.job_id, ErrorCode.GRANT_REVOKED)]


def _expire(watched: Watched) -> None:
    watched.world.clock[0] = watched.grant.expires


def _revoke_agreement(watched: Watched) -> None:
    take_in(watched.party, watched.world.revocation(B, an_agreement().digest))


def _leave(watched: Watched) -> None:
    directory = watched.world.directory.directory
    watched.world.directory.directory = replace(directory, version=directory.version + 1, researchers=())


@pytest.mark.parametrize(
    ("end", "code"),
    [(_expire, ErrorCode.GRANT_EXPIRED), (_revoke_agreement, ErrorCode.NO_AGREEMENT), (_leave, ErrorCode.NOT_ENROLLED)],
    ids=["expired", "agreement-revoked", "querier-left"],
)
def test_session_is_told_of_every_other_end_of_its_consent(
    watched: Watched, job: Job, end: Callable[[Watched], None], code: ErrorCode
) -> None:
    watched.session(job, State.RUNNING, uses=watched.grant)
    assert watched.look() == []
    directory = watched.world.directory.directory
    try:
        end(watched)
        assert code in [found for _, found in watched.look()]
    finally:
        watched.world.directory.directory = directory


def test_session_on_a_model_that_is_marked_is_told(watched: Watched) -> None:
    model = watched.world.train(under(a_training()), {})
    job = watched.session(under(an_inference(model_ref=model)), State.RUNNING, uses=watched.grant)
    assert watched.look() == []
    with watched.party.database.transaction() as tables:
        tables.registry.mark(MarkRecord(model, C, "c0" * 16, ErrorCode.GRANT_REVOKED, False, watched.world.now))
    assert watched.look() == [(job.job_id, ErrorCode.MODEL_REVOKED)]


def test_watch_looks_only_when_something_changes_or_ends_by_the_clock(
    watched: Watched, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[datetime] = []
    original = consent_watch.consent_findings

    def counted(party: Any, tables: Any, of: Job, now: datetime) -> Any:
        looked.append(now)
        return original(party, tables, of, now)

    monkeypatch.setattr(consent_watch, "consent_findings", counted)
    soon = watched.issue(a_grant(expires=watched.world.now + timedelta(seconds=9), nonce="2f" * 16))
    watched.session(job, State.RUNNING, uses=soon)
    told: list[tuple[str, ErrorCode]] = []
    for seconds in range(12):
        watched.world.clock[0] = CREATED + timedelta(minutes=1, seconds=seconds)
        told += watched.look()
    assert told == [(job.job_id, ErrorCode.GRANT_EXPIRED)]
    assert looked == [CREATED + timedelta(minutes=1), soon.expires]
