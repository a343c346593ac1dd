"""Rows that were shortened keep their bound as integers, whatever the row and the bound; what is no number is refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from protocols.errors import ConfideError, ErrorCode
from protocols.job import DatasetRef, Job, Partition
from protocols.mpc.inputs import ROW_LIMIT
from protocols.mpc.row_bounds import shorten_rows, squared_limit
from tests.support.private_training import a_private_job, private_sgd, terms

NUMBERS = st.floats(-ROW_LIMIT, ROW_LIMIT, allow_subnormal=True)
ROWS = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=NUMBERS)
BOUNDS = st.one_of(st.integers(0, 2**40), st.integers(0, 200))
DECIMALS = st.integers(1, 10**6).map(lambda thousandths: f"{thousandths / 1000:.3f}")


@given(rows=ROWS, squared=BOUNDS)
def test_shortened_rows_keep_their_bound(rows: np.ndarray, squared: int) -> None:
    shared = shorten_rows(rows, squared=squared, limit=ROW_LIMIT)
    lengths = [sum(int(number) ** 2 for number in row) for row in shared]  # without any wrap
    assert max(lengths) <= squared
    # What was short enough already is only cut towards zero.
    cut = np.trunc(rows * 2**16)
    for row, whole, length in zip(shared, cut, (cut**2).sum(axis=1), strict=True):
        if length <= squared:
            assert np.array_equal(row, whole)
        scaled = whole * min(1.0, np.sqrt(squared / length)) if length else whole
        assert (np.abs(row) <= np.abs(whole)).all()
        assert (np.abs(row - scaled) < 2).all()
        assert (row * whole >= 0).all()


@given(rows=ROWS, place=st.integers(0, 10**6), wrong=st.sampled_from([np.nan, np.inf, -np.inf, 1.001, -7.0, 1e300]))
def test_what_is_no_number_within_the_limit_is_refused_without_its_value(rows: np.ndarray, place: int, wrong: float) -> None:
    rows.reshape(-1)[place % rows.size] = wrong
    with pytest.raises(ConfideError) as caught:
        shorten_rows(rows, squared=2**32, limit=ROW_LIMIT)
    assert caught.value.code is ErrorCode.INVALID_DATA
    assert str(wrong) not in str(caught.value)


@given(bound=DECIMALS, widths=st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(sum), scale=st.floats(0, 1))
def test_blocks_of_columns_keep_the_bound_together(bound: str, widths: list[int], scale: float) -> None:
    job = in_columns(bound, widths)
    limits = [squared_limit(job, dataset) for dataset in job.datasets]
    generator = np.random.default_rng(0)
    blocks = [scale * generator.uniform(-1, 1, (3, width)) for width in widths]
    shared = [shorten_rows(block, squared=limit or 0, limit=ROW_LIMIT) for block, limit in zip(blocks, limits, strict=True)]
    whole = np.concatenate(shared, axis=1)
    most = (Fraction(bound) * 2**16) ** 2
    assert all(sum(int(number) ** 2 for number in row) <= most for row in whole)
    # No more is given away than the roundings of the parts' limits.
    assert sum(limit or 0 for limit in limits) > most - len(widths) - 1


def in_columns(bound: str, widths: list[int]) -> Job:
    job = a_private_job(private_sgd(2, "1", privacy=terms(norm_bound=bound)), features=sum(widths))
    parts = tuple(
        DatasetRef(f"owner{i}", "rows", 1, 569, "0" * 64, "0" * 64, width, i == 0, "c" * 64) for i, width in enumerate(widths)
    )
    return replace(job, datasets=parts, partition=Partition.COLUMNS)


def test_other_jobs_shorten_nothing() -> None:
    job = a_private_job(private_sgd(2, "1", privacy=terms()))
    assert job.training is not None
    assert squared_limit(job, job.datasets[0]) == 2**32
    plain = replace(job, training=replace(job.training, privacy=None))
    assert squared_limit(plain, plain.datasets[0]) is None
