"""From a checked job to a proven consent, in one process: reservation, grants and log entry once, whatever happens between."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from governance.audit.entries import EntryKind, read_entry
from governance.audit.manifest import Manifest
from governance.consent.revocation import Effect, Revocation, sign_revocation
from governance.policy.approval import Answer, Question
from parties.server.acceptance import check_consent, record_refusal
from parties.server.reasons import reasons
from parties.storage.database import Database, Tables
from privacy.accounting import accountant
from protocols.canonical import sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.session import events as ev
from protocols.session.messages import Countersignature, SessionMessage
from tests.support.consent import HOSPITALS
from tests.support.jobs import CLAIMED, sgd
from tests.support.people import Signer, an_officer
from tests.support.witness_world import Hospital, WitnessWorld, a_witness_world, await_true, plan_of

A, B, C = HOSPITALS


@pytest.fixture
def world(tmp_path: Path) -> Iterator[WitnessWorld]:
    with a_witness_world(tmp_path) as world:
        world.consent()
        yield world


def consented(hospital: Hospital, job: Job) -> ev.JobAccepted:
    answer = hospital.answer(job)
    assert isinstance(answer, ev.JobAccepted), answer
    return answer


def refused(hospital: Hospital, job: Job) -> ev.JobRefused:
    answer = hospital.answer(job)
    assert isinstance(answer, ev.JobRefused), answer
    return answer


def as_message(job: Job, party: str, accepted: ev.JobAccepted) -> SessionMessage:
    return SessionMessage(job.job_id, 1, party, Countersignature(accepted.plan_digest, accepted.manifest))


class Derivations:
    """What the accountants derive, and whether the thread that asks holds a transaction meanwhile: other writers wait for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held_transactions: list[bool] = []
        self._thread = threading.local()
        self._opened, self._derive = Database.transaction, accountant.renyi_epsilon
        for cached in (accountant._guarantee, accountant.normal_mu):
            cached.cache_clear()
        monkeypatch.setattr(accountant, "renyi_epsilon", self._derived)
        monkeypatch.setattr(Database, "transaction", lambda database: self._transaction(database))

    def _derived(self, *asked: Any) -> float:
        self.held_transactions.append(getattr(self._thread, "depth", 0) > 0)
        return self._derive(*asked)

    @contextmanager
    def _transaction(self, database: Database) -> Iterator[Tables]:
        with self._opened(database) as tables:
            self._thread.depth = getattr(self._thread, "depth", 0) + 1
            try:
                yield tables
            finally:
                self._thread.depth -= 1


@pytest.fixture
def derivations(monkeypatch: pytest.MonkeyPatch) -> Derivations:
    return Derivations(monkeypatch)


def test_accountants_are_asked_before_the_transaction_that_decides(world: WitnessWorld, derivations: Derivations) -> None:
    job = world.arrive(training=replace(sgd(60, 300, "0.1"), privacy=CLAIMED))
    world[A].start()
    world[A].pursue(job)
    world[A].answer(job)
    assert derivations.held_transactions, "they were asked"
    assert not any(derivations.held_transactions)


def test_job_that_all_permit_is_accepted_with_a_proof_that_the_others_take(world: WitnessWorld) -> None:
    job = world.arrive()
    for hospital in world.hospitals.values():
        hospital.start()
        hospital.pursue(job)
    answers = {party: consented(hospital, job) for party, hospital in world.hospitals.items()}
    for party, answer in answers.items():
        for other in set(HOSPITALS) - {party}:
            check_consent(world[other].party, job, as_message(job, party, answer))
        assert answer.plan_digest == sha256_hex(plan_of(job))
    with world[A].tables() as tables:
        entries = [read_entry(entry.body) for entry in tables.audit.entries(0, tables.audit.size())]
        used = tables.grants.used_by(job.job_id)
    assert [entry.kind for entry in entries] == [EntryKind.JOB_RECEIVED, EntryKind.POLICY, EntryKind.COUNTERSIGNED]
    manifest = Manifest.from_facts(entries[-1].facts)
    assert tuple(use.grant_id for use in manifest.grants) == used
    assert len(used) == 1
    assert manifest.grants[0].derived_until == world.now + timedelta(days=10)
    assert manifest.grants[0].covers_until == world.now + timedelta(days=1)


