"""The transition table and the machine's manners: totality, refusals, documents, snapshots."""

from __future__ import annotations

import json

import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.session import events as on
from protocols.session import messages as said
from protocols.session.machine import SessionMachine
from protocols.session.memory import Memory
from protocols.session.states import OPEN, TERMINAL, State
from protocols.session.table import TABLE, WITHOUT_OUTPUT, Rule, as_markdown, look_up
from tests.simulation.write_states import BEGIN, END, PAGE
from tests.support.world import World
from tests.support.world_parts import EPOCH, PLAN, a_spec

OWN: dict[str, dict[str, str]] = {"alpha": {"labels": "1" * 64}, "beta": {"labels": "2" * 64}}
REPORT = said.FailureReport(ErrorCode.WORKER_LOST, State.RUNNING, "beta", "the worker is gone")


def an_ending(**changes: object) -> said.Ending:
    document = {
        "format": said.ENDING_FORMAT, "session": "job-1", "attempt": 1, "state": "aborted", "code": "WORKER_LOST",
        "phase": "running", "at_fault": "beta", "cause": "beta: the worker is gone", "remedy": "look", "decided_by": "alpha",
        "time": "2027-01-15T08:00:09Z", "by_majority": True, "commitments": {},
    }  # fmt: skip
    return said.Ending.from_document({**document, **changes})


BODIES: dict[type[said.Body], said.Body] = {
    said.Countersignature: said.Countersignature(PLAN, '{"index":7}'),
    said.Refusal: said.Refusal(REPORT),
    said.Prepare: said.Prepare(1),
    said.PrepareReply: said.PrepareReply(1, granted=True),
    said.Release: said.Release(1),
    said.Start: said.Start(1),
    said.Vote: said.Vote(said.Verdict.FAILED, REPORT, {}),
    said.AskEnding: said.AskEnding(4),
    said.EndingReply: said.EndingReply(4, 4, 0, an_ending(), said.Vote(said.Verdict.DONE, None, OWN["beta"])),
    said.ProposeEnding: said.ProposeEnding(4, an_ending()),
    said.EndingAccepted: said.EndingAccepted(4),
    said.Ending: an_ending(),
    said.CancelRequest: said.CancelRequest(),
}
LOCAL: dict[type[on.Event], on.Event] = {
    on.JobAccepted: on.JobAccepted(PLAN, ""),
    on.JobRefused: on.JobRefused(REPORT),
    on.Tick: on.Tick(),
    on.Delivered: on.Delivered("beta", 1),
    on.Undelivered: on.Undelivered("beta", 1, needs_job=False),
    on.SlotGranted: on.SlotGranted(1),
    on.SlotBusy: on.SlotBusy(1),
    on.WorkerPrepared: on.WorkerPrepared(1),
    on.WorkerRunning: on.WorkerRunning(1),
    on.WorkerProgress: on.WorkerProgress(1, 1),
    on.WorkerFinished: on.WorkerFinished(1, OWN["beta"]),
    on.OutputWithheld: on.OutputWithheld(1, REPORT),
    on.WorkerFailed: on.WorkerFailed(1, REPORT),
    on.CancelRequested: on.CancelRequested(),
    on.ConsentEnded: on.ConsentEnded(REPORT),
    on.Recovered: on.Recovered(),
    on.OutputsSettled: on.OutputsSettled(),
}


def a_message(body: said.Body, sender: str) -> said.SessionMessage:
    return said.SessionMessage("job-1", 1, sender, body)


def a_machine_in(state: State, party: str) -> SessionMachine:
    """A machine as it may be in this state."""
    ending = an_ending(state=state.value, code="" if state is State.COMPLETED else "WORKER_LOST") if state in TERMINAL else None
    memory = Memory(
        state=state,
        entered_at=EPOCH,
        watch_since=EPOCH,
        digests=dict.fromkeys(("alpha", "beta", "gamma"), PLAN) if state is not State.PROPOSED else {},
        votes={party: said.Vote(said.Verdict.DONE, None, OWN.get(party, {}))} if state is State.RELEASING else {},
        round=1,
        ticket=1,
        tickets=1,
        worker=1,
        works=state in (State.PREPARING, State.PREPARED, State.RUNNING, State.RELEASING),
        worker_heard_at=EPOCH,
        stepped_at=EPOCH,
        ending=ending,
    )
    machine = SessionMachine(a_spec(), party)
    machine._memory = memory
    return machine


