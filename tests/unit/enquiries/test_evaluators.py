"""The processes that evaluate encrypted queries: confined, bounded, and of no consequence to anybody else when they end."""

from __future__ import annotations

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from parties.server.encrypted.pool import EvaluatorPool, Work
from parties.server.workers import Template
from parties.worker.channel import Parcel
from protocols.errors import ErrorCode
from protocols.model.layers import Linear
from protocols.model.spec import ModelSpec
from tests.support.consent import NOW
from tests.support.enquiry_world import WITHIN_S, EnquiryWorld, await_evaluation, evaluators, hold_evaluators
from tests.support.processes import is_running
from tests.support.refusals import refusal

pytestmark = pytest.mark.outside_world  # starts evaluators


def test_dead_evaluator_is_one_failed_request_that_is_not_debited(world: EnquiryWorld) -> None:
    asker = world.asker("batch")
    enquiry_id = world.open(asker, lane="batch", max_answers=30_000)
    world.ask(enquiry_id, asker.query(world.rows()))
    query = asker.query(world.rows())
    before = world.desk.standing(enquiry_id, "alice").answers_left
    with ThreadPoolExecutor(1) as threads:
        stopped = hold_evaluators(world)
        begun = threads.submit(world.ask, enquiry_id, query)
        await_evaluation(world)
        for evaluator in stopped:
            os.kill(evaluator, signal.SIGKILL)
        assert refusal(lambda: begun.result(WITHIN_S)).code is ErrorCode.EVALUATION_FAILED
    assert world.desk.standing(enquiry_id, "alice").answers_left == before
    world.ask(enquiry_id, asker.query(world.rows()))


def test_evaluator_that_died_while_idle_fails_nothing(world: EnquiryWorld) -> None:
    asker = world.asker()
    enquiry_id, query = world.open(asker), asker.query(world.rows())
    world.ask(enquiry_id, query)
    died = evaluators(world)
    for evaluator in died:
        os.kill(evaluator, signal.SIGKILL)
    for evaluator in died:
        ends(evaluator)
    world.ask(enquiry_id, query)


def test_evaluator_with_nothing_to_do_is_ended_after_a_while(world: EnquiryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    asker = world.asker()
    enquiry_id, query = world.open(asker), asker.query(world.rows())
    world.ask(enquiry_id, query)
    world.desk.sweep()
    (pid,) = evaluators(world)
    assert is_running(pid)
    monkeypatch.setattr("parties.server.encrypted.pool.IDLE_S", 0.0)
    world.desk.sweep()
    assert evaluators(world) == []
    ends(pid)
    world.ask(enquiry_id, query)


def test_evaluator_is_confined_bounded_and_yields_to_the_party(world: EnquiryWorld) -> None:
    asker = world.asker()
    world.ask(world.open(asker), asker.query(world.rows()))
    (pid,) = evaluators(world)
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert (status["Seccomp"], status["NoNewPrivs"], status["Threads"]) == ("2", "1", "1")
    limits = dict(re.findall(r"(?m)^(Max (?:address space|cpu time)) +(\d+|unlimited) ", Path(f"/proc/{pid}/limits").read_text()))
    assert int(limits["Max address space"]) < 3 << 30
    assert int(limits["Max cpu time"]) < 120
    assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)


