"""What an assessment found, from the researcher's file to an owner's signature: who states it, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from governance.audit.entries import EntryKind, read_entry
from governance.documents import DocumentKind, SignedDocument, sign
from governance.opened_assessment import (
    OpenedAssessment,
    Opening,
    committed_shares,
    opened_assessment,
    read_opened_assessment,
)
from governance.risk_report import StatedRisk, verify_risk_report
from parties import harness
from parties.assessed_jobs import assessment_findings
from parties.cli.main import app
from parties.cli.output import exit_code
from parties.client.client import Client
from parties.client.opening import Opened
from parties.client.risk import risk_of
from parties.risk_statements import unsigned_risk
from parties.storage.database import one_transaction
from parties.storage.datasets import DatasetRecord
from parties.storage.jobs import JobRecord
from privacy.figures import Figure
from privacy.risk.report import ATTACKED_IN_SHARES, ATTACKED_IN_THE_CLEAR
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode
from protocols.job import TIME_FORMAT, DatasetRef, Job, ModelRef
from protocols.session.endings import Ending
from protocols.session.states import State
from tests.support.evidence_holder import PARTIES, Holder, a_holder
from tests.support.jobs import an_evaluation
from tests.support.opened_counts import COUNTS, an_assessment, commitments_to, shares_of

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("consortium")
    harness.make_consortium(folder, PARTIES)
    return folder


@pytest.fixture
def holder(consortium: Path, tmp_path: Path) -> Holder:
    made = a_holder(shutil.copytree(consortium, tmp_path / "consortium"))
    with one_transaction(made.config.folder.database_file) as tables:
        for name in ("patients-members", "patients-others"):
            tables.datasets.add(DatasetRecord(name, 1, b"{}", 20, {}, "c" * 64, "", f"{name}.sealed", NOW, None, False, name))
    return made


def members_of(job: Job, *, members: bool = True) -> tuple[DatasetRef, ...]:
    return tuple(each for each in job.datasets if each.name.endswith("-members") is members)


def kept(holder: Holder, *, swapped: bool = False, state: State = State.COMPLETED, nonce: str = "00" * 16) -> Job:
    """An assessment that this party took part in, of a version that it knows the training of, which ended just now."""
    job = replace(an_assessment(holder.config.folder.member.load_directory().consortium), nonce=nonce)
    training = nonce[:2]
    job = replace(job, model_ref=holder.keep(training, datasets=members_of(job, members=not swapped)))
    is_done = state is State.COMPLETED
    ending = Ending(
        session=job.job_id, attempt=1, state=state, code="" if is_done else "PEER_LOST", phase=State.RELEASING,
        at_fault="", cause="", remedy="", decided_by="hospital-b", time=datetime.now(UTC).strftime(TIME_FORMAT), by_majority=True,
        commitments=commitments_to(shares_of(job, COUNTS)) if is_done else {},
    )  # fmt: skip
    signed = sign(
        ending.to_document(), kind=DocumentKind.ENDING, signer="hospital-a", key=holder.config.folder.member.load_signing_key()
    )
    with one_transaction(holder.config.folder.database_file) as tables:
        tables.jobs.add(JobRecord(job.job_id, "alice", job.to_bytes(), bytes(64), None, "{}", state.value, NOW, NOW))
        tables.jobs.put_ending(job.job_id, signed.to_bytes(), measured="{}")
    return job


def opened_of(job: Job, counts: np.ndarray = COUNTS) -> OpenedAssessment:
    """What a researcher who opened these counts hands to the owners."""
    report = unsigned_risk(job, risk_of(job, counts), now=datetime.now(UTC))
    return opened_assessment(report, shares_of(job, counts))


def found_by(holder: Holder, **how: Any) -> OpenedAssessment:
    """What a researcher hands to the owners."""
    return opened_of(kept(holder, **how))


def stated(holder: Holder, file: Path, *, options: Sequence[str] = (), **how: Any) -> tuple[dict[str, Any], Path]:
    out = holder.folder / "signed.json"
    arguments = ["model", "evidence", "state", str(file), "--out", str(out), *options]
    return holder.run(*arguments, **{"person": "steward"} | how), out


def written(folder: Path, found: StatedRisk | OpenedAssessment) -> Path:
    path = folder / "report.json"
    path.write_bytes(canonical_bytes(found.to_document()))
    return path


def entries(holder: Holder, kind: EntryKind) -> list[dict[str, Any]]:
    with one_transaction(holder.config.folder.database_file) as tables:
        found = [read_entry(each.body) for each in tables.audit.entries(0, tables.audit.size())]
    return [dict(entry.facts) for entry in found if entry.kind is kind]


class OneJob:
    """A researcher's client that knows one completed job."""

    def __init__(self, job: Job, values: dict[str, np.ndarray]) -> None:
        self._job, self._values = job, values
        self.folder = Path()  # where released moments would be kept; an assessment has none
        self.calls = SimpleNamespace(signed_utility=None)  # a report on risk is signed by the owners

    def job(self, _job_id: str) -> Job:
        return self._job

    def opened(self, job: Job) -> dict[str, Opened]:
        return {name: Opened(value, shares_of(job, value)) for name, value in self._values.items()}

    def close(self) -> None:
        """Nothing is open."""


