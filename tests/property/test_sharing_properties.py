"""Sharing, fixed point and row order hold for every input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import decode, encode
from protocols.mpc.row_order import row_order
from protocols.ring import matmul, pack_bits, unpack_bits
from protocols.sharing import combine_additive, combine_bits, share_additive, share_bits
from tests.support.mpc_world import stream

SHAPES = hnp.array_shapes(max_dims=3, max_side=6)
RING = hnp.arrays(np.int64, SHAPES)


@given(RING, st.integers(2, 6), st.text(max_size=8))
def test_additive_shares_combined_give_the_value(value: np.ndarray, num_parties: int, seed: str) -> None:
    shares = share_additive(value, num_parties=num_parties, source=stream(seed))
    assert len(shares) == num_parties
    assert np.array_equal(combine_additive(shares), value)


@given(RING, st.integers(2, 6))
def test_additive_shares_without_one_do_not_depend_on_the_value(value: np.ndarray, num_parties: int) -> None:
    of_value = share_additive(value, num_parties=num_parties, source=stream("s"))
    of_zero = share_additive(np.zeros_like(value), num_parties=num_parties, source=stream("s"))
    assert all(np.array_equal(a, b) for a, b in zip(of_value[:-1], of_zero[:-1], strict=True))


@given(hnp.arrays(np.uint8, SHAPES), st.integers(2, 6))
def test_bit_shares_combined_give_the_bits(value: np.ndarray, num_parties: int) -> None:
    assert np.array_equal(combine_bits(share_bits(value, num_parties=num_parties, source=stream("b"))), value)


def test_sharing_among_one_party_is_refused() -> None:
    with pytest.raises(ConfideError) as caught:
        share_additive(np.zeros(1, np.int64), num_parties=1, source=stream("s"))
    assert caught.value.code is ErrorCode.INTERNAL


@given(hnp.arrays(np.float64, SHAPES, elements=st.floats(-1024, 1024)), st.integers(0, 40))
def test_encoded_numbers_decoded_are_within_half_a_unit(values: np.ndarray, scale_bits: int) -> None:
    decoded = decode(encode(values, scale_bits=scale_bits, limit=1024), scale_bits=scale_bits)
    # Half a unit of the encoding; float64 is exact at these sizes (40 + 10 bits).
    assert (np.abs(decoded - values) <= 2.0 ** -(scale_bits + 1)).all()


@given(
    hnp.arrays(np.float64, (3, 2), elements=st.floats(-1, 1)),
    st.tuples(st.integers(0, 2), st.integers(0, 1)),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), 1.5, -1e300]),
)
def test_encode_number_outside_the_range_names_its_position_only(
    values: np.ndarray, position: tuple[int, int], wrong: float
) -> None:
    values[position] = wrong
    with pytest.raises(ConfideError) as caught:
        encode(values, scale_bits=16, limit=1.0)
    assert caught.value.code is ErrorCode.INVALID_DATA
    assert [problem.where for problem in caught.value.problems] == [f"position {position[0]}, {position[1]}"]
    assert "1.5" not in str(caught.value)
    assert "1e+300" not in str(caught.value)


@given(st.integers(1, 5) | st.integers(32, 36), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32))
def test_matmul_wraps_like_integers_modulo_two_to_the_64(rows: int, inner: int, columns: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    left = generator.integers(-(2**63), 2**63, (rows, inner), dtype=np.int64)
    right = generator.integers(-(2**63), 2**63, (inner, columns), dtype=np.int64)
    exact = left.astype(object) @ right.astype(object)
    wrapped = np.vectorize(lambda v: (int(v) + 2**63) % 2**64 - 2**63, otypes=[object])(exact)
    assert np.array_equal(matmul(left, right), wrapped.astype(np.int64))
    assert np.array_equal(matmul(right.T, left.T), wrapped.astype(np.int64).T)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=st.integers(0, 1)))
def test_packed_bits_unpacked_are_the_bits(bits: np.ndarray) -> None:
    assert np.array_equal(unpack_bits(pack_bits(bits), bits.shape[-1]), bits)


@given(st.text("0123456789abcdef", min_size=32, max_size=32), st.integers(1, 200))
def test_row_order_is_a_permutation_that_the_seed_fixes(seed: str, num_rows: int) -> None:
    order = row_order(seed, num_rows)
    assert sorted(order) == list(range(num_rows))
    assert np.array_equal(order, row_order(seed, num_rows))


def test_row_order_of_a_known_seed_never_changes() -> None:
    # Agreed plans and plaintext references depend on it.
    assert row_order("00" * 16, 8).tolist() == ORDER_OF_ZEROS


ORDER_OF_ZEROS = [3, 0, 4, 5, 2, 7, 1, 6]
