"""What `confide model publish` does: plans, seals, signs and logs together, offers polynomials, and withdraws for good."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from governance.audit.entries import EntryKind, read_entry
from governance.encrypted.published import verify_published
from parties import harness
from parties.agreements import load_member
from parties.config import PartyConfig, load_party_config
from parties.harness_consent import OFFICER, OPERATOR, STEWARD, person_folder
from parties.publication_files import load_publication_terms, read_model
from parties.publishing import (
    load_published,
    preview_publication,
    publish_model,
    published_model,
    published_models,
    withdraw_model,
)
from parties.storage.database import one_transaction
from parties.storage.encrypted import EncryptedStore
from parties.storage.sealed import SealedFiles
from protocols.ckks.offers import Choice
from protocols.ckks.planning import EncryptedPlan
from protocols.ckks.sample_ranges import scaled
from protocols.errors import ConfideError, ErrorCode
from protocols.model.reference import logits
from tests.support.command import confide
from tests.support.publication import LINEAR, RECTIFIED, SQUARED, rows_in_range, write_files, write_terms


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("consortium")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness, "free_ports", lambda count: list(range(17_101, 17_101 + count)))
        harness.make_consortium(folder, ("party-a", "party-b", "party-c"))
    return folder


@pytest.fixture
def config(made: Path, tmp_path: Path) -> PartyConfig:
    shutil.copytree(made, tmp_path / "all")
    return load_party_config(tmp_path / "all" / "party-a" / "party.yaml")


def now() -> datetime:
    return datetime.now(UTC)


def logged(config: PartyConfig, kind: EntryKind) -> list[dict[str, object]]:
    with one_transaction(config.folder.database_file) as tables:
        entries = [read_entry(entry.body) for entry in tables.audit.entries(0, tables.audit.size())]
    return [dict(entry.facts) for entry in entries if entry.kind is kind]


def test_published_model_is_signed_sealed_logged_and_evaluates_as_the_file_did(config: PartyConfig, tmp_path: Path) -> None:
    files, terms = write_files(tmp_path, SQUARED), load_publication_terms(write_terms(tmp_path, outputs="[ill, well]"))
    model = publish_model(config, person_folder(config, STEWARD), files, terms, now=now())
    record = published_model(config, model.ref)
    assert verify_published(record.signed, load_member(config, now()).directory) == model
    assert (model.outputs, model.client_activation, model.known_after) == (("ill", "well"), "softmax", 10)
    assert set(model.plans) == {"latency", "packed", "batch"}
    facts = logged(config, EntryKind.MODEL_PUBLISHED)
    assert [(each["model"], each["published"]) for each in facts] == [(model.ref.label, model.digest)]
    spec, weights = load_published(record, config.folder.open_sealed())
    for plan in model.plans.values():
        assert EncryptedPlan.from_document(plan).num_features == spec.input_features
    rows = rows_in_range()
    expected = logits(*read_model(files.manifest, files.weights), rows)
    assert np.abs(logits(spec, weights, scaled(rows, model.ranges)) - expected).max() < 1e-5  # float32 weights, folded once


def test_sealed_weights_stand_nowhere_in_the_description_or_the_database(config: PartyConfig, tmp_path: Path) -> None:
    files, terms = write_files(tmp_path, LINEAR), load_publication_terms(write_terms(tmp_path))
    model = publish_model(config, person_folder(config, STEWARD), files, terms, now=now())
    record = published_model(config, model.ref)
    _, weights = load_published(record, config.folder.open_sealed())
    kept = b"".join(path.read_bytes() for path in config.state.rglob("*") if path.is_file()) + model.to_bytes()
    assert all(values.tobytes() not in kept for values in weights.values())


def test_linear_model_says_after_how_many_samples_it_is_known(config: PartyConfig, tmp_path: Path) -> None:
    files, terms = write_files(tmp_path, LINEAR), load_publication_terms(write_terms(tmp_path))
    assert publish_model(config, person_folder(config, STEWARD), files, terms, now=now()).known_after == 4


@pytest.mark.parametrize("person", [OPERATOR, OFFICER])
def test_nobody_but_a_steward_publishes_and_nothing_is_left_behind(config: PartyConfig, tmp_path: Path, person: str) -> None:
    files, terms = write_files(tmp_path, LINEAR), load_publication_terms(write_terms(tmp_path))
    with pytest.raises(ConfideError) as error:
        publish_model(config, person_folder(config, person), files, terms, now=now())
    assert error.value.code is ErrorCode.NOT_AUTHORISED
    assert not published_models(config)
    assert not list(config.state.rglob("*.sealed"))


def test_failed_transaction_leaves_no_sealed_weights(
    config: PartyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise ConfideError(ErrorCode.DISK_FULL)

    monkeypatch.setattr(EncryptedStore, "publish", full)
    files, terms = write_files(tmp_path, LINEAR), load_publication_terms(write_terms(tmp_path))
    with pytest.raises(ConfideError):
        publish_model(config, person_folder(config, STEWARD), files, terms, now=now())
    assert not list(config.state.rglob("*.sealed"))
    assert not logged(config, EntryKind.MODEL_PUBLISHED)


def test_party_that_starts_meanwhile_does_not_take_the_weights_for_what_nobody_names(
    config: PartyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start sweeps sealed files in a transaction of its own, which has to wait for the one that names these."""
    written = SealedFiles.write

    def write(*given: Any) -> str:
        name = written(*given)
        locked = pytest.raises(sqlite3.OperationalError, match="locked")
        with closing(sqlite3.connect(config.folder.database_file, timeout=0)) as other, locked:
            other.execute("BEGIN IMMEDIATE")
        return name

    monkeypatch.setattr(SealedFiles, "write", write)
    files, terms = write_files(tmp_path, LINEAR), load_publication_terms(write_terms(tmp_path))
    model = publish_model(config, person_folder(config, STEWARD), files, terms, now=now())
    load_published(published_model(config, model.ref), config.folder.open_sealed())


