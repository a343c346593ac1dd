"""The batch lane from plan to opened outputs, against the plaintext oracle, and what it refuses."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from protocols.ckks.batch import CompiledBatch, compile_batch, evaluate_batch, plan_batch, protect_batch
from protocols.ckks.batch_costs import BatchCosts, measure_batch_costs
from protocols.ckks.batch_query import encrypt_batch_query
from protocols.ckks.batch_rounding import rounded_up
from protocols.ckks.batch_wire import decode_batch_query, encode_batch_query
from protocols.ckks.engine import Engine
from protocols.ckks.latency_planning import Declared
from protocols.ckks.parameters import PARAMETER_SETS
from protocols.ckks.planning import EncryptedPlan, Lane
from protocols.ckks.protection import ReRandomisers, answer_form, opened
from protocols.ckks.wire import WireShape, decode_answer, decode_keys, encode_keys
from protocols.ckks.wire_header import HEADER_BYTES
from protocols.errors import ConfideError, ErrorCode
from protocols.model.layers import (
    Add,
    AveragePool,
    BatchNorm,
    Convolution,
    Flatten,
    Linear,
    Polynomial,
    Relu,
    Sigmoid,
    Softmax,
    Square,
)
from protocols.model.reference import logits
from protocols.model.spec import INPUT, Layer, ModelSpec

Weights = dict[str, np.ndarray]


def _weights(spec: ModelSpec, seed: int) -> Weights:
    """Weights of the size that training leaves: outputs of about one."""
    rng, found = np.random.default_rng(seed), {}
    for parameter in spec.parameters:
        fan = int(np.prod(parameter.shape[1:])) or 1
        values = rng.normal(size=parameter.shape) / np.sqrt(fan)
        found[parameter.name] = abs(values) + 0.5 if parameter.name.endswith("running_var") else values
    return found


SMALL = ModelSpec.chain(16, first=Linear(6), square=Square(), last=Linear(3), ending=Softmax())
LINEAR = ModelSpec.chain(30, only=Linear(1), ending=Sigmoid())
CONVOLUTIONAL = ModelSpec.chain(
    (2, 8, 8),
    convolution=Convolution(3, (3, 3), (2, 2), (1, 1)),
    norm=BatchNorm(),
    activation=Polynomial(("0.25", "0.5", "-0.125")),
    pool=AveragePool((2, 2), (2, 2), (0, 0)),
    flat=Flatten(),
    last=Linear(4),
)
RESIDUAL = ModelSpec(
    (12,),
    (
        Layer("a", Linear(12), (INPUT,)),
        Layer("sum", Add(), ("a", INPUT)),
        Layer("square", Square(), ("sum",)),
        Layer("last", Linear(2), ("square",)),
    ),
)


@dataclasses.dataclass(frozen=True)
class _Asked:
    plan: EncryptedPlan
    compiled: CompiledBatch
    rows: np.ndarray
    raw: np.ndarray  # of the answer before it is protected
    opened: np.ndarray  # after
    expected: np.ndarray


def _ask(spec: ModelSpec, num_rows: int, seed: int, **settings: float) -> _Asked:
    weights = _weights(spec, seed)
    plan = plan_batch(spec, weights, Declared(-1, 1), **settings)
    compiled = compile_batch(plan, spec, weights)
    engine = Engine(plan.parameters)
    secret = engine.make_secret_key()
    shape = WireShape.of(plan)
    uploaded = decode_keys(shape, encode_keys(shape, engine.make_key_material(secret, plan.keys)))
    public_key = engine.load_key_material(uploaded).public_key
    assert public_key is not None
    rows = np.random.default_rng(seed).uniform(-1, 1, (num_rows, spec.input_features))
    message = encrypt_batch_query(engine, secret, plan, rows, os.urandom)
    assert len(message) == shape.query_bytes == plan.predictions.upload_bytes + HEADER_BYTES
    residues = evaluate_batch(compiled, decode_batch_query(shape, message))
    answer = protect_batch(engine, plan, residues, public_key, os.urandom)
    assert len(answer) == plan.predictions.answer_bytes + HEADER_BYTES

    loaded = [engine.from_residues(each, plan.answer_scale) for each in residues]
    raw = plan.read_outputs(np.stack([engine.decrypt(secret, each) for each in loaded]), num_rows)
    loaded = [engine.from_residues(each, plan.answer_scale) for each in decode_answer(shape, answer)]
    received = plan.read_outputs(np.stack([opened(engine, secret, each, answer_form(plan)) for each in loaded]), num_rows)
    return _Asked(plan, compiled, rows, raw, received, logits(spec, weights, rows))


@pytest.mark.parametrize(
    ("spec", "seed"), [(SMALL, 1), (LINEAR, 2), (CONVOLUTIONAL, 3), (RESIDUAL, 4)], ids=["mlp", "linear", "cnn", "residual"]
)
def test_batch_answers_are_the_plain_models_within_the_predicted_error(spec: ModelSpec, seed: int) -> None:
    asked = _ask(spec, num_rows=700, seed=seed)
    plan = asked.plan
    error = abs(asked.raw - asked.expected).max()
    assert error <= plan.predictions.max_error <= 30 * error
    assert abs(asked.expected).max() <= plan.predictions.output_limit
    # Protection adds flooding of a known deviation; 700 x 4 values stay within six.
    added = asked.opened - asked.raw
    assert abs(added).max() <= 6 * answer_form(plan).flood_std
    assert added.std() >= 0.8 * answer_form(plan).flood_std


def test_batch_at_a_finer_precision_takes_the_finer_set_and_keeps_it() -> None:
    asked = _ask(SMALL, num_rows=50, seed=5, precision=2.0**-12, min_flooding_bits=8)
    assert asked.plan.parameters.name == "batch-2-fine"
    assert abs(asked.raw - asked.expected).max() <= asked.plan.predictions.max_error <= 4 * 2.0**-12
    assert answer_form(asked.plan).flood_std / (asked.plan.predictions.noise_bound / 5) >= 2.0**7.9


def test_batch_plan_reads_back_from_its_document_and_debits_all_slots() -> None:
    plan = plan_batch(SMALL, _weights(SMALL, 1), Declared(0, 1))
    assert EncryptedPlan.from_document(plan.to_document()) == plan
    assert plan.lane is Lane.BATCH
    assert plan.samples == plan.parameters.slots == 2048
    assert plan.answer_parts == 3
    assert plan.keys.rotations == ()
    assert plan.keys.relinearise_level is None
    assert plan.client_activation == "softmax"


def test_batch_plan_depends_on_weights_only_through_what_it_states() -> None:
    """Signs and order of weights change nothing but the constants and scales that follow from the size of outputs."""
    weights = _weights(SMALL, 1)
    flipped = weights | {"first.weight": -weights["first.weight"][:, ::-1].copy(), "first.bias": -weights["first.bias"]}
    plans = [plan_batch(SMALL, each, Declared(-1, 1)) for each in (weights, flipped)]
    assert plans[0] == plans[1]


@pytest.mark.parametrize("position", [0, 5, 2047])
def test_sample_in_any_slot_gets_its_own_answer_alone(position: int) -> None:
    """Changing one sample changes no other's answer by more than the noise."""
    weights = _weights(SMALL, 1)
    plan = plan_batch(SMALL, weights, Declared(-1, 1))
    compiled, engine = compile_batch(plan, SMALL, weights), Engine(plan.parameters)
    secret, shape = engine.make_secret_key(), WireShape.of(plan)
    rows = np.zeros((plan.samples, 16))
    rows[position] = np.linspace(-1, 1, 16)
    query = decode_batch_query(shape, encrypt_batch_query(engine, secret, plan, rows, os.urandom))
    residues = evaluate_batch(compiled, query)
    found = np.stack([engine.decrypt(secret, engine.from_residues(each, plan.answer_scale)) for each in residues]).T
    assert abs(found - logits(SMALL, weights, rows)).max() <= plan.predictions.max_error


