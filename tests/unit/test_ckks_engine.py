"""The adapter to SEAL against float64 arithmetic; keys cut to a level give the very bits that whole keys give there.

Tolerances: a fresh encryption errs by a sum of about N Gaussians of standard deviation 3.2 in a slot, hence 6 x 3.2 x sqrt(N)
over the scale with room for the rounding of the encoder; a key switch adds the special prime's rounding and SEAL's digits, which
are not centred, so that single slots err up to N x 3.2 over the scale where a data prime is as large as the special one.
"""

from __future__ import annotations

import numpy as np
import pytest

from protocols.ckks.engine import Ciphertext, Engine, SecretKey
from protocols.ckks.key_manifest import KeyManifest, key_primes_at
from protocols.ckks.key_material import KeyMaterial, SeededHalf
from protocols.ckks.parameters import PARAMETER_SETS
from tests.support.ckks import LARGE, SMALL, Float64

SCALE = 2.0**36
FRESH = 40 * np.sqrt(LARGE.ring_degree) / SCALE
# Half a unit of both parts, the second times a ternary key: of a product of two Gaussians, 14 deviations are passed in one of
# 2^12 slots once in 10^7 runs.
ROUNDED = 14 * LARGE.ring_degree / np.sqrt(18) / SCALE
SWITCHED = 40 * LARGE.ring_degree / SCALE
TOP = LARGE.top_level


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(LARGE)


@pytest.fixture(scope="module")
def secret(engine: Engine) -> SecretKey:
    return engine.make_secret_key()


@pytest.fixture(scope="module")
def values() -> Float64:
    return np.random.default_rng(1).uniform(-1, 1, LARGE.slots)


def encrypted(engine: Engine, secret: SecretKey, values: Float64, level: int = TOP) -> Ciphertext:
    return engine.load(engine.encrypt(secret, engine.encode(values, level, SCALE)))


@pytest.mark.parametrize("parameters", PARAMETER_SETS.values(), ids=lambda each: each.name)
def test_every_named_set_is_what_seal_uses_and_holds_a_value(parameters: object) -> None:
    engine = Engine(parameters)  # type: ignore[arg-type]
    key, level = engine.make_secret_key(), engine.parameters.top_level
    shown = engine.decrypt(key, engine.load(engine.encrypt(key, engine.encode_constant(0.5, level, 2.0**22))))
    assert np.abs(shown - 0.5).max() < 40 * np.sqrt(engine.parameters.ring_degree) / 2.0**22


@pytest.mark.parametrize("level", range(TOP + 1))
def test_encryption_at_every_level_decrypts_to_the_values(engine: Engine, secret: SecretKey, values: Float64, level: int) -> None:
    ciphertext = encrypted(engine, secret, values, level)
    assert engine.level_of(ciphertext) == level
    assert engine.scale_of(ciphertext) == SCALE
    assert np.abs(engine.decrypt(secret, ciphertext) - values).max() < FRESH


def test_linear_operations_equal_those_on_numbers(engine: Engine, secret: SecretKey, values: Float64) -> None:
    other, weights = values[::-1].copy(), np.roll(values, 3)
    total = encrypted(engine, secret, values)
    engine.add_inplace(total, encrypted(engine, secret, other))
    engine.sub_inplace(total, encrypted(engine, secret, weights))
    engine.negate_inplace(total)
    engine.add_plain_inplace(total, engine.encode(other, TOP, SCALE))
    assert np.abs(engine.decrypt(secret, total) - (weights - values)).max() < 4 * FRESH
    product = engine.multiply_plain(encrypted(engine, secret, values), engine.encode(weights, TOP, float(LARGE.primes[-1])))
    engine.rescale(product)
    assert engine.scale_of(product) == SCALE
    assert engine.level_of(product) == TOP - 1
    assert np.abs(engine.decrypt(secret, product) - values * weights).max() < 2 * FRESH + ROUNDED