def test_consent_of_one_party_shown_as_that_of_another_job_is_refused(world: WitnessWorld) -> None:
    job, other = world.arrive(), world.arrive(nonce="aa" * 16)
    world[A].start()
    world[A].pursue(job)
    answer = consented(world[A], job)
    for replayed in (as_message(other, A, answer), as_message(job, B, answer)):
        with pytest.raises(ConfideError) as caught:
            check_consent(world[C].party, other if replayed.session == other.job_id else job, replayed)
        assert (caught.value.code, caught.value.party) == (ErrorCode.NOT_LOGGED, replayed.sender)


def test_second_process_after_a_crash_consents_with_the_same_entry_reservation_and_use(world: WitnessWorld) -> None:
    """The first process decided, and ended before its witnesses had answered."""
    job = world.arrive()
    world.cut |= {(A, B), (A, C)}
    first = world[A]
    first.start()
    first.pursue(job)
    await_true(lambda: EntryKind.COUNTERSIGNED in first.kinds())
    first.stop()
    assert first.answers[job.job_id] == []
    first.party.database.close()
    world.cut.clear()
    second = world.hospitals[A] = world.open(A, first.party.config.state)
    second.start()
    second.pursue(job)
    second.pursue(job)  # a submission and a faster participant at once
    consented(second, job)
    assert second.kinds().count(EntryKind.COUNTERSIGNED) == 1
    with second.tables() as tables:
        assert tables.grants.get(tables.grants.used_by(job.job_id)[0]).uses == 1


def test_witness_that_cannot_be_reached_until_the_end_is_named(world: WitnessWorld) -> None:
    job = world.arrive()
    world.cut.add((A, C))
    world[A].start()
    world[A].pursue(job)
    await_true(lambda: EntryKind.COUNTERSIGNED in world[A].kinds())
    index = len(world[A].kinds()) - 1
    await_true(lambda: world[A].witnessing.missing(index, [B, C], now=world[A].party.now()) == (C,))
    world.clock.ahead = timedelta(seconds=118)
    report = refused(world[A], job).report
    assert (report.code, report.accused) == (ErrorCode.PARTY_UNREACHABLE, C)
    assert EntryKind.JOB_REFUSED in world[A].kinds()


def test_job_without_consent_is_refused_with_every_reason_and_uses_nothing(world: WitnessWorld) -> None:
    job = world.arrive(agreement="ee" * 32, directory_version=2)
    world[A].start()
    world[A].pursue(job)
    report = refused(world[A], job).report
    assert report.code is ErrorCode.STALE_DIRECTORY
    assert "agreement" in report.text
    with world[A].tables() as tables:
        kept = tables.acceptances.find(job.job_id)
        assert kept is not None
        assert kept.refused.split()[:2] == ["STALE_DIRECTORY", "NO_AGREEMENT"]
        assert tables.grants.used_by(job.job_id) == ()
        entry = read_entry(tables.audit.entries(0, 9)[-1].body)
    assert (entry.kind, entry.facts["codes"]) == (EntryKind.JOB_REFUSED, kept.refused.split())


def test_job_that_was_refused_before_a_crash_is_refused_again_though_nothing_is_against_it(world: WitnessWorld) -> None:
    job = world.arrive()
    with world[A].tables() as tables:
        record_refusal(world[A].party, tables, job, ConfideError(ErrorCode.NOT_LOGGED, party=B))
    world[A].start()
    world[A].pursue(job)
    report = refused(world[A], job).report
    assert report.code is ErrorCode.NOT_LOGGED
    assert EntryKind.COUNTERSIGNED not in world[A].kinds()
    assert world[A].kinds().count(EntryKind.JOB_REFUSED) == 1