def test_all_slots_of_a_short_batch_are_answers_to_the_zero_sample() -> None:
    weights = _weights(SMALL, 1)
    plan = plan_batch(SMALL, weights, Declared(-1, 1))
    compiled, engine = compile_batch(plan, SMALL, weights), Engine(plan.parameters)
    secret, shape = engine.make_secret_key(), WireShape.of(plan)
    message = encrypt_batch_query(engine, secret, plan, np.full((1, 16), 0.5), os.urandom)
    residues = evaluate_batch(compiled, decode_batch_query(shape, message))
    found = np.stack([engine.decrypt(secret, engine.from_residues(each, plan.answer_scale)) for each in residues]).T
    assert abs(found[1:] - logits(SMALL, weights, np.zeros((1, 16)))).max() <= plan.predictions.max_error


def test_every_part_of_a_protected_answer_is_fresh() -> None:
    """The third part would otherwise be an exact quadratic form in the weights; see tests/attacks."""
    weights = _weights(SMALL, 1)
    plan = plan_batch(SMALL, weights, Declared(-1, 1))
    compiled, engine = compile_batch(plan, SMALL, weights), Engine(plan.parameters)
    secret, shape = engine.make_secret_key(), WireShape.of(plan)
    public_key = engine.make_public_key(secret, plan.keys.answer_level)
    query = decode_batch_query(shape, encrypt_batch_query(engine, secret, plan, np.zeros((1, 16)), os.urandom))
    residues = evaluate_batch(compiled, query)
    pool = ReRandomisers(engine, public_key, level=plan.keys.answer_level, parts=3)
    pool.fill(len(residues))
    answers = [
        np.stack(decode_answer(shape, protect_batch(engine, plan, residues, public_key, os.urandom, pool=each)))
        for each in (None, pool)
    ]
    for answer in (*answers, answers[0] ^ answers[1]):
        # Of uniform residues one in 10^9 agrees by chance.
        assert (answer == residues).mean(axis=(2, 3)).max() < 1e-3
    assert len(pool) == 0


