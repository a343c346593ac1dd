"""What constraints leave of predictions, in shares: against whole numbers, with ties and at borders, and in whole sessions."""

from __future__ import annotations

import itertools
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, Output, OutputKind, Task
from protocols.model import reference
from protocols.model.layers import Softmax
from protocols.model.spec import ModelSpec
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.mpc.primitives.maximum import keep_largest, wins
from protocols.mpc.primitives.rounding import floor_shift, round_to_decimals
from protocols.mpc.programs import forward
from protocols.mpc.programs.constraints import constrained
from protocols.mpc.query import combine_output, share_query
from tests.support.mpc_world import ProtocolRun, World, a_job, random_ring, run_protocol, run_world, split, stream
from tests.support.programs import PARTIES as NAMES
from tests.support.programs import a_network, a_table, assert_measured_as_planned, opened_outputs, shares_of, some_weights

KIND = OutputKind
PARTIES = pytest.mark.parametrize("num_parties", [2, 3, 5])
LOGIT_ERROR = 2e-3  # of the logits of a small network, as in test_mpc_evaluation.py


def an_output(kind: OutputKind = KIND.PROBABILITY, *, top_k: int = 0, decimals: int | None = None, clip: str = "0") -> Output:
    return Output("answer", kind, "researcher", top_k=top_k, decimals=decimals, clip=clip)


def plainly_constrained(numbers: np.ndarray, output: Output) -> np.ndarray:
    """The rules of docs/protocols/outputs.md on 2^16 times the probabilities or values, row by row in whole numbers."""
    low = ceil(Fraction(output.clip) * 2**16)
    if output.kind is KIND.PROBABILITY and (low or output.decimals == 4):
        clipped = np.minimum(np.maximum(numbers, low), 2**16 - low)
    else:
        clipped = numbers
    kept = clipped.copy()
    if output.top_k:
        for row, line in enumerate(numbers.tolist()):
            best = sorted(range(len(line)), key=lambda place: (-line[place], place))[: output.top_k]
            kept[row] = [clipped[row, place] if place in best else 0 for place in range(len(line))]
    if output.decimals is None:
        return kept
    factor = 10**output.decimals
    return np.array([[floor(Fraction(number * factor, 2**16) + Fraction(1, 2)) for number in line] for line in kept.tolist()])


def run_on(numbers: np.ndarray, protocol: object, num_parties: int = 2) -> ProtocolRun:
    return run_protocol(protocol, [[share] for share in split(numbers, num_parties)])  # type: ignore[arg-type]


# The primitives.


def largest(numbers: np.ndarray, count: int, num_parties: int) -> ProtocolRun:
    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        counts = yield from wins(engine, mine[0])
        return (yield from keep_largest(engine, counts, mine[0] * 3, count=count))

    return run_on(numbers, protocol, num_parties)


@PARTIES
@pytest.mark.parametrize(("columns", "count"), [(2, 1), (3, 2), (10, 3), (16, 15), (17, 4), (64, 5)])
def test_largest_are_kept_exactly_so_many_of_them_and_ties_go_to_the_lowest_index(
    num_parties: int, columns: int, count: int
) -> None:
    rng = np.random.default_rng(columns)
    numbers = rng.integers(-2, 3, (20, columns))  # many ties, within and across the border
    numbers[0], numbers[1] = 0, np.arange(columns)
    numbers[2:5] = rng.integers(-(2**61), 2**61, (3, columns))
    run = largest(numbers, count, num_parties)
    order = np.argsort(-numbers, axis=1, kind="stable")[:, :count]
    expected = np.zeros_like(numbers)
    np.put_along_axis(expected, order, np.take_along_axis(numbers, order, axis=1) * 3, axis=1)
    assert np.array_equal(run.value, expected)
    assert run.rounds == 5


def test_costs_of_the_largest_are_as_stated() -> None:
    run = largest(np.zeros((80, 17), np.int64), 3, 2)
    assert run.opened_bytes == 80 * (12.25 * 17 * 8 + 16 * 17)
    assert run.correction_bytes == 80 * (45.125 * 17 * 8 + 16 * 17 * 32)


@PARTIES
@pytest.mark.parametrize(("shift", "top_bytes"), [(1, 1), (16, 2), (31, 4), (62, 8)])
def test_division_by_a_power_of_two_rounds_down_exactly(num_parties: int, shift: int, top_bytes: int) -> None:
    numbers = random_ring(3, (400,)) >> 1
    unit = 1 << shift
    borders = [n for m in (-1, 0, 1) for n in (m * unit - 1, m * unit, m * unit + 1) if -(2**62) <= n < 2**62]
    numbers[: len(borders) + 2] = [*borders, -(2**62), 2**62 - 1]

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        return (yield from floor_shift(engine, mine[0], shift))

    run = run_on(numbers, protocol, num_parties)
    assert np.array_equal(run.value, numbers >> shift)
    opened, dealt = (12.375, 52.125) if num_parties == 2 else (20.25, 60.125)
    assert (run.rounds, run.opened_bytes, run.correction_bytes) == (5, opened * 400, (dealt + top_bytes) * 400)


