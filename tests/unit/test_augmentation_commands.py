"""`confide augmentation`: what people see of the catalogue, and wrong uses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from parties.augmentation import measuring
from parties.cli.main import app
from privacy.augmentation.catalogue import TECHNIQUES
from privacy.augmentation.technique import Medium
from privacy.risk.shadows import Schedule

SCHEMA = """api_version: confide/v1
kind: TableSchema
name: ward
columns:
  - {name: age, role: feature, type: integer, range: [0, 120]}
  - {name: dose, role: feature, type: float, range: [-1, 1]}
  - {name: smoker, role: feature, type: boolean}
  - {name: outcome, role: label, type: choice, negative: well, positive: ill}
"""


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["augmentation", *arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and small models: these tests look at words, not at figures."""
    monkeypatch.setattr(measuring, "SCHEDULE", Schedule(hidden=4, steps=20, batch_rows=8))
    monkeypatch.setattr(measuring, "NUM_SHADOWS", 8)


@pytest.fixture
def ward(tmp_path: Path) -> list[str]:
    drawn = np.random.default_rng(1)
    rows = [
        f"{drawn.integers(0, 121)},{drawn.uniform(-1, 1):.3f},{drawn.integers(0, 2)},{('well', 'ill')[drawn.integers(0, 2)]}"
        for _ in range(160)
    ]
    (tmp_path / "ward.csv").write_text("\n".join(["age,dose,smoker,outcome", *rows]) + "\n")
    (tmp_path / "schema.yaml").write_text(SCHEMA)
    return ["--file", str(tmp_path / "ward.csv"), "--schema", str(tmp_path / "schema.yaml")]


def test_list_has_every_technique_with_a_verdict() -> None:
    code, text, _ = run("list")
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()[1:]] == list(TECHNIQUES)
    code, text, _ = run("list", "--format", "json")
    entries = {entry["name"]: entry for entry in json.loads(text)["data"]["techniques"]}
    for name, technique in TECHNIQUES.items():
        assert entries[name]["groups"] == technique.statement.groups
        assert (entries[name]["verdict"] == "not measured") == (technique.medium is Medium.TEXT)


def test_show_says_what_a_technique_means_for_people_and_its_effects() -> None:
    code, text, _ = run("show", "mixup")
    assert code == 0
    assert "2 times under replace-one, 3 times under add-or-remove" in text
    assert "diabetes" in text
    assert "verdict:" in text


def test_unknown_technique_is_refused_with_the_names_there_are() -> None:
    code, _, error = run("show", "cutout")
    assert code == 2
    assert "INVALID_ARGUMENT" in error
    assert "mixup" in error


@pytest.mark.usefixtures("quick")
def test_evaluate_writes_records_that_can_be_read(tmp_path: Path) -> None:
    out = tmp_path / "new" / "records"
    code, text, error = run("evaluate", "jitter", "clipping", "--data", "diabetes", "--seeds", "3", "--out", str(out))
    assert code == 0, error
    assert sorted(path.name for path in out.iterdir()) == ["clipping.json", "jitter.json"]
    assert json.loads((out / "jitter.json").read_text())["seeds"] == [1, 2, 3]
    assert text.count("verdict:") == 2


@pytest.mark.usefixtures("quick")
def test_own_rows_are_measured_with_their_groups(ward: list[str]) -> None:
    code, text, error = run("evaluate", "mixup", *ward, "--group", "smoker", "--seeds", "3", "--format", "json")
    assert code == 0, error
    effects = json.loads(text)["data"]["techniques"][0]["effects"]
    assert {"group_gap", "attack_auc", "accuracy"} <= {effect["figure"] for effect in effects}
    assert {effect["data"] for effect in effects} == {"own rows"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["synonyms"], "none of the data sets"),
        (["jitter", "--data", "digits"], "none of the data sets"),
        (["jitter", "--data", "moons"], "no data set"),
        (["jitter", "--group", "age"], "--file and --schema"),
        (["jitter", "--file", "x.csv"], "--file and --schema"),
    ],
)
def test_wrong_uses_are_refused_before_anything_is_trained(arguments: list[str], said: str) -> None:
    code, _, error = run("evaluate", *arguments)
    assert code == 2
    assert said in error


@pytest.mark.parametrize("group", ["dose", "outcome", "height"])
def test_group_must_be_a_feature_with_few_values(ward: list[str], group: str) -> None:
    code, _, error = run("evaluate", "mixup", *ward, "--group", group)
    assert code == 2
    assert "2 to 20 different values" in error
