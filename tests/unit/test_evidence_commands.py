"""Evidence at a holder, by commands: made, judged, approved, released under, and taken away again; and in a pipeline."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from governance.audit.entries import EntryKind, Fact
from governance.canary_audit import CanaryAudit, sign_canary_audit
from governance.documents import SignedDocument
from governance.evidence.bundle import EvidenceBundle
from governance.utility_report import StatedUtility, read_stated_utility, sign_utility_report
from parties import harness
from parties.cli.main import app
from parties.cli.output import exit_code
from parties.config import load_party_config, load_researcher_config
from parties.storage.database import one_transaction
from parties.storage.jobs import JobRecord
from privacy.figures import Figure
from privacy.utility.report import UtilityReport
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef, Output, OutputKind
from protocols.session.states import State
from tests.support.evidence_holder import PARTIES, Holder, a_holder, reasons
from tests.support.jobs import CREATED, an_evaluation
from tests.support.noisy_sums import private_terms as sums_terms
from tests.support.private_training import private_sgd
from tests.support.private_training import terms as private_terms

SUMS = replace(
    private_sgd(
        10, "0.5", privacy=sums_terms(nominal_rows=600, canaries=1200, noise_multiplier="2", epsilon="8", delta="0.0001")
    ),
    batch_size=60,
)


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("consortium")
    harness.make_consortium(folder, PARTIES)
    return folder


@pytest.fixture
def holder(consortium: Path, tmp_path: Path) -> Holder:
    return a_holder(shutil.copytree(consortium, tmp_path / "consortium"))


def test_version_is_released_with_evidence_and_approval_and_falls_with_a_worse_assessment(holder: Holder) -> None:
    ref = holder.keep("1a")
    release = ("model", "alias", "set", "diagnosis@released", ref.version)
    refused = holder.run(*release, person="officer", code=5)
    assert (refused["code"], "no bundle" in refused["what"]) == ("EVIDENCE_MISSING", True)

    bare = holder.run("model", "evidence", "make", ref.label, person="steward")
    assert (bare["verdict"], set(reasons(bare))) == ("blocked", {"owner-without-risk-report"})
    refused = holder.run(*release, person="officer", code=5)
    assert [problem["where"] for problem in refused["problems"]] == ["owner-without-risk-report"] * 3

    made = holder.run("model", "evidence", "make", ref.label, *holder.reports(ref, 0.02), person="steward")
    assert (made["verdict"], reasons(made), made["classes"], made["ended_release"]) == (
        "needs-officer",
        ["approvals-missing"],
        ["confidential", "internal"],
        False,
    )
    assert holder.run("privacy", "check", ref.label, code=2)["verdict"] == "needs-officer"
    assert holder.run("model", "evidence", "approve", ref.label, person="operator", code=5)["code"] == "NOT_AUTHORISED"
    assert holder.run("model", "evidence", "approve", ref.label, person="officer")["verdict"] == "pass"
    assert holder.run("privacy", "check", ref.label)["verdict"] == "pass"
    assert holder.run(*release, person="officer")["version"] == ref.version
    assert holder.released() == [ref.version]
    shown = holder.run("model", "evidence", "show", ref.label)
    assert (shown["verdict"], shown["evidence"]["previous"]) == ("pass", None)  # it goes on under the same bundle

    worse = holder.run("model", "evidence", "make", ref.label, *holder.reports(ref, 0.2), person="steward")
    assert (worse["verdict"], holder.released(), worse["ended_release"]) == ("blocked", [], True)
    again = holder.run("model", "evidence", "make", ref.label, *holder.reports(ref, 0.3), person="steward")
    assert (again["verdict"], again["ended_release"]) == ("blocked", False)  # there is none any more
    with one_transaction(holder.config.folder.database_file) as tables:
        kinds = [json.loads(tables.audit.entry(index).body)["kind"] for index in range(tables.audit.size())]
    assert kinds.count("evidence-signed") == 4
    assert "release-decided" in kinds


def test_next_version_with_a_higher_figure_needs_more_than_the_first_release(holder: Holder) -> None:
    first, second = holder.keep("1a"), holder.keep("2a")
    holder.run("model", "evidence", "make", first.label, *holder.reports(first, 0.01), person="steward")
    holder.run("model", "evidence", "approve", first.label, person="officer")
    holder.run("model", "alias", "set", "diagnosis@released", first.version, person="officer")
    options = holder.reports(second, 0.02)
    for _ in range(2):  # made once more, it is still a rise over what was released
        made = holder.run("model", "evidence", "make", second.label, *options, person="steward")
        assert set(reasons(made)) == {"risk-has-risen", "approvals-missing"}
        assert made["verdict"] == "blocked"  # the class names nobody who may approve a rise
    same = holder.reports(second, 0.01)
    made = holder.run("model", "evidence", "make", second.label, *same, person="steward")
    # Measured again until it pleases, it has still been higher, and nobody has decided on that.
    assert (set(reasons(made)), made["verdict"]) == ({"figure-overtaken", "approvals-missing"}, "blocked")
    changes = holder.run("model", "evidence", "show", second.label)["evidence"]["changes"]
    assert any(change.startswith(("risks", "protection")) for change in changes)


def test_approval_of_a_bundle_that_is_not_the_last_one_any_more_is_refused(holder: Holder) -> None:
    ref = holder.keep("1a")
    seen = holder.run("model", "evidence", "make", ref.label, *holder.reports(ref, 0.01), person="steward")["bundle"]
    last = holder.run("model", "evidence", "make", ref.label, *holder.reports(ref, 0.02), person="steward")["bundle"]
    approve = ("model", "evidence", "approve", ref.label, "--evidence")
    code = exit_code(ConfideError(ErrorCode.INVALID_ARGUMENT, ""))
    refused = holder.run(*approve, seen[:12], person="officer", code=code)
    assert (refused["code"], last[:12] in refused["what"]) == ("INVALID_ARGUMENT", True)
    assert holder.run(*approve, last[:12], person="officer")["verdict"] == "pass"


def test_pipeline_judges_a_bundle_by_a_policy_and_a_directory_in_files(holder: Holder, tmp_path: Path) -> None:
    ref = holder.keep("1a")
    bundle = tmp_path / "bundle.json"
    made = holder.reports(ref, 0.02)
    holder.run("model", "evidence", "make", ref.label, *made, "--out", str(bundle), person="steward")
    assert holder.run("model", "evidence", "verify", str(bundle))["risk_reports_of"] == list(PARTIES)
    member = holder.config.folder.member
    founder = member.pinned_founder() or ""
    pipeline = [
        "privacy", "check", str(bundle), "--directory", str(member.directory_file), "--founder-fingerprint", founder,
        "--format", "json",
    ]  # fmt: skip
    policies = {}
    for name, old, new in (
        ("strict", '"0.03"', '"0.019"'),
        ("own", "", ""),
        ("lenient", "      approvals: {needed: 1, of: [privacy-officers]}", "      approvals: null"),
    ):
        policies[name] = tmp_path / f"{name}.yaml"
        policies[name].write_text(holder.config.policy.read_text().replace(old, new) if old else holder.config.policy.read_text())
    for name, code, verdict in (("strict", 1, "blocked"), ("own", 2, "needs-officer"), ("lenient", 0, "pass")):
        result = CliRunner().invoke(app, [*pipeline, "--policy", str(policies[name])])
        assert (result.exit_code, json.loads(result.stdout)["data"]["verdict"]) == (code, verdict)
    bundle.write_bytes(bundle.read_bytes().replace(b"0.020000", b"0.010000"))
    result = CliRunner().invoke(app, [*pipeline, "--policy", str(policies["lenient"])])
    assert (result.exit_code, reasons(json.loads(result.stdout)["data"])) == (1, ["document-not-believed"])


@pytest.mark.parametrize(
    "arguments", [("nothing-there.json",), ("diagnosis@000000000000",), ("diagnosis@live",)], ids=["file", "unknown", "label"]
)
def test_what_cannot_be_judged_does_not_pass(holder: Holder, arguments: tuple[str, ...]) -> None:
    assert holder.run("privacy", "check", *arguments, code=1)["code"] in {"INVALID_ARGUMENT", "EVIDENCE_MISSING"}


def test_policy_without_terms_names_the_block_and_what_to_do(holder: Holder) -> None:
    ref = holder.keep("1a")
    text = holder.config.policy.read_text()
    holder.config.policy.write_text(text.partition("\nrelease:")[0] + "\n")
    made = holder.run("model", "evidence", "make", ref.label, *holder.reports(ref, 0.02), person="steward")
    (reason,) = made["reasons"]
    assert (reason["code"], "no block `release`" in reason["what"]) == ("no-release-terms", True)
    refused = holder.run("model", "alias", "set", "diagnosis@released", ref.version, person="officer", code=5)
    assert "block `release`" in refused["problems"][0]["remedy"]


def test_report_that_nobody_would_believe_makes_no_bundle(holder: Holder) -> None:
    ref = holder.keep("1a")
    option, path = holder.reports(ref, 0.02, owners=("hospital-b",))
    Path(path).write_bytes(Path(path).read_bytes().replace(b"0.020000", b"0.010000"))
    assert holder.run("model", "evidence", "make", ref.label, option, path, person="steward", code=7)["code"] == "BAD_SIGNATURE"


def test_private_training_brings_its_statement_and_noise_test_from_the_records_and_no_canaries(holder: Holder) -> None:
    terms = private_terms(300, noise_multiplier="40", epsilon="2", delta="0.0001")
    ref = holder.keep("5a", training=private_sgd(10, "0.5", privacy=terms))
    bundle = holder.folder / "bundle.json"
    options = (*holder.reports(ref, 0.005), "--out", str(bundle))
    untested = holder.run("model", "evidence", "make", ref.label, *options, person="steward")
    assert reasons(untested) == ["noise-test-missing"]
    made = EvidenceBundle.from_bytes(SignedDocument.from_bytes(bundle.read_bytes()).body).trainings[0]
    assert made.guarantee is not None
    assert (made.guarantee.epsilon, made.guarantee.relation, made.noise_test) == ("2", "zero-out", None)

    note(holder, EntryKind.NOISE_TESTED, {"job": made.job, "result": "passed"})
    stale = holder.run("privacy", "check", ref.label, code=1)  # the bundle does not say what the records say now
    assert set(reasons(stale)) == {"noise-test-missing", "facts-differ-from-the-records"}
    assert holder.run("model", "evidence", "make", ref.label, *options, person="steward")["verdict"] == "needs-officer"

    tell_audit(holder, made.job, "2.5")
    audited = holder.run("model", "evidence", "make", ref.label, *options, person="steward")
    assert audited["verdict"] == "needs-officer"


def tell_audit(holder: Holder, job_id: str, epsilon: str, *, owner: str = "hospital-a") -> None:
    """Has an owner state what its canaries show; another one's has been told to the holder."""
    member = load_party_config(holder.folder / owner / "party.yaml").folder.member
    audit = CanaryAudit(member.load_directory().consortium, owner, job_id, epsilon, "0.999", 400)
    signed, now = sign_canary_audit(audit, member.load_signing_key()), datetime.now(UTC)
    with one_transaction(holder.config.folder.database_file) as tables:
        if owner == holder.config.party:
            tables.statements.say(signed, now=now)
        else:
            tables.statements.hear(signed, now=now)


