"""Reading a researcher's request: every problem at once, with file, line, field and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from parties.client.output_request import GroupOutput
from parties.client.requests import EvaluateRequest, InferRequest, SummariseRequest, TrainRequest, read_request
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Task
from protocols.training import (
    CheckpointRule,
    Loss,
    Optimiser,
    OptimiserKind,
    Schedule,
    ScheduleKind,
    Training,
    check_training,
)

COMMON = "api_version: confide/v1\ncomputing_parties: [hospital-a, hospital-b]\ndealer: hospital-c\n"
TRAIN = COMMON + (
    "type: train\ndatasets: [hospital-a/train]\nmodel_name: diagnosis\nmanifest: model.json\nweights: model.safetensors\n"
    'training: {epochs: 15, batch_size: 48, learning_rate: "0.5"}\n'
)
EVALUATE = COMMON + "type: evaluate\ndatasets: [hospital-a/holdout]\nmodel: diagnosis@0123456789ab\n"
INFER = COMMON + "type: infer\nmodel: diagnosis@0123456789ab\nsamples: samples.csv\n"


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "request.yaml"
    path.write_text(text)
    return path


def _refused(tmp_path: Path, text: str) -> dict[str, Problem]:
    """Returns the problems of a refused request by line and field."""
    path = _write(tmp_path, text)
    with pytest.raises(ConfideError) as raised:
        read_request(path)
    assert raised.value.code is ErrorCode.INVALID_JOB
    return {problem.where.removeprefix(f"{path}:"): problem for problem in raised.value.problems}


def test_request_of_every_type_is_read_with_its_defaults(tmp_path: Path) -> None:
    train, evaluate, infer = (read_request(_write(tmp_path, text)) for text in (TRAIN, EVALUATE, INFER))
    assert isinstance(train, TrainRequest)
    assert (train.continues, train.expires_in_minutes) == (None, 30)
    assert isinstance(evaluate, EvaluateRequest)
    assert (evaluate.outputs, evaluate.min_cell) == (None, 5)
    assert isinstance(infer, InferRequest)
    assert infer.output is None


def _trained(tmp_path: Path, settings: str, task: Task = Task.BINARY) -> Training:
    text = TRAIN.replace('{epochs: 15, batch_size: 48, learning_rate: "0.5"}', settings)
    request = read_request(_write(tmp_path, text))
    assert isinstance(request, TrainRequest)
    return request.training.training(task=task, shuffle_seed="ab" * 16, steps_before=7)


def test_training_in_short_form_is_sgd_with_the_loss_of_its_task(tmp_path: Path) -> None:
    short = '{epochs: 15, batch_size: 48, learning_rate: "0.5", momentum: "0.9"}'
    expected = Training(
        epochs=15,
        batch_size=48,
        loss=Loss.BINARY_CROSS_ENTROPY,
        optimiser=Optimiser(OptimiserKind.SGD, "0.5", momentum="0.9"),
        schedule=Schedule(),
        checkpoints=CheckpointRule(1, 0),
        shuffle_seed="ab" * 16,
        steps_before=7,
    )
    assert _trained(tmp_path, short) == expected
    assert _trained(tmp_path, short, Task.CLASSES).loss is Loss.CROSS_ENTROPY
    assert _trained(tmp_path, short, Task.REAL).loss is Loss.MEAN_SQUARED_ERROR
    assert list(check_training(expected)) == []


def test_training_in_long_form_names_optimiser_schedule_and_checkpoints(tmp_path: Path) -> None:
    settings = """
  epochs: 10
  batch_size: 32
  loss: mean_squared_error
  optimiser: {kind: adam, learning_rate: "0.01", weight_decay: "0.001"}
  schedule: {kind: step, every_epochs: 5, factor: "0.5"}
  checkpoints: {every_epochs: 0, every_minutes: 10}"""
    found = _trained(tmp_path, settings)
    assert found.loss is Loss.MEAN_SQUARED_ERROR
    assert found.optimiser == Optimiser(OptimiserKind.ADAM, "0.01", "0.001", beta1="0.9", beta2="0.999", epsilon="0.0001")
    assert found.schedule == Schedule(ScheduleKind.STEP, 5, "0.5")
    assert found.checkpoints == CheckpointRule(0, 10)
    assert list(check_training(found)) == []


@pytest.mark.parametrize(
    ("settings", "where", "words"),
    [
        ("{epochs: 1, batch_size: 8}", "9 training", "add learning_rate"),
        (
            '{epochs: 1, batch_size: 8, momentum: "0.9", optimiser: {kind: sgd, learning_rate: "1"}}',
            "9 training",
            "move them into the optimiser",
        ),
        ('{epochs: 1, batch_size: 8, optimiser: {kind: lion, learning_rate: "1"}}', "9 training.optimiser.kind", "sgd or adam"),
        ('{epochs: 1, batch_size: 8, optimiser: {learning_rate: "1"}}', "9 training.optimiser.kind", "sgd or adam"),
        ("{epochs: 1, batch_size: 8, optimiser: {kind: sgd}}", "9 training.optimiser.learning_rate", "add it"),
        (
            '{epochs: 1, batch_size: 8, optimiser: {kind: adam, learning_rate: "1", momentum: "0.9"}}',
            "9 training.optimiser.momentum",
            "remove it",
        ),
        (
            '{epochs: 1, batch_size: 8, learning_rate: "1", schedule: {kind: linear, factor: "a"}}',
            "9 training.schedule.factor",
            "a decimal in quotes",
        ),
        (
            '{epochs: 1, batch_size: 8, learning_rate: "1", schedule: {kind: cosine}}',
            "9 training.schedule.kind",
            "constant, step or linear",
        ),
    ],
)
def test_training_with_one_mistake_is_refused_at_its_field(tmp_path: Path, settings: str, where: str, words: str) -> None:
    problems = _refused(tmp_path, TRAIN.replace('{epochs: 15, batch_size: 48, learning_rate: "0.5"}', settings))
    assert list(problems) == [where]
    assert words in problems[where].remedy


def test_training_goes_on_from_a_model_in_place_of_files(tmp_path: Path) -> None:
    files = "manifest: model.json\nweights: model.safetensors\n"
    text = TRAIN.replace(files, "continues: diagnosis@0123456789ab\n")
    request = read_request(_write(tmp_path, text))
    assert isinstance(request, TrainRequest)
    assert (request.continues, request.manifest, request.weights) == ("diagnosis@0123456789ab", None, None)
    for wrong, remedy in ((TRAIN.replace(files, ""), "add manifest"), (text + "manifest: model.json\n", "keep either")):
        assert [remedy in problem.remedy for problem in _refused(tmp_path, wrong).values()] == [True]


def test_evaluation_names_its_outputs_and_their_least_cell(tmp_path: Path) -> None:
    request = read_request(_write(tmp_path, EVALUATE + "outputs: [correct_count, confusion, log_loss]\nmin_cell: 10\n"))
    assert isinstance(request, EvaluateRequest)
    assert (request.outputs, request.min_cell) == (["correct_count", "confusion", "log_loss"], 10)
    assert list(_refused(tmp_path, EVALUATE + "outputs: [recall]\n")) == ["7 outputs.0"]


def test_evaluation_may_ask_for_tables_of_groups(tmp_path: Path) -> None:
    asked = 'outputs:\n- reliability\n- {kind: group_confusion, group_by: radius, group_edges: ["2.5", "5"]}\n'
    request = read_request(_write(tmp_path, EVALUATE + asked))
    assert isinstance(request, EvaluateRequest)
    assert request.outputs == ["reliability", GroupOutput(kind="group_confusion", group_by="radius", group_edges=["2.5", "5"])]
    for wrong, where in (
        ("{kind: group_confusion}", "8 outputs.0.group_by"),
        ("{kind: confusion, group_by: radius}", "8 outputs.0.kind"),
        ("{kind: group_confusion, group_by: radius, group_edges: [2.5]}", "8 outputs.0.group_edges.0"),
        ("{kind: group_confusion, group_by: radius, edges: ['2.5']}", "8 outputs.0.edges"),
        ("{kind: score_histogram, group_edges: ['0.5']}", "8 outputs.0.group_edges"),
        ("{kind: log_loss}", "8 outputs.0.bound"),
    ):
        assert list(_refused(tmp_path, EVALUATE + f"outputs:\n- {wrong}\n")) == [where]


SUMMARISE = f"{COMMON}type: summarise\ndatasets: [hospital-a/train]\n"


def test_summary_says_into_which_groups(tmp_path: Path) -> None:
    clusters = read_request(_write(tmp_path, SUMMARISE + "groups: clusters\nclusters: 8\nmin_cell: 10\n"))
    assert isinstance(clusters, SummariseRequest)
    assert (clusters.groups, clusters.clusters, clusters.iterations, clusters.min_cell) == ("clusters", 8, None, 10)
    assert isinstance(read_request(_write(tmp_path, SUMMARISE + "groups: labels\n")), SummariseRequest)
    for wrong, remedy in (("groups: clusters\n", "add clusters"), ("groups: labels\nclusters: 3\n", "groups: clusters")):
        assert [remedy in problem.remedy for problem in _refused(tmp_path, SUMMARISE + wrong).values()] == [True]
    assert list(_refused(tmp_path, SUMMARISE + "groups: wards\n")) == ["6 groups"]


def test_request_with_several_mistakes_names_line_field_and_remedy_of_each(tmp_path: Path) -> None:
    text = TRAIN.replace("dealer:", "deler:").replace("epochs", "epoch").replace('"0.5"', "0.5").replace("/train]", "]")
    problems = _refused(tmp_path, text)
    assert {where: problem.what for where, problem in problems.items()} == {
        "1 dealer": "missing field",
        "3 deler": "unknown field",
        "5 datasets.0": "does not have the right form",
        "9 training.epochs": "missing field",
        "9 training.epoch": "unknown field",
        "9 training.learning_rate": "must be a text",
    }
    assert "party/name" in problems["5 datasets.0"].remedy
    assert "in quotes" in problems["9 training.learning_rate"].remedy


@pytest.mark.parametrize(
    ("text", "where", "remedy"),
    [
        (TRAIN.replace("type: train", "type: trian"), "4 type", "train, evaluate, assess, summarise, infer, serve, release"),
        (COMMON, "1 type", "train, evaluate, assess, summarise, infer, serve, release"),
        (EVALUATE.replace("@0123456789ab", ""), "6 model", "name@version"),
        (INFER + "output: logit\n", "7 output", "correct"),
        (TRAIN.replace("[hospital-a, ", "[[hospital-a, "), "3", "indentation"),
        (INFER + "dealer: hospital-b\n", "7 dealer", "remove one"),
    ],
)
def test_request_with_one_mistake_is_refused_at_its_line(tmp_path: Path, text: str, where: str, remedy: str) -> None:
    problems = _refused(tmp_path, text)
    assert list(problems) == [where]
    assert remedy in problems[where].remedy


def test_request_that_is_missing_is_a_wrong_argument(tmp_path: Path) -> None:
    with pytest.raises(ConfideError) as raised:
        read_request(tmp_path / "absent.yaml")
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT
    assert "absent.yaml" in raised.value.what
