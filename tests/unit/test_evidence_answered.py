"""What people have decided on is not asked again, and nothing that is worse is hidden by that."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from governance.audit.entries import EntryKind
from governance.documents import SignedDocument
from governance.evidence.answered import Told, unanswered
from governance.evidence.bundle import EvidenceBundle
from governance.evidence.overtaken import Overtaken, Questions, overtaken_of, questions_of, worst_of
from governance.risk_report import read_risk_report, sign_risk_report
from parties import harness
from parties.arrived_reports import Arrived, is_behind, newer_reports
from parties.cli.output import exit_code
from parties.config import load_party_config
from parties.renewal import reports_put_off
from parties.server.release_watch import ReleaseWatch
from parties.server.statements import take_in
from parties.storage.database import Tables
from privacy.figures import Figure
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef
from tests.support.assessing import APPROVED, DAYS, MORE, NOBODY, Served
from tests.support.evidence import TERMS, Case
from tests.support.evidence_holder import PARTIES, TPR
from tests.support.members import a_world
from tests.support.standing import enrol_assessor

TURN = DAYS * 24 // 6  # hours for which a worse report is put off
AUC = "membership.lira.auc"  # no class limits it, so it counts once people have decided on it
EACH_TIME = f"{APPROVED}\n{MORE.splitlines()[1]}"  # every release takes an officer, a risk that has risen another approval


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(a_world())


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("consortium")
    harness.make_consortium(folder, PARTIES)
    enrol_assessor(folder, "hospital-a", PARTIES)
    return folder


@pytest.fixture
def served(consortium: Path, tmp_path: Path) -> Iterator[Served]:
    made = Served(shutil.copytree(consortium, tmp_path / "consortium"))
    yield made
    made.party.database.close()


# The rule by itself.


class History:
    """What a holder does with the reports of hospital B: it hears of them, makes bundles, and its people decide on some."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.told: list[Told] = []
        self.bundles: list[EvidenceBundle] = []
        self.decided: list[EvidenceBundle] = []
        self.made_before: list[int] = []  # of each decided bundle, how many reports had come

    @property
    def questions(self) -> Questions:
        return questions_of(TERMS, self.decided[-1:])

    def hear(self, tpr: float, auc: float) -> None:
        figures: dict[str, Any] = {TPR.replace(".", "__"): a_figure(tpr), AUC.replace(".", "__"): a_figure(auc)}
        signed = self.case.report("hospital-b", days=0, **figures)
        stated = replace(read_risk_report(signed.document), log_size=len(self.told) + 1)
        before = sum(count <= len(self.told) for count in self.made_before)
        self.told.append(Told(sign_risk_report(stated, self.case.world.hospital_b.signing), stated, before))

    def make(self, left_out: frozenset[bytes] = frozenset()) -> EvidenceBundle:
        taken = [each for each in self.told if each.signed.body not in left_out]
        made = self.case.bundle(risk_reports=(self.case.report(), taken[-1].signed))
        last = self.decided[-1] if self.decided else None
        questions = self.questions
        carried = overtaken_of(
            made,
            last=self.bundles[-1] if self.bundles else None,
            told=unanswered(taken, self.decided, questions),
            decided=last,
            questions=questions,
        )
        self.bundles.append(replace(made, overtaken=carried))
        self._reports = len(self.told)
        return self.bundles[-1]

    def decide(self) -> None:
        """People decide on the last bundle."""
        self.decided.append(self.bundles[-1])
        self.made_before.append(self._reports)


def a_figure(value: float) -> Figure:
    return Figure(value, value - 0.001, value + 0.002)


