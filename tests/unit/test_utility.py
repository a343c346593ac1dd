"""Figures of utility from opened counts: against scikit-learn and Fairlearn's definitions, and what withheld counts allow."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from governance.consent.limits import OutputRule, check_output_rules, read_output_rule
from privacy.figures import Figure
from privacy.preparation.group_edges import group_names, shared_edges
from privacy.preparation.schema import TableSchema
from privacy.utility.diagram import diagram_svg, diagram_text
from privacy.utility.groups import group_figures
from privacy.utility.opened import Evaluation, figures_of, ranking
from privacy.utility.report import UtilityReport, read_utility_report, utility_report
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import JobType, Output, OutputKind
from tests.support.mpc_world import a_job

SCHEMA = TableSchema.from_document(
    {
        "api_version": "confide/v1",
        "kind": "TableSchema",
        "name": "people",
        "columns": [
            {"name": "age", "role": "feature", "type": "integer", "range": ["18", "93"]},
            {"name": "smoker", "role": "feature", "type": "boolean"},
            {"name": "ill", "role": "label", "type": "boolean"},
        ],
    }
)


def some_rows(seed: int = 1, rows: int = 3_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities, and groups."""
    generator = np.random.default_rng(seed)
    probabilities, groups = generator.uniform(0, 1, rows), generator.integers(0, 3, rows)
    labels = (generator.uniform(0, 1, rows) < probabilities**1.3 * (1 - 0.15 * groups)).astype(int)
    return labels, probabilities, groups


def table_of(labels: np.ndarray, predicted: np.ndarray, classes: int = 2) -> np.ndarray:
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (labels, predicted), 1)
    return table


def cells_of(labels: np.ndarray, predicted: np.ndarray, groups: np.ndarray) -> np.ndarray:
    table = np.zeros((groups.max() + 1, 4), np.int64)
    np.add.at(table, (groups, 2 * predicted + labels), 1)
    return table


