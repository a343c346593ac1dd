"""Samples far from the middle of their ranges get no answer: against whole numbers, with numbers that wrap, in whole sessions."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import isqrt

import numpy as np
import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, Output, OutputKind, Task, check
from protocols.model.layers import Linear, Relu, Softmax
from protocols.model.spec import ModelSpec
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.inputs import LocalInputs, shared_rows
from protocols.mpc.planning import derive_plan
from protocols.mpc.primitives.comparison import nonnegative
from protocols.mpc.programs import forward
from protocols.mpc.programs.constraints import constrained, noisy_labels
from protocols.mpc.programs.distance import largest_square, objections
from protocols.mpc.query import combine_output
from tests.support.mpc_world import ProtocolRun, World, a_job, random_ring, run_protocol, run_world, split
from tests.support.programs import PARTIES as NAMES
from tests.support.programs import a_network, assert_measured_as_planned, opened_outputs, shares_of, some_weights
from tests.support.serving_world import ServingWorld
from tests.support.small_serving import WEIGHTS, a_served_model, labels_of, some_rows

KIND = OutputKind
UNIT = 1 << 16
RING = 1 << 64
FIRST, LAST = -(2**63), 2**63 - 1


def an_output(kind: OutputKind = KIND.LABEL, *, beyond: str = "0.5", **constraint: object) -> Output:
    return Output("answer", kind, "researcher", abstain_beyond=beyond, **constraint)  # type: ignore[arg-type]


def is_near(row: list[int], beyond: str) -> bool:
    """The rule in whole numbers, which do not wrap."""
    square = Fraction(sum(x * x for x in row), len(row) * UNIT**2)
    return all(abs(x) <= UNIT for x in row) and square <= Fraction(beyond) ** 2


def found_near(rows: np.ndarray, beyond: str, num_parties: int = 2) -> tuple[list[bool], ProtocolRun]:
    output = an_output(beyond=beyond)

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        counts = yield from objections(engine, shared_rows(mine[0], for_session=False), output)
        return (yield from nonnegative(engine, -counts))

    run = run_protocol(protocol, [[share] for share in split(rows, num_parties)])
    value = np.asarray(run.value)
    assert value.shape == (len(rows), 1)
    assert np.isin(value, (0, 1)).all()
    return value[:, 0].astype(bool).tolist(), run


def at_the_border(num_features: int, beyond: str) -> np.ndarray:
    """Rows whose sums of squares are the largest that is near enough, and by up to 2 more or less; features of both signs."""
    rng, rows = np.random.default_rng(num_features), []
    for offset in (-2, -1, 0, 1, 2):
        rest, row = largest_square(an_output(beyond=beyond), num_features) + offset, []
        while rest:
            row.append(min(UNIT, isqrt(rest)))
            rest -= row[-1] ** 2
        row += [0] * (num_features - len(row))
        rows.append(rng.permutation(row) * rng.choice([-1, 1], num_features))
    return np.array(rows, np.int64)


@pytest.mark.parametrize("num_parties", [2, 3])
@pytest.mark.parametrize(("num_features", "beyond"), [(4, "0.5"), (7, "0.333"), (30, "0.707106781"), (300, "0.1")])
def test_line_is_drawn_exactly_where_it_is_said(num_parties: int, num_features: int, beyond: str) -> None:
    rows = at_the_border(num_features, beyond)
    expected = [is_near(row, beyond) for row in rows.tolist()]
    assert expected == [True, True, True, False, False]
    assert found_near(rows, beyond, num_parties)[0] == expected


def test_ends_of_the_ranges_are_the_last_that_are_answered() -> None:
    inside = np.array([[UNIT, -UNIT, UNIT], [-UNIT, -UNIT, -UNIT], [0, 0, 0]])
    outside = inside[:2].repeat(3, axis=0)
    outside[range(6), [0, 1, 2, 0, 1, 2]] += np.sign(outside[range(6), [0, 1, 2, 0, 1, 2]])
    outside = np.concatenate([outside, [[0, 0, UNIT + 1], [0, -UNIT - 1, 0]]])
    assert found_near(np.concatenate([inside, outside]), "1")[0] == [True] * 3 + [False] * 8


def wrapping_rows() -> np.ndarray:
    """Rows far outside whose sums of squares wrap to small numbers."""
    heads = [2**32, -(2**32), FIRST, LAST, FIRST + 1, FIRST + UNIT, LAST - UNIT, 2**48, 3 * 2**40, 2**62, LAST - 2 * UNIT]
    rows = [[head, 0, 0, 0] for head in heads]
    rows += [[0, 1000, head, -1000] for head in heads]
    # x^2 = 1 modulo 2^64.
    rows += [[2**63 - 1, 2**63 - 1, 0, 0], [-(2**63) + 1, 0, 0, 1], [2**31 * 2, 2**32 * 7, 2**33, 2**40]]
    return np.array(rows, np.int64)


@pytest.mark.parametrize("num_parties", [2, 3])
@pytest.mark.parametrize("beyond", ["0.001", "0.5", "1"])
def test_numbers_that_wrap_are_far_though_their_squares_are_small(num_parties: int, beyond: str) -> None:
    rows = wrapping_rows()
    wrapped = [sum(x * x for x in row) % RING for row in rows.tolist()]
    # Without the comparison with each feature's range most of them would have got an answer.
    assert sum(square <= largest_square(an_output(beyond="0.5"), 4) for square in wrapped) > len(rows) * 3 // 4
    assert not any(found_near(rows, beyond, num_parties)[0])


def test_any_number_of_the_ring_is_far_unless_it_is_in_its_range() -> None:
    rows = np.zeros((400, 3), np.int64)
    rows[:, 0] = random_ring(5, (400,)) >> np.random.default_rng(5).integers(0, 64, 400)
    expected = [is_near(row, "0.4") for row in rows.tolist()]
    assert 50 < sum(expected) < 350
    assert found_near(rows, "0.4")[0] == expected


def test_costs_are_as_stated() -> None:
    rows, features = 80, 8
    run = found_near(np.zeros((rows, features), np.int64), "0.5")[1]
    # Opening the rows, 4 rounds of comparing, and 4 of the test's own comparison.
    assert run.rounds == 5 + 4
    assert run.opened_bytes == rows * (24.5 * features + 12.25) + rows * 12.25
    assert run.correction_bytes == rows * (72.125 * features + 60.125) + rows * 52.125


def test_squares_of_the_widest_rows_stay_in_the_ring() -> None:
    from protocols.model.operator_base import MAX_ELEMENTS

    assert largest_square(an_output(beyond="1"), MAX_ELEMENTS) == MAX_ELEMENTS * 2**32 < 2**53


# Together with what else is done to answers.


def put_out(numbers: np.ndarray, rows: np.ndarray, output: Output) -> np.ndarray:
    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        chosen = noisy_labels if output.kind is KIND.LABEL else constrained
        return (yield from chosen(engine, mine[0], output, shared_rows(mine[1], for_session=False)))

    pairs = zip(split(numbers, 2), split(rows, 2), strict=True)
    return np.asarray(run_protocol(protocol, [list(pair) for pair in pairs]).value)


SIX_ROWS = np.array([[0, 0], [UNIT, UNIT], [UNIT // 4, 0], [2**32, 0], [UNIT // 2, -UNIT // 2], [UNIT // 2, UNIT // 2 + 1]])
SIX_NEAR = np.array([True, False, True, False, True, False])


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("below", ["0", "0.7"])
@pytest.mark.parametrize("kind", [KIND.LABEL, KIND.PROBABILITY])
def test_sample_has_an_answer_if_it_is_near_and_the_model_is_sure(columns: int, below: str, kind: OutputKind) -> None:
    sure, unsure = ([60_000], [40_000]) if columns == 1 else ([50_000, 10_000, 5_536], [30_000, 20_000, 15_536])
    numbers = np.array([sure, sure, unsure, sure, sure, unsure])
    found = put_out(numbers, SIX_ROWS, an_output(kind, abstain_below=below))
    told = SIX_NEAR & (np.array([1, 1, below == "0", 1, 1, below == "0"]) == 1)
    labels = (numbers[:, :1] >= UNIT // 2).astype(int) if columns == 1 else numbers.argmax(axis=1).reshape(-1, 1)
    plain, mark = (labels, -1) if kind is KIND.LABEL else (numbers, -UNIT)
    assert found.tolist() == np.where(told[:, None], plain, mark).tolist()


@pytest.mark.parametrize(("decimals", "mark"), [(None, -(2**36)), (0, -(2**20)), (4, -(2**20) * 10**4)])
def test_score_and_value_have_a_mark_that_no_number_reaches(decimals: int | None, mark: int) -> None:
    numbers = np.array([[-UNIT], [-UNIT], [2**35], [0], [5 * UNIT], [7]])
    for kind in (KIND.SCORE, KIND.VALUE):
        found = put_out(numbers, SIX_ROWS, an_output(kind, decimals=decimals))[:, 0]
        assert (found[~SIX_NEAR] == mark).all()
        expected = numbers[:, 0] if decimals is None else numbers[:, 0] * 10**decimals // UNIT
        assert found[SIX_NEAR].tolist() == expected[SIX_NEAR].tolist()


# Whole sessions.

MODELS: dict[Task, ModelSpec] = {
    Task.BINARY: a_network(4, 1),
    Task.CLASSES: a_network(4, 5, last=Softmax()),
    Task.REAL: a_network(4, 1),
}


def an_inference(output: Output, *, task: Task, rows: int, computing: tuple[str, ...] = NAMES[:2]) -> Job:
    return a_job(JobType.INFER, features=4, computing=computing, model=MODELS[task], task=task, query_rows=rows, wanted=(output,))


def infer(job: Job, samples: np.ndarray) -> World:
    """A session on samples as ring numbers, which a querier may choose as she likes."""
    parties = job.computing_parties
    shares = zip(parties, shares_of(some_weights(job.model), len(parties)), split(samples, len(parties)), strict=True)
    return run_world(job, derive_plan(job), {p: LocalInputs(model_share=s, query_share=q) for p, s, q in shares})


def answers(world: World, job: Job) -> np.ndarray:
    return np.asarray(next(iter(opened_outputs(job, world.plan, world).values()))).reshape(job.query_rows or 0, -1)


@pytest.mark.parametrize("num_parties", [2, 3])
@pytest.mark.parametrize(
    ("task", "kind", "constraint"),
    [
        (Task.BINARY, KIND.LABEL, {}),
        (Task.CLASSES, KIND.LABEL, {}),
        (Task.BINARY, KIND.PROBABILITY, {"decimals": 2}),
        (Task.CLASSES, KIND.PROBABILITY, {"top_k": 2, "abstain_below": "0.3"}),
        (Task.BINARY, KIND.SCORE, {"decimals": 1}),
        (Task.CLASSES, KIND.SCORE, {}),
        (Task.REAL, KIND.VALUE, {}),
        (Task.REAL, KIND.VALUE, {"noise": "0.1", "noise_colluders": 1}),
        (Task.BINARY, KIND.PROBABILITY, {"noise": "0.5", "noise_colluders": 1, "decimals": 0}),
    ],
)
def test_session_answers_near_samples_as_ever_and_others_not_at_all(
    task: Task, kind: OutputKind, constraint: dict[str, object], num_parties: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "_MAX_BLOCK_ROWS", 24)
    rng = np.random.default_rng(8)
    inside = np.rint(rng.uniform(-1, 1, (40, 4)) * UNIT).astype(np.int64)
    samples = np.concatenate([inside, wrapping_rows()])
    near = np.array([is_near(row, "0.6") for row in samples.tolist()])
    assert 10 < near.sum() < 35
    output = an_output(kind, beyond="0.6", **constraint)
    job = an_inference(output, task=task, rows=len(samples), computing=NAMES[:num_parties])
    world = infer(job, samples)
    assert_measured_as_planned(world)
    found = answers(world, job)
    untold = (found == -1) if kind is KIND.LABEL else np.isnan(found)
    assert untold[~near].all()
    if output.has_noise:
        assert not untold[near].any()
        return
    # The same without a line, on those that it lets through: masks differ, and with them the last bits of a logit.
    plain = an_inference(replace(output, abstain_beyond="0"), task=task, rows=int(near.sum()), computing=NAMES[:num_parties])
    expected = answers(infer(plain, samples[near]), plain)
    assert not untold[near].all()
    tolerance = 4e-3 + 10.0 ** -(output.decimals if output.decimals is not None else 9)
    np.testing.assert_allclose(found[near].astype(float), expected.astype(float), atol=tolerance, rtol=0)


def test_noise_makes_no_answer_look_like_none() -> None:
    output = an_output(KIND.PROBABILITY, noise="0.5", noise_colluders=1, decimals=0)
    numbers = np.array([-1, 0, 1, -(2**20)])
    found = combine_output([numbers - 5, np.full(4, 5)], output=output, scale_bits=0)
    np.testing.assert_array_equal(found, [0.0, 0.0, 1.0, np.nan])


def test_what_leaves_of_a_far_sample_does_not_depend_on_it() -> None:
    job = an_inference(an_output(KIND.SCORE), task=Task.BINARY, rows=25)
    for rows in (wrapping_rows(), np.full((25, 4), 7 * UNIT)):
        shares = [output.output_shares for output in infer(job, rows).outputs.values() if output.output_shares is not None]
        assert sum(share["answer"] for share in shares).tolist() == [-(2**36)] * 25  # type: ignore[union-attr]


def test_serving_gives_no_answer_to_far_samples_and_needs_no_round_for_opening_them_again() -> None:
    rows = np.concatenate([some_rows(6) * 0.2, np.sign(some_rows(6, seed=4)) * 0.9])
    plain = a_served_model(block_rows=8)
    job = replace(plain, outputs=(replace(plain.outputs[0], abstain_beyond="0.5"),))
    world = ServingWorld(job, WEIGHTS).start()
    found = world.answer(world.ask(rows))
    world.stop()
    assert found.tolist() == [*labels_of(rows[:6]).tolist(), *[-1] * 6]
    answer, without = (
        next(segment for segment in derive_plan(each).segments if segment.name == "answer") for each in (job, plain)
    )
    # The label takes five rounds or more, beside which the distance is found; then one comparison, and one product.
    assert answer.rounds - without.rounds == 4 + 1
    added = 16.5 * job.model.input_features + 12.25 + 12.25 + 16
    assert answer.opened_bytes - without.opened_bytes == 8 * added


@pytest.mark.parametrize(
    ("task", "kind", "columns", "rounds"),
    [
        (Task.BINARY, KIND.LABEL, 1, 5),
        (Task.CLASSES, KIND.LABEL, 1, 5),
        (Task.BINARY, KIND.PROBABILITY, 1, 9),
        (Task.CLASSES, KIND.PROBABILITY, 5, 9),
        (Task.REAL, KIND.VALUE, 1, 9),
    ],
)
def test_plan_grows_by_what_the_page_states(task: Task, kind: OutputKind, columns: int, rounds: int) -> None:
    rows, features = 80, 4
    plan, plain = (derive_plan(an_inference(an_output(kind, beyond=beyond), task=task, rows=rows)) for beyond in ("0.5", "0"))
    assert plan.rounds - plain.rounds == rounds
    (segment,), (plain_segment,) = plan.segments, plain.segments
    assert segment.opened_bytes - plain_segment.opened_bytes == rows * (16.5 * features + 24.5 + 16 * columns)
    dealt = segment.correction_bytes - plain_segment.correction_bytes
    assert dealt == rows * (72.125 * features + 112.25 + 8 * columns)


def test_rows_that_the_model_does_not_open_are_opened_for_their_distance() -> None:
    model = ModelSpec.chain(4, first=Relu(), second=Linear(1))
    job = a_job(JobType.INFER, model=model, query_rows=33, wanted=(an_output(KIND.SCORE),))
    rows = np.concatenate([wrapping_rows(), np.rint(np.random.default_rng(2).uniform(-1, 1, (8, 4)) * UNIT).astype(np.int64)])
    world = infer(job, rows)
    assert_measured_as_planned(world)
    assert (~np.isnan(answers(world, job)[:, 0])).tolist() == [is_near(row, "0.5") for row in rows.tolist()]
    plain = derive_plan(replace(job, outputs=(replace(job.outputs[0], abstain_beyond="0"),)))
    assert world.plan.rounds - plain.rounds == 1 + 4 + 4 + 1


# What is refused.


@pytest.mark.parametrize(
    "output",
    [
        an_output(beyond="0.0009"),
        an_output(beyond="1.1"),
        an_output(beyond="-0.5"),
        an_output(beyond="near"),
        an_output(KIND.MEAN, min_cell=2),
    ],
)
def test_job_with_such_a_distance_is_refused(output: Output) -> None:
    job = replace(an_inference(an_output(), task=Task.BINARY, rows=4), outputs=(output,))
    assert [problem.where for problem in check(job)] == ["outputs.answer.abstain_beyond"]
    assert all(problem.remedy for problem in check(job))


def test_distance_is_part_of_the_job_that_all_sign() -> None:
    job = an_inference(an_output(), task=Task.BINARY, rows=4)
    assert Job.from_bytes(job.to_bytes()) == job
    assert derive_plan(job).digest != derive_plan(replace(job, outputs=(an_output(beyond="0.6"),))).digest


def test_program_without_samples_opens_nothing() -> None:
    with pytest.raises(ConfideError) as caught:
        run_protocol(lambda engine, mine: constrained(engine, mine[0], an_output()), [[s] for s in split(SIX_ROWS, 2)])
    assert caught.value.code is ErrorCode.INTERNAL


@pytest.mark.parametrize(
    ("output", "scale_bits", "opened", "expected"),
    [
        (an_output(), 0, [1, -1], [1, -1]),
        (an_output(KIND.PROBABILITY), 16, [UNIT // 2, -UNIT], [0.5, None]),
        (an_output(KIND.SCORE), 16, [[-UNIT, 5], [-(2**36), -(2**36)]], [[-1.0, 5 / UNIT], [None, None]]),
        (an_output(KIND.VALUE, decimals=1), 0, [-10, -(2**20) * 10], [-1.0, None]),
    ],
)
def test_answers_combine_to_what_they_say(output: Output, scale_bits: int, opened: list[int], expected: list[object]) -> None:
    share = np.array(opened, np.int64)
    found = combine_output([share - 77, np.full_like(share, 77)], output=output, scale_bits=scale_bits)
    nans = np.isnan(found.astype(float))
    assert np.where(nans, None, found.astype(object)).tolist() == expected


@pytest.mark.parametrize(
    ("output", "opened"),
    [
        (replace(an_output(KIND.SCORE), abstain_beyond="0"), [-(2**36)]),
        (an_output(KIND.SCORE), [[-(2**36), 0]]),
        (an_output(KIND.VALUE), [-(2**36) - 1]),
        (an_output(KIND.VALUE), [2**36]),
    ],
)
def test_mark_is_taken_for_no_number(output: Output, opened: list[int]) -> None:
    share = np.array(opened, np.int64)
    with pytest.raises(ConfideError) as caught:
        combine_output([share - 77, np.full_like(share, 77)], output=output, scale_bits=16)
    assert caught.value.code is ErrorCode.BAD_FRAME
