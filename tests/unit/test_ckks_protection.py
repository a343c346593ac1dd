"""What leaves has one form, fresh parts and flooding in every dimension, whatever was computed."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace

import numpy as np
import pytest

from protocols.ckks.engine import Ciphertext, Engine, PublicKey, SecretKey
from protocols.ckks.gaussian import MAX_DEVIATIONS, complex_gaussian
from protocols.ckks.parameters import PARAMETER_SETS
from protocols.ckks.protection import (
    AnswerForm,
    ReRandomisers,
    answer_form,
    flood_layers,
    flooding_bits,
    fresh_zero,
    opened,
    protect,
)
from protocols.errors import ConfideError, ErrorCode
from tests.support.ckks import LARGE, linear_plan, stream
from tests.support.seal_bytes import plaintext_slots

SCALE = 2.0**45
SLOTS = LARGE.slots
FORM = AnswerForm(level=0, scale=SCALE, parts=2, period=SLOTS, replicas=1, flood_std=2.0**-12)
"""Every slot is an output of its own."""
ONE_IN_A_MILLION = 4.9  # deviations of a Gaussian
NOISE = 40 * np.sqrt(LARGE.ring_degree) / 2.0**30  # of a fresh encryption at scale 2^30, and of an encryption of zero


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(LARGE)


@pytest.fixture(scope="module")
def secret(engine: Engine) -> SecretKey:
    return engine.make_secret_key()


@pytest.fixture(scope="module")
def public(engine: Engine, secret: SecretKey) -> PublicKey:
    return engine.make_public_key(secret)


def a_result(engine: Engine, secret: SecretKey, value: float = 1.5, *, level: int = 0) -> Ciphertext:
    return engine.load(engine.encrypt(secret, engine.encode_constant(value, level, SCALE)))


@pytest.mark.parametrize("period", [1, 2, 16, SLOTS // 2, SLOTS])
def test_answer_keeps_its_outputs_within_the_flooding_and_its_argument_as_it_was(
    engine: Engine, secret: SecretKey, public: PublicKey, period: int
) -> None:
    form = replace(FORM, period=period, replicas=SLOTS // period, scale=2.0**30, flood_std=2.0**-14)
    outputs = np.linspace(-1, 1, period)
    result = engine.load(engine.encrypt(secret, engine.encode(np.resize(outputs, SLOTS), 0, form.scale)))
    before = engine.residues(result)
    answer = protect(engine, result, public, os.urandom, form=form)
    shown = opened(engine, secret, answer, form)
    assert np.abs(shown - np.resize(outputs, SLOTS)).max() <= form.flood_error + NOISE
    assert (engine.residues(result) == before).all()


def test_partial_sums_that_are_left_in_slots_are_summed_up_by_who_opens(
    engine: Engine, secret: SecretKey, public: PublicKey
) -> None:
    form = replace(FORM, period=8, replicas=1, scale=2.0**30, flood_std=2.0**-14)
    parts = np.random.default_rng(2).uniform(-1, 1, SLOTS)
    result = engine.load(engine.encrypt(secret, engine.encode(parts, 0, form.scale)))
    shown = opened(engine, secret, protect(engine, result, public, os.urandom, form=form), form)
    sums = parts.reshape(-1, 8).sum(axis=0)
    assert np.abs(shown - np.resize(sums, SLOTS)).max() <= form.flood_error + NOISE * np.sqrt(SLOTS / 8)


def test_all_but_the_outputs_is_uniform_noise_whatever_the_slots_hold(
    engine: Engine, secret: SecretKey, public: PublicKey
) -> None:
    form = replace(FORM, period=16, replicas=SLOTS // 16, scale=2.0**30, flood_std=2.0**-14)
    rng = np.random.default_rng(4)
    slots = rng.uniform(-1, 1, SLOTS) + 1j * rng.uniform(-1, 1, SLOTS)
    result = engine.load(engine.encrypt(secret, engine.encode_complex(slots, 0, form.scale)))
    answer = protect(engine, result, public, os.urandom, form=form)
    prime = LARGE.primes[0]
    seen, held = engine.phase(secret, answer)[0].astype(float), engine.phase(secret, result)[0].astype(float)
    # All that the holder of the key has: values modulo the prime. Uniform ones, for 64 cells a chi-square of 63 +- 11.2.
    counts = np.bincount((seen / prime * 64).astype(int), minlength=64)
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 63 + ONE_IN_A_MILLION * 11.3
    assert abs(np.corrcoef(seen, held)[0, 1]) < ONE_IN_A_MILLION / np.sqrt(LARGE.ring_degree)
    # In slots: no trace of what they held but for the sums.
    found = plaintext_slots(secret, engine, answer)
    for half, of in ((found.real, slots.real), (found.imag, slots.imag)):
        assert abs(np.corrcoef(half, of)[0, 1]) < ONE_IN_A_MILLION / np.sqrt(SLOTS)
        assert half.std() > 2.0**10
    sums = np.resize(slots.real.reshape(-1, 16).mean(axis=0), SLOTS)
    assert np.abs(opened(engine, secret, answer, form) - sums).max() <= form.flood_error + NOISE


@pytest.mark.parametrize(("period", "replicas"), [(SLOTS, 1), (256, SLOTS // 256), (256, 1)])
def test_flooding_has_its_declared_size_in_every_output(
    engine: Engine, secret: SecretKey, public: PublicKey, period: int, replicas: int
) -> None:
    form = replace(FORM, period=period, replicas=replicas, scale=2.0**35)
    value = 1.5 if replicas > 1 or period == SLOTS else 1.5 * period / SLOTS  # whole values in all slots, or shares of them
    result = engine.load(engine.encrypt(secret, engine.encode_constant(value, 0, form.scale)))
    noise = opened(engine, secret, protect(engine, result, public, os.urandom, form=form), form)[:period] - 1.5
    assert noise.std() == pytest.approx(form.flood_std, rel=ONE_IN_A_MILLION / np.sqrt(2 * period))
    assert np.abs(noise).max() <= form.flood_error
    # A Gaussian's fourth moment: 3, with a standard deviation of sqrt(96 / n).
    assert np.mean((noise / noise.std()) ** 4) == pytest.approx(3, abs=ONE_IN_A_MILLION * np.sqrt(96 / period))


def test_flooding_reaches_every_coefficient(engine: Engine, secret: SecretKey, public: PublicKey) -> None:
    # Without the mask: both halves of all slots, independent and of the size that `slot_std` says.
    flood = complex_gaussian(os.urandom(32), SLOTS) * FORM.slot_std(SLOTS)
    plaintext = engine.encode_complex(flood, 0, SCALE)
    result = a_result(engine, secret, 0.0)
    engine.add_plain_inplace(result, plaintext)
    noise = plaintext_slots(secret, engine, result)
    margin = ONE_IN_A_MILLION / np.sqrt(2 * SLOTS)
    for half in (noise.real, noise.imag):
        assert half.std() == pytest.approx(FORM.slot_std(SLOTS), rel=margin)
    assert abs(np.corrcoef(noise.real, noise.imag)[0, 1]) < ONE_IN_A_MILLION / np.sqrt(SLOTS)


@pytest.mark.parametrize("parts", [2, 3])
def test_every_part_is_fresh_each_time(engine: Engine, secret: SecretKey, public: PublicKey, parts: int) -> None:
    form = replace(FORM, parts=parts, scale=2.0**40)
    result = a_result(engine, secret)
    if parts == 3:
        small = engine.load(engine.encrypt(secret, engine.encode_constant(1.2, 0, 2.0**20)))
        result = engine.multiply_raw(small, small)
    else:
        engine.set_scale(result, 2.0**40)
    first, second = (engine.residues(protect(engine, result, public, stream("same"), form=form)) for _ in range(2))
    assert first.shape == (parts, 1, LARGE.ring_degree)
    for part in range(parts):
        assert (first[part] != second[part]).mean() > 0.99
        assert (first[part] != engine.residues(result)[part]).mean() > 0.99


def test_three_parts_keep_their_value(engine: Engine, secret: SecretKey, public: PublicKey) -> None:
    small = engine.load(engine.encrypt(secret, engine.encode_constant(1.2, 0, 2.0**20)))
    form = replace(FORM, scale=2.0**40, parts=3, flood_std=2.0**-10)
    answer = protect(engine, engine.multiply_raw(small, small), public, os.urandom, form=form)
    assert np.abs(opened(engine, secret, answer, form) - 1.44).max() <= form.flood_error + 2.0**-6


def test_level_and_scale_of_an_answer_do_not_depend_on_what_was_computed(
    engine: Engine, secret: SecretKey, public: PublicKey
) -> None:
    usual, higher, near = a_result(engine, secret), a_result(engine, secret, level=2), a_result(engine, secret)
    engine.set_scale(near, SCALE * (1 + 2.0**-30))
    for result in (usual, higher, near):
        answer = protect(engine, result, public, os.urandom, form=FORM)
        assert (engine.level_of(answer), engine.scale_of(answer), engine.parts_of(answer)) == (0, SCALE, 2)


def test_result_of_another_form_than_the_plans_does_not_leave(engine: Engine, secret: SecretKey, public: PublicKey) -> None:
    small = engine.load(engine.encrypt(secret, engine.encode_constant(1.2, 0, SCALE**0.5)))
    scaled = a_result(engine, secret)
    engine.set_scale(scaled, SCALE / 2)
    for result, form in (
        (engine.multiply_raw(small, small), FORM),
        (scaled, FORM),
        (a_result(engine, secret), replace(FORM, level=1)),
    ):
        with pytest.raises(ConfideError) as caught:
            protect(engine, result, public, os.urandom, form=form)
        assert caught.value.code is ErrorCode.INTERNAL


def test_flooding_follows_from_the_randomness_that_is_given(engine: Engine, secret: SecretKey, public: PublicKey) -> None:
    result = a_result(engine, secret)
    answers = [protect(engine, result, public, stream(seed), form=FORM) for seed in ("a", "a", "b")]
    shown = [opened(engine, secret, answer, FORM) for answer in answers]
    assert np.abs(shown[0] - shown[1]).max() < FORM.flood_std / 100
    assert np.abs(shown[0] - shown[2]).max() > FORM.flood_std


def test_pool_gives_every_encryption_of_zero_once_and_for_its_key_alone(
    engine: Engine, secret: SecretKey, public: PublicKey
) -> None:
    pool = ReRandomisers(engine, public, level=0, parts=2)
    pool.fill(2)
    assert len(pool) == 2
    result = a_result(engine, secret)
    firsts = [engine.residues(protect(engine, result, public, stream("same"), form=FORM, pool=pool))[1] for _ in range(3)]
    assert len(pool) == 0
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (firsts[one] != firsts[other]).mean() > 0.99
    for key, parts in ((engine.make_public_key(secret), 2), (public, 3)):
        with pytest.raises(ValueError, match="another key or form"):
            pool.take(key, level=0, parts=parts)


def test_encryption_of_zero_with_three_parts_is_zero(engine: Engine, secret: SecretKey, public: PublicKey) -> None:
    zero = fresh_zero(engine, public, level=0, parts=3)
    assert engine.parts_of(zero) == 3
    engine.set_scale(zero, 2.0**40)
    # A product of two rounded encryptions of zero: N coefficients of about (N/18) x sqrt(N), in a slot sqrt(N) of that.
    assert np.abs(engine.decrypt(secret, zero)).max() < LARGE.ring_degree**2 * 10 / 2.0**40


@pytest.mark.parametrize("exponent", [20, 48, 49, 90, 110, 150])
def test_flooding_of_any_size_reaches_the_lowest_bit_of_the_scale(exponent: int) -> None:
    layers = flood_layers(2.0**-10, 2.0 ** (exponent + 10))
    assert layers[0] == 2.0**-10
    assert layers[-1] * 2.0 ** (exponent + 10) <= 2.0**48
    # Each layer hides the last bit of the float64 numbers of the one before by far, and does not add to the size.
    assert all(2.0**-53 * 2.0**10 < later / earlier < 2.0**-20 for earlier, later in itertools.pairwise(layers))
    assert len(layers) == (1 if exponent <= 48 else 1 + -(-(exponent - 48) // 36))


def test_encoded_flooding_at_the_scale_of_the_batch_lane_has_no_bit_in_common() -> None:
    """One Gaussian alone leaves the low bits of all coefficients zero; the layers do not."""
    fine = Engine(PARAMETER_SETS["batch-2-fine"])
    scale, level = 2.0**112, fine.parameters.top_level
    layers = flood_layers(2.0**-12, scale)
    assert len(layers) == 3

    primes, shift = fine.parameters.primes, 1 << 20

    def are_multiples(deviations: tuple[float, ...]) -> bool:
        """Whether all coefficients are multiples of 2^20: then dividing by that modulo every prime leaves a small polynomial."""
        total = np.zeros((len(primes), fine.parameters.ring_degree), object)
        for deviation in deviations:
            values = complex_gaussian(os.urandom(32), fine.parameters.slots) * deviation
            total += fine.plaintext_residues(fine.encode_complex(values, level, scale)).astype(object)
        divided = [row * pow(shift, -1, prime) % prime for row, prime in zip(total, primes, strict=True)]
        quotient = fine.decode(fine.plaintext_from_residues(np.array(divided).astype(np.uint64), scale / shift))
        return bool(abs(quotient).max() < 20 * deviations[0])

    assert are_multiples(layers[:1])
    assert not are_multiples(layers)


def test_stated_bits_compare_flooding_with_the_noise_it_hides() -> None:
    assert flooding_bits(FORM, noise_std=2.0**-32) == 20.0
    plan = linear_plan(precision=2.0**-3)
    form = answer_form(plan)
    assert (form.level, form.scale, form.parts) == (0, plan.answer_scale, 2)
    assert form.flood_error < 2.2 * plan.precision


@pytest.mark.parametrize(
    "wrong",
    [{"parts": 1}, {"level": -1}, {"flood_std": 0.0}, {"flood_std": 2.0**-46}, {"scale": np.inf}, {"period": 3}, {"replicas": 0}],
)
def test_form_without_flooding_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="flooding"):
        replace(FORM, **wrong)  # type: ignore[arg-type]


def test_gaussians_are_standard_independent_and_bounded() -> None:
    count = 1 << 18
    drawn = complex_gaussian(bytes(32), count)
    for half in (drawn.real, drawn.imag):
        assert abs(half.mean()) < ONE_IN_A_MILLION / np.sqrt(count)
        assert half.std() == pytest.approx(1, abs=ONE_IN_A_MILLION / np.sqrt(2 * count))
        assert np.abs(half).max() < MAX_DEVIATIONS
        assert (np.abs(half) > 3).mean() == pytest.approx(0.0027, abs=ONE_IN_A_MILLION * np.sqrt(0.0027 / count))
    assert abs(np.mean(drawn.real * drawn.imag)) < ONE_IN_A_MILLION / np.sqrt(count)
    assert (complex_gaussian(bytes(32), 8) == complex_gaussian(bytes(32), 8)).all()
    assert (complex_gaussian(b"\1" * 32, 8) != complex_gaussian(bytes(32), 8)).all()


@pytest.mark.parametrize(("precision", "accepted"), [(2.0**-60, False), (2.0**-34, False), (2.0**-26, True)])
def test_plan_whose_flooding_is_rounded_away_is_a_document_that_is_refused(precision: float, accepted: bool) -> None:
    # 2^-34 at scale 2^44 are many units in the sum that is opened, and none in one of the coefficients that it is made of.
    plan = replace(linear_plan(precision=precision), answer_replicas=1)
    engine, slots, scale = Engine(plan.parameters), plan.parameters.slots, plan.answer_scale
    deviation = precision / 8 / np.sqrt(slots)
    flood = engine.plaintext_residues(engine.encode_complex(complex_gaussian(bytes(32), slots) * deviation, 0, scale))
    kinds = len(np.unique(flood))  # no noise is the same residue at all places: that of a constant
    if accepted:
        assert kinds > slots
        assert answer_form(plan).coefficient_std(slots) > 1
        return
    assert kinds == 1
    with pytest.raises(ConfideError, match="rounded away") as caught:
        answer_form(plan)
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT
