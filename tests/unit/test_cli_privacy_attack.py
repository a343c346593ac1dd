"""`confide privacy attack`: planted canaries are found, figures are the library's; what is wrong or not licensed is refused."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from governance.licence import Licence
from parties import harness
from parties.cli.options import now
from parties.config import load_party_config
from parties.released import keep_released
from parties.storage.database import one_transaction
from parties.storage.datasets import DatasetRecord
from privacy.figures import figures_document
from privacy.preparation.schema_file import schema_from_yaml
from privacy.risk import own_model
from privacy.risk.assess import Canaries, Plan, assess_model
from privacy.risk.canaries import draw_canaries
from privacy.risk.own_model import OwnAttack, OwnRows, answers_of
from privacy.risk.shadows import Schedule, ShadowRows, train_shadows
from privacy.risk.target import AttackedRows
from protocols.job import Job
from protocols.model.layers import Linear, Relu
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_from_safetensors, weights_to_safetensors
from tests.support.command import Said, confide
from tests.support.evidence_holder import PARTIES, Holder, a_holder
from tests.support.people import NOW
from tests.support.released import REF, a_release, handed_by

ROWS, PLANTED, REFERENCES, HIDDEN = 120, 40, 160, 48
NUMBERS = [f"n{place}" for place in range(8)]
HEAD = [*NUMBERS, "smokes", "ill"]
COLUMNS: list[dict[str, Any]] = [
    *({"name": name, "role": "feature", "type": "float", "range": ["0", "10"]} for name in NUMBERS),
    {"name": "smokes", "role": "feature", "type": "boolean"},
    {"name": "ill", "role": "label", "type": "boolean"},
]
BY_HEART = Schedule(hidden=HIDDEN, steps=1500)
SHADOWS = Schedule(hidden=HIDDEN, steps=150)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shadows of the same kind, trained for fewer steps."""
    monkeypatch.setattr(own_model, "schedule_for", lambda spec: SHADOWS)


def people(count: int, seed: int) -> ShadowRows:
    """Independent columns, as they are scaled; three labels in ten say nothing. Of four decimals, which a file can hold."""
    draw = np.random.default_rng(seed)
    features = np.round(draw.uniform(-1, 1, (count, len(NUMBERS) + 1)), 4)
    features[:, -1] = np.sign(features[:, -1])
    labels = (features.sum(axis=1) > 0) ^ (draw.random(count) < 0.3)
    return ShadowRows(features, labels.astype(np.int64))


def canaries() -> Canaries:
    """Rows at corners, no two alike."""
    drawn = draw_canaries(4 * (PLANTED + REFERENCES), features=len(NUMBERS) + 1, classes=2, generator=np.random.default_rng(9))
    _, first = np.unique(np.column_stack([drawn.features, drawn.labels]), axis=0, return_index=True)
    chosen = np.sort(first)[: PLANTED + REFERENCES]
    planted, references = chosen[:PLANTED], chosen[PLANTED:]
    return Canaries(*(ShadowRows(drawn.features[part], drawn.labels[part]) for part in (planted, references)))


def together(*parts: ShadowRows) -> ShadowRows:
    return ShadowRows(np.concatenate([part.features for part in parts]), np.concatenate([part.labels for part in parts]))


