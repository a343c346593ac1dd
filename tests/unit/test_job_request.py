"""Reading a researcher's request: every problem at once, with file, line, field and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from parties.client.requests import EvaluateRequest, InferRequest, TrainRequest, read_request
from protocols.errors import ConfideError, ErrorCode, Problem

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
    assert (train.training.momentum, train.expires_in_minutes) == ("0", 30)
    assert isinstance(evaluate, EvaluateRequest)
    assert isinstance(infer, InferRequest)
    assert infer.output == "label"


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
        (TRAIN.replace("type: train", "type: trian"), "4 type", "train, evaluate or infer"),
        (COMMON, "1 type", "train, evaluate or infer"),
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