@pytest.mark.parametrize("party", ["alpha", "beta"])
@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("kind", on.KINDS)
def test_machine_every_state_and_event_follows_the_table_or_refuses(state: State, kind: on.Kind, party: str) -> None:
    machine = a_machine_in(state, party)
    sender = "beta" if party == "alpha" else "alpha"
    body = BODIES.get(kind)  # type: ignore[call-overload]
    event = LOCAL[kind] if body is None else on.Received(a_message(body, sender))  # type: ignore[index]
    machine._asleep = kind is on.Recovered
    cell = look_up(state, kind)
    allowed = {state} if cell is None else {state, *cell.to}
    refused_as = None
    try:
        machine.handle(event, EPOCH + 1)
    except ConfideError as error:
        refused_as = error.code
    if cell is None:
        assert refused_as is (ErrorCode.INTERNAL if body is None else ErrorCode.BAD_FRAME)
    else:
        assert refused_as in (None, ErrorCode.BAD_FRAME, ErrorCode.CANCEL_TOO_LATE)
    assert machine.state in allowed if refused_as is None else machine.state is state


def test_table_release_states_are_reached_from_releasing_alone() -> None:
    released = TERMINAL - (WITHOUT_OUTPUT - {State.WITHHELD})
    sources = {state for state, row in TABLE.items() for cell in row.values() if cell.to & released}
    assert sources == {State.RELEASING}


def test_table_completed_and_withheld_lead_nowhere() -> None:
    for state in (State.COMPLETED, State.WITHHELD):
        assert all(not cell.to for cell in TABLE[state].values())


def test_table_open_states_keep_time_and_recover() -> None:
    assert all(on.Tick in TABLE[state] and on.Recovered in TABLE[state] for state in OPEN)


def test_table_rules_are_all_used() -> None:
    assert {cell.rule for row in TABLE.values() for cell in row.values()} == set(Rule)


def test_page_states_equal_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.split(BEGIN)[1].split(END)[0] == as_markdown(), "run: python -m tests.simulation.write_states"


@pytest.mark.parametrize("body", BODIES.values(), ids=lambda body: type(body).__name__)
def test_message_document_round_trip_is_equal(body: said.Body) -> None:
    message = a_message(body, "beta")
    assert said.SessionMessage.from_document(json.loads(json.dumps(message.to_document()))) == message


@pytest.mark.parametrize("body", BODIES.values(), ids=lambda body: type(body).__name__)
def test_message_unknown_or_missing_field_is_refused(body: said.Body) -> None:
    document = a_message(body, "beta").to_document()
    mutants = [{**document, "extra": 1}, {**document, "body": {**document["body"], "extra": 1}}]
    mutants += [{key: value for key, value in document.items() if key != gone} for gone in document]
    mutants += [{**document, "body": {k: v for k, v in document["body"].items() if k != gone}} for gone in document["body"]]
    mutants += [{**document, "body": {**document["body"], key: {"x": []}}} for key in document["body"]]
    mutants += [{**document, "kind": "unheard_of"}, {**document, "sender": "../etc"}, {**document, "attempt": True}]
    for mutant in mutants:
        with pytest.raises(ConfideError) as caught:
            said.SessionMessage.from_document(mutant)
        assert caught.value.code is ErrorCode.INVALID_DOCUMENT


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "running"},
        {"state": "completed"},
        {"code": ""},
        {"code": "NO_SUCH_CODE"},
        {"time": "yesterday"},
        {"cause": "two\nlines"},
        {"cause": "x" * 2001},
        {"decided_by": ""},
    ],
)
def test_ending_inconsistent_document_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfideError) as caught:
        an_ending(**changes)
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


def test_report_text_with_control_characters_is_cleaned_and_cut() -> None:
    report = said.FailureReport(ErrorCode.INTERNAL, State.RUNNING, "", "a\x1b[31m\nb" + "x" * 5000)
    assert report.text.startswith("a [31m b")
    assert len(report.text) == 2000


