"""Assessments that a party repeats by itself: when, in what order of steps, what a crash leaves, and who ends them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from governance.audit.entries import EntryKind
from governance.documents import DocumentKind, SignedDocument
from governance.evidence.bundle import EvidenceBundle
from governance.evidence.overtaken import NOTHING
from governance.evidence.standing import StandingAssessment
from governance.risk_report import read_risk_report, sign_risk_report
from parties import harness
from parties.cli.main import app
from parties.cli.output import exit_code
from parties.config import load_party_config
from parties.evidence import judge_evidence
from parties.operating.doctor import examine
from parties.operating.finding import Verdict
from parties.renewal import reports_put_off
from parties.server.release_watch import ReleaseWatch
from parties.server.statements import take_in
from privacy.figures import Figure
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job
from protocols.session.states import State
from tests.support.assessing import DAYS, DUE, LIMIT, MORE, NOBODY, ROOM, Served
from tests.support.evidence_holder import PARTIES, TPR
from tests.support.jobs import a_dataset
from tests.support.standing import ASSESSOR, MEMBERS, OTHERS, TOLD, enrol_assessor

TURN = DAYS * 24 // 6  # hours for which a worse report is put off


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


def test_assessment_that_is_due_is_repeated_stated_and_carries_the_release_on(served: Served) -> None:
    served.release()
    told = served.order()
    assert served.look_after(days=DUE - 1) == []
    assert served.look_after(days=DUE, minutes=1) == ["under-way"]
    assert served.look_after(days=DUE, minutes=2) == ["under-way"]  # one at a time
    (job,) = served.network.submitted
    served.network.end(job)
    assert served.look_after(days=DUE, minutes=3) == ["done"]
    with served.party.database.transaction() as tables:
        (said,) = tables.statements.own(DocumentKind.RISK_REPORT, party="hospital-a")
        bundles = [record for record in tables.evidence.of_model("diagnosis") if record.released is not None]
    report = read_risk_report(said.document)
    assert (report.owner, report.ref) == ("hospital-a", served.ref)
    assert report.made == served.begun + timedelta(days=DUE, minutes=2)  # when it ended, not when it was collected
    assert report.datasets == (f"hospital-a/{MEMBERS}/1", f"hospital-a/{OTHERS}/1")
    assert len(bundles) == 2  # the gate has passed the new one
    assert served.entries(EntryKind.RELEASE_DECIDED)[-1]["verdict"] == "pass"
    steps = [(entry["step"], entry["job"]) for entry in served.entries(EntryKind.STANDING_ASSESSMENT)[1:]]
    assert steps == [("submitted", job.job_id), ("done", job.job_id)]
    assessed = served.entries(EntryKind.RISK_ASSESSED)[-1]
    signed = served.entries(EntryKind.EVIDENCE_SIGNED)[-1]
    assert assessed["order"] == told["order"]
    assert (
        assessed["authorisation"] == signed["authorisation"] == served.entries(EntryKind.STANDING_ASSESSMENT)[0]["authorisation"]
    )
    assert served.stands()
    assert served.look_after(days=DUE, minutes=4) == ["done"]
    assert served.look_after(days=2 * DUE, minutes=4) == ["done", "under-way"]


def test_release_whose_other_owners_do_not_assess_ends_as_before(served: Served) -> None:
    served.release()
    served.order()
    served.repeat(days=DUE, minutes=1)
    releases = ReleaseWatch(served.party, ended=served.count)
    served.party.clock[0] = served.begun + timedelta(days=DAYS, hours=-1)
    releases.look()
    assert served.stands()
    served.party.clock[0] = served.begun + timedelta(days=DAYS, hours=1)
    releases.look()
    assert not served.stands()  # hospital C's report is too old


def test_worse_figure_withdraws_the_release_with_its_reason(served: Served) -> None:
    served.release()
    served.order()
    served.network.opened = TOLD
    assert served.repeat(days=DUE, minutes=1) == ["done"]
    assert not served.stands()
    decided = served.entries(EntryKind.RELEASE_DECIDED)[-1]
    assert (decided["verdict"], "figure-over-the-limit" in decided["reasons"]) == ("blocked", True)
    assert served.entries(EntryKind.ALIAS)[-1]["move"] == "fall"
    assert served.num_ended == 1
    assert served.look_after(days=2 * DUE, hours=1) == ["done"]  # nothing is released, so nothing is assessed
    assert served.commands.run("model", "assessment", "list")["orders"][0]["due"] is None


def test_risen_figure_waits_for_an_officer_and_the_release_stands_meanwhile(served: Served) -> None:
    served.change_policy(NOBODY, MORE)
    served.release(value=0.001)
    served.order()
    assert served.repeat(days=DUE, minutes=1) == ["done"]
    assert served.stands()
    decided = served.entries(EntryKind.RELEASE_DECIDED)[-1]
    assert (decided["verdict"], decided["reasons"]) == ("needs-officer", ["approvals-missing", "risk-has-risen"])
    made = len(served.entries(EntryKind.EVIDENCE_SIGNED))
    served.look_after(days=DUE, minutes=5)
    assert len(served.entries(EntryKind.EVIDENCE_SIGNED)) == made  # one bundle waits, not a new one at every look
    served.commands.run("model", "evidence", "approve", served.ref.label, person="officer")
    ReleaseWatch(served.party, ended=served.count).look()
    assert served.stands()


def test_crash_between_keeping_and_submitting_leaves_one_job(served: Served) -> None:
    served.release()
    served.order()
    served.network.submit = None  # type: ignore[assignment,method-assign] # the process ends here
    with pytest.raises(TypeError):
        served.look_after(days=DUE, minutes=1)
    del served.network.submit
    assert served.states() == ["under-way"]
    assert served.look_after(served.another_process(), days=DUE, minutes=2) == ["under-way"]
    (job,) = served.network.submitted
    assert job.created == served.begun + timedelta(days=DUE, minutes=1)
    served.network.end(job)
    assert served.look_after(served.another_process(), days=DUE, minutes=3) == ["done"]


def test_job_that_is_too_old_to_submit_is_given_up_and_another_one_made_later(served: Served) -> None:
    served.release()
    served.order()
    served.network.submit = None  # type: ignore[assignment,method-assign]
    with pytest.raises(TypeError):
        served.look_after(days=DUE, minutes=1)
    del served.network.submit
    later = served.another_process()
    assert served.look_after(later, days=DUE, minutes=12) == ["refused"]
    assert served.look_after(later, days=DUE, hours=5) == ["refused"]
    assert served.look_after(later, days=DUE, hours=7) == ["refused", "under-way"]


def test_party_that_was_down_repeats_once_when_it_is_back(served: Served) -> None:
    served.release()
    served.order(every=1)
    assert served.look_after(days=8) == ["under-way"]
    served.network.end(served.network.submitted[-1])
    assert served.look_after(days=8) == ["done"]
    assert served.look_after(days=8, hours=23) == ["done"]
    assert served.look_after(days=9, minutes=1) == ["done", "under-way"]


@pytest.mark.parametrize("where", ["unprepared", "refusal"])
def test_refused_run_is_logged_and_shown_with_its_reasons_and_tried_again(served: Served, where: str) -> None:
    served.release()
    served.order(runs=1)
    problem = Problem("grants", "hospital-a/patients: used 5 times of 5", "ask the owner for a new one")
    setattr(served.network, where, ConfideError(ErrorCode.GRANT_EXHAUSTED, "hospital-b refuses the job", problems=[problem]))
    served.look_after(days=DUE, minutes=1)
    assert served.look_after(days=DUE, minutes=4) == ["refused"]
    assert "used 5 times of 5" in served.runs()[0]["what"]
    noted = served.entries(EntryKind.STANDING_ASSESSMENT)[-1]
    assert (noted["step"], "GRANT_EXHAUSTED" in noted["what"]) == ("refused", True)
    finding = next(each for each in examine(served.party.config, now=served.begun) if each.check == "assessments")
    assert (finding.verdict, "used 5 times of 5" in finding.what) == (Verdict.WARN, True)
    setattr(served.network, where, None)
    assert served.look_after(days=DUE, hours=5) == ["refused"]
    assert served.repeat(days=DUE, hours=7) == ["refused", "done"]  # a refused run does not count


def test_job_that_others_bring_after_its_submission_failed_is_followed_and_counts(served: Served) -> None:
    served.release()
    served.order(runs=1)
    served.network.refusal = ConfideError(ErrorCode.PARTY_UNREACHABLE, "hospital-a did not answer in time")
    assert served.look_after(days=DUE, minutes=1) == ["under-way"]
    assert served.look_after(days=DUE, minutes=2) == ["under-way"]  # who has it may still tell this party
    (job,) = served.network.submitted
    served.network.refusal = None
    served.network.submit(job)
    served.network.end(job)
    assert served.look_after(days=DUE, minutes=3) == ["done"]
    assert served.commands.run("model", "assessment", "list")["orders"][0]["runs_left"] == 0


@pytest.mark.parametrize(
    ("state", "shown"),
    [(State.EXPIRED, "refused"), (State.ABORTED, "failed")],
)
def test_job_that_did_not_complete_states_nothing(served: Served, state: State, shown: str) -> None:
    served.release()
    served.order()
    served.look_after(days=DUE, minutes=1)
    served.network.end(served.network.submitted[-1], state, code="PEER_SILENT", cause="hospital-b fell silent")
    assert served.look_after(days=DUE, minutes=2) == [shown]
    assert served.runs()[0]["what"] == "PEER_SILENT: hospital-b fell silent"
    assert served.entries(EntryKind.RISK_ASSESSED) == []


def test_counts_that_cannot_be_had_yet_are_asked_for_again_and_given_up_after_a_day(served: Served) -> None:
    served.release()
    served.order()
    served.look_after(days=DUE, minutes=1)
    served.network.end(served.network.submitted[-1])
    served.network.lost = ConfideError(ErrorCode.PARTY_UNREACHABLE, "hospital-b cannot be reached")
    assert served.look_after(days=DUE, minutes=2) == ["under-way"]
    assert served.look_after(days=DUE + 1, minutes=40) == ["failed"]
    assert "hospital-b cannot be reached" in served.runs()[0]["what"]


@pytest.mark.parametrize("person", ["steward", "officer"])
def test_order_is_ended_at_once_and_what_is_under_way_is_not_used(served: Served, person: str) -> None:
    served.release()
    told = served.order()
    served.look_after(days=DUE, minutes=1)
    (job,) = served.network.submitted
    served.commands.run("model", "assessment", "end", told["order"][:12], person=person)
    served.network.end(job)
    assert served.look_after(days=DUE, minutes=2) == ["failed"]
    assert served.network.cancelled == [job.job_id]
    assert served.entries(EntryKind.RISK_ASSESSED) == []
    assert served.look_after(days=DUE + 3) == ["failed"]
    again = served.commands.run(
        "model", "assessment", "end", told["order"], person=person, code=exit_code(ConfideError(ErrorCode.JOB_CONFLICT, ""))
    )
    assert again["code"] == "JOB_CONFLICT"


def test_operator_neither_orders_nor_ends(served: Served) -> None:
    served.release()
    denied = exit_code(ConfideError(ErrorCode.NOT_AUTHORISED, ""))
    assert served.order(person="operator", code=denied)["code"] == "NOT_AUTHORISED"
    told = served.order()
    assert (
        served.commands.run("model", "assessment", "end", told["order"], person="operator", code=denied)["code"]
        == "NOT_AUTHORISED"
    )


def test_order_ends_with_its_time_and_when_its_person_may_not_any_more(served: Served) -> None:
    served.release()
    served.order(days=5)
    assert served.look_after(days=5) == []
    (ended,) = served.commands.run("model", "assessment", "list")["orders"]
    assert (ended["why"], ended["due"]) == ("its time is over", None)
    served.order()
    served.change_policy("roles: [data-steward]", "roles: [auditor]")
    assert served.look_after(days=DUE + 1) == []
    assert "may not order assessment" in served.commands.run("model", "assessment", "list")["orders"][1]["why"]


@pytest.mark.parametrize("ends", ["person", "time"])
def test_order_that_ends_by_itself_while_a_run_is_under_way_states_nothing(served: Served, ends: str) -> None:
    served.release()
    served.order(days=DUE + 1)
    served.look_after(days=DUE, minutes=1)
    (job,) = served.network.submitted
    served.network.end(job)
    later = {"days": DUE, "minutes": 2} if ends == "person" else {"days": DUE + 1, "minutes": 0}
    if ends == "person":
        served.change_policy("roles: [data-steward]", "roles: [auditor]")
    assert served.look_after(**later) == ["failed"]
    assert served.network.cancelled == [job.job_id]
    assert served.entries(EntryKind.RISK_ASSESSED) == []


def test_report_that_could_not_renew_the_evidence_puts_no_assessment_off(served: Served) -> None:
    served.release()
    served.order()
    with served.party.database.transaction() as tables:
        (before,) = [each for each in tables.evidence.latest(served.ref).signed.document["risk_reports"] if "hospital-a/" in each]
        report = read_risk_report(SignedDocument.from_bytes(str(before).encode()).document)
        newer = replace(report, made=served.begun + timedelta(days=3))
        other_rows = replace(newer, datasets=(f"hospital-a/{OTHERS}/1",))
        figures = {"membership.rmia.auc": Figure(0.5, 0.5, 0.5)}
        other_attack = replace(newer, report=replace(newer.report, figures=figures))
        for each in (other_rows, other_attack):
            tables.statements.say(sign_risk_report(each, served.party.member.signing_key), now=served.begun)
    assert served.look_after(days=DUE, minutes=1) == ["under-way"]


def test_defect_in_one_order_keeps_no_other_waiting(served: Served) -> None:
    served.release()
    served.order()
    first = served.turn_to_another_model()
    prepare = served.network.prepare

    def broken(order: StandingAssessment, now: datetime) -> Job:
        if order.ref == first:
            raise ValueError("a defect of ours")
        return prepare(order, now)

    served.network.prepare = broken  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="a defect of ours"):
        served.look_after(days=DUE, minutes=1)
    assert served.states() == ["under-way"]
    assert [job.model_ref for job in served.network.submitted] == [served.ref]


def test_no_more_runs_than_were_ordered(served: Served) -> None:
    served.release()
    served.order(runs=1)
    assert served.repeat(days=DUE, minutes=1) == ["done"]
    assert served.look_after(days=8) == ["done"]
    (order,) = served.commands.run("model", "assessment", "list")["orders"]
    assert (order["runs_left"], order["due"]) == (0, None)


def test_newer_rows_than_the_version_was_trained_on_are_not_assessed_in_their_place(served: Served) -> None:
    served.release()
    served.order()
    served.network.version = 2
    assert served.look_after(days=DUE, minutes=1) == ["refused"]
    assert served.runs()[0]["what"].startswith(f"hospital-a/{MEMBERS}/2 has come after what {served.ref.label}")
    assert served.network.submitted == []


def test_report_that_another_owner_told_renews_the_evidence_too(served: Served) -> None:
    served.release()
    served.order()
    served.look_after(hours=1)
    made = len(served.entries(EntryKind.EVIDENCE_SIGNED))
    _, path = served.commands.reports(served.ref, 0.4, owners=("hospital-b",))
    signed = SignedDocument.from_bytes(Path(path).read_bytes())
    assert take_in(served.party, signed)
    served.look_after(minutes=50)
    assert len(served.entries(EntryKind.EVIDENCE_SIGNED)) == made  # nobody makes a holder sign bundle after bundle
    served.look_after(hours=2)
    assert len(served.entries(EntryKind.EVIDENCE_SIGNED)) == made + 1
    with served.party.database.transaction() as tables:
        bundle = tables.evidence.latest(served.ref)
    assert signed.to_bytes().decode() in bundle.signed.document["risk_reports"]
    assert served.stands()
    served.look_after(hours=3)
    assert len(served.entries(EntryKind.EVIDENCE_SIGNED)) == made + 1


def test_report_without_a_figure_that_the_policy_limits_renews_nothing(served: Served) -> None:
    served.release()
    served.order()
    served.change_policy(f"{TPR}: {ROOM}", f"attribute_inference.gain: {ROOM}")
    made = len(served.entries(EntryKind.EVIDENCE_SIGNED))
    _, path = served.commands.reports(served.ref, 0.4, owners=("hospital-b",))
    assert take_in(served.party, SignedDocument.from_bytes(Path(path).read_bytes()))
    served.look_after(hours=2)
    assert len(served.entries(EntryKind.EVIDENCE_SIGNED)) == made
    assert served.states() == ["refused"]  # at once: by the policy of now, the last report is none that evidence can rest on
    assert served.runs()[0]["what"] == "the policy limits attribute_inference.gain, which it does not measure"


def unknown_figure(served: Served) -> dict[str, Any]:
    return {"attack": "rmia"}


def few_shadows(served: Served) -> dict[str, Any]:
    return {"shadows": 63}


def strange_members(served: Served) -> dict[str, Any]:
    return {"members": [f"hospital-a/{OTHERS}"]}


def part_of_the_rows(served: Served) -> dict[str, Any]:
    served.ref = served.commands.keep("2b", datasets=(a_dataset(), a_dataset(name="more-patients")))
    return {}


def other_purpose(served: Served) -> dict[str, Any]:
    return {"purpose": "advertising"}


def no_agreement(served: Served) -> dict[str, Any]:
    return {"agreement": None}


@pytest.mark.parametrize(
    ("change", "days", "words"),
    [
        (unknown_figure, 25, f"the policy limits {TPR}, which it does not measure"),
        (few_shadows, 25, "it trains 63 shadow models, and the policy takes a report of 64 or more"),
        (strange_members, 25, f"hospital-a/{OTHERS} did not go into"),
        (part_of_the_rows, 25, "hospital-a/more-patients went into"),
        (other_purpose, 25, "not one of the agreement's"),
        (no_agreement, 25, "an assessment that is repeated names it"),
        (lambda served: {}, 40, "the agreement harness ends at"),
    ],
    ids=["figure", "shadows", "members", "part", "purpose", "agreement", "until"],
)
def test_order_that_could_never_serve_the_gate_is_refused(served: Served, change: Any, days: int, words: str) -> None:
    served.release()
    said = served.order(days=days, code=exit_code(ConfideError(ErrorCode.INVALID_ARGUMENT, "")), **change(served))
    assert (said["code"], any(words in problem["what"] for problem in said["problems"])) == ("INVALID_ARGUMENT", True)
    assert served.commands.run("model", "assessment", "list")["orders"] == []


def test_second_order_about_a_version_and_one_without_a_researcher_are_refused(served: Served) -> None:
    served.release()
    served.order()
    assert served.order(every=29, code=exit_code(ConfideError(ErrorCode.JOB_CONFLICT, "")))["code"] == "JOB_CONFLICT"
    file = served.commands.folder / "hospital-a" / "party.yaml"
    text = file.read_text()
    file.write_text(text.replace(f"assessor: ../{ASSESSOR}/researcher.yaml\n", ""))
    assert served.order(code=exit_code(ConfideError(ErrorCode.INVALID_CONFIG, "")))["code"] == "INVALID_CONFIG"
    file.write_text(text.replace(ASSESSOR + "/", "researcher/"))  # of no institution
    assert "is no researcher of hospital-a" in served.order(code=exit_code(ConfideError(ErrorCode.INVALID_CONFIG, "")))["what"]


def ask_about_a_rise(served: Served, released: float, told: float) -> None:
    """Releases a version under one figure and orders its assessment; two hours later another figure has people asked."""
    served.change_policy(NOBODY, MORE)
    served.release(value=released)
    served.order()
    served.tell(told)
    served.look_after(hours=2)


def test_figure_that_waits_for_an_officer_is_not_answered_by_a_later_one_that_pleases(served: Served) -> None:
    ask_about_a_rise(served, 0.001, 0.4)
    assert served.verdicts()[-1] == "needs-officer"
    for hours in (4, 6, 8):
        served.tell(0.001 - hours / 10_000)  # measured until it is as low as it ever was, and lower
        served.look_after(hours=hours)
        assert (served.verdicts()[-1], served.stands()) == ("needs-officer", True)
    assert served.entries(EntryKind.RELEASE_DECIDED)[-1]["reasons"] == ["approvals-missing", "figure-overtaken"]
    # The version stands by the bundle before, and no longer than that one lasts.
    releases = ReleaseWatch(served.party, ended=served.count)
    served.party.clock[0] = served.begun + timedelta(days=DAYS, hours=1)
    releases.look()
    assert not served.stands()


def test_figure_that_is_told_and_taken_back_within_the_hour_asks_an_officer_too(served: Served) -> None:
    served.change_policy(NOBODY, MORE)
    served.release(value=0.001)
    served.order()
    served.tell(0.4)
    served.tell(0.0005)
    served.look_after(hours=2)
    assert served.entries(EntryKind.RELEASE_DECIDED)[-1]["reasons"] == ["approvals-missing", "figure-overtaken"]


def test_officer_who_has_approved_is_not_asked_again_for_what_is_no_worse(served: Served) -> None:
    ask_about_a_rise(served, 0.001, 0.4)
    served.commands.run("model", "evidence", "approve", served.ref.label, person="officer")
    for hours, value in ((4, 0.4), (6, 0.39), (8, 0.4)):  # a report every hour voids nothing
        served.tell(value - hours / 1_000_000)
        served.look_after(hours=hours)
        assert served.verdicts()[-1] == "pass"
    served.tell(0.41)
    served.look_after(hours=2 + TURN)
    assert served.entries(EntryKind.RELEASE_DECIDED)[-1]["reasons"] == ["approvals-missing", "risk-has-risen"]


def test_owner_that_states_a_slightly_worse_figure_each_hour_keeps_nobody_from_approving(served: Served) -> None:
    """People are asked once for each turn of hers, and what they approve holds until it is over."""
    ask_about_a_rise(served, 0.1, 0.2)
    assert served.verdicts()[-1] == "needs-officer"
    made = len(served.entries(EntryKind.EVIDENCE_SIGNED))
    for hours in range(3, 9):
        served.tell(0.2 + hours / 1_000)
        served.look_after(hours=hours)
    waiting = reports_put_off(served.commands.config, served.ref, now=served.party.now())
    assert [each.told.stated.figures[TPR].value for each in waiting] == [0.203, 0.204, 0.205, 0.206, 0.207, 0.208]
    assert {each.until for each in waiting} == {served.begun + timedelta(hours=2 + TURN)}
    assert "people were asked about a worse figure of hospital-b before, and no limit is crossed" in waiting[0].in_words
    served.commands.run("model", "evidence", "approve", served.ref.label, person="officer")
    served.tell(0.3)
    served.look_after(hours=20)
    ReleaseWatch(served.party, ended=served.count).look()
    assert len(served.entries(EntryKind.EVIDENCE_SIGNED)) == made
    said = judge_evidence(served.commands.config, served.ref, now=served.party.now()).decision
    assert (said.verdict.value, served.stands()) == ("pass", True)
    # Nothing is forgotten: after the turn people are asked about the worst of it.
    served.look_after(hours=2 + TURN)
    assert served.verdicts()[-1] == "needs-officer"
    said = judge_evidence(served.commands.config, served.ref, now=served.party.now()).decision
    assert any("is 0.3000; it was 0.2000" in reason.what for reason in said.reasons)
    assert reports_put_off(served.commands.config, served.ref, now=served.party.now()) == ()


def test_worse_report_that_was_put_off_is_not_forgotten_for_a_later_one_that_pleases(served: Served) -> None:
    ask_about_a_rise(served, 0.1, 0.2)
    served.commands.run("model", "evidence", "approve", served.ref.label, person="officer")
    served.tell(0.3)
    served.look_after(hours=4)
    served.tell(0.05)
    served.look_after(hours=6)
    assert len(reports_put_off(served.commands.config, served.ref, now=served.party.now())) == 2
    served.look_after(hours=2 + TURN)
    assert served.entries(EntryKind.RELEASE_DECIDED)[-1]["reasons"] == ["approvals-missing", "figure-overtaken"]


def test_report_of_another_owner_brings_nothing_that_was_put_off(served: Served) -> None:
    ask_about_a_rise(served, 0.1, 0.2)
    served.tell(0.3)
    served.tell(0.09, owner="hospital-c")
    served.look_after(hours=4)
    with served.party.database.transaction() as tables:
        bundle = EvidenceBundle.from_bytes(tables.evidence.latest(served.ref).signed.body)
    found = {report.owner: report.figures[TPR].value for report in (*bundle.assessed, *bundle.overtaken_risks)}
    assert (found["hospital-b"], found["hospital-c"]) == (0.2, 0.09)


def test_report_over_a_limit_waits_for_no_turn(served: Served) -> None:
    ask_about_a_rise(served, 0.1, 0.2)
    served.tell(0.91)
    served.look_after(hours=4)
    assert (served.verdicts()[-1], served.stands()) == ("blocked", False)


def told(served: Served, *stated: dict[str, Figure], owner: str = "hospital-b") -> None:
    """Another owner states these figures one after the other, and this party hears of them."""
    config = load_party_config(served.commands.folder / owner / "party.yaml")
    _, path = served.commands.reports(served.ref, 0.5, owners=(owner,))
    report = read_risk_report(SignedDocument.from_bytes(Path(path).read_bytes()).document)
    for place, figures in enumerate(stated):
        made = report.made + timedelta(seconds=place)
        one = replace(report, made=made, report=replace(report.report, figures=figures))
        assert take_in(served.party, sign_risk_report(one, config.folder.member.load_signing_key()))


def test_figures_under_ever_new_names_fill_no_bundle(served: Served) -> None:
    served.release()
    served.order()
    figure = Figure(0.5, 0.5, 0.5)
    told(served, *({TPR: figure, f"membership.x{n}.auc": figure} for n in range(70)))
    served.look_after(hours=2)
    with served.party.database.transaction() as tables:
        bundle = EvidenceBundle.from_bytes(tables.evidence.latest(served.ref).signed.body)
    assert (len(bundle.risk_reports), bundle.overtaken) == (len(PARTIES), NOTHING)
    assert (served.verdicts()[-1], served.stands()) == ("pass", True)


def test_release_of_which_more_was_found_than_a_bundle_holds_ends(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.change_policy(NOBODY, MORE)
    served.release()
    served.order()
    monkeypatch.setattr("governance.evidence.bundle.MAX_CARRIED", len(PARTIES))
    # The worst value, upper end and lower end in three reports of each of two owners.
    worst = (Figure(0.6, 0.5, 0.6), Figure(0.5, 0.5, 0.7), Figure(0.55, 0.55, 0.55), Figure(0.5, 0.5, 0.5))
    for owner in ("hospital-b", "hospital-c"):
        told(served, *({TPR: figure} for figure in worst), owner=owner)
    served.look_after(hours=2)
    assert not served.stands()
    assert (served.verdicts()[-1], served.num_ended) == ("blocked", 1)
    assert served.entries(EntryKind.RELEASE_DECIDED)[-1]["reasons"] == ["more-than-a-bundle-holds"]
    # The last bundle, from before, lets nothing out any more; another one is refused, and it is said who fills it.
    blocked = exit_code(ConfideError(ErrorCode.EVIDENCE_MISSING, ""))
    said = served.commands.run("model", "alias", "set", "diagnosis@released", served.ref.version, person="officer", code=blocked)
    assert [problem["where"] for problem in said["problems"]] == ["figure-overtaken"]
    made = served.commands.reports(served.ref, 0.5)
    crowded = exit_code(ConfideError(ErrorCode.TOO_LARGE, ""))
    said = served.commands.run("model", "evidence", "make", served.ref.label, *made, person="steward", code=crowded)
    assert "6 reports, and at most 3 are held (3 of hospital-b, 3 of hospital-c)" in said["problems"][0]["what"]


def test_release_that_fell_is_not_set_again_by_a_steward_on_a_figure_that_pleases(served: Served) -> None:
    served.change_policy(ROOM, LIMIT)
    served.release(value=0.01)
    served.order()
    served.tell(0.2)
    served.look_after(hours=2)
    assert not served.stands()
    made = served.commands.reports(served.ref, 0.01)
    found = served.commands.run("model", "evidence", "make", served.ref.label, *made, person="steward")
    # The class names nobody who could decide: a version that was over the limit once is not released again.
    assert (found["verdict"], "figure-overtaken" in [reason["code"] for reason in found["reasons"]]) == ("blocked", True)
    blocked = exit_code(ConfideError(ErrorCode.EVIDENCE_MISSING, ""))
    served.commands.run("model", "alias", "set", "diagnosis@released", served.ref.version, person="steward", code=blocked)


def test_clock_that_was_ahead_puts_no_assessment_off(served: Served) -> None:
    served.release()
    served.order()
    served.party.clock[0] = served.begun + timedelta(days=24)
    with served.party.database.transaction() as tables:
        order = tables.assessments.all()[0].order
        tables.assessments.refuse(order.digest, "at a time that is yet to come", now=served.party.now())
    assert served.look_after(days=DUE, minutes=1) == ["refused", "under-way"]


def test_list_says_of_one_version_whose_training_is_unknown_and_shows_the_others(served: Served) -> None:
    served.release()
    served.order()
    first = served.turn_to_another_model()
    with served.party.database.transaction() as tables:
        job_id = tables.models.get(served.ref).job_id
    with closing(sqlite3.connect(served.party.config.folder.database_file)) as connection, connection:
        connection.execute("UPDATE jobs SET state = 'ABORTED' WHERE job_id = ?", (job_id,))
    shown = {order["model"]: order for order in served.commands.run("model", "assessment", "list")["orders"]}
    assert shown[first.label]["due"] is not None
    assert "no completed training" in str(shown[served.ref.label]["unknown"])
    finding = next(each for each in examine(served.party.config, now=served.begun) if each.check == "assessments")
    assert (finding.verdict, "no completed training" in finding.what) == (Verdict.WARN, True)


def test_release_whose_evidence_cannot_be_read_hides_no_other_one(served: Served) -> None:
    served.release()
    with closing(sqlite3.connect(served.party.config.folder.database_file)) as connection, connection:
        connection.execute("UPDATE evidence SET document = CAST('{}' AS BLOB)")
    (shown,) = served.commands.run("status", "--timeout", "0.1")["releases"]
    assert (shown["model"], shown["assess_by"]) == (served.ref.label, None)


def test_figure_that_no_job_measures_is_named_with_its_end_and_its_command(served: Served) -> None:
    served.release()
    served.change_policy(f"{TPR}: {ROOM}", f"{TPR}: {ROOM}, attribute_inference.gain: {ROOM}")
    served.order()  # it serves the gate, though not alone
    (order,) = served.commands.run("model", "assessment", "list")["orders"]
    assert order["by_people"] == {"attribute_inference.gain": None}
    with served.party.database.transaction() as tables:
        (before,) = [each for each in tables.evidence.latest(served.ref).signed.document["risk_reports"] if "hospital-a/" in each]
        report = read_risk_report(SignedDocument.from_bytes(str(before).encode()).document)
        figures = {"attribute_inference.gain": Figure(0.0, -0.01, 0.01)}
        own = replace(report, report=replace(report.report, figures=figures, shadows=0))
        tables.statements.say(sign_risk_report(own, served.party.member.signing_key), now=served.begun)
    (order,) = served.commands.run("model", "assessment", "list")["orders"]
    until = report.made + timedelta(days=DAYS)
    assert order["by_people"] == {"attribute_inference.gain": until.strftime("%Y-%m-%dT%H:%M:%SZ")}
    config = str(served.commands.folder / "hospital-a" / "party.yaml")
    shown = CliRunner().invoke(app, ["model", "assessment", "list", "--config", config])
    assert "confide model evidence state REPORT --in-the-clear" in shown.output


# Without rows.


def without_rows(served: Served) -> dict[str, Any]:
    """A version of others' rows, and the request of one of them."""
    served.ref = served.commands.keep("3c", datasets=(a_dataset("hospital-b"), a_dataset("hospital-c")))
    names = [f"hospital-b/{MEMBERS}", f"hospital-b/{OTHERS}"]
    return {"datasets": names, "members": names[:1]}


