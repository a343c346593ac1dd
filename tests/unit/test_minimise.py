"""The minimiser on real tables: what it drops loses nothing, and what it keeps is needed."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from privacy.preparation.contract import PreparedRows
from privacy.preparation.minimise import MARGIN, Minimisation, minimise
from protocols.errors import ConfideError, ErrorCode
from protocols.job_parts import Task

TABLES = {"cancer": (load_breast_cancer, Task.BINARY), "wine": (load_wine, Task.CLASSES), "diabetes": (load_diabetes, Task.REAL)}


def table(name: str) -> tuple[PreparedRows, list[str], Task]:
    load, task = TABLES[name]
    found = load()
    low, high = found.data.min(axis=0), found.data.max(axis=0)
    labels = found.target.astype(np.float64)
    if task is Task.REAL:
        labels = 2 * (labels - labels.min()) / np.ptp(labels) - 1
    names = [str(each) for each in found.feature_names]
    return PreparedRows(2 * (found.data - low) / (high - low) - 1, labels, {}), names, task


@pytest.mark.parametrize("name", TABLES)
def test_proposal_is_within_the_margin_and_smaller(name: str) -> None:
    rows, names, task = table(name)
    found = minimise(rows, names, task, seed=3)
    assert found.kept >= found.full - MARGIN
    assert 1 <= len(found.proposed) < len(names)
    assert list(found.proposed) == [each for each in names if each in found.proposed]
    assert {worth.name for worth in found.ranked} == set(names)
    # Rows that took no part in the choice agree, up to what chance does to so few of them.
    assert found.kept_held_out >= found.full_held_out - MARGIN - 3 * found.held_out_error


def test_columns_of_noise_go_and_the_one_that_decides_stays() -> None:
    generator = np.random.default_rng(1)
    features = generator.uniform(-1, 1, (600, 6))
    labels = (features[:, 2] + generator.normal(0, 0.2, 600) > 0).astype(np.float64)
    found = minimise(PreparedRows(features, labels, {}), list("abcdef"), Task.BINARY, seed=1)
    assert found.proposed == ("c",)
    assert found.ranked[0].name == "c"
    assert found.ranked[0].lost > 0.3


def test_copy_of_a_column_is_worth_nothing_beside_it_and_one_of_both_stays() -> None:
    generator = np.random.default_rng(2)
    features = generator.uniform(-1, 1, (600, 3))
    features[:, 1] = features[:, 0]
    labels = (features[:, 0] + generator.normal(0, 0.2, 600) > 0).astype(np.float64)
    found = minimise(PreparedRows(features, labels, {}), list("abc"), Task.BINARY, seed=1)
    assert len(found.proposed) == 1
    assert found.proposed[0] in "ab"
    assert max(worth.lost for worth in found.ranked) < 0.01


def test_same_seed_gives_the_same_proposal() -> None:
    rows, names, task = table("wine")
    proposals: list[Minimisation] = [minimise(rows, names, task, seed=5) for _ in range(2)]
    assert proposals[0] == proposals[1]


@pytest.mark.parametrize(
    ("labels", "margin", "code"),
    [
        (np.zeros(100), MARGIN, ErrorCode.INVALID_DATA),
        (np.arange(100) < 3, MARGIN, ErrorCode.INVALID_DATA),
        (np.arange(100) % 2, 1.0, ErrorCode.INVALID_ARGUMENT),
    ],
    ids=["one class", "a rare class", "a margin of everything"],
)
def test_rows_that_say_nothing_are_refused(labels: np.ndarray, margin: float, code: ErrorCode) -> None:
    rows = PreparedRows(np.random.default_rng(0).uniform(-1, 1, (100, 2)), labels.astype(np.float64), {})
    with pytest.raises(ConfideError) as caught:
        minimise(rows, ["a", "b"], Task.BINARY, seed=1, margin=margin)
    assert caught.value.code is code
