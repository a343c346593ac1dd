"""`confide model`: a holder's commands on a real state folder, with the people of a harness."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from parties import harness
from parties.cli.main import app
from parties.config import PartyConfig, load_party_config
from parties.storage.database import open_database
from parties.storage.jobs import JobRecord
from parties.storage.models import ModelRecord, model_object_id
from parties.storage.sealed import Purpose
from protocols.canonical import canonical_bytes
from protocols.job import ModelRef
from protocols.session.states import State
from tests.support.jobs import CREATED, a_training

PARTIES = ("hospital-a", "hospital-b", "hospital-c")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> PartyConfig:
    """A holder that has never served, with two versions of one model."""
    folder = tmp_path_factory.mktemp("holder")
    harness.make_consortium(folder, PARTIES)
    return load_party_config(folder / "hospital-a" / "party.yaml")


@pytest.fixture(scope="module")
def versions(config: PartyConfig) -> list[ModelRef]:
    return [_keep(config, nonce * 16) for nonce in ("1a", "2a", "3a")]


def _keep(config: PartyConfig, nonce: str) -> ModelRef:
    job = a_training(nonce=nonce)
    ref = job.produced_model
    if ref is None:
        raise AssertionError("a training leaves a model")
    sealed = config.folder.open_sealed().write(Purpose.MODEL_SHARE, model_object_id(ref), b"a share")
    database = open_database(config.folder.database_file)
    with database.transaction() as tables:
        state = State.COMPLETED.value
        tables.jobs.add(JobRecord(job.job_id, "alice", job.to_bytes(), bytes(64), None, "{}", state, CREATED, CREATED))
        schema, model = canonical_bytes(job.schema), canonical_bytes(job.model.to_document())
        tables.models.add(ModelRecord(ref, job.job_id, "d0" * 32, model, schema, sealed, {}, CREATED, True, 40))
    database.close()
    return ref


def _run(config: PartyConfig, *arguments: str, person: str = "", code: int = 0) -> dict[str, Any]:
    options = ["--config", str(config.policy.parent / "party.yaml"), "--format", "json"]
    if person:
        options += ["--person", str(harness.person_folder(config, person))]
    result = CliRunner().invoke(app, ["model", *arguments, *options])
    assert result.exit_code == code, result.output
    envelope = json.loads(result.stdout)
    return dict(envelope["data"] if code == 0 else envelope["error"])


def test_commands_show_a_model_from_every_side(config: PartyConfig, versions: list[ModelRef]) -> None:
    label = versions[0].label
    listed = _run(config, "list")["models"]
    assert [entry["state"] for entry in listed] == ["usable"] * 3
    assert _run(config, "show", label)["held_by"] == ["hospital-a", "hospital-b"]
    assert {node["kind"] for node in _run(config, "lineage", label)["nodes"]} >= {"dataset", "preparation", "job", "model"}
    assert "may be used" in _run(config, "explain", label)["sentences"][0]
    assert _run(config, "card", label)["rows_by_party"] == dict.fromkeys(PARTIES, 100)


def test_alias_moves_by_people_who_may_and_no_others(config: PartyConfig, versions: list[ModelRef]) -> None:
    first, second, _ = versions
    assert _run(config, "alias", "set", "diagnosis@live", first.version, person="operator", code=5)["code"] == "NOT_AUTHORISED"
    for ref in (first, second):
        assert _run(config, "alias", "set", "diagnosis@live", ref.version, person="steward")["version"] == ref.version
    back = _run(config, "alias", "rollback", "diagnosis@live", person="officer")
    assert (back["version"], back["before"]) == (first.version, second.version)
    assert _run(config, "alias", "list")["aliases"] == [
        {"alias": "diagnosis@live", "version": first.version, "holder": "hospital-a"}
    ]
    refused = _run(config, "alias", "set", "diagnosis@released", first.version, person="officer", code=5)
    assert refused["code"] == "EVIDENCE_MISSING"


def test_withdrawn_and_destroyed_models_stay_visible_with_the_reason(config: PartyConfig, versions: list[ModelRef]) -> None:
    _, second, third = versions
    _run(config, "revoke", second.label, person="officer")
    assert _run(config, "revoke", second.label, person="officer", code=5)["code"] == "MODEL_REVOKED"
    assert _run(config, "delete", third.label, "--yes", person="auditor", code=5)["code"] == "NOT_AUTHORISED"
    _run(config, "delete", third.label, "--yes", person="steward")
    states = {entry["model"]: entry["state"] for entry in _run(config, "list")["models"]}
    assert (states[second.label], states[third.label]) == ("revoked", "destroyed")
    for ref, held_by in ((second, ["hospital-a", "hospital-b"]), (third, ["hospital-b"])):
        first, why, *_ = _run(config, "explain", ref.label)["sentences"]
        assert "may not be used" in first
        assert "withdrawn" in why
        card = _run(config, "card", ref.label)
        assert (card["usable"], card["holders"]) == (False, held_by)
        assert "withdrawn" in card["why_not"][0]
        (node,) = [node for node in _run(config, "lineage", ref.label)["nodes"] if node["name"] == ref.label]
        assert (node["usable"], "withdrawn" in node["why"]) == ("no", True)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("show", "diagnosis"), "INVALID_ARGUMENT"),
        (("show", "diagnosis@000000000000"), "UNKNOWN_MODEL"),
        (("lineage", "diagnosis@000000000000"), "UNKNOWN_MODEL"),
        (("card", "diagnosis@live"), "INVALID_ARGUMENT"),
    ],
)
def test_wrong_name_is_refused_and_told(config: PartyConfig, arguments: tuple[str, ...], code: str) -> None:
    assert _run(config, *arguments, code=2)["code"] == code
