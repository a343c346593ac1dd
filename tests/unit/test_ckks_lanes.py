"""Lanes, ranges of features and offers: what an owner is told before anything is published."""

from __future__ import annotations

import itertools
from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.encrypted.commitment import SALT_BYTES, commit_model, is_committed
from protocols.ckks.batch_costs import BatchCosts
from protocols.ckks.costs import Primitive, PrimitiveCosts
from protocols.ckks.lanes import plan_lanes, samples_that_tell
from protocols.ckks.latency_planning import Declared
from protocols.ckks.machine import REFERENCE_MACHINE, Machine, measured_machine
from protocols.ckks.network import support
from protocols.ckks.offers import Validation, approximated, measure, offers, proposed_limit, ranges_of
from protocols.ckks.parameters import PARAMETER_SETS, ParameterSet
from protocols.ckks.sample_ranges import fold_ranges, scaled
from protocols.errors import ConfideError, ErrorCode
from protocols.model.layers import Convolution, Flatten, Linear, Relu, Sigmoid, Softmax, Square, Tanh
from protocols.model.reference import logits
from protocols.model.spec import ModelSpec
from tests.support.encrypted_models import random_weights

DECLARED = Declared(-1.0, 1.0)
LINEAR = ModelSpec.chain(30, only=Linear(1), end=Sigmoid())
SQUARED = ModelSpec.chain(20, first=Linear(8), act=Square(), last=Linear(3), end=Softmax())
DEEP = ModelSpec.chain(784, first=Linear(8), act=Square(), second=Linear(4), again=Square(), last=Linear(1))
TANH = ModelSpec.chain(6, first=Linear(5), act=Tanh(), last=Linear(1), end=Sigmoid())
RELU = ModelSpec.chain(6, first=Linear(5), act=Relu(), last=Linear(3), end=Softmax())
ROWS = np.random.default_rng(4).uniform(-1, 1, (60, 6))


def test_all_lanes_that_can_be_are_planned_and_the_packed_one_holds_several_samples() -> None:
    found = plan_lanes(SQUARED, random_weights(SQUARED, seed=1), DECLARED, lanes=())
    assert set(found.plans) == {"latency", "packed", "batch"}
    assert found.plans["latency"].samples == 1
    assert found.plans["packed"].samples > 1
    assert found.plans["packed"].parameters == found.plans["latency"].parameters
    assert found.plans["batch"].samples == found.plans["batch"].parameters.slots


@pytest.mark.parametrize(("spec", "known_after"), [(LINEAR, 31), (SQUARED, 231), (DEEP, 0)])
def test_model_is_known_after_as_many_samples_as_its_polynomial_has_coefficients(spec: ModelSpec, known_after: int) -> None:
    assert samples_that_tell(support(spec)) == known_after


def test_network_with_a_square_is_solved_for_from_so_many_samples_and_not_from_one_fewer() -> None:
    spec = ModelSpec.chain(4, first=Linear(3), act=Square(), last=Linear(1))
    weights = random_weights(spec, seed=3)
    count = plan_lanes(spec, weights, DECLARED, lanes=["latency"]).known_after
    assert count == 15
    rows = np.random.default_rng(1).uniform(-1, 1, (count + 20, 4))
    pairs = [(a, b) for a in range(5) for b in range(a, 5)]
    one = np.column_stack([rows, np.ones(len(rows))])
    monomials = np.column_stack([one[:, a] * one[:, b] for a, b in pairs])
    answers = logits(spec, weights, rows)[:, 0]
    for used, is_known in ((count, True), (count - 1, False)):
        solved, *_ = np.linalg.lstsq(monomials[:used], answers[:used], rcond=None)
        assert bool(np.abs(monomials @ solved - answers).max() < 1e-9) is is_known


def test_linear_layers_without_activation_between_are_one_linear_model() -> None:
    spec = ModelSpec.chain(6, first=Linear(5), last=Linear(2), end=Softmax())
    assert plan_lanes(spec, random_weights(spec, seed=1), DECLARED, lanes=["latency"]).known_after == 7


def test_declared_decimals_make_every_lane_coarser_but_never_finer_than_the_noise() -> None:
    weights = random_weights(SQUARED, seed=1)
    finest = plan_lanes(SQUARED, weights, DECLARED, lanes=())
    coarse = plan_lanes(SQUARED, weights, DECLARED, lanes=(), decimals=1)
    fine = plan_lanes(SQUARED, weights, DECLARED, lanes=(), decimals=9)
    for lane, plan in finest.plans.items():
        assert coarse.plans[lane].precision == max(0.1, plan.precision)
        assert fine.plans[lane].precision == plan.precision
    assert coarse.decimals == 1


