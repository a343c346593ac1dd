"""Known attacks against both lanes as they are served: planned, compiled, evaluated and protected."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from protocols.ckks.batch import compile_batch, evaluate_batch, plan_batch, protect_batch
from protocols.ckks.batch_wire import decode_batch_query
from protocols.ckks.compiled import CompiledModel, compile_model, evaluate
from protocols.ckks.engine import Ciphertext, Engine, EvaluationKeys, SecretKey
from protocols.ckks.key_owner import KeyOwner
from protocols.ckks.latency_planning import Declared, plan_latency
from protocols.ckks.planning import NOTHING, EncryptedPlan
from protocols.ckks.protection import answer_form, opened, protect
from protocols.ckks.seal_format import Residues
from protocols.ckks.wire import WireShape, decode_answer, decode_keys
from protocols.model.layers import Linear, Square
from protocols.model.reference import logits
from protocols.model.spec import ModelSpec
from tests.support.ckks_attacks import solution_modulo
from tests.support.seal_bytes import plaintext_slots

RANGE = Declared(-1.0, 1.0)
MODELS = {
    "linear": (ModelSpec.chain(30, only=Linear(1)), 1),
    "packed": (ModelSpec.chain(30, only=Linear(1)), 8),
    "classes": (ModelSpec.chain(20, only=Linear(3)), 1),
    "square": (ModelSpec.chain(16, first=Linear(6), square=Square(), last=Linear(3)), 1),
}


@dataclass(frozen=True)
class Served:
    """A model of the latency lane with a querier's keys."""

    spec: ModelSpec
    weights: dict[str, NDArray[np.float64]]
    plan: EncryptedPlan
    engine: Engine
    model: CompiledModel
    secret: SecretKey
    keys: EvaluationKeys

    def asked(self, slots: NDArray[np.complex128]) -> Ciphertext:
        """The unprotected answer to slots that are not laid out as the plan says."""
        plaintext = self.engine.encode_complex(slots, self.plan.fresh_level, self.plan.fresh_scale)
        return evaluate(self.model, self.engine.load(self.engine.encrypt(self.secret, plaintext)), self.keys)

    def protected(self, result: Ciphertext) -> Ciphertext:
        assert self.keys.public_key is not None
        return protect(self.engine, result, self.keys.public_key, os.urandom, form=answer_form(self.plan))

    def opened(self, answer: Ciphertext) -> NDArray[np.float64]:
        return opened(self.engine, self.secret, answer, answer_form(self.plan))


def some_weights(spec: ModelSpec) -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(1)
    return {each.name: rng.normal(size=each.shape) / np.sqrt(each.shape[-1]) for each in spec.parameters}


@pytest.fixture(scope="module", params=MODELS)
def served(request: pytest.FixtureRequest) -> Served:
    spec, samples = MODELS[request.param]
    weights = some_weights(spec)
    plan = plan_latency(spec, weights, RANGE, samples=samples)
    engine = Engine(plan.parameters)
    secret = engine.make_secret_key()
    keys = engine.make_evaluation_keys(secret, plan.keys)
    return Served(spec, weights, plan, engine, compile_model(plan, spec, weights, engine), secret, keys)


def slots_of_ones_own(plan: EncryptedPlan) -> NDArray[np.complex128]:
    rng = np.random.default_rng(2)
    return 0.3 * (rng.uniform(-1, 1, plan.parameters.slots) + 1j * rng.uniform(-1, 1, plan.parameters.slots))


def test_honest_query_opens_to_the_outputs(served: Served) -> None:
    plan, rng = served.plan, np.random.default_rng(3)
    rows = rng.uniform(-1, 1, (plan.samples, plan.num_features))
    slots = served.opened(served.protected(served.asked(plan.lay_out(rows)[0].astype(complex))))
    found = plan.read_outputs(slots[np.newaxis], plan.samples)
    limit = answer_form(plan).flood_error + plan.predictions.max_error
    assert np.abs(found - logits(served.spec, served.weights, rows)).max() < limit


