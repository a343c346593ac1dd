"""What an answer tells the querier about the weights: known attacks fail on ours, and succeed on TenSEAL's own way."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import tenseal
from numpy.typing import NDArray

from protocols.ckks.engine import Ciphertext, Engine, EvaluationKeys, SecretKey
from protocols.ckks.protection import AnswerForm, answer_form, opened, protect
from protocols.ckks.wire import WireShape, encode_answer
from tests.support import tenseal_way
from tests.support.ckks import FEATURES, FRESH_SCALE, SMALL, WEIGHT_SCALE, Float64, evaluate_linear, linear_plan
from tests.support.ckks_attacks import squared_weights_from_third_part, weights_from_parts, weights_from_slots
from tests.support.seal_bytes import plaintext_slots

WEIGHTS = np.random.default_rng(7).uniform(0.5, 2, SMALL.slots)
SAMPLE = np.random.default_rng(8).uniform(-1, 1, SMALL.slots)
PLAN = linear_plan()
Complex = NDArray[np.complex128]
EXACT = 2.0**-10  # an encoded weight is off by about sqrt(N / 12) at 2^-20; what is further off than this was not read
MODEL = WEIGHTS[:FEATURES]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(SMALL)


@pytest.fixture(scope="module")
def secret(engine: Engine) -> SecretKey:
    return engine.make_secret_key()


@pytest.fixture(scope="module")
def keys(engine: Engine, secret: SecretKey) -> EvaluationKeys:
    return engine.make_evaluation_keys(secret, PLAN.keys)


def asked(engine: Engine, secret: SecretKey, scale: float = FRESH_SCALE) -> Ciphertext:
    return engine.load(engine.encrypt(secret, engine.encode(SAMPLE, 0, scale)))


def protected(engine: Engine, keys: EvaluationKeys, result: Ciphertext, form: AnswerForm) -> Ciphertext:
    assert keys.public_key is not None
    return protect(engine, result, keys.public_key, os.urandom, form=form)


# --- the quotient of second parts is the polynomial of the weights


def test_quotient_of_second_parts_shows_all_weights_of_an_unprotected_product(engine: Engine, secret: SecretKey) -> None:
    query = asked(engine, secret)
    product = engine.multiply_plain(query, engine.encode(WEIGHTS, 0, WEIGHT_SCALE))
    found = weights_from_parts(
        engine, secret, asked=engine.residues(query), answered=engine.residues(product), weight_scale=WEIGHT_SCALE
    )
    assert np.abs(found - WEIGHTS).max() < EXACT


def test_quotient_of_second_parts_shows_all_weights_of_tenseals_product(engine: Engine, secret: SecretKey) -> None:
    private = tenseal_way.context(SMALL, WEIGHT_SCALE)
    server = tenseal_way.served(private)
    server.auto_rescale = False
    query = tenseal.ckks_vector(private, SAMPLE.tolist())
    answer = tenseal_way.sent(server, query) * WEIGHTS.tolist()
    found = weights_from_parts(
        engine,
        secret,  # any key will do to decode: the secret key of the query takes no part in this
        asked=tenseal_way.ciphertext_form(query).residues,
        answered=tenseal_way.ciphertext_form(answer).residues,
        weight_scale=WEIGHT_SCALE,
    )
    assert np.abs(found - WEIGHTS).max() < EXACT


def test_quotient_of_second_parts_of_a_protected_answer_shows_nothing(
    engine: Engine, secret: SecretKey, keys: EvaluationKeys
) -> None:
    query = asked(engine, secret)
    product = engine.multiply_plain(query, engine.encode(WEIGHTS, 0, WEIGHT_SCALE))
    answer = protected(engine, keys, product, answer_form(PLAN))
    found = weights_from_parts(
        engine, secret, asked=engine.residues(query), answered=engine.residues(answer), weight_scale=WEIGHT_SCALE
    )
    assert np.abs(found - WEIGHTS).min() > EXACT
    assert abs(np.corrcoef(found, WEIGHTS)[0, 1]) < 5 / np.sqrt(SMALL.slots)


# --- an answer that was not relinearised has a third part


THREE_PARTS = AnswerForm(level=0, scale=2.0**44, parts=3, period=SMALL.slots, replicas=1, flood_std=2.0**-8)
TINY = 2.0**11


def squared(engine: Engine, secret: SecretKey) -> tuple[Ciphertext, Ciphertext]:
    query = asked(engine, secret, TINY)
    product = engine.multiply_plain(query, engine.encode(WEIGHTS, 0, TINY))
    return query, engine.multiply_raw(product, product)


def test_third_part_shows_the_weights_if_only_two_parts_are_rerandomised(
    engine: Engine, secret: SecretKey, keys: EvaluationKeys
) -> None:
    query, answer = squared(engine, secret)
    assert keys.public_key is not None
    zero = engine.encrypt_zero(keys.public_key, 0)
    engine.set_scale(zero, engine.scale_of(answer))
    engine.add_inplace(answer, zero)
    found = squared_weights_from_third_part(
        engine, secret, asked=engine.residues(query), answered=engine.residues(answer), weight_scale=TINY
    )
    assert np.abs(found - WEIGHTS**2).max() < 0.2  # weights of 11 bits


def test_third_part_of_tenseals_unrelinearised_square_shows_the_weights(engine: Engine, secret: SecretKey) -> None:
    private = tenseal_way.context(SMALL, TINY)
    private.auto_relin = False  # a context that was loaded from bytes does not let this be changed
    private.auto_rescale = False
    query = tenseal.ckks_vector(private, SAMPLE.tolist())
    answer = tenseal_way.sent(private, query) * WEIGHTS.tolist()
    answer = answer * answer
    found = squared_weights_from_third_part(
        engine,
        secret,
        asked=tenseal_way.ciphertext_form(query).residues,
        answered=tenseal_way.ciphertext_form(answer).residues,
        weight_scale=TINY,
    )
    assert np.abs(found - WEIGHTS**2).max() < 0.2


def test_third_part_of_a_protected_answer_shows_nothing(engine: Engine, secret: SecretKey, keys: EvaluationKeys) -> None:
    query, answer = squared(engine, secret)
    shown = protected(engine, keys, answer, THREE_PARTS)
    found = squared_weights_from_third_part(
        engine, secret, asked=engine.residues(query), answered=engine.residues(shown), weight_scale=TINY
    )
    assert np.abs(found - WEIGHTS**2).min() > 0.2
    assert abs(np.corrcoef(found, WEIGHTS**2)[0, 1]) < 5 / np.sqrt(SMALL.slots)


# --- level and scale


def test_tenseals_answer_shows_by_its_level_that_the_weights_are_zero() -> None:
    private = tenseal_way.context(replace(SMALL, ring_degree=8192, data_bits=(50, 36, 36), special_bits=60), 2.0**36)
    query = tenseal.ckks_vector(private, [1.0] * 16)
    forms = [tenseal_way.ciphertext_form(tenseal_way.sent(private, query) * ([weight] * 16)) for weight in (0.5, 0.0)]
    assert forms[0].residues.shape != forms[1].residues.shape


@pytest.mark.parametrize("weights", [np.zeros(FEATURES), MODEL, np.eye(1, FEATURES)[0] * 1e-9], ids=["zero", "usual", "tiny"])
def test_answer_has_the_same_form_for_all_weights(
    engine: Engine, secret: SecretKey, keys: EvaluationKeys, weights: Float64
) -> None:
    shape = WireShape.of(PLAN)
    answer = protected(engine, keys, evaluate_linear(engine, asked(engine, secret), keys, weights), answer_form(PLAN))
    message = encode_answer(shape, [engine.residues(answer)])
    assert len(message) == shape.answer_bytes
    assert engine.scale_of(answer) == PLAN.answer_scale


# --- all slots, least squares


def folded_as_tenseal_does(values: Float64, size: int) -> Float64:
    """How TenSEAL's `sum` adds slots: every slot gets its own sum of others."""
    if size == 1:
        return values
    power = 1 << (size.bit_length() - 1)
    rest = folded_as_tenseal_does(np.roll(values, -power), size - power) if power != size else 0.0
    step = power // 2
    while step:
        values = values + np.roll(values, -step)
        step //= 2
    return values + rest


def test_least_squares_finds_all_weights_in_one_answer_of_tenseals_dot() -> None:
    parameters = replace(SMALL, ring_degree=8192, data_bits=(60, 40, 40), special_bits=60)
    private = tenseal_way.context(parameters, 2.0**40)
    server, sample = tenseal_way.served(private), SAMPLE[:FEATURES]
    answer = tenseal_way.sent(server, tenseal.ckks_vector(private, sample.tolist())).dot(MODEL.tolist())
    shown = tenseal_way.all_slots(private, answer, parameters.slots)
    units = np.zeros((FEATURES, parameters.slots))
    units[np.arange(FEATURES), np.arange(FEATURES)] = sample
    responses = np.stack([folded_as_tenseal_does(unit, FEATURES) for unit in units], axis=1)
    found, rank = weights_from_slots(shown, responses)
    assert rank == FEATURES
    assert np.abs(found - MODEL).max() < 1e-3


def slots_of_ones_own(engine: Engine, secret: SecretKey) -> tuple[Ciphertext, Complex]:
    """A query that is not laid out as the plan says, and how each slot of its sums depends on the weights."""
    rng = np.random.default_rng(12)
    slots = rng.uniform(-1, 1, SMALL.slots) + 1j * rng.uniform(-1, 1, SMALL.slots)
    query = engine.load(engine.encrypt(secret, engine.encode_complex(slots, 0, FRESH_SCALE)))
    responses = np.zeros((SMALL.slots, FEATURES), complex)
    for weight in range(FEATURES):
        mine = np.where(np.arange(SMALL.slots) % FEATURES == weight, slots, 0)
        responses[:, weight] = sum(np.roll(mine, -step) for step in range(FEATURES))
    return query, responses


def test_slots_of_ones_own_give_all_weights_away_in_an_unmasked_answer(
    engine: Engine, secret: SecretKey, keys: EvaluationKeys
) -> None:
    query, responses = slots_of_ones_own(engine, secret)
    result = evaluate_linear(engine, query, keys, MODEL)
    shown = plaintext_slots(secret, engine, result)
    found, rank = weights_from_slots(np.concatenate([shown.real, shown.imag]), np.concatenate([responses.real, responses.imag]))
    assert rank == FEATURES
    assert np.abs(found - MODEL).max() < 1e-2


def test_slots_of_ones_own_give_one_equation_and_no_weight_in_an_answer_of_ours(
    engine: Engine, secret: SecretKey, keys: EvaluationKeys
) -> None:
    query, responses = slots_of_ones_own(engine, secret)
    form = answer_form(PLAN)
    answer = protected(engine, keys, evaluate_linear(engine, query, keys, MODEL), form)
    shown = plaintext_slots(secret, engine, answer)
    found, _ = weights_from_slots(np.concatenate([shown.real, shown.imag]), np.concatenate([responses.real, responses.imag]))
    assert np.abs(found - MODEL).max() > 10
    # What is left: the one number that an answer debits, which is the same everywhere.
    left = opened(engine, secret, answer, form)
    assert np.ptp(left) < 1e-6
    assert abs(left[0] - responses.real.mean(axis=0) @ MODEL) < form.flood_error + PLAN.predictions.noise_bound


def test_larger_values_than_declared_do_not_shine_through_the_mask(
    engine: Engine, secret: SecretKey, keys: EvaluationKeys
) -> None:
    # Slots as large as the prime allows: a mask of any size below the prime's would be too small for them.
    query, responses = slots_of_ones_own(engine, secret)
    engine.set_scale(query, FRESH_SCALE)
    larger = engine.multiply_plain(query, engine.encode_constant(2.0**12, 0, 1.0))
    engine.set_scale(larger, FRESH_SCALE)
    answer = protected(engine, keys, evaluate_linear(engine, larger, keys, MODEL), answer_form(PLAN))
    shown = plaintext_slots(secret, engine, answer) / 2.0**12
    found, _ = weights_from_slots(np.concatenate([shown.real, shown.imag]), np.concatenate([responses.real, responses.imag]))
    assert np.abs(found - MODEL).max() > 0.1
