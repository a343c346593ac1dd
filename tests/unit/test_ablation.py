"""The ablation on own rows: what each protection does is seen where it must be, and what cannot be measured is refused."""

from __future__ import annotations

import csv
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from governance.ablation_report import StatedAblation, read_ablation_report, sign_ablation_report, verify_ablation_report
from governance.documents import SignedDocument
from parties import harness
from parties.ablating import read_ablation
from parties.config import load_party_config
from parties.harness_consent import STEWARD, person_folder
from privacy.ablation import own_rows, protections, tables
from privacy.ablation.clipped import PrivateSchedule, logits_of, train_clipped
from privacy.ablation.lines import MOST_LINES, AblatedRows, Line, Part
from privacy.ablation.own_rows import Ablation, measured
from privacy.ablation.protections import Settings, answer_lines
from privacy.ablation.tables import generalised, quasi_columns, statistics_lines
from privacy.figures import Figure
from privacy.preparation.anonymity.generalisations import Bands
from privacy.preparation.anonymity.search import Hierarchy
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode
from tests.support.command import Said, confide
from tests.support.evidence_holder import PARTIES
from tests.support.members import World, a_world
from tests.support.people import NOW

COLUMNS = [
    {"name": "age", "role": "feature", "type": "float", "range": ["0", "100"]},
    {"name": "dose", "role": "feature", "type": "float", "range": ["0", "10"]},
    {"name": "site", "role": "feature", "type": "integer", "range": ["0", "3"]},
]
LABEL = {"name": "ill", "role": "label", "type": "boolean"}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of the same kind, trained for some steps: what is tested is not how far they over-fit."""
    few = replace(protections.OVERFITTED, steps=20)
    for module in (protections, tables, own_rows):
        monkeypatch.setattr(module, "OVERFITTED", few)
    monkeypatch.setattr(protections, "DECAYED", replace(protections.DECAYED, steps=20))
    monkeypatch.setattr(protections, "STEPS", 20)
    monkeypatch.setattr(own_rows, "_PROBE_STEPS", 2)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return write(tmp_path)


def write(folder: Path, *, rows: int = 240, columns: list[dict[str, Any]] | None = None, constant: bool = False) -> Path:
    schema = {"api_version": "confide/v1", "kind": "TableSchema", "name": "t", "columns": columns or [*COLUMNS, LABEL]}
    (folder / "schema.yaml").write_text(yaml.safe_dump(schema))
    draw = np.random.default_rng(5)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "dose", "site", "ill"])
        for _ in range(rows):
            age, dose, site, noise = draw.uniform(0, 100), draw.uniform(0, 10), draw.integers(0, 4), draw.normal(0, 10)
            writer.writerow([f"{age:.0f}", f"{dose:.1f}", site, "true" if age + noise > 50 or constant else "false"])
    return folder


def ablate(folder: Path, *more: str) -> Said:
    return confide("privacy", "ablate", "--file", folder / "rows.csv", "--schema", folder / "schema.yaml", "--seed", "3", *more)


def test_command_measures_every_part_says_how_long_it_takes_and_signs_the_report(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "free_ports", lambda count: list(range(17_401, 17_401 + count)))
    harness.make_consortium(tmp_path / "all", PARTIES, institution="hospital-a")
    config = load_party_config(tmp_path / "all" / "hospital-a" / "party.yaml")
    out = tmp_path / "ablation.json"
    own = ["--config", str(tmp_path / "all" / "hospital-a" / "party.yaml")]
    signed = ["--out", str(out), "--person", str(person_folder(config, STEWARD)), *own]
    said = ablate(files, "--by", "site", "--quasi", "age", "--quasi", "dose", "--epsilon", "1", *signed, "--format", "json")
    found = said.data
    assert "settings: about" in said.error
    assert (found["members"], found["others"], found["classes"], found["left_out"]) == (160, 80, 2, [])
    settings = [(line["part"], line["setting"]) for line in found["lines"]]
    assert [len([part for part, _ in settings if part == each.value]) for each in Part] == [5, 8, 4, 4]
    assert len([setting for _, setting in settings if setting.startswith("off")]) == len(Part)
    (private,) = [setting for _, setting in settings if setting.startswith("epsilon 1, ")]
    assert ", zero-out, row, noise multiplier " in private
    shown = confide("privacy", "ablation", out, *own, "--format", "json").data
    assert (shown["owner"], shown["lines"]) == ("hospital-a", found["lines"])
    altered = out.read_text().replace("minimum cell 5", "minimum cell 7")
    out.write_text(altered)
    assert confide("privacy", "ablation", out, *own, "--format", "json").failure["code"] == "BAD_SIGNATURE"


def test_parts_without_columns_are_named_as_not_measured(files: Path) -> None:
    found = ablate(files, "--part", "answers", "--part", "statistics", "--format", "json").data
    assert {line["part"] for line in found["lines"]} == {"answers"}
    assert found["left_out"] == ["statistics: no column was named by which a table counts rows"]
    assert found["report"] is None


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--by", "height"), "INVALID_ARGUMENT"),
        (("--quasi", "ill"), "INVALID_ARGUMENT"),
        (("--part", "statistics"), "INVALID_ARGUMENT"),
        (("--out", "report.json"), "INVALID_ARGUMENT"),
        (("--epsilon", "-1", "--part", "training"), "INVALID_ARGUMENT"),
    ],
)
def test_what_cannot_be_measured_is_refused(files: Path, arguments: tuple[str, ...], code: str) -> None:
    said = ablate(files, *arguments, "--format", "json")
    assert said.failure["code"] == code


def test_epsilon_that_no_noise_gives_is_refused_before_anything_is_measured(files: Path) -> None:
    said = ablate(files, "--part", "training", "--epsilon", "8", "--epsilon", "0.0001")
    assert (said.exit_code, said.out) == (2, "")
    assert "INVALID_ARGUMENT" in said.error
    assert "settings: about" not in said.error


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("consortium")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness, "free_ports", lambda count: list(range(17_501, 17_501 + count)))
        harness.make_consortium(folder, PARTIES, institution="hospital-a")
    return folder / "hospital-a" / "party.yaml"


@pytest.mark.parametrize(
    ("person", "folder", "code"),
    [(harness.OPERATOR, ".", "NOT_AUTHORISED"), (STEWARD, "nowhere", "INVALID_ARGUMENT")],
    ids=["an operator", "no folder"],
)
def test_report_that_could_not_be_signed_or_written_is_refused_before_anything_is_measured(
    files: Path, consortium: Path, person: str, folder: str, code: str
) -> None:
    out, by = files / folder / "ablation.json", person_folder(load_party_config(consortium), person)
    signed = ["--out", str(out), "--config", str(consortium), "--person", str(by)]
    said = ablate(files, "--part", "statistics", "--by", "site", *signed)
    assert said.exit_code != 0
    assert (said.out, code in said.error, "settings: about" in said.error) == ("", True, False)


def test_more_epsilons_than_a_report_holds_are_refused_before_anything_is_measured(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ablate(files, "--part", "training", *(text for k in range(1, 42) for text in ("--epsilon", str(k))))
    assert (said.exit_code, said.out, "settings: about" in said.error) == (2, "", False)
    assert "at most 40" in said.error
    monkeypatch.setattr(protections, "choose_noise", lambda *_, **__: "1")
    asked = read_ablation(
        files / "rows.csv",
        files / "schema.yaml",
        parts=list(Part),
        groups_by=["site"],
        quasi=["age"],
        epsilons=["1"] * protections.MOST_EPSILONS,
        seed=1,
    )
    assert len(asked.lines) <= MOST_LINES


def test_class_that_has_no_rows_gives_a_table_nothing_to_guess() -> None:
    measures = statistics_lines(np.array([0, 0, 1, 1]), np.zeros(4, np.bool_), seed=1)
    assert [measure().attack["difference.gain"].value for measure in measures] == [0.0] * len(tables.CELLS)


def test_few_rows_one_class_and_no_classes_are_refused(tmp_path: Path) -> None:
    few = ablate(write(tmp_path, rows=199), "--format", "json").failure
    assert (few["code"], "199 rows" in few["what"]) == ("INVALID_DATA", True)
    assert ablate(write(tmp_path, constant=True), "--format", "json").failure["code"] == "INVALID_DATA"
    ignored = {"name": "ill", "role": "ignored"}
    number = [*COLUMNS[:2], {"name": "site", "role": "label", "type": "float", "range": ["0", "3"]}, ignored]
    for columns in (number, [*COLUMNS, ignored]):
        assert ablate(write(tmp_path, columns=columns), "--format", "json").failure["code"] == "INVALID_SCHEMA"


def test_nothing_is_begun_after_the_time_and_that_is_said() -> None:
    line = Line(Part.ANSWERS, "off", {}, {})
    ablation = Ablation(some_rows(), Settings("0.0001"), [(Part.ANSWERS, lambda: line)] * 3, ())
    clock = itertools.count(step=4.0)
    found = list(measured(ablation, lambda: next(clock), most_s=5.0))
    assert found[0] is line
    assert found[1:] == ["answers: line 2 of 3 and what follows were not measured: the time was up"]


def some_rows(classes: int = 2, count: int = 64) -> AblatedRows:
    draw = np.random.default_rng(8)
    labels = np.arange(count) % classes
    features = draw.normal(0, 1, (count, 4)) + labels[:, None]
    return AblatedRows(features, labels, features.copy(), labels.copy())


def test_minimum_cell_and_noise_hide_labels_of_small_groups() -> None:
    # Group 0 is one row with the label, group 1 has 40 rows of which half have it.
    groups, label = np.array([0] + [1] * 40), np.array([True] + [True, False] * 20)
    off, five, _, noisy = (measure() for measure in statistics_lines(groups, label, seed=1))
    assert off.attack["outright.share"].value == pytest.approx(1 / 41)
    assert five.attack["outright.share"].value == 0
    assert off.analysis["told.share"].value == 1
    assert five.analysis["told.share"].value == pytest.approx(40 / 41)
    # The difference of two exact tables gives every label of the large group away, and noise of deviation 3 nearly none.
    assert five.attack["difference.gain"].value > 0.4
    assert noisy.attack["difference.gain"].value < 0.25
    assert noisy.analysis["share.error"].value > 0


def test_rows_that_stay_are_alike_in_groups_of_k() -> None:
    draw = np.random.default_rng(2)
    columns = [draw.integers(20, 60, 200).astype(np.float64), draw.integers(0, 3, 200).astype(np.float64)]
    quasi = quasi_columns(columns, [Hierarchy("age", (Bands("10"), Bands("20")), 40.0), Hierarchy("site", (), None)])
    changed, sizes, kept = generalised(quasi, 5)
    texts = [made.to_numpy(zero_copy_only=False).astype(str) for made in changed]
    rows = np.column_stack([text[quasi.codes[:, place]] for place, text in enumerate(texts)])
    _, groups, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    assert np.array_equal(counts[groups.reshape(-1)], sizes)
    assert np.array_equal(kept, sizes >= 5)
    assert kept.mean() >= 0.95


@pytest.mark.parametrize("classes", [2, 3])
def test_label_alone_tells_the_label_and_nothing_else(classes: int) -> None:
    rows = some_rows(classes)
    lines = {line.setting: line for line in (measure() for measure in answer_lines(rows, Settings("0.0001", seed=1)))}
    assert lines["label only"].analysis["accuracy"].value == lines["off: probabilities"].analysis["accuracy"].value
    assert lines["off: probabilities"].analysis["probability.error"].value == 0
    assert lines["2 decimals"].analysis["probability.error"].value <= 0.005
    assert lines["noise 0.5"].analysis["probability.error"].value > lines["noise 0.1"].analysis["probability.error"].value


def test_step_of_clipped_networks_is_no_longer_than_its_rows_allow() -> None:
    rows = some_rows()
    inside = np.ones((3, len(rows.labels)), bool)
    before = PrivateSchedule(hidden=8, steps=0, rate=1.0, bound=0.5, noise_multiplier=0.0, learning_rate=1.0)
    first = train_clipped(rows.features, rows.labels, inside, before, 4, classes=2)
    after = train_clipped(rows.features, rows.labels, inside, replace(before, steps=1), 4, classes=2)
    moved = np.sqrt(sum(float(((new - old) ** 2).sum()) for new, old in zip(after, first, strict=True)) / 3)
    # Every row moves the sum by the bound at most, and the sum is divided by as many rows; float32 has 24 bits.
    assert moved <= 0.5 * (1 + 1e-4)
    assert logits_of(after, rows.features).shape == (3, len(rows.labels), 2)


@pytest.fixture(scope="module")
def world() -> World:
    return a_world()


def a_report(**changes: Any) -> StatedAblation:
    lines = (Line(Part.TRAINING, "off", {"membership.lira.auc": Figure(0.6, 0.5, 0.7)}, {"accuracy": Figure(0.9, 0.8, 1.0)}),)
    whole = StatedAblation("cardio", "hospital-a", NOW, 100, 50, 2, 64, 7, lines, ("statistics: nothing was named",))
    return replace(whole, **changes)


def test_report_has_one_form_and_its_owner_signs_it(world: World) -> None:
    stated = a_report()
    again = read_ablation_report(parse_canonical(canonical_bytes(stated.to_document())))
    assert again.to_document() == stated.to_document()
    signed = sign_ablation_report(stated, world.hospital_a.signing)
    assert verify_ablation_report(SignedDocument.from_bytes(signed.to_bytes()), world.directory).digest == stated.digest
    with pytest.raises(ConfideError) as caught:
        verify_ablation_report(sign_ablation_report(stated, world.hospital_b.signing), world.directory)
    assert caught.value.code is ErrorCode.BAD_SIGNATURE


@pytest.mark.parametrize(
    "change", [{"members": 0}, {"classes": 1}, {"owner": "Hospital A"}, {"left_out": [""]}, {"format": "confide.ablation/0"}]
)
def test_report_of_another_form_is_refused(change: dict[str, Any]) -> None:
    document = a_report().to_document() | change
    with pytest.raises(ConfideError) as caught:
        read_ablation_report(document)
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


@pytest.mark.parametrize("field", ["part", "setting", "attack", "analysis"])
def test_line_of_another_form_is_refused(field: str) -> None:
    document = a_report().to_document()
    document["lines"][0][field] = ""
    with pytest.raises(ConfideError) as caught:
        read_ablation_report(document)
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT
