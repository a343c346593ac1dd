"""The block `release` of a policy, and the form of a bundle: read strictly, with every problem's place."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from governance.evidence.bundle import EvidenceBundle, verify_evidence
from governance.policy.release import Quorum, ReleaseTerms
from parties.policy_file import load_policy, policy_schema
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.private_training import Unit
from tests.support.evidence import Case
from tests.support.members import a_world

WHOLE = f"""api_version: confide.policy/1
people:
  - {{id: nora, roles: [privacy-officer], key: "{"a1" * 32}"}}
  - {{id: emil, roles: [privacy-officer], key: "{"b2" * 32}"}}
otherwise: {{decision: refuse}}
release:
  default_class: internal
  datasets: {{hospital-a/hearts/2: special, hospital-a/hearts: internal, hospital-b/*: special}}
  classes:
    internal:
      requires_guarantee: false
      max_figures: {{membership.lira.auc: "0.55"}}
      max_age_days: 90
      approvals: null
    special:
      requires_guarantee: true
      max_epsilon: "3"
      max_delta: "0.00001"
      unit: person
      max_figures: {{membership.lira.tpr_at_1_percent: "0.03", group.fnr_gap: "0.1", ece: "0.05"}}
      min_figures: {{accuracy: "0.8"}}
      min_canaries: 1000
      min_shadows: 128
      max_age_days: 30
      approvals: {{needed: 1, of: [privacy-officers]}}
      more_approvals: {{needed: 2, of: [nora, emil]}}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


def terms_of(folder: Path) -> ReleaseTerms:
    terms = load_policy(written(folder, WHOLE)).release
    assert terms is not None
    return terms


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(a_world())


def test_release_block_is_read_whole(tmp_path: Path) -> None:
    terms = terms_of(tmp_path)
    special = terms.classes["special"]
    assert (special.max_epsilon, special.max_delta, special.unit) == (Decimal(3), Decimal("0.00001"), Unit.PERSON)
    assert (special.shadows_asked, terms.classes["internal"].shadows_asked) == (128, 64)
    assert replace(special, max_figures={"ece": Decimal("0.05")}).shadows_asked == 0  # no limit on what shadow models find
    assert special.max_figures["group.fnr_gap"] == Decimal("0.1")
    assert (special.approvals, special.more_approvals) == (Quorum(1, ("privacy-officers",)), Quorum(2, ("nora", "emil")))
    assert (terms.classes["internal"].requires_guarantee, terms.classes["internal"].approvals) == (False, None)


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("hospital-a/hearts/2", "special"),
        ("hospital-a/hearts/3", "internal"),
        ("hospital-b/anything/1", "special"),
        ("hospital-c/hearts/2", "internal"),
    ],
)
def test_class_of_a_data_set_is_that_of_the_closest_name(tmp_path: Path, dataset: str, name: str) -> None:
    assert terms_of(tmp_path).class_of(dataset) == name


def test_policy_without_the_block_says_nothing_and_has_another_digest(tmp_path: Path) -> None:
    whole = load_policy(written(tmp_path, WHOLE))
    without = load_policy(written(tmp_path, WHOLE.partition("release:")[0]))
    assert without.release is None
    assert without.digest != whole.digest


def test_schema_names_the_block() -> None:
    assert "ReleaseFields" in str(policy_schema())


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("default_class: internal", "default_class: secret", "7 release.default_class"),
        ("hearts: internal", "hearts: secret", "release.datasets.hospital-a/hearts"),
        ("hospital-b/*: special", "hearts: special", "release.datasets.hearts"),
        ("hospital-a/hearts/2:", "hospital-a/hearts/0:", "release.datasets.hospital-a/hearts/0"),
        ("membership.lira.auc", "membreship.lira.auc", "release.classes.internal.max_figures"),
        ("{accuracy:", "{group.accuracy_gap:", "release.classes.special.min_figures"),
        ('{membership.lira.auc: "0.55"}', "{}", "release.classes.internal"),
        ("needed: 2", "needed: 3", "release.classes.special.more_approvals.needed"),
        ("[nora, emil]", "[nora, olaf]", "release.classes.special.more_approvals.of"),
        ('"0.00001"', '"1"', "release.classes.special.max_delta"),
        ("      max_age_days: 90\n", "", "release.classes.internal.max_age_days"),
        ("requires_guarantee: true", "requires_guarantee: 1", "release.classes.special.requires_guarantee"),
        ("min_shadows: 128", "min_shadows: 7", "release.classes.special.min_shadows"),
        ("min_shadows: 128", "min_shadows: 1025", "release.classes.special.min_shadows"),
        ("min_canaries: 1000", "min_canaries: 7", "release.classes.special.min_canaries"),
        ("min_canaries: 1000", "min_canaries: 10001", "release.classes.special.min_canaries"),
        ("unit: person", "unit: people", "release.classes.special.unit"),
        ('max_epsilon: "3"', "max_epsilon: 3", "release.classes.special.max_epsilon"),
        ("      approvals: null\n", "", "release.classes.internal.approvals"),
    ],
)
def test_mistake_in_the_block_is_told_with_its_place(tmp_path: Path, old: str, new: str, where: str) -> None:
    assert old in WHOLE
    path = written(tmp_path, WHOLE.replace(old, new))
    with pytest.raises(ConfideError) as caught:
        load_policy(path)
    assert caught.value.code is ErrorCode.INVALID_CONFIG
    assert any(where in problem.where for problem in caught.value.problems), caught.value.problems


def test_bundle_round_trips_and_verifies(case: Case) -> None:
    made = case.after(case.bundle(parameters=30))
    read = verify_evidence(case.signed(made), case.world.directory)
    assert (read.digest, read.to_bytes()) == (made.digest, made.to_bytes())
    assert (read.owners, read.spent) == (("hospital-a", "hospital-b"), (Decimal("2.0"), Decimal("0.000001")))


def test_impact_assessment_that_its_facts_do_not_make_is_no_bundle(case: Case) -> None:
    document = dict(case.bundle().to_document())
    document["impact"] = {**document["impact"], "risks": ["There are none."]}
    with pytest.raises(ConfideError) as caught:
        EvidenceBundle.from_bytes(canonical_bytes(document))
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


def test_statement_that_claims_less_than_its_accountant_gave_is_no_evidence(case: Case) -> None:
    made = case.bundle(statement={"epsilon": "1.8"})
    with pytest.raises(ConfideError) as caught:
        EvidenceBundle.from_bytes(made.to_bytes())
    assert [problem.where for problem in caught.value.problems] == ["trainings.0.guarantee.epsilon"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trainings", []),
        ("previous", "x"),
        ("parameters", 0),
        ("risk_reports", ["{}"]),
        ("utility", [{"job": "2b", "figures": {}}]),
        ("preparations", {"hearts": "c3" * 32}),
        ("changes", ["something"]),
        ("version", "live"),
        ("surplus", 1),
    ],
)
def test_bundle_with_a_wrong_field_is_refused(case: Case, field: str, value: object) -> None:
    with pytest.raises(ConfideError) as caught:
        EvidenceBundle.from_bytes(canonical_bytes({**case.bundle().to_document(), field: value}))
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


def test_bundle_of_another_consortium_or_issuer_is_refused(case: Case) -> None:
    for changes in ({"consortium": "other"}, {"issuer": "hospital-b"}):
        signed = case.signed(case.bundle())
        body = replace(case.bundle(), **changes).to_bytes()
        with pytest.raises(ConfideError):
            verify_evidence(replace(signed, body=body), case.world.directory)
