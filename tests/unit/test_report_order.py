"""Which of an owner's reports is the last: the same one at every party, whatever their clocks and the order of arrival."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import pytest

from governance.documents import SignedDocument
from governance.evidence.gate import latest_reports
from governance.risk_report import read_risk_report, sign_risk_report
from parties.storage.evidence import EvidenceRecord
from parties.told_reports import told_reports
from privacy.figures import Figure
from tests.support.databases import a_database
from tests.support.evidence import REF, RISKS, Case
from tests.support.jobs import CREATED
from tests.support.members import a_world
from tests.support.people import NOW

TPR = "membership.lira.tpr_at_1_percent"
USED = ("hospital-a/hearts/1", "hospital-b/hearts/1")


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(a_world())


def of_b(case: Case, value: float, *, log_size: int) -> SignedDocument:
    """Hospital B's report, all of one second."""
    stated = read_risk_report(case.report("hospital-b").document)
    figures = RISKS | {TPR: Figure(value, value, value)}
    stated = replace(stated, report=replace(stated.report, figures=figures), log_size=log_size)
    return sign_risk_report(stated, case.world.hospital_b.signing)


def test_of_reports_of_one_second_that_of_the_longer_log_stands_wherever_it_is(case: Case) -> None:
    reports = [of_b(case, value, log_size=size) for value, size in ((0.02, 9), (0.01, 11), (0.03, 10))]
    for order in permutations(reports):
        bundle = case.bundle(risk_reports=(case.report(), *order))
        (last,) = [report for report in latest_reports(bundle) if report.owner == "hospital-b"]
        assert last.figures[TPR].value == 0.01


@pytest.mark.parametrize("clock", [timedelta(0), timedelta(hours=-2)], ids=["one-second", "set-back"])
def test_reports_are_told_in_the_order_of_the_log_of_their_owner(case: Case, tmp_path: Path, clock: timedelta) -> None:
    """A party that heard of the second one first, or whose clock was set back in between, takes none but it for the last."""
    first, second = of_b(case, 0.02, log_size=9), of_b(case, 0.01, log_size=11)
    for place, heard in enumerate(((first, second), (second, first))):
        database = a_database(tmp_path / f"{place}.sqlite")
        with database.transaction() as tables:
            for step, signed in enumerate(heard):
                tables.statements.hear(signed, now=NOW + step * clock)
            assert list(tables.statements.heard(signed.kind)) == list(heard)  # as they arrived, whatever the clock says
            told = list(told_reports(tables, REF, party="hospital-a", used=USED, now=NOW))
        assert [report.stated.log_size for report in told] == [9, 11]
        database.close()


def test_decision_that_a_clock_ahead_dated_later_is_not_the_last_for_ever(case: Case, tmp_path: Path) -> None:
    """Decisions are counted: which one was last follows from their order, and from no clock."""
    database = a_database(tmp_path / "party.sqlite")
    bundles = [case.bundle(time=NOW - timedelta(days=days)) for days in (3, 2, 1)]
    ahead = datetime(2036, 1, 1, tzinfo=UTC)
    with database.transaction() as tables:
        for bundle in bundles:
            tables.evidence.add(EvidenceRecord(bundle.digest, REF, case.signed(bundle), CREATED))
        for bundle, now in zip((bundles[0], bundles[2], bundles[1]), (ahead, CREATED, CREATED), strict=True):
            tables.evidence.mark_released(bundle.digest, now=now)
            tables.evidence.mark_decided(bundle.digest)
        tables.evidence.mark_decided(bundles[0].digest)  # the first time stays
        last = tables.evidence.last_decided(REF.name)
    database.close()
    assert last is not None
    assert last.digest == bundles[1].digest
