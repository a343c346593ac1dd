"""The gate on evidence: a sound bundle passes, and every planted fault is found, with its reason and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from governance.documents import SignedDocument
from governance.evidence.bundle import EvidenceBundle, sign_evidence
from governance.evidence.facts import NoiseTest, TrainingEvidence
from governance.evidence.gate import Decision, ReasonCode, Verdict
from governance.identity.keys import generate_signing_key
from governance.policy.release import ReleaseTerms
from governance.utility_report import verify_utility_report
from privacy.figures import Figure
from protocols.errors import ConfideError, ErrorCode
from tests.support.evidence import (
    B_ROWS,
    CLASS,
    OTHER_VERSION,
    TERMS,
    USE,
    UTILITY,
    Case,
)
from tests.support.members import a_world
from tests.support.people import NOW

Made = Callable[[Case], Decision]
TPR = "membership__lira__tpr_at_1_percent"


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(a_world())


def codes(found: Decision) -> list[ReasonCode]:
    return [reason.code for reason in found.reasons]


def with_use(case: Case, **changes: Figure) -> tuple[SignedDocument, ...]:
    changed = {name.replace("__", "."): figure for name, figure in changes.items()}
    return (case.utility(replace(UTILITY, figures=USE | changed)),)


def of_class(**changes: Any) -> ReleaseTerms:
    return replace(TERMS, classes={"confidential": replace(CLASS, **changes)})


def test_sound_bundle_with_the_approval_it_asks_for_passes(case: Case) -> None:
    found = case.decide(case.bundle())
    assert (found.verdict, found.reasons, found.classes) == (Verdict.PASS, (), ("confidential",))


def test_figures_of_utility_that_their_querier_did_not_sign_are_not_believed(case: Case) -> None:
    forged = case.utility(key=case.world.hospital_a.signing)  # a holder words the figures itself
    assert codes(case.decide(case.bundle(utility=(forged,)))) == [ReasonCode.NOT_BELIEVED]
    swapped = replace(case.utility(), body=case.utility(replace(UTILITY, figures=USE | {"accuracy": Figure(1, 1, 1)})).body)
    assert codes(case.decide(case.bundle(utility=(swapped,)))) == [ReasonCode.NOT_BELIEVED]


def test_figures_of_a_researcher_who_is_enrolled_no_more_are_not_believed(case: Case) -> None:
    bundle = case.bundle()
    assert verify_utility_report(bundle.utility[0], case.world.directory).querier == "alice"
    with pytest.raises(ConfideError) as caught:
        verify_utility_report(bundle.utility[0], replace(case.world.directory, researchers=()))
    assert caught.value.code is ErrorCode.NOT_ENROLLED


PLANTED: dict[str, tuple[Made, ReasonCode]] = {
    "epsilon over the cap": (lambda case: case.decide(case.bundle(statement={"epsilon": "3.1"})), ReasonCode.EPSILON),
    "epsilon over the cap with what it was prepared with": (
        lambda case: case.decide(case.bundle(statement={"whole_epsilon": "3.1", "prepared_with": 1})),
        ReasonCode.EPSILON,
    ),
    "delta too large": (lambda case: case.decide(case.bundle(statement={"delta": "0.0001"})), ReasonCode.DELTA),
    "no guarantee where one is asked for": (
        lambda case: case.decide(case.bundle(training={"guarantee": None, "noise_test": None, "audits": ()})),
        ReasonCode.NO_GUARANTEE,
    ),
    "rows protected where persons are asked for": (
        lambda case: case.decide(case.bundle(statement={"unit": "row"})),
        ReasonCode.UNIT,
    ),
    "attack over the threshold": (
        lambda case: case.decide(case.bundle(risk_reports=reports(case, **{TPR: Figure(0.035, 0.031, 0.04)}))),
        ReasonCode.FIGURE,
    ),
    "attack above what the guarantee allows": (
        lambda case: case.decide(
            case.bundle(risk_reports=reports(case, membership__rmia__tpr_at_1_percent=Figure(0.062, 0.051, 0.08)))
        ),
        ReasonCode.ATTACK_ABOVE_CEILING,
    ),
    "stale assessment": (
        lambda case: case.decide(case.bundle(risk_reports=(case.report(days=31), case.report("hospital-b")))),
        ReasonCode.STALE,
    ),
    "attack with fewer shadows than asked for": (
        lambda case: case.decide(case.bundle(risk_reports=(case.report(), case.report("hospital-b", shadows=63)))),
        ReasonCode.FEW_SHADOWS,
    ),
    "noise test missing": (lambda case: case.decide(case.bundle(training={"noise_test": None})), ReasonCode.NO_NOISE_TEST),
    "noise test failed": (
        lambda case: case.decide(case.bundle(training={"noise_test": NoiseTest(12, "hospital-b drew none")})),
        ReasonCode.NOISE_FAILED,
    ),
    "audit bound above the claim": (
        lambda case: case.decide(case.bundle(training={"audits": (case.audit("hospital-b", "2.1"),)})),
        ReasonCode.AUDIT,
    ),
    "audit that its owner did not sign": (
        lambda case: case.decide(
            case.bundle(training={"audits": (case.audit("hospital-b", key=case.world.hospital_a.signing),)})
        ),
        ReasonCode.NOT_BELIEVED,
    ),
    "audit above the claim, told since": (
        lambda case: case.decide(
            case.bundle(), records=case.bundle(training={"audits": (case.audit(), case.audit("hospital-b", "2.1"))}).trainings
        ),
        ReasonCode.AUDIT,
    ),
    "audit that the records do not know": (
        lambda case: case.decide(case.bundle(), records=case.bundle(training={"audits": ()}).trainings),
        ReasonCode.FACTS_DIFFER,
    ),
    "gap between groups": (
        lambda case: case.decide(case.bundle(utility=with_use(case, group__accuracy_gap=Figure(0.2, 0.15, 0.25)))),
        ReasonCode.FIGURE,
    ),
    "useless": (
        lambda case: case.decide(case.bundle(utility=with_use(case, accuracy=Figure(0.7, 0.65, 0.75)))),
        ReasonCode.USEFULNESS,
    ),
    "forged risk report": (
        lambda case: case.decide(
            case.bundle(risk_reports=(case.report(), case.report("hospital-b", key=case.world.hospital_a.signing)))
        ),
        ReasonCode.NOT_BELIEVED,
    ),
    "owner without a risk report": (
        lambda case: case.decide(case.bundle(risk_reports=(case.report(),))),
        ReasonCode.NO_REPORT,
    ),
    "bundle about another version": (
        lambda case: case.decide(case.bundle(), expected=OTHER_VERSION),
        ReasonCode.OTHER_MODEL,
    ),
    "records that say something else": (
        lambda case: case.decide(case.bundle(), records=case.bundle(statement={"epsilon": "2.5"}).trainings),
        ReasonCode.FACTS_DIFFER,
    ),
    "made in the future": (lambda case: case.decide(case.bundle(time=NOW + timedelta(hours=1))), ReasonCode.FROM_THE_FUTURE),
    "policy without terms": (lambda case: case.decide(case.bundle(), terms=None), ReasonCode.NO_TERMS),
}


def reports(case: Case, **figures: Figure) -> tuple[SignedDocument, ...]:
    return (case.report(), case.report("hospital-b", **figures))


@pytest.mark.parametrize("name", PLANTED)
def test_planted_fault_is_blocked_for_its_reason_alone(case: Case, name: str) -> None:
    made, reason = PLANTED[name]
    found = made(case)
    assert (found.verdict, codes(found)) == (Verdict.BLOCKED, [reason])


def test_few_shadows_are_told_with_both_numbers_and_matter_only_where_a_limit_is_on_what_they_find(case: Case) -> None:
    weak = case.bundle(risk_reports=(case.report(), case.report("hospital-b", shadows=8)))
    (reason,) = case.decide(weak).reasons
    assert "hospital-b's risk report is of an attack with 8 shadow models" in reason.what
    assert "takes 64 or more" in reason.what
    assert case.decide(weak, terms=of_class(min_shadows=8)).verdict is Verdict.PASS
    assert case.decide(weak, terms=of_class(max_figures={"group.accuracy_gap": Decimal("0.1")})).verdict is Verdict.PASS


def test_assessment_of_another_version_counts_nothing(case: Case) -> None:
    made = case.bundle(risk_reports=(case.report(), case.report("hospital-b", ref=OTHER_VERSION)))
    found = case.decide(made)
    assert (found.verdict, codes(found)) == (Verdict.BLOCKED, [ReasonCode.OTHER_VERSION, ReasonCode.NO_REPORT])


def test_evaluation_of_another_version_counts_nothing(case: Case) -> None:
    found = case.decide(case.bundle(utility=(case.utility(replace(UTILITY, model=OTHER_VERSION.label)),)))
    assert (found.verdict, codes(found)) == (Verdict.BLOCKED, [ReasonCode.OTHER_VERSION])


def test_bundle_signed_with_another_key_or_altered_is_not_believed(case: Case) -> None:
    made = case.bundle()
    forged = sign_evidence(made, generate_signing_key())
    altered = replace(case.signed(made), body=made.to_bytes().replace(b'"epsilon":"2.0"', b'"epsilon":"1.9"'))
    for signed in (forged, altered):
        found = case.decide(made, signed=signed)
        assert (found.verdict, codes(found), found.ref) == (Verdict.BLOCKED, [ReasonCode.NOT_BELIEVED], None)


def test_document_of_another_kind_is_not_believed_in_plain_words(case: Case) -> None:
    (reason,) = case.decide(case.bundle(), signed=case.report()).reasons
    assert reason.what == "the bundle is not believed: it was signed as risk-report, and evidence is expected"


def test_every_reason_is_told_at_once(case: Case) -> None:
    made = case.bundle(
        statement={"epsilon": "9", "delta": "0.001"},
        training={"noise_test": None},
        utility=with_use(case, accuracy=Figure(0.1, 0.1, 0.1)),
    )
    expected = {ReasonCode.EPSILON, ReasonCode.DELTA, ReasonCode.NO_NOISE_TEST, ReasonCode.USEFULNESS}
    assert set(codes(case.decide(made))) == expected


def test_figure_that_nobody_measured_blocks(case: Case) -> None:
    limits = {"membership.rmia.auc": Decimal("0.6"), "group.fnr_gap": Decimal("0.1")}
    found = case.decide(case.bundle(), terms=of_class(max_figures=limits))
    assert codes(found) == [ReasonCode.NOT_MEASURED] * 3  # of two owners, and of no evaluation


def test_without_approval_the_gate_asks_for_it_and_counts_only_those_who_may(case: Case) -> None:
    made, other = case.bundle(), case.bundle(parameters=30)
    for approvals in ((), (case.approval(other),), (case.approval(made, party="hospital-b"),)):
        found = case.decide(made, approvals=approvals)
        assert (found.verdict, codes(found)) == (Verdict.NEEDS_OFFICER, [ReasonCode.APPROVALS])
    stranger = Case(case.world)  # its officers have the names of the others, and other keys
    assert case.decide(made, approvals=(stranger.approval(made),)).verdict is Verdict.NEEDS_OFFICER


@pytest.mark.parametrize(
    ("changes", "figures", "reason"),
    [
        ({}, {TPR: Figure(0.02, 0.01, 0.03)}, ReasonCode.RISEN),
        ({"parameters": 32}, {}, ReasonCode.GROWN),
        ({"statement": {"epsilon": "2.5"}}, {}, ReasonCode.LESS_PROTECTED),
        ({}, {"capacity__excess": Figure(0.02, 0.01, 0.03)}, ReasonCode.LARGER_THAN_NEEDED),
        ({}, {TPR: Figure(0.018, 0.01, 0.031)}, ReasonCode.INTERVAL),
    ],
)
def test_risk_that_has_risen_or_larger_capacity_asks_for_more_approvals(
    case: Case, changes: dict[str, Any], figures: dict[str, Figure], reason: ReasonCode
) -> None:
    before = case.bundle()
    made = case.after(before, risk_reports=(case.report(), case.report("hospital-b", **figures)), **changes)
    asked: dict[str, Any] = {"previous": before}
    found = case.decide(made, **asked)
    assert (found.verdict, codes(found)) == (Verdict.NEEDS_OFFICER, [reason, ReasonCode.APPROVALS])
    both = (case.approval(made, 0), case.approval(made, 1))
    assert case.decide(made, approvals=both, **asked).verdict is Verdict.PASS
    twice = (case.approval(made, 0), case.approval(made, 0))
    assert case.decide(made, approvals=twice, **asked).verdict is Verdict.NEEDS_OFFICER
    alone = case.decide(made, approvals=both, terms=of_class(more_approvals=None), **asked)
    assert (alone.verdict, alone.reasons[0].code) == (Verdict.BLOCKED, ReasonCode.APPROVALS)


def test_same_figures_as_at_the_last_release_ask_for_no_more(case: Case) -> None:
    before = case.bundle()
    assert case.decide(case.after(before), previous=before).verdict is Verdict.PASS


@pytest.mark.parametrize("told", ["no-previous", "no-changes"])
def test_changes_since_the_last_release_must_be_told(case: Case, told: str) -> None:
    before = case.bundle(parameters=40)
    made = case.after(before) if told == "no-changes" else case.bundle()
    found = case.decide(replace(made, changes=()), previous=before)
    assert codes(found) == [ReasonCode.CHANGES_NOT_TOLD]


def test_every_class_of_the_rows_must_be_satisfied(case: Case) -> None:
    special = replace(CLASS, max_epsilon=Decimal(1))
    terms = ReleaseTerms({"confidential": CLASS, "special": special}, "confidential", {"hospital-b/*": "special"})
    found = case.decide(case.bundle(), terms=terms)
    assert (found.classes, codes(found)) == (("confidential", "special"), [ReasonCode.EPSILON])
    exempt = replace(terms, datasets={"hospital-b/*": "special", B_ROWS: "confidential"})
    assert case.decide(case.bundle(), terms=exempt).verdict is Verdict.PASS


def test_guarantees_of_several_trainings_add_up_and_one_without_leaves_none(case: Case) -> None:
    first = case.bundle().trainings[0]
    again = replace(first, job="3c" * 16, audits=())
    plain = replace(first, job="4d" * 16, guarantee=None, noise_test=None, audits=())
    assert codes(case.decide(case.bundle(trainings=(first, again)))) == [ReasonCode.EPSILON]  # 2 + 2 > 3
    assert codes(case.decide(case.bundle(trainings=(first, plain)))) == [ReasonCode.NO_GUARANTEE]


def test_version_that_nobody_evaluated_is_blocked_unless_its_class_does_without(case: Case) -> None:
    """Whatever the class limits, a bundle that does not say what the version is good for is no basis to release it on."""
    limits: dict[str, Any] = {"min_figures": {}, "max_figures": {TPR.replace("__", "."): Decimal("0.03")}}
    bare, asks = case.bundle(utility=()), of_class(**limits)
    assert codes(case.decide(bare, terms=asks)) == [ReasonCode.NOT_MEASURED]
    assert case.decide(case.bundle(), terms=asks).verdict is Verdict.PASS
    assert case.decide(bare, terms=of_class(**limits, requires_utility=False)).verdict is Verdict.PASS


def audited(case: Case, **training: Any) -> EvidenceBundle:
    """A training by noisy sums in which each of the two owners planted 400 canaries."""
    planted: dict[str, Any] = {"canaries": {"hospital-a": 400, "hospital-b": 400}}
    return case.bundle(statement={"mechanism": "noisy_sums"}, training=planted | training)


@pytest.mark.parametrize(
    ("training", "lacking"),
    [
        ({}, "hospital-b has not told what its 400 canaries show at a confidence of 0.999"),
        ({"canaries": {"hospital-a": 400}}, "hospital-b planted 0 canaries, and 400 or more are asked for"),
        ({"canaries": {"hospital-a": 400, "hospital-b": 399}}, "hospital-b planted 399 canaries, and 400 or more are asked for"),
    ],
)
def test_class_that_asks_for_audits_is_blocked_by_each_owner_without_one(case: Case, training: Any, lacking: str) -> None:
    made = audited(case, **training)
    (reason,) = case.decide(made, terms=of_class(min_canaries=400)).reasons
    assert (reason.code, reason.verdict) == (ReasonCode.NO_AUDIT, Verdict.BLOCKED)
    assert reason.what == f"training {made.trainings[0].job[:12]}: {lacking} (class confidential)"
    assert case.decide(made).verdict is Verdict.PASS  # a class that does not ask


@pytest.mark.parametrize("change", [{"confidence": "0.99"}, {"canaries": 8}])
def test_audit_at_less_confidence_or_of_other_canaries_is_not_the_one_that_is_asked_for(case: Case, change: Any) -> None:
    made = audited(case, audits=(case.audit(), case.audit("hospital-b", **change)))
    assert codes(case.decide(made, terms=of_class(min_canaries=400))) == [ReasonCode.NO_AUDIT]


def test_class_that_asks_for_audits_takes_them_from_every_owner_and_asks_for_none_where_none_can_be(case: Case) -> None:
    made = audited(case, audits=(case.audit(), case.audit("hospital-b", "0")))
    assert case.decide(made, terms=of_class(min_canaries=400)).verdict is Verdict.PASS
    assert case.decide(case.bundle(training={"audits": ()}), terms=of_class(min_canaries=400)).verdict is Verdict.PASS


def test_audit_within_the_claim_that_comes_later_ends_nothing_and_voids_no_approval(case: Case) -> None:
    before, after = audited(case), audited(case, audits=(case.audit(epsilon="0.9"), case.audit("hospital-b", "1.9")))
    assert case.decide(before, records=after.trainings).verdict is Verdict.PASS
    approved: dict[str, Any] = {"approvals": (case.approval(before),), "earlier": (before,)}
    assert case.decide(after, **approved).verdict is Verdict.PASS


def test_impact_says_who_planted_canaries_and_who_has_not_told(case: Case) -> None:
    made = audited(case, canaries={"hospital-a": 400, "hospital-b": 401})
    assert [said.partition(": ")[2] for said in made.impact["protection"] if "canaries" in said] == [
        "400 canaries of hospital-a show epsilon of at least 0.7 at a confidence of 0.999.",
        "hospital-b has not told what its 401 canaries show.",
    ]
    few = audited(case, canaries={"hospital-b": 7}, audits=())
    assert any(said.endswith("hospital-b planted 7 canaries, too few for an audit.") for said in few.impact["protection"])
    none = audited(case, canaries={}, audits=())
    assert any(said.endswith(": no canaries were planted.") for said in none.impact["protection"])
    assert not any("planted" in said for said in case.bundle().impact["protection"])


@pytest.mark.parametrize("wrong", ["other training", "other owner", "twice", "others' canaries", "no number"])
def test_bundle_with_audits_of_something_else_is_none(case: Case, wrong: str) -> None:
    training: dict[str, Any] = {
        "other training": {"audits": (case.audit(job="77" * 16),)},
        "other owner": {"audits": (case.audit("hospital-z"),)},
        "twice": {"audits": (case.audit(), case.audit(epsilon="0.8"))},
        "others' canaries": {"canaries": {"hospital-z": 8}},
        "no number": {"canaries": {"hospital-a": 0}},
    }[wrong]
    with pytest.raises(ConfideError) as caught:
        EvidenceBundle.from_bytes(audited(case, **training).to_bytes())
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


def test_impact_assessment_is_made_from_facts_and_says_what_nobody_measured(case: Case) -> None:
    made = case.bundle(risk_reports=(case.report(),), utility=())
    said = [sentence for part in made.impact.values() for sentence in part]
    for expected in ("hospital-b has not assessed it.", "Nothing is known of calibration.", "The model has 31 parameters."):
        assert expected in said
    assert any("epsilon 2.0" in sentence for sentence in said)


def test_epsilon_of_all_trainings_stands_beside_what_every_one_of_them_protects(case: Case) -> None:
    first = case.bundle().trainings[0]
    stated = {"unit": "person_everywhere", "rows_per_person": 3, "colluders": 2, "owners": 4, "epsilon": "0.5"}
    second = case.bundle(statement={**stated, "accounted_epsilon": "0.4"}, training={"job": "3c" * 16}).trainings[0]

    def said(*trainings: TrainingEvidence) -> str:
        return next(each for each in case.bundle(trainings=trainings).impact["protection"] if each.startswith("All trainings"))

    declared = "as the owners declare or have counted"
    assert said(first, second) == (
        "All trainings together: epsilon 2.5 at delta 0.000002, zero-out, for one person with at most 1 row(s) at one"
        f" institution, {declared}, against 1 of 2 to 4 owners together."
    )
    assert said(second) == (
        "All trainings together: epsilon 0.5 at delta 0.000001, zero-out, for one person with at most 3 row(s) at each"
        f" institution, {declared}, against 2 of 4 owners together."
    )


def test_changes_name_what_went_and_what_came(case: Case) -> None:
    before = case.bundle()
    made: EvidenceBundle = case.after(before, parameters=33)
    assert made.changes == (
        "capacity - The model has 31 parameters.",
        "capacity + The model has 33 parameters.",
    )