def _shape_and_message() -> tuple[WireShape, bytes]:
    plan = plan_batch(LINEAR, _weights(LINEAR, 1), Declared(-1, 1))
    engine = Engine(plan.parameters)
    return WireShape.of(plan), encrypt_batch_query(engine, engine.make_secret_key(), plan, np.zeros((1, 30)), os.urandom)


def test_batch_query_with_a_residue_that_is_no_residue_is_refused() -> None:
    shape, message = _shape_and_message()
    query = decode_batch_query(shape, message)
    first = query.first_parts.copy()
    first[17, 1, 4095] = shape.parameters.primes[1]
    with pytest.raises(ConfideError, match="not below its prime") as caught:
        decode_batch_query(shape, encode_batch_query(shape, bytes(32), first))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("change", ["shorter", "longer", "empty", "kind", "plan"])
def test_batch_query_of_another_form_is_refused(change: str) -> None:
    shape, message = _shape_and_message()
    altered = {
        "shorter": message[:-1],
        "longer": message + b"\0",
        "empty": b"",
        "kind": message[:10] + b"\x01" + message[11:],
        "plan": message[:12] + bytes(32) + message[44:],
    }[change]
    with pytest.raises(ConfideError) as caught:
        decode_batch_query(shape, altered)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_samples_out_of_the_declared_range_are_refused_by_the_querier() -> None:
    plan = plan_batch(LINEAR, _weights(LINEAR, 1), Declared(0, 1))
    engine = Engine(plan.parameters)
    with pytest.raises(ConfideError, match="outside the planned range"):
        encrypt_batch_query(engine, engine.make_secret_key(), plan, np.full((1, 30), 1.5), os.urandom)


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        (ModelSpec.chain(8, a=Linear(4), act=Relu(), b=Linear(2)), "relu"),
        (ModelSpec.chain(8, a=Linear(4), act=Polynomial(("0", "1", "0", "1")), b=Linear(2)), "degree 3"),
        (ModelSpec.chain(8, a=Linear(4), s=Square(), b=Linear(4), t=Square(), c=Linear(2)), "at most 1 square"),
    ],
    ids=["relu", "cubic", "two squares"],
)
def test_batch_plan_of_a_model_that_it_cannot_compute_is_refused_by_name(spec: ModelSpec, what: str) -> None:
    with pytest.raises(ConfideError, match=what) as caught:
        plan_batch(spec, _weights(spec, 1), Declared(-1, 1))
    assert caught.value.code is ErrorCode.INVALID_MODEL


def test_batch_plan_of_a_residual_over_an_activation_is_refused() -> None:
    layers = (
        Layer("a", Linear(6), (INPUT,)),
        Layer("s", Square(), ("a",)),
        Layer("sum", Add(), ("s", "a")),
        Layer("b", Linear(2), ("sum",)),
    )
    spec = ModelSpec((6,), layers)
    with pytest.raises(ConfideError, match="from before another activation"):
        plan_batch(spec, _weights(spec, 1), Declared(-1, 1))


def test_batch_plan_with_an_impossible_precision_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfideError, match="cannot answer with that precision") as caught:
        plan_batch(SMALL, _weights(SMALL, 1), Declared(-1, 1), precision=2.0**-40)
    assert "coarser precision" in caught.value.remedy


def test_compilation_with_a_plan_of_another_architecture_is_refused() -> None:
    plan = plan_batch(SMALL, _weights(SMALL, 1), Declared(-1, 1))
    with pytest.raises(ConfideError, match="another architecture"):
        compile_batch(plan, LINEAR, _weights(LINEAR, 1))


def test_compiled_batch_shows_no_weight_and_is_not_pickled() -> None:
    weights = _weights(LINEAR, 1)
    compiled = compile_batch(plan_batch(LINEAR, weights, Declared(-1, 1)), LINEAR, weights)
    assert repr(compiled) == "<secret>"
    with pytest.raises(TypeError, match="not pickled"):
        compiled.__reduce__()


def test_batch_costs_measured_with_a_clock_that_counts_residues_predict_the_count() -> None:
    """The clock ticks by what is known to be done, so that the separation of costs is checked without timing anything."""
    ticks = iter(np.cumsum(np.ones(10_000)))
    costs = measure_batch_costs(PARAMETER_SETS["batch-1"], lambda: float(next(ticks)), repetitions=1)
    assert min(dataclasses.astuple(costs)) > 0
    exact = BatchCosts(product=1.0, taken=0.0, mapped=0.0, squared=0.0, answered=7.0)
    places = 4096 * 3
    assert exact.seconds([(128, 784, 128 * 784), (10, 128, 1_280)], PARAMETER_SETS["batch-2"]) == places * (
        2 * 128 * 784 + 3 * 1_280 + 3 * 10 * 7
    )


@pytest.mark.parametrize(
    ("value", "expected"), [(75.07, 76.0), (76.0, 76.0), (0.00123, 0.0013), (1.0, 1.0), (0.0, 0.0), (99.01, 100.0)]
)
def test_rounding_up_to_two_digits_is_never_smaller(value: float, expected: float) -> None:
    assert rounded_up(value) == expected