def test_result_of_an_assessment_is_written_as_a_report_for_the_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, report = an_assessment("demo"), tmp_path / "report.json"
    monkeypatch.setattr(Client, "open", lambda *_, **__: OneJob(job, {"attack-counts": COUNTS}))
    config = tmp_path / "researcher.yaml"
    config.touch()
    arguments = ["job", "result", job.job_id, "--config", str(config), "--report", str(report)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "membership.lira.tpr_at_1_percent" in result.stdout
    handed = read_opened_assessment(parse_canonical(report.read_bytes()))
    assert report.stat().st_mode & 0o777 == 0o600  # the counts are for the owners alone
    assert committed_shares(handed, job) == shares_of(job, COUNTS)
    found = handed.report
    assert job.model_ref is not None
    assert (found.ref, found.consortium, found.owner) == (
        ModelRef(job.model_ref.name, job.model_ref.version),
        "demo",
        "hospital-a",
    )
    assert found.datasets == tuple(f"{party}/patients-{side}/1" for party in PARTIES for side in ("members", "others"))
    assert (found.report.members, found.report.others, found.report.method) == (150, 150, ATTACKED_IN_SHARES)
    expected = risk_of(job, COUNTS).figures
    for name, figure in found.figures.items():  # rounded to six places in the document
        assert abs(figure.value - expected[name].value) <= 0.5e-6


def test_owner_states_in_its_own_name_and_its_log_says_what(holder: Holder, tmp_path: Path) -> None:
    opened = found_by(holder)
    handed = replace(opened.report, owner="hospital-b")
    said, out = stated(holder, written(tmp_path, replace(opened, report=handed)))
    signed = SignedDocument.from_bytes(out.read_bytes())
    report = verify_risk_report(signed, holder.config.folder.member.load_directory())
    assert handed.made - timedelta(seconds=60) <= report.made <= handed.made
    assert report.log_size > 0
    named = replace(handed, owner="hospital-a", made=report.made, log_size=report.log_size)
    assert report.to_document() == named.to_document()
    assert signed.signer == "hospital-a"
    assert said == {"model": handed.ref.label, "owner": "hospital-a", "report": report.digest}
    (entry,) = entries(holder, EntryKind.RISK_ASSESSED)
    assert (entry["model"], entry["report"], entry["method"]) == (handed.ref.label, report.digest, ATTACKED_IN_SHARES)
    assert len(entry["figures"]) == len(report.figures)
    assert entry["authorisation"]
    # What opens the counts is in nothing that others see.
    secrets = [text for opening in opened.openings.values() for text in (opening.share.hex(), opening.nonce.hex())]
    assert not any(text in out.read_text() or text in str(entry) for text in secrets)


def tomorrow(report: StatedRisk) -> StatedRisk:
    return replace(report, made=report.made + timedelta(days=1))


def of_others(report: StatedRisk) -> StatedRisk:
    return replace(report, datasets=tuple(name for name in report.datasets if not name.startswith("hospital-a/")))


def of_an_unknown_version(report: StatedRisk) -> StatedRisk:
    return replace(report, datasets=tuple(sorted({*report.datasets, "hospital-a/patients-members/2"})))


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda report: replace(report, consortium="another"), ErrorCode.INVALID_ARGUMENT, "another consortium"),
        (tomorrow, ErrorCode.INVALID_ARGUMENT, "yet to come"),
        (of_others, ErrorCode.INVALID_ARGUMENT, "no data set of hospital-a"),
        (of_an_unknown_version, ErrorCode.UNKNOWN_DATASET, "patients-members"),
    ],
    ids=["consortium", "future", "others", "unregistered"],
)
def test_report_that_is_not_the_owners_matter_is_not_signed(
    holder: Holder, tmp_path: Path, change: Callable[[StatedRisk], StatedRisk], code: ErrorCode, words: str
) -> None:
    opened = found_by(holder)
    file = written(tmp_path, replace(opened, report=change(opened.report)))
    said, out = stated(holder, file, code=exit_code(ConfideError(code, "")))
    assert (said["code"], words in said["what"]) == (code.name, True)
    assert not out.exists()
    assert entries(holder, EntryKind.RISK_ASSESSED) == []


