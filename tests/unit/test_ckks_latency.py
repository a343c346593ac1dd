"""The latency lane through SEAL: every number of an answer within the predicted error, with exactly the keys of the manifest."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from protocols.ckks.compiled import CompiledModel, compile_model, evaluate
from protocols.ckks.cost_measurement import measure_costs
from protocols.ckks.costs import Primitive
from protocols.ckks.engine import Ciphertext, Engine, EvaluationKeys
from protocols.ckks.latency_planning import Declared, counts_of, plan_latency
from protocols.ckks.planning import EncryptedPlan
from protocols.errors import ConfideError
from protocols.model import reference
from protocols.model.spec import ModelSpec
from tests.support.encrypted_models import (
    DEEP,
    LOGISTIC,
    PERCEPTRON,
    RESIDUAL,
    STRIDED,
    declared_numbers,
    opened_numbers,
    random_weights,
    with_polynomial,
)

UNIT = Declared(-1.0, 1.0)
ROUNDS = 4
CASES = {
    "logistic": (LOGISTIC, 1),
    "64 samples of a logistic": (LOGISTIC, 64),
    "perceptron": (PERCEPTRON, 1),
    "4 samples of a perceptron": (PERCEPTRON, 4),
    "strided": (STRIDED, 1),
    "deep": (DEEP, 1),
    "residual": (RESIDUAL, 1),
    "cubic": (with_polynomial("0.5", "0.2", "0.1", "-0.05"), 1),
    "quartic": (with_polynomial("0.2", "0.5", "0.4", "0", "-0.1"), 1),
    "odd of degree seven": (with_polynomial("0.1", "0.9", "0", "-0.3", "0", "0.1", "0", "-0.02"), 1),
    "all seven": (with_polynomial("0.1", "-0.2", "0.3", "0.4", "-0.5", "0.6", "-0.7", "0.8"), 1),
}


def asked(compiled: CompiledModel, keys: EvaluationKeys, query: Ciphertext) -> Ciphertext:
    answer = evaluate(compiled, query, keys)
    assert compiled.engine.level_of(answer) == 0
    assert compiled.engine.parts_of(answer) == compiled.plan.answer_parts
    assert compiled.engine.scale_of(answer) == compiled.plan.answer_scale
    return answer


def prepared(spec: ModelSpec, samples: int = 1) -> tuple[EncryptedPlan, dict[str, np.ndarray], CompiledModel]:
    weights = random_weights(spec)
    plan = plan_latency(spec, weights, UNIT, samples=samples)
    return plan, weights, compile_model(plan, spec, weights, Engine(plan.parameters))


@pytest.mark.parametrize("name", CASES)
def test_answer_is_within_the_predicted_error_in_every_number_and_not_far_below(name: str) -> None:
    spec, samples = CASES[name]
    plan, weights, compiled = prepared(spec, samples)
    engine = compiled.engine
    secret = engine.make_secret_key()
    keys = engine.make_evaluation_keys(secret, plan.keys)
    rng = np.random.default_rng(8)
    worst = 0.0
    for _ in range(ROUNDS):
        rows = rng.uniform(-1, 1, (samples, spec.input_features))
        query = engine.load(engine.encrypt(secret, engine.encode(plan.lay_out(rows)[0], plan.fresh_level, plan.fresh_scale)))
        slots = engine.decrypt(secret, asked(compiled, keys, query))
        expected = reference.logits(spec, weights, rows)
        numbers = opened_numbers(plan, slots)
        worst = max(worst, float(np.abs(numbers - declared_numbers(plan, expected)).max()))
        read = plan.read_outputs(np.tile(numbers, plan.parameters.slots // plan.period)[np.newaxis], samples)
        assert np.abs(read - expected).max() <= plan.predictions.max_error
    assert worst <= plan.predictions.max_error <= 30 * worst
    assert plan.predictions.noise_bound <= plan.predictions.max_error


def test_weights_of_zero_are_computed_with_as_any_others() -> None:
    weights = {name: np.zeros_like(values) for name, values in random_weights(PERCEPTRON).items()}
    plan = plan_latency(PERCEPTRON, weights, replace(UNIT, output_limit=1.0))
    engine = Engine(plan.parameters)
    compiled = compile_model(plan, PERCEPTRON, weights, engine)
    secret = engine.make_secret_key()
    keys = engine.make_evaluation_keys(secret, plan.keys)
    rows = np.random.default_rng(9).uniform(-1, 1, (1, 50))
    query = engine.load(engine.encrypt(secret, engine.encode(plan.lay_out(rows)[0], plan.fresh_level, plan.fresh_scale)))
    # An encoder gives a vector of zeros the least value that is not zero, 2^-20 and less at these scales, which sums keep small.
    assert np.abs(opened_numbers(plan, engine.decrypt(secret, asked(compiled, keys, query)))).max() < 2e-3


def test_query_at_another_level_or_under_other_keys_is_refused() -> None:
    plan, _, compiled = prepared(PERCEPTRON)
    engine = compiled.engine
    secret = engine.make_secret_key()
    keys = engine.make_evaluation_keys(secret, plan.keys)
    values = np.zeros(plan.parameters.slots)
    low = engine.load(engine.encrypt(secret, engine.encode(values, 0, plan.fresh_scale)))
    with pytest.raises(ConfideError, match="not those of the model's plan"):
        evaluate(compiled, low, keys)
    fewer = engine.make_evaluation_keys(secret, replace(plan.keys, rotations=plan.keys.rotations[1:]))
    fresh = engine.load(engine.encrypt(secret, engine.encode(values, plan.fresh_level, plan.fresh_scale)))
    with pytest.raises(ConfideError, match="not those of the model's plan"):
        evaluate(compiled, fresh, fewer)


def test_model_is_compiled_for_its_own_plan_alone() -> None:
    plan, weights, compiled = prepared(LOGISTIC)
    with pytest.raises(ConfideError, match="another architecture"):
        compile_model(plan, PERCEPTRON, random_weights(PERCEPTRON), compiled.engine)
    with pytest.raises(ConfideError, match="parameter set"):
        compile_model(plan, LOGISTIC, weights, Engine(prepared(PERCEPTRON)[0].parameters))
    moved = replace(plan, steps=(plan.steps[0], replace(plan.steps[1], level=1)))
    with pytest.raises(ConfideError, match="not those of the model"):
        compile_model(moved, LOGISTIC, weights, compiled.engine)
    assert "0." not in repr(compiled)


def test_costs_are_measured_for_every_primitive_and_level_that_an_evaluation_uses() -> None:
    plan, weights, compiled = prepared(PERCEPTRON)
    ticks = itertools.count()
    costs = measure_costs(compiled.engine, lambda: float(next(ticks)), repetitions=1)
    counts = counts_of(plan, PERCEPTRON)
    assert counts.keys() <= costs.seconds.keys()
    # One tick between the two readings of every measurement: the prediction is the number of operations.
    assert costs.of(counts) == sum(counts.values())
    again = plan_latency(PERCEPTRON, weights, UNIT, costs=lambda _: costs)
    assert again.predictions.server_seconds == pytest.approx(sum(counts.values()), rel=0.05)
    assert replace(again, predictions=plan.predictions) == plan
    assert costs.of(Counter({(Primitive.ROTATE, 0): 3})) == 3.0
