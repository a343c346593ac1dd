"""What is worked out once and looked up afterwards: it says the same as anew, and it does not grow with a training's steps."""

from __future__ import annotations

import gc
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.job import Job, JobType, Task
from protocols.model.layers import Linear, Relu
from protocols.model.spec import ModelSpec
from protocols.mpc import combination, multiples
from protocols.mpc.channels import ZeroExchange
from protocols.mpc.combination import Combination, Term
from protocols.mpc.engine import Engine
from protocols.mpc.material.context import ShapeMaterial, Window
from protocols.mpc.multiples import ONE, floor_log2, multiple_of, times
from protocols.mpc.planning import derive_plan
from protocols.mpc.programs import factors
from protocols.mpc.programs.catalogue import Brought, program_of
from protocols.mpc.tapes import RecordingTape
from protocols.mpc.tensor import SharedTensor, arithmetic, comparisons, shapes, use_engine
from protocols.mpc.tensor.recording import Context
from protocols.mpc.values import SharedValue, ValueView
from protocols.plan.plan import Plan
from protocols.training import Loss
from tests.support.jobs import sgd
from tests.support.mpc_world import a_job
from tests.support.tensor_world import run_tensors

CACHES: tuple[Any, ...] = (
    multiples._multiple,
    multiples.times,
    combination._settling,
    combination._joint_form,
    arithmetic._fit,
    comparisons._kept_bits,
    shapes._reshaped,
    factors._scaling,
    factors._term_scaling,
)
FRACTIONS = st.fractions(min_value=-(2**20), max_value=2**20, max_denominator=2**20).filter(bool)


def forget() -> None:
    for cache in CACHES:
        cache.cache_clear()


def a_network(rows: int, batch: int, width: int, momentum: str = "0") -> Job:
    model = ModelSpec.chain(4, first=Linear(width), relu=Relu(), last=Linear(3))
    training = sgd(2, batch, "0.125", momentum, loss=Loss.CROSS_ENTROPY)
    return a_job(JobType.TRAIN, rows={"alpha": rows}, model=model, task=Task.CLASSES, training=training)


JOBS = {
    "network": a_network(32, 8, 5),
    "network of another width": a_network(32, 8, 6),
    "network with other batches and a rest": a_network(33, 16, 5),
    "network with momentum": a_network(32, 8, 5, "0.9"),
    "logistic regression": a_job(JobType.TRAIN, rows={"alpha": 20}, training=sgd(1, 6, "0.3")),
    "linear regression": a_job(
        JobType.TRAIN, rows={"alpha": 20}, task=Task.REAL, training=sgd(1, 5, "0.3", loss=Loss.MEAN_SQUARED_ERROR)
    ),
}


def anew(job: Job) -> Plan:
    forget()
    return derive_plan(job)


def test_plans_do_not_depend_on_what_was_planned_before() -> None:
    apart = {name: anew(job) for name, job in JOBS.items()}
    forget()
    for order in (list(JOBS), list(reversed(JOBS))):
        assert {name: derive_plan(JOBS[name]) for name in order} == apart


def test_results_are_the_same_when_everything_was_forgotten_in_between() -> None:
    inputs = {"x": np.array([[1.5, -2.0], [0.25, 3.0]]), "w": np.array([[1.0, 0.5], [-1.5, 2.0]])}

    def program(forgets: bool) -> Any:
        def compute(tensors: Any) -> Any:
            third = tensors["x"].div(3)
            if forgets:
                forget()
            # Both terms have the same factor, made before and after.
            joint = third.add(tensors["w"].div(3))
            assert len(joint.combination.terms) == 1
            product = joint.affine(tensors["w"])
            if forgets:
                forget()
            return {"result": product.add(joint).relu()}

        return compute

    kept, forgot = (run_tensors(program(forgets), inputs) for forgets in (False, True))
    assert kept.operations == forgot.operations
    expected = np.maximum((inputs["x"] + inputs["w"]) / 3 @ inputs["w"].T + (inputs["x"] + inputs["w"]) / 3, 0)
    # One unit of 2^-16 for the rectifier's truncation, 2^-16 of each of two factors of 1/3 below 8.
    for run in (kept, forgot):
        assert np.abs(run.values["result"] - expected).max() <= (1 + 2 * 8) * 2.0**-16


@given(FRACTIONS, st.integers(1, 2**20))
def test_a_multiple_knows_its_bound(factor: Fraction, rows: int) -> None:
    multiple = multiple_of(factor, rows)
    assert (multiple.factor, multiple.rows, multiple.is_unit) == (factor, rows, factor == 1)
    assert Fraction(2) ** multiple.limit_log2 <= abs(factor) * rows < Fraction(2) ** (multiple.limit_log2 + 1)
    assert Fraction(2) ** floor_log2(factor) <= abs(factor) < Fraction(2) ** (floor_log2(factor) + 1)


@given(FRACTIONS, FRACTIONS, st.integers(1, 64), st.integers(1, 64))
def test_multiples_are_multiplied_with_their_rows(one: Fraction, two: Fraction, rows: int, more: int) -> None:
    product = times(multiple_of(one, rows), multiple_of(two, more))
    assert (product.factor, product.rows) == (one * two, rows * more)


