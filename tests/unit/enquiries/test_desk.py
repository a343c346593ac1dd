"""Enquiries at a model's owner, with real evaluators: what is answered, debited and given back."""

from __future__ import annotations

import os
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.utils import floatToGoString
from sqlalchemy.exc import OperationalError

from governance.audit.entries import EntryKind
from governance.budget.ledger import Step
from governance.consent.revocation import Effect, Revocation, sign_revocation
from governance.policy.budgets import MAX_COUNT, Budgets, Caps
from parties.server.encrypted.watch import EnquiryWatch
from parties.server.workers import Template
from parties.storage.audit_log import AuditStore
from parties.storage.registry import MarkRecord
from protocols.errors import ConfideError, ErrorCode
from tests.support.consent import NOW
from tests.support.enquiry_world import (
    ORIGIN,
    OWNER,
    REQUEST,
    WITHIN_S,
    Asker,
    EnquiryWorld,
    at_once,
    await_evaluation,
    codes,
    entries,
    fetched,
    hold_evaluators,
)
from tests.support.refusals import refusal

pytestmark = pytest.mark.outside_world  # starts evaluators


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


@pytest.mark.parametrize("how", ["grant", "agreement", "model", "researcher", "origin"])
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
        await_evaluation(world)
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


def test_party_whose_state_is_older_than_what_it_has_shown_answers_and_debits_nothing(world: EnquiryWorld) -> None:
    asker = world.asker()
    enquiry_id, query = world.open(asker), asker.query(world.rows())
    world.ask(enquiry_id, query)
    rolled_back = ConfideError(ErrorCode.STATE_ROLLED_BACK, "a witness has seen more", party=OWNER)
    with ThreadPoolExecutor(1) as threads:
        stopped = hold_evaluators(world)
        begun = threads.submit(world.ask, enquiry_id, query)
        await_evaluation(world)
        world.halted = rolled_back
        for evaluator in stopped:
            os.kill(evaluator, signal.SIGCONT)
        assert refusal(lambda: begun.result(WITHIN_S)) is rolled_back
    assert refusal(lambda: world.ask(enquiry_id, query)) is rolled_back
    assert refusal(lambda: world.open(asker, upload=False)) is rolled_back
    assert len(entries(world, EntryKind.ANSWERED)) == 1


def test_disk_that_is_full_between_debit_and_log_entry_holds_the_answer_back_and_nothing_is_debited(
    world: EnquiryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = world.asker()
    enquiry_id, query = world.open(asker), asker.query(world.rows())
    written = AuditStore.append

    def append(store: AuditStore, kind: EntryKind, *given: Any, **named: Any) -> Any:
        if kind is EntryKind.ANSWERED:
            raise OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))
        return written(store, kind, *given, **named)

    with monkeypatch.context() as full:
        full.setattr(AuditStore, "append", append)
        assert refusal(lambda: world.ask(enquiry_id, query, request=REQUEST)).code is ErrorCode.DISK_FULL
    assert world.desk.standing(enquiry_id, "alice").answers_left == 100
    world.ask(enquiry_id, query, request=REQUEST)  # the id has not served
    assert len(entries(world, EntryKind.ANSWERED)) == 1


