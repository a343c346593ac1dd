"""The plan: equal at all parties, equal to what is measured, refused when altered."""

from __future__ import annotations

import copy
import time
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, OutputKind
from protocols.links import MAX_ARRAYS
from protocols.model.layers import Linear
from protocols.model.spec import ModelSpec
from protocols.mpc import planning
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.plan.estimate import LOOPBACK, estimate
from protocols.plan.operations import Open
from protocols.plan.plan import Part, Plan, Run, Stage, first_runs, runs_of
from tests.support.jobs import sgd
from tests.support.mpc_world import a_job, a_model, random_ring, run_world, split
from tests.support.private_training import a_private_job, private_sgd, terms
from tests.support.programs import assert_measured_as_planned

FEATURES = 5


def inputs_of(job: Job) -> dict[str, LocalInputs]:
    """Rows, weights, model and samples that fit a job."""
    generator = np.random.default_rng(3)
    computing = job.computing_parties
    parameters = {spec.name: spec.shape for spec in job.model.parameters}
    model = {name: split(random_ring(1, shape) >> 36, len(computing)) for name, shape in parameters.items()}
    query = None
    if job.query_rows:
        query = split(np.rint(generator.uniform(-1, 1, (job.query_rows, FEATURES)) * 2**16).astype(np.int64), len(computing))
    found = {}
    for party in dict.fromkeys((*computing, *(d.party for d in job.datasets))):
        rows = {
            i: (generator.uniform(-1, 1, (d.num_rows, FEATURES)), generator.integers(0, 2, d.num_rows).astype(np.float64))
            for i, d in enumerate(job.datasets)
            if d.party == party
        }
        computes = party in computing
        found[party] = LocalInputs(
            rows=rows,
            initial_weights={n: np.zeros(s) for n, s in parameters.items()} if job.job_type is JobType.TRAIN else None,
            model_share={n: shares[computing.index(party)] for n, shares in model.items()} if computes else None,
            query_share=query[computing.index(party)] if computes and query else None,
        )
    return found


ROWS = {"alpha": 11, "gamma": 7, "omega": 3}
JOBS = {
    "train": a_job(JobType.TRAIN, features=FEATURES, rows=ROWS),
    "train, one batch": a_job(JobType.TRAIN, features=FEATURES, rows=ROWS, training=sgd(2, 100, "0.3", "0")),
    "train, three parties": a_job(
        JobType.TRAIN, features=FEATURES, rows=ROWS, computing=("alpha", "beta", "omega"), dealer="gamma"
    ),
    "evaluate": a_job(JobType.EVALUATE, features=FEATURES, rows=ROWS),
    "evaluate, three parties": a_job(JobType.EVALUATE, features=FEATURES, rows=ROWS, computing=("beta", "alpha", "delta")),
    "labels": a_job(JobType.INFER, features=FEATURES, query_rows=9, output=OutputKind.LABEL),
    "probabilities": a_job(JobType.INFER, features=FEATURES, query_rows=9, output=OutputKind.PROBABILITY),
    "no bias": a_job(JobType.INFER, features=FEATURES, query_rows=1, model=a_model(FEATURES, bias=False, with_sigmoid=False)),
}


@pytest.mark.parametrize("name", JOBS)
def test_measured_rounds_and_bytes_equal_the_plan(name: str) -> None:
    job = JOBS[name]
    plan = derive_plan(job)
    world = run_world(job, plan, inputs_of(job))
    assert_measured_as_planned(world)
    assert {w.name: w.shape for w in plan.model} == kept_by(job)


