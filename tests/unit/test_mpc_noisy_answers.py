"""Answers with noise, without an answer, and means: against the plain rules, in single protocols and in whole sessions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from protocols.answer_noise import num_answers, own_deviation, squared_sensitivity
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, ModelRef, Output, OutputKind, Task, check
from protocols.job_parts import Serving
from protocols.model import reference
from protocols.model.layers import Softmax
from protocols.model.spec import ModelSpec
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.mpc.programs import forward
from protocols.mpc.programs.constraints import constrained, noisy_labels
from protocols.mpc.programs.noisy import drawn_from, with_noise, within_range
from protocols.mpc.query import combine_output, share_query
from protocols.output_checks import check_constraint
from tests.support.mpc_world import World, a_job, a_model, own_random, run_protocol, run_world, split, stream
from tests.support.programs import PARTIES as NAMES
from tests.support.programs import a_network, a_table, assert_measured_as_planned, opened_outputs, shares_of, some_weights
from tests.support.serving_world import ServingWorld
from tests.support.small_serving import WEIGHTS, a_served_model, logits_of, some_rows

KIND = OutputKind
UNIT = 1 << 16
SERVING = Serving(block_rows=4, max_queries=10, max_rows=40, idle_s=60, lifetime_s=600, rekey_s=600)


def an_output(kind: OutputKind = KIND.PROBABILITY, **constraint: object) -> Output:
    return Output("answer", kind, "researcher", **constraint)  # type: ignore[arg-type]


def opened_by(
    protocol: Callable[[Engine, np.ndarray], Steps[np.ndarray]], numbers: np.ndarray, num_parties: int = 2
) -> np.ndarray:
    run = run_protocol(lambda engine, mine: protocol(engine, mine[0]), [[share] for share in split(numbers, num_parties)])
    return np.asarray(run.value)


def some_probabilities(columns: int, rows: int = 60) -> np.ndarray:
    if columns == 1:
        return np.arange(0, UNIT + 1, UNIT // rows).reshape(-1, 1).astype(np.int64)
    parts = np.random.default_rng(3).dirichlet(np.full(columns, 0.3), rows)
    numbers = np.rint(parts * UNIT).astype(np.int64)
    numbers[0] = [UNIT, *[0] * (columns - 1)]
    return numbers


def reaches(numbers: np.ndarray, bound: str) -> np.ndarray:
    least = float(bound) * UNIT
    best = np.maximum(numbers, UNIT - numbers)[:, 0] if numbers.shape[1] == 1 else numbers.max(axis=1)
    return np.asarray(best >= least)


@pytest.mark.parametrize("bound", ["0.4", "0.5", "0.8", "1"])
@pytest.mark.parametrize("columns", [1, 3])
def test_samples_below_the_bound_are_put_out_and_others_are_told(columns: int, bound: str) -> None:
    numbers = some_probabilities(columns)
    output = an_output(abstain_below=bound)
    found = opened_by(lambda engine, share: constrained(engine, share, output), numbers)
    told = reaches(numbers, bound)
    assert bound in ("0.4", "0.5") or 0 < told.sum() < len(told)
    assert found[told].tolist() == numbers[told].tolist()
    assert (found[~told] == -UNIT).all()


@pytest.mark.parametrize("columns", [1, 3])
def test_labels_are_chosen_from_the_probabilities_as_given(columns: int) -> None:
    numbers = some_probabilities(columns) - 1000  # noise leads outside
    output = an_output(KIND.LABEL, abstain_below="0.7")
    found = opened_by(lambda engine, share: noisy_labels(engine, share, output), numbers)[:, 0]
    told = reaches(numbers, "0.7")
    labels = (numbers[:, 0] >= UNIT // 2).astype(int) if columns == 1 else numbers.argmax(axis=1)
    assert found.tolist() == np.where(told, labels, -1).tolist()
    everything = an_output(KIND.LABEL, noise="1", noise_colluders=1)
    found = opened_by(lambda engine, share: noisy_labels(engine, share, everything), numbers)[:, 0]
    assert found.tolist() == labels.tolist()


@pytest.mark.parametrize(("task", "low"), [(Task.BINARY, 0), (Task.REAL, -UNIT)])
def test_numbers_are_brought_into_their_range_before_noise(task: Task, low: int) -> None:
    numbers = np.array([[-3 * UNIT, low - 1, low, low + 1, 7, UNIT - 1, UNIT, UNIT + 1, 1 << 35]])

    def protocol(engine: Engine, share: np.ndarray) -> Steps[np.ndarray]:
        return within_range(engine, share, task)

    assert opened_by(protocol, numbers).tolist() == np.clip(numbers, low, UNIT).tolist()


def test_noise_of_a_party_has_its_deviation_and_none_is_never_taken_for_some() -> None:
    job = an_inference(an_output(noise="0.5", noise_colluders=2), computing=NAMES[:3])
    output = job.outputs[0]
    assert own_deviation(output, drawers=3) == UNIT // 2
    assert own_deviation(replace(output, noise_colluders=1), drawers=3) == 23171  # 2^15 / sqrt(2), rounded up
    drawn = with_noise(job, output, np.zeros((200, 100), np.int64), drawn_from(own_random("alpha")))
    # The variance of 20,000 draws has a relative deviation of sqrt(2 / 20,000) = 0.01.
    assert drawn.std() == pytest.approx(UNIT // 2, rel=0.03)
    assert len(set(drawn.reshape(-1).tolist())) > 15_000
    with pytest.raises(ConfideError) as caught:
        with_noise(job, output, np.zeros((1, 5), np.int64), None)
    assert caught.value.code is ErrorCode.INTERNAL


# Whole sessions.

MODELS: dict[Task, ModelSpec] = {
    Task.BINARY: a_network(4, 1),
    Task.CLASSES: a_network(4, 5, last=Softmax()),
    Task.REAL: a_network(4, 1),
}
ERROR = 1e-4 + 2e-3  # of a probability, and of the logits of a small network, as in test_mpc_outputs.py


def an_inference(output: Output, *, task: Task = Task.CLASSES, rows: int = 8, computing: tuple[str, ...] = NAMES[:2]) -> Job:
    return a_job(JobType.INFER, features=4, computing=computing, model=MODELS[task], task=task, query_rows=rows, wanted=(output,))


def infer(job: Job, *, seed: str = "") -> tuple[World, np.ndarray, np.ndarray]:
    """The session, the opened numbers without any change by the querier, and what the model gives in float64."""
    model, parties = job.model, job.computing_parties
    samples, weights = a_table(model, job.task, job.query_rows or 0, seed=6).features, some_weights(model)
    query = share_query(samples, num_parties=len(parties), source=stream("query"))
    shares = zip(parties, shares_of(weights, len(parties)), query, strict=True)
    world = run_world(job, derive_plan(job), {p: LocalInputs(model_share=s, query_share=q) for p, s, q in shares}, seed=seed)
    sent = [world.outputs[party].output_shares for party in parties]
    opened = np.asarray(sum(share["answer"] for share in sent if share is not None)) / 2.0 ** world.plan.outputs[0].scale_bits
    true = reference.outputs(model, weights, samples)
    if job.task is Task.BINARY:
        true = 1 / (1 + np.exp(-reference.logits(model, weights, samples)))
    return world, opened, true.reshape(opened.shape) if opened.shape[0] == len(true) and true.size == opened.size else true


@pytest.mark.parametrize(
    ("task", "kind", "num_parties", "colluders"),
    [
        (Task.BINARY, KIND.PROBABILITY, 2, 1),
        (Task.CLASSES, KIND.PROBABILITY, 3, 1),
        (Task.CLASSES, KIND.PROBABILITY, 3, 2),
        (Task.REAL, KIND.VALUE, 2, 1),
    ],
)
def test_opened_numbers_have_the_noise_that_the_output_says(
    task: Task, kind: OutputKind, num_parties: int, colluders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "_MAX_BLOCK_ROWS", 150)
    output = an_output(kind, noise="0.25", noise_colluders=colluders)
    job = an_inference(output, task=task, rows=400, computing=NAMES[:num_parties])
    world, found, true = infer(job)
    assert_measured_as_planned(world)
    inside = np.clip(true, -1.0 if task is Task.REAL else 0.0, 1.0)
    noise = (found - inside).reshape(-1)
    # n parties add as much as n - c of them must: the variance is n / (n - c) times the one that is said. The mean of m numbers
    # has a deviation of s / sqrt(m), their variance a relative one of sqrt(2 / m); five of them, and the engine's error.
    expected = 0.25 * sqrt(num_parties / (num_parties - colluders))
    assert abs(noise.mean()) < 5 * expected / sqrt(noise.size) + ERROR
    assert noise.var() == pytest.approx(expected**2, rel=5 * sqrt(2 / noise.size))
    again = infer(job, seed="another run")[1]
    assert abs(np.corrcoef(noise, (again - inside).reshape(-1))[0, 1]) < 5 / sqrt(noise.size)


def test_labels_of_noisy_probabilities_differ_from_those_of_the_model() -> None:
    quiet = an_inference(an_output(KIND.LABEL, noise="0.001", noise_colluders=1), rows=120)
    _, found, true = infer(quiet)
    best = np.sort(true, axis=1)
    clear = best[:, -1] - best[:, -2] > 0.02 + 2 * ERROR  # ten deviations of the difference
    assert clear.sum() > 100
    assert found[clear].tolist() == true.argmax(axis=1)[clear].tolist()
    loud = an_inference(an_output(KIND.LABEL, noise="100", noise_colluders=1), rows=120)
    # With noise a hundred times the range, each of five labels is as likely as any other: 24 of 120 hits, deviation 4.4.
    assert abs((infer(loud)[1] == true.argmax(axis=1)).sum() - 24) < 22


@pytest.mark.parametrize("task", [Task.BINARY, Task.CLASSES])
def test_session_gives_no_answer_where_the_model_is_not_sure(task: Task) -> None:
    bound = "0.6" if task is Task.BINARY else "0.5"
    for kind in (KIND.LABEL, KIND.PROBABILITY):
        job = an_inference(an_output(kind, abstain_below=bound), task=task, rows=60)
        world, found, true = infer(job)
        assert_measured_as_planned(world)
        rows = true.reshape(60, -1)
        best = np.maximum(rows, 1 - rows)[:, 0] if task is Task.BINARY else rows.max(axis=1)
        sure, unsure = best > float(bound) + ERROR, best < float(bound) - ERROR
        assert 5 < sure.sum() < 55
        assert unsure.sum() > 5
        assert (found.reshape(60, -1)[unsure] == -1).all()
        assert (found.reshape(60, -1)[sure] >= 0).all()
        told = opened_outputs(job, world.plan, world)[kind.value].reshape(60, -1)
        assert (np.isnan(told) if kind is KIND.PROBABILITY else told == -1)[unsure].all()


@pytest.mark.parametrize(("task", "num_parties"), [(Task.BINARY, 2), (Task.CLASSES, 3), (Task.REAL, 2)])
def test_mean_is_that_of_the_predictions_in_their_range(task: Task, num_parties: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "_MAX_BLOCK_ROWS", 16)
    job = an_inference(an_output(KIND.MEAN, min_cell=40), task=task, rows=40, computing=NAMES[:num_parties])
    world, found, true = infer(job)
    assert_measured_as_planned(world)
    inside = np.clip(true.reshape(40, -1), -1.0 if task is Task.REAL else 0.0, 1.0)
    assert found.shape == (5 if task is Task.CLASSES else 1,)
    np.testing.assert_allclose(found, inside.mean(axis=0), atol=ERROR + 2.0**-15, rtol=0)
    np.testing.assert_array_equal(opened_outputs(job, world.plan, world)["mean"], found)


def test_noise_of_a_mean_is_added_once_for_the_whole_query() -> None:
    job = an_inference(an_output(KIND.MEAN, min_cell=4, noise="0.5", noise_colluders=1), rows=4)
    plain = infer(an_inference(an_output(KIND.MEAN, min_cell=4), rows=4))[1]
    noise = np.concatenate([infer(job, seed=str(number))[1] - plain for number in range(12)])
    # 60 numbers: the relative deviation of their deviation is 1 / sqrt(2 * 60) = 0.09.
    assert noise.std() == pytest.approx(0.5 * sqrt(2), rel=0.4)
    assert (num_answers(job, job.outputs[0]), squared_sensitivity(job)) == (1, 5)


def test_release_opens_every_parameter_as_it_is_held() -> None:
    model = MODELS[Task.CLASSES]
    weights = some_weights(model)
    inference = an_inference(an_output())
    output = Output("weights", KIND.WEIGHTS, "researcher")
    ref = ModelRef("risk", "0" * 12)
    job = replace(inference, job_type=JobType.RELEASE, query_rows=None, query_commitment=None, outputs=(output,), model_ref=ref)
    assert list(check(job)) == []
    assert Job.from_bytes(job.to_bytes()) == job
    shares = zip(job.computing_parties, shares_of(weights, 2), strict=True)
    world = run_world(job, derive_plan(job), {party: LocalInputs(model_share=share) for party, share in shares})
    assert_measured_as_planned(world)
    assert (world.plan.rounds, world.plan.payload_bytes) == (0, 0)
    opened = opened_outputs(job, world.plan, world)["weights"]
    assert opened.tolist() == np.concatenate([weights[spec.name].reshape(-1) for spec in model.parameters]).tolist()
    # What leaves is refreshed: it is not the share that the party keeps.
    sent = world.outputs["alpha"].output_shares
    assert sent is not None
    kept = np.concatenate([world.inputs["alpha"].model_share[spec.name].reshape(-1) for spec in model.parameters])  # type: ignore[index]
    assert not (sent["weights"] == kept).any()


def test_serving_draws_fresh_noise_for_every_query() -> None:
    output = Output("answer", KIND.PROBABILITY, "researcher", noise="0.02", noise_colluders=1)
    world = ServingWorld(replace(a_served_model(kind=KIND.PROBABILITY), outputs=(output,)), WEIGHTS).start()
    rows = some_rows(8)
    first, again = (world.answer(world.ask(rows)) for _ in range(2))
    world.stop()
    expected = np.exp(logits_of(rows)) / np.exp(logits_of(rows)).sum(axis=1, keepdims=True)
    # Where the client brings nothing back to [0, 1]: six deviations of what two parties add, or closer.
    inside = (expected > 0.2) & (expected < 0.8)
    assert inside.sum() >= 8
    for found in (first, again):
        assert np.abs(found - expected)[inside].max() < 6 * 0.02 * sqrt(2)
    difference = (first - again)[inside]
    assert 0.5 * 0.02 * 2 < difference.std() < 2 * 0.02 * 2


# What the job and the querier refuse.


@pytest.mark.parametrize(
    ("output", "field"),
    [
        (an_output(noise="1", noise_colluders=2), "noise_colluders"),
        (an_output(noise="1"), "noise_colluders"),
        (an_output(noise="0.0001", noise_colluders=1), "noise"),
        (an_output(KIND.SCORE, noise="1", noise_colluders=1), "noise"),
        (an_output(KIND.SCORE, abstain_below="0.7"), "abstain_below"),
        (an_output(abstain_below="1.5"), "abstain_below"),
        (an_output(abstain_below="0.09"), "abstain_below"),
        (an_output(KIND.MEAN, min_cell=1), "min_cell"),
        (an_output(KIND.MEAN, min_cell=9), "query_rows"),
        (an_output(KIND.MEAN, min_cell=2, decimals=2), "decimals"),
    ],
)
def test_job_with_such_an_output_is_refused(output: Output, field: str) -> None:
    job = replace(an_inference(an_output()), outputs=(output,))
    assert any(problem.where.endswith(field) for problem in check(job)), list(check(job))


@pytest.mark.parametrize(("task", "classes", "least"), [(Task.CLASSES, 3, "0.333333334"), (Task.BINARY, 1, "0.5")])
def test_abstention_that_no_sample_could_meet_is_refused_with_the_least_that_is_of_use(
    task: Task, classes: int, least: str
) -> None:
    (problem,) = check_constraint(an_output(abstain_below="0.33"), task, classes=classes)
    assert least in f"{problem.what} {problem.remedy}"
    assert not list(check_constraint(an_output(abstain_below=least), task, classes=classes))
    # With noise on several classes all of them may be small; of two, the larger of p and 1 - p is a half or more even then.
    noisy = an_output(abstain_below="0.33", noise="1", noise_colluders=1)
    assert bool(list(check_constraint(noisy, task, classes=classes))) == (task is Task.BINARY)


def test_serving_opens_no_mean() -> None:
    serving = a_job(JobType.SERVE, model=a_model(4), serving=SERVING)
    mean = replace(serving, outputs=(an_output(KIND.MEAN, min_cell=2),))
    assert [problem.where for problem in check(mean)] == ["outputs"]


@pytest.mark.parametrize(
    ("output", "scale_bits", "opened"),
    [
        (an_output(KIND.LABEL), 0, [-1]),
        (an_output(KIND.LABEL, abstain_below="0.7"), 0, [-2]),
        (an_output(), 16, [-UNIT]),
        (an_output(abstain_below="0.7"), 16, [[-UNIT, 0]]),
        (an_output(abstain_below="0.7", top_k=1), 16, [[UNIT // 2, UNIT // 4]]),
        (an_output(KIND.MEAN), 16, [2 * UNIT]),
        (an_output(KIND.WEIGHTS), 24, [1 << 34]),
        (an_output(noise="1", noise_colluders=1), 16, [1 << 60]),
    ],
)
def test_opened_numbers_that_the_output_does_not_let_out_are_refused(output: Output, scale_bits: int, opened: list[int]) -> None:
    share = np.array(opened, np.int64)
    with pytest.raises(ConfideError) as caught:
        combine_output([share - 77, np.full_like(share, 77)], output=output, scale_bits=scale_bits)
    assert caught.value.code is ErrorCode.BAD_FRAME


@pytest.mark.parametrize(
    ("output", "scale_bits", "opened", "expected"),
    [
        (an_output(KIND.LABEL, abstain_below="0.7"), 0, [1, -1], [1, -1]),
        (an_output(abstain_below="0.7", decimals=1), 0, [8, -10], [0.8, None]),
        (an_output(abstain_below="0.7", top_k=1), 16, [[UNIT, 0], [-UNIT, -UNIT]], [[1.0, 0.0], [None, None]]),
        (an_output(noise="1", noise_colluders=1), 16, [-3 * UNIT, 2 * UNIT, UNIT // 2], [0.0, 1.0, 0.5]),
        (an_output(KIND.MEAN, noise="1", noise_colluders=1), 16, [2 * UNIT], [2.0]),
    ],
)
def test_answers_combine_to_what_they_say(output: Output, scale_bits: int, opened: list[int], expected: object) -> None:
    share = np.array(opened, np.int64)
    found = combine_output([share - 77, np.full_like(share, 77)], output=output, scale_bits=scale_bits)
    told = np.where(np.isnan(found), None, found) if found.dtype == np.float64 else found  # type: ignore[call-overload]
    assert told.tolist() == expected