def diagram_of(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    bins = np.minimum((probabilities * 10).astype(int), 9)
    return np.stack([np.bincount(bins, weights, minlength=10) for weights in (np.ones(len(bins)), probabilities, labels)], axis=1)


def test_figures_of_two_classes_are_those_of_the_rows() -> None:
    labels, probabilities, _ = some_rows()
    predicted = (probabilities >= 0.5).astype(int)
    table = table_of(labels, predicted)
    found = figures_of(Evaluation(len(labels), 5, confusion=table, reliability=diagram_of(labels, probabilities)))
    assert found["accuracy"].value == pytest.approx(accuracy_score(labels, predicted), abs=1e-12)
    assert found["f1"].value == pytest.approx(f1_score(labels, predicted), abs=1e-12)
    bins = np.minimum((probabilities * 10).astype(int), 9)
    gaps = [abs((labels[bins == b] - probabilities[bins == b]).sum()) for b in range(10)]
    assert found["ece"].value == pytest.approx(sum(gaps) / len(labels), abs=1e-12)
    assert all(figure.low < figure.value < figure.high for figure in found.values())


def test_macro_f1_of_classes_is_scikit_learns() -> None:
    generator = np.random.default_rng(3)
    labels, predicted = generator.integers(0, 4, 500), generator.integers(0, 4, 500)
    found = figures_of(Evaluation(500, 1, confusion=table_of(labels, predicted, 4)))["f1"]
    assert found.value == pytest.approx(f1_score(labels, predicted, average="macro"), abs=1e-12)
    assert found.high - found.low == pytest.approx(found.value - found.low + found.high - found.value)


@pytest.mark.parametrize("name", ["f1", "accuracy", "ece"])
def test_intervals_hold_the_truth_about_as_often_as_they_say(name: str) -> None:
    # The truth is that of a sample so large that its own error does not matter; 95 % of 300 is 285 +- 3 * 3.8.
    def measured(seed: int, rows: int) -> Figure:
        labels, probabilities, _ = some_rows(seed, rows)
        predicted = (probabilities >= 0.5).astype(int)
        table, diagram = table_of(labels, predicted), diagram_of(labels, probabilities)
        return figures_of(Evaluation(rows, 1, confusion=table, reliability=diagram))[name]

    truth = measured(0, 2_000_000).value
    held = sum(found.low <= truth <= found.high for found in (measured(seed, 800) for seed in range(1, 301)))
    # A calibration error is never below 0, so what chance adds to it is never taken back: its interval may hold less often.
    assert held >= (285 - 12 if name != "ece" else 255)


def test_gaps_are_the_largest_rate_less_the_smallest() -> None:
    labels, probabilities, groups = some_rows()
    predicted = (probabilities >= 0.5).astype(int)
    found = group_figures(cells_of(labels, predicted, groups))
    rates: dict[str, list[float]] = {"accuracy": [], "fnr": [], "fpr": [], "selection_rate": []}
    for group in range(3):
        truth, guess = labels[groups == group], predicted[groups == group]
        rates["accuracy"].append(float((truth == guess).mean()))
        rates["fnr"].append(float(1 - guess[truth == 1].mean()))
        rates["fpr"].append(float(guess[truth == 0].mean()))
        rates["selection_rate"].append(float(guess.mean()))
    for name, values in rates.items():
        gap = found[f"group.{name}_gap"]
        assert gap.value == pytest.approx(max(values) - min(values), abs=1e-12)
        assert 0 <= gap.low <= gap.value <= gap.high
        assert [found[f"group.{number}.{name}"].value for number in (1, 2, 3)] == pytest.approx(values)


def test_gap_is_fairlearns() -> None:
    fairlearn = pytest.importorskip("fairlearn.metrics")
    labels, probabilities, groups = some_rows(7)
    predicted = (probabilities >= 0.5).astype(int)
    found = group_figures(cells_of(labels, predicted, groups))
    metrics = {"fnr": fairlearn.false_negative_rate, "fpr": fairlearn.false_positive_rate, "accuracy": accuracy_score}
    frame = fairlearn.MetricFrame(metrics=metrics, y_true=labels, y_pred=predicted, sensitive_features=groups)
    for name, gap in frame.difference(method="between_groups").items():
        assert found[f"group.{name}_gap"].value == pytest.approx(gap, abs=1e-12)


def test_withheld_cells_leave_their_rates_and_gaps_out() -> None:
    found = group_figures(np.array([[50, 10, -1, 40], [30, 10, 20, 40]]))
    assert "group.1.fnr" in found
    assert "group.1.fpr" not in found
    assert {name for name in found if name.endswith("gap")} == {"group.fnr_gap"}


def test_group_without_rows_takes_no_part_in_a_gap() -> None:
    found = group_figures(np.array([[50, 10, 5, 40], [0, 0, 0, 0], [40, 10, 20, 40]]))
    assert found["group.fnr_gap"].value == pytest.approx(0.0)
    assert not any(name.startswith("group.2") for name in found)


@pytest.mark.parametrize(
    ("correct", "known"), [(80, (80, 80)), (100, (96, 100)), (0, (0, 4))], ids=["exact", "nearly all", "nearly none"]
)
def test_accuracy_holds_what_a_coarse_count_may_be(correct: int, known: tuple[int, int]) -> None:
    evaluation = Evaluation(100, 5, correct=correct)
    assert evaluation.correct_range == known
    found = figures_of(evaluation)["accuracy"]
    assert found.low <= known[0] / 100 <= found.value + 1e-12
    assert found.high >= known[1] / 100


def test_withheld_tenths_count_with_all_that_they_may_be() -> None:
    labels, probabilities, _ = some_rows()
    diagram = diagram_of(labels, probabilities)
    whole = figures_of(Evaluation(len(labels), 5, reliability=diagram))["ece"]
    diagram[2] = math.nan
    part = figures_of(Evaluation(len(labels), 5, reliability=diagram))["ece"]
    assert part.value < whole.value
    assert part.high >= whole.value + 0.09


def test_withheld_rates_are_absent() -> None:
    assert figures_of(Evaluation(100, 5, confusion=np.full((2, 2), -1), roc_auc=math.nan)) == {}


def test_area_has_an_interval_whether_or_not_the_sizes_of_the_classes_are_known() -> None:
    known = figures_of(Evaluation(100, 5, confusion=np.array([[40, 10], [10, 40]]), roc_auc=0.85))["roc_auc"]
    assert known.low < 0.85 < known.high
    # Where nothing tells how many rows each class has, it may be 5 of 100, and the interval holds that of every other number.
    unknown = figures_of(Evaluation(100, 5, roc_auc=0.85))["roc_auc"]
    few = [ranking(0.85, [(100 - count, count)]) for count in range(5, 96)]
    assert (unknown.low, unknown.high) == (min(each.low for each in few), max(each.high for each in few))
    assert unknown.low < ranking(0.85, [(90, 10)]).low < known.low


def test_diagram_is_text_and_a_picture() -> None:
    labels, probabilities, _ = some_rows()
    diagram = diagram_of(labels, probabilities)
    diagram[0], diagram[1] = 0, math.nan
    lines = diagram_text(diagram).splitlines()
    assert len(lines) == 10
    assert lines[0].endswith("no rows")
    assert lines[1].endswith("withheld")
    assert f"{diagram[5, 0]:.0f} rows" in lines[5]
    picture = ElementTree.fromstring(diagram_svg(diagram))  # noqa: S314
    assert len(picture.findall("{http://www.w3.org/2000/svg}circle")) == 8


# Reports.


def an_evaluation(rows: int = 100) -> Any:
    outputs = [Output("correct", OutputKind.CORRECT_COUNT, "researcher", 5)]
    return a_job(JobType.EVALUATE, rows={"alpha": rows // 2, "gamma": rows - rows // 2}, wanted=outputs)


def a_report(correct: int = 80, *, rows: int = 100) -> UtilityReport:
    return utility_report(an_evaluation(rows), {"correct": np.array([correct])}, groups=())


def test_report_is_read_back() -> None:
    report = replace(a_report(), groups=("age below 40", "age from 40"))
    read = read_utility_report(report.to_bytes())
    assert read.to_bytes() == report.to_bytes()
    assert read.correct == (80, 80)
    assert read.figures["accuracy"].value == 0.8


def test_shift_is_the_drop_from_the_usual_rows() -> None:
    usual, shifted = a_report(160, rows=200), a_report(60)
    drop = shifted.after_shift(usual).figures["shift.accuracy_drop"]
    assert drop.value == pytest.approx(0.2)
    assert 0 < drop.low < 0.2 < drop.high
    # Newcombe's interval, by his formula from the two Wilson intervals of the shares.
    one, other = usual.figures["accuracy"], shifted.figures["accuracy"]
    assert drop.low == pytest.approx(0.2 - math.hypot(0.8 - one.low, other.high - 0.6))


@pytest.mark.parametrize("change", [{"model": "other@1"}, {"correct": ()}])
def test_shift_between_what_cannot_be_compared_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfideError):
        a_report(60).after_shift(replace(a_report(160, rows=200), **change))


def test_report_of_nothing_that_tells_is_refused() -> None:
    job = a_job(JobType.EVALUATE, rows={"alpha": 50}, wanted=[Output("area", OutputKind.ROC_AUC, "researcher", 5)])
    with pytest.raises(ConfideError) as caught:
        utility_report(job, {"area": np.array([math.nan])}, groups=())
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", "confide.utility/3"),
        ("noise", "-1"),
        ("job", "xyz"),
        ("job", ""),
        ("model", ""),
        ("rows", 0),
        ("rows", True),
        ("correct", [90, 80]),
        ("correct", [1, 200]),
        ("correct", [1]),
        ("groups", ["x"] * 17),
        ("groups", [3]),
        ("compared_with", 7),
        ("figures", {"accuracy": ["0.8", "0.7"]}),
        ("more", 1),
    ],
)
def test_reports_of_another_form_are_refused(name: str, value: object) -> None:
    from protocols.canonical import canonical_bytes

    document = a_report().to_document() | {name: value}
    with pytest.raises(ConfideError) as caught:
        read_utility_report(canonical_bytes(document))
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


