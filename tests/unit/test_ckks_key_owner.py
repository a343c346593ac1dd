"""The researcher's side: queries, answers rounded under noise of its own, and a key that shows itself nowhere."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from protocols.ckks.digits import digits_after_point, rounded_up
from protocols.ckks.engine import Engine
from protocols.ckks.key_owner import KeyOwner
from protocols.ckks.planning import EncryptedPlan
from protocols.ckks.protection import answer_form, protect
from protocols.ckks.publication import Publication, finest_precision, publication, publishable, usual_precision
from protocols.ckks.wire import WireShape, decode_keys, decode_query, encode_answer
from protocols.errors import ConfideError, ErrorCode
from protocols.secrets import SecretBytes
from tests.support.ckks import FEATURES, LARGE, SMALL, Float64, evaluate_linear, linear_plan

PLAN = linear_plan()
WEIGHTS = np.random.default_rng(3).normal(size=FEATURES)
SAMPLE = np.random.default_rng(4).uniform(-1, 1, (1, FEATURES))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(SMALL)


@pytest.fixture(scope="module")
def owner(engine: Engine) -> KeyOwner:
    return KeyOwner(engine, engine.make_secret_key(), os.urandom)


def answered(engine: Engine, plan: EncryptedPlan, keys: bytes, query: bytes, weights: Float64 = WEIGHTS) -> bytes:
    """What an honest evaluator sends back."""
    shape = WireShape.of(plan)
    loaded = engine.load_key_material(decode_keys(shape, keys))
    assert loaded.public_key is not None
    (ciphertext,) = (engine.load(each) for each in decode_query(shape, query))
    result = evaluate_linear(engine, ciphertext, loaded, weights)
    protected = protect(engine, result, loaded.public_key, os.urandom, form=answer_form(plan))
    return encode_answer(shape, [engine.residues(protected)])


def test_query_is_answered_and_opened_on_the_grid_of_the_precision(engine: Engine, owner: KeyOwner) -> None:
    answer = answered(engine, PLAN, owner.evaluation_keys(PLAN), owner.encrypt_query(PLAN, SAMPLE))
    before = owner.answers_opened
    opened = owner.open_answer(PLAN, answer, 1)
    assert owner.answers_opened == before + 1
    assert opened.shape == (1, 1)
    assert opened[0, 0] % PLAN.precision == 0
    # Flooding, the researcher's own noise (8.65 quarters of a step) and half a step of rounding.
    limit = answer_form(PLAN).flood_error + PLAN.precision * (8.65 / 4 + 0.5) + 2.0**-9
    assert abs(opened[0, 0] - (SAMPLE @ WEIGHTS)[0]) < limit
    raw = owner.unsafe_open_raw(PLAN, answer, 1)
    assert abs(raw[0, 0] - (SAMPLE @ WEIGHTS)[0]) < answer_form(PLAN).flood_error + 2.0**-9
    assert raw[0, 0] % PLAN.precision != 0


def test_same_query_twice_shares_nothing_with_itself(owner: KeyOwner) -> None:
    first, second = (np.frombuffer(owner.encrypt_query(PLAN, SAMPLE)[44:], np.uint8) for _ in range(2))
    assert (first == second).mean() < 0.01


def test_answer_under_another_key_opens_to_nothing_meaningful(engine: Engine, owner: KeyOwner) -> None:
    other = KeyOwner(engine, engine.make_secret_key(), os.urandom)
    keys = owner.evaluation_keys(PLAN)
    answers = [answered(engine, PLAN, keys, owner.encrypt_query(PLAN, SAMPLE)) for _ in range(12)]
    found = [other.unsafe_open_raw(PLAN, answer, 1)[0, 0] for answer in answers]
    assert max(abs(value - (SAMPLE @ WEIGHTS)[0]) for value in found) > 1  # one alone comes near by chance now and then


def test_key_file_reads_back_with_its_count_and_an_altered_one_is_refused(engine: Engine, owner: KeyOwner) -> None:
    data = owner.key_file()
    again = KeyOwner.from_key_file(engine, data, os.urandom)
    assert again.answers_opened == owner.answers_opened
    answer = answered(engine, PLAN, owner.evaluation_keys(PLAN), again.encrypt_query(PLAN, SAMPLE))
    assert abs(again.unsafe_open_raw(PLAN, answer, 1)[0, 0] - (SAMPLE @ WEIGHTS)[0]) < answer_form(PLAN).flood_error + 2.0**-9
    content = data.reveal()
    for wrong in (b"", content[:-1], content + b"\0", b"x" + content[1:], content[:60] + b"\xff" * 100 + content[160:]):
        with pytest.raises(ConfideError) as caught:
            KeyOwner.from_key_file(engine, SecretBytes(wrong), os.urandom)
        assert caught.value.code is ErrorCode.STATE_DAMAGED
    with pytest.raises(ConfideError, match="no key file for several-levels"):
        KeyOwner.from_key_file(Engine(LARGE), data, os.urandom)


def test_nothing_of_the_key_stands_in_what_is_sent(engine: Engine, owner: KeyOwner) -> None:
    secret = owner.key_file().reveal()[60:]
    pieces = {secret[at : at + 12] for at in range(0, len(secret) - 12, 997)}
    for sent in (owner.evaluation_keys(PLAN), owner.encrypt_query(PLAN, SAMPLE)):
        assert not any(piece in sent for piece in pieces)
    assert "KeyOwner object" in repr(owner)


def test_plan_for_other_parameters_is_refused(owner: KeyOwner) -> None:
    plan = replace(linear_plan(), parameters=LARGE)
    for use in (
        lambda: owner.evaluation_keys(plan),
        lambda: owner.encrypt_query(plan, SAMPLE),
        lambda: owner.open_answer(plan, b"", 1),
    ):
        with pytest.raises(ConfideError, match="needs a key for several-levels"):
            use()


@pytest.mark.parametrize("value", [9.0, -8.5, np.nan, np.inf])
def test_sample_outside_of_the_declared_range_is_not_encrypted(owner: KeyOwner, value: float) -> None:
    rows = SAMPLE.copy()
    rows[0, 5] = value
    with pytest.raises(ConfideError, match="outside the planned range"):
        owner.encrypt_query(PLAN, rows)


def test_precision_that_does_not_hide_the_noise_is_refused(owner: KeyOwner) -> None:
    fine = replace(PLAN, precision=PLAN.predictions.noise_bound)
    with pytest.raises(ConfideError, match="does not hide a noise") as caught:
        publication(fine)
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT
    assert publication(PLAN).bits == 4.0  # a quarter of 2^-3 over 2^-9


def test_finest_precision_hides_the_noise_and_half_of_it_does_not() -> None:
    for bound in (1e-7, 2.0**-12, 0.3):
        step = finest_precision(bound, bound)
        assert 3 <= Publication(bound, step).bits < 4
        with pytest.raises(ValueError, match="does not hide"):
            Publication(bound, step / 2)


def test_usual_precision_is_half_as_fine_for_four_times_the_answers_of_a_large_key() -> None:
    for bound in (1e-7, 2.5e-5, 2.0**-12, 0.3):
        finest = finest_precision(bound, bound)
        large = usual_precision(bound, bound, key_bytes=3_000_000, asked_bytes=250_000)
        assert large == pytest.approx(2 * finest, rel=0.1)  # each rounded up to two digits
        assert 4 - 1e-9 <= Publication(bound, large).bits < 4.15
        # 64 answers take 20 times as much as the key under which they are asked.
        assert usual_precision(bound, bound, key_bytes=800_000, asked_bytes=250_000) == finest
        # Not below a quarter of an error that hides no key, since it is that of the weights.
        assert usual_precision(bound, 1e3 * bound, key_bytes=1, asked_bytes=1) == pytest.approx(250 * bound, rel=0.1)


def test_steps_have_two_digits_and_say_with_how_many_decimals_their_multiples_are_written() -> None:
    for value, step, digits in (
        (0.001664, 0.0017, 4),
        (8.0e-4, 8.0e-4, 4),
        (0.0991, 0.1, 1),
        (12.1, 13.0, 0),
        (1.01e-6, 1.1e-6, 7),
    ):
        assert rounded_up(value) == step
        assert digits_after_point(step) == digits
        for multiple in (1, 7, 12_345):
            assert float(f"{multiple * step:.{digits}f}") == pytest.approx(multiple * step, rel=1e-12)
    assert rounded_up(0.0) == 0.0


def test_published_values_carry_the_declared_noise_before_rounding() -> None:
    how = Publication(2.0**-20, 2.0**-10)
    values = np.random.default_rng(6).uniform(-1, 1, (64, 64))
    shown = publishable(values, how, os.urandom)
    assert shown.shape == values.shape
    assert (shown / how.precision == np.rint(shown / how.precision)).all()
    errors = (shown - values) / how.precision
    # A Gaussian of a quarter of a step, then rounding, whose error is nearly uniform over a step: 1/16 + 1/12.
    assert errors.std() == pytest.approx(np.sqrt(1 / 16 + 1 / 12), rel=0.08)
    assert (publishable(values, how, os.urandom) != shown).any()