def test_model_with_relu_is_not_published_until_its_owner_chose_a_polynomial(config: PartyConfig, tmp_path: Path) -> None:
    files, terms = write_files(tmp_path, RECTIFIED), load_publication_terms(write_terms(tmp_path))
    with pytest.raises(ConfideError) as error:
        publish_model(config, person_folder(config, STEWARD), files, terms, now=now())
    assert error.value.code is ErrorCode.INVALID_MODEL
    assert not published_models(config)
    offered = preview_publication(files, terms)
    assert offered.lanes is None
    chosen = Choice(2, None)
    model = publish_model(config, person_folder(config, STEWARD), files, terms, now=now(), approximation=chosen)
    spec, _ = load_published(published_model(config, model.ref), config.folder.open_sealed())
    assert [layer.operator.kind for layer in spec.layers] == ["linear", "polynomial", "linear", "softmax"]


def test_offers_state_what_each_degree_loses_on_the_owners_rows(tmp_path: Path) -> None:
    labels = (np.arange(40) % 2).astype(np.float64)
    files, terms = write_files(tmp_path, RECTIFIED, labels=labels), load_publication_terms(write_terms(tmp_path))
    found = preview_publication(files, terms).offers
    assert [offer.degree for offer in found] == [2, 3, 4, 5, 6, 7]
    errors = [offer.fit_error for offer in found]
    assert errors[0] > errors[2] > errors[4]
    differences = [offer.measured.largest_difference for offer in found if offer.measured is not None]
    assert len(differences) == 6
    assert differences[0] > differences[-1] > 0
    plain = {offer.measured.plain_accuracy for offer in found if offer.measured is not None}
    assert len(plain) == 1