def test_plans_state_the_costs_of_the_machine_that_answers_and_differ_in_nothing_else() -> None:
    weights, usual = random_weights(LINEAR, seed=1), REFERENCE_MACHINE

    def slower(parameters: ParameterSet) -> PrimitiveCosts:
        costs = usual.latency(parameters)
        return replace(costs, seconds={each: 3 * seconds for each, seconds in costs.seconds.items()})

    threefold = BatchCosts(*(3 * each for each in astuple(usual.batch(PARAMETER_SETS["batch-1"]))))
    found = plan_lanes(LINEAR, weights, DECLARED, lanes=())
    slow = plan_lanes(LINEAR, weights, DECLARED, lanes=(), machine=Machine(slower, lambda _: threefold))
    for lane, plan in found.plans.items():
        again = slow.plans[lane]
        # Two digits are told: of each of both one part in twenty at most.
        assert again.predictions.server_seconds == pytest.approx(3 * plan.predictions.server_seconds, rel=0.1)
        seconds = plan.predictions.server_seconds
        assert replace(again, predictions=replace(again.predictions, server_seconds=seconds)) == plan


def test_a_machine_measures_each_parameter_set_once() -> None:
    readings = itertools.count()
    machine = measured_machine(lambda: float(next(readings)))
    first = machine.latency(PARAMETER_SETS["latency-1b"])
    taken = next(readings)
    assert machine.latency(PARAMETER_SETS["latency-1b"]) is first
    assert next(readings) == taken + 1
    # A tick between the readings around every action.
    assert set(first.seconds.values()) == {1.0}
    assert {primitive for primitive, _ in first.seconds} == set(Primitive) - {Primitive.DROP, Primitive.RESCALE}


def test_lane_that_cannot_be_is_left_out_with_its_reason_unless_it_was_asked_for() -> None:
    weights = random_weights(TANH, seed=1)
    made = approximated(TANH, weights, {"act": (-4.0, 4.0)}, 3)
    found = plan_lanes(*made, DECLARED, lanes=())
    assert "batch" not in found.plans
    assert "degree 3" in found.refused["batch"]
    with pytest.raises(ConfideError) as error:
        plan_lanes(*made, DECLARED, lanes=["batch"])
    assert error.value.code is ErrorCode.INVALID_MODEL


@pytest.mark.parametrize(("lanes", "decimals"), [(["fast"], None), (["batch", "batch"], None), ([], -1), ([], 10)])
def test_unknown_lane_or_number_of_digits_is_refused(lanes: list[str], decimals: int | None) -> None:
    with pytest.raises(ConfideError) as error:
        plan_lanes(LINEAR, random_weights(LINEAR, seed=1), DECLARED, lanes=lanes, decimals=decimals)
    assert error.value.code is ErrorCode.INVALID_ARGUMENT


@given(
    lows=st.lists(st.integers(-10_000, 10_000), min_size=6, max_size=6),
    widths=st.lists(st.integers(1, 10_000), min_size=6, max_size=6),
    seed=st.integers(0, 100),
)
def test_folded_model_computes_of_scaled_samples_what_the_model_computes_of_samples(
    lows: list[int], widths: list[int], seed: int
) -> None:
    ranges = [(str(low), str(low + width)) for low, width in zip(lows, widths, strict=True)]
    source = np.random.default_rng(seed)
    rows = np.array(lows) + np.array(widths) * source.random((9, 6))
    weights = random_weights(RELU, seed=seed)
    # Weights as a model of such rows has them: what each feature moves is of order one.
    weights["first.weight"] = (weights["first.weight"] / np.array(widths)).astype(np.float32)
    folded = fold_ranges(RELU, weights, ranges)
    units = scaled(rows, ranges)
    assert np.abs(units).max() <= 1
    # Both round every weight to float32 once: 2^-24 of each term of a sum, in the model and in the folded one.
    terms = (np.abs(rows) @ np.abs(weights["first.weight"]).T + np.abs(weights["first.bias"])).max()
    bound = 2.0**-22 * terms * np.abs(weights["last.weight"]).sum(axis=1).max()
    assert np.abs(logits(*folded, units) - logits(RELU, weights, rows)).max() < bound


