"""How often one owner may have people asked, and what waits for no turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from governance.documents import SignedDocument
from governance.evidence.approved import shown_by
from governance.evidence.bundle import EvidenceBundle
from governance.evidence.overtaken import Overtaken, questions_of
from governance.evidence.turns import Turn, is_put_off, put_off, turn_length, turn_of
from governance.policy.release import ReleaseTerms
from governance.risk_report import StatedRisk, read_risk_report
from privacy.figures import Figure
from tests.support.evidence import CLASS, RISKS, TERMS, Case
from tests.support.members import a_world
from tests.support.people import NOW

TPR, AUC = "membership.lira.tpr_at_1_percent", "membership.lira.auc"
SEEN = RISKS[TPR]  # 0.012 from 0.008 to 0.018, under a limit of 0.03
LENGTH = turn_length(CLASS.max_age_days)
NOTHING_DECIDED = questions_of(TERMS, ())


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(a_world())


def bundle(case: Case, figure: Figure = SEEN, *, days: int = 1) -> EvidenceBundle:
    """One with this figure of hospital B."""
    return case.bundle(risk_reports=(case.report(), of_b(case, {TPR: figure}, days=days)))


def of_b(case: Case, figures: Mapping[str, Figure], *, days: int = 0) -> SignedDocument:
    """Hospital B's report with these figures beside the usual ones."""
    changed: dict[str, Any] = {name.replace(".", "__"): figure for name, figure in figures.items()}
    return case.report("hospital-b", days=days, **changed)


def report(case: Case, figures: Mapping[str, Figure]) -> StatedRisk:
    return read_risk_report(of_b(case, figures).document)


def turn(kept: list[tuple[datetime, EvidenceBundle]], *, now: datetime = NOW, owner: str = "hospital-b") -> Turn | None:
    shown = [(made, shown_by(each, NOTHING_DECIDED)) for made, each in kept]
    return turn_of(shown, owner, length=LENGTH, now=now)


@pytest.mark.parametrize(("days", "hours"), [(1, 4), (30, 120), (3650, 168)])
def test_turn_is_over_before_the_evidence_is_too_old(days: int, hours: int) -> None:
    assert turn_length(days) == timedelta(hours=hours)
    # Assessments are repeated at two thirds of the age.
    assert timedelta(days=days) * 2 / 3 + turn_length(days) < timedelta(days=days)


def test_turn_begins_with_the_bundle_that_goes_further_and_ends_by_itself(case: Case) -> None:
    first, worse = (NOW - timedelta(days=9), bundle(case)), (NOW - timedelta(days=1), bundle(case, Figure(0.02, 0.01, 0.028)))
    assert turn([first]) is None
    found = turn([first, worse])
    assert found is not None
    assert found.until == worse[0] + LENGTH
    assert turn([first, worse], owner="hospital-a") is None
    assert turn([first, worse], now=found.until) is None
    assert turn([first, (NOW + timedelta(hours=1), worse[1])]) is None  # by a clock that was ahead


def test_no_better_report_and_no_creep_moves_the_turn(case: Case) -> None:
    """What is shown is anchored: steps within the interval of the last step are no way around it."""
    steps = [Figure(0.012 + 0.0029 * hour, 0.008, 0.018 + 0.0029 * hour) for hour in range(6)]
    kept = [(NOW - timedelta(hours=9 - hour), bundle(case, figure)) for hour, figure in enumerate(steps)]
    found = turn([(NOW - timedelta(days=9), bundle(case)), *kept])
    assert found is not None
    # The third step is beyond 0.018, the end of the first interval; the fourth and the fifth are within its own.
    assert found.until == NOW - timedelta(hours=6) + LENGTH
    assert found.shown["hospital-b", TPR][0] == steps[3].value


STEP = Figure(0.02, 0.01, 0.024)


@pytest.mark.parametrize(
    ("figures", "waits"),
    [
        ({TPR: Figure(0.025, 0.02, 0.028)}, True),  # worse, and under the limit
        ({TPR: Figure(0.02, 0.01, 0.024)}, False),
        ({TPR: Figure(0.001, 0.0, 0.002)}, False),
        ({TPR: Figure(0.025, 0.02, 0.031)}, False),  # its interval reaches over the limit
        ({TPR: Figure(0.04, 0.02, 0.06)}, False),
        ({AUC: Figure(0.6, 0.55, 0.65)}, True),  # no class limits it
        ({"membership.rmia.auc": Figure(0.6, 0.55, 0.65)}, True),
        ({"membership.x7.auc": Figure(0.9, 0.8, 0.95)}, False),  # nobody is asked about it
        ({"membership.rmia.tpr_at_1_percent": Figure(0.06, 0.051, 0.07)}, False),  # above what the guarantee allows
        ({"capacity.excess": Figure(0.02, 0.01, 0.03)}, False),
    ],
)
def test_report_waits_if_it_goes_further_and_crosses_no_limit(case: Case, figures: dict[str, Figure], waits: bool) -> None:
    last = bundle(case, STEP)
    found = turn([(NOW - timedelta(days=9), bundle(case)), (NOW - timedelta(days=1), last)])
    assert found is not None
    said = report(case, {TPR: STEP, **figures})
    assert is_put_off(said, found, last, questions=NOTHING_DECIDED, terms=TERMS) is waits


