"""What a plan predicts holds for models that nothing was fitted to: drawn at random, their weights with heavy tails."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from protocols.ckks.compiled import compile_model, evaluate
from protocols.ckks.costs import Primitive, reference_costs
from protocols.ckks.engine import Engine, Plaintext
from protocols.ckks.key_owner import KeyOwner
from protocols.ckks.latency_planning import Declared, counts_of, plan_latency
from protocols.ckks.parameters import ParameterSet
from protocols.ckks.protection import answer_form, opened, protect
from protocols.ckks.wire import WireShape, decode_keys, decode_query, encode_answer
from protocols.model import reference
from protocols.model.layers import (
    Add,
    AveragePool,
    BatchNorm,
    Convolution,
    Flatten,
    Linear,
    Operator,
    Polynomial,
    Square,
)
from protocols.model.spec import INPUT, Layer, ModelSpec
from tests.support.ckks import stream

Weights = dict[str, np.ndarray]
ROWS = 6
CUBIC = Polynomial(("0.5", "0.5", "0.125", "0.0625"))
# Depth 8 at 32x32x3: three convolutions, batch norm, a residual sum, squares, a polynomial of degree three, a pool.
DEEPEST = ModelSpec(
    (3, 32, 32),
    (
        Layer("stem", Convolution(4, (3, 3), (2, 2), (1, 1)), (INPUT,)),
        Layer("norm", BatchNorm(), ("stem",)),
        Layer("first", Square(), ("norm",)),
        Layer("body", Convolution(4, (3, 3), (1, 1), (1, 1)), ("first",)),
        Layer("sum", Add(), ("body", "first")),
        Layer("second", CUBIC, ("sum",)),
        Layer("narrow", Convolution(8, (3, 3), (2, 2), (1, 1)), ("second",)),
        Layer("third", Square(), ("narrow",)),
        Layer("pool", AveragePool((2, 2), (2, 2), (0, 0)), ("third",)),
        Layer("flat", Flatten(), ("pool",)),
        Layer("out", Linear(10), ("flat",)),
    ),
)


def drawn(seed: int) -> tuple[ModelSpec, Weights, Declared]:
    """A chain of one to three affine layers, perhaps a convolution first, with weights of heavy tails, and a range of inputs."""
    rng = np.random.default_rng([seed, 77])
    layers: dict[str, Operator] = {}
    shape: int | tuple[int, int, int] = int(rng.integers(3, 400))
    depth = int(rng.integers(0, 3))
    for number in range(depth):
        if number == 0 and rng.random() < 0.5:
            shape = (int(rng.integers(1, 3)), 10, 10)
            layers["convolution"] = Convolution(int(rng.integers(2, 5)), (3, 3), (int(rng.integers(1, 3)),) * 2, (1, 1))
            layers["map"] = Square()
            layers["flat"] = Flatten()
            continue
        layers[f"layer{number}"] = Linear(int(rng.integers(2, 60)))
        layers[f"power{number}"] = CUBIC if rng.random() < 0.3 else Square()
    layers["out"] = Linear(int(rng.integers(1, 12)))
    spec = ModelSpec.chain(shape, **layers)
    weights = {}
    for parameter in spec.parameters:
        size = rng.uniform(0.3, 1.5) / np.sqrt(max(1, np.prod(parameter.shape[1:])))
        weights[parameter.name] = np.clip(rng.standard_t(3, parameter.shape), -6, 6) * size
    low = float(rng.choice([-1.0, 0.0, -3.0]))
    return spec, weights, Declared(low, low + float(rng.choice([1.0, 4.0])))


def rows_within(spec: ModelSpec, declared: Declared) -> np.ndarray:
    rng = np.random.default_rng(9)
    low, high = declared.input_low, declared.input_high
    random = rng.uniform(low, high, (ROWS - 3, spec.input_features))
    ends = rng.choice([low, high], (1, spec.input_features))
    return np.concatenate([random, ends, np.full((1, spec.input_features), low), np.full((1, spec.input_features), high)])


@pytest.mark.parametrize("seed", range(8))
def test_error_and_bytes_of_a_model_drawn_at_random_are_those_predicted(seed: int) -> None:
    spec, weights, declared = drawn(seed)
    rows = rows_within(spec, declared)
    expected = reference.logits(spec, weights, rows)
    declared = Declared(declared.input_low, declared.input_high, 2 * float(np.abs(expected).max()))
    plan = plan_latency(spec, weights, declared)
    engine = Engine(plan.parameters)
    secret, shape, form = engine.make_secret_key(), WireShape.of(plan), answer_form(plan)
    owner = KeyOwner(engine, secret, stream("predictions"))
    uploaded = owner.evaluation_keys(plan)
    keys = engine.load_key_material(decode_keys(shape, uploaded))
    assert keys.public_key is not None
    compiled = compile_model(plan, spec, weights, engine)
    worst, predicted = 0.0, plan.predictions
    for row, right in zip(rows, expected, strict=True):
        query = owner.encrypt_query(plan, row[np.newaxis])
        result = evaluate(compiled, engine.load(decode_query(shape, query)[0]), keys)
        found = plan.read_outputs(opened(engine, secret, result, form)[np.newaxis], 1)[0]
        worst = max(worst, float(np.abs(found - right).max()))
        answer = encode_answer(
            shape, [engine.residues(protect(engine, result, keys.public_key, stream("protection"), form=form))]
        )
        # Headers are what is not counted: 44 bytes each.
        assert (len(query), len(answer)) == (44 + predicted.upload_bytes, 44 + predicted.answer_bytes)
    assert len(uploaded) == predicted.key_bytes
    # Six deviations of the worst output; that six rows stay below a fifth of one has a chance of 10^-5.
    assert worst <= predicted.max_error <= 30 * worst


def test_predicted_time_counts_parsing_evaluation_and_protection_once_each() -> None:
    spec, weights, declared = drawn(0)
    plan = plan_latency(spec, weights, declared)
    counts = counts_of(plan, spec)
    assert counts[Primitive.TAKE, plan.fresh_level] == counts[Primitive.ANSWER, 0] == 1
    assert sum(count for (kind, _), count in counts.items() if kind in (Primitive.TAKE, Primitive.ANSWER)) == 2
    assert plan.predictions.server_seconds == pytest.approx(reference_costs(plan.parameters).of(counts), rel=0.05)


class CountingEngine(Engine):
    """Counts encodings by level."""

    def __init__(self, parameters: ParameterSet) -> None:
        super().__init__(parameters)
        self.encoded: Counter[int] = Counter()

    def encode(self, values: Any, level: int, scale: float) -> Plaintext:
        self.encoded[level] += 1
        return super().encode(values, level, scale)


def test_model_of_depth_eight_is_compiled_with_one_encoding_for_each_product_and_constant() -> None:
    """Seconds are the benchmark's to show; that they stay few follows from how much is encoded: less than 400 vectors."""
    rng = np.random.default_rng(2)
    weights = {
        each.name: rng.uniform(0.5, 1.5, each.shape)
        if each.name.endswith("running_var")
        else rng.uniform(-1, 1, each.shape) / np.sqrt(max(1, np.prod(each.shape[1:])))
        for each in DEEPEST.parameters
    }
    plan = plan_latency(DEEPEST, weights, Declared(0.0, 1.0, 100.0))
    assert plan.parameters.name == "latency-8"
    engine = CountingEngine(plan.parameters)
    compile_model(plan, DEEPEST, weights, engine)
    counts = counts_of(plan, DEEPEST)
    products = {level: count for (kind, level), count in counts.items() if kind is Primitive.MULTIPLY_PLAIN}
    linear = sum(step.kind == "linear" for step in plan.steps)
    assert sum(engine.encoded.values()) <= sum(products.values()) + linear < 400


def test_typical_error_is_that_of_samples_within_the_range() -> None:
    spec = ModelSpec.chain(60, hidden=Linear(20), square=Square(), out=Linear(8))
    rng = np.random.default_rng(5)
    weights = {each.name: rng.uniform(-1, 1, each.shape) / np.sqrt(each.shape[-1]) for each in spec.parameters}
    declared = Declared(-1.0, 1.0)
    plan = plan_latency(spec, weights, declared)
    engine = Engine(plan.parameters)
    secret, shape, form = engine.make_secret_key(), WireShape.of(plan), answer_form(plan)
    owner = KeyOwner(engine, secret, stream("typical"))
    keys = engine.load_key_material(decode_keys(shape, owner.evaluation_keys(plan)))
    compiled = compile_model(plan, spec, weights, engine)
    rows = rng.uniform(-1, 1, (24, 60))
    errors = []
    for row, right in zip(rows, reference.logits(spec, weights, rows), strict=True):
        result = evaluate(compiled, engine.load(decode_query(shape, owner.encrypt_query(plan, row[np.newaxis]))[0]), keys)
        errors.append(plan.read_outputs(opened(engine, secret, result, form)[np.newaxis], 1)[0] - right)
    # The mean square of 24 times 8 errors: what depends on weights is computed, what depends on keys is fresh in each or, in
    # a few slots, the same under the one key, at most all of it: then a relative deviation of sqrt(2 / 8), so of the root a
    # quarter, at four deviations a factor of two to either side.
    ratio = plan.predictions.typical_error / float(np.sqrt(np.mean(np.square(errors))))
    assert 0.5 < ratio < 2.0


def test_typical_error_knows_how_the_weights_themselves_are_rounded() -> None:
    """Weights that are all alike are one coefficient; at a scale of a power of two it is rounded by nothing, or by a half."""
    features = 32
    spec, declared = ModelSpec.chain(features, out=Linear(1)), Declared(0.0, 1.0, 2.0 * features)

    def typical(weight: float) -> tuple[float, float]:
        plan = plan_latency(spec, {"out.weight": np.full((1, features), weight), "out.bias": np.zeros(1)}, declared)
        return plan.predictions.typical_error, plan.answer_scale / plan.fresh_scale

    noise, scale = typical(0.5)
    rounded, same_scale = typical(0.5 + 0.499 / scale)
    assert same_scale == scale
    # The sum of 32 uniform numbers has the mean 16 and the variance 32 / 12. Their number is drawn 128 times, so the mean square
    # of the sum deviates by 2 %; two digits of each figure, by 5 % at most, are the larger part.
    expected = 0.499 / scale * np.sqrt(16**2 + features / 12)
    assert expected > 2 * noise
    assert rounded == pytest.approx(np.hypot(expected, noise), rel=0.15)
