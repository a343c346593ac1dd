"""The range check of a training: exact at its borders, one bit an epoch, and a training that diverges ends with nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, Task
from protocols.mpc.checkpoint import Checkpoint
from protocols.mpc.engine import Engine, Opening, Steps
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.material.comparison import MaskedSign
from protocols.mpc.planning import derive_plan
from protocols.mpc.primitives.comparison import shared_nonnegative
from protocols.mpc.primitives.range import MAX_LIMIT, outside_range
from protocols.mpc.programs.optimisers import kept_value
from protocols.mpc.programs.range_check import MAX_SAMPLED, SAMPLES, GradientSamples, LastStep, is_out_of_range
from protocols.mpc.session import run_session
from protocols.mpc.timing import Stopwatch
from protocols.plan.operations import Open, Reveal
from protocols.training import CheckpointRule, Loss, Optimiser, OptimiserKind, Training
from tests.support.jobs import sgd
from tests.support.memory_links import as_links, connect, received_arrays
from tests.support.mpc_world import ProtocolRun, in_threads, keys_for, own_random, run_protocol, split
from tests.support.programs import (
    PARTIES,
    Table,
    Weights,
    a_network,
    a_table,
    a_training,
    assert_measured_as_planned,
    shares_of,
    some_weights,
    train,
)

MODEL, TASK, ROWS = a_network(4, 1), Task.BINARY, 20
TABLE, START = a_table(MODEL, TASK, ROWS), some_weights(MODEL)
FIRST, LAST = -(2**63), 2**63 - 1


def checked(values: Sequence[int], limits: Sequence[int], parties: int = 2) -> tuple[bool, ProtocolRun]:
    """The bit that a range check reveals to every party."""

    def protocol(engine: Engine, shares: Sequence[np.ndarray]) -> Steps[np.ndarray]:
        share = yield from outside_range(engine, shares[0], np.array(limits, np.int64))
        return np.array([engine.reveal_bit("test", share)])

    shares = [[part] for part in split(np.array(values, np.int64), parties)]
    run = run_protocol(protocol, shares)
    assert len({bool(bit[0]) for bit in run.shares}) == 1
    return bool(run.shares[0][0]), run


BORDERS = [(v, n) for n in (0, 1, 77, 2**33, MAX_LIMIT) for v in (n, n + 1, -n, -n - 1)]
FAR = [
    (v, n) for n in (0, 2**33, MAX_LIMIT) for v in (FIRST, FIRST + 1, FIRST + n, FIRST + n + 1, LAST, LAST - n, 2**62, -(2**62))
]


@pytest.mark.parametrize(("value", "limit"), [*BORDERS, *FAR])
def test_single_value_is_out_of_range_exactly_beyond_its_limit(value: int, limit: int) -> None:
    bit, _ = checked([value], [limit])
    assert bit == (abs(value) > limit)


@pytest.mark.parametrize("parties", [2, 3, 5])
def test_one_value_of_many_beyond_its_own_limit_is_found(parties: int) -> None:
    generator = np.random.default_rng(8)
    limits = generator.integers(0, 2**40, 200)
    values = generator.integers(-limits, limits, endpoint=True)
    assert not checked(values, limits, parties)[0]
    values[137] = -limits[137] - 1
    assert checked(values, limits, parties)[0]


def test_counts_of_all_values_out_of_range_do_not_cancel() -> None:
    # Every combination of counts 1 and 2 on either side; their sum is never taken for zero.
    values = [FIRST, LAST, 11, -11, FIRST, LAST] * 40
    assert checked(values, [10] * len(values))[0]


def test_range_check_takes_eight_rounds_and_reveals_one_byte() -> None:
    _, run = checked([5] * 96, [7] * 96, 3)
    revealed = [operation for operation in run.operations if isinstance(operation, Reveal)]
    assert revealed == [Reveal("test")]
    assert run.operations[-1] == revealed[0]
    assert (run.rounds, sum(isinstance(operation, Open) for operation in run.operations)) == (8, 7)
    # One mask and two results an element, and one comparison more, whose bits fill bytes of their own.
    opened = sum(operation.num_bytes for operation in run.operations if isinstance(operation, Open))
    assert run.opened_bytes == opened + 1
    assert 16.5 * 96 < run.opened_bytes < 16.5 * 96 + 64
    assert 72.125 * 96 < run.correction_bytes < 72.125 * 96 + 160


@pytest.mark.parametrize("value", [-3, 3])
def test_shares_of_a_result_that_may_be_revealed_are_uniform(value: int) -> None:
    # 4096 tests of one value: as many shares as not are 1, whatever the result is; five standard deviations are 160.
    def protocol(engine: Engine, shares: Sequence[np.ndarray]) -> Steps[np.ndarray]:
        material = engine.deal("sign", shares[0].shape, 0, 64, result=MaskedSign)
        opened = yield Opening("test", (shares[0] + material.mask,))
        return (yield from shared_nonnegative(engine, opened.numbers[0].reshape(1, -1), material.sign))

    run = run_protocol(protocol, [[part] for part in split(np.full(4096, value), 3)])
    bits = [np.unpackbits(share) for share in run.shares]
    assert (bits[0] ^ bits[1] ^ bits[2] == (value >= 0)).all()
    assert all(abs(int(mine.sum()) - 2048) <= 160 for mine in (*bits, bits[0] ^ bits[1], bits[1] ^ bits[2]))


@pytest.mark.parametrize("limits", [[-1], [MAX_LIMIT + 1], [1, 2], []])
def test_range_check_with_other_limits_is_refused(limits: list[int]) -> None:
    with pytest.raises(ConfideError) as caught:
        checked([0] * (len(limits) != 2) if limits else [], limits)
    assert caught.value.code is ErrorCode.INTERNAL


def test_forged_share_of_a_revealed_bit_is_refused() -> None:
    def protocol(engine: Engine, shares: Sequence[np.ndarray]) -> Steps[np.ndarray]:
        engine.reveal_bit("test", np.array([2 if engine.leads else 1], np.uint8))
        return shares[0]
        yield

    with pytest.raises(ConfideError) as caught:
        run_protocol(protocol, [[part] for part in split(np.array([1]), 2)])
    assert caught.value.code is ErrorCode.BAD_FRAME


PLAIN = Optimiser(OptimiserKind.SGD, "0.5")
MOMENTUM = replace(PLAIN, momentum="0.9")
ADAM = Optimiser(OptimiserKind.ADAM, "0.1", beta1="0.9", beta2="0.999", epsilon="0.0001")


def after_a_step(optimiser: Optimiser, gradient: float) -> tuple[dict[str, float], dict[str, float]]:
    """A parameter and its state before and after a step, by torch's rules but for Adam's move, which is not read."""
    before = {"w": 1.0} | ({"w#momentum": 30.0} if float(optimiser.momentum) else {})
    if optimiser.kind is OptimiserKind.ADAM:
        before |= {"w#mean": 2.0, "w#square": 3.0}
        after = {"w": 1.0, "w#mean": 2.0 + 0.1 * (gradient - 2.0), "w#square": 3.0}
    elif float(optimiser.momentum):
        velocity = 0.9 * 30.0 + gradient
        after = {"w": 1.0 - 0.5 * velocity, "w#momentum": velocity}
    else:
        after = {"w": 1.0 - 0.5 * gradient}
    return before, after


@pytest.mark.parametrize(
    ("optimiser", "gradient", "passes"),
    [
        (PLAIN, 31.9, True),
        (PLAIN, -32.1, False),
        (MOMENTUM, 31.5, True),
        (MOMENTUM, 32.5, False),
        (MOMENTUM, -32.5, False),
        (ADAM, 15.9, True),
        (ADAM, -16.1, False),
    ],
)
def test_gradient_of_the_last_step_is_read_from_what_it_left(optimiser: Optimiser, gradient: float, passes: bool) -> None:
    # Momentum 0.9 at 12 fractional bits is off by 2^-13.4, which momentum 30 makes 0.003; the other rules are exact to 1e-5.
    limit = Fraction(16 if optimiser is ADAM else 32)
    before, after = ({name: np.array([value]) for name, value in side.items()} for side in after_a_step(optimiser, gradient))
    assert reveals(optimiser, before, after, limit) == (not passes)


@pytest.mark.parametrize(("name", "limit"), [("w", 512.0), ("w#momentum", 512.0), ("w#mean", 16.0), ("w#square", 512.0)])
def test_what_is_kept_passes_up_to_half_its_declared_limit(name: str, limit: float) -> None:
    optimiser = ADAM if name in ("w#mean", "w#square") else MOMENTUM if name == "w#momentum" else PLAIN
    states = {"w", name} | ({"w#mean", "w#square"} if optimiser is ADAM else set())
    for value, passes in ((limit, True), (-limit, True), (limit + 2.0**-20, False)):
        kept = {key: np.array([value if key == name else 0.0]) for key in states}
        # Nothing moved: only its size is tested.
        assert reveals(optimiser, kept, kept, Fraction(10**5)) == (not passes)


def reveals(optimiser: Optimiser, before: dict[str, np.ndarray], after: dict[str, np.ndarray], limit: Fraction) -> bool:
    names = list(before)
    sides = [shares_of(side, 2) for side in (before, after)]

    def protocol(engine: Engine, shares: Sequence[np.ndarray]) -> Steps[np.ndarray]:
        old, new = (
            {name: kept_value(name, part) for name, part in zip(names, side, strict=True)}
            for side in (shares[: len(names)], shares[len(names) :])
        )
        last = LastStep(optimiser, Fraction(1, 2), {"w": old["w"]}, old, {"w": limit})
        return np.array([is_out_of_range(engine, new, last, GradientSamples(seed="00", sizes={"w": 1}, steps=0))])
        yield

    run = run_protocol(protocol, [[side[party][name] for side in sides for name in names] for party in range(2)])
    assert run.rounds == 8
    return bool(run.shares[0][0])


@pytest.mark.parametrize("training", [sgd(2, 8, "0.3", "0.9"), replace(sgd(2, 10, "0"), optimiser=ADAM)])
def test_ordinary_training_opens_exactly_one_bit_an_epoch(training: Training) -> None:
    world = train(a_training(TABLE, MODEL, TASK, training, computing=PARTIES[:3]), TABLE, weights=START)
    assert_measured_as_planned(world)
    plan = world.plan
    assert plan.revealed_bits == plan.to_document()["totals"]["revealed_bits"] == 2
    assert {s.name: (s.revealed_bits, s.rounds) for s in plan.segments if s.revealed_bits} == {"range check": (1, 8)}
    revealed = [array for array in received_arrays(world.links, "alpha") if array.dtype == np.uint8 and array.shape == (1,)]
    assert len(revealed) >= 2


def outcomes(job: Job, table: Table, weights: Weights) -> tuple[dict[str, ConfideError | None], dict[str, list[Checkpoint]]]:
    """How every party ends, each on its own; and the checkpoints that it has made."""
    plan = derive_plan(job)
    links, keys = connect(plan.participants), keys_for(plan, job)
    kept: dict[str, list[Checkpoint]] = {name: [] for name in plan.participants}

    def party(name: str) -> ConfideError | None:
        try:
            run_session(
                job=job,
                plan=plan,
                party=name,
                keys=keys[name],
                links=as_links(links[name]),
                inputs=LocalInputs(
                    rows=table.rows_of(job, name), initial_weights=weights if name in job.computing_parties else None
                ),
                progress=lambda _: None,
                checkpoint=kept[name].append,
                now=lambda: 0.0,
                random=own_random(name),
                stopwatch=Stopwatch(wall=lambda: 0.0, processor=lambda: 0.0),
            )
        except ConfideError as error:
            return error
        return None

    tasks = {name: lambda name=name: party(name) for name in plan.participants}
    return in_threads(tasks, links), kept


def said(ends: dict[str, ConfideError | None], computing: Sequence[str]) -> set[tuple[ErrorCode, str] | None]:
    return {None if error is None else (error.code, error.what) for error in (ends[name] for name in computing)}


@pytest.mark.parametrize("computing", [PARTIES[:2], PARTIES[:3]], ids=["2 parties", "3 parties"])
def test_diverging_training_ends_alike_at_all_computing_parties_and_keeps_nothing(computing: tuple[str, ...]) -> None:
    table = a_table(MODEL, Task.REAL, ROWS)
    training = replace(sgd(9, 8, "2", loss=Loss.MEAN_SQUARED_ERROR), checkpoints=CheckpointRule(1, 0))
    job = a_training(table, MODEL, Task.REAL, training, computing=computing)
    ends, checkpoints = outcomes(job, table, START)
    what = "the numbers of the training left their declared range by the end of epoch 2; no model is kept"
    assert said(ends, computing) == {(ErrorCode.TRAINING_DIVERGED, what)}
    # The epoch that passed left a checkpoint, the one that did not left none.
    assert [[made.run for made in checkpoints[name]] for name in computing] == [[3]] * len(computing)
    assert ends["gamma"] is None  # the dealer deals ahead and learns nothing of it


@pytest.mark.parametrize(("size", "passes"), [(31.0, True), (33.0, False), (300.0, False)])
def test_large_gradient_is_found_though_every_parameter_stays_small(size: float, passes: bool) -> None:
    # Rows of ones whose label is 0, hidden values of 1 and logits above 180: the gradient of the first layer is the second's
    # weights, and one step at a rate of 2^-8 makes nothing else large.
    table = Table(np.ones((ROWS, 4)), np.zeros(ROWS))
    weights = {name: np.zeros(spec.shape) for spec in MODEL.parameters for name in [spec.name]}
    weights |= {"first.bias": np.ones(6), "second.weight": np.full((1, 6), size)}
    job = a_training(table, MODEL, TASK, sgd(1, ROWS, "0.00390625"), computing=PARTIES[:2])
    ends, _ = outcomes(job, table, weights)
    found = {None if end is None else end[0] for end in said(ends, PARTIES[:2])}
    assert found == ({None} if passes else {ErrorCode.TRAINING_DIVERGED})


@pytest.mark.parametrize(("size", "passes"), [(31.9, True), (32.003, False)])
def test_large_gradient_in_the_middle_of_an_epoch_is_found(size: float, passes: bool) -> None:
    # As above in two steps: the first moves the second layer's weights by 2^-8, so that the gradients of the last step, all of
    # which are tested, are in range. 0.003 is beyond the 0.001 that roundings have, and 32 units of 2^-16.
    table = Table(np.ones((ROWS, 4)), np.zeros(ROWS))
    weights = {name: np.zeros(spec.shape) for spec in MODEL.parameters for name in [spec.name]}
    weights |= {"first.bias": np.ones(6), "second.weight": np.full((1, 6), size)}
    job = a_training(table, MODEL, TASK, sgd(1, ROWS // 2, "0.00390625"), computing=PARTIES[:2])
    ends, _ = outcomes(job, table, weights)
    found = {None if end is None else end[0] for end in said(ends, PARTIES[:2])}
    assert found == ({None} if passes else {ErrorCode.TRAINING_DIVERGED})


def sampled(steps: int, sizes: dict[str, int], taken: int) -> tuple[np.ndarray, np.ndarray, GradientSamples]:
    """What is kept of so many steps in which every parameter element moves by its place, from 1."""
    samples = GradientSamples(seed="5e", sizes=sizes, steps=steps)
    before = {name: kept_value(name, np.zeros(size, np.int64)) for name, size in sizes.items()}
    after = {name: kept_value(name, np.arange(1, size + 1)) for name, size in sizes.items()}
    for step in range(taken):
        samples.take(step, 40 + step, after, LastStep(PLAIN, Fraction(1), before, {}, dict.fromkeys(sizes, Fraction(step + 1))))
    return *samples.give(), samples


def test_gradients_are_sampled_at_other_public_places_in_every_step_and_small_tensors_whole() -> None:
    share, limits, samples = sampled(3, {"large": 10**6, "small": 5}, 3)
    assert share.size == limits.size == 3 * (SAMPLES + 5)
    of_steps = share.reshape(3, -1)
    assert (of_steps[:, SAMPLES:] == np.arange(1, 6)).all()
    assert all(len(set(step)) > SAMPLES // 2 for step in of_steps[:, :SAMPLES].tolist())
    # Of a million places, two steps share one with probability 0.004; these seeds do not.
    assert len({*of_steps[:, :SAMPLES].reshape(-1).tolist()}) == 3 * SAMPLES
    assert list(np.unique(limits)) == [(step << 24) + 64 for step in (1, 2, 3)]
    assert not samples.give()[0].any()


def test_epoch_that_was_begun_before_has_as_many_samples_as_any() -> None:
    share, limits, _ = sampled(5, {"w": 200}, 2)
    assert share.size == 5 * SAMPLES
    assert share[: 2 * SAMPLES].all()
    assert not share[2 * SAMPLES :].any()
    assert not limits[2 * SAMPLES :].any()


def test_samples_of_an_epoch_of_many_steps_are_bounded() -> None:
    steps = 3 * MAX_SAMPLED // SAMPLES
    share, _, _ = sampled(steps, {"w": 1000}, 9)
    assert share.size == MAX_SAMPLED
    # Three of the nine steps gave some.
    assert np.count_nonzero(share) == 3 * SAMPLES
