"""What one row can change in the integers that an owner shares: never more than the sensitivity that the noise is made for."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from protocols.mpc.noisy_sums_contribution import Contributions, clipped_integers, rounded
from protocols.mpc.noisy_sums_design import FINE_BITS, canaries_of, design, fine_bound, rows_of, sensitivity
from protocols.mpc.noisy_sums_sampling import padded_batch
from tests.support.noisy_sums import a_noisy_sums_job, bytes_of, initial_weights, rows_for

ANY = st.one_of(
    st.floats(width=64),  # NaN, infinities and subnormal numbers among them
    st.sampled_from([0.0, 1.0, -1.0, 1e-300, 1e300, -1e308, math.nan, math.inf]),
)


def squared_norm(values: np.ndarray) -> int:
    """The exact square of a Euclidean norm of integers."""
    return sum(int(value) ** 2 for value in values.reshape(-1))


@settings(max_examples=300, deadline=None)
@given(
    gradients=arrays.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 12)), elements=ANY),
    bound=st.integers(1, 1000 << 36),
)
def test_clipped_row_has_at_most_the_bound_as_its_exact_norm(gradients: np.ndarray, bound: int) -> None:
    counts = np.ones(len(gradients), np.bool_)
    found = clipped_integers(gradients, bound=bound, counts=counts)
    assert found.dtype == np.int64
    for row, given_row in zip(found, gradients, strict=True):
        assert squared_norm(row) <= bound**2
        if not np.isfinite(given_row).all():
            assert not row.any()
    assert not clipped_integers(gradients, bound=bound, counts=~counts).any()


@settings(max_examples=60, deadline=None)
@given(
    row=arrays.arrays(np.float64, 5, elements=ANY),
    label=st.integers(0, 2),
    seed=st.integers(0, 5),
    norm=st.sampled_from(["0.01", "1", "50"]),
)
def test_any_row_changes_the_shared_sum_by_at_most_the_sensitivity(row: np.ndarray, label: int, seed: int, norm: str) -> None:
    """The same coins, the row replaced by one that contributes nothing: a gradient that is no number does."""
    job = a_noisy_sums_job({"alpha": 30, "beta": 10}, batch_size=20, canaries=6, norm_bound=norm)
    weights = initial_weights(job.model, seed)
    sums = []
    for content in (row, np.full(5, math.nan)):
        rows = rows_for(job, seed)["alpha"]
        features, labels = rows[0]
        features[4], labels[4] = content, label
        owner = Contributions(job=job, party="alpha", rows=rows, random=bytes_of(f"coins {seed}"))
        sums.append([owner.next_sum(weights) for _ in range(3)])
    for with_row, without in zip(*sums, strict=True):
        assert squared_norm(with_row - without) <= sensitivity(job) ** 2


@settings(max_examples=200, deadline=None)
@given(
    first=arrays.arrays(np.int64, 9, elements=st.integers(-(2**50), 2**50)),
    change=arrays.arrays(np.int64, 9, elements=st.integers(-(2**40), 2**40)),
)
def test_rounding_adds_at_most_a_unit_a_coordinate(first: np.ndarray, change: np.ndarray) -> None:
    moved = rounded(first + change) - rounded(first)
    excess = np.abs(moved * (1 << FINE_BITS) - change)
    assert excess.max() <= 1 << FINE_BITS


@settings(max_examples=40, deadline=None)
@given(num_rows=st.integers(1, 400), batch=st.integers(1, 200), nominal=st.integers(400, 2000))
def test_padding_overflows_with_a_probability_of_at_most_two_to_minus_sixty(num_rows: int, batch: int, nominal: int) -> None:
    rate = Fraction(batch, nominal)
    size = padded_batch(num_rows, rate)
    beyond = sum(
        math.comb(num_rows, count) * rate**count * (1 - rate) ** (num_rows - count) for count in range(size + 1, num_rows + 1)
    )
    assert beyond <= Fraction(1, 1 << 60)
    assert rate * num_rows - 1 < size <= num_rows


@settings(max_examples=60, deadline=None)
@given(canaries=st.integers(0, 40), norm=st.decimals("0.001", "1000", places=3))
def test_design_charges_norm_and_roundings_and_every_canary_has_one_owner(canaries: int, norm: object) -> None:
    job = a_noisy_sums_job({"alpha": 30, "beta": 10, "gamma": 20}, canaries=canaries, norm_bound=f"{norm:f}")
    found = design(job, 12)
    coordinates = sum(math.prod(parameter.shape) for parameter in job.model.parameters) + canaries
    assert (found.used, found.spares, found.scale_bits, found.steps) == (coordinates, 12, 20, 4)
    wanted = Fraction(str(norm)) * 2**20 + Fraction(math.isqrt(coordinates * 2**40)) / 2**20
    assert wanted <= found.sensitivity <= wanted + 3
    assert fine_bound(job) <= Fraction(str(norm)) * 2**36
    planted = [number for owner in ("alpha", "beta", "gamma") for number in canaries_of(job, owner)]
    assert planted == list(range(canaries))
    assert sum(rows_of(job, owner) for owner in ("alpha", "beta", "gamma")) == 60 + canaries
