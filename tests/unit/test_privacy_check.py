"""`confide privacy-check` in a pipeline: bundles with one planted fault each, by a policy and a directory in files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from governance.documents import SignedDocument
from governance.evidence.bundle import EvidenceBundle
from governance.evidence.facts import NoiseTest
from governance.evidence.gate import Reason, ReasonCode, Verdict
from governance.evidence.overtaken import Overtaken
from governance.evidence.own import OwnModel, own_ref
from governance.identity.directory import sign_directory
from parties.release_remedies import remedy_for
from privacy.figures import Figure
from tests.support import evidence
from tests.support.command import confide
from tests.support.evidence import A_ROWS, OTHER_VERSION, USE, UTILITY, Case
from tests.support.members import a_world

POLICY = """api_version: confide.policy/1
people:
  - {{id: nora, roles: [privacy-officer], key: "{key}"}}
otherwise: {{decision: refuse}}
release:
  default_class: confidential
  classes:
    confidential:
      requires_guarantee: {guarantee}
      max_epsilon: "3"
      max_delta: "0.00001"
      unit: person
      max_figures: {{membership.lira.tpr_at_1_percent: "0.03", group.accuracy_gap: "0.1"}}
      min_figures: {{accuracy: "0.8"}}
      min_shadows: 64
      max_age_days: 30
      approvals: {approvals}
      more_approvals: {{needed: 1, of: [privacy-officers]}}