def test_one_object_stands_for_a_factor_and_its_rows() -> None:
    forget()
    assert multiple_of(Fraction(3, 3)) is multiple_of(Fraction(1))
    assert (ONE.factor, ONE.rows, ONE.is_unit) == (Fraction(1), 1, True)
    assert multiple_of(Fraction(1, 128), 128) is multiple_of(Fraction(2, 256), 128)
    assert multiple_of(Fraction(1, 128), 128) is not multiple_of(Fraction(1, 128))


def test_terms_of_factors_that_were_forgotten_are_still_joined() -> None:
    def a_term(factor: Fraction, rows: int = 1) -> Combination:
        value = SharedValue(np.array([6, 9]), scale_bits=16, magnitude_bits=5)
        return Combination((Term(ValueView(value), multiple_of(factor, rows)),))

    old = a_term(Fraction(1, 3), 3)
    forget()
    joint = old.plus(a_term(Fraction(1, 3), 3)).plus(a_term(Fraction(-1, 3), 3))
    assert [term.view.share.tolist() for term in joint.terms] == [[6, 9]]
    # Another number of rows has other limits.
    assert len(old.plus(a_term(Fraction(1, 3))).terms) == 2


@pytest.mark.parametrize(("scale", "magnitude"), [(16, 20), (24, 20), (16, 50), (40, 62)])
def test_bounds_follow_the_format_at_hand(scale: int, magnitude: int) -> None:
    """The same factors with another scale or bound are another case."""
    for factor in (Fraction(1), Fraction(1, 3), Fraction(5, 8)):
        for other_scale, other_magnitude in ((16, 20), (scale, magnitude)):
            value = SharedValue(np.array([1]), scale_bits=other_scale, magnitude_bits=other_magnitude)
            term = Combination.of(value).times(factor).whole()
            exact = factor.denominator & (factor.denominator - 1) == 0
            # 5 needs three bits beside the value, which has 62 at most.
            fits = other_magnitude + (factor.numerator - 1).bit_length() <= 62
            assert (term is not None) == (exact and fits)
            if term is not None:
                assert term.view.value.scale_bits == other_scale + factor.denominator.bit_length() - 1
                assert term.view.value.magnitude_bits == other_magnitude + (factor.numerator - 1).bit_length()


def test_nothing_grows_with_the_steps_of_a_training() -> None:
    job = a_network(32, 8, 5, "0.9")
    tape, material = RecordingTape(), ShapeMaterial()
    engine = Engine(index=0, parties=2, exchange=ZeroExchange(), material=material, tape=tape)
    plan = derive_plan(job)
    seen = []
    with use_engine(engine):
        program = program_of(job, engine, of_zeros(job))
        for run in plan.runs():
            tape.operations = []
            with engine.segment(Window(run.start, run.stop) if run.stop else None):
                program.run_segment(run.segment)
            if run.segment == "range check":
                gc.collect()
                live = Counter(type(item).__name__ for item in gc.get_objects() if type(item) in KINDS)
                seen.append((live, [cache.cache_info().currsize for cache in CACHES]))
    assert len(seen) == 2
    assert seen[0] == seen[1]


KINDS = (SharedTensor, SharedValue, ValueView, Term, Combination, Context)


def of_zeros(job: Job) -> Brought:
    zeros = {spec.name: np.zeros(spec.shape, np.int64) for spec in job.model.parameters}
    return Brought(
        features=np.zeros((job.num_rows, job.model.input_features), np.int64),
        labels=np.zeros((job.num_rows, job.label_width), np.int64),
        initial_weights={name: values.astype(np.float64) for name, values in zeros.items()},
        training_state=zeros,
        model_share=zeros,
        query_share=None,
    )


def test_leaves_of_one_sum_have_gradients_of_their_own() -> None:
    def program(tensors: Any) -> Any:
        start = SharedTensor.ones((2, 2))
        (tensors["x"] + tensors["y"]).backward(start)
        for name, more in (("x", 1.0), ("y", 2.0)):
            tensors[name].grad.add_(more)
        return {"x": tensors["x"].grad, "y": tensors["y"].grad, "start": start}

    run = run_tensors(program, {"x": np.eye(2), "y": np.eye(2)}, grad=("x", "y"))
    assert {name: set(values.flat) for name, values in run.values.items()} == {"x": {2.0}, "y": {3.0}, "start": {1.0}}


def test_a_leaf_does_not_keep_the_gradient_that_it_was_given() -> None:
    def program(tensors: Any) -> Any:
        start = SharedTensor.ones((2,))
        tensors["x"].backward(start)
        tensors["x"].grad.add_(1.0)
        return {"start": start, "x": tensors["x"].grad}

    run = run_tensors(program, {"x": np.zeros(2)}, grad=("x",))
    assert {name: set(values.flat) for name, values in run.values.items()} == {"start": {1.0}, "x": {2.0}}
