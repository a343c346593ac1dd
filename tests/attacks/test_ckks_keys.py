"""What published answers tell the evaluator, who holds the ciphertexts, about the secret key (Li and Micciancio 2021)."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import tenseal

from protocols.ckks.engine import Engine
from protocols.ckks.key_manifest import KeyManifest
from protocols.ckks.key_owner import KeyOwner
from protocols.ckks.planning import EncryptedPlan
from protocols.ckks.protection import answer_form, protect
from protocols.ckks.publication import Publication, least_noise, publication, publishable
from protocols.ckks.seal_format import Residues
from protocols.ckks.wire import WireShape, decode_keys, decode_query, encode_answer
from protocols.errors import ConfideError, ErrorCode
from tests.support import tenseal_way
from tests.support.ckks import SMALL, WEIGHT_SCALE, Float64, linear_plan
from tests.support.ckks_attacks import key_from_published, places_found
from tests.support.seal_bytes import secret_of

PAIRS = 64
PLAN = replace(
    linear_plan(precision=2.0**-4),
    num_features=1,
    samples=SMALL.slots,
    answer_replicas=1,
    input_slots=(tuple(range(SMALL.slots)),),
    output_slots=(tuple(range(SMALL.slots)),),
    keys=KeyManifest((), None, True),
)
"""A model with one feature and one output, as many samples as slots: every slot is published."""


def answers(engine: Engine, owner: KeyOwner, plan: EncryptedPlan, count: int) -> tuple[list[bytes], list[Residues]]:
    """Two queries and what the evaluator, who keeps the ciphertexts, answers them."""
    shape, rng = WireShape.of(plan), np.random.default_rng(11)
    public = engine.load_key_material(decode_keys(shape, owner.evaluation_keys(plan))).public_key
    assert public is not None
    messages, kept = [], []
    for _ in range(count):
        rows = rng.uniform(-1, 1, (plan.samples, 1))
        (query,) = (engine.load(each) for each in decode_query(shape, owner.encrypt_query(plan, rows)))
        result = engine.multiply_plain(query, engine.encode_constant(0.75, 0, WEIGHT_SCALE))
        parts = engine.residues(protect(engine, result, public, os.urandom, form=answer_form(plan)))
        messages.append(encode_answer(shape, [parts]))
        kept.append(parts)
    return messages, kept


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(SMALL)


@pytest.fixture(scope="module")
def owner(engine: Engine) -> KeyOwner:
    return KeyOwner(engine, engine.make_secret_key(), os.urandom)


@pytest.fixture(scope="module")
def exchange(engine: Engine, owner: KeyOwner) -> tuple[list[bytes], list[Residues]]:
    return answers(engine, owner, PLAN, 2)


def found(engine: Engine, owner: KeyOwner, kept: list[Residues], published: list[Float64]) -> int:
    flat = [values.ravel() for values in published]
    guess = key_from_published(engine, kept, flat, PLAN.answer_scale, count=PAIRS)
    return places_found(engine, owner._secret, guess)


def test_two_raw_decryptions_give_the_secret_key_away(
    engine: Engine, owner: KeyOwner, exchange: tuple[list[bytes], list[Residues]]
) -> None:
    messages, kept = exchange
    published = [owner.unsafe_open_raw(PLAN, message, PLAN.samples) for message in messages]
    assert found(engine, owner, kept, published) == 2 * PAIRS


def test_two_vectors_of_tenseals_decrypt_give_the_secret_key_away(engine: Engine) -> None:
    private, scale = tenseal_way.context(SMALL, 2.0**40), 2.0**40
    vectors = [tenseal.ckks_vector(private, np.random.default_rng(at).normal(size=SMALL.slots).tolist()) for at in range(2)]
    kept = [tenseal_way.ciphertext_form(vector).residues for vector in vectors]
    published = [np.array(vector.decrypt()) for vector in vectors]
    guess = key_from_published(engine, kept, published, scale, count=PAIRS)
    assert places_found(engine, engine.import_secret_key(secret_of(private, SMALL)), guess) == 2 * PAIRS


def test_two_opened_answers_do_not_give_the_secret_key_away(
    engine: Engine, owner: KeyOwner, exchange: tuple[list[bytes], list[Residues]]
) -> None:
    messages, kept = exchange
    published = [owner.open_answer(PLAN, message, PLAN.samples) for message in messages]
    assert found(engine, owner, kept, published) == 0


def test_rounding_without_noise_to_a_fine_step_still_gives_the_key_away(
    engine: Engine, owner: KeyOwner, exchange: tuple[list[bytes], list[Residues]]
) -> None:
    # Why rounding must be coarse: at 2^-48 of values at scale 2^44 the polynomial is still guessed exactly.
    messages, kept = exchange
    step = 2.0**-52
    raw = [owner.unsafe_open_raw(PLAN, message, PLAN.samples) for message in messages]
    assert found(engine, owner, kept, [np.rint(values / step) * step for values in raw]) == 2 * PAIRS


def test_mean_of_many_openings_of_the_same_answers_does_not_give_the_key_away(
    engine: Engine, owner: KeyOwner, exchange: tuple[list[bytes], list[Residues]]
) -> None:
    messages, kept = exchange
    opened = [[owner.open_answer(PLAN, message, PLAN.samples) for _ in range(64)] for message in messages]
    assert found(engine, owner, kept, [np.mean(each, axis=0) for each in opened]) == 0


def test_plan_that_belittles_its_noise_would_give_the_key_away_and_is_refused(
    engine: Engine, owner: KeyOwner, exchange: tuple[list[bytes], list[Residues]]
) -> None:
    # The plan is the evaluator's, and so is its bound of the noise: with this one, rounding under noise hides nothing.
    messages, kept = exchange
    bound, step = 2.0**-47, 2.0**-41
    raw = [owner.unsafe_open_raw(PLAN, message, PLAN.samples) for message in messages]
    published = [publishable(values, Publication(bound, step), os.urandom) for values in raw]
    assert found(engine, owner, kept, published) == 2 * PAIRS
    plan = replace(PLAN, precision=step, predictions=replace(PLAN.predictions, noise_bound=bound))
    with pytest.raises(ConfideError, match="a noise of") as caught:
        owner.open_answer(plan, messages[0], plan.samples)
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


def test_no_plan_may_state_less_noise_than_the_encryption_of_zero_has(engine: Engine, owner: KeyOwner) -> None:
    public = engine.make_public_key(owner._secret)
    zeros = [engine.encrypt_zero(public, 0) for _ in range(8)]
    for zero in zeros:
        engine.set_scale(zero, PLAN.answer_scale)
    measured = float(np.std([engine.decrypt(owner._secret, zero) for zero in zeros]))
    assert measured == pytest.approx(least_noise(PLAN), rel=0.1)
    for bound, refused in ((5 * measured, False), (3 * measured, True)):
        plan = replace(PLAN, predictions=replace(PLAN.predictions, noise_bound=bound))
        if refused:
            with pytest.raises(ConfideError, match="a noise of"):
                publication(plan)
        else:
            assert publication(plan).noise_bound == bound
