"""What was found is not forgotten because it is measured again, and an approval stays good while nothing is worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from governance.documents import SignedDocument
from governance.evidence import bundle as bundles
from governance.evidence.bundle import EvidenceBundle, with_changes
from governance.evidence.gate import Decision, ReasonCode, Verdict, latest_reports
from governance.evidence.overtaken import NOTHING, Overtaken, overtaken_of, questions_of
from governance.evidence.renewal import next_renewal
from governance.policy.release import ReleaseTerms
from governance.risk_report import read_risk_report, sign_risk_report
from privacy.figures import Figure
from privacy.risk.report import MEASURED
from protocols.canonical import MAX_DOCUMENT_BYTES
from protocols.errors import ConfideError, ErrorCode
from tests.support.evidence import CLASS, RISKS, TERMS, USE, UTILITY, Case
from tests.support.members import a_world
from tests.support.people import NOW

TPR, RMIA = "membership__lira__tpr_at_1_percent", "membership__rmia__auc"
GOOD, RISEN, OVER = Figure(0.012, 0.008, 0.018), Figure(0.02, 0.01, 0.028), Figure(0.04, 0.02, 0.06)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(a_world())


def codes(found: Decision) -> list[ReasonCode]:
    return [reason.code for reason in found.reasons]


def of_class(**changes: Any) -> ReleaseTerms:
    return replace(TERMS, classes={"confidential": replace(CLASS, **changes)})


def following(
    case: Case,
    before: EvidenceBundle | None,
    last: EvidenceBundle | None,
    *reports: SignedDocument,
    told: tuple[SignedDocument, ...] = (),
    **changes: Any,
) -> EvidenceBundle:
    """A bundle with these reports of hospital B, made after the last one; people decided on `before`."""
    made = case.bundle(risk_reports=(case.report(), *reports), **changes)
    questions = questions_of(TERMS, () if before is None else (before,))
    made = replace(made, overtaken=overtaken_of(made, last=last, told=told, decided=before, questions=questions))
    made = replace(made, previous=None if before is None else before.digest)
    return replace(made, changes=with_changes(made, before))


def of_b(case: Case, figure: Figure, *, days: int = 1, **more: Figure) -> SignedDocument:
    return case.report("hospital-b", days=days, **{TPR: figure}, **more)


def stated(case: Case, figures: Mapping[str, Any]) -> SignedDocument:
    """What hospital B stated three days ago, with these figures beside the usual ones."""
    return case.report("hospital-b", days=3, **figures)


@pytest.mark.parametrize("worse", [RISEN, OVER, Figure(0.017, 0.01, 0.031)], ids=["risen", "over", "interval"])
def test_figure_that_asked_or_blocked_is_not_forgotten_when_the_next_one_pleases(case: Case, worse: Figure) -> None:
    before = following(case, None, None, of_b(case, GOOD, days=9))
    asks = following(case, before, before, of_b(case, worse, days=5))
    assert case.decide(asks, previous=before).verdict is not Verdict.PASS
    lucky = following(case, before, asks, of_b(case, GOOD, days=1))
    found = case.decide(lucky, previous=before)
    assert (found.verdict, set(codes(found))) == (Verdict.NEEDS_OFFICER, {ReasonCode.OVERTAKEN, ReasonCode.APPROVALS})
    assert any(f"{worse.value:.4f}" in reason.what for reason in found.reasons)
    # However often it is measured again.
    again = following(case, before, lucky, of_b(case, GOOD, days=0))
    assert case.decide(again, previous=before).verdict is Verdict.NEEDS_OFFICER
    # People see it in the impact assessment, and what they decided on is not asked again.
    assert any("measured again since" in sentence and f"{worse.value:.4f}" in sentence for sentence in again.impact["risks"])
    both = (case.approval(again, 0), case.approval(again, 1))
    assert case.decide(again, previous=before, approvals=both).by_people
    after = following(case, again, again, of_b(case, GOOD, days=0))
    assert (after.overtaken, case.decide(after, previous=again).verdict) == (NOTHING, Verdict.PASS)


def test_figure_that_blocked_ends_it_where_nobody_may_decide(case: Case) -> None:
    asks = following(case, None, None, of_b(case, OVER, days=5))
    lucky = following(case, None, asks, of_b(case, GOOD))
    found = case.decide(lucky, terms=of_class(more_approvals=None))
    assert (found.verdict, found.reasons[0].code) == (Verdict.BLOCKED, ReasonCode.APPROVALS)


def test_report_that_never_stood_in_a_bundle_is_carried_on_too(case: Case) -> None:
    made = following(case, None, None, of_b(case, GOOD), told=(of_b(case, OVER, days=3),))
    assert codes(case.decide(made)) == [ReasonCode.OVERTAKEN, ReasonCode.APPROVALS]


def test_attack_above_the_guarantee_is_carried_on(case: Case) -> None:
    above = Figure(0.07, 0.051, 0.09)  # the guarantee allows 0.05
    terms = of_class(max_figures={"membership.lira.auc": Decimal("0.6")})
    made = following(case, None, None, of_b(case, GOOD), told=(of_b(case, above, days=3),))
    found = case.decide(made, terms=terms)
    assert codes(found) == [ReasonCode.OVERTAKEN, ReasonCode.APPROVALS]
    assert "the guarantee allows at most" in found.reasons[0].what


def test_useless_evaluation_that_is_left_out_is_not_forgotten(case: Case) -> None:
    bad = case.utility(replace(UTILITY, job="3c" * 16, figures=USE | {"accuracy": Figure(0.7, 0.65, 0.75)}))
    wide = case.utility(replace(UTILITY, job="4d" * 16, figures=USE | {"group.accuracy_gap": Figure(0.2, 0.1, 0.3)}))
    asks = case.bundle(utility=(case.utility(), bad, wide))
    made = following(case, None, asks, of_b(case, GOOD))
    assert set(made.overtaken.utility) == {bad, wide}
    found = case.decide(made)
    assert codes(found) == [ReasonCode.OVERTAKEN, ReasonCode.OVERTAKEN, ReasonCode.APPROVALS]


def test_only_the_worst_of_a_figure_is_carried_on_whatever_their_order(case: Case) -> None:
    told = tuple(of_b(case, Figure(n / 1000, n / 2000, n / 500), days=3) for n in range(13, 60))
    made = following(case, None, None, of_b(case, GOOD), told=told)
    assert made.overtaken.risk_reports == (told[-1],)
    assert following(case, None, None, of_b(case, GOOD), told=told[::-1]).overtaken == made.overtaken
    assert following(case, None, None, of_b(case, OVER), told=(of_b(case, GOOD),)).overtaken == NOTHING


def test_report_beside_the_one_that_replaces_it_in_one_bundle_is_not_forgotten(case: Case) -> None:
    made = following(case, None, None, of_b(case, OVER, days=9), of_b(case, GOOD))
    found = case.decide(made)
    assert (found.verdict, codes(found)) == (Verdict.NEEDS_OFFICER, [ReasonCode.OVERTAKEN, ReasonCode.APPROVALS])


def test_bundle_that_carries_many_reports_can_be_read_again(case: Case) -> None:
    names = [f"membership__x{n}__auc" for n in range(30)]
    low: dict[str, Any] = dict.fromkeys(names, Figure(0.5, 0.5, 0.5))
    told = tuple(stated(case, low | {name: Figure(0.6, 0.6, 0.6)}) for name in names)
    before = following(case, None, None, of_b(case, GOOD, days=9, **low))
    made = following(case, before, before, of_b(case, GOOD, **low), told=told)
    assert len(made.overtaken.risk_reports) == len(names)
    found = case.decide(made, previous=before)
    assert set(codes(found)) == {ReasonCode.OVERTAKEN, ReasonCode.APPROVALS}


def test_more_reports_than_a_bundle_holds_make_none_and_it_is_said_whose_they_are(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "MAX_CARRIED", 64)
    names = [f"membership__x{n}__auc" for n in range(65)]
    low: dict[str, Any] = dict.fromkeys(names, GOOD)
    before = following(case, None, None, of_b(case, GOOD, days=9, **low))
    told = tuple(stated(case, {name: OVER}) for name in names)
    made = following(case, before, before, of_b(case, GOOD), told=told)
    with pytest.raises(ConfideError) as caught:
        case.signed(made)
    assert caught.value.code is ErrorCode.TOO_LARGE
    (problem,) = caught.value.problems
    assert (problem.where, problem.what) == (
        "overtaken_risk_reports",
        "65 reports, and at most 64 are held (65 of hospital-b)",
    )
    with pytest.raises(ConfideError) as caught:
        EvidenceBundle.from_bytes(made.to_bytes())
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


def test_bundle_that_could_not_be_read_with_its_signature_is_not_signed(case: Case) -> None:
    """Quotes take twice the room in each text that holds them: a body that can be read may have an envelope that cannot."""
    figures = {f"membership__x{n}__auc": GOOD for n in range(150)}
    told = tuple(stated(case, figures | {"reconstruction__gain": Figure(n / 200, 0.0, 0.9)}) for n in range(130))

    def carrying(count: int) -> EvidenceBundle:
        return replace(case.bundle(), overtaken=Overtaken(told[:count], ()))

    few, more = (len(carrying(count).to_bytes()) for count in (10, 20))
    most = 10 + (MAX_DOCUMENT_BYTES - few) * 10 // (more - few) - 1
    assert 20 < most < len(told)
    assert len(carrying(most).to_bytes()) < MAX_DOCUMENT_BYTES
    with pytest.raises(ConfideError) as caught:
        case.signed(carrying(most))
    assert (caught.value.code, [problem.where for problem in caught.value.problems]) == (ErrorCode.TOO_LARGE, ["bundle"])
    held = case.signed(carrying(most * 3 // 4))
    assert SignedDocument.from_bytes(held.to_bytes()) == held


def test_largest_bundle_of_usual_reports_has_room(case: Case) -> None:
    """As many as are held, of two owners, each with the figures that everybody knows."""
    more = {name.replace(".", "__"): GOOD for name in MEASURED}
    told = tuple(stated(case, more | {"reconstruction__gain": Figure(n / 1_000, 0.0, 0.6)}) for n in range(bundles.MAX_CARRIED))
    held = case.signed(replace(case.bundle(), overtaken=Overtaken(told, ())))
    assert len(held.to_bytes()) < MAX_DOCUMENT_BYTES


def test_figures_that_the_gate_has_no_question_about_fill_no_bundle(case: Case) -> None:
    told = tuple(stated(case, {f"membership__x{n}__auc": OVER}) for n in range(200))
    assert following(case, None, None, of_b(case, GOOD), told=told).overtaken == NOTHING
    # A ceiling holds for an attack of any name: of all of them the worst is carried on.
    above = (Figure(0.2, 0.051 + n / 10_000, 0.3) for n in range(200))
    ends = tuple(stated(case, {f"membership__x{n}__tpr_at_1_percent": figure}) for n, figure in enumerate(above))
    made = following(case, None, None, of_b(case, GOOD), told=ends)
    assert made.overtaken.risk_reports == (ends[-1],)
    found = case.decide(made)
    assert found.reasons[0].code is ReasonCode.OVERTAKEN
    assert "the guarantee allows at most" in found.reasons[0].what


def test_figure_that_is_measured_no_more_asks_people(case: Case) -> None:
    before = following(case, None, None, of_b(case, GOOD, **{RMIA: Figure(0.55, 0.5, 0.6)}))
    made = following(case, before, before, of_b(case, GOOD), utility=(case.utility(replace(UTILITY, figures=USE_LESS)),))
    found = case.decide(made, previous=before)
    assert codes(found) == [ReasonCode.GONE, ReasonCode.GONE, ReasonCode.APPROVALS]
    assert [reason.about for reason in found.reasons[:2]] == ["hospital-b membership.rmia.auc", " shift.accuracy_drop"]


USE_LESS = {name: figure for name, figure in USE.items() if name != "shift.accuracy_drop"}


def test_rise_in_small_steps_is_one_over_what_people_decided_on(case: Case) -> None:
    decided = following(case, None, None, of_b(case, GOOD, days=9))
    first = following(case, decided, decided, of_b(case, Figure(0.017, 0.012, 0.024), days=5))
    assert case.decide(first, previous=decided).verdict is Verdict.PASS  # by itself: people have decided nothing by it
    second = following(case, decided, first, of_b(case, Figure(0.022, 0.017, 0.029)))
    assert ReasonCode.RISEN in codes(case.decide(second, previous=decided))


# Approvals.


def approved(case: Case, made: EvidenceBundle, earlier: EvidenceBundle, **asked: Any) -> Decision:
    both = (case.approval(earlier, 0), case.approval(earlier, 1))
    return case.decide(made, approvals=both, earlier=(earlier,), **asked)


@pytest.mark.parametrize("later", [RISEN, Figure(0.013, 0.01, 0.016), Figure(0.027, 0.02, 0.0279)])
def test_approval_stays_good_for_a_later_bundle_that_is_no_worse(case: Case, later: Figure) -> None:
    before = following(case, None, None, of_b(case, GOOD, days=9))
    asks = following(case, before, before, of_b(case, RISEN, days=5))
    made = following(case, before, asks, of_b(case, later))
    found = approved(case, made, asks, previous=before)
    assert (found.verdict, found.by_people) == (Verdict.PASS, False)


def worse(case: Case, asks: EvidenceBundle) -> dict[str, Any]:
    return {"reports": (of_b(case, Figure(0.0281, 0.02, 0.0299)),)}


def less_sure(case: Case, asks: EvidenceBundle) -> dict[str, Any]:
    return {"reports": (of_b(case, Figure(0.02, 0.01, 0.0361)),), "terms": of_class(max_figures={})}


def over_a_limit_perhaps(case: Case, asks: EvidenceBundle) -> dict[str, Any]:
    return {"reports": (of_b(case, Figure(0.02, 0.01, 0.031)),)}


def other_question(case: Case, asks: EvidenceBundle) -> dict[str, Any]:
    return {"reports": (case.report("hospital-b", capacity__excess=Figure(0.02, 0.01, 0.03), **{TPR: RISEN}),)}


def another_figure(case: Case, asks: EvidenceBundle) -> dict[str, Any]:
    return {"reports": (of_b(case, RISEN, **{RMIA: GOOD}),)}


def test_figures_under_names_of_an_owner_s_own_void_no_approval(case: Case) -> None:
    """Nobody is asked about them, so whoever states new ones each hour keeps nobody from having approved."""
    before = following(case, None, None, of_b(case, GOOD, days=9))
    asks = following(case, before, before, of_b(case, RISEN, days=5))
    made = following(case, before, asks, of_b(case, RISEN, membership__x7__auc=OVER))
    assert approved(case, made, asks, previous=before).verdict is Verdict.PASS
    # Once people have decided on one, it is a figure like any other.
    decided = following(case, None, None, of_b(case, GOOD, days=9, membership__x7__auc=GOOD))
    asks = following(case, decided, decided, of_b(case, RISEN, days=5, membership__x7__auc=GOOD))
    made = following(case, decided, asks, of_b(case, RISEN, membership__x7__auc=OVER))
    assert approved(case, made, asks, previous=decided).verdict is Verdict.NEEDS_OFFICER


def less_useful(case: Case, asks: EvidenceBundle) -> dict[str, Any]:
    use = replace(UTILITY, figures=USE | {"accuracy": Figure(0.87, 0.85, 0.89)})
    return {"reports": (of_b(case, RISEN),), "utility": (case.utility(use),)}


def other_claims(case: Case, asks: EvidenceBundle) -> dict[str, Any]:
    return {"reports": (of_b(case, RISEN),), "statement": {"epsilon": "1.9"}}


def between(case: Case, asks: EvidenceBundle) -> dict[str, Any]:
    return {"reports": (of_b(case, RISEN),), "told": (of_b(case, OVER, days=2),)}


@pytest.mark.parametrize(
    "change", [worse, less_sure, over_a_limit_perhaps, other_question, another_figure, less_useful, other_claims, between]
)
def test_approval_is_void_for_what_those_who_gave_it_have_not_seen(case: Case, change: Any) -> None:
    before = following(case, None, None, of_b(case, GOOD, days=9))
    asks = following(case, before, before, of_b(case, RISEN, days=5))
    how = change(case, asks)
    terms = how.pop("terms", TERMS)
    made = following(case, before, asks, *how.pop("reports"), **how)
    found = approved(case, made, asks, previous=before, terms=terms)
    assert (found.verdict, found.reasons[-1].code) == (Verdict.NEEDS_OFFICER, ReasonCode.APPROVALS)


def test_approval_that_a_class_asks_for_each_time_counts_as_long_as_a_report(case: Case) -> None:
    before = following(case, None, None, of_b(case, GOOD, days=9))
    made = following(case, before, before, case.report("hospital-b", days=-29), time=NOW + timedelta(days=29))
    made = replace(made, risk_reports=(case.report(days=-29), *made.risk_reports[1:]))
    made = replace(made, changes=with_changes(made, before))
    asked: dict[str, Any] = {"previous": before, "now": NOW + timedelta(days=29)}
    assert approved(case, made, before, **asked).verdict is Verdict.PASS
    asked["now"] = NOW + timedelta(days=31)
    assert codes(approved(case, made, before, **asked)) == [ReasonCode.APPROVALS]
    assert case.decide(made, approvals=(case.approval(made),), **asked).verdict is Verdict.PASS


def test_approval_that_a_clock_ahead_has_dated_later_counts_for_no_later_bundle_before(case: Case) -> None:
    before = following(case, None, None, of_b(case, GOOD, days=9))
    made = following(case, before, before, of_b(case, GOOD), time=NOW - timedelta(hours=2))
    asked: dict[str, Any] = {"previous": before, "now": NOW - timedelta(hours=1)}
    assert codes(approved(case, made, before, **asked)) == [ReasonCode.APPROVALS]
    asked["now"] = NOW
    assert approved(case, made, before, **asked).verdict is Verdict.PASS


def test_quorum_is_met_by_people_who_approved_one_bundle_and_the_next(case: Case) -> None:
    before = following(case, None, None, of_b(case, GOOD, days=9))
    asks = following(case, before, before, of_b(case, RISEN, days=5))
    made = following(case, before, asks, of_b(case, RISEN))
    approvals = (case.approval(asks, 0), case.approval(made, 1))
    found = case.decide(made, approvals=approvals, earlier=(asks,), previous=before)
    assert (found.verdict, found.by_people) == (Verdict.PASS, True)
    twice = (case.approval(asks, 0), case.approval(made, 0))
    assert case.decide(made, approvals=twice, earlier=(asks,), previous=before).verdict is Verdict.NEEDS_OFFICER


# Assessed in parts.


def parts(case: Case, *, days: int) -> tuple[SignedDocument, ...]:
    """Hospital B's, all figures days ago and the membership attack again yesterday."""
    return of_b(case, GOOD, days=days), of_b_alone(case, GOOD)


