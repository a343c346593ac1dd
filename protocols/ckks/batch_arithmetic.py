"""The batch lane's computation on residues: maps and squares of many ciphertexts at once, samples in slots.

Nothing is rescaled, rotated or relinearised, so no evaluation key is needed: scales multiply up within a modulus that is large
enough, and a square turns p parts into 2p - 1. Time and memory follow from shapes alone.

Learns: the evaluator nothing; it sees ciphertexts. Its result is not for sending before `protection` has re-randomised it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.ckks.residue_products import IntegerMap, lift_residues, reduce_residues, square_parts
from protocols.ckks.uniform_residues import Words

_STRETCH = 512  # coefficients at a time: two parts of 784 features are 6 MiB then, which the last cache holds


def answer_parts(squares: int) -> int:
    """Returns of how many parts a ciphertext is after so many squares without relinearisation."""
    return (1 << squares) + 1


def evaluate_maps(
    maps: Sequence[IntegerMap], first_parts: Words, second_parts: Words, primes: Sequence[int]
) -> NDArray[np.uint64]:
    """Applies affine maps with a square between any two to ciphertexts.

    Args:
        maps: in order; the columns of the first are the ciphertexts.
        first_parts: (ciphertexts, primes, N) uint32 residues, each below its prime.
        second_parts: of the same shape.
        primes: the moduli.

    Returns:
        (outputs, parts, primes, N) uint64: the last map's rows, not re-randomised.
    """
    ring_degree = first_parts.shape[-1]
    parts = answer_parts(len(maps) - 1)
    answers = np.empty((maps[-1].num_rows, parts, len(primes), ring_degree), np.uint64)
    width = min(_STRETCH, ring_degree)
    # Reused throughout: allocating them anew for each stretch costs as much as the conversion that fills them.
    taken = np.empty((len(first_parts), 2, width))
    for index, prime in enumerate(primes):
        for start in range(0, ring_degree, width):
            where = slice(start, start + width)
            taken[:, 0], taken[:, 1] = first_parts[:, index, where], second_parts[:, index, where]
            values = taken
            for number, each in enumerate(maps):
                if number:
                    values = square_parts(values, prime)
                    _reduce(values, prime)
                values = _applied(each, values, index, prime)
            answers[:, :, index, where] = lift_residues(values, prime)
    return answers


def _applied(each: IntegerMap, values: NDArray[np.float64], index: int, prime: int) -> NDArray[np.float64]:
    ciphertexts, parts, width = values.shape
    mapped = np.empty((each.num_rows, parts, width))
    each.apply(values.reshape(ciphertexts, parts * width), mapped.reshape(each.num_rows, parts * width))
    # A constant polynomial is the same number at every place of its NTT form.
    mapped[:, 0] += each.constants[index][:, None]
    _reduce(mapped, prime)
    return mapped


def _reduce(values: NDArray[np.float64], prime: int) -> None:
    reduce_residues(values, prime, np.empty_like(values))
