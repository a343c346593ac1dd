"""What an assessment found, from the researcher's file to an owner's signature: who states it, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from governance.audit.entries import EntryKind, read_entry
from governance.documents import SignedDocument
from governance.risk_report import StatedRisk, read_risk_report, verify_risk_report
from parties import harness
from parties.cli.main import app
from parties.cli.output import exit_code
from parties.client.client import Client
from parties.client.risk import risk_of
from parties.risk_statements import unsigned_risk
from parties.storage.database import one_transaction
from parties.storage.datasets import DatasetRecord
from privacy.risk.report import ATTACKED_IN_SHARES
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Assessment, Job, JobType, ModelRef, Output, OutputKind
from tests.support.evidence_holder import PARTIES, Holder, a_holder
from tests.support.jobs import an_evaluation
from tests.support.programs import by_sides

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
COUNTS = np.array([[40, 20], [22, 9], [12, 5]])


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
            tables.datasets.add(DatasetRecord(name, 1, b"{}", 20, {}, "c" * 64, "", f"{name}.sealed", NOW))
    return made


def an_assessment(consortium: str) -> Job:
    return replace(
        by_sides(an_evaluation()),
        consortium=consortium,
        job_type=JobType.ASSESS,
        outputs=(Output("attack-counts", OutputKind.ATTACK_COUNTS, "alice", 5),),
        assessment=Assessment((0, 2, 4), ("-1", "0", "1.5"), "lira", 16),
    )


def found_by(holder: Holder) -> StatedRisk:
    """What a researcher hands to the owners."""
    job = an_assessment(holder.config.folder.member.load_directory().consortium)
    return unsigned_risk(job, risk_of(job, COUNTS), now=datetime.now(UTC))


def stated(holder: Holder, file: Path, *, person: str = "steward", code: int = 0) -> tuple[dict[str, Any], Path]:
    out = holder.folder / "signed.json"
    said = holder.run("model", "evidence", "state", str(file), "--out", str(out), person=person, code=code)
    return said, out


def written(folder: Path, report: StatedRisk) -> Path:
    path = folder / "report.json"
    path.write_bytes(canonical_bytes(report.to_document()))
    return path


def entries(holder: Holder, kind: EntryKind) -> list[dict[str, Any]]:
    with one_transaction(holder.config.folder.database_file) as tables:
        found = [read_entry(each.body) for each in tables.audit.entries(0, tables.audit.size())]
    return [dict(entry.facts) for entry in found if entry.kind is kind]


class OneJob:
    """A researcher's client that knows one completed job."""

    def __init__(self, job: Job, values: dict[str, np.ndarray]) -> None:
        self._job, self._values = job, values

    def job(self, _job_id: str) -> Job:
        return self._job

    def result(self, _job: Job) -> dict[str, np.ndarray]:
        return self._values

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
    found = read_risk_report(parse_canonical(report.read_bytes()))
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
    handed = replace(found_by(holder), owner="hospital-b")
    said, out = stated(holder, written(tmp_path, handed))
    signed = SignedDocument.from_bytes(out.read_bytes())
    report = verify_risk_report(signed, holder.config.folder.member.load_directory())
    assert report.to_document() == replace(handed, owner="hospital-a").to_document()
    assert signed.signer == "hospital-a"
    assert said == {"model": handed.ref.label, "owner": "hospital-a", "report": report.digest}
    (entry,) = entries(holder, EntryKind.RISK_ASSESSED)
    assert (entry["model"], entry["report"], entry["method"]) == (handed.ref.label, report.digest, ATTACKED_IN_SHARES)
    assert len(entry["figures"]) == len(report.figures)
    assert entry["authorisation"]


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
    said, out = stated(holder, written(tmp_path, change(found_by(holder))), code=exit_code(ConfideError(code, "")))
    assert (said["code"], words in said["what"]) == (code.name, True)
    assert not out.exists()
    assert entries(holder, EntryKind.RISK_ASSESSED) == []


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
