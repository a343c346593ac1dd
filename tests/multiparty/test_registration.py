"""Registration by command, at an owner that serves meanwhile: what breaks the contract is refused by row and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.command import Said, confide
from tests.support.trial import LEAD, SCHEMA_FILE, Split, Trial

pytestmark = pytest.mark.multiparty

SECRET_OUTLIER = 987.654321


@pytest.fixture(scope="module")
def broken(trial: Trial, split: Split) -> Path:
    """Thirty rows, of which the fourth lacks a number and the seventh is out of its range."""
    frame: pd.DataFrame = split.train[LEAD].head(30).reset_index(drop=True)
    frame.loc[3, "mean_texture"] = np.nan
    frame.loc[6, "worst_radius"] = SECRET_OUTLIER
    file = trial.folder / "broken.csv"
    frame.to_csv(file, index=False)
    return file


def register(trial: Trial, name: str, file: Path, *options: str) -> Said:
    config = trial.network.party(LEAD).config_file
    return confide(
        "dataset", "register", "--config", config, "--name", name, "--file", file, "--schema", SCHEMA_FILE, "--format", "json",
        *options,
    )  # fmt: skip


def test_rows_that_break_the_contract_are_refused_with_row_column_and_remedy(trial: Trial, broken: Path) -> None:
    said = register(trial, "broken", broken)
    assert (said.exit_code, said.failure["code"]) == (2, "INVALID_DATA")
    assert [problem["where"] for problem in said.failure["problems"]] == [
        "row 4 (line 5), column mean_texture",
        "row 7 (line 8), column worst_radius",
    ]
    assert all(problem["what"] and problem["remedy"] for problem in said.failure["problems"])
    assert str(SECRET_OUTLIER) not in said.out + said.error
    assert "broken" not in {dataset.name for dataset in trial.client.datasets(LEAD)}


def test_rows_that_break_the_contract_are_left_out_and_counted_if_the_owner_says_so(trial: Trial, broken: Path) -> None:
    said = register(trial, "mended", broken, "--leave-out-invalid")
    assert said.exit_code == 0
    assert said.data["num_rows"] == 28
    assert sum(said.data["left_out"].values()) == 2
    # The serving party tells everybody the number of rows that are left, and nobody what was left out.
    (shown,) = [dataset for dataset in trial.client.datasets(LEAD) if dataset.name == "mended"]
    assert (shown.num_rows, shown.commitment) == (28, said.data["commitment"])


def test_same_rows_again_get_another_version_and_an_unrelated_commitment(trial: Trial, split: Split) -> None:
    first = trial.register(LEAD, "twice", split.holdout[LEAD].iloc[1:])
    second = trial.register(LEAD, "twice", split.holdout[LEAD].iloc[1:])
    assert (first.version, second.version) == (1, 2)
    assert first.commitment != second.commitment
