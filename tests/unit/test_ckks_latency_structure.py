"""The latency lane's plans, evaluated in the clear: every number of an answer is a declared output, whatever the architecture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from protocols.ckks.costs import Primitive
from protocols.ckks.latency_planning import Declared, counts_of, plan_latency
from protocols.ckks.layouts import Layout, LayoutMisfit, diagonals, orders
from protocols.ckks.network import network, support
from protocols.ckks.program import affine_scales
from protocols.ckks.schedule import Rescale, count_roundings, grid
from protocols.errors import ConfideError, ErrorCode
from protocols.model import reference
from protocols.model.layers import AveragePool, Convolution, Flatten, Linear, MaxPool, Relu, Square
from protocols.model.spec import ModelSpec
from tests.support.encrypted_models import (
    DEEP,
    ENDS_IN_SQUARE,
    LOGISTIC,
    PERCEPTRON,
    RESIDUAL,
    SIGNAL,
    STRIDED,
    WIDENING,
    declared_numbers,
    evaluated_in_the_clear,
    random_weights,
    with_polynomial,
)

UNIT = Declared(-1.0, 1.0)
MODELS = {
    "logistic": LOGISTIC,
    "perceptron": PERCEPTRON,
    "strided": STRIDED,
    "deep": DEEP,
    "residual": RESIDUAL,
    "signal": SIGNAL,
    "widening": WIDENING,
    "ends in a square": ENDS_IN_SQUARE,
    "cubic": with_polynomial("0.5", "0.2", "0", "-0.05"),
    "even quartic": with_polynomial("0.2", "0.5", "0.4", "0", "-0.1"),
    "odd of degree seven": with_polynomial("0", "0.9", "0", "-0.3", "0", "0.1", "0", "-0.02"),
    "all seven": with_polynomial("0.1", "-0.2", "0.3", "0.4", "-0.5", "0.6", "-0.7", "0.8"),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("samples", [1, 4])
def test_every_number_of_an_answer_is_a_declared_output(name: str, samples: int) -> None:
    spec = MODELS[name]
    weights = random_weights(spec)
    plan = plan_latency(spec, weights, UNIT, samples=samples)
    rows = np.random.default_rng(1).uniform(-1, 1, (samples, spec.input_features))
    expected = declared_numbers(plan, reference.logits(spec, weights, rows))
    # float64, and coefficients kept to twelve places.
    assert np.abs(evaluated_in_the_clear(plan, spec, weights, rows) - expected).max() < 1e-9
    assert plan.predictions.output_limit >= np.abs(expected).max()


@pytest.mark.parametrize("name", ["perceptron", "strided", "deep", "residual"])
def test_plan_of_other_weights_differs_in_scales_and_predictions_alone(name: str) -> None:
    spec = MODELS[name]
    zeros = {key: np.zeros_like(values) for key, values in random_weights(spec).items()}
    plans = [plan_latency(spec, weights, replace(UNIT, output_limit=4.0)) for weights in (random_weights(spec), zeros)]
    assert counts_of(plans[0], spec) == counts_of(plans[1], spec)
    for field in ("keys", "input_slots", "output_slots", "fresh_level", "parameters", "answer_scale"):
        assert getattr(plans[0], field) == getattr(plans[1], field), field
    assert [replace(step, scale=1.0) for step in plans[0].steps] == [replace(step, scale=1.0) for step in plans[1].steps]


def test_convolution_by_written_out_windows_needs_a_product_per_channel() -> None:
    spec = ModelSpec.chain(
        (1, 28, 28), conv=Convolution(4, (7, 7), (3, 3), (0, 0)), act=Square(), flat=Flatten(), wide=Linear(64), again=Square(),
        out=Linear(10),
    )  # fmt: skip
    plan = plan_latency(spec, random_weights(spec), replace(UNIT, output_limit=8.0))
    counts = counts_of(plan, spec)
    assert plan.parameters.name == "latency-5b"
    assert counts[Primitive.MULTIPLY_PLAIN, plan.fresh_level] == 4
    # A rotation of the input, one of the sums, four that fold 4096 slots to 256: all before the one rescale.
    assert counts[Primitive.ROTATE, plan.fresh_level] <= 6
    assert counts[Primitive.RESCALE, plan.fresh_level] == 1
    assert sum(count for (kind, _), count in counts.items() if kind is Primitive.ROTATE) <= 38
    assert plan.predictions.key_bytes < 9 << 20


def test_perceptron_of_784_needs_26_products_and_no_more_than_24_rotations() -> None:
    spec = ModelSpec.chain(784, first=Linear(128), act=Square(), out=Linear(10))
    plan = plan_latency(spec, random_weights(spec), Declared(0.0, 1.0))
    counts = counts_of(plan, spec)
    assert counts[Primitive.MULTIPLY_PLAIN, 2] == 26  # 784 x 128 weights in 4096 slots are 24.5
    assert sum(count for (kind, _), count in counts.items() if kind is Primitive.ROTATE) <= 24
    assert plan.predictions.key_bytes < 4 << 20
    assert plan.predictions.upload_bytes < 150 << 10


def test_packed_logistic_regression_puts_64_samples_into_one_small_ciphertext() -> None:
    plan = plan_latency(LOGISTIC, random_weights(LOGISTIC), UNIT, samples=64)
    assert plan.parameters.ring_degree == 4096
    assert plan.predictions.upload_bytes / 64 < 0.5 * 1024
    assert sum(count for (kind, _), count in counts_of(plan, LOGISTIC).items() if kind is Primitive.ROTATE) == 0
    assert plan.keys.rotations == ()
    assert sorted(set(plan.output_slots[0])) == list(range(64))
    assert plan.client_activation == "sigmoid"


def test_more_features_than_the_smallest_ring_holds_take_a_larger_one() -> None:
    spec = ModelSpec.chain(3000, out=Linear(1))
    assert plan_latency(spec, random_weights(spec), UNIT).parameters.ring_degree == 8192


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (ModelSpec.chain(4, first=Linear(4), act=Relu(), out=Linear(1)), "layer 'act' is a relu"),
        (ModelSpec.chain((1, 4, 4), pool=MaxPool((2, 2), (2, 2), (0, 0)), flat=Flatten(), out=Linear(1)), "'pool' is a max_pool"),
        (ModelSpec.chain(20_000, out=Linear(1)), "the input has more numbers than"),
        (
            ModelSpec.chain(2, **{f"l{n}": (Linear(2) if n % 2 == 0 else Square()) for n in range(11)}),  # type: ignore[arg-type]
            "multiplicative depth of 11",
        ),
    ],
)
def test_model_that_cannot_be_computed_is_refused_with_the_reason(spec: ModelSpec, says: str) -> None:
    with pytest.raises(ConfideError, match=says) as caught:
        plan_latency(spec, random_weights(spec), UNIT)
    assert caught.value.code is ErrorCode.INVALID_MODEL
    assert caught.value.remedy != ErrorCode.INVALID_MODEL.entry.remedy


def test_outputs_too_large_for_the_parameters_are_refused() -> None:
    spec = PERCEPTRON
    large = {name: values * np.float32(1e4) for name, values in random_weights(spec).items()}
    with pytest.raises(ConfideError, match="leave no room"):
        plan_latency(spec, large, UNIT)


@pytest.mark.parametrize("declared", [Declared(1.0, 1.0), Declared(0.0, float("inf")), Declared(float("nan"), 1.0)])
def test_range_that_is_none_is_refused(declared: Declared) -> None:
    with pytest.raises(ConfideError, match="range"):
        plan_latency(LOGISTIC, random_weights(LOGISTIC), declared)


@pytest.mark.parametrize("seed", range(25))
def test_diagonals_between_random_layouts_compute_the_matrix(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs, outputs = int(rng.integers(1, 40)), int(rng.integers(1, 40))
    known = [orders((size,))["flat"] for size in (inputs, outputs)]
    stretches = [1 << int(rng.integers(0, 4)) for _ in known]
    outgoing = Layout("flat", known[1], stretches[1], len(known[1]) * stretches[1])
    incoming = Layout("flat", known[0], stretches[0], len(known[0]) * stretches[0])
    if rng.random() < 0.4:  # an input that does not fill its period, with an odd stretch
        period = max(256, outgoing.period)
        incoming = Layout("flat", np.arange(inputs), period // inputs, period)
    matrix = rng.normal(size=(outputs, inputs)) * (rng.random((outputs, inputs)) < rng.choice([0.1, 1.0]))
    rows, columns = map(np.asarray, np.nonzero(matrix))
    if not len(rows):
        return
    found = diagonals(rows, columns, incoming, outgoing)
    x = rng.normal(size=inputs)
    slots = np.append(x, 0.0)[np.tile(incoming.one_period, found.working // incoming.period)]
    total = np.zeros(found.working)
    for number in found.used:
        vector = np.zeros(found.working)
        at = found.numbers == number
        assert len(np.unique(found.slots[at])) == at.sum()  # no slot is written twice
        vector[found.slots[at]] = matrix[rows, columns][found.entries[at]]
        total += vector * np.roll(slots, -number * found.unit)
    for fold in found.folds:
        total = total + np.roll(total, -fold)
    expected = np.append(matrix @ x, 0.0)[np.tile(outgoing.one_period, found.working // outgoing.period)]
    assert np.abs(total - expected).max() < 1e-12


def test_result_longer_than_an_input_that_leaves_slots_empty_is_refused() -> None:
    incoming = Layout("flat", np.arange(3), 1, 4)
    with pytest.raises(LayoutMisfit):
        diagonals(np.array([0]), np.array([0]), incoming, Layout("flat", np.arange(8), 1, 8))


def test_grid_holds_every_diagonal_once_with_babies_below_the_split() -> None:
    used = (0, 1, 5, 9, 10, 31)
    found = grid(used, 4)
    assert sorted(number for _, members in found.groups for _, number in members) == list(used)
    assert all(giant + baby == number and 0 <= baby < 4 for giant, members in found.groups for baby, number in members)
    assert [giant for giant, _ in found.groups] == sorted((giant for giant, _ in found.groups), reverse=True)


@pytest.mark.parametrize("name", ["perceptron", "strided", "deep", "residual", "cubic"])
@pytest.mark.parametrize("rescale", ["groups", "sum"])
def test_rescaling_before_giants_or_after_folds_gives_the_same_answer(name: str, rescale: str) -> None:
    spec = MODELS[name]
    weights = random_weights(spec)
    planned = plan_latency(spec, weights, UNIT)
    plan = replace(planned, steps=tuple(replace(step, rescale=step.rescale and rescale) for step in planned.steps))
    rows = np.random.default_rng(1).uniform(-1, 1, (1, spec.input_features))
    expected = declared_numbers(plan, reference.logits(spec, weights, rows))
    assert np.abs(evaluated_in_the_clear(plan, spec, weights, rows) - expected).max() < 1e-9
    if rescale == "sum" and name == "perceptron":
        assert counts_of(plan, spec)[Primitive.RESCALE, plan.fresh_level] == 1


@pytest.mark.parametrize(("number", "rescale"), [(1, ""), (-1, "sum"), (1, "sometimes")])
def test_plan_that_rescales_its_last_step_or_another_one_not_at_all_is_refused(number: int, rescale: str) -> None:
    plan = plan_latency(PERCEPTRON, random_weights(PERCEPTRON), UNIT)
    steps = list(plan.steps)
    steps[number] = replace(steps[number], rescale=rescale)
    with pytest.raises(ConfideError, match="not those of the model") as caught:
        counts_of(replace(plan, steps=tuple(steps)), PERCEPTRON)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("rescale", list(Rescale))
def test_roundings_are_those_of_rotations_and_rescales_at_the_scale_between_layers(rescale: Rescale) -> None:
    # 16 diagonals by fours, two folds: variances in units of one rounding, carried through the step by hand.
    babies = sum(range(4)) / 4  # each baby is rotated from the one before
    gathered = 0.0
    for giant in range(4):
        gathered += (giant > 0) + 1  # a rotation of what was gathered, and a rescaled group
    gathered += 1  # the rotation that ends it, counted where the first giant is not zero
    for _ in range(2):
        gathered = 2 * gathered + 1
    expected = {Rescale.GROUPS: gathered, Rescale.SUM: 1.0, Rescale.NOTHING: 0.0}[rescale]
    before, after = count_roundings(tuple(range(16)), 4, 2, rescale)
    assert before == babies
    assert after == pytest.approx(expected, rel=0.2)


def test_square_lands_on_the_scale_of_the_level_below() -> None:
    parameters = plan_latency(WIDENING, random_weights(WIDENING), UNIT).parameters
    scales = affine_scales(parameters, 2.0**27)
    for level in range(1, parameters.levels):
        assert scales[level] ** 2 / parameters.primes[level] == pytest.approx(scales[level - 1], rel=1e-12)


def test_intervals_hold_every_row_and_layers_without_activation_are_one_node() -> None:
    weights = random_weights(DEEP)
    found = network(DEEP, weights)
    assert len(found.nodes) == len(support(DEEP).nodes) == 5
    rows = np.random.default_rng(2).uniform(-1, 1, (200, DEEP.input_features))
    for values, (low, high) in zip(found.run(rows), found.intervals(-1.0, 1.0), strict=True):
        assert (values >= low - 1e-12).all()
        assert (values <= high + 1e-12).all()
    assert np.abs(found.run(rows)[-1] - reference.logits(DEEP, weights, rows)).max() < 1e-11


def test_pool_with_a_border_counts_its_zeros() -> None:
    spec = ModelSpec.chain((2, 5, 5), pool=AveragePool((3, 3), (2, 2), (1, 1)), flat=Flatten(), out=Linear(2))
    weights = random_weights(spec)
    rows = np.random.default_rng(3).uniform(-1, 1, (4, 50))
    assert np.abs(network(spec, weights).run(rows)[-1] - reference.outputs(spec, weights, rows)).max() < 1e-12
