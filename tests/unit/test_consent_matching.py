"""The rule of consent: a job inside all limits is covered, each single step outside is refused and named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from governance.admission import Finding
from governance.consent.covering import GrantStanding
from governance.consent.grant import DatasetSubject, Grant
from governance.consent.limits import OutputRule, ParameterLimits
from governance.consent.revocation import Effect
from protocols.canonical import canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, ModelRef, Output, OutputKind, Summary
from protocols.model.layers import Flatten
from protocols.model.spec import ModelSpec
from protocols.training import OptimiserKind
from tests.support.consent import (
    HOSPITALS,
    NOW,
    PATIENTS,
    ConsentWorld,
    a_grant,
    a_model_grant,
    a_revocation,
    a_source,
    an_agreement,
    jobs,
    standing,
)
from tests.support.jobs import MODEL, MODEL_REF, TRAINING, a_dataset

JOBS = jobs()
TRAIN, EVALUATE, INFER, SERVE = JOBS.values()
PROBABILITY = Output("prediction", OutputKind.PROBABILITY, "alice", top_k=2, decimals=2, clip="0.01")
ARCHITECTURE = sha256_hex(canonical_bytes(MODEL.to_document()))
PARENT = ModelRef("diagnosis", "ffffffffffff")


@pytest.fixture(scope="module")
def world() -> ConsentWorld:
    return ConsentWorld()


def shown(findings: Sequence[Finding]) -> list[tuple[ErrorCode, str]]:
    """Codes and places, without the ids of grants."""
    return [(f.code, f.problem.where.split(".", 2)[-1] if f.problem.where.startswith("grants.") else f.problem.where)
            for f in findings]  # fmt: skip


@pytest.mark.parametrize("job", JOBS.values(), ids=lambda job: job.job_type.value)
def test_job_inside_all_limits_is_covered_and_names_its_grant(job: Job, world: ConsentWorld) -> None:
    decision = world.decide(job, world.consents(standing(a_grant())))
    assert decision.findings == ()
    assert decision.grants == (a_grant(),)


def test_party_without_rows_in_the_job_needs_no_grant(world: ConsentWorld) -> None:
    decision = world.decide(TRAIN, replace(world.consents(), party="hospital-d"))
    assert (decision.findings, decision.grants) == ((), ())


def _longer(job: Job, **changes: Any) -> Job:
    return replace(job, training=replace(TRAINING, **changes))


ADAM = replace(TRAINING.optimiser, kind=OptimiserKind.ADAM)
OUTSIDE: dict[str, tuple[Job, dict[str, Any], str]] = {
    "purpose": (replace(TRAIN, purpose="quality"), {}, "purposes"),
    "job type on rows": (EVALUATE, {"job_types": (JobType.TRAIN,)}, "job_types"),
    "job type on what came of them": (INFER, {"derived_job_types": (JobType.EVALUATE,)}, "derived_job_types"),
    "recipient": (replace(TRAIN, querier="mallory"), {}, "recipients"),
    "institution": (TRAIN, {"recipients": ("institution/hospital-c",)}, "recipients"),
    "kind of output": (EVALUATE, {"outputs": ()}, "outputs"),
    "smallest cell": (EVALUATE, {"outputs": (OutputRule(OutputKind.CORRECT_COUNT, min_cell=6),)},
                      "outputs.correct_count.min_cell"),
    "all classes": (replace(INFER, outputs=(replace(PROBABILITY, top_k=0),)), {}, "outputs.probability.top_k"),
    "more classes": (replace(INFER, outputs=(replace(PROBABILITY, top_k=3),)), {}, "outputs.probability.top_k"),
    "unrounded": (replace(INFER, outputs=(replace(PROBABILITY, decimals=None),)), {}, "outputs.probability.decimals"),
    "more decimals": (replace(INFER, outputs=(replace(PROBABILITY, decimals=3),)), {}, "outputs.probability.decimals"),
    "unclipped": (replace(INFER, outputs=(replace(PROBABILITY, clip="0"),)), {}, "outputs.probability.clip"),
    "architecture": (TRAIN, {"architectures": ("ab" * 32,)}, "architectures"),
    "epochs": (_longer(TRAIN, epochs=11), {}, "max_epochs"),
    "steps": (TRAIN, {"parameters": ParameterLimits(max_steps=75)}, "max_steps"),
    "batch": (_longer(TRAIN, batch_size=3), {}, "min_batch_size"),
    "optimiser": (_longer(TRAIN, optimiser=ADAM), {}, "optimisers"),
    "samples": (replace(INFER, query_rows=11), {}, "max_query_rows"),
    "computing party": (replace(TRAIN, computing_parties=("hospital-a", "hospital-c"), dealer="hospital-b"),
                        {"dealers": ()}, "computing_parties"),
    "dealer": (TRAIN, {"dealers": ("hospital-b",)}, "dealers"),
    "owners": (TRAIN, {"min_parties": 4}, "min_parties"),
    "rows": (TRAIN, {"min_rows": 301}, "min_rows"),
    "epsilon": (EVALUATE, {"epsilon_cap": "1"}, "epsilon_cap"),
    "agreement": (TRAIN, {"agreement": "ab" * 32}, "agreement"),
    "version": (TRAIN, {"subject": DatasetSubject("patients", 2, PATIENTS.commitment)}, "subject.version"),
    "rows under the version": (TRAIN, {"subject": DatasetSubject("patients", 1, "d" * 64)}, "subject.commitment"),
    "issuer": (TRAIN, {"issuer": "hospital-b"}, "issuer"),
    "consortium": (TRAIN, {"consortium": "neuro"}, "issuer"),
    "not yet": (TRAIN, {"valid_from": NOW + timedelta(hours=1)}, "valid_from"),
}  # fmt: skip


@pytest.mark.parametrize("case", OUTSIDE)
def test_job_outside_one_limit_is_refused_and_the_limit_named(case: str, world: ConsentWorld) -> None:
    job, changes, where = OUTSIDE[case]
    decision = world.decide(job, world.consents(standing(a_grant(**changes))))
    # An evaluation leaves a limit twice: on the rows, and on the model that came of them.
    assert set(shown(decision.findings)) == {(ErrorCode.NO_CONSENT, where)}
    assert all(finding.problem.what and finding.problem.remedy for finding in decision.findings)


STANDINGS: dict[str, tuple[GrantStanding, ErrorCode, str]] = {
    "expired": (standing(a_grant(expires=NOW)), ErrorCode.GRANT_EXPIRED, "expires"),
    "revoked": (standing(a_grant(), revocation=a_revocation(a_grant().grant_id, effect=Effect.DELETE)),
                ErrorCode.GRANT_REVOKED, "revoked"),
    "used up": (standing(a_grant(), uses=3), ErrorCode.GRANT_EXHAUSTED, "max_uses"),
    "unsound": (replace(standing(a_grant()), unsound=ConfideError(ErrorCode.BAD_SIGNATURE)), ErrorCode.BAD_SIGNATURE, "document"),
}  # fmt: skip


@pytest.mark.parametrize("case", STANDINGS)
def test_grant_that_has_ended_covers_nothing_and_says_how(case: str, world: ConsentWorld) -> None:
    stands, code, where = STANDINGS[case]
    assert shown(world.decide(TRAIN, world.consents(stands)).findings) == [(code, where)]


def test_job_against_everything_is_told_every_reason_at_once(world: ConsentWorld) -> None:
    job = replace(_longer(TRAIN, epochs=11, batch_size=3), purpose="quality", querier="mallory")
    ended = standing(a_grant(expires=NOW), uses=3, revocation=a_revocation(a_grant(expires=NOW).grant_id))
    found = shown(world.decide(job, world.consents(ended)).findings)
    assert found == [
        (ErrorCode.GRANT_REVOKED, "revoked"),
        (ErrorCode.GRANT_EXPIRED, "expires"),
        (ErrorCode.GRANT_EXHAUSTED, "max_uses"),
        *((ErrorCode.NO_CONSENT, where) for where in ("purposes", "recipients", "max_epochs", "max_steps", "min_batch_size")),
    ]


def test_owner_without_any_grant_is_told_which_rows_lack_one(world: ConsentWorld) -> None:
    found = world.decide(EVALUATE, world.consents()).findings
    assert [(finding.code, finding.problem.where) for finding in found] == [
        (ErrorCode.NO_CONSENT, "hospital-a/patients/1"),
        (ErrorCode.NO_CONSENT, f"hospital-a/patients/1 in {MODEL_REF.label}"),
    ]


def test_nearest_grant_is_the_one_that_is_reported(world: ConsentWorld) -> None:
    far = a_grant(purposes=("quality",), recipients=("bob",))
    near = a_grant(purposes=("quality",), nonce="aa" * 16)
    found = world.decide(TRAIN, world.consents(standing(far), standing(near))).findings
    assert [finding.problem.where for finding in found] == [f"grants.{near.grant_id[:12]}.purposes"]


def test_one_grant_that_covers_suffices_and_the_longest_lasting_is_used(world: ConsentWorld) -> None:
    short, other = a_grant(expires=NOW + timedelta(hours=1), nonce="aa" * 16), a_grant(purposes=("quality",))
    decision = world.decide(TRAIN, world.consents(standing(other), standing(short), standing(a_grant())))
    assert (decision.findings, decision.grants) == ((), (a_grant(),))


def test_use_of_a_model_outlives_the_grant_for_its_rows_until_its_own_date(world: ConsentWorld) -> None:
    grant = standing(a_grant())
    late = NOW + timedelta(days=2)
    assert world.decide(INFER, world.consents(grant), now=late).findings == ()
    until = [world.decide(job, world.consents(grant)).until[grant.grant.grant_id] for job in (TRAIN, INFER)]
    assert until == [grant.grant.expires, grant.grant.derived_until]
    assert shown(world.decide(TRAIN, world.consents(grant), now=late).findings) == [(ErrorCode.GRANT_EXPIRED, "expires")]
    found = world.decide(INFER, world.consents(grant), now=NOW + timedelta(days=11)).findings
    assert shown(found) == [(ErrorCode.GRANT_EXPIRED, "derived_until")]


def test_grant_for_a_model_covers_that_model_alone(world: ConsentWorld) -> None:
    model_grant = standing(a_model_grant())
    assert world.decide(INFER, world.consents(model_grant)).grants == (a_model_grant(),)
    other = world.consents(standing(a_model_grant(PARENT)))
    assert shown(world.decide(INFER, other).findings) == [(ErrorCode.NO_CONSENT, f"hospital-a/patients/1 in {MODEL_REF.label}")]
    on_rows = world.decide(EVALUATE, world.consents(model_grant)).findings
    assert shown(on_rows) == [(ErrorCode.NO_CONSENT, "hospital-a/patients/1")]


def test_grant_for_a_model_covers_what_was_trained_further_from_it_as_far_as_it_says(world: ConsentWorld) -> None:
    behind = (a_source(PATIENTS, MODEL_REF, PARENT),)
    job = replace(TRAIN, initial_weights_sha256=None, model_ref=MODEL_REF, datasets=(a_dataset("hospital-b"),))
    for types, expected in (((JobType.TRAIN,), []), ((), [(ErrorCode.NO_CONSENT, "derived_job_types")])):
        consents = world.consents(standing(a_model_grant(PARENT, derived_job_types=types, min_parties=1)), sources=behind)
        found = [item for item in shown(world.decide(job, consents).findings) if item[1] != "agreement.min_parties"]
        assert found == expected


def test_permitted_architecture_is_named_by_its_digest(world: ConsentWorld) -> None:
    assert world.decide(TRAIN, world.consents(standing(a_grant(architectures=(ARCHITECTURE,))))).findings == ()


def test_summary_has_no_architecture_that_a_grant_could_name(world: ConsentWorld) -> None:
    job = replace(
        EVALUATE,
        job_type=JobType.SUMMARISE,
        model=ModelSpec.chain(3, rows=Flatten()),
        model_ref=None,
        outputs=(Output("groups", OutputKind.GROUP_MEANS, EVALUATE.querier, 5),),
        summary=Summary(2, 1, 0, ""),
    )
    rules = (OutputRule(OutputKind.GROUP_MEANS, min_cell=5),)
    grant = a_grant(architectures=(ARCHITECTURE,), job_types=(JobType.SUMMARISE,), outputs=rules)
    found = {where for _, where in shown(world.decide(job, world.consents(standing(grant))).findings)}
    assert not {where for where in found if not where.startswith("agreement.")}


def test_job_on_a_model_counts_the_owners_and_rows_behind_it(world: ConsentWorld) -> None:
    grant: Grant = a_grant(min_parties=2, min_rows=150)
    alone = world.consents(standing(grant), sources=(a_source(),))
    assert [where for _, where in shown(world.decide(INFER, alone).findings)] == [
        "agreement.min_parties",
        "min_parties",
        "min_rows",
    ]
    both = replace(alone, sources=(a_source(), a_source(a_dataset("hospital-b"))))
    assert world.decide(INFER, both).findings == ()


def test_owner_that_takes_no_part_is_spoken_for_by_the_grants_it_has_told(world: ConsentWorld) -> None:
    four = an_agreement(parties=(*HOSPITALS, "hospital-d"), datasets=("hospital-a/*", "hospital-d/*"))
    job = replace(INFER, agreement=four.digest)
    rows = a_dataset("hospital-d")
    consents = world.consents(
        standing(a_grant(agreement=four.digest)), sources=(a_source(), a_source(rows)), agreement=world.signed(four)
    )
    told = a_grant(issuer="hospital-d", agreement=four.digest)
    expected: list[tuple[GrantStanding | None, list[tuple[ErrorCode, str]]]] = [
        (None, [(ErrorCode.NO_CONSENT, f"hospital-d/patients/1 in {MODEL_REF.label}")]),
        (standing(told), []),
        (standing(replace(told, derived_job_types=())), [(ErrorCode.NO_CONSENT, "derived_job_types")]),
        (standing(told, revocation=a_revocation(told.grant_id, "hospital-d")), [(ErrorCode.GRANT_REVOKED, "revoked")]),
        (standing(a_grant(agreement=four.digest)), [(ErrorCode.NO_CONSENT, f"hospital-d/patients/1 in {MODEL_REF.label}")]),
    ]
    for grant, found in expected:
        decision = world.decide(job, replace(consents, absent=() if grant is None else (grant,)))
        against = [finding for finding in decision.findings if finding.code is not ErrorCode.NO_AGREEMENT]
        assert shown(against) == found
        assert [used.issuer for used in decision.grants] == ["hospital-a"]


def test_owner_that_does_not_know_what_is_behind_the_model_is_spoken_for_though_it_takes_part(world: ConsentWorld) -> None:
    # Its rows went into an earlier model, which others trained further without it: as a dealer it finds nothing of its own.
    rows = a_dataset("hospital-c")
    told = a_grant(issuer="hospital-c", recipients=("bob",))
    assert "hospital-c" in INFER.participants
    for known, found in ((True, []), (False, [(ErrorCode.NO_CONSENT, "recipients")])):
        behind = (a_source(), a_source(a_dataset("hospital-b")), replace(a_source(rows), is_known_to_owner=known))
        consents = world.consents(standing(a_grant()), sources=behind, absent=(standing(told),))
        assert shown(world.decide(INFER, consents).findings) == found


AGREEMENTS: dict[str, tuple[Job, dict[str, Any], str]] = {
    "purpose": (TRAIN, {"purposes": ("quality",)}, "purpose"),
    "job type": (TRAIN, {"job_types": (JobType.INFER,)}, "agreement.job_types"),
    "output": (EVALUATE, {"outputs": (OutputKind.LABEL,)}, "agreement.outputs"),
    "party": (TRAIN, {"parties": HOSPITALS[:2], "datasets": ("hospital-a/*", "hospital-b/*")}, "agreement.parties"),
    "data set": (TRAIN, {"datasets": ("hospital-a/patients", "hospital-b/*", "hospital-c/others")}, "agreement.datasets"),
    "owners": (replace(TRAIN, datasets=TRAIN.datasets[:1]), {}, "agreement.min_parties"),
    "rows": (TRAIN, {"min_rows": 301}, "agreement.min_rows"),
    "epsilon": (EVALUATE, {"epsilon_cap": "3"}, "agreement.epsilon_cap"),
    "expired": (TRAIN, {"expires": NOW}, "agreement"),
}


@pytest.mark.parametrize("case", AGREEMENTS)
def test_job_that_leaves_its_agreement_is_refused_and_the_point_named(case: str, world: ConsentWorld) -> None:
    job, changes, where = AGREEMENTS[case]
    agreement = an_agreement(**changes)
    signed = world.signed(agreement)
    job = replace(job, agreement=agreement.digest)
    grant = standing(a_grant(agreement=agreement.digest, min_parties=1))
    found = shown(world.decide(job, world.consents(grant, agreement=signed)).findings)
    assert (ErrorCode.NO_AGREEMENT, where) in found
    assert {code for code, _ in found} == {ErrorCode.NO_AGREEMENT}


def test_agreement_that_is_unknown_or_revoked_by_a_signatory_covers_nothing(world: ConsentWorld) -> None:
    consents = world.consents(standing(a_grant()))
    for changed in (replace(consents, agreement=None), replace(consents, revoked_by={"hospital-b": NOW})):
        assert shown(world.decide(TRAIN, changed).findings) == [(ErrorCode.NO_AGREEMENT, "agreement")]
    stranger = replace(consents, revoked_by={"hospital-d": NOW})
    assert world.decide(TRAIN, stranger).findings == ()