def test_products_of_ciphertexts_equal_those_of_numbers(engine: Engine, secret: SecretKey, values: Float64) -> None:
    keys = engine.make_evaluation_keys(secret, KeyManifest((), TOP, False))
    ciphertext = encrypted(engine, secret, values)
    for product, expected in (
        (engine.square(ciphertext, keys), values**2),
        (engine.multiply(ciphertext, encrypted(engine, secret, values[::-1].copy()), keys), values * values[::-1]),
    ):
        assert engine.parts_of(product) == 2
        assert np.abs(engine.decrypt(secret, product) - expected).max() < 4 * FRESH + SWITCHED / SCALE
    raw = engine.multiply_raw(ciphertext, ciphertext)
    assert engine.parts_of(raw) == 3
    assert np.abs(engine.decrypt(secret, raw) - values**2).max() < 4 * FRESH


def test_weights_that_are_all_zero_are_multiplied_like_others(engine: Engine, secret: SecretKey, values: Float64) -> None:
    ciphertext = encrypted(engine, secret, values)
    for plaintext in (engine.encode(np.zeros(LARGE.slots), TOP, 2.0**20), engine.encode_constant(0.0, TOP, 2.0**20)):
        product = engine.multiply_plain(ciphertext, plaintext)
        other = engine.multiply_plain(ciphertext, engine.encode_constant(0.7, TOP, 2.0**20))
        assert engine.level_of(product) == engine.level_of(other)
        assert engine.scale_of(product) == engine.scale_of(other)
        assert np.abs(engine.decrypt(secret, product)).max() < 2.0**-19


@pytest.mark.parametrize("level", range(TOP + 1))
def test_key_cut_to_a_level_rotates_correctly_there_and_below_and_is_refused_above(
    engine: Engine, secret: SecretKey, values: Float64, level: int
) -> None:
    keys = engine.make_evaluation_keys(secret, KeyManifest(((5, level), (LARGE.slots - 1, level)), None, False))
    for lower in range(level + 1):
        ciphertext = encrypted(engine, secret, values, lower)
        assert np.abs(engine.decrypt(secret, engine.rotate(ciphertext, 5, keys)) - np.roll(values, -5)).max() < SWITCHED
        back = engine.decrypt(secret, engine.rotate(ciphertext, LARGE.slots - 1, keys))
        assert np.abs(back - np.roll(values, 1)).max() < SWITCHED
    with pytest.raises(ValueError, match="no rotation by 4"):
        engine.rotate(encrypted(engine, secret, values, 0), 4, keys)
    if level < TOP:
        with pytest.raises(ValueError, match="no rotation by 5 at level"):
            engine.rotate(encrypted(engine, secret, values, level + 1), 5, keys)


def cut(halves: tuple[SeededHalf, ...], level: int) -> tuple[SeededHalf, ...]:
    return tuple(SeededHalf(half.seed, half.residues[list(key_primes_at(LARGE, level))]) for half in halves[: level + 1])


@pytest.mark.parametrize("level", range(TOP))
def test_cut_key_gives_the_same_bits_as_the_whole_key(engine: Engine, secret: SecretKey, values: Float64, level: int) -> None:
    whole = engine.make_key_material(secret, KeyManifest(((3, TOP),), TOP, False))
    part = KeyMaterial(
        KeyManifest(((3, level),), level, False), (cut(whole.rotations[0], level),), cut(whole.relinearise, level), None
    )
    keys, less = engine.load_key_material(whole), engine.load_key_material(part)
    ciphertext = engine.load(engine.encrypt(secret, engine.encode(values, level, 2.0**20)))  # its square fits level 0
    rotated = [engine.residues(engine.rotate(ciphertext, 3, each)) for each in (keys, less)]
    squared = [engine.residues(engine.square(ciphertext, each)) for each in (keys, less)]
    assert (rotated[0] == rotated[1]).all()
    assert (squared[0] == squared[1]).all()
    if level < TOP:
        with pytest.raises(ValueError, match="no relinearisation key"):
            engine.square(encrypted(engine, secret, values, level + 1), less)


