"""Agreements, grants and revocations in a party's database, and the decision that is taken from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from sqlalchemy import select, update

from governance.audit.manifest import GrantUse
from governance.consent.agreement import SignedAgreement
from governance.consent.grant import Grant, sign_grant
from governance.consent.revocation import Effect, Revocation, sign_revocation
from parties.server.consents import consent_findings, consents_of, grants_used, model_sources
from parties.server.governance_service import GovernanceService
from parties.server.party import Party
from parties.server.statements import take_in
from parties.storage.consent_tables import GrantRow
from parties.storage.database import Database
from parties.storage.jobs import JobRecord
from parties.wire.generated.confide.v1 import governance_pb2
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, ModelRef
from protocols.session.states import State
from tests.support.consent import HOSPITALS, NOW, ConsentWorld, a_grant, a_revocation, an_agreement, jobs
from tests.support.databases import a_database
from tests.support.jobs import a_dataset

JOBS = jobs()
TRAIN, EVALUATE, INFER, SERVE = JOBS.values()


@pytest.fixture(scope="module")
def world() -> ConsentWorld:
    return ConsentWorld()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = a_database(tmp_path / "confide.db")
    yield database
    database.close()


@pytest.fixture
def party(world: ConsentWorld, database: Database) -> Party:
    """Hospital A, which has the agreement in force."""
    with database.transaction() as tables:
        tables.agreements.add(world.agreement, now=NOW)
    return cast(Party, SimpleNamespace(id="hospital-a", directory=world.directory, database=database))


def give(world: ConsentWorld, database: Database, grant: Grant) -> str:
    with database.transaction() as tables:
        return tables.grants.add(sign_grant(grant, world.keys["hospital-a"].signing), now=NOW).grant_id


def revoke(world: ConsentWorld, database: Database, revocation: Revocation) -> bool:
    signed = sign_revocation(revocation, world.keys[revocation.issuer].signing)
    with database.transaction() as tables:
        return tables.revocations.add(signed, now=NOW)


def keep(database: Database, job: Job) -> ModelRef:
    """Keeps a training as if it had completed; returns its model."""
    record = JobRecord(job.job_id, job.querier, job.to_bytes(), b"", None, "{}", State.COMPLETED.value, NOW, NOW)
    with database.transaction() as tables:
        tables.jobs.add(record)
    assert job.produced_model is not None
    return job.produced_model


def codes(party: Party, job: Job) -> list[ErrorCode]:
    with party.database.transaction() as tables:
        return [finding.code for finding in consent_findings(party, tables, job, NOW)]


def test_signatures_of_an_agreement_gather_one_by_one(world: ConsentWorld, database: Database) -> None:
    agreement = an_agreement()
    for count in (1, 2, 3):
        with database.transaction() as tables:
            assert tables.agreements.add(world.signed(agreement, by=HOSPITALS[count - 1 : count]), now=NOW)
            assert tables.agreements.get(agreement.digest).signers == HOSPITALS[:count]
    with database.transaction() as tables:
        assert not tables.agreements.add(world.agreement, now=NOW)
        assert tables.agreements.all() == (SignedAgreement.from_bytes(world.agreement.to_bytes()),)
        with pytest.raises(ConfideError, match="no agreement abcd"):
            tables.agreements.get("abcd")
        # One that somebody else has hardly signed does not push it out of a short list.
        tables.agreements.add(world.signed(an_agreement(name="other"), by=HOSPITALS[:1]), now=NOW + timedelta(days=1))
        assert tables.agreements.best_signed(1) == (world.agreement,)


def test_job_counts_once_against_a_grant_and_can_be_given_back(world: ConsentWorld, database: Database) -> None:
    grant_id = give(world, database, a_grant(max_uses=2))
    assert give(world, database, a_grant(max_uses=2)) == grant_id
    with database.transaction() as tables:
        for job_id in ("1" * 32, "1" * 32, "2" * 32):
            tables.grants.use(grant_id, job_id)
        assert (tables.grants.get(grant_id).uses, tables.grants.jobs(grant_id)) == (2, ("1" * 32, "2" * 32))
        with pytest.raises(ConfideError) as caught:
            tables.grants.use(grant_id, "3" * 32)
        assert caught.value.code is ErrorCode.GRANT_EXHAUSTED
        tables.grants.use(grant_id, "2" * 32)  # it counts already
        tables.grants.give_back("2" * 32)
        tables.grants.give_back("2" * 32)
        tables.grants.use(grant_id, "3" * 32)
        assert tables.grants.used_by("3" * 32) == (grant_id,)


def test_revocation_is_kept_once_for_each_effect_and_the_further_one_counts(world: ConsentWorld, database: Database) -> None:
    grant_id = give(world, database, a_grant())
    assert revoke(world, database, a_revocation(grant_id))
    assert not revoke(world, database, a_revocation(grant_id, reason="again"))
    assert revoke(world, database, a_revocation(grant_id, effect=Effect.DELETE))
    with database.transaction() as tables:
        ended = tables.grants.get(grant_id).revocation
        assert ended is not None
        assert ended.effect is Effect.DELETE
        assert len(tables.revocations.all()) == len(tables.revocations.of(grant_id)) == 2


def test_revocation_by_another_party_does_not_end_a_grant(world: ConsentWorld, database: Database, party: Party) -> None:
    grant_id = give(world, database, a_grant())
    revoke(world, database, a_revocation(grant_id, "hospital-b"))
    assert codes(party, TRAIN) == []


def test_job_is_covered_by_what_the_database_holds(world: ConsentWorld, database: Database, party: Party) -> None:
    assert codes(party, TRAIN) == [ErrorCode.NO_CONSENT]
    grant_id = give(world, database, a_grant())
    assert codes(party, TRAIN) == []
    with database.transaction() as tables:
        used = grants_used(party, tables, TRAIN, NOW)
        grant = tables.grants.get(grant_id).grant
        assert used == (GrantUse(grant_id, grant.derived_until, grant.expires),)
    revoke(world, database, a_revocation(grant_id))
    assert codes(party, TRAIN) == [ErrorCode.GRANT_REVOKED]
    with database.transaction() as tables, pytest.raises(ConfideError) as caught:
        grants_used(party, tables, TRAIN, NOW)
    assert (caught.value.code, caught.value.party) == (ErrorCode.GRANT_REVOKED, "hospital-a")


def test_agreement_revoked_by_a_signatory_ends_for_everybody(world: ConsentWorld, database: Database, party: Party) -> None:
    give(world, database, a_grant())
    revoke(world, database, a_revocation(an_agreement().digest, "hospital-c"))
    assert codes(party, TRAIN) == [ErrorCode.NO_AGREEMENT]


def test_job_that_counts_already_does_not_exhaust_its_own_grant(world: ConsentWorld, database: Database, party: Party) -> None:
    grant_id = give(world, database, a_grant(max_uses=1))
    with database.transaction() as tables:
        tables.grants.use(grant_id, TRAIN.job_id)
    assert codes(party, TRAIN) == []
    assert codes(party, replace(TRAIN, nonce="11" * 16)) == [ErrorCode.GRANT_EXHAUSTED]


def test_accepted_job_rests_on_the_grants_it_was_accepted_under(world: ConsentWorld, database: Database, party: Party) -> None:
    first = give(world, database, a_grant())
    with database.transaction() as tables:
        tables.grants.use(first, TRAIN.job_id)
    give(world, database, a_grant(nonce="aa" * 16))
    revoke(world, database, a_revocation(first))
    assert codes(party, TRAIN) == [ErrorCode.GRANT_REVOKED]
    assert codes(party, replace(TRAIN, nonce="11" * 16)) == []


@pytest.mark.parametrize(
    ("column", "old", "new", "code"),
    [
        ("signature", None, bytes(64), ErrorCode.BAD_SIGNATURE),
        ("body", b'"max_uses":3', b'"max_uses":9', ErrorCode.STATE_DAMAGED),
        ("body", b"confide.grant/1", b"confide.grant/2", ErrorCode.STATE_DAMAGED),
    ],
)
def test_grant_that_was_altered_in_the_database_covers_nothing(
    column: str, old: bytes | None, new: bytes, code: ErrorCode, world: ConsentWorld, database: Database, party: Party
) -> None:
    give(world, database, a_grant())
    with database._engine.begin() as connection:
        kept: bytes = connection.execute(select(GrantRow.__table__.c[column])).scalar_one()
        altered = new if old is None else kept.replace(old, new)
        assert altered != kept
        connection.execute(update(GrantRow).values({column: altered}))
    assert codes(party, TRAIN) == [code]


def test_rows_behind_a_model_are_found_through_all_its_trainings(database: Database, party: Party) -> None:
    first = keep(database, TRAIN)
    further = replace(
        TRAIN,
        initial_weights_sha256=None,
        model_ref=first,
        datasets=(a_dataset("hospital-b", "more"),),
        nonce="22" * 16,
        dealer="hospital-d",
    )
    second = keep(database, further)
    with database.transaction() as tables:
        sources = {source.dataset: source.models for source in model_sources(tables, second)}
        assert sources == {further.datasets[0]: (second,)} | dict.fromkeys(TRAIN.datasets, (second, first))
        known = {source.dataset.party for source in model_sources(tables, second) if source.is_known_to_owner}
        assert known == {*HOSPITALS} & {*further.participants}
        assert known != {*HOSPITALS}
        assert model_sources(tables, ModelRef("diagnosis", "0" * 12)) == ()
        assert model_sources(tables, ModelRef("other", first.version)) == ()


def test_grants_of_an_owner_that_takes_no_part_are_those_it_has_told(
    world: ConsentWorld, database: Database, party: Party
) -> None:
    """Hospital C trains with the others; afterwards hospital A is asked about a job that hospital C does not see."""
    job = replace(INFER, model_ref=keep(database, TRAIN), dealer="hospital-d")
    grant = a_grant(issuer="hospital-c", subject=replace(a_grant().subject, commitment=TRAIN.datasets[2].commitment))
    signed = sign_grant(grant, world.keys["hospital-c"].signing)
    party = cast(Party, SimpleNamespace(**vars(party), now=lambda: NOW))
    with database.transaction() as tables:
        assert consents_of(party, tables, job).absent == ()
    assert take_in(party, signed)
    with pytest.raises(ConfideError, match="does not verify"):
        take_in(party, replace(signed, signature=bytes(64)))
    with database.transaction() as tables:
        assert [told.grant for told in consents_of(party, tables, job).absent] == [grant]
        assert consents_of(party, tables, replace(job, dealer="hospital-c")).absent == ()
    revoke(world, database, a_revocation(grant.grant_id, "hospital-c"))
    with database.transaction() as tables:
        assert [told.revocation is not None for told in consents_of(party, tables, job).absent] == [True]


def test_use_of_a_model_needs_consent_for_the_rows_behind_it(world: ConsentWorld, database: Database, party: Party) -> None:
    job = replace(INFER, model_ref=keep(database, TRAIN))
    assert codes(party, job) == [ErrorCode.NO_CONSENT]
    give(world, database, a_grant())
    assert codes(party, job) == []
    with database.transaction() as tables:
        behind = consents_of(party, tables, job).sources
    assert {source.dataset.party for source in behind} == set(HOSPITALS)


def test_agreements_are_told_with_their_signatures_and_whether_they_are_in_force(world: ConsentWorld, party: Party) -> None:
    with party.database.transaction() as tables:
        tables.agreements.add(world.signed(an_agreement(name="other"), by=HOSPITALS[:2]), now=NOW)
    party = cast(Party, SimpleNamespace(**vars(party), now=lambda: NOW))
    reply = GovernanceService(party).list_agreements(governance_pb2.ListAgreementsRequest())
    assert [(len(shown.signatures), shown.in_force) for shown in reply.agreements] == [(3, True), (2, False)]
    assert reply.agreements[0].body == world.agreement.body
