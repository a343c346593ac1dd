"""Encrypted queries at their owner, with real evaluators: what is answered, what is debited, and what hostile askers get."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenseal

from governance.audit.entries import EntryKind, read_entry
from governance.budget.ledger import Step
from governance.consent.revocation import Effect, Revocation, sign_revocation
from parties.server.encrypted.pool import EvaluatorPool
from parties.server.workers import Template
from protocols.ckks.wire_header import HEADER_BYTES
from protocols.errors import ConfideError, ErrorCode
from protocols.model.layers import Linear
from protocols.model.spec import ModelSpec
from tests.support.consent import NOW
from tests.support.enquiry_world import OWNER, Asker, EnquiryWorld, running_template
from tests.support.processes import is_running
from tests.support.refusals import refusal

pytestmark = pytest.mark.outside_world  # starts evaluators
REQUEST = "5" * 32
WITHIN_S = 30.0


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    with running_template(tmp_path_factory.mktemp("template")) as template:
        yield template


@pytest.fixture
def world(tmp_path: Path, template: Template) -> Iterator[EnquiryWorld]:
    world = EnquiryWorld(tmp_path / "party", template)
    world.permit()
    yield world
    world.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[EnquiryWorld]:
    """A world for tests that look at one enquiry of their own alone."""
    world = EnquiryWorld(tmp_path_factory.mktemp("shared") / "party", template)
    world.permit()
    yield world
    world.close()


@pytest.fixture(scope="module")
def alice(shared: EnquiryWorld) -> Asker:
    return shared.asker()


def entries(world: EnquiryWorld, kind: EntryKind) -> list[dict[str, Any]]:
    with world.party.database.transaction() as tables:
        found = [read_entry(each.body) for each in tables.audit.entries(0, tables.audit.size())]
    return [dict(entry.facts) for entry in found if entry.kind is kind]


def at_once(count: int, ask: Callable[[int], object]) -> list[object]:
    """Calls in threads that begin together; returns results and failures."""
    ready = threading.Barrier(count)

    def call(number: int) -> object:
        ready.wait(WITHIN_S)
        try:
            return ask(number)
        except ConfideError as error:
            return error

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(call, range(count)))


def codes(outcomes: list[object]) -> list[str]:
    return sorted(each.code.name if isinstance(each, ConfideError) else "answered" for each in outcomes)


@pytest.mark.parametrize("lane", ["latency", "packed", "batch"])
def test_answer_is_that_of_the_plain_model_and_debits_all_that_its_layout_can_hold(shared: EnquiryWorld, lane: str) -> None:
    asker = shared.asker(lane)
    rows, numbers = shared.rows(min(asker.plan.samples, 40)), asker.plan.numbers_per_answer
    enquiry_id = shared.open(asker, lane=lane, max_answers=2 * numbers + 1)
    answer = shared.ask(enquiry_id, asker.query(rows))
    assert np.abs(asker.opened(answer, len(rows)) - shared.expected(rows)).max() < 8 * asker.plan.precision
    standing = shared.desk.standing(enquiry_id, "alice")
    assert (standing.is_open, standing.answers_left, standing.key_bytes) == (True, numbers + 1, len(asker.keys))


def test_enquiry_sets_aside_debits_and_gives_back_with_its_entries_in_the_log(world: EnquiryWorld) -> None:
    asker = world.asker()
    enquiry_id = world.open(asker, max_answers=40)
    for _ in range(2):
        world.ask(enquiry_id, asker.query(world.rows()))
    assert not world.desk.end(enquiry_id, "alice").is_open
    amounts = [(entry.step, entry.amount.queries, entry.amount.answers) for entry in world.ledger()]
    assert amounts == [(Step.RESERVE, 10, 40), (Step.COMMIT, 2, 8), (Step.REFUND, 8, 32)]
    assert [facts["answers"] for facts in entries(world, EntryKind.ANSWERED)] == [4, 4]
    (ended,) = entries(world, EntryKind.ENQUIRY_ENDED)
    assert (ended["enquiry"], ended["reason"], ended["requests"], ended["answers"]) == (enquiry_id, "asked", 2, 8)
    assert refusal(lambda: world.ask(enquiry_id, asker.query(world.rows()))).code is ErrorCode.NOT_READY


def test_same_enquiry_again_changes_nothing(world: EnquiryWorld) -> None:
    signed = world.sign(world.enquiry(world.asker()))
    first = world.desk.open(signed, "alice")
    assert world.desk.open(signed, "alice") == first
    assert len(entries(world, EntryKind.ENQUIRY_ACCEPTED)) == 1
    assert [entry.step for entry in world.ledger()] == [Step.RESERVE]


def test_request_id_serves_once_however_it_is_sent_again(shared: EnquiryWorld, alice: Asker) -> None:
    enquiry_id, query = shared.open(alice, max_answers=30), alice.query(shared.rows())
    assert codes(at_once(4, lambda _: shared.ask(enquiry_id, query, request=REQUEST))) == ["JOB_CONFLICT"] * 3 + ["answered"]
    assert refusal(lambda: shared.ask(enquiry_id, query, request=REQUEST)).code is ErrorCode.JOB_CONFLICT
    assert (
        refusal(lambda: shared.desk.keep(shared.asked(enquiry_id, query, request=REQUEST), "alice")).code
        is ErrorCode.JOB_CONFLICT
    )
    assert shared.desk.standing(enquiry_id, "alice").answers_left == 26


def test_more_than_the_budget_in_parallel_is_answered_as_far_as_it_goes(world: EnquiryWorld) -> None:
    asker = world.asker()
    enquiry_id, query = world.open(asker, max_answers=9), asker.query(world.rows())
    assert codes(at_once(8, lambda _: world.ask(enquiry_id, query))) == ["QUOTA_EXHAUSTED"] * 6 + ["answered"] * 2
    assert world.desk.standing(enquiry_id, "alice").answers_left == 1
    assert len(entries(world, EntryKind.ANSWERED)) == 2


def test_enquiries_in_parallel_never_set_aside_more_than_the_grant(world: EnquiryWorld) -> None:
    asker = world.asker()
    with world.party.database.transaction() as tables:
        (grant,) = tables.encrypted.grants()
    assert grant.grant.max_answers == 1_000_000
    signed = [world.sign(world.enquiry(asker, max_answers=400_000)) for _ in range(4)]
    # The policy's default cap of a model is 100 000 numbers, below the grant's.
    outcomes = at_once(4, lambda number: world.desk.open(signed[number], "alice"))
    assert codes(outcomes) == ["BUDGET_EXHAUSTED"] * 4
    signed = [world.sign(world.enquiry(asker, max_answers=40_000, nonce=f"{number:032x}")) for number in range(4)]
    outcomes = at_once(4, lambda number: world.desk.open(signed[number], "alice"))
    assert codes(outcomes) == ["BUDGET_EXHAUSTED"] * 4  # 10 000 queries are more than 1 000
    signed = [world.sign(world.enquiry(asker, max_answers=1_600, nonce=f"{number:032x}")) for number in range(4)]
    outcomes = at_once(4, lambda number: world.desk.open(signed[number], "alice"))
    assert codes(outcomes) == ["BUDGET_EXHAUSTED"] * 2 + ["answered"] * 2


def test_query_of_a_wrong_size_plan_or_library_is_refused_and_nothing_is_debited(shared: EnquiryWorld, alice: Asker) -> None:
    enquiry_id, query = shared.open(alice, max_answers=30), alice.query(shared.rows())
    other = shared.asker("packed").query(shared.rows())
    vector = tenseal.ckks_vector(tenseal_context(), [1.0, 2.0]).serialize()[: 1 << 20]
    for message, reason in (
        (query[:-1], "bytes"),
        (query + b"\0", "bytes"),
        (query[:HEADER_BYTES], "bytes"),
        (other, "another plan"),
        (alice.keys[: 1 << 20], "of kind"),
        (vector, "SEAL or TenSEAL"),
        (b"x" * len(query), "no CKKS message of Confide"),
        (query[: HEADER_BYTES + 64] + b"\xff" * (len(query) - HEADER_BYTES - 64), "not below its prime"),
    ):
        error = refusal(lambda message=message: shared.ask(enquiry_id, message))
        assert (error.code, reason in error.what) == (ErrorCode.INVALID_ARGUMENT, True), error.what
    assert "confide infer" in refusal(lambda: shared.ask(enquiry_id, vector)).remedy
    assert shared.desk.standing(enquiry_id, "alice").answers_left == 30
    shared.ask(enquiry_id, query)  # the evaluator goes on


def test_sender_of_secret_key_material_is_told_and_nothing_of_it_is_kept(shared: EnquiryWorld) -> None:
    alice = shared.asker()
    enquiry_id = shared.open(alice, upload=False, max_answers=30)
    key_file = alice.owner.key_file().reveal()
    context = tenseal_context().serialize(save_secret_key=True)
    for message in (key_file, context):
        asked = refusal(lambda message=message: shared.ask(enquiry_id, message[: 1 << 20]))
        put = refusal(lambda message=message: shared.put(enquiry_id, message, 0, 1 << 20))
        disguised = refusal(
            lambda message=message: shared.put(enquiry_id, message, 0, 1 << 20, total=len(alice.keys), digest=alice.key)
        )
        for error in (asked, put, disguised):
            assert error.code is ErrorCode.INVALID_ARGUMENT
            assert "your secret key left your machine" in error.what
    assert shared.put(enquiry_id, key_file, 0, 0) == 0
    assert shared.desk.standing(enquiry_id, "alice").key_bytes == 0


def test_upload_goes_on_where_it_stood_and_wrong_parts_are_refused(shared: EnquiryWorld) -> None:
    asker = shared.asker()
    enquiry_id, keys, half = shared.open(asker, upload=False), asker.keys, len(asker.keys) // 2
    size = min(half, 1 << 20)
    assert shared.put(enquiry_id, keys, 0, size) == size
    assert shared.put(enquiry_id, keys, 0, size) == size
    assert shared.put(enquiry_id, keys, size, 0) == size
    for offset, changes in ((size + 1, {}), (size - 1, {}), (size, {"total": len(keys) + 1}), (size, {"digest": "not one"})):
        error = refusal(lambda offset=offset, changes=changes: shared.put(enquiry_id, keys, offset, 1 << 19, **changes))
        assert error.code is ErrorCode.INVALID_ARGUMENT
    assert refusal(lambda: shared.ask(enquiry_id, asker.query(shared.rows()))).code is ErrorCode.NOT_READY
    for offset in range(size, len(keys), 1 << 20):
        shared.put(enquiry_id, keys, offset, 1 << 20)
    shared.ask(enquiry_id, asker.query(shared.rows()))


def test_parts_that_are_not_those_of_the_digest_are_all_forgotten(shared: EnquiryWorld) -> None:
    asker = shared.asker()
    enquiry_id = shared.open(asker, upload=False)
    altered = asker.keys[:-1] + bytes([asker.keys[-1] ^ 1])
    *before, last = range(0, len(altered), 1 << 20)
    for offset in before:
        shared.put(enquiry_id, altered, offset, 1 << 20, digest=asker.key)
    with pytest.raises(ConfideError, match="not those of the message"):
        shared.put(enquiry_id, altered, last, 1 << 20, digest=asker.key)
    assert shared.desk.standing(enquiry_id, "alice").key_bytes == 0


def test_upload_that_stalls_is_forgotten(world: EnquiryWorld) -> None:
    asker = world.asker()
    enquiry_id = world.open(asker, upload=False)
    for second in range(0, 300, 100):  # slowly, but it grows
        world.at(NOW + timedelta(seconds=second))
        world.put(enquiry_id, asker.keys, second, 100)
        world.desk.sweep()
    assert world.desk.standing(enquiry_id, "alice").key_bytes == 300
    world.at(NOW + timedelta(seconds=330))
    world.desk.sweep()
    assert world.desk.standing(enquiry_id, "alice").key_bytes == 0


def test_key_and_enquiry_of_another_researcher_are_of_no_use(shared: EnquiryWorld, alice: Asker) -> None:
    enquiry_id, query = shared.open(alice, max_answers=30), alice.query(shared.rows())
    acts = (
        lambda: shared.ask(enquiry_id, query, querier="bob"),
        lambda: shared.put(enquiry_id, alice.keys, 0, 1 << 20, querier="bob"),
        lambda: shared.desk.standing(enquiry_id, "bob"),
        lambda: shared.desk.end(enquiry_id, "bob"),
        lambda: shared.desk.fetch(enquiry_id, REQUEST, "bob"),
    )
    assert {refusal(act).code for act in acts} == {ErrorCode.UNKNOWN_DOCUMENT}
    hers = shared.enquiry(alice)
    assert refusal(lambda: shared.desk.open(shared.sign(hers), "bob")).code is ErrorCode.NOT_AUTHORISED
    his = shared.enquiry(alice, querier="bob")
    error = refusal(lambda: shared.desk.open(shared.sign(his, shared.bob), "bob"))
    assert (error.code, [problem.where for problem in error.problems]) == (ErrorCode.NOT_AUTHORISED, ["key"])


def test_dead_evaluator_is_one_failed_request_that_is_not_debited(world: EnquiryWorld) -> None:
    asker = world.asker("batch")
    enquiry_id = world.open(asker, lane="batch", max_answers=30_000)
    world.ask(enquiry_id, asker.query(world.rows()))
    query = asker.query(world.rows())
    before = world.desk.standing(enquiry_id, "alice").answers_left
    with ThreadPoolExecutor(1) as threads:
        stopped = hold_evaluators(world)
        begun = threads.submit(world.ask, enquiry_id, query)
        time.sleep(0.2)
        for evaluator in stopped:
            os.kill(evaluator, signal.SIGKILL)
        assert refusal(lambda: begun.result(WITHIN_S)).code is ErrorCode.EVALUATION_FAILED
    assert world.desk.standing(enquiry_id, "alice").answers_left == before
    world.ask(enquiry_id, asker.query(world.rows()))


def test_evaluator_that_died_while_idle_fails_nothing(world: EnquiryWorld) -> None:
    asker = world.asker()
    enquiry_id, query = world.open(asker), asker.query(world.rows())
    world.ask(enquiry_id, query)
    for evaluator in evaluators(world):
        os.kill(evaluator, signal.SIGKILL)
    time.sleep(0.1)
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
    deadline = time.monotonic() + WITHIN_S
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
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
    monkeypatch.setattr("parties.server.encrypted.pool._LEAST_LIMIT_S", 0.5)
    hold_evaluators(world)
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


def test_answer_is_kept_until_it_is_fetched_once(world: EnquiryWorld) -> None:
    asker, rows = world.asker(), world.rows()
    enquiry_id = world.open(asker)
    world.desk.keep(world.asked(enquiry_id, asker.query(rows), request=REQUEST), "alice")
    answer = fetched(world, enquiry_id)
    assert np.abs(asker.opened(answer, 1) - world.expected(rows)).max() < 8 * asker.plan.precision
    assert world.desk.fetch(enquiry_id, REQUEST, "alice") == answer  # its last part was not sent
    world.desk.sent(enquiry_id, REQUEST)
    assert refusal(lambda: world.desk.fetch(enquiry_id, REQUEST, "alice")).code is ErrorCode.UNKNOWN_OUTPUT


def test_answer_that_nobody_fetches_is_forgotten_and_stays_debited(world: EnquiryWorld) -> None:
    asker = world.asker()
    enquiry_id = world.open(asker)
    world.desk.keep(world.asked(enquiry_id, asker.query(world.rows()), request=REQUEST), "alice")
    fetched(world, enquiry_id)
    world.at(NOW + timedelta(minutes=16))
    world.desk.sweep()
    assert refusal(lambda: world.desk.fetch(enquiry_id, REQUEST, "alice")).code is ErrorCode.UNKNOWN_OUTPUT
    assert world.desk.standing(enquiry_id, "alice").answers_left == 96


def test_failure_of_a_kept_request_is_what_is_fetched(world: EnquiryWorld) -> None:
    asker = world.asker()
    enquiry_id = world.open(asker, upload=False)
    world.desk.keep(world.asked(enquiry_id, asker.query(world.rows()), request=REQUEST), "alice")
    with pytest.raises(ConfideError, match="0 bytes are here"):
        fetched(world, enquiry_id)


@pytest.mark.parametrize("how", ["grant", "agreement", "model", "researcher"])
def test_nothing_leaves_once_consent_has_ended(world: EnquiryWorld, how: str) -> None:
    asker = world.asker()
    enquiry_id, query = world.open(asker), asker.query(world.rows())
    world.ask(enquiry_id, query)
    world.desk.keep(world.asked(enquiry_id, query, request=REQUEST), "alice")
    fetched(world, enquiry_id)
    code = withdraw(world, how, enquiry_id)
    world.at(NOW + timedelta(seconds=2))
    assert refusal(lambda: world.ask(enquiry_id, query)).code is code
    assert refusal(lambda: world.desk.fetch(enquiry_id, REQUEST, "alice")).code is code
    world.desk.look_after()
    assert not world.desk.standing(enquiry_id, "alice").is_open
    assert [entry.amount.answers for entry in world.ledger()] == [100, 8, 92]
    (ended,) = entries(world, EntryKind.ENQUIRY_ENDED)
    assert ended["reason"] == code.name.lower().replace("_", "-")


def test_consent_that_ends_during_the_evaluation_holds_the_answer_back(world: EnquiryWorld) -> None:
    asker = world.asker()
    enquiry_id, query = world.open(asker), asker.query(world.rows())
    world.ask(enquiry_id, query)
    with ThreadPoolExecutor(1) as threads:
        stopped = hold_evaluators(world)
        begun = threads.submit(world.ask, enquiry_id, query)
        time.sleep(0.2)
        withdraw(world, "grant", enquiry_id)
        world.at(NOW + timedelta(seconds=2))
        for evaluator in stopped:
            os.kill(evaluator, signal.SIGCONT)
        assert refusal(lambda: begun.result(WITHIN_S)).code is ErrorCode.GRANT_REVOKED
    assert len(entries(world, EntryKind.ANSWERED)) == 1


def test_enquiry_ends_by_the_clock_and_gives_back(world: EnquiryWorld) -> None:
    enquiry_id = world.open(world.asker(), upload=False)
    assert world.desk.look_after() == NOW + timedelta(hours=1)
    world.at(NOW + timedelta(hours=1))
    assert world.desk.look_after() is None
    assert world.desk.standing(enquiry_id, "alice").reason == "expired"
    assert [entry.step for entry in world.ledger()] == [Step.RESERVE, Step.REFUND]


def test_requests_of_an_hour_are_bounded_and_wrong_ones_count(tmp_path: Path, template: Template) -> None:
    world = EnquiryWorld(tmp_path / "party", template)
    world.permit(max_requests_per_hour=3)
    try:
        asker = world.asker()
        enquiry_id, query = world.open(asker), asker.query(world.rows())
        malformed = query[: HEADER_BYTES + 64] + b"\xff" * (len(query) - HEADER_BYTES - 64)
        assert refusal(lambda: world.ask(enquiry_id, malformed)).code is ErrorCode.INVALID_ARGUMENT
        for _ in range(2):
            world.ask(enquiry_id, query)
        assert refusal(lambda: world.ask(enquiry_id, query)).code is ErrorCode.QUOTA_EXHAUSTED
        assert world.desk.standing(enquiry_id, "alice").answers_left == 92
    finally:
        world.close()


def test_refused_enquiry_names_every_reason_and_is_logged(world: EnquiryWorld) -> None:
    asker = world.asker("batch")
    enquiry = world.enquiry(asker, lane="batch", purpose="marketing", max_answers=10)
    error = refusal(lambda: world.desk.open(world.sign(enquiry), "alice"))
    assert {"purpose", "max_answers"} <= {problem.where.split(".")[-1] for problem in error.problems}
    (facts,) = entries(world, EntryKind.ENQUIRY_REFUSED)
    assert facts["enquiry"] == enquiry.enquiry_id
    assert "NO_AGREEMENT" in facts["codes"]
    assert world.ledger() == ()


def test_party_without_evaluators_accepts_nothing(tmp_path: Path, template: Template) -> None:
    world = EnquiryWorld(tmp_path / "party", template, evaluator_workers=0)
    world.permit()
    try:
        assert refusal(lambda: world.open(world.asker())).code is ErrorCode.UNKNOWN_MODEL
    finally:
        world.close()


def test_messages_above_the_partys_limit_are_refused_before_they_are_sent(tmp_path: Path, template: Template) -> None:
    world = EnquiryWorld(tmp_path / "party", template, max_key_mib=1)
    world.permit()
    try:
        assert len(world.asker().keys) > 1 << 20
        assert refusal(lambda: world.open(world.asker())).code is ErrorCode.TOO_LARGE
    finally:
        world.close()


def evaluators(world: EnquiryWorld) -> list[int]:
    """The evaluators of a world: the workers that were forked for it, by their channel's other end."""
    pool = world.desk._pool
    assert pool is not None
    return [each._worker.pid for each in pool._idle]


