"""The release gate: every rule withholds by itself, all reasons at once, and nothing else makes permissions to open."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from governance.consent.limits import OutputRule
from governance.release import Evidence, GateRule, Settlement, openings, withheld, withheld_before_vote
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job, Output, OutputKind
from tests.support.jobs import a_training, an_evaluation, an_inference

ROOT = Path(__file__).parents[2]
PLAN, OTHER = "a" * 64, "b" * 64
JOB = an_evaluation()
RULE = OutputRule(OutputKind.CORRECT_COUNT, min_cell=5)


def evidence(job: Job = JOB, **changes: Any) -> Evidence:
    shapes = {output.name: (1,) for output in job.outputs}
    known = Evidence(PLAN, shapes, shapes, dict.fromkeys(job.participants, PLAN), (), (), {"9" * 32: (RULE,)})
    return replace(known, **changes)


def settlement(job: Job = JOB, **changes: Any) -> Settlement:
    commitments = {party: {output.name: "c" * 64 for output in job.outputs} for party in job.computing_parties}
    return replace(Settlement(debited=True, commitments=commitments), **changes)


def rules_broken(job: Job = JOB, *, known: Evidence | None = None, settled: Settlement | None = None) -> set[GateRule]:
    return {reason.rule for reason in withheld(job, known or evidence(job), settled or settlement(job))}


def test_openings_all_rules_kept_gives_one_for_each_output() -> None:
    outputs = (Output("one", OutputKind.CORRECT_COUNT, "alice", 5), Output("two", OutputKind.CORRECT_COUNT, "alice", 5))
    job = an_evaluation(outputs=outputs)
    made = openings(job, evidence(job), settlement(job))
    assert [(grant.output, grant.recipient, grant.job_id) for grant in made] == [
        ("one", "alice", job.job_id),
        ("two", "alice", job.job_id),
    ]
    assert len({grant.opening_id for grant in made}) == 2


def test_openings_of_a_training_are_none() -> None:
    job = a_training()
    assert openings(job, evidence(job, countersignatures={}), settlement(job, debited=False)) == ()


@pytest.mark.parametrize("party", JOB.participants)
@pytest.mark.parametrize("signed", [None, OTHER, "", PLAN.upper(), PLAN[:63]])
def test_gate_one_participant_has_not_signed_this_plan_withholds(party: str, signed: str | None) -> None:
    signatures = {name: PLAN for name in JOB.participants if name != party} | ({} if signed is None else {party: signed})
    (reason,) = withheld_before_vote(JOB, evidence(countersignatures=signatures))
    assert reason.rule is GateRule.PLAN_AGREED
    assert party in reason.reason


def test_gate_no_plan_at_all_withholds_though_nobody_signed_one() -> None:
    known = evidence(plan_digest="", countersignatures=dict.fromkeys(JOB.participants, ""))
    assert rules_broken(known=known) == {GateRule.PLAN_AGREED}


def test_gate_signatures_of_others_change_nothing() -> None:
    with_others = evidence(countersignatures=dict.fromkeys((*JOB.participants,), PLAN) | {"hospital-z": OTHER})
    assert openings(JOB, with_others, settlement()) == openings(JOB, evidence(), settlement())


def test_gate_consent_that_ended_withholds_with_every_reason() -> None:
    problems = (Problem("grants.1", "revoked at noon", "ask"), Problem("agreement", "expired", "ask"))
    with pytest.raises(ConfideError) as caught:
        openings(JOB, evidence(missing_consent=problems), settlement())
    assert caught.value.code is ErrorCode.RELEASE_WITHHELD
    assert [(problem.where, problem.what) for problem in caught.value.problems] == [
        ("consent-in-force", "revoked at noon"),
        ("consent-in-force", "expired"),
    ]
    assert "rule consent-in-force: revoked at noon" in caught.value.what


def test_gate_evidence_that_went_stale_withholds_under_its_own_rule_with_its_own_remedy() -> None:
    stale = Problem("model_ref", "assessment-too-old: hospital-a's risk report is 31 days old", "assess it anew")
    with pytest.raises(ConfideError) as caught:
        openings(JOB, evidence(missing_evidence=(stale,)), settlement())
    (problem,) = caught.value.problems
    assert (problem.where, problem.what, problem.remedy) == ("evidence-in-force", stale.what, stale.remedy)


@pytest.mark.parametrize(
    ("output", "rule"),
    [
        (Output("o", OutputKind.CORRECT_COUNT, "alice", 4), RULE),
        (Output("o", OutputKind.PROBABILITY, "alice"), RULE),
        (Output("o", OutputKind.PROBABILITY, "alice"), OutputRule(OutputKind.PROBABILITY, decimals=2)),
        (Output("o", OutputKind.PROBABILITY, "alice", decimals=3), OutputRule(OutputKind.PROBABILITY, decimals=2)),
        (Output("o", OutputKind.PROBABILITY, "alice"), OutputRule(OutputKind.PROBABILITY, top_k=2)),
        (Output("o", OutputKind.PROBABILITY, "alice", clip="0.01"), OutputRule(OutputKind.PROBABILITY, clip="0.05")),
    ],
)
def test_gate_output_outside_what_a_grant_demands_withholds(output: Output, rule: OutputRule) -> None:
    job = an_inference(outputs=(output,))
    assert rules_broken(job, known=evidence(job, output_rules={"9" * 32: (rule,)})) == {GateRule.CONSTRAINT_SATISFIED}


def test_gate_share_of_another_shape_than_planned_withholds() -> None:
    assert rules_broken(known=evidence(sealed={"correct": (2,)})) == {GateRule.CONSTRAINT_SATISFIED}
    assert rules_broken(known=evidence(sealed={})) == {GateRule.CONSTRAINT_SATISFIED}
    assert rules_broken(known=evidence(planned={})) == {GateRule.CONSTRAINT_SATISFIED}
    assert rules_broken(known=evidence(sealed=None)) == set(), "a party that computes nothing holds no share"


def test_gate_charges_not_committed_withholds() -> None:
    assert rules_broken(settled=settlement(debited=False)) == {GateRule.DEBIT_COMMITTED}


@pytest.mark.parametrize("missing", [{}, {"hospital-a": {"correct": "c" * 64}}, {p: {} for p in JOB.computing_parties}])
def test_gate_ending_without_all_commitments_withholds(missing: dict[str, dict[str, str]]) -> None:
    assert rules_broken(settled=settlement(commitments=missing)) == {GateRule.COMMITMENTS_COMPLETE}


def test_gate_before_the_vote_asks_neither_for_debit_nor_for_commitments() -> None:
    assert withheld_before_vote(JOB, evidence()) == ()


def test_gate_everything_wrong_names_every_rule() -> None:
    gone = Problem("x", "gone", "ask")
    known = evidence(plan_digest="", missing_consent=(gone,), missing_evidence=(gone,), sealed={})
    assert rules_broken(known=known, settled=Settlement(debited=False, commitments={})) == set(GateRule)


def test_opening_id_is_the_same_at_every_party_and_differs_with_job_plan_and_output() -> None:
    def opening_id(job: Job = JOB, plan: str = PLAN) -> str:
        known = evidence(job, plan_digest=plan, countersignatures=dict.fromkeys(job.participants, plan))
        return openings(job, known, settlement(job))[0].opening_id

    renamed = replace(JOB, outputs=(Output("other", OutputKind.CORRECT_COUNT, "alice", 5),))
    found = [opening_id(), opening_id(plan=OTHER), opening_id(replace(JOB, nonce="0" * 32)), opening_id(renamed)]
    assert opening_id() == found[0]
    assert len(set(found)) == 4


def test_gate_is_the_only_maker_of_openings() -> None:
    makers = [
        path.relative_to(ROOT).as_posix()
        for top in ("protocols", "privacy", "governance", "parties")
        for path in (ROOT / top).rglob("*.py")
        if re.search(r"\bOpeningGrant\(", path.read_text(encoding="utf-8"))
    ]
    assert makers == ["governance/release.py"]
    users = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "parties").rglob("*.py")
        if re.search(r"\bopenings\.make\(", path.read_text(encoding="utf-8"))
    ]
    assert users == ["parties/server/results.py", "parties/storage/database.py"], "the latter in an example"
