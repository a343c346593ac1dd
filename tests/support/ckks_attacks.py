"""Known attacks on CKKS services, as functions of what the attacker has.

The querier holds the secret key, its own query and the answer; the evaluator holds every ciphertext and what is published.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.ckks.engine import Engine, SecretKey
from protocols.ckks.seal_format import Residues

Float64 = NDArray[np.float64]


def quotient(numerator: Residues, denominator: Residues, prime: int) -> Residues:
    """Returns the quotient modulo a prime of two polynomials in NTT form."""
    pairs = zip(numerator.tolist(), denominator.tolist(), strict=True)
    return np.array([above * pow(below, -1, prime) % prime for above, below in pairs], np.uint64)


def decoded(engine: Engine, secret: SecretKey, polynomial: Residues, scale: float) -> Float64:
    """Returns the slots of a polynomial `(primes, N)`: the value of a ciphertext whose second part is nothing."""
    nothing = np.zeros_like(polynomial)
    return engine.decrypt(secret, engine.from_residues(np.stack([polynomial, nothing]), scale))


def weights_from_parts(engine: Engine, secret: SecretKey, *, asked: Residues, answered: Residues, weight_scale: float) -> Float64:
    """Returns what the quotient of the second parts says of the weights (c1 ratio attack); level 0."""
    ratio = quotient(answered[1, 0], asked[1, 0], engine.parameters.primes[0])
    return decoded(engine, secret, ratio[np.newaxis], weight_scale)


def squared_weights_from_third_part(
    engine: Engine, secret: SecretKey, *, asked: Residues, answered: Residues, weight_scale: float
) -> Float64:
    """Returns what the third part over the square of the asked second part says of the squares of the weights; level 0."""
    prime = engine.parameters.primes[0]
    square = np.array([value * value % prime for value in asked[1, 0].tolist()], np.uint64)
    return decoded(engine, secret, quotient(answered[2, 0], square, prime)[np.newaxis], weight_scale**2)


def key_from_published(
    engine: Engine, ciphertexts: list[Residues], published: list[Float64], scale: float, *, count: int
) -> dict[int, int]:
    """Returns values of the secret key modulo the first prime that follow from two published vectors of all slots.

    Twice the real parts of all slots are a plaintext polynomial plus its conjugate. In SEAL's order of NTT values the conjugate
    of place i stands at N - 1 - i, so each published vector gives one linear equation in the key's values at these two places,
    and two vectors give both (Li and Micciancio 2021, with real slots as libraries return them).

    Args:
        engine: SEAL; not the secret key.
        ciphertexts: two answers at level 0, `(2, 1, N)`.
        published: their slots as published.
        scale: of the answers.
        count: how many pairs of places to solve.
    """
    prime, last = engine.parameters.primes[0], engine.parameters.ring_degree - 1
    equations = []
    for parts, values in zip(ciphertexts, published, strict=True):
        polynomial = engine.plaintext_residues(engine.encode(2 * values, 0, scale))[0].tolist()
        equations.append((parts[0, 0].tolist(), parts[1, 0].tolist(), polynomial))
    found = {}
    for place in range(count):
        mirror = last - place
        (b1, a1, g1), (b2, a2, g2) = equations
        right1, right2 = (g1[place] - b1[place] - b1[mirror]) % prime, (g2[place] - b2[place] - b2[mirror]) % prime
        inverse = pow(a1[place] * a2[mirror] - a1[mirror] * a2[place], -1, prime)
        found[place] = (right1 * a2[mirror] - a1[mirror] * right2) * inverse % prime
        found[mirror] = (a1[place] * right2 - a2[place] * right1) * inverse % prime
    return found


def places_found(engine: Engine, secret: SecretKey, guess: dict[int, int]) -> int:
    """Returns how many of the guessed values are those of the secret key."""
    true = engine.export_secret_key(secret)[0]
    return sum(int(true[place]) == value for place, value in guess.items())


def weights_from_slots(shown: Float64, responses: Float64) -> tuple[Float64, int]:
    """Returns the least-squares solution for the weights, and the rank of its equations.

    Args:
        shown: `(slots,)` every slot of one answer.
        responses: `(slots, weights)`: how every slot depends on every weight, which the attacker computes from its query.
    """
    solution, _, rank, _ = np.linalg.lstsq(responses, shown, rcond=1e-9)
    return solution, int(rank)


def solution_modulo(matrix: list[list[int]], right: list[int], prime: int) -> list[int]:
    """Returns the solution of a square system modulo a prime (Gauss-Jordan)."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for column in range(len(rows)):
        pivot = next(at for at in range(column, len(rows)) if rows[at][column] % prime)
        rows[column], rows[pivot] = rows[pivot], rows[column]
        inverse = pow(rows[column][column], -1, prime)
        rows[column] = [value * inverse % prime for value in rows[column]]
        for at in range(len(rows)):
            if at != column and rows[at][column]:
                factor = rows[at][column]
                rows[at] = [(value - factor * other) % prime for value, other in zip(rows[at], rows[column], strict=True)]
    return [row[-1] for row in rows]