def another_version(report: StatedRisk) -> StatedRisk:
    return replace(report, ref=ModelRef(report.ref.name, "0" * 12))


def with_report(report: StatedRisk, **changes: Any) -> StatedRisk:
    return replace(report, report=replace(report.report, **changes))


def with_a_figure_of_its_own(report: StatedRisk) -> StatedRisk:
    return with_report(report, figures={**report.figures, "attribute_inference.gain": Figure(0.0, 0.0, 0.0)})


def with_a_better_figure(report: StatedRisk) -> StatedRisk:
    """The figure that decides about the release, edited as little as a document can show."""
    name = "membership.lira.auc"
    old = report.figures[name]
    return with_report(report, figures={**report.figures, name: replace(old, value=old.value - 1e-6)})


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (with_a_better_figure, "figures.membership.lira.auc"),
        (with_a_figure_of_its_own, "figures.attribute_inference.gain"),
        (lambda report: with_report(report, figures={}), "figures.membership.lira.auc"),
        (another_version, "version"),
        (lambda report: with_report(report, members=149), "members"),
        (lambda report: with_report(report, shadows=64), "shadows"),
        (lambda report: with_report(report, seeds=(7,)), "seeds"),
        (lambda report: with_report(report, method=ATTACKED_IN_THE_CLEAR), "method"),
        (lambda report: replace(report, datasets=report.datasets[:2]), "datasets"),
    ],
    ids=["edited", "added", "none", "version", "members", "shadows", "seeds", "method", "datasets"],
)
def test_report_that_says_anything_else_than_the_counts_is_not_signed(
    holder: Holder, tmp_path: Path, change: Callable[[StatedRisk], StatedRisk], where: str
) -> None:
    opened = found_by(holder)
    said, out = stated(holder, written(tmp_path, replace(opened, report=change(opened.report))), code=2)
    assert (said["code"], "not what the openings beside it show" in said["what"]) == ("INVALID_DOCUMENT", True), said
    assert where in {problem["where"] for problem in said["problems"]}
    assert "confide job result" in said["remedy"]
    assert not out.exists()
    assert entries(holder, EntryKind.RISK_ASSESSED) == []


def with_openings(opened: OpenedAssessment, **changes: Opening) -> OpenedAssessment:
    return replace(opened, openings={**opened.openings, **{name.replace("_", "-"): each for name, each in changes.items()}})


def a_share_edited(opened: OpenedAssessment) -> OpenedAssessment:
    own = opened.openings["hospital-b"]
    return with_openings(opened, hospital_b=replace(own, share=bytes([own.share[0] ^ 1]) + own.share[1:]))


def a_nonce_edited(opened: OpenedAssessment) -> OpenedAssessment:
    own = opened.openings["hospital-a"]
    return with_openings(opened, hospital_a=replace(own, nonce=bytes(32)))


def a_share_cut(opened: OpenedAssessment) -> OpenedAssessment:
    own = opened.openings["hospital-b"]
    return with_openings(opened, hospital_b=replace(own, share=own.share[:-8]))


