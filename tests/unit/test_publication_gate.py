"""A publication for encrypted queries asks like any release: the licence and the holder's gate, or the class of own rows."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from governance.audit.entries import EntryKind, read_entry
from governance.licence import Licence
from parties import harness
from parties.config import PartyConfig, load_party_config
from parties.harness_consent import OFFICER, STEWARD, person_folder
from parties.publication_files import PublicationTerms, load_publication_terms, read_model
from parties.publishing import PublicationFiles, load_published, preview_publication, publish_model, published_model
from parties.released import MANIFEST, WEIGHTS, keep_released
from parties.storage.database import one_transaction
from parties.storage.registry import MarkRecord
from privacy.accounting.statement import NO_GUARANTEE
from privacy.preparation.schema import TableSchema
from protocols.ckks.sample_ranges import scaled
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, ModelRef
from protocols.model.reference import logits
from tests.support.command import confide
from tests.support.evidence_holder import PARTIES, Holder, a_holder
from tests.support.publication import LINEAR, write_files, write_terms
from tests.support.released import a_release, handed_by

OWN = """
release:
  default_class: special
  datasets: {hospital-a/open: open, hospital-b/*: open}
  classes:
    special: {requires_guarantee: true, max_figures: {}, max_age_days: 30, approvals: null}
    open:
      requires_guarantee: false
      max_figures: {membership.lira.tpr_at_1_percent: "0.5"}
      max_age_days: 30
      approvals: null
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("consortium")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness, "free_ports", lambda count: list(range(17_201, 17_201 + count)))
        harness.make_consortium(folder, PARTIES, institution="hospital-a")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "all")
    return tmp_path / "all"


def now() -> datetime:
    return datetime.now(UTC)


def own_config(folder: Path) -> PartyConfig:
    config = load_party_config(folder / "hospital-a" / "party.yaml")
    config.policy.write_text(config.policy.read_text() + OWN)
    return config


def publish_own(config: PartyConfig, folder: Path, datasets: str) -> str:
    files = write_files(folder, LINEAR)
    terms = load_publication_terms(write_terms(folder, more=f"datasets: {datasets}\n"))
    return publish_model(config, person_folder(config, STEWARD), files, terms, now=now()).privacy


def test_own_model_of_open_rows_is_not_published_before_it_was_attacked(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfideError) as caught:
        publish_own(own_config(folder), tmp_path, "[hospital-a/open/2]")
    assert caught.value.code is ErrorCode.EVIDENCE_MISSING
    assert [problem.where for problem in caught.value.problems] == ["owner-without-risk-report"]


@pytest.mark.parametrize("datasets", ["[hospital-a/hearts/1]", "[hospital-a/open/1, hospital-a/hearts/1]", "[]"])
def test_class_that_asks_for_a_guarantee_refuses_an_own_model(folder: Path, tmp_path: Path, datasets: str) -> None:
    with pytest.raises(ConfideError) as caught:
        publish_own(own_config(folder), tmp_path, datasets)
    assert caught.value.code is ErrorCode.EVIDENCE_MISSING
    assert [problem.where for problem in caught.value.problems] == ["no-formal-guarantee"]


@pytest.mark.parametrize(
    ("datasets", "code"),
    [("[hospital-b/open/1]", ErrorCode.INVALID_ARGUMENT), ("[hospital-a/open]", ErrorCode.INVALID_CONFIG)],
)
def test_terms_name_registered_rows_of_the_publisher_alone(folder: Path, tmp_path: Path, datasets: str, code: ErrorCode) -> None:
    with pytest.raises(ConfideError) as caught:
        publish_own(own_config(folder), tmp_path, datasets)
    assert caught.value.code is code


def test_policy_without_releases_says_nothing_about_own_models(folder: Path, tmp_path: Path) -> None:
    config = load_party_config(folder / "hospital-a" / "party.yaml")
    assert publish_own(config, tmp_path, "[]") == NO_GUARANTEE


class Recipient:
    """Hospital A, whose researcher has received released weights of a model; it may hold a share of the version too."""

    def __init__(self, folder: Path, ref: ModelRef, **changes: object) -> None:
        self.config = load_party_config(folder / "hospital-a" / "party.yaml")
        self.weights = folder / "weights"
        directory = self.config.folder.member.load_directory()
        keys = {
            party: load_party_config(folder / party / "party.yaml").folder.member.load_signing_key()
            for party in ("hospital-a", "hospital-b")
        }
        time = now().replace(microsecond=0)
        self.until = time + timedelta(days=20)
        own = {"consortium": directory.consortium, "querier": harness.RESEARCHER, "model_ref": ref, "created": time}
        job = Job(**{**vars(a_release()), **own, **changes})

        def dated(licence: Licence) -> Licence:
            return replace(licence, expires=self.until)

        keep_released(self.weights, job, handed_by(keys, job, change=dated).replies, directory)

    @property
    def files(self) -> PublicationFiles:
        return PublicationFiles(self.weights / MANIFEST, self.weights / WEIGHTS)

    def terms(self, features: str = "[a, b, c, d]", *, days: float = 10) -> PublicationTerms:
        path = write_terms(self.weights.parent, features=features, more="output_limit: 100\n")
        expires = (now() + timedelta(days=days)).replace(microsecond=0)
        return replace(load_publication_terms(path), expires=expires)

    def publish(self, *, days: float = 10, purpose: str | None = "prognosis") -> object:
        steward = person_folder(self.config, STEWARD)
        return publish_model(self.config, steward, self.files, self.terms(days=days), now=now(), purpose=purpose)

    def refusal(self, *, days: float = 10, purpose: str | None = "prognosis") -> ConfideError:
        with pytest.raises(ConfideError) as caught:
            self.publish(days=days, purpose=purpose)
        with one_transaction(self.config.folder.database_file) as tables:
            assert tables.encrypted.models() == (), "nothing is published"
        return caught.value


def test_recipient_without_a_share_publishes_under_the_licence_and_names_the_origin(folder: Path) -> None:
    ref = ModelRef("diagnosis", "0123456789ab")
    model = Recipient(folder, ref).publish()
    assert model.origin == ref  # type: ignore[attr-defined]  # of the description
    assert model.privacy == "epsilon 1 at delta 0.00001, zero-out, row"  # type: ignore[attr-defined]


def test_licence_says_what_its_weights_claim_of_differential_privacy(folder: Path) -> None:
    weights, claim = Recipient(folder, ModelRef("diagnosis", "0123456789ab")).weights, "epsilon 1 at delta 0.00001, zero-out, row"
    asked = ("model", "licence", weights, "--purpose", "prognosis", "--config", folder / "researcher" / "researcher.yaml")
    assert f"privacy: {claim}" in confide(*asked).out.splitlines()
    assert confide(*asked, "--format", "json").data["privacy"] == claim


def test_publication_lasts_no_longer_than_the_licence(folder: Path) -> None:
    error = Recipient(folder, ModelRef("diagnosis", "0123456789ab")).refusal(days=21)
    assert error.code is ErrorCode.LICENCE_REFUSED
    assert [problem.where for problem in error.problems] == ["expires"]


def test_publication_asks_for_the_licence_by_itself(folder: Path) -> None:
    recipient = Recipient(folder, ModelRef("diagnosis", "0123456789ab"))
    assert recipient.refusal(purpose=None).code is ErrorCode.INVALID_ARGUMENT
    assert recipient.refusal(purpose="marketing").code is ErrorCode.LICENCE_REFUSED


SCALED = {
    "api_version": "confide/v1",
    "kind": "TableSchema",
    "name": "hearts",
    "columns": [
        {"name": "age", "range": ["0", "120"], "role": "feature", "type": "integer"},
        {"name": "pulse", "range": ["30", "250"], "role": "feature", "type": "float"},
        {"name": "smokes", "role": "feature", "type": "boolean"},
        {"name": "weight", "range": ["2.5", "200"], "role": "feature", "type": "float"},
        {"name": "ill", "role": "label", "type": "boolean"},
    ],
}
SAME = "age: [0, 120], pulse: [30, 250], smokes: [0, 1]"


def test_released_weights_answer_rows_in_their_own_units_as_the_joint_model_does(folder: Path) -> None:
    recipient = Recipient(folder, ModelRef("diagnosis", "0123456789ab"), schema=SCALED)
    terms = recipient.terms(f"{{{SAME}, weight: [2.5, 200]}}")
    steward = person_folder(recipient.config, STEWARD)
    model = publish_model(recipient.config, steward, recipient.files, terms, now=now(), purpose="prognosis")
    spec, answering = load_published(published_model(recipient.config, model.ref), recipient.config.folder.open_sealed())
    rows = np.array([[61.0, 84.5, 1.0, 72.0], [20.0, 200.0, 0.0, 130.5]])
    jointly = logits(
        *read_model(recipient.files.manifest, recipient.files.weights), TableSchema.from_document(SCALED).scale(rows)
    )
    # Two ways to the same scaled row, each a few roundings of float64, times the sum of four weights below 4.
    assert np.abs(logits(spec, answering, scaled(rows, model.ranges)) - jointly).max() < 16 * 8 * 2.0**-52


@pytest.mark.parametrize(
    ("features", "where"),
    [
        (f"{{{SAME}, weight: [0, 200]}}", ["features.weight"]),
        ("{pulse: [30, 250], age: [0, 120], smokes: [0, 1], weight: [2.5, 200]}", ["features"]),
        (f"{{{SAME}, mass: [2.5, 200]}}", ["features"]),
    ],
)
def test_released_weights_are_not_published_under_other_ranges(folder: Path, features: str, where: list[str]) -> None:
    recipient = Recipient(folder, ModelRef("diagnosis", "0123456789ab"), schema=SCALED)
    with pytest.raises(ConfideError) as caught:
        preview_publication(recipient.files, recipient.terms(features))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert [problem.where for problem in caught.value.problems] == where


def released_at(holder: Holder) -> tuple[Recipient, ModelRef]:
    """The released weights of a version whose share the holder has too; its owners assessed it, and nobody has approved yet."""
    ref = holder.keep("1a")
    recipient = Recipient(holder.folder, ref)
    holder.run("model", "evidence", "make", ref.label, *holder.reports(ref, 0.02), person=STEWARD)
    return recipient, ref


def test_holder_publishes_released_weights_only_if_its_own_gate_passes_them_now(folder: Path) -> None:
    holder = a_holder(folder)
    recipient, ref = released_at(holder)
    error = recipient.refusal()
    assert error.code is ErrorCode.EVIDENCE_MISSING
    assert [problem.where for problem in error.problems] == ["approvals-missing"]
    holder.run("model", "evidence", "approve", ref.label, person=OFFICER)
    recipient.publish()
    with one_transaction(holder.config.folder.database_file) as tables:
        entries = [read_entry(each.body) for each in tables.audit.entries(0, tables.audit.size())]
    decided = [entry.facts for entry in entries if entry.kind is EntryKind.RELEASE_DECIDED]
    assert decided[-1]["verdict"] == "pass"
    (published,) = [entry.facts for entry in entries if entry.kind is EntryKind.MODEL_PUBLISHED]
    assert published["origin"] == ref.label


def test_endpoint_of_a_holder_lasts_no_longer_than_its_evidence(folder: Path) -> None:
    holder = a_holder(folder)
    ref = holder.keep("1a")
    recipient = Recipient(folder, ref)
    reports = holder.reports(ref, 0.02, days=25)  # class confidential takes 30
    holder.run("model", "evidence", "make", ref.label, *reports, person=STEWARD)
    holder.run("model", "evidence", "approve", ref.label, person=OFFICER)
    error = recipient.refusal(days=6)
    assert error.code is ErrorCode.EVIDENCE_MISSING
    assert [problem.where for problem in error.problems] == ["expires"]
    recipient.publish(days=4)


def test_holder_without_evidence_and_of_a_revoked_model_publishes_nothing(folder: Path) -> None:
    holder = a_holder(folder)
    ref = holder.keep("1a")
    recipient = Recipient(folder, ref)
    assert recipient.refusal().code is ErrorCode.EVIDENCE_MISSING
    with one_transaction(holder.config.folder.database_file) as tables:
        tables.registry.mark(MarkRecord(ref, "hospital-b", "c0" * 16, ErrorCode.GRANT_REVOKED, False, now()))
    assert recipient.refusal().code is ErrorCode.MODEL_REVOKED