# Edges of groups.


def test_edges_are_translated_by_the_schema_and_back() -> None:
    edges = shared_edges(SCHEMA, "age", ["40", "65.5"])
    assert [float(edge) for edge in edges] == pytest.approx([2 * 22 / 75 - 1, 2 * 47.5 / 75 - 1], abs=1e-9)
    assert group_names(SCHEMA, "age", edges) == ("age below 40", "age 40 to 65.5", "age from 65.5")


def test_boolean_feature_needs_no_edges() -> None:
    assert shared_edges(SCHEMA, "smoker", []) == ("0",)
    assert group_names(SCHEMA, "smoker", ("0",)) == ("smoker false", "smoker true")


@pytest.mark.parametrize(
    ("feature", "edges"), [("age", []), ("age", ["18"]), ("age", ["94"]), ("weight", ["40"]), ("ill", ["1"])]
)
def test_edges_that_split_nothing_are_refused(feature: str, edges: list[str]) -> None:
    with pytest.raises(ConfideError) as caught:
        shared_edges(SCHEMA, feature, edges)
    assert caught.value.code is ErrorCode.INVALID_JOB


# Consent to groups.


def test_owner_may_permit_groups_by_some_features_alone() -> None:
    rule = OutputRule(OutputKind.GROUP_CONFUSION, min_cell=5, group_by=("age", "smoker"))
    groups = Output("groups", OutputKind.GROUP_CONFUSION, "alice", 5, group_by="age", group_edges=("0",))
    assert list(rule.problems(groups)) == []
    assert [problem.where for problem in rule.problems(replace(groups, group_by="income"))] == [
        "outputs.group_confusion.group_by"
    ]
    assert list(replace(rule, group_by=()).problems(replace(groups, group_by="income"))) == []
    assert "grouped by age or smoker" in rule.in_words()


def test_rule_about_groups_is_read_back_and_absent_where_it_says_nothing() -> None:
    problems: list[Problem] = []
    rule = OutputRule(OutputKind.GROUP_CONFUSION, min_cell=5, group_by=("age", "smoker"))
    assert read_output_rule(rule.to_document(), where="", problems=problems) == rule
    assert "group_by" not in replace(rule, group_by=()).to_document()
    assert problems == []


@pytest.mark.parametrize(
    "rule",
    [
        OutputRule(OutputKind.GROUP_CONFUSION, group_by=("smoker", "age")),
        OutputRule(OutputKind.GROUP_CONFUSION, group_by=("age", "age")),
        OutputRule(OutputKind.GROUP_CONFUSION, group_by=("",)),
        OutputRule(OutputKind.CONFUSION, group_by=("age",)),
    ],
)
def test_rules_about_groups_that_mean_nothing_are_refused(rule: OutputRule) -> None:
    assert [problem.where for problem in check_output_rules("outputs", (rule,))] == [f"outputs.{rule.kind.value}.group_by"]