"""
TPR = "membership__lira__tpr_at_1_percent"
COMMITMENT = "5c" * 32
Change = Callable[[Case], EvidenceBundle]


@dataclass(frozen=True)
class Pipeline:
    """Files that a pipeline has: the directory and policies."""

    case: Case
    folder: Path
    fingerprint: str

    def check(
        self, bundle: EvidenceBundle, *, signed: bytes | None = None, guarantee: bool = True, approvals: str = "null"
    ) -> Any:
        policy = self.folder / "policy.yaml"
        key = self.case.officers[0].key.public.hex
        policy.write_text(POLICY.format(key=key, guarantee=str(guarantee).lower(), approvals=approvals))
        file = self.folder / "bundle.json"
        file.write_bytes(self.case.signed(bundle).to_bytes() if signed is None else signed)
        files = ["--policy", policy, "--directory", self.folder / "directory.json", "--founder-fingerprint", self.fingerprint]
        return confide("privacy-check", file, *files, "--format", "json")


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    # The command goes by the clock, so what is judged must be of today.
    monkeypatch.setattr(evidence, "NOW", datetime.now(UTC).replace(microsecond=0))
    world = a_world()
    (tmp_path / "directory.json").write_bytes(sign_directory(world.directory, world.founder.signing).to_bytes())
    return Pipeline(Case(world), tmp_path, world.founder.fingerprint)


def with_use(case: Case, **figures: Figure) -> tuple[SignedDocument, ...]:
    changed = {name.replace("__", "."): figure for name, figure in figures.items()}
    return (case.utility(replace(UTILITY, figures=USE | changed)),)


def reported(case: Case, **changes: Any) -> EvidenceBundle:
    return case.bundle(risk_reports=(case.report(), case.report("hospital-b", **changes)))


def own(case: Case, *, is_attacked: bool) -> EvidenceBundle:
    ref = own_ref("diagnosis", COMMITMENT)
    return case.bundle(
        ref=ref,
        trainings=(),
        utility=(),
        preparations={},
        own=OwnModel(COMMITMENT, (A_ROWS,), (), USE if is_attacked else {}, {}),
        risk_reports=(case.report(ref=ref),) if is_attacked else (),
    )


# What is wrong in a configuration, by the field of a request or policy that a person would have to mend.
PLANTED: dict[str, tuple[Change, ReasonCode]] = {
    "more epsilon than the class takes": (lambda case: case.bundle(statement={"epsilon": "3.1"}), ReasonCode.EPSILON),
    "more epsilon with the moments and ranges that it was prepared with": (
        lambda case: case.bundle(statement={"whole_epsilon": "3.1", "prepared_with": 1}),
        ReasonCode.EPSILON,
    ),
    "a large delta": (lambda case: case.bundle(statement={"delta": "0.0001"}), ReasonCode.DELTA),
    "rows protected where people are asked for": (lambda case: case.bundle(statement={"unit": "row"}), ReasonCode.UNIT),
    "a training without noise": (
        lambda case: case.bundle(training={"guarantee": None, "noise_test": None, "audits": ()}),
        ReasonCode.NO_GUARANTEE,
    ),
    "noise that nobody tested": (lambda case: case.bundle(training={"noise_test": None}), ReasonCode.NO_NOISE_TEST),
    "an owner who drew no noise": (
        lambda case: case.bundle(training={"noise_test": NoiseTest(12, "hospital-b drew none")}),
        ReasonCode.NOISE_FAILED,
    ),
    "canaries that show more than the claim": (
        lambda case: case.bundle(training={"audits": (case.audit("hospital-b", "2.1"),)}),
        ReasonCode.AUDIT,
    ),
    "an over-fitted model": (lambda case: reported(case, **{TPR: Figure(0.035, 0.031, 0.04)}), ReasonCode.FIGURE),
    "an attack that finds more than the noise allows": (
        lambda case: reported(case, membership__rmia__tpr_at_1_percent=Figure(0.062, 0.051, 0.08)),
        ReasonCode.ATTACK_ABOVE_CEILING,
    ),
    "an attack with few shadows": (lambda case: reported(case, shadows=8), ReasonCode.FEW_SHADOWS),
    "an assessment of last year": (lambda case: reported(case, days=31), ReasonCode.STALE),
    "an assessment of another version": (lambda case: reported(case, ref=OTHER_VERSION), ReasonCode.OTHER_VERSION),
    "an owner who was not asked": (lambda case: case.bundle(risk_reports=(case.report(),)), ReasonCode.NO_REPORT),
    "a report in another owner's name": (
        lambda case: reported(case, key=case.world.hospital_a.signing),
        ReasonCode.NOT_BELIEVED,
    ),
    "a figure that nobody measured": (lambda case: case.bundle(utility=()), ReasonCode.NOT_MEASURED),
    "a model that treats groups unlike": (
        lambda case: case.bundle(utility=with_use(case, group__accuracy_gap=Figure(0.2, 0.15, 0.25))),
        ReasonCode.FIGURE,
    ),
    "a useless model": (
        lambda case: case.bundle(utility=with_use(case, accuracy=Figure(0.7, 0.65, 0.75))),
        ReasonCode.USEFULNESS,
    ),
    "a model of tomorrow": (lambda case: case.bundle(time=evidence.NOW + timedelta(hours=1)), ReasonCode.FROM_THE_FUTURE),
    "an own model where a guarantee is asked for": (lambda case: own(case, is_attacked=True), ReasonCode.NO_GUARANTEE),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_fault_is_caught_with_its_reason_and_what_to_do(pipeline: Pipeline, name: str) -> None:
    change, code = PLANTED[name]
    said = pipeline.check(change(pipeline.case))
    assert (said.exit_code, said.data["verdict"]) == (1, "blocked")
    assert code.value in [reason["code"] for reason in said.data["reasons"]]
    assert all(reason["remedy"] for reason in said.data["reasons"])


def test_sound_bundle_passes_and_one_that_waits_for_people_says_so(pipeline: Pipeline) -> None:
    bundle = pipeline.case.bundle()
    assert (pipeline.check(bundle).exit_code, pipeline.check(bundle).data["reasons"]) == (0, [])
    waits = pipeline.check(bundle, approvals="{needed: 1, of: [privacy-officers]}")
    assert (waits.exit_code, waits.data["verdict"]) == (2, "needs-officer")


def test_noise_on_counts_that_reaches_over_a_limit_asks_people(pipeline: Pipeline) -> None:
    wide = replace(UTILITY, noise="4.000000", figures=USE | {"accuracy": Figure(0.9, 0.75, 1.0)})
    said = pipeline.check(pipeline.case.bundle(utility=(pipeline.case.utility(wide),)))
    codes = [reason["code"] for reason in said.data["reasons"]]
    assert (said.exit_code, codes) == (2, ["interval-over-the-limit", "approvals-missing"])


def test_figure_that_another_measurement_has_overtaken_is_not_forgotten(pipeline: Pipeline) -> None:
    worse = pipeline.case.report(**{TPR: Figure(0.029, 0.02, 0.04)})
    said = pipeline.check(pipeline.case.bundle(overtaken=Overtaken((worse,), ())))
    assert (said.exit_code, said.data["verdict"]) == (2, "needs-officer")
    assert "figure-overtaken" in [reason["code"] for reason in said.data["reasons"]]


def test_own_model_without_an_attack_is_blocked_and_with_one_it_passes(pipeline: Pipeline) -> None:
    bare = pipeline.check(own(pipeline.case, is_attacked=False), guarantee=False)
    assert (bare.exit_code, [reason["code"] for reason in bare.data["reasons"]]) == (1, ["owner-without-risk-report"])
    assert pipeline.check(own(pipeline.case, is_attacked=True), guarantee=False).exit_code == 0


def test_altered_bundle_is_not_believed(pipeline: Pipeline) -> None:
    content = pipeline.case.signed(pipeline.case.bundle()).to_bytes()
    said = pipeline.check(pipeline.case.bundle(), signed=content.replace(b"0.012000", b"0.002000"))
    assert (said.exit_code, said.data["reasons"][0]["code"]) == (1, "document-not-believed")
    assert json.loads(said.out)["data"]["model"] is None


def remedies(said: Any) -> dict[str, str]:
    return {reason["code"]: reason["remedy"] for reason in said.data["reasons"]}


def test_remedy_is_for_what_is_wrong_and_for_the_kind_of_model(pipeline: Pipeline) -> None:
    unlike = pipeline.check(pipeline.case.bundle(utility=with_use(pipeline.case, group__accuracy_gap=Figure(0.2, 0.15, 0.25))))
    attacked = pipeline.check(reported(pipeline.case, **{TPR: Figure(0.035, 0.031, 0.04)}))
    assert "rows of those" in remedies(unlike)["figure-over-the-limit"]
    assert "more noise" in remedies(attacked)["figure-over-the-limit"]
    bare = pipeline.check(own(pipeline.case, is_attacked=False), guarantee=False)
    assert "confide model evidence own" in remedies(bare)["owner-without-risk-report"]


def test_bundle_that_follows_another_than_was_brought_says_which(pipeline: Pipeline) -> None:
    before = pipeline.case.bundle(parameters=30)
    said = pipeline.check(pipeline.case.after(before))
    (reason,) = said.data["reasons"]
    assert (reason["code"], reason["what"]) == (
        "changes-not-told",
        f"the bundle follows {before.digest[:12]}; the last release here was under none",
    )
    assert "--previous" in reason["remedy"]


@pytest.mark.parametrize(
    ("option", "holds", "what"),
    [
        ("bundle", "directory.json", "holds a signed directory, and no bundle of evidence"),
        ("bundle", "policy.yaml", "is no signed bundle of evidence"),
        ("bundle", "empty.json", "is no signed bundle of evidence"),
        ("--directory", "bundle.json", "holds a signed evidence, and no directory"),
        ("--previous", "policy.yaml", "is no signed bundle of evidence"),
        ("--previous", "directory.json", "holds a signed directory"),
        ("bundle", ".", "is not a file"),
        ("--policy", "nowhere.yaml", "No such file"),
    ],
)
def test_wrong_file_is_named_with_what_is_wanted(pipeline: Pipeline, option: str, holds: str, what: str) -> None:
    pipeline.check(pipeline.case.bundle())
    (pipeline.folder / "empty.json").write_bytes(b"")
    files = {"bundle": "bundle.json", "--policy": "policy.yaml", "--directory": "directory.json"} | {option: holds}
    bundle = files.pop("bundle")
    named = [part for name, file in files.items() for part in (name, pipeline.folder / file)]
    whose = ["--founder-fingerprint", pipeline.fingerprint, "--format", "json"]
    said = confide("privacy", "check", pipeline.folder / bundle, *named, *whose)
    assert said.exit_code == 1
    assert what in said.failure["what"]
    assert Path(holds).name in said.failure["what"] or holds == "."
    assert said.failure["remedy"]


def test_policy_without_limits_is_named_as_the_pipelines(pipeline: Pipeline) -> None:
    pipeline.check(pipeline.case.bundle())
    policy = pipeline.folder / "policy.yaml"
    policy.write_text(policy.read_text().partition("release:")[0])
    files = ["--policy", policy, "--directory", pipeline.folder / "directory.json", "--founder-fingerprint", pipeline.fingerprint]
    said = confide("privacy", "check", pipeline.folder / "bundle.json", *files, "--format", "json")
    (reason,) = said.data["reasons"]
    assert (said.exit_code, reason["what"]) == (1, "this pipeline's policy has no block `release`, so nothing is released")


def test_every_reason_that_blocks_has_a_remedy_of_its_own() -> None:
    by_people = {ReasonCode.INTERVAL, ReasonCode.RISEN, ReasonCode.OVERTAKEN, ReasonCode.GONE, ReasonCode.LESS_PROTECTED}
    by_people |= {ReasonCode.GROWN, ReasonCode.LARGER_THAN_NEEDED}
    said = [remedy_for(Reason(code, Verdict.BLOCKED, "")) for code in ReasonCode if code not in by_people]
    assert len(set(said)) == len(said)