def kept_by(job: Job) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what a job keeps."""
    if job.training is None:
        return {}
    kept = ("", "#momentum") if float(job.training.optimiser.momentum) else ("",)
    return {spec.name + state: spec.shape for spec in job.model.parameters for state in kept}


def test_dealer_sends_to_the_last_computing_party_alone() -> None:
    plan = derive_plan(JOBS["train, three parties"])
    assert [(d.receiver, d.opening_bytes) for d in plan.directions if d.sender == "gamma"] == [("omega", 0)]
    assert plan.correction_bytes == next(d.correction_bytes for d in plan.directions if d.sender == "gamma")


def test_owner_that_computes_sends_no_rows() -> None:
    plan = derive_plan(JOBS["train"])
    assert {i.owner: i.sent_bytes for i in plan.inputs} == {"alpha": 0, "gamma": 7 * 6 * 8, "omega": 3 * 6 * 8}


def test_training_step_takes_five_rounds() -> None:
    plan = derive_plan(JOBS["train"])
    rounds = {segment.name: segment.rounds for segment in plan.segments}
    assert rounds == {"open data": 1, "step": 5, "last step": 5, "range check": 8}


def test_plan_of_a_long_training_is_small() -> None:
    job = a_job(JobType.TRAIN, features=FEATURES, rows=ROWS, training=sgd(1000, 2, "0.1", "0.9"))
    plan = derive_plan(job)
    assert plan.num_runs == 1 + 1000 * (11 + 1)
    assert len(canonical_bytes(plan.to_document())) < 8_000


def test_plan_read_from_its_document_is_the_same() -> None:
    for job in JOBS.values():
        plan = derive_plan(job)
        assert Plan.from_document(plan.to_document()) == plan
        assert derive_plan(job).digest == plan.digest


def test_plans_of_different_jobs_differ() -> None:
    assert len({derive_plan(job).digest for job in JOBS.values()}) == len(JOBS)


def _alter(document: dict[str, Any], path: list[Any], value: Any) -> dict[str, Any]:
    altered = copy.deepcopy(document)
    place = altered
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return altered


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["format"], "confide.plan/2"),
        (["engine"], 3),
        (["totals", "rounds"], 1),
        (["segments", 0, "rounds"], 5),
        (["segments", 1, "operations", 0], {"deal": "mask"}),
        (["segments", 1, "operations", 0], {"open": "x", "arrays": [["float64", [1]]]}),
        (["segments", 1, "operations", 0], {"reveal": "x", "arrays": [["uint8", [9]]]}),
        (["segments", 3, "operations", -1], {"open": "x", "arrays": [["uint8", [1]]]}),
        (["totals", "revealed_bits"], 0),
        (["schedule", 0, "parts", 0, "segment"], "unknown"),
        (["schedule", 0, "count"], -1),
        (["schedule", 0, "first_row"], -8),
        (["signals"], 1),
        (["results", 0, "shape"], [1, -5]),
        (["inputs", 0, "extra"], 1),
        (["adversary"], "malicious"),
    ],
)
def test_altered_plan_is_refused(path: list[Any], value: Any) -> None:
    document = derive_plan(JOBS["train"]).to_document()
    with pytest.raises(ConfideError) as caught:
        Plan.from_document(_alter(document, path, value))
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


def test_session_with_another_job_s_plan_is_refused() -> None:
    job = JOBS["labels"]
    plan = derive_plan(JOBS["probabilities"])
    with pytest.raises(ConfideError) as caught:
        run_world(job, plan, inputs_of(job))
    assert caught.value.code is ErrorCode.PLAN_DIFFERS


def test_program_that_leaves_its_plan_stops() -> None:
    job = JOBS["labels"]
    plan = derive_plan(job)
    segment = plan.segments[0]
    renamed = tuple(Open("other", item.arrays) if isinstance(item, Open) else item for item in segment.operations)
    with pytest.raises(ConfideError, match="leaves the agreed plan"):
        run_world(job, replace(plan, segments=(replace(segment, operations=renamed),)), inputs_of(job))


def test_inputs_that_do_not_fit_are_reported_all_at_once() -> None:
    job = JOBS["train"]
    wrong = LocalInputs(rows={0: (np.zeros((11, 4)), np.zeros(11)), 1: (np.zeros((7, 5)), np.full(7, 0.5))})
    with pytest.raises(ConfideError) as caught:
        run_world(job, derive_plan(job), {**inputs_of(job), "alpha": wrong})
    assert caught.value.code is ErrorCode.INVALID_DATA
    assert {problem.where for problem in caught.value.problems} == {"data set 1", "data set rows-alpha", "model"}


def test_planning_many_rows_takes_little_memory() -> None:
    tracemalloc.start()
    derive_plan(a_job(JobType.TRAIN, features=30, rows={"alpha": 1_000_000}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The rows themselves would be 240 MB. What is kept for the range check of an epoch of 125,000 steps is bounded: 2^18 numbers,
    # which the check has in less than 24 arrays at a time.
    assert peak < 24 * 8 << 18


def test_first_runs_are_those_of_all_runs() -> None:
    stages = (
        Stage(1, (Part("open", 1, 0),)),
        Stage(1, (Part("step", 2, 4), Part("rest", 1, 3)), first_row=8),
        Stage(3, (Part("step", 4, 4), Part("rest", 1, 3))),
    )
    found: dict[str, Run] = {}
    for run in runs_of(stages):
        found.setdefault(run.segment, run)
    assert list(first_runs(stages)) == list(found.values())


def test_planning_takes_no_time_for_each_step() -> None:
    # Counting to the last step of the epoch, with a row less, took a minute.
    job = a_job(JobType.TRAIN, features=FEATURES, rows={"alpha": 10_000_000, "beta": 9_999_999}, training=sgd(1, 2, "0.1"))
    started = time.process_time()
    plan = derive_plan(job)
    assert plan.num_runs == 1 + 10_000_000 + 1
    assert time.process_time() - started < 5


def test_progress_of_every_party_ends_at_the_last_run() -> None:
    job = JOBS["train"]
    plan = derive_plan(job)
    world = run_world(job, plan, inputs_of(job))
    for party in ("alpha", "beta", "gamma"):
        steps = [progress.step for progress in world.progress[party]]
        assert steps == sorted(steps)
        assert steps[-1] == plan.num_runs
    assert world.progress["alpha"][-1].rounds == plan.rounds


def test_estimate_grows_with_the_work_and_stays_out_of_the_digest() -> None:
    short = derive_plan(JOBS["train"])
    training = sgd(50, 8, "0.5", "0.9")
    long = derive_plan(a_job(JobType.TRAIN, features=FEATURES, rows=ROWS, training=training))
    distant = replace(LOOPBACK, round_trip_s=0.04)
    assert estimate(long, LOOPBACK).seconds > 10 * estimate(short, LOOPBACK).seconds
    # Over a distance the rounds are what counts.
    assert estimate(long, distant).seconds - estimate(long, LOOPBACK).seconds == pytest.approx(long.rounds * 0.0396)
    assert estimate(short, LOOPBACK).memory_bytes > LOOPBACK.worker_bytes
    assert "seconds" not in str(short.to_document())


def a_deep_training(num_linear: int) -> Job:
    """A network of so many linear layers, whose momentum has several arrays of one round for each."""
    layers = {f"linear{index}": Linear(4) for index in range(num_linear - 1)}
    model = ModelSpec.chain(4, **layers, out=Linear(1))
    return a_job(JobType.TRAIN, features=4, rows=ROWS, training=sgd(2, 10, "0.1", "0.9"), model=model)


def most_arrays(plan: Plan) -> int:
    """The arrays of the round that has most."""
    rounds = [operation for segment in plan.segments for operation in segment.operations if isinstance(operation, Open)]
    return max(len(each.arrays) for each in rounds)


def test_plan_with_a_round_of_more_arrays_than_a_message_carries_is_refused() -> None:
    with pytest.raises(ConfideError, match=f"arrays at once, and a message carries at most {MAX_ARRAYS}") as caught:
        derive_plan(a_deep_training(40))
    assert caught.value.code is ErrorCode.INVALID_MODEL


def test_round_of_as_many_arrays_as_a_message_carries_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    job = a_deep_training(4)
    most = most_arrays(derive_plan(job))
    monkeypatch.setattr(planning, "MAX_ARRAYS", most)
    assert most_arrays(derive_plan(job)) == most
    monkeypatch.setattr(planning, "MAX_ARRAYS", most - 1)
    with pytest.raises(ConfideError, match=f"{most} arrays at once"):
        derive_plan(job)


def test_round_with_noise_beside_it_has_room_for_one_array_less(monkeypatch: pytest.MonkeyPatch) -> None:
    job = a_private_job(private_sgd(3, "0.5", "0.9", privacy=terms()))
    most = most_arrays(derive_plan(job))
    monkeypatch.setattr(planning, "MAX_ARRAYS", most + 1)
    derive_plan(job)
    monkeypatch.setattr(planning, "MAX_ARRAYS", most)
    with pytest.raises(ConfideError, match=f"{most + 1} arrays at once"):
        derive_plan(job)