@pytest.mark.parametrize("level", range(TOP + 1))
def test_public_key_encrypts_zero_at_its_level_alone(engine: Engine, secret: SecretKey, level: int) -> None:
    public = engine.make_public_key(secret, level)
    zero, again = engine.encrypt_zero(public, level), engine.encrypt_zero(public, level)
    engine.set_scale(zero, SCALE)
    assert np.abs(engine.decrypt(secret, zero)).max() < ROUNDED
    assert engine.level_of(zero) == level
    assert (engine.residues(zero) != engine.residues(again)).mean() > 0.99
    with pytest.raises(ValueError, match="serves level"):
        engine.encrypt_zero(public, (level + 1) % (TOP + 1))


def test_residues_read_back_and_those_not_below_their_prime_are_refused(
    engine: Engine, secret: SecretKey, values: Float64
) -> None:
    ciphertext = encrypted(engine, secret, values, 1)
    residues = engine.residues(ciphertext)
    assert residues.shape == (2, 2, LARGE.ring_degree)
    again = engine.from_residues(residues, SCALE)
    assert (engine.decrypt(secret, again) == engine.decrypt(secret, ciphertext)).all()
    for part, prime in ((0, 0), (1, 1)):
        wrong = residues.copy()
        wrong[part, prime, 7] = LARGE.primes[prime]
        with pytest.raises(ValueError, match="SEAL refuses"):
            engine.from_residues(wrong, SCALE)
    for shape in ((1, 2, 8192), (4, 2, 8192), (2, 4, 8192), (2, 0, 8192), (2, 2, 4096)):
        with pytest.raises(ValueError, match="no ciphertext"):
            engine.from_residues(np.zeros(shape, np.uint64), SCALE)


def test_plaintext_residues_are_the_constant_where_a_constant_is_encoded(engine: Engine) -> None:
    plaintext = engine.encode_constant(-3.0, 1, 2.0**20)
    residues = engine.plaintext_residues(plaintext)
    assert [set(row) for row in residues.tolist()] == [{prime - 3 * 2**20} for prime in LARGE.primes[:2]]


def test_copy_is_independent_of_its_original(engine: Engine, secret: SecretKey, values: Float64) -> None:
    original = encrypted(engine, secret, values)
    copied = engine.copy(original)
    engine.negate_inplace(copied)
    assert np.abs(engine.decrypt(secret, original) - values).max() < FRESH


def test_secret_key_reads_back_and_shows_nothing_of_itself(engine: Engine, secret: SecretKey, values: Float64) -> None:
    residues = engine.export_secret_key(secret)
    again = engine.import_secret_key(residues)
    assert np.abs(engine.decrypt(again, encrypted(engine, secret, values)) - values).max() < FRESH
    assert repr(secret) == "<secret>"
    with pytest.raises(TypeError, match="not pickled"):
        secret.__reduce__()
    wrong = residues.copy()
    wrong[0, 0] = LARGE.primes[0]
    with pytest.raises(ValueError, match="SEAL refuses"):
        engine.import_secret_key(wrong)


def test_engine_refuses_a_set_whose_primes_are_not_seals(monkeypatch: pytest.MonkeyPatch) -> None:
    other = type(SMALL)("other", SMALL.ring_degree, SMALL.data_bits, SMALL.special_bits)
    monkeypatch.setattr(type(SMALL), "key_primes", property(lambda _: (1, 2)))
    with pytest.raises(RuntimeError, match="other primes"):
        Engine(other)


def test_values_of_another_length_are_not_encoded(engine: Engine) -> None:
    with pytest.raises(ValueError, match="slots"):
        engine.encode(np.zeros(7), 0, SCALE)
