"""Serving a shared model: whole sessions in one process, against the model in the clear."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.job import OutputKind
from protocols.model.layers import (
    AdaptiveAveragePool,
    AveragePool,
    BatchNorm,
    Flatten,
    LeakyRelu,
    Linear,
    Operator,
    Relu,
    Softmax,
)
from protocols.model.spec import ModelSpec
from protocols.mpc.engine import Engine
from protocols.mpc.material.context import DealerMaterial, ShareMaterial
from protocols.mpc.planning import derive_plan
from protocols.mpc.programs.names import ANSWER, OPEN_MODEL
from protocols.mpc.programs.serve import ServeProgram
from protocols.mpc.serving_lead import LeadTurns
from protocols.mpc.serving_supply import blocks_ahead
from protocols.mpc.serving_turns import Announcement, EndReason, Query, Turn
from protocols.plan.operations import Deal, Open
from tests.support.memory_links import all_bytes, received_arrays
from tests.support.serving_world import ServingWorld
from tests.support.small_serving import WEIGHTS, a_served_model, labels_of, logits_of, some_rows

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocols" / "serving.md"


def test_serving_queries_of_odd_sizes_gives_the_labels_of_the_plain_model() -> None:
    world = ServingWorld(a_served_model(), WEIGHTS).start()
    for size in (1, 3, 4, 11):
        rows = some_rows(size, seed=size)
        assert np.array_equal(world.answer(world.ask(rows)), labels_of(rows))
    world.stop()
    assert {outcome.reason for outcome in world.outcomes.values()} == {EndReason.STOPPED}
    assert world.outcomes["alpha"].totals == world.outcomes["beta"].totals
    assert (world.outcomes["gamma"].totals.queries, world.outcomes["gamma"].totals.rows) == (4, 19)
    assert world.outcomes["alpha"].totals.blocks == 1 + 1 + 1 + 3


def test_serving_probabilities_among_three_parties_stays_within_the_softmax_error() -> None:
    world = ServingWorld(a_served_model(parties=3, kind=OutputKind.PROBABILITY), WEIGHTS).start()
    rows = some_rows(5)
    expected = np.exp(logits_of(rows)) / np.exp(logits_of(rows)).sum(axis=1, keepdims=True)
    # The error of the softmax (docs/protocols/softmax.md) and of its last truncation; logits are off by one unit of each hidden
    # value and one of their own, and a probability moves by half of what its logits do.
    logits = (np.abs(WEIGHTS["second.weight"]).sum(axis=1).max() + 1) * 2**-16
    assert np.abs(world.answer(world.ask(rows)) - expected).max() <= 2.3e-5 + 2**-16 + logits / 2
    world.stop()


def test_serving_scores_opens_the_logits_of_the_plain_model() -> None:
    world = ServingWorld(a_served_model(kind=OutputKind.SCORE), WEIGHTS).start()
    rows = some_rows(6)
    # Weights are exact. A hidden value is off by one unit of 2^-16 at most and counts with its weights; then one more unit.
    most = (np.abs(WEIGHTS["second.weight"]).sum(axis=1).max() + 1) * 2**-16
    assert np.abs(world.answer(world.ask(rows)) - logits_of(rows)).max() <= most
    world.stop()


@pytest.mark.parametrize(("kind", "rounds"), [(OutputKind.SCORE, 12), (OutputKind.LABEL, 17)])
def test_cost_of_a_block_of_three_layers_is_the_one_of_the_page(kind: OutputKind, rounds: int) -> None:
    layers = {"first": Linear(128), "a": Relu(), "second": Linear(128), "b": Relu(), "last": Linear(10), "softmax": Softmax()}
    model = ModelSpec.chain(784, **layers)
    plan = derive_plan(replace(a_served_model(kind=kind, block_rows=128, max_rows=128), model=model))
    opening, answering = plan.segment(OPEN_MODEL), plan.segment(ANSWER)
    assert (opening.rounds, answering.rounds) == (1, rounds)
    assert opening.opened_bytes == 8 * (784 * 128 + 128 * 128 + 128 * 10)
    # Rows and hidden values under masks, the rectifiers of 2 x 128 x 128 values, and one truncation of the scores.
    scores = 8 * 128 * (784 + 128 + 128) + 2 * 12.5 * 128 * 128 + 8 * 128 * 10
    assert kind is OutputKind.LABEL or answering.opened_bytes <= scores
    numbers = [f"{number:,}".replace(",", " ") for number in (answering.opened_bytes, answering.correction_bytes)]
    assert f"| {kind.value} | {rounds} | {numbers[0]} | {numbers[1]} |" in PAGE.read_text()


def test_an_answer_opens_no_weights_behind_means_that_leave_little_room() -> None:
    # A mean over nine or four values is a pending factor; cut to fewer bits, weights would be new values in every block.
    layers: dict[str, Operator] = {
        "means": AveragePool((3, 3), (3, 3), (0, 0)), "norm": BatchNorm(), "relu": Relu(), "mean": AdaptiveAveragePool((1, 1)),
        "flat": Flatten(), "first": Linear(6), "leaky": LeakyRelu("0.1"), "last": Linear(3), "softmax": Softmax(),
    }  # fmt: skip
    model = ModelSpec.chain((2, 9, 9), **layers)
    plan = derive_plan(replace(a_served_model(kind=OutputKind.SCORE), model=model))
    masks = [deal.parameters for deal in plan.segment(ANSWER).operations if isinstance(deal, Deal) and deal.kind == "mask"]
    assert [(for_session, shape) for _, for_session, shape in masks] == [(0, (4, 2, 3, 3)), (0, (4, 2)), (0, (4, 6))]


def test_queries_that_wait_together_are_answered_in_one_block() -> None:
    world = ServingWorld(a_served_model(), WEIGHTS)
    waiting = {world.ask(some_rows(size, seed=size)): size for size in (1, 2, 1)}
    world.start()
    for query, size in waiting.items():
        assert np.array_equal(world.answer(query), labels_of(some_rows(size, seed=size)))
    world.stop()
    assert world.outcomes["alpha"].totals.blocks == 1


def test_an_answer_opens_nothing_of_the_weights() -> None:
    plan = ServingWorld(a_served_model(), WEIGHTS).plan
    opened = [array for op in plan.segment(ANSWER).operations if isinstance(op, Open) for array in op.arrays]
    weights = {shape for value in WEIGHTS.values() for shape in (value.shape, value.shape[::-1]) if len(shape) > 1}
    assert not weights & {array.shape for array in opened if array.dtype == "int64"}
    # Masked operands are the block's rows and the hidden values, nothing else.
    operands = [op.arrays for op in plan.segment(ANSWER).operations if isinstance(op, Open) and op.name == "operands"]
    assert [[array.shape for array in arrays] for arrays in operands] == [[(4, 5)], [(4, 6)]]
    assert plan.segment(OPEN_MODEL).rounds == 1


def test_rounds_and_bytes_of_a_serving_are_those_of_the_blocks_that_ran() -> None:
    world = ServingWorld(a_served_model(), WEIGHTS).start()
    world.answer(world.ask(some_rows(6)))
    world.stop()
    opening, answering = world.plan.segment(OPEN_MODEL), world.plan.segment(ANSWER)
    assert world.outcomes["alpha"].rounds == world.outcomes["beta"].rounds == opening.rounds + 2 * answering.rounds
    dealt = world.outcomes["gamma"].totals.blocks
    assert world.outcomes["gamma"].sent_bytes["beta"] == opening.correction_bytes + dealt * answering.correction_bytes
    assert world.outcomes["gamma"].sent_bytes["alpha"] == 0


def test_the_dealer_deals_ahead_as_far_as_credit_reaches_and_no_further() -> None:
    world = ServingWorld(a_served_model(), WEIGHTS).start()
    ahead = blocks_ahead(world.plan)
    for size in (4, 12):
        world.answer(world.ask(some_rows(size)))
    world.stop()
    dealt = [progress.step for progress in world.progress["gamma"]]
    assert dealt == list(range(1, ahead + 4 + 1))  # four blocks were used, and each gave one more credit


def test_the_same_rows_asked_twice_are_opened_under_different_masks() -> None:
    world = ServingWorld(a_served_model(), WEIGHTS).start()
    rows = some_rows(4)
    for _ in range(2):
        world.answer(world.ask(rows))
    world.stop()
    shares = [
        arrays[0] for party in ("alpha", "beta") for _, arrays in world.links[party][_other(party)].log if _is_block(arrays)
    ]
    first, second = shares[0] + shares[2], shares[1] + shares[3]
    encoded = np.rint(rows * 2**16).astype(np.int64)
    assert not np.any(first == second)
    # What came of them are two one-time pads: neither is the rows, and both are of the whole ring.
    assert np.all(np.abs(first - encoded) > 2**32)
    assert np.all(np.abs(second - encoded) > 2**32)


def test_shares_of_a_query_never_travel_between_parties() -> None:
    world = ServingWorld(a_served_model(), WEIGHTS)
    query = world.ask(some_rows(4))
    held = [desk.take(query) for desk in world.desks.values()]
    world.ask(some_rows(4), query="ff" * 16)
    world.start().answer("ff" * 16)
    world.stop()
    for party in world.plan.participants:
        seen = all_bytes(received_arrays(world.links, party)).tobytes()
        assert all(share.astype("<i8").tobytes() not in seen for share in held)


def test_a_query_that_one_party_never_gets_is_refused_and_the_others_go_on() -> None:
    world = ServingWorld(a_served_model(), WEIGHTS, desk_clock=lambda: 100 * time.monotonic()).start()
    lonely = [world.ask(some_rows(2), only=[party]) for party in ("alpha", "beta")]
    rows = some_rows(3)
    assert np.array_equal(world.answer(world.ask(rows)), labels_of(rows))
    for party, query in zip(("alpha", "beta"), lonely, strict=True):
        refused = world.channels[party].wait_for("refused", query)
        assert refused.header["code"] == ErrorCode.DEADLINE_PASSED.name
        assert _other(party) in refused.header["what"]
    world.stop()
    assert world.outcomes["alpha"].totals.queries == 1


def test_a_query_of_different_sizes_at_two_parties_is_refused() -> None:
    world = ServingWorld(a_served_model(), WEIGHTS, desk_clock=lambda: 100 * time.monotonic()).start()
    world.ask(some_rows(2), only=["alpha"], query="ee" * 16)
    world.ask(some_rows(3), only=["beta"], query="ee" * 16)
    for party in ("alpha", "beta"):
        assert world.channels[party].wait_for("refused", "ee" * 16).header["code"] == "DEADLINE_PASSED"
    world.stop()


def test_fresh_keys_come_in_between_and_open_the_weights_under_another_mask() -> None:
    world = ServingWorld(a_served_model(parties=3), WEIGHTS).start()
    rows = some_rows(4)
    first = world.answer(world.ask(rows))
    world.clock.seconds += 20  # past rekey_s, before lifetime_s
    second = world.answer(world.ask(rows))
    world.stop()
    assert np.array_equal(first, second)
    assert np.array_equal(second, labels_of(rows))
    assert {outcome.epochs for outcome in world.outcomes.values()} == {2}
    opened = [arrays for _, arrays in world.links["alpha"]["beta"].log if [a.shape for a in arrays] == [(6, 5), (3, 6)]]
    assert len(opened) == 2
    assert not np.any(opened[0][0] == opened[1][0])
    for keys in world.keys.values():
        assert not keys._secrets  # the first keys are gone everywhere


def test_nothing_of_the_old_epoch_is_left_after_fresh_keys() -> None:
    gc.collect()
    before = _alive()
    world = ServingWorld(a_served_model(), WEIGHTS).start()
    world.answer(world.ask(some_rows(4)))
    world.clock.seconds += 20
    world.answer(world.ask(some_rows(4)))
    during = _alive()
    world.stop()
    # One program, one engine and one stream from the dealer at each computing party, one material at the dealer.
    assert {kind: during[kind] - before[kind] for kind in during} == {
        ServeProgram: 2,
        Engine: 2,
        ShareMaterial: 2,
        DealerMaterial: 1,
    }


def _alive() -> dict[type, int]:
    kinds = (ServeProgram, Engine, ShareMaterial, DealerMaterial)
    found = [type(item) for item in gc.get_objects()]
    return {kind: found.count(kind) for kind in kinds}


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        (EndReason.STOPPED, lambda world: world.desks["beta"].stop()),
        (EndReason.IDLE, lambda world: setattr(world.clock, "seconds", world.clock.seconds + 8)),
        (EndReason.LIFETIME, lambda world: setattr(world.clock, "seconds", world.clock.seconds + 30)),
        (EndReason.QUOTA, lambda world: world.answer(world.ask(some_rows(39)))),
    ],
)
def test_a_serving_ends_everywhere_for_the_same_reason(reason: EndReason, cause: Callable[[ServingWorld], object]) -> None:
    world = ServingWorld(a_served_model(max_rows=40, idle_s=7), WEIGHTS).start()
    world.answer(world.ask(some_rows(1)))
    cause(world)
    world.wait()
    assert {outcome.reason for outcome in world.outcomes.values()} == {reason}
    for keys in world.keys.values():
        assert not keys._secrets
    world.ask(some_rows(1), query="dd" * 16)
    assert world.channels["alpha"].wait_for("refused", "dd" * 16).header["code"] == "NOT_READY"


def test_a_query_beyond_the_quota_is_refused_and_a_smaller_one_is_answered() -> None:
    world = ServingWorld(a_served_model(max_rows=25), WEIGHTS).start()
    world.answer(world.ask(some_rows(20)))
    assert world.channels["alpha"].wait_for("refused", world.ask(some_rows(6))).header["code"] == "QUOTA_EXHAUSTED"
    rows = some_rows(5)
    assert np.array_equal(world.answer(world.ask(rows)), labels_of(rows))
    world.wait()
    assert world.outcomes["beta"].reason is EndReason.QUOTA


def test_a_query_that_nobody_else_holds_takes_nothing_of_the_quota() -> None:
    world = ServingWorld(a_served_model(max_rows=20), WEIGHTS, desk_clock=lambda: 100 * time.monotonic())
    lonely = world.ask(some_rows(15), only=["alpha"])
    rows = some_rows(10)
    query = world.ask(rows)
    world.start()
    assert np.array_equal(world.answer(query), labels_of(rows))
    assert world.channels["alpha"].wait_for("refused", lonely).header["code"] in ("DEADLINE_PASSED", "QUOTA_EXHAUSTED")
    world.stop()


def test_a_party_that_is_lost_ends_the_serving_of_all() -> None:
    world = ServingWorld(a_served_model(), WEIGHTS).start()
    world.answer(world.ask(some_rows(1)))
    for link in world.links["beta"].values():
        link.cut()
    with pytest.raises(ConfideError) as caught:
        world.wait()
    assert caught.value.code is ErrorCode.PEER_LOST
    assert caught.value.party == "beta"


def test_a_party_that_answered_another_batch_is_named_before_a_share_leaves() -> None:
    world = ServingWorld(a_served_model(), WEIGHTS)
    link = world.links["beta"]["alpha"]
    link.send = _altering(link.send, of_bytes=2 * 32)  # type: ignore[method-assign]
    query = world.ask(some_rows(2))
    world.start()
    with pytest.raises(ConfideError) as caught:
        world.wait()
    assert (caught.value.code, caught.value.party) == (ErrorCode.BAD_FRAME, "beta")
    assert not [p for p in world.channels["alpha"].parcels if p.header["event"] == "answer" and p.header["query"] == query]


def test_a_lead_that_renews_keys_more_often_than_the_plan_says_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeadTurns, "_next", lambda *_: Announcement(Turn.REKEY))
    world = ServingWorld(a_served_model(rekey_s=15, lifetime_s=30), WEIGHTS).start()
    with pytest.raises(ConfideError) as caught:
        world.wait()
    assert (caught.value.code, caught.value.party) == (ErrorCode.BAD_FRAME, "alpha")
    opened = [arrays for _, arrays in world.links["alpha"]["beta"].log if [a.shape for a in arrays] == [(6, 5), (3, 6)]]
    assert len(opened) == 2


def test_a_lead_that_answers_beyond_the_quota_is_named_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_of_them(offered: Sequence[Query], held: Sequence[bool], **_: int) -> tuple[bool, ...]:
        return tuple(held)

    monkeypatch.setattr("protocols.mpc.serving_lead.choose", all_of_them)
    world = ServingWorld(a_served_model(max_queries=2, max_rows=40), WEIGHTS)
    for _ in range(3):
        world.ask(some_rows(1))
    world.start()
    with pytest.raises(ConfideError) as caught:
        world.wait()
    assert (caught.value.code, caught.value.party) == (ErrorCode.BAD_FRAME, "alpha")
    assert not [parcel for parcel in world.channels["beta"].parcels if parcel.header["event"] == "answer"]


def _altering(send: Callable[[int, Sequence[np.ndarray]], None], *, of_bytes: int) -> Callable[[int, Sequence[np.ndarray]], None]:
    """Sends everything as it is but single arrays of so many bytes, of which it changes the first."""

    def altered(operation: int, arrays: Sequence[np.ndarray]) -> None:
        if len(arrays) == 1 and arrays[0].dtype == np.uint8 and arrays[0].shape == (of_bytes,):
            changed = arrays[0].copy()
            changed[0] ^= 1
            arrays = [changed]
        send(operation, arrays)

    return altered


def _is_block(arrays: list[np.ndarray]) -> bool:
    return [array.shape for array in arrays] == [(4, 5)]


def _other(party: str) -> str:
    return "beta" if party == "alpha" else "alpha"