def of_b_alone(case: Case, figure: Figure, *, days: int = 1) -> SignedDocument:
    stated = read_risk_report(of_b(case, figure, days=days).document)
    only = {name: each for name, each in stated.figures.items() if name.startswith("membership.")}
    return sign_risk_report(replace(stated, report=replace(stated.report, figures=only)), case.world.hospital_b.signing)


def test_newer_report_with_fewer_figures_stands_beside_the_one_that_has_them(case: Case) -> None:
    made = case.bundle(risk_reports=(case.report(), *parts(case, days=29)))
    assert len(latest_reports(made)) == 3
    assert case.decide(made).verdict is Verdict.PASS
    # Each limited figure has its own age, and what nothing rests on has none.
    older = case.bundle(risk_reports=(case.report(), *parts(case, days=60)))
    assert case.decide(older).verdict is Verdict.PASS
    limits = {"membership.lira.tpr_at_1_percent": Decimal("0.03"), "attribute_inference.gain": Decimal("0.1")}
    found = case.decide(older, terms=of_class(max_figures=limits))
    assert codes(found) == [ReasonCode.STALE]
    renewal = next_renewal(older, of_class(max_figures=limits))
    assert renewal is not None
    assert (renewal.owner, renewal.ends) == ("hospital-b", NOW - timedelta(days=30))


def test_newer_report_with_all_figures_takes_the_place_of_the_older_one(case: Case) -> None:
    made = case.bundle(risk_reports=(case.report(), of_b(case, OVER, days=9), of_b(case, GOOD)))
    assert len(latest_reports(made)) == 2
    assert set(RISKS) == set(latest_reports(made)[1].figures)
