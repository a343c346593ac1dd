"""No mask hides two values and nothing is opened unmasked: in whole trainings, in serving over epochs, in every primitive.

`tests/support/related_masks.py` says how it is seen from outside, without a look at ids or types.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from protocols.job import OutputKind, Task
from protocols.model.layers import (
    AveragePool,
    BatchNorm,
    Convolution,
    Flatten,
    Gelu,
    LayerNorm,
    LeakyRelu,
    Linear,
    MaxPool,
    Operator,
    Relu,
)
from protocols.model.spec import ModelSpec
from protocols.mpc.engine import Engine, Opening, Steps
from protocols.mpc.material.multiplication import Triple
from protocols.mpc.primitives.products import partial_product
from protocols.mpc.primitives.relu import gate, rectify
from protocols.mpc.primitives.truncation import truncate, truncate_roughly
from protocols.mpc.values import PartialShare, SharedValue, ValueView
from protocols.ring import RingArray
from protocols.training import Loss
from tests.support.jobs import sgd
from tests.support.mpc_world import random_ring, run_protocol, split
from tests.support.programs import PARTIES, a_network, a_table, a_training, some_weights, train
from tests.support.related_masks import RUNS, opened_by, related
from tests.support.serving_world import ServingWorld
from tests.support.small_serving import SERVING, WEIGHTS, a_served_model, some_rows

SEEDS = [f"run {index}" for index in range(RUNS)]
ROWS = 128
LINE: dict[str, Operator] = {
    "convolution": Convolution(3, (3,), (1,), (1,)),
    "norm": BatchNorm(),
    "relu": Relu(),
    "pool": MaxPool((2,), (2,), (0,)),
    "flat": Flatten(),
    "middle": Linear(4),
    "scaled": LayerNorm(),
    "gelu": Gelu(),
    "leaky": LeakyRelu("0.1"),
    "last": Linear(3),
}
MODELS = {"dense": a_network(5, 3), "all kinds of layers": ModelSpec.chain((2, 6), mean=AveragePool((3,), (1,), (1,)), **LINE)}


@pytest.mark.parametrize(("name", "parties"), [("dense", 2), ("dense", 3), ("all kinds of layers", 2)])
def test_no_mask_of_a_training_hides_two_values(name: str, parties: int) -> None:
    # Two steps: the data matrix and its mask serve both; weights, errors and momenta are new values in the second.
    model = MODELS[name]
    table, start = a_table(model, Task.CLASSES, ROWS), some_weights(model)
    training = sgd(1, 64, "0.1", "0.9", loss=Loss.CROSS_ENTROPY)
    job = a_training(table, model, Task.CLASSES, training, computing=PARTIES[:parties])
    runs = [opened_by(train(job, table, weights=start, seed=seed).links, PARTIES[:parties]) for seed in SEEDS]
    assert sum(array.size for array in runs[0]) > 10_000
    assert related(runs) == set()


def test_no_mask_of_a_serving_hides_two_values() -> None:
    # Blocks that are not full, a query asked twice, and the same weights opened again under fresh keys.
    runs = [_serve(seed) for seed in SEEDS]
    assert len(runs[0]) > 10
    assert related(runs) == set()


def _serve(seed: str) -> Sequence[np.ndarray]:
    world = ServingWorld(a_served_model(kind=OutputKind.SCORE, lifetime_s=60), WEIGHTS, seed=seed)
    world.start()
    rows = some_rows(3)
    for _ in range(2):
        for _ in range(2):
            world.answer(world.ask(rows))
        world.clock.seconds += SERVING.rekey_s
    world.answer(world.ask(rows))
    world.stop()
    assert world.outcomes["alpha"].epochs > 1
    sent = [
        [array for _, arrays in world.links[one][two].log for array in arrays if array.dtype == np.int64]
        for one, two in (("alpha", "beta"), ("beta", "alpha"))
    ]
    return [one + two for one, two in zip(*sent, strict=True)]


def _backward(engine: Engine, mine: Sequence[RingArray]) -> Steps[RingArray]:
    """A product taken in by a rectifier, a gate and three truncations, transposed and multiplied; whole shares of it besides."""
    x, y = (ValueView(SharedValue(share, scale_bits=16, magnitude_bits=20)) for share in mine)
    forward = yield from partial_product(engine, x, y)
    rectified = yield from rectify(engine, forward, 16)
    back = yield from partial_product(engine, y.transpose, x.transpose)
    gated = yield from gate(engine, back.times(5).transpose().contiguous(), rectified.bit, 9)
    again = yield from gate(engine, back.transpose().contiguous(), rectified.bit, 0)
    one = yield from truncate(engine, forward, 16)
    two = yield from truncate(engine, PartialShare(forward.whole()).plus(forward), 16)
    rough = yield from truncate_roughly(engine, forward.times(7), 32)
    return rectified.kept + gated.kept + again.kept + one + two + rough


def _opened(protocol: object, shares: Sequence[Sequence[np.ndarray]], seed: str) -> list[np.ndarray]:
    run = run_protocol(protocol, shares, seed=seed)  # type: ignore[arg-type]
    return opened_by(run.links, [f"p{index}" for index in range(len(shares))])


@pytest.mark.parametrize("parties", [2, 3, 5])
def test_no_mask_of_products_and_gates_hides_two_values(parties: int) -> None:
    values = [random_ring(1, (16, 16)) >> 44, random_ring(2, (16, 16)) >> 44]
    shares = [list(mine) for mine in zip(*(split(value, parties) for value in values), strict=True)]
    assert related([_opened(_backward, shares, seed) for seed in SEEDS]) == set()


def _reusing(sign: int) -> object:
    def protocol(engine: Engine, mine: Sequence[RingArray]) -> Steps[RingArray]:
        masks = engine.deal("triple", mine[0].shape, mine[1].shape, result=Triple)
        opened = yield Opening("reused", (mine[0] - masks.left, mine[1] + np.int64(sign) * masks.left))
        return opened.numbers[0]

    return protocol


def _unmasked(engine: Engine, mine: Sequence[RingArray]) -> Steps[RingArray]:
    masks = engine.deal("triple", mine[0].shape, mine[1].shape, result=Triple)
    opened = yield Opening("bare", (mine[0], mine[1] - masks.left))
    return opened.numbers[0]


def test_masks_that_are_reused_or_missing_are_found() -> None:
    # What the tests above would miss otherwise.
    values = [random_ring(1, (8,)) >> 20, random_ring(2, (8,)) >> 20]
    shares = [list(mine) for mine in zip(*(split(value, 2) for value in values), strict=True)]
    for sign in (1, -1):
        assert related([_opened(_reusing(sign), shares, seed) for seed in SEEDS]) == {(0, 1)}
    assert related([_opened(_unmasked, shares, seed) for seed in SEEDS]) == {(0, 0)}
    flips = [random_ring(seed, (64,)) for seed in (1, 2, 3)]
    runs = [[(flip & 255).astype(np.uint8), (flip ^ random_ring(9, (64,)) & 255).astype(np.uint8)] for flip in flips]
    assert related(runs) == {(0, 1)}
