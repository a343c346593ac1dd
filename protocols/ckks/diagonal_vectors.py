"""A linear step's weights as the vectors that are encoded; as secret as the weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from protocols.ckks.linear_operators import Float64, Sparse
from protocols.ckks.network import Affine
from protocols.ckks.program import LinearStep, Program


def diagonal_vectors(program: Program, step: LinearStep, own: Affine, known: Affine) -> Iterator[tuple[int, int, Float64]]:
    """Yields the term, the number and the vector `(slots,) float64` of every diagonal, rotated back by its giant.

    Args:
        program: the step's.
        step: the step.
        own: its node, with the model's weights.
        known: its node, with matrices that are zero exactly where the architecture has no weight.
    """
    ring = program.parameters.slots // program.samples
    for position, (term, (_, matrix), (_, pattern)) in enumerate(zip(step.terms, own.terms, known.terms, strict=True)):
        parts = term.diagonals
        values = _values(matrix, pattern)[parts.entries] * term.share
        by_number = np.argsort(parts.numbers, kind="stable")
        numbers, slots, values = parts.numbers[by_number], parts.slots[by_number], values[by_number]
        for giant, members in term.grid.groups:
            for _, number in members:
                at = slice(*np.searchsorted(numbers, (number, number + 1)))
                vector = np.zeros(parts.working)
                vector[slots[at]] = values[at]
                whole = np.roll(np.tile(vector, ring // parts.working), giant * parts.unit)
                yield position, number, np.repeat(whole, program.samples)


def constant_vector(program: Program, step: LinearStep, own: Affine) -> Float64:
    """Returns the constants `(slots,) float64`, zero where no number stands."""
    numbers = step.layout.one_period
    one = np.where(numbers < 0, 0.0, own.constants[np.maximum(numbers, 0)]) * step.constant_share
    return np.repeat(np.tile(one, program.parameters.slots // program.samples // step.layout.period), program.samples)


def _values(matrix: Sparse, pattern: Sparse) -> Float64:
    """The matrix' entries where the pattern has some, in the order of its coordinates."""
    coordinates = pattern.tocoo()
    return np.asarray(matrix[coordinates.row, coordinates.col], np.float64).ravel()
