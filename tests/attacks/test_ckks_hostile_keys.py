"""What a querier gains with keys that are none: ill-formed halves, seeds that are used twice."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from protocols.ckks.engine import Ciphertext, Engine, EvaluationKeys, SecretKey
from protocols.ckks.key_manifest import public_key_primes
from protocols.ckks.key_material import KeyMaterial, SeededCiphertext, SeededHalf
from protocols.ckks.orbits import means
from protocols.ckks.protection import AnswerForm, answer_form, opened, protect
from protocols.ckks.seal_format import Residues
from tests.support.ckks import FEATURES, FRESH_SCALE, SMALL, WEIGHT_SCALE, Float64, evaluate_linear, linear_plan
from tests.support.ckks_attacks import weights_from_parts

PLAN = linear_plan()
FORM = answer_form(PLAN)
MODEL = np.random.default_rng(21).uniform(0.5, 2, FEATURES)
PRIME = SMALL.primes[0]
PUBLIC = [SMALL.key_primes[at] for at in public_key_primes(0)]
ONE_IN_A_MILLION = 4.9
SIXTY_FOUR_CELLS = 63 + ONE_IN_A_MILLION * 11.3


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(SMALL)


@pytest.fixture(scope="module")
def secret(engine: Engine) -> SecretKey:
    return engine.make_secret_key()


@pytest.fixture(scope="module")
def material(engine: Engine, secret: SecretKey) -> KeyMaterial:
    return engine.make_key_material(secret, PLAN.keys)


def replaced(half: SeededHalf, residues: Residues) -> SeededHalf:
    return SeededHalf(half.seed, residues)


def random_half(half: SeededHalf, primes: list[int], seed: int) -> SeededHalf:
    rng = np.random.default_rng(seed)
    return replaced(half, np.stack([rng.integers(0, prime, SMALL.ring_degree, dtype=np.uint64) for prime in primes]))


def ill_formed(engine: Engine, material: KeyMaterial, how: str) -> EvaluationKeys:
    public = material.public_key
    assert public is not None
    match how:
        case "public key of zeros":
            changed = replace(material, public_key=replaced(public, np.zeros_like(public.residues)))
        case "public key of noise":
            changed = replace(material, public_key=random_half(public, PUBLIC, 1))
        case "rotation keys of noise":
            rotations = tuple(
                tuple(random_half(half, PUBLIC, number) for half in digits) for number, digits in enumerate(material.rotations)
            )
            changed = replace(material, rotations=rotations)
        case _:
            changed = replace(material, rotations=tuple(reversed(material.rotations)))
    return engine.load_key_material(changed)


def asked(engine: Engine, secret: SecretKey) -> Ciphertext:
    slots = np.random.default_rng(22).uniform(-1, 1, SMALL.slots)
    return engine.load(engine.encrypt(secret, engine.encode(slots, 0, FRESH_SCALE)))


def safe(engine: Engine, result: Ciphertext, keys: EvaluationKeys, form: AnswerForm = FORM) -> Ciphertext:
    assert keys.public_key is not None
    return protect(engine, result, keys.public_key, os.urandom, form=form)


def cells(values: Residues) -> float:
    counts = np.bincount((values / PRIME * 64).astype(int), minlength=64)
    return float(((counts - counts.mean()) ** 2 / counts.mean()).sum())


@pytest.mark.parametrize(
    "how", ["public key of zeros", "public key of noise", "rotation keys of noise", "rotation keys of other elements"]
)
def test_ill_formed_keys_leave_one_number_of_what_was_computed(
    engine: Engine, secret: SecretKey, material: KeyMaterial, how: str
) -> None:
    keys, query = ill_formed(engine, material, how), asked(engine, secret)
    result = evaluate_linear(engine, query, keys, MODEL)
    answer = safe(engine, result, keys)
    seen, held = engine.phase(secret, answer)[0], engine.phase(secret, result)[0]
    assert cells(seen) < SIXTY_FOUR_CELLS
    apart = (seen.astype(object) - held.astype(object)) % PRIME
    assert cells(apart.astype(np.uint64)) < SIXTY_FOUR_CELLS
    shown = opened(engine, secret, answer, FORM)
    assert np.ptp(shown) <= 1e-6 * max(1.0, float(np.abs(shown).max()))
    assert PLAN.numbers_per_answer == 1


@pytest.mark.parametrize("how", ["public key of zeros", "public key of noise", "well-formed"])
def test_second_part_tells_no_weight_whatever_the_public_key(
    engine: Engine, secret: SecretKey, material: KeyMaterial, how: str
) -> None:
    keys = engine.load_key_material(material) if how == "well-formed" else ill_formed(engine, material, how)
    seeded = engine.encrypt(secret, engine.encode(np.ones(SMALL.slots), 0, FRESH_SCALE))
    if how == "well-formed":  # instead, the query's second part is that of the public key
        assert material.public_key is not None
        seeded = SeededCiphertext(0, FRESH_SCALE, SeededHalf(material.public_key.seed, seeded.half.residues))
    query, weights = engine.load(seeded), np.resize(MODEL, SMALL.slots)
    result = engine.multiply_plain(query, engine.encode(weights, 0, WEIGHT_SCALE))

    def found(answer: Ciphertext) -> Float64:
        parts = engine.residues(query), engine.residues(answer)
        return weights_from_parts(engine, secret, asked=parts[0], answered=parts[1], weight_scale=WEIGHT_SCALE)

    assert np.abs(found(result) - weights).max() < 2.0**-10
    assert abs(np.corrcoef(found(safe(engine, result, keys)), weights)[0, 1]) < ONE_IN_A_MILLION / np.sqrt(SMALL.slots)


def real_half(engine: Engine, polynomial: Residues, unit: float, coefficients: int) -> NDArray[np.float64]:
    """The first coefficients, over a unit, of a polynomial that conjugation leaves as it is."""
    ring_degree = SMALL.ring_degree
    slots = engine.decode(engine.plaintext_from_residues(polynomial, unit))
    exponents = np.array([pow(3, slot, 2 * ring_degree) for slot in range(SMALL.slots)])
    angles = np.pi * np.outer(np.arange(coefficients), exponents % (2 * ring_degree)) / ring_degree
    return np.asarray(2 / ring_degree * np.cos(angles) @ slots, np.float64)


@pytest.mark.parametrize("period", [SMALL.slots, 1])
def test_public_key_with_a_large_error_shows_as_many_numbers_of_the_re_randomiser_as_an_answer_has(
    engine: Engine, secret: SecretKey, material: KeyMaterial, period: int
) -> None:
    """A limit that is documented, not a property that is wanted: c1 is hidden by what is left of the randomness u."""
    public = material.public_key
    assert public is not None
    error = PRIME // 12
    spoilt = np.stack(
        [(row.astype(object) + error * SMALL.special_prime) % prime for row, prime in zip(public.residues, PUBLIC, strict=True)]
    )
    key = engine.load_public_key(replaced(public, spoilt.astype(np.uint64)), 0)
    form = AnswerForm(level=0, scale=2.0**44, parts=2, period=period, replicas=1, flood_std=2.0**-16)
    nothing = engine.from_residues(np.ones((2, 1, SMALL.ring_degree), np.uint64), form.scale)
    answer = protect(engine, nothing, key, os.urandom, form=form)
    coefficients = real_half(engine, means(engine.phase(secret, answer), SMALL.primes, period), float(error), 64)
    # u is ternary: with the whole period u + conj(u) is shown, coefficient by coefficient; else one number alone.
    whole = np.rint(coefficients)
    assert np.abs(coefficients - whole).max() < 2.0**-10
    assert np.abs(whole).max() <= 2
    assert (np.count_nonzero(whole[1:]) > 30) == (period == SMALL.slots)
