"""Attempts to use one mask, or one saved bit, for two values: each is impossible, refused, or opens nothing twice."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence

import numpy as np
import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.channels import ZeroExchange
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.material.context import DealerMaterial, ShapeMaterial
from protocols.mpc.material.registry import deal
from protocols.mpc.primitives.products import product
from protocols.mpc.primitives.relu import SavedBit, gate, rectify
from protocols.mpc.tapes import RecordingTape
from protocols.mpc.values import SharedValue, ValueView
from protocols.plan.operations import Deal, Open, Operation
from protocols.ring import RingArray
from tests.support.memory_links import received_arrays
from tests.support.mpc_world import random_ring, run_protocol, split, stream

SQUARE = (3, 3)


class _Nowhere:
    def room(self, count: int) -> np.ndarray:
        return np.empty(count, np.uint8)


def a_value(share: RingArray) -> SharedValue:
    return SharedValue(share, scale_bits=16, magnitude_bits=20)


def an_engine() -> Engine:
    return Engine(index=0, parties=2, exchange=ZeroExchange(), material=ShapeMaterial(), tape=RecordingTape())


def openings(operations: Sequence[Operation]) -> list[int]:
    return [operation.num_bytes for operation in operations if isinstance(operation, Open)]


def test_value_in_two_products_is_opened_once_and_its_recomputation_under_another_mask() -> None:
    def twice(engine: Engine, mine: Sequence[RingArray]) -> Steps[RingArray]:
        x, y, z = (a_value(share) for share in mine)
        first = yield from product(engine, ValueView(x), ValueView(y))
        second = yield from product(engine, ValueView(x).transpose, ValueView(z))
        again = yield from product(engine, ValueView(a_value(mine[0])), ValueView(y))
        return first + second + again

    values = [random_ring(seed, SQUARE) for seed in (1, 2, 3)]
    shares = [list(parts) for parts in zip(*(split(value, 2) for value in values), strict=True)]
    run = run_protocol(twice, shares)
    x, y, z = values
    assert np.array_equal(run.value, 2 * (x @ y) + x.T @ z)
    # x and y; z alone; the value that was made anew from x's share alone, since y has its mask already.
    assert openings(run.operations) == [2 * 72, 72, 72]
    masks = [operation.parameters[0] for operation in run.operations if isinstance(operation, Deal) and operation.kind == "mask"]
    assert len(masks) == len(set(masks)) == 4
    sent = received_arrays(run.links, "p1")[:4]
    assert not np.array_equal(sent[0], sent[3])  # the same share, under two masks


def test_share_and_mask_of_a_value_cannot_be_replaced() -> None:
    value = a_value(random_ring(1, SQUARE))
    with pytest.raises(AttributeError):
        value.share = random_ring(2, SQUARE)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        value.mask = random_ring(2, SQUARE)  # type: ignore[attr-defined]
    public = {name for name in dir(SharedValue) if not name.startswith("_")}
    assert public == {"for_session", "magnitude_bits", "open_masked", "partial", "scale_bits", "shape", "share"}
    with pytest.raises(AttributeError):
        value.partial = value.partial  # type: ignore[misc]


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_value_cannot_be_copied_with_its_mask(duplicate: object) -> None:
    engine = an_engine()
    value = a_value(np.zeros(SQUARE, np.int64))
    with engine.segment(None):
        engine.run(SharedValue.open_masked(engine, [value]))
        with pytest.raises(TypeError, match="not pickled"):
            duplicate(value)  # type: ignore[operator]


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_saved_bit_cannot_be_copied(duplicate: object) -> None:
    engine = an_engine()
    with engine.segment(None):
        bit = engine.run(rectify(engine, np.zeros(8, np.int64), 16)).bit
        with pytest.raises(TypeError, match="not pickled"):
            duplicate(bit)  # type: ignore[operator]


def test_dealer_refuses_a_plan_that_assigns_a_mask_twice() -> None:
    dealer = DealerMaterial([stream("one"), stream("two")], _Nowhere())
    dealer.begin_segment(None)
    deal(dealer, Deal("mask", (0, 0, SQUARE)))
    with pytest.raises(ConfideError, match="twice") as caught:
        deal(dealer, Deal("mask", (0, 0, SQUARE)))
    assert caught.value.code is ErrorCode.INTERNAL


def test_dealer_refuses_a_plan_that_hides_two_bits_by_one_flip() -> None:
    rectifier, _ = _deals_of_a_gate()
    dealer = DealerMaterial([stream("one"), stream("two")], _Nowhere())
    dealer.begin_segment(None)
    deal(dealer, rectifier)
    for operation in (rectifier, Deal("mask", (0, 0, (8,)))):  # the bit's id is the segment's first
        with pytest.raises(ConfideError, match="twice"):
            deal(dealer, operation)


def test_dealer_refuses_masks_and_bits_of_another_segment() -> None:
    rectifier, gated = _deals_of_a_gate()
    dealer = DealerMaterial([stream("one"), stream("two")], _Nowhere())
    dealer.begin_segment(None)
    deal(dealer, rectifier)
    deal(dealer, gated)
    dealer.begin_segment(None)
    with pytest.raises(ConfideError, match="before it exists"):
        deal(dealer, gated)


def _deals_of_a_gate() -> tuple[Deal, Deal]:
    """What the plan of a rectifier and of a gate on its bit deals."""
    engine = an_engine()
    with engine.segment(None):
        bit = engine.run(rectify(engine, np.zeros(8, np.int64), 16)).bit
        engine.run(gate(engine, np.zeros(8, np.int64), bit, 16))
    tape = engine._tape
    assert isinstance(tape, RecordingTape)
    first, second = (operation for operation in tape.operations if isinstance(operation, Deal))
    return first, second


def test_product_with_a_value_that_was_opened_in_another_segment_is_refused() -> None:
    # Ids of masks begin anew in every segment: the old value's id would name another value's mask.
    engine = an_engine()
    old, partner, new = (a_value(np.zeros(SQUARE, np.int64)) for _ in range(3))
    with engine.segment(None):
        engine.run(product(engine, ValueView(old), ValueView(partner)))
    with engine.segment(None), pytest.raises(ConfideError, match="another segment") as caught:
        engine.run(product(engine, ValueView(new), ValueView(old)))
    assert caught.value.code is ErrorCode.INTERNAL


def test_two_rectifiers_of_one_value_hide_their_bits_by_different_flips() -> None:
    values = random_ring(5, (64,)) >> 2

    def both(engine: Engine, mine: Sequence[RingArray]) -> Steps[RingArray]:
        first = yield from rectify(engine, mine[0], 16)
        second = yield from rectify(engine, mine[0], 16)
        assert first.bit._bit_id != second.bit._bit_id
        return first.bit._flipped.astype(np.int64) ^ second.bit._flipped.astype(np.int64)

    run = run_protocol(both, [[share] for share in split(values, 2)])
    # The xor of what is opened for equal bits is the xor of two flips: 64 fair coins, 5 standard deviations of 4 around 32.
    assert 12 <= run.shares[0].sum() <= 52


def test_saved_bit_gates_values_of_its_shape_each_under_a_mask_of_its_own() -> None:
    values, one, two = random_ring(5, (16,)) >> 4, random_ring(6, (16,)) >> 4, random_ring(7, (16,)) >> 4

    def gated(engine: Engine, mine: Sequence[RingArray]) -> Steps[RingArray]:
        bit = (yield from rectify(engine, mine[0], 0)).bit
        first = yield from gate(engine, mine[1], bit, 0)
        second = yield from gate(engine, mine[2], bit, 0)
        same = yield from gate(engine, mine[1], bit, 0)
        return np.stack([first.kept, second.kept, same.kept])

    shares = [list(parts) for parts in zip(*(split(value, 2) for value in (values, one, two)), strict=True)]
    run = run_protocol(gated, shares)
    assert np.array_equal(run.value, np.stack([one, two, one]) * (values >= 0))
    # The bit itself is never opened again: each gate opens its own value, 8 bytes an element, and the same one differently.
    assert openings(run.operations)[-3:] == [128, 128, 128]
    last = received_arrays(run.links, "p1")[-3:]
    assert not np.array_equal(last[0], last[2])


def test_saved_bit_of_another_segment_is_refused() -> None:
    engine = an_engine()
    with engine.segment(None):
        bit = engine.run(rectify(engine, np.zeros(8, np.int64), 16)).bit
    with engine.segment(None), pytest.raises(ConfideError, match="another segment"):
        engine.run(gate(engine, np.zeros(8, np.int64), bit, 16))


def test_saved_bit_of_another_shape_is_refused() -> None:
    engine = an_engine()
    with engine.segment(None):
        bit = engine.run(rectify(engine, np.zeros(8, np.int64), 16)).bit
        with pytest.raises(ConfideError, match="shape"):
            engine.run(gate(engine, np.zeros(9, np.int64), bit, 16))
    assert {name for name in dir(SavedBit) if not name.startswith("_")} == {"shape", "share"}
