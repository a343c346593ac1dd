"""Opened outputs in words and in JSON: classes by their names, withheld cells said to be withheld, numbers in their own unit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from governance.documents import SignedDocument
from governance.utility_report import StatedUtility, sign_utility_report, verify_utility_report
from parties.cli.job_words import count_in_words, describe_outputs, outputs_in_words
from parties.cli.utility_files import check_utility_files, write_utility_files
from parties.client.opening import Opened
from privacy.utility.report import UtilityReport
from protocols.errors import ConfideError
from protocols.job import Output, OutputKind, Task
from tests.support.jobs import SCHEMA, an_evaluation, an_inference
from tests.support.members import a_world

GRADES = {"name": "grade", "role": "label", "type": "choice", "choices": ["low", "medium", "high"]}
STAY = {"name": "days", "role": "label", "type": "integer", "range": ["0", "30"]}

WORLD = a_world()


def schema(label: dict[str, Any]) -> dict[str, Any]:
    return SCHEMA | {"columns": [*SCHEMA["columns"][:-1], label]}


def words(kind: OutputKind, value: np.ndarray, label: dict[str, Any] | None = None, **limits: Any) -> list[str]:
    """The lines for one output of an evaluation or inference."""
    is_predicted = kind in (OutputKind.LABEL, OutputKind.PROBABILITY, OutputKind.VALUE)
    outputs = (Output("out", kind, "alice", 0 if is_predicted else 5, **limits),)
    changes: dict[str, Any] = {"outputs": outputs} | ({"schema": schema(label), "task": Task.CLASSES} if label else {})
    job = an_inference(**changes) if is_predicted else an_evaluation(**changes)
    return outputs_in_words(job, {"out": value}).splitlines()


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (271, "271 of 300 rows"),
        (300, "296 or more of 300 rows (fewer than 5 wrong ones are not counted)"),
        (0, "fewer than 5 of 300 rows"),
    ],
)
def test_count_at_its_ends_says_that_small_groups_are_not_counted(count: int, expected: str) -> None:
    assert count_in_words(count, num_rows=300, min_cell=5) == expected
    assert count_in_words(count, num_rows=300, min_cell=1) == f"{count} of 300 rows"


def test_confusion_is_a_table_with_class_names_and_withheld_cells() -> None:
    counts = np.array([[90, 12, -1], [7, 80, 9], [-1, -1, 95]])
    lines = words(OutputKind.CONFUSION, counts, GRADES)
    assert [line.split() for line in lines[1:-1]] == [
        ["true", "\\", "predicted", "low", "medium", "high"],
        ["low", "90", "12", "-"],
        ["medium", "7", "80", "9"],
        ["high", "-", "-", "95"],
    ]
    assert lines[-1] == "-: withheld: it, or what could be computed from it, is of fewer than 5 rows"
    assert len(words(OutputKind.CONFUSION, np.abs(counts), GRADES)) == 5


def test_noisy_loss_says_its_interval_its_noise_and_what_a_row_counts() -> None:
    noise = {"noise": "10", "noise_colluders": 1}
    (line,) = words(OutputKind.LOG_LOSS, np.array([0.41]), bound="3", **noise)
    # Three owners draw for two: 10 sqrt(3 / 2) units of 3, over 300 rows.
    assert line.startswith("out: about 0.4100 (0.")
    assert line.endswith("; noise of deviation 0.122; no row's loss counts for more than 3")
    (line,) = words(OutputKind.LOG_LOSS, np.array([-0.2]), bound="3", **noise)
    assert line.startswith("out: about 0.0000 (0.0000 to ")


def test_noisy_scores_are_a_table_with_the_area_that_follows() -> None:
    counts = np.array([[120.4, np.nan], [-3.2, 130.1]])
    first, head, low, high, area, note = words(
        OutputKind.SCORE_HISTOGRAM, counts, noise="3", noise_colluders=1, group_edges=("0.5",)
    )
    assert (first, head.split()) == ("out:", ["probability", "of", "true", "false", "true"])
    assert (low.split(), high.split()) == (["0", "to", "0.5", "120", "-"], ["0.5", "to", "1", "0", "130"])
    assert area.startswith("area under the ROC curve: 0.9")
    assert note.startswith("every number has noise of deviation 3.67")


@pytest.mark.parametrize("kind", [OutputKind.ROC_AUC, OutputKind.LOG_LOSS])
def test_rate_has_four_places_or_is_withheld(kind: OutputKind) -> None:
    assert words(kind, np.array([0.98765])) == ["out: 0.9877"]
    assert words(kind, np.array([np.nan])) == ["out: withheld: a class has fewer than 5 rows"]


def test_squared_error_is_also_told_in_the_unit_of_the_label() -> None:
    # a root of 0.2 of a half range of 15 days
    assert words(OutputKind.SQUARED_ERROR, np.array([0.04]), STAY)[0].endswith("own unit: 3")


def test_predictions_are_named_and_numbered() -> None:
    assert words(OutputKind.LABEL, np.array([2, 0]), GRADES) == ["sample  out (grade)", "1       high", "2       low"]
    assert words(OutputKind.VALUE, np.array([-1.0, 0.5]), STAY) == ["sample  out (days)", "1       0", "2       22.5"]
    assert words(OutputKind.PROBABILITY, np.array([0.25])) == ["sample  out (probability of true)", "1       0.25"]
    wide = words(OutputKind.PROBABILITY, np.array([[0.5, 0.25, 0.25]]), GRADES)
    assert [line.split() for line in wide] == [["sample", "low", "medium", "high"], ["1", "0.5000", "0.2500", "0.2500"]]


def test_rounded_probabilities_have_the_digits_that_were_opened() -> None:
    assert words(OutputKind.PROBABILITY, np.array([0.5, 0.07]), decimals=2)[1:] == ["1       0.50", "2       0.07"]
    wide = words(OutputKind.PROBABILITY, np.array([[0.7, 0.3, 0.0]]), GRADES, decimals=1, top_k=2)
    assert wide[1].split() == ["1", "0.7", "0.3", "0.0"]


def test_json_has_null_for_what_is_withheld_and_nothing_that_is_no_json() -> None:
    found = describe_outputs({"table": np.array([[3, -1], [-1, 4]]), "auc": np.array([np.nan]), "loss": np.array([0.5])})
    assert found == {"table": [[3, None], [None, 4]], "auc": [None], "loss": [0.5]}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_reliability_is_a_diagram_with_the_calibration_error() -> None:
    value = np.zeros((10, 3))
    value[2], value[7] = (100, 25, 20), (200, 150, 160)
    lines = words(OutputKind.RELIABILITY, value)
    assert lines[3].startswith("0.2-0.3")
    assert "0.200 right, 0.250 predicted, 100 rows" in lines[3]
    assert lines[-1] == "expected calibration error: 0.0500"
    value[7] = np.nan
    lines = words(OutputKind.RELIABILITY, value)
    assert lines[8] == "0.7-0.8  withheld"
    assert lines[-1] == "withheld: it, or what could be computed from it, is of fewer than 5 rows"
    assert describe_outputs({"out": value})["out"][7] == [None, None, None]  # type: ignore[index,call-overload]


def test_groups_are_named_in_the_feature_s_own_unit() -> None:
    counts = np.array([[90, 12, 7, 30], [40, -1, -1, 9]])
    lines = words(OutputKind.GROUP_CONFUSION, counts, group_by="radius", group_edges=("-0.5",))
    assert [line.split("  ")[0] for line in lines[2:4]] == ["radius below 2.5", "radius from 2.5"]
    assert lines[3].split()[3:] == ["40", "-", "-", "9"]
    assert lines[-1].startswith("-: withheld")
    assert describe_outputs({"out": counts})["out"][1] == [40, None, None, 9]  # type: ignore[index,call-overload]


def signed(stated: StatedUtility) -> SignedDocument:
    return sign_utility_report(stated, WORLD.alice.signing)


def told(path: Path) -> UtilityReport:
    """What a file says that alice signed."""
    return verify_utility_report(SignedDocument.from_bytes(path.read_bytes()), WORLD.directory).report


def opened(values: dict[str, np.ndarray]) -> dict[str, Opened]:
    """Outputs as the client opens them; the shares of an evaluation go into no file."""
    return {name: Opened(value, ()) for name, value in values.items()}


def test_files_of_utility_are_checked_before_and_written_after(tmp_path: Path) -> None:
    outputs = (
        Output("correct", OutputKind.CORRECT_COUNT, "alice", 5),
        Output("diagram", OutputKind.RELIABILITY, "alice", 5),
        Output("groups", OutputKind.GROUP_CONFUSION, "alice", 5, group_by="radius", group_edges=("-0.5",)),
    )
    job = an_evaluation(outputs=outputs)
    diagram = np.zeros((10, 3))
    diagram[4] = (job.num_rows, job.num_rows * 0.45, job.num_rows // 2)
    values = {
        "correct": np.array([job.num_rows - 50]),
        "diagram": diagram,
        "groups": np.array([[100, 10, 15, 50], [60, 10, 15, 40]]),
    }
    report, picture = tmp_path / "utility.json", tmp_path / "diagram.svg"
    check_utility_files(job, report=report, usual=None, picture=picture)
    write_utility_files(job, opened(values), report=report, usual=None, picture=picture, sign=signed)
    made = told(report)
    assert (made.job, made.rows, made.groups) == (job.job_id, job.num_rows, ("radius below 2.5", "radius from 2.5"))
    assert {"accuracy", "ece", "group.fnr_gap", "group.2.fpr"} <= set(made.figures)
    assert picture.read_text().startswith("<svg")
    other = replace(job, nonce="ee" * 16)
    fewer = values | {"correct": np.array([job.num_rows - 90])}
    write_utility_files(other, opened(fewer), report=picture, usual=report, picture=None, sign=signed)
    drop = told(picture).figures["shift.accuracy_drop"]
    assert drop.value == pytest.approx(40 / job.num_rows, abs=1e-6)


@pytest.mark.parametrize(
    "asked",
    [
        {"picture": "diagram.svg"},
        {"usual": "utility.json"},
        {"report": "nowhere/utility.json"},
        {"report": "utility.json", "usual": "missing.json"},
    ],
)
def test_files_of_utility_that_cannot_be_are_refused_before_anything_is_opened(tmp_path: Path, asked: dict[str, str]) -> None:
    job = an_evaluation(outputs=(Output("correct", OutputKind.CORRECT_COUNT, "alice", 5),))
    paths = {name: tmp_path / asked[name] if name in asked else None for name in ("report", "usual", "picture")}
    with pytest.raises(ConfideError):
        check_utility_files(job, **paths)