def parties_swapped(opened: OpenedAssessment) -> OpenedAssessment:
    first, second = (opened.openings[party] for party in ("hospital-a", "hospital-b"))
    return with_openings(opened, hospital_a=second, hospital_b=first)


def with_another_scale(opened: OpenedAssessment) -> OpenedAssessment:
    return replace(opened, scale_bits=opened.scale_bits + 1)


def without_a_party(opened: OpenedAssessment) -> OpenedAssessment:
    return replace(opened, openings={"hospital-a": opened.openings["hospital-a"]})


def with_the_dealer(opened: OpenedAssessment) -> OpenedAssessment:
    return with_openings(opened, hospital_c=opened.openings["hospital-a"])


@pytest.mark.parametrize(
    "change",
    [
        a_share_edited, a_nonce_edited, a_share_cut, parties_swapped, with_another_scale, without_a_party, with_the_dealer,
        lambda opened: replace(opened, openings={}),
    ],
    ids=["share", "nonce", "cut", "swapped", "scale", "missing", "added", "none"],
)  # fmt: skip
def test_report_whose_openings_are_not_those_of_the_ending_is_not_signed(
    holder: Holder, tmp_path: Path, change: Callable[[OpenedAssessment], OpenedAssessment]
) -> None:
    said, out = stated(holder, written(tmp_path, change(found_by(holder))), code=2)
    assert (said["code"], "the openings are not those of" in said["what"]) == ("INVALID_DOCUMENT", True), said
    assert "confide job result" in said["remedy"]
    assert not out.exists()
    assert entries(holder, EntryKind.RISK_ASSESSED) == []


def test_openings_of_another_assessment_are_not_believed(holder: Holder, tmp_path: Path) -> None:
    job, other = kept(holder), kept(holder, nonce="ab" * 16)
    harmless = np.array([[20, 20], [9, 9], [5, 5]])
    # Of other counts, and of the right ones of another job that ended here too: each time with the figures that follow.
    forged = opened_of(job, harmless)
    moved = replace(opened_of(job), openings=opened_of(other).openings)
    for found in (forged, moved):
        said, out = stated(holder, written(tmp_path, found), code=2)
        assert (said["code"], "the openings are not those of" in said["what"]) == ("INVALID_DOCUMENT", True), said
        assert not out.exists()


def test_report_on_an_assessment_that_is_unknown_here_is_not_signed(holder: Holder, tmp_path: Path) -> None:
    said, out = stated(holder, written(tmp_path, replace(found_by(holder), job_id="0" * 32)), code=2)
    assert (said["code"], "no completed assessment 000000000000" in said["what"]) == ("UNKNOWN_JOB", True), said
    assert not out.exists()


def test_report_without_openings_is_signed_only_as_of_an_attack_in_the_clear_by_the_owner_alone(
    holder: Holder, tmp_path: Path
) -> None:
    opened = found_by(holder)
    joint, clear = opened.report, with_report(opened.report, method=ATTACKED_IN_THE_CLEAR)
    own = replace(clear, datasets=clear.datasets[:2])
    for report in (joint, clear, own):
        said, _ = stated(holder, written(tmp_path, report), code=2)
        assert (said["code"], "lacks the openings" in said["what"]) == ("INVALID_DOCUMENT", True), said
    option = ["--in-the-clear"]
    for found in (opened, joint):
        said, _ = stated(holder, written(tmp_path, found), options=option, code=2)
        assert (said["code"], "is of an assessment in shares" in said["what"]) == ("INVALID_DOCUMENT", True), said
    said, out = stated(holder, written(tmp_path, clear), options=option, code=2)
    assert (said["code"], "rows of others in the clear" in said["what"]) == ("INVALID_ARGUMENT", True), said
    assert not out.exists()
    stated(holder, written(tmp_path, own), options=option)
    (entry,) = entries(holder, EntryKind.RISK_ASSESSED)
    assert entry["method"] == ATTACKED_IN_THE_CLEAR


def test_report_on_an_assessment_that_was_aborted_is_not_signed(holder: Holder, tmp_path: Path) -> None:
    said, _ = stated(holder, written(tmp_path, found_by(holder, state=State.ABORTED)), code=2)
    assert said["code"] == "UNKNOWN_JOB"


def test_report_that_is_written_late_has_the_time_of_its_assessment(holder: Holder, tmp_path: Path) -> None:
    job = kept(holder)
    ended = datetime.now(UTC) - timedelta(days=40)
    with one_transaction(holder.config.folder.database_file) as tables:
        document = tables.jobs.ending(job.job_id)
        assert document is not None
        body = {**SignedDocument.from_bytes(document).document, "time": ended.strftime(TIME_FORMAT)}
        key = holder.config.folder.member.load_signing_key()
        signed = sign(body, kind=DocumentKind.ENDING, signer="hospital-a", key=key)
        tables.jobs.put_ending(job.job_id, signed.to_bytes(), measured="{}")
    _, out = stated(holder, written(tmp_path, opened_of(job)))
    report = verify_risk_report(SignedDocument.from_bytes(out.read_bytes()), holder.config.folder.member.load_directory())
    assert report.made == ended.replace(microsecond=0)


def test_assessment_with_others_in_place_of_members_is_neither_accepted_nor_believed(holder: Holder, tmp_path: Path) -> None:
    job = kept(holder, swapped=True)
    with one_transaction(holder.config.folder.database_file) as tables:
        found = list(assessment_findings(tables, job, party="hospital-a"))
    assert {finding.code for finding in found} == {ErrorCode.INVALID_JOB}
    assert {finding.problem.where for finding in found} == {"assessment.members"}
    assert len(found) == 2 * len(PARTIES)
    said, _ = stated(holder, written(tmp_path, opened_of(job)), code=2)
    assert (said["code"], len(said["problems"])) == ("INVALID_DOCUMENT", 2 * len(PARTIES))


def test_assessment_of_the_rows_of_its_training_is_accepted_and_another_version_of_them_is_no_other(holder: Holder) -> None:
    job = kept(holder)
    again = replace(job, datasets=(*job.datasets, replace(job.datasets[0], version=2)))
    of_another = replace(job, model_ref=ModelRef("diagnosis", "9" * 12))
    with one_transaction(holder.config.folder.database_file) as tables:
        assert list(assessment_findings(tables, job, party="hospital-a")) == []
        assert list(assessment_findings(tables, of_another, party="hospital-a")) == []
        (finding,) = assessment_findings(tables, again, party="hospital-a")
    assert "another version" in finding.problem.what


def test_rows_of_people_who_were_trained_on_are_no_others_under_another_name(holder: Holder) -> None:
    """Their owner alone knows that they are the same people; the attack would take members for others, and find nothing."""
    job = kept(holder)
    own = next(each for each in members_of(job, members=False) if each.party == "hospital-a")
    with one_transaction(holder.config.folder.database_file) as tables:
        record = DatasetRecord(own.name, 2, b"{}", 9, {}, "c" * 64, "", "copy.sealed", NOW, None, False, "patients-members")
        tables.datasets.add(record)
        (finding,) = assessment_findings(tables, job, party="hospital-a")
    assert finding.problem.where == "assessment.members"
    assert own.name in finding.problem.what
    assert "the same people" in finding.problem.what


@pytest.mark.parametrize("content", [b"", b"{}", b"not a document", b'{"format":"confide.evidence/1"}'])
def test_file_that_is_no_report_is_not_signed(holder: Holder, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    said, _ = stated(holder, path, code=exit_code(ConfideError(ErrorCode.INVALID_DOCUMENT, "")))
    assert said["code"] == "INVALID_DOCUMENT"
    assert entries(holder, EntryKind.RISK_ASSESSED) == []


def test_operator_states_nothing(holder: Holder, tmp_path: Path) -> None:
    said, out = stated(holder, written(tmp_path, found_by(holder)), person="operator", code=5)
    assert said["code"] == "NOT_AUTHORISED"
    assert not out.exists()
    assert entries(holder, EntryKind.RISK_ASSESSED) == []


def test_job_that_assesses_nothing_makes_no_report() -> None:
    job = an_assessment("demo")
    with pytest.raises(ConfideError) as refused:
        unsigned_risk(an_evaluation(), risk_of(job, COUNTS), now=NOW)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
