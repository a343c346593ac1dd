"""Residue arithmetic in float64 against whole numbers of any size, also where the numbers are as large as they may be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from protocols.ckks.batch_arithmetic import answer_parts, evaluate_maps
from protocols.ckks.parameters import PARAMETER_SETS
from protocols.ckks.residue_products import (
    MAX_EXACT,
    IntegerMap,
    lift_residues,
    multiply_residues,
    reduce_residues,
    square_parts,
)
from protocols.errors import ConfideError, ErrorCode

PRIMES = PARAMETER_SETS["batch-2"].primes
WIDEST = (1 << 31) - 1  # a prime of 31 bits: the widest that is accepted


def _everything(shape: tuple[int, int]) -> np.ndarray:
    return np.ones(shape, np.bool_)


def test_integer_map_at_the_largest_row_sum_is_exact() -> None:
    prime, rng = PRIMES[0], np.random.default_rng(1)
    columns, room = 97, MAX_EXACT // PRIMES[0] - 2
    weights = np.full((2, columns), room // columns, np.int64) * rng.choice((-1, 1), (2, columns))
    weights[0] = room // columns  # all partial sums grow to the limit
    values = rng.integers(prime - 3, prime, (columns, 5))
    constants = (-(3**70), 2**200 + 1)
    each = IntegerMap(weights, constants, support=_everything(weights.shape), primes=(prime,))
    out = np.empty((2, 5))
    each.apply(values.astype(np.float64), out)
    out += each.constants[0][:, None]
    reduce_residues(out, prime, np.empty_like(out))
    expected = (weights.astype(object) @ values.astype(object) + np.array(constants, object)[:, None]) % prime
    assert lift_residues(out, prime).tolist() == expected.tolist()


def test_integer_map_beyond_the_largest_row_sum_is_refused() -> None:
    weights = np.full((1, 4), MAX_EXACT // max(PRIMES) // 4 + 1, np.int64)
    with pytest.raises(ConfideError, match="add up to") as caught:
        IntegerMap(weights, (0,), support=_everything((1, 4)), primes=PRIMES)
    assert caught.value.code is ErrorCode.INVALID_MODEL


def test_integer_map_with_primes_too_wide_for_exact_products_is_refused() -> None:
    with pytest.raises(ConfideError, match="20 to 31 bits"):
        IntegerMap(np.ones((1, 1), np.int64), (0,), support=_everything((1, 1)), primes=((1 << 44) - 1,))


def test_integer_map_with_a_weight_outside_its_support_is_refused() -> None:
    support = np.array([[True, False]])
    with pytest.raises(ConfideError, match="where the architecture has none"):
        IntegerMap(np.ones((1, 2), np.int64), (0,), support=support, primes=PRIMES)


def test_integer_map_with_several_supports_is_the_dense_product() -> None:
    rng = np.random.default_rng(2)
    support = np.repeat(rng.random((3, 20)) < 0.4, 4, axis=0)[rng.permutation(12)]
    support[5] = True
    weights = np.where(support, rng.integers(-99, 99, support.shape), 0)
    each = IntegerMap(weights, (0,) * 12, support=support, primes=PRIMES)
    values = rng.integers(0, PRIMES[0], (20, 7)).astype(np.float64)
    out = np.empty((12, 7))
    each.apply(values, out)
    assert np.array_equal(out, weights @ values)


def test_integer_map_repr_shows_no_weight() -> None:
    assert repr(IntegerMap(np.full((1, 1), 77), (88,), support=_everything((1, 1)), primes=PRIMES)) == "IntegerMap(1 x 1)"


@pytest.mark.parametrize("prime", [*PRIMES, WIDEST])
def test_reduction_of_whole_numbers_up_to_two_to_the_53_is_exact(prime: int) -> None:
    rng = np.random.default_rng(prime)
    edge = MAX_EXACT - prime
    multiples = prime * rng.integers(-(edge // prime), edge // prime, 500)
    numbers = np.concatenate(
        ([edge, -edge, 0, prime // 2, prime // 2 + 1, -(prime // 2) - 1], rng.integers(-edge, edge, 2_000), multiples - 1)
    )
    values = numbers.astype(np.float64)
    reduce_residues(values, prime, np.empty_like(values))
    assert abs(values).max() <= (prime + 1) / 2
    assert lift_residues(values, prime).tolist() == (numbers % prime).tolist()


@pytest.mark.parametrize("prime", [*PRIMES, WIDEST])
@pytest.mark.parametrize("doubled", [False, True])
def test_products_of_residues_are_exact(prime: int, doubled: bool) -> None:
    rng, half = np.random.default_rng(prime), (prime + 1) // 2
    left = np.concatenate(([half, -half, half, prime - 1, 0, 1], rng.integers(-half, half + 1, 5_000)))
    right = np.concatenate(([half, half, 1 - half, prime - 1, half, -1], rng.integers(-half, half + 1, 5_000)))
    found = multiply_residues(left.astype(np.float64), right.astype(np.float64), prime, doubled=doubled)
    expected = (left.astype(object) * right.astype(object) * (2 if doubled else 1)) % prime
    assert abs(found).max() < prime
    assert (found.astype(np.int64) % prime).tolist() == expected.tolist()


def test_square_of_parts_is_the_square_of_the_polynomial_in_the_key() -> None:
    prime, rng = PRIMES[1], np.random.default_rng(3)
    half = prime // 2
    for parts in (2, 3):
        values = rng.integers(-half, half, (4, parts, 6))
        found = square_parts(values.astype(np.float64), prime).astype(np.int64).astype(object)
        key = rng.integers(1, prime, 6).astype(object)
        given = sum(values[:, part].astype(object) * key**part for part in range(parts))
        assert not ((sum(found[:, part] * key**part for part in range(2 * parts - 1)) - given**2) % prime).any()


@pytest.mark.parametrize("squares", [0, 1, 2])
def test_maps_and_squares_on_residues_are_those_on_whole_numbers(squares: int) -> None:
    rng, widths = np.random.default_rng(4), (9, 6, 5, 3)[: squares + 2]
    matrices = [rng.integers(-2_000, 2_000, (after, before)) for before, after in itertools.pairwise(widths)]
    constants = [[int(value) << 70 for value in rng.integers(-9, 9, len(matrix))] for matrix in matrices]
    maps = [
        IntegerMap(matrix, constant, support=_everything(matrix.shape), primes=PRIMES)
        for matrix, constant in zip(matrices, constants, strict=True)
    ]
    given = [np.stack([rng.integers(0, prime, (9, 1_024)) for prime in PRIMES], 1).astype(np.uint32) for _ in range(2)]
    answers = evaluate_maps(maps, given[0], given[1], PRIMES)
    assert answers.shape[1:] == (answer_parts(squares), len(PRIMES), 1_024)
    for index, prime in enumerate(PRIMES):
        key = rng.integers(1, prime, 1_024).astype(object)
        values = given[0][:, index].astype(object) + given[1][:, index].astype(object) * key
        for number, (matrix, constant) in enumerate(zip(matrices, constants, strict=True)):
            values = (values * values if number else values) % prime
            values = (matrix.astype(object) @ values + np.array(constant, object)[:, None]) % prime
        opened = sum(answers[:, part, index].astype(object) * key**part for part in range(answers.shape[1]))
        assert not ((opened - values) % prime).any()
