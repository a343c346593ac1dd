"""The gate about a model of an institution's own: figures of its own attack are judged like any, and none at all by people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from governance.documents import SignedDocument
from governance.evidence.bundle import EvidenceBundle
from governance.evidence.gate import ReasonCode, Verdict
from governance.evidence.overtaken import worse_uses
from governance.evidence.own import OwnModel, own_ref
from governance.evidence.renewal import next_renewal
from governance.policy.release import Quorum, ReleaseTerms
from privacy.figures import Figure, Figures
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode
from tests.support.evidence import A_ROWS, CLASS, USE, Case
from tests.support.members import a_world
from tests.support.people import NOW

COMMITMENT = "5c" * 32
OPEN = replace(CLASS, requires_guarantee=False, approvals=None)
TERMS = ReleaseTerms({"confidential": OPEN}, "confidential")
BY_PEOPLE = ReleaseTerms({"confidential": replace(OPEN, unassessed_own=Quorum(1, ("privacy-officers",)))}, "confidential")


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(a_world())


def own(case: Case, *, reports: tuple[SignedDocument, ...] | None = None, use: Figures = USE, **changes: Any) -> EvidenceBundle:
    ref = own_ref("diagnosis", COMMITMENT)
    made = case.bundle(
        ref=ref,
        trainings=(),
        utility=(),
        preparations={},
        own=OwnModel(COMMITMENT, (A_ROWS,), (), use, {}),
        risk_reports=(case.report(ref=ref),) if reports is None else reports,
    )
    return replace(made, **changes)


def unassessed(case: Case, **changes: Any) -> EvidenceBundle:
    return own(case, reports=(), use={}, **changes)


def codes(case: Case, bundle: EvidenceBundle, terms: ReleaseTerms = TERMS, **asked: Any) -> tuple[Verdict, list[ReasonCode]]:
    found = case.decide(bundle, terms=terms, approvals=asked.pop("approvals", ()), **asked)
    return found.verdict, [reason.code for reason in found.reasons]


def test_own_model_with_its_owners_figures_passes_and_has_one_form(case: Case) -> None:
    bundle = own(case)
    assert codes(case, bundle) == (Verdict.PASS, [])
    assert EvidenceBundle.from_bytes(bundle.to_bytes()).to_bytes() == bundle.to_bytes()
    assert "hospital-a trained it alone or brought it from outside; there are no records of how." in bundle.impact["protection"]


def test_class_that_asks_for_a_guarantee_blocks_every_own_model(case: Case) -> None:
    terms = ReleaseTerms({"confidential": replace(OPEN, requires_guarantee=True)}, "confidential")
    assert codes(case, own(case), terms) == (Verdict.BLOCKED, [ReasonCode.NO_GUARANTEE])


@pytest.mark.parametrize(
    ("name", "figures", "use", "code"),
    [
        ("risk", {"membership__lira__tpr_at_1_percent": Figure(0.2, 0.15, 0.25)}, {}, ReasonCode.FIGURE),
        ("gap", {}, {"group.accuracy_gap": Figure(0.3, 0.25, 0.35)}, ReasonCode.FIGURE),
        ("accuracy", {}, {"accuracy": Figure(0.5, 0.4, 0.6)}, ReasonCode.USEFULNESS),
    ],
)
def test_limits_of_the_class_are_asked_of_risk_and_of_use(
    case: Case, name: str, figures: Mapping[str, Figure], use: Figures, code: ReasonCode
) -> None:
    report = case.report(ref=own_ref("diagnosis", COMMITMENT), **figures)
    assert codes(case, own(case, reports=(report,), use={**USE, **use})) == (Verdict.BLOCKED, [code])


def test_figure_of_use_that_the_owner_did_not_measure_blocks(case: Case) -> None:
    assert codes(case, own(case, use={})) == (Verdict.BLOCKED, [ReasonCode.NOT_MEASURED, ReasonCode.NOT_MEASURED])


def test_approval_counts_for_a_later_bundle_unless_its_usefulness_is_beyond_what_people_saw(case: Case) -> None:
    seen = own(case, use={**USE, "accuracy": Figure(0.85, 0.79, 0.9)})  # asks people: the interval reaches under the limit
    asked: dict[str, Any] = {"approvals": (case.approval(seen), case.approval(seen, 1)), "earlier": (seen,)}
    as_good = own(case, use={**USE, "accuracy": Figure(0.81, 0.78, 0.86)}, time=NOW + timedelta(seconds=1))
    worse = own(case, use={**USE, "accuracy": Figure(0.81, 0.78, 0.86), "ece": Figure(0.3, 0.2, 0.4)})
    assert codes(case, seen, **asked)[0] is Verdict.PASS
    assert codes(case, as_good, **asked)[0] is Verdict.PASS
    assert codes(case, worse, **asked)[0] is Verdict.NEEDS_OFFICER


def test_worst_figures_of_use_are_carried_on_until_people_decide() -> None:
    first = {"accuracy": Figure(0.7, 0.6, 0.85), "group.accuracy_gap": Figure(0.2, 0.1, 0.3)}
    second = {"accuracy": Figure(0.75, 0.5, 0.8), "ece": Figure(0.1, 0.1, 0.1)}
    worst = {"accuracy": Figure(0.7, 0.5, 0.8), "group.accuracy_gap": Figure(0.2, 0.1, 0.3), "ece": Figure(0.1, 0.1, 0.1)}
    assert worse_uses(USE, had=(first, second), decided=()) == worst
    assert worse_uses(USE, had=(first, second), decided=(worst,)) == {}
    assert worse_uses({}, had=(USE,), decided=()) == USE


def test_carried_on_usefulness_is_told_and_asks_people(case: Case) -> None:
    bundle = own(case, own=OwnModel(COMMITMENT, (A_ROWS,), (), USE, {"accuracy": Figure(0.7, 0.6, 0.8)}))
    assert codes(case, bundle) == (Verdict.NEEDS_OFFICER, [ReasonCode.OVERTAKEN, ReasonCode.APPROVALS])
    assert any("accuracy is 0.7000 (0.6000 to 0.8000)" in sentence for sentence in bundle.impact["usefulness"])
    assert EvidenceBundle.from_bytes(bundle.to_bytes()).to_bytes() == bundle.to_bytes()


def test_few_shadows_and_old_reports_block_own_models_too(case: Case) -> None:
    ref = own_ref("diagnosis", COMMITMENT)
    assert codes(case, own(case, reports=(case.report(ref=ref, shadows=8),)))[1] == [ReasonCode.FEW_SHADOWS]
    assert codes(case, own(case, reports=(case.report(ref=ref, days=31),)))[1] == [ReasonCode.STALE]


def test_without_figures_it_is_blocked_unless_the_class_names_people(case: Case) -> None:
    bundle = unassessed(case)
    assert codes(case, bundle) == (Verdict.BLOCKED, [ReasonCode.NO_REPORT])
    assert codes(case, bundle, BY_PEOPLE) == (Verdict.NEEDS_OFFICER, [ReasonCode.NO_REPORT, ReasonCode.APPROVALS])
    assert codes(case, bundle, BY_PEOPLE, approvals=(case.approval(bundle),)) == (Verdict.PASS, [ReasonCode.NO_REPORT])


def test_what_people_answered_for_ages_like_a_report(case: Case) -> None:
    bundle = unassessed(case)
    later = NOW + timedelta(days=CLASS.max_age_days + 1)
    assert ReasonCode.STALE in codes(case, bundle, BY_PEOPLE, approvals=(case.approval(bundle),), now=later)[1]
    renewal = next_renewal(bundle, BY_PEOPLE)
    assert renewal is not None
    assert (renewal.owner, renewal.ends) == ("hospital-a", NOW + timedelta(days=CLASS.max_age_days))


def test_model_of_unnamed_rows_must_satisfy_every_class_of_its_owners_rows(case: Case) -> None:
    nothing = OwnModel(COMMITMENT, (), (), {}, {})
    strict = replace(OPEN, requires_guarantee=True, max_epsilon=Decimal(1))
    datasets = {"hospital-a/hearts": "special", "hospital-b/*": "foreign"}
    classes = {"special": strict, "foreign": strict, "confidential": BY_PEOPLE.classes["confidential"]}
    found = case.decide(unassessed(case, own=nothing), terms=ReleaseTerms(classes, "confidential", datasets), approvals=())
    assert found.classes == ("special", "confidential")
    assert found.verdict is Verdict.BLOCKED


def test_bundle_of_both_kinds_of_another_version_or_about_rows_of_others_is_none(case: Case) -> None:
    broken = [
        own(case, trainings=case.bundle().trainings),
        own(case, ref=own_ref("diagnosis", "ab" * 32), risk_reports=()),
        own(case, own=OwnModel(COMMITMENT, ("hospital-b/hearts/1",), (), {}, {})),
        own(case, own=OwnModel(COMMITMENT, ("hospital-a/other/1",), (), {}, {})),
    ]
    for bundle in broken:
        with pytest.raises(ConfideError) as caught:
            EvidenceBundle.from_bytes(bundle.to_bytes())
        assert caught.value.code is ErrorCode.INVALID_DOCUMENT


@pytest.mark.parametrize("field", ["commitment", "datasets", "usefulness", "overtaken"])
def test_field_of_an_own_model_that_is_missing_or_of_another_kind_is_refused(case: Case, field: str) -> None:
    for value in (None, 7):
        document = parse_canonical(own(case).to_bytes())
        document["own"][field] = value
        with pytest.raises(ConfideError) as caught:
            EvidenceBundle.from_bytes(canonical_bytes(document))
        assert caught.value.code is ErrorCode.INVALID_DOCUMENT
