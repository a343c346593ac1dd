"""A release of weights at a party with a real database: refused without evidence, and licensed by every holder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from governance.consent.grant import sign_grant
from governance.consent.limits import OutputRule
from governance.documents import DocumentKind, SignedDocument, sign
from governance.licence import Licence, verify_licence
from governance.policy.rules import OTHERWISE, Kind, Policy, Rule, Verdict
from governance.privacy_claims import TrainingClaim
from parties.server.gate import evidence_of
from parties.server.party import Party
from parties.server.releases import licence_for, note_release, release_findings
from parties.storage.evidence import EvidenceRecord
from protocols.canonical import canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, Output, OutputKind
from protocols.session.states import State
from tests.support.consent import NOW, ConsentWorld, a_grant, under
from tests.support.holders import HolderWorld
from tests.support.jobs import a_training, an_inference
from tests.support.opening_world import completed

PARTY = "hospital-a"
POLICY = Policy(people=(), rules=(), otherwise=Rule(OTHERWISE, (), Verdict(Kind.AUTOMATIC), ""))


@dataclass(frozen=True)
class Decided:
    """A policy that no file changes."""

    policy: Policy

    def get(self) -> Policy:
        return self.policy


@dataclass
class ReleaseWorld:
    """Hospital A with a release of a model whose share it holds."""

    world: HolderWorld
    consent: ConsentWorld
    job: Job
    training: Job

    @property
    def party(self) -> Party:
        return self.world.parties[PARTY]


@pytest.fixture
def release(tmp_path: Path) -> Iterator[ReleaseWorld]:
    consent = ConsentWorld()
    world = HolderWorld(tmp_path, NOW, consent=consent, parties=[PARTY])
    fields = {"job_type": JobType.RELEASE, "query_rows": None, "query_commitment": None}
    output = Output("weights", OutputKind.WEIGHTS, "alice")
    training = a_training()
    ref = world.train(training, {})
    job = under(replace(an_inference(model_ref=ref), outputs=(output,), **fields))  # type: ignore[arg-type]
    assert Job.from_bytes(job.to_bytes()) == job
    world.keep_job(PARTY, job, {}, state=State.RUNNING)
    grant = a_grant(outputs=(OutputRule(OutputKind.WEIGHTS),), derived_job_types=(JobType.RELEASE,))
    with world.parties[PARTY].database.transaction() as tables:
        tables.agreements.add(consent.agreement, now=NOW)
        tables.grants.add(sign_grant(grant, consent.keys[PARTY].signing), now=NOW)
        tables.grants.use(grant.grant_id, job.job_id)
    # A party of these tests serves without a policy file.
    world.parties[PARTY] = replace(world.parties[PARTY], current_policy=Decided(POLICY))  # type: ignore[arg-type]
    yield ReleaseWorld(world, consent, job, training)
    world.close()


def codes(release: ReleaseWorld, party: Party) -> set[ErrorCode]:
    with party.database.transaction() as tables:
        return {finding.code for finding in release_findings(party, tables, release.job, NOW)}


def test_holder_without_evidence_takes_no_part_and_opens_nothing(release: ReleaseWorld) -> None:
    assert codes(release, release.party) == {ErrorCode.EVIDENCE_MISSING}
    with release.party.database.transaction() as tables:
        missing = evidence_of(release.party, tables, release.job, NOW).missing_evidence
    assert any(problem.where == "model_ref" for problem in missing)
    with release.party.database.transaction() as tables:
        (finding,) = release_findings(release.party, tables, release.job, NOW)
    assert "`confide model evidence make`" in finding.problem.remedy  # as `confide job explain` shows it


def test_openings_are_not_made_without_evidence(release: ReleaseWorld) -> None:
    with release.party.database.transaction() as tables, pytest.raises(ConfideError) as caught:
        note_release(release.party, tables, release.job, NOW)
    assert caught.value.code is ErrorCode.EVIDENCE_MISSING


def test_bundle_that_nobody_believes_releases_nothing(release: ReleaseWorld) -> None:
    ref = release.job.model_ref
    assert ref is not None
    forged = sign({"format": "x"}, kind=DocumentKind.EVIDENCE, signer=PARTY, key=release.party.member.signing_key)
    with release.party.database.transaction() as tables:
        tables.evidence.add(EvidenceRecord(sha256_hex(forged.body), ref, forged, NOW))
    assert codes(release, release.party) == {ErrorCode.EVIDENCE_MISSING}


def test_other_jobs_and_parties_that_hold_nothing_are_not_asked_for_evidence(release: ReleaseWorld) -> None:
    other = replace(release.job, computing_parties=("hospital-b", "hospital-c"))
    with release.party.database.transaction() as tables:
        assert release_findings(release.party, tables, other, NOW) == ()
        assert release_findings(release.party, tables, an_inference(), NOW) == ()


def test_licence_says_what_was_released_and_ends_with_the_first_permission(release: ReleaseWorld) -> None:
    job, party = release.job, release.party
    with pytest.raises(ConfideError) as caught:
        licence_for(party, job, "weights")
    assert caught.value.code is ErrorCode.NOT_READY
    commitments = {name: {"weights": str(number) * 64} for number, name in enumerate(job.computing_parties)}
    ending = completed(job, commitments).to_document()
    signed = sign(ending, kind=DocumentKind.ENDING, signer=PARTY, key=party.member.signing_key)
    with party.database.transaction() as tables:
        tables.jobs.put_ending(job.job_id, signed.to_bytes(), measured="{}")
    made = licence_for(party, job, "weights")
    assert made == licence_for(party, job, "weights"), "asked again, it is the same"
    licence = verify_licence(SignedDocument.from_bytes(made), release.consent.directory)
    grant = a_grant()
    assert isinstance(licence, Licence)
    assert licence.issuer == PARTY
    assert (licence.job, licence.purpose, licence.recipients) == (job.job_id, job.purpose, (job.querier,))
    assert licence.manifest_sha256 == sha256_hex(canonical_bytes(job.model.to_document()))
    assert licence.commitments == {name: shown["weights"] for name, shown in commitments.items()}
    assert licence.expires == min(grant.derived_until, release.consent.agreement.agreement.expires)
    assert licence.expires > NOW + timedelta(minutes=1)
    assert licence.claims == (TrainingClaim(release.training.job_id),), "a training without terms has no formal guarantee"
    assert licence_for(party, an_inference(), "answer") == b""