def test_evaluator_that_hangs_is_ended(world: EnquiryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    asker = world.asker()
    enquiry_id, query = world.open(asker), asker.query(world.rows())
    world.ask(enquiry_id, query)
    hold_evaluators(world)
    with monkeypatch.context() as hurried:  # who comes next has all the time that it needs
        hurried.setattr("parties.server.encrypted.pool._LEAST_LIMIT_S", 0.5)
        error = refusal(lambda: world.ask(enquiry_id, query))
    assert (error.code, "longer than" in error.what) == (ErrorCode.EVALUATION_FAILED, True)
    world.ask(enquiry_id, query)


def test_evaluator_whose_memory_does_not_suffice_is_one_failed_request(tmp_path: Path, template: Template) -> None:
    world = EnquiryWorld(tmp_path / "party", template, spec=ModelSpec.chain(1_500, out=Linear(2)))
    world.permit(counts_as_known=True)
    too_small = EvaluatorPool(template, evaluators=1, memory_bytes=1 << 20)
    enough, world.desk._pool = world.desk._pool, too_small
    try:
        asker = world.asker("batch")
        enquiry_id, query = world.open(asker, lane="batch", max_answers=50_000), asker.query(world.rows())
        assert refusal(lambda: world.ask(enquiry_id, query)).code is ErrorCode.EVALUATION_FAILED
        assert world.desk.standing(enquiry_id, "alice").answers_left == 50_000
        world.desk._pool = enough
        world.ask(enquiry_id, query)
    finally:
        too_small.stop()
        world.close()


def test_party_without_evaluators_accepts_nothing(tmp_path: Path, template: Template) -> None:
    world = EnquiryWorld(tmp_path / "party", template, evaluator_workers=0)
    world.permit()
    try:
        assert refusal(lambda: world.open(world.asker())).code is ErrorCode.UNKNOWN_MODEL
    finally:
        world.close()


def test_evaluators_of_a_withdrawn_model_are_ended_with_its_weights(world: EnquiryWorld) -> None:
    asker = world.asker()
    enquiry_id, query = world.open(asker), asker.query(world.rows())
    world.ask(enquiry_id, query)
    (pid,) = evaluators(world)
    with ThreadPoolExecutor(1) as threads:
        hold_evaluators(world)
        begun = threads.submit(world.ask, enquiry_id, query)
        await_evaluation(world)
        with world.party.database.transaction() as tables:
            tables.encrypted.withdraw(world.model.ref, NOW)
        world.at(NOW + timedelta(seconds=2))
        world.desk.look_after()
        os.kill(pid, signal.SIGCONT)
        assert refusal(lambda: begun.result(WITHIN_S)).code is ErrorCode.NOT_READY  # the enquiry has ended
    assert evaluators(world) == []
    ends(pid)


def test_idle_evaluator_of_a_withdrawn_model_is_ended_at_once_and_others_stay(world: EnquiryWorld) -> None:
    asker = world.asker()
    world.ask(world.open(asker), asker.query(world.rows()))
    (pid,) = evaluators(world)
    world.desk.look_after()
    assert evaluators(world) == [pid]
    with world.party.database.transaction() as tables:
        tables.encrypted.withdraw(world.model.ref, NOW)
    world.desk.look_after()
    assert evaluators(world) == []
    ends(pid)


class TakenOver:
    """A template of evaluators that say what a script says, and of which each is told once that it must end."""

    def __init__(self, *script: Parcel) -> None:
        self.script, self.limits = list(script), list[tuple[int, int]]()
        self.stopped = 0

    def fork(self) -> Any:
        return self

    def give(self, header: object, blobs: object) -> None:
        pass

    def say(self, header: object, blobs: object) -> None:
        pass

    def take(self, *, max_header_bytes: int, max_blob_bytes: int) -> Parcel:
        self.limits.append((max_header_bytes, max_blob_bytes))
        return self.script.pop(0)

    def has_ended(self) -> bool:
        return False

    def stop(self) -> None:
        self.stopped += 1


DONE, ANSWER = Parcel({"event": "done"}), Parcel({"event": "answer"}, {"answer": b"12345678"})


@pytest.mark.parametrize(
    "said",
    [
        (ANSWER,),  # to what is no question
        (DONE, DONE, DONE),  # no answer
        (DONE, DONE, Parcel({"event": "answer"})),
        (DONE, DONE, Parcel({"event": "answer"}, {"answer": b"1234567"})),
        (DONE, DONE, Parcel({"event": "answer"}, {"other": b"12345678"})),
        (DONE, DONE, Parcel({"event": ["answer"], "text": {}})),
        (Parcel({}),),
        (Parcel({"event": "failed", "code": "INTERNAL", "text": "weights: 0.25 -1.5"}),),
        (Parcel({"event": "refused", "code": "GRANT_REVOKED", "text": "weights: 0.25 -1.5"}),),
        (Parcel({"event": "refused", "code": "INVALID_ARGUMENT", "text": "weights"}),),  # of the model: the owner's fault
    ],
)
def test_evaluator_that_was_taken_over_is_one_failed_request_whatever_it_says(said: tuple[Parcel, ...]) -> None:
    evaluator = TakenOver(*said)
    pool = EvaluatorPool(cast(Template, evaluator), evaluators=1, memory_bytes=1 << 20)
    work = Work("m@1", "latency", dict, "k", b"", 1, b"", "alice", 8, is_long=False, predicted_s=0.0)
    error = refusal(lambda: pool.answer(work))
    assert error.code is ErrorCode.EVALUATION_FAILED
    assert "weights" not in f"{error.what} {error.remedy}"  # what it words would leave without being debited
    assert max(most for _, most in evaluator.limits) <= 8  # nothing of another size is held in the party's memory
    if said[0].header.get("event") != "refused":  # else it goes on: it has said in time that it did not do it
        assert evaluator.stopped
        assert pool.models == frozenset()
    evaluator.script = [DONE, DONE, ANSWER]
    assert pool.answer(work) == b"12345678"


def test_refusal_of_keys_or_of_a_query_is_told_in_the_party_s_own_words() -> None:
    refused = Parcel({"event": "refused", "code": "INVALID_ARGUMENT", "text": "weights", "remedy": "weights"})
    evaluator = TakenOver(DONE, refused, DONE, refused)
    pool = EvaluatorPool(cast(Template, evaluator), evaluators=1, memory_bytes=1 << 20)
    work = Work("m@1", "latency", dict, "k", b"", 1, b"", "alice", 8, is_long=False, predicted_s=0.0)
    for named in ("evaluation keys", "query"):
        error = refusal(lambda: pool.answer(work))
        assert (error.code, named in error.what, "weights" in f"{error.what} {error.remedy}") == (
            ErrorCode.INVALID_ARGUMENT,
            True,
            False,
        )
    assert not evaluator.stopped


def ends(pid: int) -> None:
    """Waits for a process to end."""
    deadline = time.monotonic() + WITHIN_S
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