@pytest.mark.parametrize("decimals", range(5))
def test_every_sixteen_bit_probability_rounds_to_the_nearest_decimal_and_ties_go_up(decimals: int) -> None:
    numbers = np.arange(2**16 + 1)

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        return (yield from round_to_decimals(engine, mine[0], scale_bits=16, decimals=decimals))

    expected = (numbers * 2 * 10**decimals + 2**16) // 2**17
    assert np.array_equal(run_on(numbers, protocol).value, expected)


# All constraints together, on shares of numbers that are known.


def run_constraint(numbers: np.ndarray, output: Output, num_parties: int) -> ProtocolRun:
    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        return (yield from constrained(engine, mine[0], output))

    return run_on(numbers, protocol, num_parties)


CONSTRAINTS = [
    an_output(top_k=top_k, decimals=decimals, clip=clip)
    for top_k, decimals, clip in itertools.product((0, 1, 3), (None, 0, 1, 2, 4), ("0", "0.1", "0.2"))
    if decimals != 0 or clip == "0"
]
BITS = 2**16


@pytest.mark.parametrize("output", CONSTRAINTS, ids=lambda o: f"top {o.top_k}, decimals {o.decimals}, clip {o.clip}")
def test_constraint_of_classes_is_what_whole_numbers_give(output: Output) -> None:
    rng = np.random.default_rng(len(str(output)))
    numbers = rng.multinomial(BITS, [0.2] * 5, size=24) + rng.integers(-1, 2, (24, 5))  # sums are off by a few units
    peaked = rng.dirichlet([0.2] * 5, size=24)
    numbers = np.vstack([numbers, np.rint(peaked * BITS).astype(np.int64), np.full((1, 5), BITS // 5)])
    numbers[0], numbers[1], numbers[2] = [BITS + 1, -1, -1, 0, 0], [-1, BITS, 0, 0, 0], [0, 0, BITS // 2, BITS // 2, 0]
    num_parties = 2 + len(str(output)) % 2
    run = run_constraint(numbers, output, num_parties)
    assert np.array_equal(run.value, plainly_constrained(numbers, output))
    chosen, clips = bool(output.top_k), output.clip != "0" or output.decimals == 4
    assert run.rounds == 4 * (chosen or clips) + chosen + 5 * (output.decimals is not None)


def test_random_constraints_of_random_probabilities_are_what_whole_numbers_give() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        classes = int(rng.integers(2, 9))
        places = int(rng.integers(0, 5))
        most = min(Fraction(1, classes), Fraction(499_999_999, 10**9))
        clip = Decimal(int(rng.integers(0, int(most * 10**places) + 1))).scaleb(-places)
        decimals = None if rng.random() < 0.3 else int(rng.integers(places, 5))
        output = an_output(top_k=int(rng.integers(0, classes)), decimals=decimals, clip=format(clip, "f"))
        numbers = np.rint(rng.dirichlet(rng.uniform(0.1, 3, classes), size=9) * 2.0 ** rng.integers(1, 17)).astype(np.int64)
        run = run_constraint(numbers, output, 2 + seed % 3)
        assert np.array_equal(run.value, plainly_constrained(numbers, output)), (seed, output)


@pytest.mark.parametrize("decimals", range(5))
def test_values_are_rounded_over_their_whole_range(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    numbers = rng.integers(-(2**36), 2**36, (200, 1))
    numbers[:6, 0] = [-(2**36), 2**36 - 1, -(BITS // 2), BITS // 2, -BITS // 2 - 1, 0]
    output = an_output(KIND.VALUE, decimals=decimals)
    assert np.array_equal(run_constraint(numbers, output, 3).value, plainly_constrained(numbers, output))


# Whole sessions.

MODELS: dict[Task, ModelSpec] = {
    Task.BINARY: a_network(4, 1),
    Task.CLASSES: a_network(4, 5, last=Softmax()),
    Task.REAL: a_network(4, 1),
}
# Task, output, rows in a block (0: all), computing parties.
SESSIONS = [
    (Task.BINARY, an_output(decimals=2), 0, 3),
    (Task.BINARY, an_output(clip="0.25"), 0, 2),
    (Task.BINARY, an_output(decimals=1, clip="0.1"), 4, 3),
    (Task.BINARY, an_output(decimals=4), 0, 2),
    (Task.CLASSES, an_output(top_k=2), 0, 3),
    (Task.CLASSES, an_output(top_k=1, decimals=0), 0, 2),
    (Task.CLASSES, an_output(top_k=3, decimals=2, clip="0.05"), 4, 3),
    (Task.CLASSES, an_output(decimals=3, clip="0.2"), 0, 2),
    (Task.REAL, an_output(KIND.VALUE, decimals=1), 4, 3),
]


def infer(task: Task, output: Output, num_parties: int, samples: np.ndarray) -> tuple[Job, World]:
    model, computing = MODELS[task], NAMES[:num_parties]
    job = a_job(JobType.INFER, features=4, query_rows=len(samples), model=model, task=task, computing=computing, wanted=(output,))
    query = share_query(samples, num_parties=num_parties, source=stream("query"))
    shares = zip(computing, shares_of(some_weights(model), num_parties), query, strict=True)
    return job, run_world(job, derive_plan(job), {p: LocalInputs(model_share=s, query_share=q) for p, s, q in shares})


@pytest.mark.parametrize(("task", "output", "block", "num_parties"), SESSIONS, ids=str)
def test_session_opens_what_the_constraint_leaves_of_the_model_s_predictions(
    task: Task, output: Output, block: int, num_parties: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if block:
        monkeypatch.setattr(forward, "_MAX_BLOCK_ROWS", block)
    model = MODELS[task]
    samples = a_table(model, task, 10, seed=6).features
    job, world = infer(task, output, num_parties, samples)
    assert_measured_as_planned(world)
    (found,) = opened_outputs(job, world.plan, world).values()
    true = reference.outputs(model, some_weights(model), samples)
    if task is Task.BINARY:
        true = 1 / (1 + np.exp(-reference.logits(model, some_weights(model), samples)))
    found = found.reshape(true.shape)
    error = 1e-4 + LOGIT_ERROR
    if output.top_k:
        threshold = np.sort(true, axis=1)[:, [-output.top_k]]
        is_kept = true >= threshold
        gap = np.abs(true - threshold)[~is_kept].min()
        assert gap > 2 * error, "choose samples whose order the engine's error cannot change"
        assert not found[~is_kept].any()
        true = np.where(is_kept, true, 0)
    clip = float(output.clip)
    expected = np.where(true == 0, 0, np.clip(true, clip, 1 - clip)) if clip else true
    digits = 0.0 if output.decimals is None else 0.5 * 10.0**-output.decimals
    assert np.abs(found - expected).max() <= error + digits
    (planned,) = world.plan.outputs
    assert planned.scale_bits == (16 if output.decimals is None else 0)
    if output.decimals is not None:  # nothing finer is in the shares: they add up to whole numbers
        assert np.array_equal(found, np.round(found, output.decimals))


def test_shares_of_rounded_probabilities_hold_the_whole_number_alone() -> None:
    samples = a_table(MODELS[Task.BINARY], Task.BINARY, 6, seed=6).features
    job, world = infer(Task.BINARY, an_output(decimals=1), 2, samples)
    shares = [world.outputs[party].output_shares for party in job.computing_parties]
    opened = sum(np.asarray(share["answer"]) for share in shares if share is not None)
    assert set(np.asarray(opened).tolist()) <= set(range(11))


# What the querier takes.


@pytest.mark.parametrize(
    ("output", "scale_bits", "opened"),
    [
        (an_output(top_k=1), 16, [[1 << 15, 1 << 14, 0]]),
        (an_output(top_k=1), 16, [1 << 15]),
        (an_output(clip="0.25"), 16, [1 << 13]),
        (an_output(clip="0.25", decimals=2), 0, [80]),
        (an_output(decimals=2), 0, [102]),
        (an_output(decimals=2), 16, [1 << 15]),
        (an_output(KIND.VALUE, decimals=1), 16, [1 << 15]),
    ],
)
def test_output_that_its_constraint_does_not_let_out_is_refused(output: Output, scale_bits: int, opened: list[int]) -> None:
    share = np.array(opened, np.int64)
    with pytest.raises(ConfideError) as caught:
        combine_output([share - 77, np.full_like(share, 77)], output=output, scale_bits=scale_bits)
    assert caught.value.code is ErrorCode.BAD_FRAME


@pytest.mark.parametrize(
    ("output", "scale_bits", "opened", "expected"),
    [
        (an_output(decimals=2, clip="0.01"), 0, [1, 37, 99], [0.01, 0.37, 0.99]),
        (an_output(decimals=4, top_k=2), 0, [[3333, 6667, 0]], [[0.3333, 0.6667, 0.0]]),
        (an_output(clip="0.1"), 16, [6554, 58982], [6554 / 2**16, 58982 / 2**16]),
        (an_output(KIND.VALUE, decimals=1), 0, [-7, 12], [-0.7, 1.2]),
    ],
)
def test_constrained_output_combines_to_decimals(output: Output, scale_bits: int, opened: list[int], expected: object) -> None:
    share = np.array(opened, np.int64)
    found = combine_output([share - 77, np.full_like(share, 77)], output=output, scale_bits=scale_bits)
    assert found.tolist() == expected