def test_audit_of_an_owner_that_does_not_compute_blocks_at_the_holder_of_the_model(holder: Holder) -> None:
    ref = holder.keep("6a", training=SUMS)
    options, file = holder.reports(ref, 0.005), holder.folder / "bundle.json"
    holder.run("model", "evidence", "make", ref.label, *options, person="steward")
    (training,) = last_bundle(holder, ref).trainings
    assert (training.canaries, training.audits) == (dict.fromkeys(PARTIES, 400), ())
    note(holder, EntryKind.NOISE_TESTED, {"job": training.job, "result": "passed"})
    tell_audit(holder, training.job, "7.5", owner="hospital-c")
    within = holder.run("model", "evidence", "make", ref.label, *options, "--out", str(file), person="steward")
    assert holder.run("model", "evidence", "verify", str(file))["audits_of"] == ["hospital-c"]
    assert within["verdict"] == "needs-officer"
    assert any("400 canaries of hospital-c show" in said for said in last_bundle(holder, ref).impact["protection"])
    assert any("hospital-b has not told" in said for said in last_bundle(holder, ref).impact["protection"])
    holder.run("model", "evidence", "approve", ref.label, person="officer")
    release = ("model", "alias", "set", "diagnosis@released", ref.version)
    holder.run(*release, person="officer")
    tell_audit(holder, training.job, "8.1", owner="hospital-c")
    assert reasons(holder.run("privacy", "check", ref.label, code=1)) == ["audit-above-the-claim"]  # no new bundle is needed
    anew = holder.run("model", "evidence", "make", ref.label, *options, person="steward")
    assert (reasons(anew), anew["ended_release"], holder.released()) == (["audit-above-the-claim"], True, [])


def test_policy_that_asks_for_canaries_names_whose_audit_is_missing_and_what_to_do(holder: Holder) -> None:
    text = holder.config.policy.read_text()
    holder.config.policy.write_text(text.replace("max_age_days: 90", "max_age_days: 90\n      min_canaries: 500"))
    ref = holder.keep("6a", training=SUMS)
    holder.run("model", "evidence", "make", ref.label, *holder.reports(ref, 0.005), person="steward")
    (training,) = last_bundle(holder, ref).trainings
    note(holder, EntryKind.NOISE_TESTED, {"job": training.job, "result": "passed"})
    found = holder.run("model", "evidence", "make", ref.label, *holder.reports(ref, 0.005), person="steward")
    assert reasons(found) == ["audit-missing"] * 3
    assert all(
        "planted 400 canaries, and 500 or more are asked for (class internal)" in each["what"] for each in found["reasons"]
    )
    assert "more `canaries` in the block `privacy`" in found["reasons"][0]["remedy"]


def last_bundle(holder: Holder, ref: ModelRef) -> EvidenceBundle:
    with one_transaction(holder.config.folder.database_file) as tables:
        return EvidenceBundle.from_bytes(tables.evidence.latest(ref).signed.body)


def note(holder: Holder, kind: EntryKind, facts: dict[str, Fact]) -> None:
    with one_transaction(holder.config.folder.database_file) as tables:
        tables.audit.append(kind, facts, now=datetime.now(UTC))


