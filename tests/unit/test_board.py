"""The board of statuses: changes are seen by whoever waits, and by nobody without cause."""

from __future__ import annotations

import time

import pytest

from parties.server.board import Board, Measured, Status
from protocols.errors import ConfideError, ErrorCode
from protocols.session.states import State
from tests.support.jobs import a_training
from tests.support.link_pairs import Running

JOB = a_training()


@pytest.fixture
def board() -> Board:
    board = Board()
    board.post(Status(JOB, State.PROPOSED))
    return board


def test_find_unknown_job_is_none(board: Board) -> None:
    assert board.find("0" * 32) is None


def test_update_changes_the_fields_named_and_counts(board: Board) -> None:
    before = board.find(JOB.job_id)
    board.update(JOB.job_id, measured=Measured(phase="training", step=3, steps=9))
    after = board.find(JOB.job_id)
    assert before is not None
    assert after is not None
    assert (before.revision, after.revision) == (0, 1)
    assert (after.measured.step, after.state) == (3, State.PROPOSED)
    assert before.measured == Measured()


def test_wait_unknown_job_is_an_error(board: Board) -> None:
    with pytest.raises(ConfideError) as caught:
        board.wait("x" * 500, revision=0, timeout_s=0)
    assert caught.value.code is ErrorCode.UNKNOWN_JOB
    assert len(caught.value.what) < 100


def test_wait_status_that_has_changed_already_is_returned_at_once(board: Board) -> None:
    board.update(JOB.job_id, state=State.AGREED)
    assert board.wait(JOB.job_id, revision=0, timeout_s=60).state is State.AGREED


def test_wait_unchanged_status_is_returned_after_the_time(board: Board) -> None:
    started = time.monotonic()
    assert board.wait(JOB.job_id, revision=0, timeout_s=0.05).revision == 0
    assert time.monotonic() - started >= 0.04


def test_wait_change_meanwhile_is_seen_by_all_who_wait(board: Board) -> None:
    waiting = [Running(lambda: board.wait(JOB.job_id, revision=0, timeout_s=10)) for _ in range(3)]
    board.update(JOB.job_id, state=State.RUNNING)
    for one in waiting:
        status = one.result()
        assert isinstance(status, Status)
        assert (status.state, status.revision) == (State.RUNNING, 1)


def test_wait_change_of_another_job_wakes_nobody_for_good(board: Board) -> None:
    other = a_training(nonce="00" * 16)
    board.post(Status(other, State.PROPOSED))
    waiting = Running(lambda: board.wait(JOB.job_id, revision=0, timeout_s=0.1))
    board.update(other.job_id, state=State.RUNNING)
    status = waiting.result()
    assert isinstance(status, Status)
    assert status.revision == 0


def test_updates_of_several_threads_are_all_counted(board: Board) -> None:
    def update() -> None:
        for step in range(50):
            board.update(JOB.job_id, measured=Measured(step=step))

    for one in [Running(update) for _ in range(4)]:
        one.result()
    status = board.find(JOB.job_id)
    assert status is not None
    assert status.revision == 200


def test_remove_ends_a_wait_and_later_changes_have_no_effect(board: Board) -> None:
    waiting = Running(lambda: board.wait(JOB.job_id, revision=0, timeout_s=10))
    board.remove(JOB.job_id)
    with pytest.raises(ConfideError) as caught:
        waiting.result()
    assert caught.value.code is ErrorCode.UNKNOWN_JOB
    board.update(JOB.job_id, state=State.RUNNING)
    assert board.find(JOB.job_id) is None