def test_unprotected_answer_holds_more_numbers_than_it_debits(served: Served) -> None:
    # What the mask is for: slots of one's own come back as that many different numbers, in both halves.
    shown = plaintext_slots(served.secret, served.engine, served.asked(slots_of_ones_own(served.plan)))
    places = np.array(served.plan.output_slots[0])
    same = shown[places == 0]
    assert np.ptp(same.real) > 1e-2
    assert np.abs(same.imag).max() > 1e-2


def test_answer_to_slots_of_ones_own_holds_no_more_numbers_than_it_debits(served: Served) -> None:
    plan, engine = served.plan, served.engine
    answer = served.protected(served.asked(slots_of_ones_own(plan)))
    # Exactly, modulo the prime: the phase less its trace's share is uniform, so all there is to see is the trace,
    slots = served.opened(answer)
    assert np.abs(slots - np.resize(slots[: plan.period], len(slots))).max() < 1e-9 * max(1.0, np.abs(slots).max())
    # of which the places that are no declared output hold zero, if what was sent is as small as slots are.
    nothing = np.array(plan.output_slots[0]) == NOTHING
    limit = answer_form(plan).flood_error + plan.predictions.max_error
    assert np.abs(slots[nothing]).max(initial=0.0) < limit
    prime = plan.parameters.primes[0]
    counts = np.bincount((engine.phase(served.secret, answer)[0] / prime * 64).astype(int), minlength=64)
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 63 + 4.9 * 11.3


def test_polynomial_that_is_no_query_finds_a_number_in_every_slot_of_a_period_and_all_are_debited(served: Served) -> None:
    """Multiplied modulo the prime, the rounding of weights fills the slots that are no output: numbers, the same each time."""
    plan, engine, rng = served.plan, served.engine, np.random.default_rng(6)
    primes = plan.parameters.primes[: plan.fresh_level + 1]
    polynomial = np.stack([rng.integers(0, prime, plan.parameters.ring_degree, dtype=np.uint64) for prime in primes])
    query = engine.plaintext_from_residues(polynomial, plan.fresh_scale)
    result = evaluate(served.model, engine.load(engine.encrypt(served.secret, query)), served.keys)
    once, again = (served.opened(served.protected(result)) for _ in range(2))
    limit = answer_form(plan).flood_error
    numbers = (np.abs(once) > 4 * limit) & (np.abs(once - again) < 3 * limit)
    assert numbers[: plan.period].all()
    assert plan.numbers_per_answer == plan.period


def test_model_of_zeros_is_planned_and_answered_in_the_same_form(served: Served) -> None:
    zeros = {name: np.zeros_like(values) for name, values in served.weights.items()}
    model = compile_model(served.plan, served.spec, zeros, served.engine)
    plaintext = served.engine.encode_constant(0.5, served.plan.fresh_level, served.plan.fresh_scale)
    query = served.engine.load(served.engine.encrypt(served.secret, plaintext))
    result = evaluate(model, query, served.keys)
    usual = served.asked(np.full(served.plan.parameters.slots, 0.5 + 0j))
    for answer, like in ((result, usual), (served.protected(result), served.protected(usual))):
        assert served.engine.residues(answer).shape == served.engine.residues(like).shape
        assert served.engine.scale_of(answer) == served.engine.scale_of(like)


# --- the batch lane: three parts


FEATURES = 4
BATCH = ModelSpec.chain(FEATURES, first=Linear(3), square=Square(), last=Linear(1))
PAIRS = [(one, other) for one in range(FEATURES) for other in range(one, FEATURES)]


def quadratic_form(asked: Residues, third: Residues, prime: int) -> list[int] | None:
    """Returns the coefficients of a quadratic form of the asked second parts that the third part is, if it is one.

    Args:
        asked: `(features, N)` second parts of the query modulo the prime.
        third: `(N,)` third part of the answer modulo the prime.
        prime: the modulus.
    """
    columns = [[int(value) for value in row] for row in asked]
    products = [[a * b % prime for a, b in zip(columns[one], columns[other], strict=True)] for one, other in PAIRS]
    count = len(PAIRS)
    found = solution_modulo([[row[at] for row in products] for at in range(count)], [int(v) for v in third[:count]], prime)
    holds = all(
        sum(value * row[at] for value, row in zip(found, products, strict=True)) % prime == int(third[at])
        for at in range(count, 4 * count)
    )
    return found if holds else None