def test_sample_outside_its_range_is_refused_by_row_and_feature_without_its_value() -> None:
    with pytest.raises(ConfideError) as error:
        scaled(np.array([[0.5, 5.0], [0.5, 777.0]]), [("0", "1"), ("0", "10")])
    assert [problem.where for problem in error.value.problems] == ["row 1, feature 1"]
    assert "777" not in str(error.value)


def test_sample_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfideError):
        scaled(np.array([[np.nan]]), [("0", "1")])


def test_ranges_are_not_worked_into_convolutions() -> None:
    spec = ModelSpec.chain((1, 2, 3), conv=Convolution(1, (2, 2), (1, 1), (0, 0)), flat=Flatten(), out=Linear(1))
    with pytest.raises(ConfideError) as error:
        fold_ranges(spec, random_weights(spec, seed=1), [("0", "1")] * 6)
    assert error.value.code is ErrorCode.INVALID_MODEL


def test_offers_of_an_odd_function_around_zero_leave_out_degrees_that_add_nothing() -> None:
    weights = random_weights(TANH, seed=1)
    found = offers(TANH, weights, DECLARED, ranges={"act": (-3.0, 3.0)}, validation=Validation(ROWS, None))
    assert [offer.degree for offer in found] == [3, 5, 7]
    assert all(offer.lanes is not None for offer in found)


def test_degree_that_only_a_straight_line_has_is_not_chosen_either() -> None:
    with pytest.raises(ConfideError) as error:
        approximated(TANH, random_weights(TANH, seed=1), {"act": (-3.0, 3.0)}, 2)
    assert error.value.code is ErrorCode.INVALID_ARGUMENT


def test_ranges_come_from_rows_or_are_stated() -> None:
    weights = random_weights(TANH, seed=1)
    low, high = ranges_of(TANH, weights, None, Validation(ROWS, None))["act"]
    arguments = ROWS @ weights["first.weight"].T + weights["first.bias"]
    assert low < arguments.min() < arguments.max() < high
    assert ranges_of(TANH, weights, (-2.0, 2.0), None) == {"act": (-2.0, 2.0)}
    with pytest.raises(ConfideError):
        ranges_of(TANH, weights, None, None)


def test_offer_measures_the_polynomial_model_itself_on_the_validation_rows() -> None:
    weights = random_weights(RELU, seed=2)
    truth = logits(RELU, weights, ROWS).argmax(axis=1).astype(np.float64)
    ranges = ranges_of(RELU, weights, None, Validation(ROWS, None))
    found = offers(RELU, weights, DECLARED, ranges=ranges, validation=Validation(ROWS, truth))
    for offer in found:
        own = logits(*approximated(RELU, weights, ranges, offer.degree), ROWS)
        assert offer.measured is not None
        assert offer.measured.plain_accuracy == 1.0
        assert offer.measured.accuracy == offer.measured.agreement == float((own.argmax(axis=1) == truth).mean())
        assert offer.measured.largest_difference == pytest.approx(float(np.abs(own - logits(RELU, weights, ROWS)).max()))


def test_model_of_real_values_is_measured_by_its_error() -> None:
    spec = ModelSpec.chain(6, only=Linear(1))
    weights = random_weights(spec, seed=1)
    truth = logits(spec, weights, ROWS)[:, 0] + 0.5
    found = measure((spec, weights), (spec, weights), Validation(ROWS, truth))
    assert (found.agreement, found.accuracy) == (None, None)
    assert found.error == pytest.approx(0.5)


@pytest.mark.parametrize(("largest", "limit"), [(3.7, 7.4), (0.071, 0.15), (1234.0, 2500.0), (0.0, 0.001)])
def test_proposed_limit_has_two_digits_and_room(largest: float, limit: float) -> None:
    assert proposed_limit(largest) == pytest.approx(limit)


def test_commitment_binds_salt_manifest_and_weights_and_where_one_ends() -> None:
    salt = bytes(SALT_BYTES)
    made = commit_model(b"manifest", b"weights", salt=salt)
    assert is_committed(made, b"manifest", b"weights", salt=salt)
    for manifest, weights, other in (
        (b"manifestw", b"eights", salt),
        (b"manifest", b"weightz", salt),
        (b"manifest", b"weights", b"\1" * 32),
    ):
        assert not is_committed(made, manifest, weights, salt=other)
    with pytest.raises(ConfideError):
        commit_model(b"", b"", salt=b"short")
