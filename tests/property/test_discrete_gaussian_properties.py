"""Samples of the discrete Gaussian for any deviation and any stream."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from protocols.discrete_gaussian import MAX_DEVIATION, sample, sampler_distance
from tests.support.mpc_world import stream


@given(count=st.integers(0, 500), deviation=st.integers(1, MAX_DEVIATION), seed=st.text(max_size=8))
def test_samples_are_as_many_as_wanted_and_within_nineteen_deviations(count: int, deviation: int, seed: str) -> None:
    samples = sample(stream(seed), count, deviation)
    assert samples.shape == (count,)
    assert samples.dtype == np.int64
    assert bool((np.abs(samples) < 19 * deviation).all())


@given(deviation=st.integers(1, MAX_DEVIATION), seed=st.text(max_size=8))
def test_equal_streams_give_equal_samples(deviation: int, seed: str) -> None:
    assert np.array_equal(sample(stream(seed), 7, deviation), sample(stream(seed), 7, deviation))


@given(counts=st.tuples(st.integers(0, 10**12), st.integers(0, 10**12)), deviation=st.integers(1, MAX_DEVIATION))
def test_distance_grows_with_the_number_of_samples(counts: tuple[int, int], deviation: int) -> None:
    few, many = sorted(counts)
    assert sampler_distance(few, deviation) <= sampler_distance(many, deviation) < 2.0**-150