def test_holder_without_rows_submits_nothing_and_renews_its_evidence_by_the_owners_reports(served: Served) -> None:
    request = without_rows(served)
    file = served.commands.folder / "hospital-a" / "party.yaml"
    file.write_text(file.read_text().replace(f"assessor: ../{ASSESSOR}/researcher.yaml\n", ""))
    made = served.commands.reports(served.ref, 0.5, owners=("hospital-b", "hospital-c"))
    served.commands.run("model", "evidence", "make", served.ref.label, *made, person="steward")
    served.commands.run("model", "alias", "set", "diagnosis@released", served.ref.version, person="officer")
    served.order(**request)
    (order,) = served.commands.run("model", "assessment", "list")["orders"]
    assert (order["querier"], order["due"], order["unknown"]) == (None, None, "")
    signed = served.tell(0.4)
    assert served.look_after(hours=2) == []
    assert served.network.submitted == []
    with served.party.database.transaction() as tables:
        assert signed.to_bytes().decode() in tables.evidence.latest(served.ref).signed.document["risk_reports"]
    assert served.stands()


def test_party_without_rows_and_without_a_share_is_told_who_may_order(served: Served) -> None:
    request = without_rows(served)
    with closing(sqlite3.connect(served.party.config.folder.database_file)) as connection, connection:
        connection.execute("DELETE FROM models")
    said = served.order(code=exit_code(ConfideError(ErrorCode.INVALID_ARGUMENT, "")), **request)
    (problem,) = said["problems"]
    assert "holds no share" in problem["what"]
    assert "hospital-b" in problem["remedy"]


def test_owner_whose_rows_are_behind_it_cannot_leave_them_to_others(served: Served) -> None:
    served.release()
    names = [f"hospital-b/{MEMBERS}", f"hospital-b/{OTHERS}"]
    refused = exit_code(ConfideError(ErrorCode.INVALID_ARGUMENT, ""))
    said = served.order(code=refused, datasets=names, members=names[:1])
    assert any("hospital-a/patients went into" in problem["what"] for problem in said["problems"])