def centred(value: int, modulus: int) -> int:
    value %= modulus
    return value - modulus if value > modulus // 2 else value


def test_third_part_of_a_batch_answer_is_no_quadratic_form_in_the_weights_once_protected() -> None:
    weights = some_weights(BATCH)
    plan = plan_batch(BATCH, weights, RANGE)
    shape, engine = WireShape.of(plan), Engine(plan.parameters)
    owner = KeyOwner(engine, engine.make_secret_key(), os.urandom)
    public = engine.load_key_material(decode_keys(shape, owner.evaluation_keys(plan))).public_key
    assert public is not None
    compiled = compile_batch(plan, BATCH, weights)
    rows = np.random.default_rng(9).uniform(-1, 1, (plan.parameters.slots, FEATURES))
    query = decode_batch_query(shape, owner.encrypt_query(plan, rows))
    unprotected = evaluate_batch(compiled, query)
    message = protect_batch(engine, plan, unprotected, public, os.urandom)
    primes = plan.parameters.primes
    found = [quadratic_form(query.second_parts[:, at], unprotected[0, 2, at], prime) for at, prime in enumerate(primes)]
    # The form is W^T diag(v) W in whole numbers, put together from its residues.
    modulus = math.prod(primes)
    whole = np.array([centred(sum(part * (modulus // prime) * pow(modulus // prime, -1, prime)
                                  for part, prime in zip(each, primes, strict=True)), modulus)
                      for each in zip(*[form for form in found if form is not None], strict=True)], float)  # fmt: skip
    first, last = weights["first.weight"], weights["last.weight"]
    real = np.array([(2 - (one == other)) * (last[0] * first[:, one] * first[:, other]).sum() for one, other in PAIRS])
    assert len(found) == len(primes)
    assert np.corrcoef(whole, real)[0, 1] > 0.999
    (answer,) = decode_answer(shape, message)
    for at, prime in enumerate(primes):
        assert quadratic_form(query.second_parts[:, at], answer[2, at], prime) is None
    # And it is still an answer, of every sample.
    raw = owner.unsafe_open_raw(plan, message, len(rows))
    limit = answer_form(plan).flood_error + plan.predictions.max_error
    assert np.abs(raw - logits(BATCH, weights, rows)).max() < limit


def test_imaginary_halves_of_a_batch_come_back_as_nothing() -> None:
    spec = ModelSpec.chain(2, only=Linear(1))
    weights = {"only.weight": np.array([[0.75, -0.5]]), "only.bias": np.zeros(1)}
    plan = plan_batch(spec, weights, RANGE)
    engine = Engine(plan.parameters)
    secret = engine.make_secret_key()
    rng = np.random.default_rng(10)
    slots = rng.uniform(-1, 1, (2, plan.parameters.slots)) * 1j
    result: Ciphertext | None = None
    for values, weight in zip(slots, weights["only.weight"][0], strict=True):
        plaintext = engine.encode_complex(values, plan.keys.answer_level, 2.0**20)
        product = engine.multiply_plain(
            engine.load(engine.encrypt(secret, plaintext)),
            engine.encode_constant(weight, plan.keys.answer_level, plan.answer_scale / 2.0**20),
        )
        if result is None:
            result = product
        else:
            engine.add_inplace(result, product)
    assert result is not None
    assert np.abs(plaintext_slots(secret, engine, result).imag - weights["only.weight"][0] @ slots.imag).max() < 0.1
    public = engine.make_public_key(secret, plan.keys.answer_level)
    answer = protect(engine, result, public, os.urandom, form=answer_form(plan))
    shown = plaintext_slots(secret, engine, answer).imag
    assert abs(np.corrcoef(shown, weights["only.weight"][0] @ slots.imag)[0, 1]) < 4.9 / np.sqrt(plan.parameters.slots)
    assert np.abs(opened(engine, secret, answer, answer_form(plan))).max() < answer_form(plan).flood_error + 0.1
