"""The small parts of a serving session: what parties say between blocks, the desk, credit, fresh keys."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import cast

import numpy as np
import pytest

from parties.worker.channel import Channel, Parcel
from parties.worker.serving_desk import ServingDesk
from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.channels import Channel as PlanChannel
from protocols.mpc.channels import ZeroExchange
from protocols.mpc.engine import Engine
from protocols.mpc.keys import Label, SessionKeys
from protocols.mpc.material.context import ShapeMaterial
from protocols.mpc.planning import derive_plan
from protocols.mpc.programs.names import ANSWER, OPEN_MODEL
from protocols.mpc.programs.serve import ServeProgram, check_block
from protocols.mpc.renewal import renew_keys
from protocols.mpc.serving_supply import AHEAD_BYTES, ServingDealer, blocks_ahead, planned_runs
from protocols.mpc.serving_turns import (
    ANNOUNCEMENT,
    MAX_OFFERED,
    REPLY,
    Announcement,
    EndReason,
    Query,
    Reply,
    Turn,
    choice_from_message,
    choice_to_message,
    choose,
)
from protocols.mpc.tapes import RecordingTape
from protocols.mpc.tensor import use_engine
from protocols.mpc.timing import Stopwatch
from protocols.plan.operations import Segment
from protocols.plan.plan import Plan
from tests.support.memory_links import as_links, connect
from tests.support.mpc_world import in_threads, keys_for, stream
from tests.support.serving_world import DeskChannel, a_query
from tests.support.small_serving import MODEL, a_served_model

FIRST, SECOND, THIRD = Query("01" * 16, 3), Query("02" * 16, 1), Query("03" * 16, 9)


@cache
def a_plan() -> Plan:
    return derive_plan(a_served_model())


@pytest.mark.parametrize(
    "announced",
    [
        Announcement(Turn.OFFER),
        Announcement(Turn.OFFER, (FIRST, SECOND)),
        Announcement(Turn.OFFER, tuple(Query(f"{index:032x}", index + 1) for index in range(MAX_OFFERED))),
        Announcement(Turn.REKEY),
        *(Announcement(Turn.END, reason=reason) for reason in EndReason),
    ],
)
def test_an_announcement_read_back_is_the_same_and_has_the_size_of_all(announced: Announcement) -> None:
    message = announced.to_message()
    assert message.nbytes == ANNOUNCEMENT[0].num_bytes
    assert Announcement.from_message(message, "alpha") == announced


@pytest.mark.parametrize(
    ("position", "value"),
    [(0, 0), (0, 4), (1, 1), (2, 65), (2, 1), (2, 3), (3, 1), (4 + 16, 0), (1283, 1)],
)
def test_an_announcement_with_a_wrong_byte_is_refused_naming_the_lead(position: int, value: int) -> None:
    message = Announcement(Turn.OFFER, (Query("01" * 16, 1), SECOND)).to_message().copy()
    message[position] = value
    with pytest.raises(ConfideError) as caught:
        Announcement.from_message(message, "alpha")
    assert (caught.value.code, caught.value.party) == (ErrorCode.BAD_FRAME, "alpha")


def test_an_announcement_that_names_a_query_twice_is_refused() -> None:
    with pytest.raises(ConfideError):
        Announcement.from_message(Announcement(Turn.OFFER, (FIRST, FIRST)).to_message(), "alpha")


def test_a_reply_about_queries_that_nobody_offered_is_refused() -> None:
    reply = Reply((True, False, True), stops=True)
    assert Reply.from_message(reply.to_message(), offered=3, party="beta") == reply
    assert reply.to_message().nbytes == REPLY[0].num_bytes
    with pytest.raises(ConfideError) as caught:
        Reply.from_message(reply.to_message(), offered=2, party="beta")
    assert caught.value.party == "beta"


def test_a_choice_of_a_query_that_is_not_held_is_refused() -> None:
    assert choice_from_message(choice_to_message((True, False)), held=(True, True), lead="alpha") == (True, False)
    with pytest.raises(ConfideError) as caught:
        choice_from_message(choice_to_message((True, True)), held=(True, False), lead="alpha")
    assert caught.value.code is ErrorCode.BAD_FRAME


@pytest.mark.parametrize(
    ("offered", "held", "chosen"),
    [
        ((FIRST, SECOND), (True, True), (True, True)),
        ((FIRST, THIRD, SECOND), (True, True, True), (True, False, True)),  # the large one waits for its turn
        ((THIRD, FIRST), (True, True), (True, False)),  # and then takes several blocks of its own
        ((FIRST, SECOND), (False, True), (False, True)),
        ((), (), ()),
    ],
)
def test_a_batch_is_what_fits_into_a_block_in_order(
    offered: tuple[Query, ...], held: tuple[bool, ...], chosen: tuple[bool, ...]
) -> None:
    assert choose(offered, held, block_rows=4, left_queries=9, left_rows=99) == chosen


def test_a_batch_is_what_the_quota_reaches_for() -> None:
    held = (True, True)
    assert choose((FIRST, SECOND), held, block_rows=9, left_queries=1, left_rows=9) == (True, False)
    assert choose((FIRST, SECOND), held, block_rows=9, left_queries=2, left_rows=3) == (True, False)
    assert choose((FIRST, SECOND), (False, True), block_rows=9, left_queries=1, left_rows=3) == (False, True)


def a_desk(channel: DeskChannel) -> ServingDesk:
    return ServingDesk(job=a_served_model(), plan=a_plan(), party="alpha", channel=cast(Channel, channel))


@pytest.mark.parametrize(
    ("parcels", "code"),
    [
        ([("aa" * 16, 1), ("aa" * 16, 1)], "INVALID_ARGUMENT"),
        ([("aa" * 16, 61)], "INVALID_ARGUMENT"),
        ([(f"{index:032x}", 1) for index in range(MAX_OFFERED + 1)], "PARTY_BUSY"),
    ],
)
def test_a_desk_refuses_what_it_cannot_keep(parcels: list[tuple[str, int]], code: str) -> None:
    channel = DeskChannel()
    desk = a_desk(channel)
    for query, rows in parcels:
        desk.put(a_query(query, np.zeros((rows, 5), np.int64)))
    assert [parcel.header["code"] for parcel in channel.parcels] == [code]


def test_a_query_id_is_taken_once_even_after_its_answer() -> None:
    channel = DeskChannel()
    desk = a_desk(channel)
    query = a_query("aa" * 16, np.ones((2, 5), np.int64))
    desk.put(query)
    desk.take("aa" * 16)
    desk.commit("aa" * 16, np.zeros(2, np.int64))
    desk.answer("aa" * 16, {"alpha": bytes(32)})
    desk.put(query)
    assert [parcel.header["event"] for parcel in channel.parcels] == ["answer", "refused"]
    assert not desk.waiting(timeout_s=0)


@pytest.mark.parametrize(
    "parcel",
    [
        Parcel({"query": "AA" * 16, "rows": 1}, {"share": bytes(40)}),
        Parcel({"query": "aa" * 16, "rows": True}, {"share": bytes(40)}),
        Parcel({"query": "aa" * 16, "rows": 1}, {}),
    ],
)
def test_a_parcel_that_is_no_query_is_a_defect(parcel: Parcel) -> None:
    with pytest.raises(ConfideError) as caught:
        a_desk(DeskChannel()).put(parcel)
    assert caught.value.code is ErrorCode.INTERNAL


def test_a_block_answered_twice_is_refused() -> None:
    job = a_served_model()
    engine = Engine(index=0, parties=2, exchange=ZeroExchange(), material=ShapeMaterial(), tape=RecordingTape())
    share = {spec.name: np.zeros(spec.shape, np.int64) for spec in MODEL.parameters}
    with use_engine(engine):
        program = ServeProgram(job=job, model_share=share)
        with engine.segment(None):
            program.run_segment(OPEN_MODEL)
        program.put(np.zeros((2, 5), np.int64))
        with engine.segment(None):
            program.run_segment(ANSWER)
        with engine.segment(None), pytest.raises(ConfideError) as caught:
            program.run_segment(ANSWER)
    assert caught.value.code is ErrorCode.INTERNAL


def test_a_block_whose_material_may_not_wait_is_refused_when_the_plan_is_made() -> None:
    check_block(Segment(ANSWER, (), AHEAD_BYTES))
    with pytest.raises(ConfideError) as caught:
        check_block(Segment(ANSWER, (), AHEAD_BYTES + 1))
    assert caught.value.code is ErrorCode.INVALID_JOB


def test_a_plan_of_serving_says_how_much_is_computed_at_most() -> None:
    job = a_served_model(block_rows=10, max_queries=3, max_rows=100, lifetime_s=100, rekey_s=40)
    counts = {part.segment: stage.count * part.count for stage in derive_plan(job).schedule for part in stage.parts}
    assert counts == {OPEN_MODEL: 3, ANSWER: 13}  # ten full blocks, and one more for each query


@pytest.mark.parametrize("message", [[1, 9, 0, 0], [1, -1, 0, 0], [0, 0, 0, 0], [4, 0, 0, 0], [3, 9, 0, 0], [3, 0, -1, 0]])
def test_a_dealer_refuses_messages_that_make_no_sense(message: list[int]) -> None:
    links = connect(["beta", "gamma"])
    PlanChannel(links["beta"]["gamma"]).send([np.array(message, np.int64)])
    clock = Stopwatch(wall=lambda: 0.0, processor=lambda: 0.0)
    channel = PlanChannel(links["gamma"]["beta"])
    dealer = ServingDealer(plan=a_plan(), channel=channel, dealt=lambda _: None, stopwatch=clock)
    with pytest.raises(ConfideError) as caught:
        dealer.deal_epoch(keys_for(a_plan(), a_served_model())["gamma"])
    assert (caught.value.code, caught.value.party) == (ErrorCode.BAD_FRAME, "beta")


def test_a_dealer_deals_no_more_than_the_plan_has_blocks_and_those_ahead() -> None:
    plan = derive_plan(a_served_model(block_rows=4, max_queries=2, max_rows=8))
    links = connect(["beta", "gamma"])
    most = planned_runs(plan, ANSWER) + blocks_ahead(plan)
    last = PlanChannel(links["beta"]["gamma"])
    for _ in range(most + 1):
        last.send([np.array([1, 1, 0, 0], np.int64)])
    dealt: list[int] = []
    clock = Stopwatch(wall=lambda: 0.0, processor=lambda: 0.0)
    dealer = ServingDealer(plan=plan, channel=PlanChannel(links["gamma"]["beta"]), dealt=dealt.append, stopwatch=clock)
    with pytest.raises(ConfideError) as caught:
        dealer.deal_epoch(keys_for(plan, a_served_model())["gamma"])
    assert (caught.value.code, caught.value.party, dealt[-1]) == (ErrorCode.BAD_FRAME, "beta", most)


def renewed(
    altered: str = "", *, peer: str = "", meddle: Callable[[np.ndarray], np.ndarray] = lambda data: data ^ np.uint8(1)
) -> dict[str, SessionKeys]:
    """What all participants hold after fresh keys; a party's generator may be told to give another nonce to each caller."""
    job, names = a_served_model(), a_plan().participants
    links, old = connect(names), keys_for(a_plan(), a_served_model())
    channels = {name: {peer: PlanChannel(link) for peer, link in as_links(links[name]).items()} for name in names}
    if altered:
        first = channels[altered][peer or names[1]]
        first.send_bytes = lambda data, send=first.send_bytes: send(meddle(data))  # type: ignore[method-assign]
    source = {name: stream(f"fresh {name}") for name in names}
    tasks = {
        name: lambda name=name: renew_keys(
            job=job, plan=a_plan(), old=old[name], channels=channels[name], fresh=lambda count: source[name].take(count).tobytes()
        )
        for name in names
    }
    return in_threads(tasks, links)


def test_fresh_keys_are_equal_in_a_pair_and_unlike_the_old_ones() -> None:
    old, new = keys_for(a_plan(), a_served_model()), renewed()
    before = old["gamma"].open_stream(Label.DEALT, "gamma", "beta").take(64)
    at_dealer = new["gamma"].open_stream(Label.DEALT, "gamma", "beta").take(64)
    assert np.array_equal(at_dealer, new["beta"].open_stream(Label.DEALT, "gamma", "beta").take(64))
    assert not np.array_equal(at_dealer, before)
    assert new["alpha"].handshake == new["gamma"].handshake != old["alpha"].handshake


@pytest.mark.parametrize(("altered", "peer"), [("alpha", "gamma"), ("gamma", "alpha")])
def test_fresh_keys_with_a_secret_from_the_wrong_party_or_none_are_refused_naming_it(altered: str, peer: str) -> None:
    def meddle(data: np.ndarray) -> np.ndarray:
        said = data.copy()
        if said.size == 64:  # the digest of all nonces, and the secret
            said[32:] = 0 if said[32:].any() else 1
        return said

    with pytest.raises(ConfideError) as caught:
        renewed(altered, peer=peer, meddle=meddle)
    assert (caught.value.code, caught.value.party) == (ErrorCode.BAD_FRAME, altered)


def test_fresh_keys_with_a_nonce_that_not_everybody_saw_alike_are_refused() -> None:
    with pytest.raises(ConfideError) as caught:
        renewed(altered="alpha")
    assert caught.value.code in (ErrorCode.BAD_FRAME, ErrorCode.PEER_LOST)  # who finds it first ends it for the others
