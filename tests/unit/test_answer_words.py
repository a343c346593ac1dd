"""Noisy answers, samples without an answer, means and released weights in words and in JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from parties.cli.job_words import constraint_in_words, describe_outputs, outputs_in_words
from protocols.job import Output, OutputKind, Task
from tests.support.jobs import SCHEMA, an_inference

KIND = OutputKind
GRADES = {"name": "grade", "role": "label", "type": "choice", "choices": ["low", "medium", "high"]}
STAY = {"name": "days", "role": "label", "type": "integer", "range": ["0", "30"]}


def words(output: Output, value: np.ndarray, label: dict[str, Any], task: Task) -> list[str]:
    schema = SCHEMA | {"columns": [*SCHEMA["columns"][:-1], label]}
    job = replace(an_inference(), outputs=(output,), schema=schema, task=task)
    return outputs_in_words(job, {"out": value}).splitlines()


def test_sample_without_an_answer_says_so() -> None:
    output = Output("out", KIND.LABEL, "alice", abstain_below="0.7")
    lines = words(output, np.array([2, -1]), GRADES, Task.CLASSES)
    assert [line.split(maxsplit=1)[1] for line in lines[1:]] == ["high", "no answer"]
    found = np.array([[0.1, 0.9, 0.0], [np.nan, np.nan, np.nan]])
    lines = words(replace(output, kind=KIND.PROBABILITY), found, GRADES, Task.CLASSES)
    assert "no answer" in lines[2]
    assert "no answer" not in lines[1]
    assert describe_outputs({"out": np.array([2, -1]), "in": found}) == {
        "out": [2, None],
        "in": [[0.1, 0.9, 0.0], [None, None, None]],
    }


def test_value_without_an_answer_says_so() -> None:
    output = Output("out", KIND.VALUE, "alice", abstain_beyond="0.5")
    lines = words(output, np.array([0.2, np.nan]), STAY, Task.REAL)
    assert [line.split(maxsplit=1)[1] for line in lines[1:]] == ["18", "no answer"]


def test_mean_is_told_by_class_or_in_the_unit_of_the_label() -> None:
    output = Output("out", KIND.MEAN, "alice", min_cell=20)
    (line,) = words(output, np.array([0.2, 0.3, 0.5]), GRADES, Task.CLASSES)
    assert line == "out of the probabilities of 20 or more samples: low 0.2000, medium 0.3000, high 0.5000"
    (line,) = words(output, np.array([0.2]), STAY, Task.REAL)
    assert line == "out of the predictions of 20 or more samples: 18"  # 0.2 of [-1, 1] is 0.6 of 30 days


@pytest.mark.parametrize(
    ("output", "value", "added"),
    [
        (Output("out", KIND.LABEL, "alice"), np.array([2, 1]), ", from which the class follows"),
        (Output("out", KIND.PROBABILITY, "alice"), np.full((2, 3), 0.25), "; probabilities are brought back to 0 to 1"),
        (Output("out", KIND.MEAN, "alice", min_cell=20), np.array([0.2, 0.3, 0.5]), ""),
    ],
)
def test_noisy_answers_say_their_noise_beside_the_numbers_and_others_nothing(
    output: Output, value: np.ndarray, added: str
) -> None:
    exact = words(output, value, GRADES, Task.CLASSES)
    # Each of two computing parties draws with deviation 0.25 against one: their sum has 0.25 times the root of 2.
    noisy = words(replace(output, noise="0.25", noise_colluders=1), value, GRADES, Task.CLASSES)
    assert noisy == [*exact, f"every number had noise of deviation 0.354 added{added}"]


def test_released_weights_are_counted_and_not_shown() -> None:
    (line,) = words(Output("out", KIND.WEIGHTS, "alice"), np.full(1234, 0.5), GRADES, Task.CLASSES)
    assert line.startswith("out: 1,234 parameters")
    assert "0.5" not in line


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (Output("out", KIND.LABEL, "alice"), ""),
        (
            Output("out", KIND.LABEL, "alice", noise="2", noise_colluders=1, abstain_below="0.7"),
            "label: noise of deviation 2 on each number, against 1 who pool, no answer below 0.7, in shares",
        ),
        (Output("out", KIND.VALUE, "alice", abstain_beyond="0.5"), "value: no answer beyond 0.5, in shares"),
    ],
)
def test_plan_says_what_is_done_to_answers(output: Output, expected: str) -> None:
    assert constraint_in_words(output) == expected