def test_report_that_renews_what_is_nearly_too_old_does_not_wait(case: Case) -> None:
    last = bundle(case, STEP, days=27)  # three days are left of it, and five of the turn
    found = turn([(NOW - timedelta(days=9), bundle(case)), (NOW - timedelta(hours=1), last)])
    assert found is not None
    worse = report(case, {TPR: Figure(0.025, 0.02, 0.028)})
    assert not is_put_off(worse, found, last, questions=NOTHING_DECIDED, terms=TERMS)
    as_old = replace(worse, made=worse.made - timedelta(days=26))
    assert is_put_off(as_old, found, last, questions=NOTHING_DECIDED, terms=TERMS)
    limits = {"attribute_inference.gain": Decimal("0.1")}
    other = ReleaseTerms({"confidential": replace(CLASS, max_figures=limits)}, "confidential")
    only = replace(worse, report=replace(worse.report, figures={TPR: Figure(0.025, 0.02, 0.028)}))
    assert is_put_off(only, found, last, questions=NOTHING_DECIDED, terms=other)  # it renews nothing of that


WORSE = Figure(0.025, 0.02, 0.028)


def in_a_turn(case: Case, last: EvidenceBundle) -> Turn:
    found = turn([(NOW - timedelta(days=9), bundle(case)), (NOW - timedelta(days=1), last)])
    assert found is not None
    return found


def test_report_over_the_limit_does_not_wait_because_an_earlier_one_was_over_it_too(case: Case) -> None:
    """People decided on that one when it was out; what would stand again is blocked at once."""
    over = of_b(case, {TPR: Figure(0.04, 0.02, 0.05)}, days=2)
    last = case.bundle(risk_reports=(case.report(), of_b(case, {TPR: STEP}, days=1)), overtaken=Overtaken((over,), ()))
    said = report(case, {TPR: Figure(0.06, 0.05, 0.07)})
    assert not is_put_off(said, in_a_turn(case, last), last, questions=NOTHING_DECIDED, terms=TERMS)


def test_nothing_waits_where_nobody_could_approve_it(case: Case) -> None:
    """A risk that has risen is blocked then: to wait for people would keep the release standing for nothing."""
    last, said = bundle(case, STEP), report(case, {TPR: WORSE})
    assert is_put_off(said, in_a_turn(case, last), last, questions=NOTHING_DECIDED, terms=TERMS)
    nobody = ReleaseTerms({"confidential": replace(CLASS, more_approvals=None)}, "confidential")
    assert not is_put_off(said, in_a_turn(case, last), last, questions=NOTHING_DECIDED, terms=nobody)


def test_attack_above_the_guarantee_by_a_name_of_its_own_does_not_wait_for_a_worse_figure_beside_it(case: Case) -> None:
    last = bundle(case, STEP)
    said = report(case, {TPR: WORSE, "membership.x7.tpr_at_1_percent": Figure(0.06, 0.051, 0.07)})
    assert not is_put_off(said, in_a_turn(case, last), last, questions=NOTHING_DECIDED, terms=TERMS)


def test_later_reports_of_an_owner_wait_with_the_one_that_was_put_off(case: Case) -> None:
    """Else one that pleases would take its place, and nobody would be asked about it after the turn."""
    last = bundle(case, STEP)
    worse, pleasing = report(case, {TPR: WORSE}), report(case, {TPR: Figure(0.01, 0.005, 0.015)})
    pleasing = replace(pleasing, made=worse.made + timedelta(seconds=1))
    over = replace(report(case, {TPR: Figure(0.04, 0.02, 0.06)}), made=worse.made + timedelta(seconds=2))

    def waiting(*reports: StatedRisk, answered: tuple[StatedRisk, ...] = ()) -> tuple[StatedRisk, ...]:
        return put_off(reports, in_a_turn(case, last), last, answered=answered, questions=NOTHING_DECIDED, terms=TERMS)

    assert waiting(pleasing) == ()
    assert waiting(worse, pleasing) == (worse, pleasing)
    assert waiting(worse, pleasing, over) == ()  # people are asked at once, and see all of it
    before = replace(worse, made=worse.made - timedelta(days=3))
    assert waiting(before, pleasing) == (before,)  # older than what stands: it takes nothing's place
    # What people have decided on waits for nobody, but for one before it that does.
    assert waiting(before, worse, answered=(before, worse)) == ()
    assert waiting(worse, pleasing, answered=(pleasing,)) == (worse, pleasing)
