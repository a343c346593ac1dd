"""Randomness of rows: a function of seed, step, row and draw alone, and uniform."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.preparation.recipes.row_randomness import RowRandomness
from protocols.errors import ConfideError
from protocols.secrets import SecretBytes

SEED = SecretBytes(bytes(range(32)))


@given(st.lists(st.integers(1, 2**40), min_size=1, max_size=50, unique=True), st.integers(0, 49), st.integers(0, 1000))
def test_row_draws_the_same_in_any_company(rows: list[int], position: int, draw: int) -> None:
    randomness, numbers = RowRandomness(SEED, "1:jitter"), np.array(rows, np.int64)
    one = numbers[position % len(rows)][None]
    np.testing.assert_array_equal(randomness.uniform(numbers, draw)[position % len(rows)], randomness.uniform(one, draw)[0])


def test_rows_draws_steps_and_seeds_are_independent() -> None:
    rows = np.arange(1, 20_001)
    first = RowRandomness(SEED, "1:jitter").uniform(rows)
    others = [
        RowRandomness(SEED, "1:jitter").uniform(rows, 1),
        RowRandomness(SEED, "2:jitter").uniform(rows),
        RowRandomness(SecretBytes(bytes(32)), "1:jitter").uniform(rows),
        np.roll(first, 1),
    ]
    for other in others:
        # Five standard errors of a correlation of 20,000 independent pairs.
        assert abs(np.corrcoef(first, other)[0, 1]) < 5 / np.sqrt(len(rows))


def test_draws_are_uniform() -> None:
    values = RowRandomness(SEED, "1:jitter").uniform(np.arange(1, 100_001))
    assert values.min() >= 0
    assert values.max() < 1
    counts, _ = np.histogram(values, bins=100, range=(0, 1))
    statistic = float(((counts - 1000.0) ** 2 / 1000).sum())
    # Chi-squared with 99 degrees of freedom: its mean and five standard deviations (sqrt(2 * 99)).
    assert statistic < 99 + 5 * np.sqrt(198)


def test_seed_of_another_length_is_refused() -> None:
    with pytest.raises(ConfideError):
        RowRandomness(SecretBytes(b"short"), "1:jitter")
