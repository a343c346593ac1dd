"""Attacks on released tables: a copy of the rows is told from rows of the same kind, by every figure."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_wine

from privacy.figures import Figure
from privacy.risk.tables import ReleasedTable, table_figures
from protocols.errors import ConfideError, ErrorCode

NAMES = ("table.singling_out.gain", "table.linkability.gain", "table.inference.gain")


def people(count: int, seed: int) -> np.ndarray:
    """Four numbers, of which two go together, and two categories."""
    drawn = np.random.default_rng(seed)
    first = drawn.normal(size=count)
    numbers = [first, first + drawn.normal(0, 0.5, count), drawn.normal(size=count), drawn.exponential(size=count)]
    return np.stack([*numbers, drawn.integers(0, 3, count), drawn.integers(0, 12, count)], axis=1)


def judged(released: np.ndarray) -> dict[str, Figure]:
    table = ReleasedTable(released, people(400, 1), people(400, 2), np.array([False] * 4 + [True] * 2))
    return table_figures(table, secret=5, generator=np.random.default_rng(3))


@pytest.mark.parametrize("name", NAMES)
def test_copy_of_the_rows_is_told_from_rows_of_other_people(name: str) -> None:
    bad, good = judged(people(400, 1))[name], judged(people(400, 4))[name]
    assert bad.low > good.high
    # Rows of other people tell as much of the control: nothing is gained, within 95 % each.
    assert good.low <= 0 <= good.high


def test_rows_with_little_noise_are_still_found_and_with_much_are_not() -> None:
    drawn = np.random.default_rng(5)
    noise = drawn.normal(size=(400, 6)) * np.array([1, 1, 1, 1, 0, 0])
    gains = [judged(people(400, 1) + scale * noise)["table.linkability.gain"].value for scale in (0.0, 0.05, 5.0)]
    assert gains[0] > gains[1] > gains[2]


def test_real_table_is_told_from_its_own_other_half() -> None:
    rows = load_wine().data[np.random.default_rng(6).permutation(178)]
    table = ReleasedTable(rows[:89], rows[:89], rows[89:], np.zeros(13, bool))
    found = table_figures(table, secret=0, generator=np.random.default_rng(7))
    assert all(found[name].low > 0 for name in NAMES)


def test_tables_that_do_not_fit_together_are_refused() -> None:
    rows = people(20, 1)
    for wrong in (rows[:, :5], rows[:0], np.full((20, 6), np.nan)):
        table = ReleasedTable(wrong, rows, rows, np.zeros(6, bool))
        with pytest.raises(ConfideError) as refused:
            table_figures(table, secret=0, generator=np.random.default_rng(1))
        assert refused.value.code is ErrorCode.INVALID_DATA