def test_enquiry_whose_plan_is_read_no_more_after_an_upgrade_ends_and_gives_back(
    world: EnquiryWorld, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = world.asker()
    by_clock, by_request = world.open(asker, upload=False), world.open(asker, upload=False)
    monkeypatch.setattr("protocols.ckks.planning.PARAMETER_SETS", {})
    world.desk.stop()
    world.begin(template)  # the party process begins anew
    assert refusal(lambda: world.put(by_clock, asker.keys, 0, 100)).code is ErrorCode.INVALID_DOCUMENT
    assert not world.desk.end(by_request, "alice").is_open
    world.at(NOW + timedelta(hours=1))
    world.desk.look_after()
    assert world.desk.standing(by_clock, "alice").reason == "expired"
    assert [entry.step for entry in world.ledger()] == [Step.RESERVE, Step.RESERVE, Step.REFUND, Step.REFUND]


def test_end_of_consent_is_noticed_though_the_clock_was_set_back(world: EnquiryWorld) -> None:
    enquiry_id = world.open(world.asker(), upload=False)
    watch = EnquiryWatch(world.party, world.desk)
    watch.look()
    watch.look()
    world.strike_off("alice")  # in the directory, which is no part of the database
    world.at(NOW - timedelta(minutes=2))
    watch.look()
    watch.stop()
    assert world.desk.standing(enquiry_id, "alice").reason == "not-enrolled"


def test_requests_are_counted_by_how_they_ended_and_nothing_says_whose_they_are(world: EnquiryWorld) -> None:
    asker = world.asker()
    enquiry_id, query = world.open(asker, max_answers=8), asker.query(world.rows())
    world.ask(enquiry_id, query)
    world.desk.keep(world.asked(enquiry_id, query, request=REQUEST), "alice")
    fetched(world, enquiry_id)
    assert refusal(lambda: world.ask(enquiry_id, query)).code is ErrorCode.QUOTA_EXHAUSTED
    said = generate_latest(world.metrics).decode()
    for sample in (
        'confide_encrypted_requests_total{code="OK"} 2.0',
        'confide_encrypted_requests_total{code="QUOTA_EXHAUSTED"} 1.0',
        "confide_evaluation_seconds_count 2.0",
        "confide_evaluators_busy 0.0",
        "confide_evaluation_queue_depth 0.0",
        f"confide_encrypted_upload_bytes {floatToGoString(len(asker.keys))}",
    ):
        assert sample in said.splitlines()
    assert "alice" not in said
    assert world.model.name not in said


@pytest.mark.parametrize(
    ("caps", "why"),
    [
        (Caps(MAX_COUNT, 39), "the job needs 40 of its answers, and what is left"),
        (Caps(9, MAX_COUNT), "the job needs 10 of its queries, and what is left"),
        (Caps(MAX_COUNT, MAX_COUNT, Decimal(8)), "opens something without noise, and its owner permits no enquiry without it"),
    ],
)
def test_enquiry_over_the_cap_on_its_querier_is_refused_with_the_account(world: EnquiryWorld, caps: Caps, why: str) -> None:
    asker = world.asker()
    world.policy.budgets = Budgets(consumers={"alice": caps})
    error = refusal(lambda: world.open(asker, upload=False, max_answers=40))
    (problem,) = error.problems
    assert (error.code, problem.where) == (ErrorCode.BUDGET_EXHAUSTED, f"budget.consumer/alice/{world.model.ref.label}")
    assert why in problem.what
    (said,) = entries(world, EntryKind.BUDGET_REFUSED)
    assert (said["job"], said["account"]) == (entries(world, EntryKind.ENQUIRY_REFUSED)[0]["enquiry"], problem.where[7:])
    bobs = world.sign(world.enquiry(asker, querier="bob", max_answers=40), world.bob)
    assert world.desk.open(bobs, "bob").is_open
    assert (world.told("alice"), [entry.step for entry in world.told("bob")]) == ((), [Step.RESERVE])


def test_answers_count_on_the_account_of_their_querier_over_all_her_enquiries(world: EnquiryWorld) -> None:
    asker = world.asker()
    world.policy.budgets = Budgets(default_consumer=Caps(MAX_COUNT, 40))
    first = world.open(asker, max_answers=40)
    for _ in range(2):
        world.ask(first, asker.query(world.rows()))
    assert refusal(lambda: world.open(asker, upload=False, max_answers=4)).code is ErrorCode.BUDGET_EXHAUSTED
    world.desk.end(first, "alice")  # 32 come back
    amounts = [(entry.step, entry.amount.queries, entry.amount.answers) for entry in world.told()]
    assert amounts == [(Step.RESERVE, 10, 40), (Step.COMMIT, 2, 8), (Step.REFUND, 8, 32)]
    assert refusal(lambda: world.open(asker, upload=False, max_answers=36)).code is ErrorCode.BUDGET_EXHAUSTED
    assert world.open(asker, upload=False, max_answers=32)


def test_refused_enquiry_names_every_reason_and_is_logged(world: EnquiryWorld) -> None:
    asker = world.asker("batch")
    enquiry = world.enquiry(asker, lane="batch", purpose="marketing", max_answers=10)
    error = refusal(lambda: world.desk.open(world.sign(enquiry), "alice"))
    assert {"purpose", "max_answers"} <= {problem.where.split(".")[-1] for problem in error.problems}
    (facts,) = entries(world, EntryKind.ENQUIRY_REFUSED)
    assert facts["enquiry"] == enquiry.enquiry_id
    assert "NO_AGREEMENT" in facts["codes"]
    assert world.ledger() == ()


def withdraw(world: EnquiryWorld, how: str, enquiry_id: str) -> ErrorCode:
    """Ends the consent to an enquiry, and returns what is said of it from then on."""
    with world.party.database.transaction() as tables:
        record = tables.encrypted.find_enquiry(enquiry_id)
        assert record is not None
        if how == "model":
            tables.encrypted.withdraw(world.model.ref, NOW)
            return ErrorCode.UNKNOWN_MODEL
        if how == "origin":
            tables.registry.mark(MarkRecord(ORIGIN, "hospital-c", "c0" * 16, ErrorCode.GRANT_REVOKED, delete=False, marked=NOW))
            return ErrorCode.MODEL_REVOKED
        if how == "researcher":
            world.strike_off("alice")
            return ErrorCode.NOT_ENROLLED
        subject = record.grant_id if how == "grant" else record.enquiry.agreement
        revocation = Revocation("cardio", OWNER, subject, Effect.STOP, "a patient asked", NOW)
        tables.revocations.add(sign_revocation(revocation, world.consent.keys[OWNER].signing), now=NOW)
    return ErrorCode.GRANT_REVOKED if how == "grant" else ErrorCode.NO_AGREEMENT