def test_snapshot_after_restore_is_equal() -> None:
    world = World(("alpha", "beta", "gamma"), 7)
    world.submit(a_spec())
    world.run(2.5)
    for name in world.hosts:
        snapshot = world.hosts[name].machines["job-1"].snapshot()
        again = SessionMachine.restore(a_spec(), name, json.loads(json.dumps(snapshot)))
        assert again.snapshot() == snapshot


def test_snapshot_after_a_sign_of_life_is_unchanged() -> None:
    """So a runner that stores only differing snapshots writes nothing while a session just runs."""
    machine = a_machine_in(State.RUNNING, "alpha")
    machine.handle(on.Received(a_message(said.AskEnding(0), "beta")), EPOCH + 1)
    before = machine.snapshot()
    for event in (on.Received(a_message(said.AskEnding(0), "beta")), on.WorkerProgress(1, 2), on.Delivered("beta", 1)):
        machine.handle(event, EPOCH + 2)
        assert machine.snapshot() == before


def test_snapshot_damaged_is_refused() -> None:
    snapshot = SessionMachine(a_spec(), "alpha").snapshot()
    with pytest.raises(ConfideError) as caught:
        SessionMachine.restore(a_spec(), "alpha", {**snapshot, "votes": {"beta": 1}})
    assert caught.value.code is ErrorCode.STATE_DAMAGED


def test_machine_restored_without_recovered_is_refused() -> None:
    machine = SessionMachine.restore(a_spec(), "alpha", SessionMachine(a_spec(), "alpha").snapshot())
    with pytest.raises(ConfideError) as caught:
        machine.handle(on.Tick(), EPOCH)
    assert caught.value.code is ErrorCode.INTERNAL


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (said.SessionMessage("job-2", 1, "beta", said.Start(1)), ErrorCode.UNKNOWN_SESSION),
        (said.SessionMessage("job-1", 2, "beta", said.Start(1)), ErrorCode.UNKNOWN_SESSION),
        (said.SessionMessage("job-1", 1, "mallory", said.Start(1)), ErrorCode.NOT_AUTHORISED),
        (said.SessionMessage("job-1", 1, "alpha", said.Start(1)), ErrorCode.NOT_AUTHORISED),
    ],
)
def test_machine_message_of_another_session_or_stranger_is_refused(message: said.SessionMessage, code: ErrorCode) -> None:
    machine = SessionMachine(a_spec(), "alpha")
    with pytest.raises(ConfideError) as caught:
        machine.handle(on.Received(message), EPOCH)
    assert caught.value.code is code


def test_machine_release_it_did_not_vote_for_is_refused() -> None:
    machine = a_machine_in(State.RUNNING, "beta")
    completed = an_ending(state="completed", code="", at_fault="", cause="", remedy="")
    for body in (completed, said.ProposeEnding(0, completed)):
        with pytest.raises(ConfideError) as caught:
            machine.handle(on.Received(a_message(body, "alpha")), EPOCH)
        assert (caught.value.code, caught.value.party) == (ErrorCode.BAD_FRAME, "alpha")
    assert machine.state is State.RUNNING


COMPLETED = {"state": "completed", "code": "", "at_fault": "", "cause": "", "remedy": ""}


@pytest.mark.parametrize(
    "commitments",
    [
        {},
        {"beta": OWN["beta"]},
        {**OWN, "beta": {"labels": "3" * 64}},
        {**OWN, "beta": {}},
        {**OWN, "alpha": {}},
        {**OWN, "alpha": {"other": "1" * 64}},
        {**OWN, "gamma": {"labels": "3" * 64}},
    ],
)
@pytest.mark.parametrize("proposed", [True, False])
def test_machine_completed_ending_without_its_own_commitments_or_all_is_refused(
    commitments: dict[str, dict[str, str]], proposed: bool
) -> None:
    machine = a_machine_in(State.RELEASING, "beta")
    ending = an_ending(**COMPLETED, commitments=commitments)
    with pytest.raises(ConfideError) as caught:
        machine.handle(on.Received(a_message(said.ProposeEnding(0, ending) if proposed else ending, "alpha")), EPOCH)
    assert (caught.value.code, caught.value.party) == (ErrorCode.BAD_FRAME, "alpha")
    assert machine.state is State.RELEASING
    machine.handle(on.Received(a_message(said.ProposeEnding(0, an_ending(**COMPLETED, commitments=OWN)), "alpha")), EPOCH)
    assert machine.state is State.COMPLETED