def evaluated(holder: Holder, ref: ModelRef, *, querier: str) -> str:
    """Keeps a completed evaluation of a version in the holder's records; returns its id."""
    job = an_evaluation(model_ref=ref, querier=querier, outputs=(Output("correct", OutputKind.CORRECT_COUNT, querier, 10),))
    with one_transaction(holder.config.folder.database_file) as tables:
        state = State.COMPLETED.value
        tables.jobs.add(JobRecord(job.job_id, querier, job.to_bytes(), bytes(64), None, "{}", state, CREATED, CREATED))
    return job.job_id


def stated_by_the_researcher(holder: Holder, ref: ModelRef, job_id: str, *, min_cell: int = 10) -> Path:
    """The file that the consortium's researcher signs about an evaluation."""
    config = load_researcher_config(holder.folder / harness.RESEARCHER / "researcher.yaml")
    consortium = holder.config.folder.member.load_directory().consortium
    report = UtilityReport(job_id, ref.label, 300, min_cell, (270, 270), (), {"accuracy": Figure(0.9, 0.87, 0.92)})
    stated = StatedUtility(consortium, harness.RESEARCHER, report)
    path = holder.folder / "utility.json"
    path.write_bytes(sign_utility_report(stated, config.folder.load_signing_key()).to_bytes())
    return path


def test_utility_enters_the_evidence_as_its_querier_signed_it(holder: Holder) -> None:
    ref = holder.keep("1a")
    path = stated_by_the_researcher(holder, ref, evaluated(holder, ref, querier=harness.RESEARCHER))
    options = (*holder.reports(ref, 0.02), "--utility", str(path))
    made = holder.run("model", "evidence", "make", ref.label, *options, person="steward")
    assert reasons(made) == ["approvals-missing"]
    with one_transaction(holder.config.folder.database_file) as tables:
        bundle = EvidenceBundle.from_bytes(tables.evidence.latest(ref).signed.body)
    assert bundle.utility[0].to_bytes() == path.read_bytes()
    assert any("Evaluation" in line and harness.RESEARCHER in line for line in bundle.impact["usefulness"])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("querier", "NOT_AUTHORISED"),
        ("job", "UNKNOWN_JOB"),
        ("figures", "BAD_SIGNATURE"),
        ("unsigned", "INVALID_DOCUMENT"),
        ("min_cell", "INVALID_DOCUMENT"),
    ],
)
def test_utility_that_its_querier_did_not_sign_enters_no_evidence(holder: Holder, change: str, code: str) -> None:
    ref = holder.keep("1a")
    job_id = evaluated(holder, ref, querier="alice" if change == "querier" else harness.RESEARCHER)
    path = stated_by_the_researcher(
        holder, ref, "ab" * 16 if change == "job" else job_id, min_cell=5 if change == "min_cell" else 10
    )
    if change == "figures":
        path.write_bytes(path.read_bytes().replace(b"0.900000", b"0.990000"))
    if change == "unsigned":
        path.write_bytes(
            canonical_bytes(read_stated_utility(SignedDocument.from_bytes(path.read_bytes()).document).to_document())
        )
    options = ["--config", str(holder.folder / "hospital-a" / "party.yaml"), "--format", "json"]
    options += ["--person", str(harness.person_folder(holder.config, "steward")), "--utility", str(path)]
    result = CliRunner().invoke(app, ["model", "evidence", "make", ref.label, *options])
    assert json.loads(result.stdout)["error"]["code"] == code