def is_within(told: SignedDocument, bundles: Iterable[EvidenceBundle], questions: Questions) -> bool:
    """Whether of every figure that the gate asks about these bundles show something as bad, in every place."""
    reports = [signed for each in bundles for signed in (*each.risk_reports, *each.overtaken.risk_reports)]
    shown = worst_of(questions.answered_by(signed) for signed in reports)
    asked = questions.answered_by(told)
    return all(new <= old for key, bad in asked.items() for new, old in zip(bad, shown[key], strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_no_report_is_hidden_and_none_that_stood_in_a_decision_comes_back(case: Case, seed: int) -> None:
    """Until people decide on a bundle made after it came, the newest bundle or the last decision shows something as bad.

    Said without the rule: what stands is looked up after every step, for every report, by figures alone.
    """
    draw = random.Random(seed)
    history, came, seen = History(case), [], set[bytes]()
    for _ in range(40):
        history.hear(draw.choice((0.01, 0.012, 0.02, 0.025, 0.04)), draw.choice((0.5, 0.52, 0.55)))
        came.append(len(history.decided))
        if draw.random() < 0.4:
            continue
        bundle = history.make()
        # Nothing on which people have decided is carried on again.
        assert not seen & {signed.body for signed in bundle.overtaken.risk_reports}
        for told, decisions in zip(history.told, came, strict=True):
            if decisions == len(history.decided):
                assert is_within(told.signed, (*history.decided[-1:], bundle), history.questions)
        if draw.random() < 0.3:
            history.decide()
            seen |= {signed.body for signed in (*bundle.risk_reports, *bundle.overtaken.risk_reports)}


def test_report_that_was_put_off_is_not_answered_by_a_decision_that_did_not_show_it(case: Case) -> None:
    history = History(case)
    for tpr in (0.025, 0.01):  # decided twice, the second time on something better
        history.hear(tpr, 0.5)
        history.make()
        history.decide()
    history.hear(0.02, 0.5)
    waits = history.told[-1].signed
    history.hear(0.01, 0.5)
    history.make(left_out=frozenset({waits.body}))
    history.decide()
    assert history.make().overtaken.risk_reports == (waits,)


def test_report_is_answered_figure_by_figure(case: Case) -> None:
    """What a policy limits only since a decision was no question then."""
    worse = case.report("hospital-b", attribute_inference__gain=Figure(0.3, 0.2, 0.4))
    decided = case.bundle(risk_reports=(case.report(), case.report("hospital-b")))
    now, stated = questions_of(TERMS, [decided]), read_risk_report(worse.document)
    shown = replace(decided, overtaken=Overtaken((worse,), ()))
    for before, answers, questions, left in (
        (0, [decided], now, (worse,)),
        (0, [decided], questions_of(TERMS, ()), ()),
        (0, [shown, decided], now, ()),
        (1, [shown, decided], now, ()),
        (2, [shown, decided], now, (worse,)),  # it came after the second decision
    ):
        assert unanswered([Told(worse, stated, before)], answers, questions) == left


# At a holder that serves.


def approve(served: Served) -> None:
    """Has an officer approve what waits, which carries the release from then on."""
    served.commands.run("model", "evidence", "approve", served.ref.label, person="officer")
    ReleaseWatch(served.party, ended=served.count).look()
    with served.party.database.transaction() as tables:
        assert tables.evidence.latest(served.ref).decided is not None


def begin(served: Served, *, value: float = 0.1) -> None:
    served.change_policy(NOBODY, EACH_TIME)
    made = served.commands.reports(served.ref, value)
    served.commands.run("model", "evidence", "make", served.ref.label, *made, person="steward")
    served.commands.run("model", "evidence", "approve", served.ref.label, person="officer")
    served.commands.run("model", "alias", "set", "diagnosis@released", served.ref.version, person="officer")
    served.order()


def tell(served: Served, value: float, owner: str) -> None:
    """Has an owner state a figure: another one, or this party itself."""
    if owner != "hospital-a":
        served.tell(value, owner=owner)
        return
    _, path = served.commands.reports(served.ref, value, owners=(owner,))
    with served.party.database.transaction() as tables:
        tables.statements.say(SignedDocument.from_bytes(Path(path).read_bytes()), now=served.party.now())


@pytest.mark.parametrize("owner", ["hospital-a", "hospital-b"])
def test_decided_report_is_not_asked_again_after_better_ones(served: Served, owner: str) -> None:
    begin(served)
    tell(served, 0.25, owner)  # told and taken back: no bundle has it, and people saw what was worse
    tell(served, 0.3, owner)
    tell(served, 0.05, owner)
    served.look_after(hours=2)
    approve(served)
    tell(served, 0.049, owner)
    served.look_after(hours=4)
    approve(served)
    tell(served, 0.048, owner)
    served.look_after(hours=6)
    assert (served.verdicts()[-1], served.entries(EntryKind.RELEASE_DECIDED)[-1]["reasons"]) == ("pass", [])
    assert reports_put_off(served.commands.config, served.ref, now=served.party.now()) == ()


@pytest.mark.parametrize("owner", ["hospital-a", "hospital-b"])
def test_rise_since_the_last_decision_is_asked_though_something_worse_was_decided_before(served: Served, owner: str) -> None:
    begin(served)
    tell(served, 0.3, owner)
    served.look_after(hours=2)
    approve(served)
    tell(served, 0.05, owner)
    served.look_after(hours=4)
    approve(served)
    tell(served, 0.2, owner)
    tell(served, 0.04, owner)
    served.look_after(hours=6)
    decided = served.entries(EntryKind.RELEASE_DECIDED)[-1]
    assert (decided["verdict"], decided["reasons"]) == ("needs-officer", ["approvals-missing", "figure-overtaken"])


def test_decided_report_is_not_said_to_wait_in_a_later_turn(served: Served) -> None:
    begin(served)
    served.tell(0.3)
    served.look_after(hours=2)
    approve(served)
    served.tell(0.05)
    served.look_after(hours=3 + TURN)
    approve(served)
    served.tell(0.06)  # a turn begins, in which 0.06 is the worst that was shown
    served.look_after(hours=4 + 2 * TURN)
    assert served.verdicts()[-1] == "needs-officer"
    served.tell(0.07)
    waiting = reports_put_off(served.commands.config, served.ref, now=served.party.now())
    assert [each.told.stated.figures[TPR].value for each in waiting] == [0.07]


# Reports that come late.


def tell_late(served: Served, value: float, *, days: int = 1) -> SignedDocument:
    """Hospital B states something that it measured before what it has stated since."""
    config = load_party_config(served.commands.folder / "hospital-b" / "party.yaml")
    _, path = served.commands.reports(served.ref, value, owners=("hospital-b",))
    stated = read_risk_report(SignedDocument.from_bytes(Path(path).read_bytes()).document)
    signed = sign_risk_report(replace(stated, made=stated.made - timedelta(days=days)), config.folder.member.load_signing_key())
    assert take_in(served.party, signed)
    return signed


@pytest.mark.parametrize("value", [0.3, 0.91], ids=["risen", "over the limit"])
def test_worse_report_that_comes_late_asks_at_once_as_if_it_had_come_in_time(served: Served, value: float) -> None:
    served.change_policy(NOBODY, MORE)
    served.release(value=0.1)
    served.order()
    late = tell_late(served, value)
    served.look_after(hours=2)
    decided = served.entries(EntryKind.RELEASE_DECIDED)[-1]
    assert (decided["verdict"], decided["reasons"]) == ("needs-officer", ["approvals-missing", "figure-overtaken"])
    assert served.stands()  # by the bundle before, as long as that one lasts
    with served.party.database.transaction() as tables:
        made = EvidenceBundle.from_bytes(tables.evidence.latest(served.ref).signed.body)
    assert late in made.overtaken.risk_reports
    assert {report.figures[TPR].value for report in made.assessed} == {0.1}  # it takes the place of nothing
    count = len(served.entries(EntryKind.EVIDENCE_SIGNED))
    served.look_after(hours=4)
    assert len(served.entries(EntryKind.EVIDENCE_SIGNED)) == count  # one bundle waits, not a new one at every look


def test_late_report_over_the_limit_ends_the_release_where_nobody_may_decide(served: Served) -> None:
    served.release(value=0.1)
    served.order()
    tell_late(served, 0.91)
    served.look_after(hours=2)
    assert (served.verdicts()[-1], served.stands(), served.num_ended) == ("blocked", False, 1)


def test_late_report_that_is_no_worse_makes_no_bundle(served: Served) -> None:
    served.release(value=0.1)
    served.order()
    count = len(served.entries(EntryKind.EVIDENCE_SIGNED))
    tell_late(served, 0.1)
    tell_late(served, 0.05, days=2)
    served.look_after(hours=2)
    assert len(served.entries(EntryKind.EVIDENCE_SIGNED)) == count


def test_late_report_waits_for_its_owners_turn_and_is_asked_about_after_it(served: Served) -> None:
    served.change_policy(NOBODY, MORE)
    served.release(value=0.1)
    served.order()
    served.tell(0.2)
    served.look_after(hours=2)
    tell_late(served, 0.3)
    served.look_after(hours=4)
    assert len(reports_put_off(served.commands.config, served.ref, now=served.party.now())) == 1
    approve(served)
    served.look_after(hours=2 + TURN)
    assert served.entries(EntryKind.RELEASE_DECIDED)[-1]["reasons"] == ["approvals-missing", "figure-overtaken"]


def test_evidence_from_before_a_worse_report_lets_nothing_out(served: Served) -> None:
    served.change_policy(NOBODY, MORE)
    made = served.commands.reports(served.ref, 0.1)
    served.commands.run("model", "evidence", "make", served.ref.label, *made, person="steward")
    served.tell(0.1)
    assert served.commands.run("model", "evidence", "show", served.ref.label)["verdict"] == "pass"  # no worse
    late = tell_late(served, 0.95)
    served.tell(0.1)
    shown = served.commands.run("model", "evidence", "show", served.ref.label)
    assert (shown["verdict"], [reason["code"] for reason in shown["reasons"]]) == ("blocked", ["figure-overtaken"])
    blocked = exit_code(ConfideError(ErrorCode.EVIDENCE_MISSING, ""))
    served.commands.run("model", "alias", "set", "diagnosis@released", served.ref.version, person="officer", code=blocked)
    found = served.commands.run("model", "evidence", "make", served.ref.label, *made, person="steward")
    assert found["verdict"] == "needs-officer"
    with served.party.database.transaction() as tables:
        bundle = EvidenceBundle.from_bytes(tables.evidence.latest(served.ref).signed.body)
    assert bundle.overtaken.risk_reports == (late,)
    served.commands.run("model", "evidence", "approve", served.ref.label, person="officer")
    served.commands.run("model", "alias", "set", "diagnosis@released", served.ref.version, person="officer")


def test_report_that_waits_for_its_turn_keeps_nothing_from_being_released(served: Served) -> None:
    """Else an owner that states a slightly worse figure each hour would keep everybody from setting the alias."""
    begin(served)
    served.tell(0.2)
    served.look_after(hours=2)
    approve(served)
    served.tell(0.3)
    assert len(reports_put_off(served.commands.config, served.ref, now=served.party.now())) == 1
    with served.party.database.transaction() as tables:
        asked: dict[str, Any] = {"party": "hospital-a", "policy": served.party.policy, "directory": served.party.directory}
        assert not is_behind(tables, served.ref, **asked, now=served.party.now())
        later = served.party.now() + timedelta(hours=TURN)
        assert is_behind(tables, served.ref, **asked, now=later)


def test_what_was_told_is_read_again_only_when_something_has_changed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It grows with each report, and every look would hold up whoever writes."""
    served.release(value=0.1)
    served.order()
    read: list[ModelRef] = []

    def counted(tables: Tables, ref: ModelRef, **asked: Any) -> Arrived:
        read.append(ref)
        return newer_reports(tables, ref, **asked)

    monkeypatch.setattr("parties.server.assessments.newer_reports", counted)
    for minutes in (0, 1, 2):
        served.look_after(hours=2, minutes=minutes)
    assert len(read) == 1
    served.tell(0.1)
    served.look_after(hours=2, minutes=3)
    assert len(read) == 2
    count = len(served.entries(EntryKind.EVIDENCE_SIGNED))
    served.look_after(hours=4)
    served.look_after(hours=5, minutes=1)  # an hour later though nothing has changed
    served.look_after(hours=4, minutes=30)  # by a clock that was set back
    assert len(read) == 5
    assert len(served.entries(EntryKind.EVIDENCE_SIGNED)) == count