def test_grant_that_was_revoked_before_the_decision_refuses_the_job(world: WitnessWorld) -> None:
    job = world.arrive()
    with world[A].tables() as tables:
        (grant,) = tables.grants.all()
        revocation = Revocation("cardio", A, grant.grant_id, Effect.STOP, "a patient asked", world.now)
        tables.revocations.add(sign_revocation(revocation, key=world.keys[A].signing), now=world.now)
    world[A].start()
    world[A].pursue(job)
    assert refused(world[A], job).report.code is ErrorCode.GRANT_REVOKED
    with world[A].tables() as tables:
        assert [f.code for f in reasons(world[A].party, tables, job, plan=None, now=world.now)] == [ErrorCode.GRANT_REVOKED]


def test_grant_is_used_as_often_as_it_permits_by_jobs_that_arrive_together(world: WitnessWorld) -> None:
    jobs = [world.arrive(nonce=f"{n:02}" * 16) for n in range(4)]  # the grants permit three
    world[A].start()
    for job in jobs:
        world[A].pursue(job)
    answers = [world[A].answer(job) for job in jobs]
    assert [type(answer) for answer in answers].count(ev.JobAccepted) == 3
    late = next(answer for answer in answers if isinstance(answer, ev.JobRefused))
    assert late.report.code is ErrorCode.GRANT_EXHAUSTED


def test_session_that_has_ended_is_not_consented_to(world: WitnessWorld) -> None:
    job = world.arrive()
    with world[A].tables() as tables:
        tables.jobs.save_snapshot(job.job_id, snapshot="{}", state="cancelled", now=world.now)
    world[A].start()
    world[A].pursue(job)
    await_true(lambda: not world[A].acceptance._pursuits)
    assert world[A].answers[job.job_id] == []
    assert EntryKind.COUNTERSIGNED not in world[A].kinds()


APPROVAL = """
rules: []
training_without_guarantee: as_rules_say
otherwise: {decision: {approve: {needed: 1, of: [privacy-officers]}}, reason: people look at everything}
"""


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[tuple[WitnessWorld, Signer]]:
    """A world in which hospital A asks its officer about every job."""
    officer = an_officer()
    with a_witness_world(tmp_path, people=(officer.person,)) as world:
        world.consent()
        policy = world[A].party.config.policy
        head = policy.read_text().split("rules:")[0]
        policy.write_text(head + APPROVAL.lstrip())
        yield world, officer


def test_job_waits_for_people_and_goes_on_when_another_process_keeps_their_yes(asking: tuple[WitnessWorld, Signer]) -> None:
    world, officer = asking
    job = world.arrive()
    world[A].start()
    world[A].pursue(job)
    await_true(lambda: bool(world[A].waiting.get(job.job_id)))
    assert "approvers" in world[A].waiting[job.job_id]
    with world[A].tables() as tables:
        assert [record.job_id for record in tables.acceptances.waiting()] == [job.job_id]
        question = Question(A, job.digest, sha256_hex(plan_of(job)), world[A].party.policy.digest)
        tables.approvals.add(job.job_id, officer.answers(question), now=world.now)
    consented(world[A], job)
    assert world[A].waiting[job.job_id] == ""
    with world[A].tables() as tables:
        kept = tables.acceptances.find(job.job_id)
        assert kept is not None
        assert kept.entry_index is not None
        manifest = Manifest.from_facts(read_entry(tables.audit.entry(kept.entry_index).body).facts)
    assert len(manifest.approvals) == 1


def test_job_that_a_person_denies_is_refused(asking: tuple[WitnessWorld, Signer]) -> None:
    world, officer = asking
    job = world.arrive()
    world[A].start()
    world[A].pursue(job)
    await_true(lambda: bool(world[A].waiting.get(job.job_id)))
    with world[A].tables() as tables:
        question = Question(A, job.digest, sha256_hex(plan_of(job)), world[A].party.policy.digest)
        tables.approvals.add(job.job_id, officer.answers(question, Answer.DENY), now=world.now)
    assert refused(world[A], job).report.code is ErrorCode.APPROVAL_DENIED


def test_job_that_nobody_approves_in_time_is_refused(asking: tuple[WitnessWorld, Signer]) -> None:
    world, _ = asking
    job = world.arrive()
    world[A].start()
    world[A].pursue(job)
    await_true(lambda: bool(world[A].waiting.get(job.job_id)))
    world.clock.ahead = timedelta(seconds=118)
    assert refused(world[A], job).report.code is ErrorCode.APPROVAL_PENDING