def test_machine_dealer_accepts_a_completed_ending_with_the_computing_parties_commitments_only() -> None:
    machine = a_machine_in(State.RELEASING, "gamma")
    incomplete = an_ending(**COMPLETED, commitments={"alpha": OWN["alpha"]})
    with pytest.raises(ConfideError) as caught:
        machine.handle(on.Received(a_message(said.ProposeEnding(0, incomplete), "alpha")), EPOCH)
    assert caught.value.code is ErrorCode.BAD_FRAME
    complete = an_ending(**COMPLETED, commitments=OWN)
    machine.handle(on.Received(a_message(said.ProposeEnding(0, complete), "alpha")), EPOCH)
    assert machine.state is State.COMPLETED


@pytest.mark.parametrize(
    ("sender", "commitments"),
    [("beta", {}), ("beta", {"labels": "1" * 64, "other": "1" * 64}), ("beta", {"other": "1" * 64}), ("gamma", OWN["beta"])],
)
def test_machine_vote_for_done_with_other_commitments_than_due_is_refused(sender: str, commitments: dict[str, str]) -> None:
    lead = a_machine_in(State.RUNNING, "alpha")
    with pytest.raises(ConfideError) as caught:
        lead.handle(on.Received(a_message(said.Vote(said.Verdict.DONE, None, commitments), sender)), EPOCH)
    assert (caught.value.code, caught.value.party) == (ErrorCode.BAD_FRAME, sender)


def test_machine_deputy_does_not_take_over_a_completed_ending_with_altered_commitments() -> None:
    machine = a_machine_in(State.RELEASING, "beta")
    altered = an_ending(**COMPLETED, commitments={**OWN, "beta": {"labels": "3" * 64}})
    reply = said.EndingReply(4, 4, 0, altered, None)
    with pytest.raises(ConfideError) as caught:
        machine.handle(on.Received(a_message(reply, "gamma")), EPOCH)
    assert (caught.value.code, caught.value.party) == (ErrorCode.BAD_FRAME, "gamma")


def test_machine_own_worker_that_commits_to_something_else_is_a_defect() -> None:
    machine = a_machine_in(State.RUNNING, "beta")
    with pytest.raises(ConfideError) as caught:
        machine.handle(on.WorkerFinished(1, {}), EPOCH)
    assert caught.value.code is ErrorCode.INTERNAL
    assert machine.state is State.RUNNING


@pytest.mark.parametrize("changes", [{"commitments": OWN}, {**COMPLETED, "commitments": {"beta": {"labels": "x"}}}])
def test_ending_with_commitments_where_none_belong_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfideError) as caught:
        an_ending(**changes)
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


@pytest.mark.parametrize(
    ("manifest", "fits"), [("", True), ("x" * 65536, True), ("x" * 65537, False), ("a\nb", False), (7, False)]
)
def test_countersignature_manifest_is_bounded_and_printable(manifest: object, fits: bool) -> None:
    document = {"plan_digest": PLAN, "manifest": manifest}
    if fits:
        assert said.Countersignature.from_document(document).manifest == manifest
    else:
        with pytest.raises(ConfideError):
            said.Countersignature.from_document(document)


def test_machine_ballot_of_another_owner_is_refused() -> None:
    machine = a_machine_in(State.RUNNING, "beta")
    with pytest.raises(ConfideError) as caught:
        machine.handle(on.Received(a_message(said.ProposeEnding(0, an_ending()), "gamma")), EPOCH)
    assert caught.value.party == "gamma"


def test_machine_two_plans_of_one_party_are_refused() -> None:
    machine = a_machine_in(State.AGREED, "beta")
    with pytest.raises(ConfideError) as caught:
        machine.handle(on.Received(a_message(said.Countersignature("b" * 64, ""), "gamma")), EPOCH)
    assert (caught.value.code, caught.value.party) == (ErrorCode.BAD_FRAME, "gamma")


def test_spec_invalid_reports_every_problem() -> None:
    with pytest.raises(ConfideError) as caught:
        a_spec("Not An Id", ("alpha", "alpha"), start_within_s=1)
    assert {problem.where for problem in caught.value.problems} == {"session", "participants", "start_by"}