def write(path: Path, rows: ShadowRows, *, head: Sequence[str] = HEAD) -> None:
    words = ("false", "true")
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [head, *([f"{5 * (x + 1):.4f}" for x in row[:-1]] + [words[int(row[-1] > 0)], words[label]]
                     for row, label in zip(rows.features, rows.labels, strict=True))]
        )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows its members and the canaries among them by heart, in files, with the rows."""
    folder = tmp_path_factory.mktemp("model")
    schema = {"api_version": "confide/v1", "kind": "TableSchema", "name": "people", "columns": COLUMNS}
    (folder / "schema.yaml").write_text(yaml.safe_dump(schema))
    own = canaries()
    for name, rows in (("members", people(ROWS, 1)), ("others", people(ROWS, 2)), ("planted", own.planted)):
        write(folder / f"{name}.csv", rows)
    write(folder / "references.csv", own.references)
    trained = train_shadows([together(people(ROWS, 1), own.planted)], classes=2, schedule=BY_HEART, seed=3)
    first, first_bias, last, last_bias = (each[0].numpy() for each in trained._parameters)
    weights = {"first.weight": first.T, "first.bias": first_bias[0], "last.weight": last.T, "last.bias": last_bias[0]}
    spec = a_spec()
    (folder / "model.json").write_text(json.dumps(spec.to_document()))
    found = {name: np.ascontiguousarray(value) for name, value in weights.items()}
    (folder / "model.safetensors").write_bytes(weights_to_safetensors(found, spec))
    return folder


def a_spec() -> ModelSpec:
    return ModelSpec.chain(len(NUMBERS) + 1, first=Linear(HIDDEN), between=Relu(), last=Linear(2))


@pytest.fixture
def files(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "files")


def rows_of(folder: Path) -> list[str]:
    own = ["--members", str(folder / "members.csv"), "--others", str(folder / "others.csv"), "--sensitive", "smokes"]
    return [*own, "--hidden", "n0", "--hidden", "n1", "--shadows", "8", "--seed", "5", "--format", "json"]


def canaries_of(folder: Path) -> list[str]:
    return ["--canaries", str(folder / "planted.csv"), "--references", str(folder / "references.csv")]


def attack(folder: Path, *more: str) -> Said:
    model = ["--manifest", str(folder / "model.json"), "--weights", str(folder / "model.safetensors")]
    return confide("privacy", "attack", *model, "--schema", folder / "schema.yaml", *rows_of(folder), *more)


def test_figures_are_those_of_the_library_on_the_same_rows(files: Path) -> None:
    found = attack(files, *canaries_of(files)).data
    spec = a_spec()
    ask = answers_of(spec, weights_from_safetensors((files / "model.safetensors").read_bytes(), spec))
    schema = schema_from_yaml((files / "schema.yaml").read_bytes())

    def read(rows: ShadowRows) -> ShadowRows:
        numbers = np.array([[float(f"{5 * (x + 1):.4f}") for x in row[:-1]] + [float(row[-1] > 0)] for row in rows.features])
        return ShadowRows(schema.scale(numbers), rows.labels)

    members, others = read(people(ROWS, 1)), read(people(ROWS, 2))
    centre, spread = (getattr(together(members, others).features, name)(axis=0) for name in ("mean", "std"))

    def standardised(rows: ShadowRows) -> ShadowRows:
        return ShadowRows((rows.features - centre) / spread, rows.labels)

    own = canaries()
    expected = assess_model(
        lambda features: ask(features * spread + centre),
        AttackedRows(standardised(members), standardised(others)),
        Plan(2, SHADOWS, len(NUMBERS), (0, 1), shadows=8, seed=5),
        canaries=Canaries(standardised(read(own.planted)), standardised(read(own.references))),
    )
    assert found["figures"] == figures_document(expected.figures)
    assert (found["members"], found["others"], found["shadows"], found["seed"], found["model"]) == (ROWS, ROWS, 8, 5, None)


def test_canaries_that_were_memorised_are_found_and_those_that_were_not_are_not(files: Path) -> None:
    said = attack(files, *canaries_of(files), "--format", "text").out
    assert "The model tells of its rows" in said
    assert "canaries.exposure" in said.split("the whole interval of")[1]
    known = attack(files, *canaries_of(files)).data["figures"]
    by_chance = 1 / np.log(2)  # the mean of log2 of the references over a rank that is any of them as likely
    assert float(known["canaries.exposure"][1]) > by_chance
    assert float(known["membership.lira.auc"][1]) > 0.5
    # References that were not planted either, in the place of canaries.
    drawn = canaries().references
    for name, part in (("planted", slice(PLANTED)), ("references", slice(PLANTED, None))):
        write(files / f"{name}.csv", ShadowRows(drawn.features[part], drawn.labels[part]))
    unknown = attack(files, *canaries_of(files)).data["figures"]
    assert float(unknown["canaries.exposure"][1]) <= by_chance


def test_without_canaries_nothing_is_said_of_them(files: Path) -> None:
    found = attack(files).data["figures"]
    assert not [name for name in found if name.startswith("canaries.")]
    assert {"attribute_inference.gain", "reconstruction.gain", "membership.rmia.auc", "capacity.excess"} <= set(found)


def test_time_is_told_before_if_it_is_more_than_moments(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for foreseen, told in ((1.9, False), (47.2, True)):
        monkeypatch.setattr(own_model, "seconds_for", lambda *_, foreseen=foreseen: foreseen)
        assert ("about 48 s of one core" in attack(files).error) is told


def test_time_is_foreseen_by_some_steps_of_the_shadows(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = [0.0]

    def trained(*_: Any, schedule: Schedule, **__: Any) -> Any:
        # The first takes 4 s more, to load; each takes 1 s in any case and 0.1 s a step after the first.
        spent[0] += (4.0 if not spent[0] else 0.0) + 1.0 + 0.1 * (schedule.steps - 1)
        return SimpleNamespace(logits=lambda features: None)

    monkeypatch.setattr(own_model, "train_shadows_on", trained)
    rows, asked = OwnRows(people(ROWS, 1), people(ROWS, 2)), OwnAttack(0, (0,), shadows=8)
    # 150 steps and what is done once; sixteen smaller models are trained beside eight shadows.
    assert own_model.seconds_for(a_spec(), rows, asked, lambda: spent[0]) == pytest.approx(3 * (150 * 0.1 + 1))


def refusal(said: Said) -> tuple[str, str, set[str]]:
    assert said.exit_code != 0
    failure = said.failure
    assert failure["remedy"] or all(problem["remedy"] for problem in failure["problems"])
    return failure["code"], failure["what"], {problem["where"] for problem in failure["problems"]}


def test_rows_that_cannot_be_attacked_are_refused_by_name(files: Path) -> None:
    write(files / "others.csv", together(people(ROWS, 2), ShadowRows(*(part[:7] for part in vars(people(ROWS, 1)).values()))))
    assert refusal(attack(files))[::2] == ("INVALID_DATA", {"others"})
    write(files / "others.csv", people(19, 2))
    own = canaries()
    write(files / "references.csv", own.planted)
    assert refusal(attack(files, *canaries_of(files)))[::2] == ("INVALID_DATA", {"others", "references"})
    write(files / "others.csv", people(ROWS, 2), head=[*HEAD[:-2], "smoker", "ill"])
    code, what, where = refusal(attack(files))
    assert (code, str(files / "others.csv") in what) == ("INVALID_DATA", True)
    assert where == {"column smokes", "column 'smoker'"}


def test_columns_and_schemas_that_are_not_the_models_are_refused(files: Path) -> None:
    assert refusal(attack(files, "--sensitive", "height"))[::2] == ("INVALID_ARGUMENT", {"height"})
    assert refusal(attack(files, "--sensitive", "ill"))[::2] == ("INVALID_ARGUMENT", {"ill"})
    schema = yaml.safe_load((files / "schema.yaml").read_text())
    whole = schema["columns"]
    schema["columns"] = [*whole[1:-1], {"name": "ill", "role": "label", "type": "choice", "choices": ["a", "b", "c"]}]
    (files / "schema.yaml").write_text(yaml.safe_dump(schema))
    assert refusal(attack(files))[::2] == ("INVALID_ARGUMENT", {"features", "classes"})
    schema["columns"] = [*whole[:-1], {"name": "ill", "role": "label", "type": "float", "range": ["0", "1"]}]
    (files / "schema.yaml").write_text(yaml.safe_dump(schema))
    assert refusal(attack(files))[0] == "INVALID_SCHEMA"


@pytest.mark.parametrize("more", [("--canaries", "planted.csv"), ("--references", "references.csv")])
def test_canaries_without_references_are_wrong_use(files: Path, more: tuple[str, str]) -> None:
    assert attack(files, more[0], str(files / more[1])).exit_code == 2


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("consortium")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness, "free_ports", lambda count: list(range(17_501, 17_501 + count)))
        harness.make_consortium(folder, PARTIES, institution="hospital-a")
    return folder


class Recipient:
    """Hospital A, to a researcher of which weights were released."""

    def __init__(self, folder: Path, files: Path) -> None:
        self.holder: Holder = a_holder(folder)
        self.weights, self.files = folder / "weights", files
        member = self.holder.config.folder.member
        keys = {
            party: load_party_config(folder / party / "party.yaml").folder.member.load_signing_key()
            for party in ("hospital-a", "hospital-b")
        }
        schema = schema_from_yaml((files / "schema.yaml").read_bytes())
        columns = [{**each} for each in schema.to_document()["columns"] if each["name"] in ("n0", "n1", "n2", "n3", "ill")]
        time, directory = now().replace(microsecond=0), member.load_directory()
        own: dict[str, Any] = {"consortium": directory.consortium, "querier": harness.RESEARCHER, "created": time}
        own |= {"schema": {**schema.to_document(), "columns": columns}}
        job = Job(**{**vars(a_release()), **own})

        def dated(licence: Licence) -> Licence:
            return replace(licence, expires=time + timedelta(days=20))

        keep_released(self.weights, job, handed_by(keys, job, change=dated).replies, directory)
        for name, seed in (("members", 1), ("others", 2)):
            rows = people(ROWS, seed)
            with (files / f"{name}.csv").open("w", newline="") as file:
                cells = [[f"{5 * (x + 1):.4f}" for x in row[:4]] for row in rows.features]
                words = [("false", "true")[label] for label in rows.labels]
                csv.writer(file).writerows(
                    [["n0", "n1", "n2", "n3", "ill"], *([*a, b] for a, b in zip(cells, words, strict=True))]
                )
        with one_transaction(self.holder.config.folder.database_file) as tables:
            record = DatasetRecord("people", 1, b"{}", ROWS, {}, "c" * 64, "", "people.sealed", NOW, None, False, "people")
            tables.datasets.add(record)

    def attack(self, *more: str, purpose: str = "prognosis") -> Said:
        config = ["--config", str(self.holder.folder / "hospital-a" / "party.yaml"), "--purpose", purpose]
        rows = [part if part != "smokes" else "n3" for part in rows_of(self.files)]
        return confide("privacy", "attack", self.weights, *config, *rows, *more)


@pytest.fixture
def recipient(consortium: Path, files: Path, tmp_path: Path) -> Recipient:
    return Recipient(shutil.copytree(consortium, tmp_path / "consortium"), files)


def test_released_weights_are_attacked_under_their_licence_and_the_report_is_stated(recipient: Recipient, tmp_path: Path) -> None:
    out, signed = tmp_path / "found.json", tmp_path / "signed.json"
    found = recipient.attack("--dataset", "hospital-a/people/1", "--out", str(out)).data
    assert (found["model"], found["report"], out.stat().st_mode & 0o077) == (REF.label, str(out), 0)
    written = json.loads(out.read_text())
    assert (written["figures"], written["shadows"], written["method"]) == (found["figures"], 8, "own")
    stating = ["model", "evidence", "state", str(out), "--in-the-clear", "--out", str(signed)]
    said = recipient.holder.run(*stating, person="steward")
    assert (said["model"], said["owner"], signed.exists()) == (REF.label, "hospital-a", True)


def test_use_that_the_licence_does_not_permit_is_refused(recipient: Recipient, tmp_path: Path) -> None:
    code, _, where = refusal(recipient.attack(purpose="marketing"))
    assert (code, where) == ("LICENCE_REFUSED", {"purpose"})
    model = ["--manifest", str(recipient.weights / "manifest.json"), "--weights", str(recipient.weights / "weights.safetensors")]
    said = confide("privacy", "attack", *model, "--schema", recipient.files / "schema.yaml", *rows_of(recipient.files))
    assert refusal(said)[0] == "INVALID_ARGUMENT"
    assert "under their licence" in said.failure["what"]


def test_report_without_its_data_sets_is_refused_before_the_attack(recipient: Recipient, tmp_path: Path) -> None:
    code, what, _ = refusal(recipient.attack("--out", str(tmp_path / "found.json")))
    assert (code, "--dataset missing" in what) == ("INVALID_ARGUMENT", True)
    assert not (tmp_path / "found.json").exists()