def test_withdrawn_model_is_destroyed_logged_once_and_stays_listed(config: PartyConfig, tmp_path: Path) -> None:
    files, terms = write_files(tmp_path, LINEAR), load_publication_terms(write_terms(tmp_path))
    model = publish_model(config, person_folder(config, STEWARD), files, terms, now=now())
    for _ in range(2):
        withdraw_model(config, person_folder(config, OFFICER), model.ref, reason="superseded", now=now())
    record = published_model(config, model.ref)
    assert record.withdrawn is not None
    assert [facts["reason"] for facts in logged(config, EntryKind.MODEL_WITHDRAWN)] == ["superseded"]
    with pytest.raises(ConfideError) as error:
        load_published(record, config.folder.open_sealed())
    assert error.value.code is ErrorCode.STATE_DAMAGED
    with one_transaction(config.folder.database_file) as tables:
        assert tables.sealed_names() == frozenset()


def test_withdrawing_needs_a_reason_and_a_model_that_is_published(config: PartyConfig, tmp_path: Path) -> None:
    files, terms = write_files(tmp_path, LINEAR), load_publication_terms(write_terms(tmp_path))
    model = publish_model(config, person_folder(config, STEWARD), files, terms, now=now())
    officer = person_folder(config, OFFICER)
    for ref, reason, code in (
        (model.ref, "", ErrorCode.INVALID_ARGUMENT),
        (type(model.ref)("diagnosis", "0" * 12), "wrong", ErrorCode.UNKNOWN_MODEL),
    ):
        with pytest.raises(ConfideError) as error:
            withdraw_model(config, officer, ref, reason=reason, now=now())
        assert error.value.code is code


def test_altered_sealed_model_does_not_load(config: PartyConfig, tmp_path: Path) -> None:
    files, terms = write_files(tmp_path, LINEAR), load_publication_terms(write_terms(tmp_path))
    model = publish_model(config, person_folder(config, STEWARD), files, terms, now=now())
    record = published_model(config, model.ref)
    (sealed,) = config.state.rglob("*.sealed")
    content = bytearray(sealed.read_bytes())
    content[-20] ^= 1
    sealed.write_bytes(bytes(content))
    with pytest.raises(ConfideError) as error:
        load_published(record, config.folder.open_sealed())
    assert error.value.code is ErrorCode.STATE_DAMAGED


def test_commands_publish_list_and_withdraw(config: PartyConfig, tmp_path: Path) -> None:
    files = write_files(tmp_path, SQUARED)
    own = ["--config", config.state.parent / "party.yaml"]
    brought = ["--manifest", files.manifest, "--weights", files.weights, "--terms", write_terms(tmp_path, lanes="[latency]")]
    rows = ["--validation", files.validation or ""]
    steward, officer = person_folder(config, STEWARD), person_folder(config, OFFICER)
    dry = confide("model", "publish", *own, *brought, *rows, "--dry-run", "--format", "json").data
    assert set(dry["lanes"]["plans"]) == {"latency"}
    assert not published_models(config)
    done = confide("model", "publish", *own, *brought, "--person", steward, "--format", "json").data
    (listed,) = confide("model", "published", *own, "--format", "json").data["models"]
    assert (listed["model"], listed["standing"]) == (done["model"], "answers")
    shown = confide("model", "withdraw", done["model"], *own, "--dry-run")
    assert "no open enquiry would end" in shown.out
    gone = confide("model", "withdraw", done["model"], *own, "--person", officer, "--reason", "superseded")
    assert gone.exit_code == 0, gone.error
    assert "withdrawn" in confide("model", "published", *own).out


def test_command_shows_the_offers_and_publishes_nothing_by_itself(config: PartyConfig, tmp_path: Path) -> None:
    files = write_files(tmp_path, RECTIFIED)
    own = ["--config", config.state.parent / "party.yaml", "--terms", write_terms(tmp_path)]
    brought = ["--manifest", files.manifest, "--weights", files.weights, "--validation", files.validation or ""]
    said = confide("model", "publish", *own, *brought, "--person", person_folder(config, STEWARD))
    assert said.exit_code != 0
    assert "--approximate DEGREE" in said.error
    assert not published_models(config)