def hold_evaluators(world: EnquiryWorld) -> list[int]:
    """Stops them, as a machine does that swaps."""
    found = evaluators(world)
    assert found
    for evaluator in found:
        os.kill(evaluator, signal.SIGSTOP)
    return found


def fetched(world: EnquiryWorld, enquiry_id: str) -> bytes:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        try:
            return world.desk.fetch(enquiry_id, REQUEST, "alice")
        except ConfideError as error:
            if error.code is not ErrorCode.NOT_READY or "computed" not in error.what:
                raise
        time.sleep(0.01)
    raise AssertionError("the answer is not computed")


def withdraw(world: EnquiryWorld, how: str, enquiry_id: str) -> ErrorCode:
    """Ends the consent to an enquiry, and returns what is said of it from then on."""
    with world.party.database.transaction() as tables:
        record = tables.encrypted.find_enquiry(enquiry_id)
        assert record is not None
        if how == "model":
            tables.encrypted.withdraw(world.model.ref, NOW)
            return ErrorCode.UNKNOWN_MODEL
        if how == "researcher":
            world.strike_off("alice")
            return ErrorCode.NOT_ENROLLED
        subject = record.grant_id if how == "grant" else record.enquiry.agreement
        revocation = Revocation("cardio", OWNER, subject, Effect.STOP, "a patient asked", NOW)
        tables.revocations.add(sign_revocation(revocation, world.consent.keys[OWNER].signing), now=NOW)
    return ErrorCode.GRANT_REVOKED if how == "grant" else ErrorCode.NO_AGREEMENT


def tenseal_context() -> tenseal.Context:
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 60], n_threads=1)
    context.global_scale = 2.0**40
    return context
