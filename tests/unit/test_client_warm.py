"""A client's side of warm serving: which serving it takes, and that it combines nothing that a party did not commit to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from parties.client.warm import Servings, ServingState, WarmAt, open_answer
from parties.wire.generated.confide.v1 import serving_pb2
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, Output, OutputKind
from tests.fuzz.serving_answers import QUERY, ROWS, a_reply, opened
from tests.support.jobs import a_serving

JOB = a_serving()
LABEL = Output("", OutputKind.LABEL, "alice")


def changed(change: Callable[[serving_pb2.AskReply], object]) -> serving_pb2.AskReply:
    reply = a_reply("hospital-a")
    change(reply)
    return reply


def test_answer_whose_shares_were_committed_to_is_combined() -> None:
    assert list(opened(a_reply("hospital-a"))) == [0, 1]  # type: ignore[call-overload]  # an array


@pytest.mark.parametrize(
    ("change", "code", "party"),
    [
        (lambda reply: setattr(reply, "share", bytes(16)), ErrorCode.COMMITMENT_DIFFERS, "hospital-a"),
        (lambda reply: setattr(reply, "nonce", bytes(32)), ErrorCode.COMMITMENT_DIFFERS, "hospital-a"),
        (lambda reply: setattr(reply, "nonce", b""), ErrorCode.BAD_FRAME, "hospital-a"),
        (lambda reply: setattr(reply, "scale_bits", 1), ErrorCode.COMMITMENT_DIFFERS, "hospital-a"),
        (lambda reply: reply.shape.append(1), ErrorCode.COMMITMENT_DIFFERS, "hospital-a"),
        # It shows other commitments than the others: that could hide that a share was chosen after another one was seen.
        (lambda reply: setattr(reply.commitments[1], "commitment", "ab" * 32), ErrorCode.COMMITMENT_DIFFERS, ""),
        (lambda reply: reply.commitments.pop(), ErrorCode.COMMITMENT_DIFFERS, "hospital-a"),
    ],
)
def test_answer_that_a_party_altered_is_not_combined(
    change: Callable[[serving_pb2.AskReply], object], code: ErrorCode, party: str
) -> None:
    with pytest.raises(ConfideError) as caught:
        opened(changed(change))
    assert (caught.value.code, caught.value.party) == (code, party)


def test_answer_to_another_query_or_of_another_size_is_not_combined() -> None:
    replies = {party: a_reply(party) for party in JOB.computing_parties}
    with pytest.raises(ConfideError) as caught:
        open_answer(JOB, "6b" * 16, num_rows=ROWS, replies=replies)
    assert caught.value.code is ErrorCode.COMMITMENT_DIFFERS
    with pytest.raises(ConfideError) as caught:
        open_answer(JOB, QUERY, num_rows=ROWS + 1, replies=replies)
    assert caught.value.code is ErrorCode.BAD_FRAME


class Listed(Servings):
    """Servings that parties list, without the parties."""

    def __init__(self, *states: ServingState) -> None:
        super().__init__(_CALLS)  # type: ignore[arg-type]  # nothing is called
        self._states = list(states)
        self.asked = 0

    def listed(self, parties: object) -> list[ServingState]:
        self.asked += 1
        return self._states


class _Calls:
    directory = type("Directory", (), {"parties": ()})()


_CALLS = _Calls()


def a_state(job: Job = JOB, *, rows_left: int = 9, queries_left: int = 3, warm: tuple[bool, bool] = (True, True)) -> ServingState:
    at = zip(job.computing_parties, warm, strict=True)
    return ServingState(job, tuple(WarmAt(party, each, queries_left, rows_left, None) for party, each in at))


def test_find_takes_the_warm_serving_that_opens_just_this_and_asks_once() -> None:
    servings = Listed(a_state())
    assert [servings.find("diagnosis@0123456789ab", LABEL, num_rows=9) for _ in range(2)] == [JOB, JOB]
    assert servings.asked == 1
    servings.forget(JOB)
    servings.find("diagnosis@0123456789ab", LABEL, num_rows=9)
    assert servings.asked == 2


@pytest.mark.parametrize(
    ("state", "output"),
    [
        (a_state(warm=(True, False)), LABEL),
        (a_state(rows_left=8), LABEL),
        (a_state(queries_left=0), LABEL),
        (a_state(), replace(LABEL, kind=OutputKind.PROBABILITY)),
        (a_state(), replace(LABEL, decimals=2)),
        (a_state(), replace(LABEL, top_k=1)),
        (a_state(), replace(LABEL, clip="0.1")),
        (a_state(a_serving(model_ref=replace(JOB.model_ref, version="f" * 12))), LABEL),  # type: ignore[type-var]  # it has one
    ],
)
def test_find_takes_no_serving_that_would_answer_something_else(state: ServingState, output: Output) -> None:
    assert Listed(state).find("diagnosis@0123456789ab", output, num_rows=9) is None
