"""A client's side of warm serving: which serving it takes, and that it combines nothing that a party did not commit to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from parties.client.warm import MAX_SHARE_BYTES, OVER, Servings, ServingState, WarmAt, all_replies, open_answer
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


class Begun:
    """A call that somebody else ends."""

    def __init__(self, party: str, outcome: object) -> None:
        self.party = party
        self.outcome = outcome
        self.cancelled = False

    def reply(self) -> object:
        assert self.outcome is not None, "nobody waits for a call that has not ended"
        if isinstance(self.outcome, ConfideError):
            raise self.outcome
        return self.outcome

    def when_done(self, tell: Callable[[object], object]) -> None:
        if self.outcome is not None:
            tell(self)

    def cancel(self) -> None:
        self.cancelled = True


def test_query_fails_with_the_first_party_that_fails_and_waits_for_no_other() -> None:
    silent = Begun("hospital-a", None)
    lost = Begun("hospital-b", ConfideError(ErrorCode.PARTY_UNREACHABLE, "hospital-b cannot be reached", party="hospital-b"))
    with pytest.raises(ConfideError) as caught:
        all_replies([silent, lost])  # type: ignore[arg-type]  # not gRPC's
    assert (caught.value.code, caught.value.party) == (ErrorCode.PARTY_UNREACHABLE, "hospital-b")
    assert silent.cancelled


def test_query_to_a_serving_that_is_over_since_a_party_is_gone_names_that_party() -> None:
    over = Begun("hospital-a", ConfideError(ErrorCode.NOT_READY, "the session has ended"))
    gone = Begun("hospital-b", ConfideError(ErrorCode.PARTY_UNREACHABLE, "hospital-b cannot be reached", party="hospital-b"))
    busy = Begun("hospital-b", ConfideError(ErrorCode.PARTY_BUSY, "too many", party="hospital-b"))
    for other, code in ((gone, ErrorCode.PARTY_UNREACHABLE), (busy, ErrorCode.NOT_READY)):
        with pytest.raises(ConfideError) as caught:
            all_replies([over, other])  # type: ignore[arg-type]  # not gRPC's
        assert caught.value.code is code


def test_replies_of_all_come_in_the_order_of_the_parties() -> None:
    begun = [Begun("hospital-b", 2), Begun("hospital-a", 1)]
    assert list(all_replies(begun).items()) == [("hospital-b", 2), ("hospital-a", 1)]  # type: ignore[arg-type]  # not gRPC's
    assert not any(each.cancelled for each in begun)


class Listed(Servings):
    """Servings that parties list, without the parties."""

    def __init__(self, *states: ServingState) -> None:
        super().__init__(_CALLS)  # type: ignore[arg-type]  # nothing is called
        self._states = list(states)
        self.asked = 0
        self.parts: list[int] = []

    def listed(self, parties: object) -> list[ServingState]:
        self.asked += 1
        return self._states

    def _ask(self, job: Job, features: NDArray[np.float64]) -> NDArray[np.float64]:
        self.parts.append(len(features))
        return features[:, 0]


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


MOST = MAX_SHARE_BYTES // 8  # rows of one feature that one query has


@pytest.mark.parametrize("left", [{"rows_left": MOST}, {"rows_left": MOST + 1, "queries_left": 1}])
def test_samples_that_need_several_queries_are_not_asked_in_part(left: dict[str, int]) -> None:
    servings = Listed(a_state(**left))  # type: ignore[arg-type]  # numbers
    with pytest.raises(ConfideError) as caught:
        servings.ask(JOB, np.zeros((MOST + 1, 1)))
    assert caught.value.code is ErrorCode.QUOTA_EXHAUSTED
    assert servings.parts == []


def test_samples_that_need_several_queries_are_asked_if_all_can_be_answered() -> None:
    servings = Listed(a_state(rows_left=MOST + 1, queries_left=2))
    assert len(servings.ask(JOB, np.zeros((MOST + 1, 1)))) == MOST + 1
    assert servings.parts == [MOST, 1]


class EndsAfter(Listed):
    """A serving that ends once it has answered some queries."""

    answers = 1

    def _ask(self, job: Job, features: NDArray[np.float64]) -> NDArray[np.float64]:
        if len(self.parts) == self.answers:
            raise ConfideError(ErrorCode.NOT_READY, "the session has ended")
        return super()._ask(job, features)


def test_samples_that_were_answered_in_part_are_not_asked_again_by_another_job() -> None:
    servings = EndsAfter(a_state(rows_left=MOST + 1, queries_left=2))
    with pytest.raises(ConfideError) as caught:
        servings.ask(JOB, np.zeros((MOST + 1, 1)))
    assert caught.value.code is ErrorCode.JOB_FAILED  # `client.predict` submits a job after what is in OVER alone
    assert caught.value.code not in OVER
    assert f"the first {MOST} of {MOST + 1} rows are answered and spent" in caught.value.what


def test_samples_of_which_none_was_answered_may_be_asked_of_another_job() -> None:
    servings = EndsAfter(a_state(rows_left=MOST + 1, queries_left=2))
    servings.answers = 0
    with pytest.raises(ConfideError) as caught:
        servings.ask(JOB, np.zeros((MOST + 1, 1)))
    assert caught.value.code in OVER


def test_serving_that_failed_once_is_asked_for_anew() -> None:
    servings = Listed(a_state(warm=(True, False)))
    servings.remember(JOB)
    with pytest.raises(ConfideError):
        servings.ask(JOB, np.zeros((MOST + 1, 1)))
    assert servings.find("diagnosis@0123456789ab", LABEL, num_rows=1) is None
