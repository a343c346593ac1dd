"""Exact linear maps and products on residues modulo primes of at most 31 bits, in float64 through BLAS.

A ciphertext in NTT form is an array of residues, and a plain integer matrix acts on it coefficient by coefficient: the product of
weights and ciphertexts is a matrix product modulo every prime. Primes of 30 bits let each residue enter BLAS whole, without
limbs: three of 30 bits cost three real products where two of 44 bits cost four, and nothing has to be split or put together.

Why every number here is exact. A float64 holds each whole number up to 2^53.

- Product: each entry is a sum of |weight| * residue with residues below q, so all partial sums, in whatever order BLAS adds them
  and with or without fused multiply-add, are whole numbers of at most (sum of |weights| of a row) * q. `IntegerMap` refuses rows
  for which that sum, plus the constant that is added and plus q, exceeds 2^53.
- Reduction: k = rint(x * (1/q)) differs from x/q by less than 1/2 + 2^-18 for |x| <= 2^53 and q >= 2^19 (two roundings of
  relative 2^-53 on a quotient below 2^34); k * q <= |x| + q is a whole number below 2^53, thus exact, and so is x - k * q. The
  rest is a whole number of absolute value at most q/2 + 2^-18 q, in practice (q+1)/2, and always below q.
- Products of two residues a, b, |a|, |b| < 2^31: a * b fits int64; k from the rounded quotient of floats differs from a * b / q
  by less than 1/2 + 2^-9 (relative error 3 * 2^-53 on a quotient below 2^42), so that a * b - k * q, in int64, is below q.

Encrypted convolutions as plain matrix products on residues follow the literature on plaintext-ciphertext matrix multiplication by
floating-point BLAS (Bae, Cheon, Hanrot, Park and Stehle, CRYPTO 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
MAX_EXACT = 1 << 53  # every whole number up to it is a float64
MIN_PRIME_BITS, MAX_PRIME_BITS = 20, 31


@dataclass(frozen=True)
class _Group:
    """Rows of a map that read the same columns: one dense product."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp] | None  # None: all of them
    weights: Float64


class IntegerMap:
    """An integer matrix and a constant per row, ready to be applied to residues. The weights are secret of the model's owner.

    Args:
        weights: (rows, columns) whole numbers as int64; secret.
        constants: (rows,) whole numbers of any size, added to the first part of each ciphertext; secret.
        support: (rows, columns), public: where the architecture has a weight, whatever its value. Rows of equal support are
            multiplied together, so that a convolution costs its taps and the time never depends on values.
        primes: the moduli.

    Raises:
        ConfideError: INVALID_MODEL (the owner's fault): weights outside the support, or too large for exact products.
    """

    __slots__ = ("_groups", "constants", "num_columns", "num_rows")

    def __init__(self, weights: Int64, constants: Sequence[int], *, support: Bools, primes: Sequence[int]) -> None:
        if weights.ndim != 2 or support.shape != weights.shape or len(constants) != len(weights):
            raise ConfideError(ErrorCode.INTERNAL, "weights, support and constants of a map do not fit together")
        if np.any(weights[~support]):
            raise ConfideError(ErrorCode.INVALID_MODEL, "a weight stands where the architecture has none")
        check_exact(weights, primes)
        self.num_rows, self.num_columns = weights.shape
        self._groups = _grouped(weights.astype(np.float64), support)
        # Modulo each prime, as what is added to the constant coefficient: in NTT form the same number everywhere.
        self.constants = tuple(np.array([value % prime for value in constants], np.float64) for prime in primes)

    def __repr__(self) -> str:
        """Shape alone: weights are secret."""
        return f"IntegerMap({self.num_rows} x {self.num_columns})"

    def apply(self, values: Float64, out: Float64) -> None:
        """Writes the product into `out`, not reduced.

        Args:
            values: (columns, width) residues in [0, q) or centred.
            out: (rows, width).
        """
        for group in self._groups:
            taken = values if group.columns is None else values[group.columns]
            if len(group.rows) == self.num_rows:
                np.matmul(group.weights, taken, out=out)
            else:
                out[group.rows] = group.weights @ taken


def check_exact(weights: Int64, primes: Sequence[int]) -> None:
    """Refuses weights whose product with residues could leave the whole numbers that float64 holds.

    Raises:
        ConfideError: INVALID_MODEL (the owner's fault).
    """
    if any(not MIN_PRIME_BITS <= prime.bit_length() <= MAX_PRIME_BITS for prime in primes):
        raise ConfideError(ErrorCode.INTERNAL, f"exact products need primes of {MIN_PRIME_BITS} to {MAX_PRIME_BITS} bits")
    largest = max((sum(map(abs, row)) for row in weights.tolist()), default=0)
    if (largest + 2) * max(primes) > MAX_EXACT:
        raise ConfideError(
            ErrorCode.INVALID_MODEL,
            f"the weights of one output add up to {largest} in whole numbers, more than {MAX_EXACT // max(primes) - 2}",
            remedy="Scale the inputs of that layer down, or give its weights fewer bits.",
        )


def reduce_residues(values: Float64, prime: int, scratch: Float64) -> None:
    """Replaces whole numbers of at most 2^53 - q by centred residues, in place; `scratch` has the same shape."""
    np.multiply(values, 1.0 / prime, out=scratch)
    np.rint(scratch, out=scratch)
    np.multiply(scratch, float(prime), out=scratch)
    np.subtract(values, scratch, out=values)


def lift_residues(values: Float64, prime: int) -> NDArray[np.uint64]:
    """Returns centred residues as uint64 in [0, q)."""
    whole = values.astype(np.int64)
    whole += (whole < 0) * np.int64(prime)
    return whole.astype(np.uint64)


def multiply_residues(left: Float64, right: Float64, prime: int, *, doubled: bool = False) -> Float64:
    """Returns the products of centred residues, or twice them, as centred residues of the same shape.

    Doubling inside needs |2ab| < 2^63, that is primes of at most 31 bits, as everything here.
    """
    first = left.astype(np.int64)
    product = first * (first if right is left else right.astype(np.int64))
    quotient = left * right
    quotient *= (2.0 if doubled else 1.0) / prime
    np.rint(quotient, out=quotient)
    if doubled:
        product += product
    whole = quotient.astype(np.int64)
    whole *= np.int64(prime)
    product -= whole
    np.copyto(quotient, product)
    return quotient


def square_parts(values: Float64, prime: int) -> Float64:
    """Squares ciphertexts of p parts, without relinearisation.

    Args:
        values: (ciphertexts, p, width) centred residues.
        prime: the modulus.

    Returns:
        (ciphertexts, 2p - 1, width) whole numbers below p * q in absolute value, not reduced.
    """
    ciphertexts, parts, width = values.shape
    squared = np.zeros((ciphertexts, 2 * parts - 1, width))
    for i in range(parts):
        squared[:, 2 * i] += multiply_residues(values[:, i], values[:, i], prime)
        for j in range(i + 1, parts):
            squared[:, i + j] += multiply_residues(values[:, i], values[:, j], prime, doubled=True)
    return squared


def _grouped(weights: Float64, support: Bools) -> tuple[_Group, ...]:
    patterns, which = np.unique(np.packbits(support, axis=1), axis=0, return_inverse=True)
    groups = []
    for number in range(len(patterns)):
        rows = np.flatnonzero(which.reshape(-1) == number)
        columns = np.flatnonzero(support[rows[0]])
        dense = np.ascontiguousarray(weights[np.ix_(rows, columns)])
        groups.append(_Group(rows, None if len(columns) == weights.shape[1] else columns, dense))
    return tuple(groups)
