"""The life of a session in named situations, and every fault that the random schedules have found."""

from __future__ import annotations

import pytest

from protocols.errors import ErrorCode
from protocols.session import actions as act
from protocols.session import events as on
from protocols.session import messages as said
from protocols.session.machine import SessionMachine
from protocols.session.states import State
from tests.simulation.schedules import TOO_FEW, TOO_RISKY
from tests.support.world import World
from tests.support.world_parts import EPOCH, PLAN, Chances, a_spec

TRIO = ("alpha", "beta", "gamma")  # alpha leads, gamma deals


def a_world(**chances: float) -> World:
    return World(TRIO, 1, Chances(**{"delay_s": 0.01, **chances}))


def run_until(world: World, party: str, state: State) -> None:
    for _ in range(20_000):
        if "job-1" in world.hosts[party].machines and world.state(party, "job-1") is state:
            return
        world.run(0.01)
    raise AssertionError(f"{party} never reached {state}")


def test_session_undisturbed_completes_with_one_document() -> None:
    world = a_world()
    world.submit(a_spec())
    world.run(20)
    ending = world.check_endings("job-1")
    assert (ending.state, ending.code, ending.decided_by, ending.by_majority) == (State.COMPLETED, "", "alpha", True)


def test_session_job_reaches_one_party_only_completes_everywhere() -> None:
    world = a_world()
    world.submit(a_spec(), reach=("gamma",))
    world.run(30)
    assert world.check_endings("job-1").state is State.COMPLETED
    assert set(world.endings("job-1")) == set(TRIO)


def test_session_party_down_until_the_deadline_expires_and_names_it() -> None:
    world = a_world()
    world.crash("gamma")
    world.submit(a_spec(agree_within_s=20))
    world.run(25)
    ending = world.check_endings("job-1")
    assert (ending.state, ending.code, ending.at_fault) == (State.EXPIRED, "JOB_EXPIRED", "gamma")
    assert "gamma" in ending.cause


def test_session_party_comes_up_before_the_deadline_completes() -> None:
    world = a_world()
    world.crash("gamma")
    world.submit(a_spec(agree_within_s=60))
    world.run(30)
    world.restart("gamma")
    world.run(30)
    assert world.check_endings("job-1").state is State.COMPLETED


def test_session_refusals_of_two_parties_reject_with_both_reasons() -> None:
    world = a_world()
    world.refusals["beta", "job-1"] = TOO_FEW
    world.refusals["gamma", "job-1"] = said.FailureReport(
        ErrorCode.UNKNOWN_DATASET, State.PROPOSED, "", "no data set of that name"
    )
    world.submit(a_spec())
    world.run(10)
    ending = world.check_endings("job-1")
    assert ending.state is State.REJECTED
    assert "beta: too few rows" in ending.cause
    assert "gamma: no data set of that name" in ending.cause
    assert ending.at_fault == ""


def test_session_one_plan_differs_is_rejected_naming_who_differs_and_nobody_at_fault() -> None:
    world = a_world()
    world.plans["gamma", "job-1"] = "b" * 64
    world.submit(a_spec())
    world.run(10)
    ending = world.check_endings("job-1")
    assert (ending.state, ending.code, ending.at_fault) == (State.REJECTED, "PLAN_DIFFERS", "")
    assert ending.cause.endswith("differs: gamma")


def test_session_output_withheld_by_one_party_is_withheld_everywhere() -> None:
    world = a_world()
    world.withheld["beta", "job-1"] = TOO_RISKY
    world.submit(a_spec())
    world.run(20)
    ending = world.check_endings("job-1")
    assert (ending.state, ending.code) == (State.WITHHELD, "NO_GRANT")
    assert "the risk is too high" in ending.cause


@pytest.mark.parametrize("party", TRIO)
@pytest.mark.parametrize("state", [State.PROPOSED, State.AGREED, State.PREPARING, State.RUNNING])
def test_session_cancelled_at_any_party_in_any_phase_is_cancelled_everywhere(party: str, state: State) -> None:
    world = a_world()
    world.hosts["alpha"].slot = ("another", 1) if state is State.AGREED else None
    world.submit(a_spec())
    run_until(world, party, state)
    world.cancel("job-1", party)
    world.run(10)
    assert world.check_endings("job-1").state is State.CANCELLED


def test_session_cancelled_after_the_decision_is_refused_and_completes() -> None:
    world = a_world()
    world.submit(a_spec())
    run_until(world, "beta", State.COMPLETED)
    world.cancel("job-1", "beta")
    world.run(5)
    assert world.check_endings("job-1").state is State.COMPLETED


def test_session_cancelled_while_proposed_and_lead_down_is_cancelled_by_a_deputy() -> None:
    world = a_world()
    world.crash("alpha")
    world.submit(a_spec(agree_within_s=300))
    world.run(5)
    world.cancel("job-1", "gamma")
    world.run(20)
    assert world.state("gamma", "job-1") is State.CANCELLED
    world.restart("alpha")
    world.run(300)
    world.check_endings("job-1")


@pytest.mark.parametrize("party", TRIO)
@pytest.mark.parametrize("state", [State.PREPARING, State.RUNNING])
def test_session_party_restarts_at_work_confesses_and_is_at_fault(party: str, state: State) -> None:
    world = a_world()
    world.submit(a_spec())
    run_until(world, party, state)
    world.crash(party)
    world.run(0.2)
    world.restart(party)
    world.run(20)
    ending = world.check_endings("job-1")
    assert (ending.state, ending.code, ending.at_fault) == (State.ABORTED, "PARTY_RESTARTED", party)


@pytest.mark.parametrize("party", TRIO)
def test_session_party_restarts_before_reservation_completes(party: str) -> None:
    world = a_world()
    world.hosts[TRIO[0]].slot = ("other", 1)
    world.submit(a_spec())
    run_until(world, party, State.AGREED)
    world.crash(party)
    world.run(2)
    world.restart(party)
    world.hosts[TRIO[0]].slot = None
    world.run(30)
    assert world.check_endings("job-1").state is State.COMPLETED


def test_session_lead_restarts_after_all_votes_still_completes() -> None:
    world = a_world()
    world.submit(a_spec())
    run_until(world, "alpha", State.RUNNING)
    world.hosts["alpha"].workers["job-1"].finish_at = world.now + 60  # the lead is the last
    run_until(world, "beta", State.RELEASING)
    run_until(world, "gamma", State.RELEASING)
    world.run(1)
    world.hosts["alpha"].workers["job-1"].finish_at = world.now
    world.lost_messages = [(party, said.ProposeEnding) for party in ("beta", "gamma")]
    run_until(world, "alpha", State.RELEASING)
    world.crash("alpha")
    world.run(5)
    world.restart("alpha")
    world.run(20)
    assert world.check_endings("job-1").state is State.COMPLETED


def test_session_lead_dies_after_one_party_learned_completed_all_complete() -> None:
    world = a_world()
    world.lost_messages = [("gamma", said.ProposeEnding)] * 20
    world.submit(a_spec())
    run_until(world, "beta", State.COMPLETED)
    world.crash("alpha")
    world.run(25)
    assert world.state("gamma", "job-1") is State.COMPLETED
    world.restart("alpha")
    world.run(5)
    assert world.check_endings("job-1").state is State.COMPLETED


def test_session_lead_dies_before_anybody_learned_deputies_abort_and_the_lead_adopts() -> None:
    world = a_world()
    world.lost_messages = [("gamma", said.ProposeEnding), ("beta", said.ProposeEnding)] * 20
    world.submit(a_spec())
    run_until(world, "alpha", State.RELEASING)
    while world.hosts["alpha"].machines["job-1"]._memory.accepted is None:
        world.run(0.05)
    world.crash("alpha")
    world.lost_messages.clear()
    world.run(25)
    assert world.state("beta", "job-1") is State.ABORTED
    world.restart("alpha")
    world.run(5)
    assert world.check_endings("job-1").at_fault == "alpha"


def test_session_worker_dies_at_live_party_confession_beats_accusations() -> None:
    world = a_world()
    world.submit(a_spec())
    run_until(world, "beta", State.RUNNING)
    worker = world.hosts["beta"].workers["job-1"]
    worker.stopped = True  # peers notice the lost link before the party process reports its worker
    report = said.FailureReport(ErrorCode.WORKER_LOST, State.RUNNING, "beta", "killed by signal 9")
    world.after(0.9, lambda: world.feed(world.hosts["beta"], "job-1", on.WorkerFailed(worker.number, report)))
    world.run(10)
    ending = world.check_endings("job-1")
    assert (ending.code, ending.at_fault, ending.phase) == ("WORKER_LOST", "beta", State.RUNNING)


@pytest.mark.parametrize("lost_first", [True, False])
def test_session_noise_found_missing_by_two_names_the_owner_even_if_one_of_them_is_slow(lost_first: bool) -> None:
    world = a_world(work_s=300)
    world.submit(a_spec())
    run_until(world, "gamma", State.RUNNING)

    def fails(party: str, code: ErrorCode, accused: str, after_s: float) -> None:
        worker = world.hosts[party].workers["job-1"]
        worker.stopped = True
        report = said.FailureReport(code, State.RUNNING, accused, f"{code.name} says {party}")
        world.after(after_s, lambda: world.feed(world.hosts[party], "job-1", on.WorkerFailed(worker.number, report)))

    fails("alpha", ErrorCode.NOISE_MISSING, "gamma", 0.5)
    if lost_first:  # the owner hears the others' links end before it hears why
        fails("gamma", ErrorCode.PEER_LOST, "alpha", 0.1)
    fails("beta", ErrorCode.NOISE_MISSING, "gamma", 4.0)
    world.run(20)
    ending = world.check_endings("job-1")
    assert (ending.state, ending.code, ending.at_fault) == (State.ABORTED, "NOISE_MISSING", "gamma")


def test_session_link_between_two_live_parties_breaks_nobody_is_at_fault() -> None:
    world = a_world(work_s=300)
    world.submit(a_spec())
    run_until(world, "gamma", State.RUNNING)
    world.cut("beta", "gamma")
    world.run(25)
    ending = world.check_endings("job-1")
    assert (ending.state, ending.code, ending.at_fault) == (State.ABORTED, "PEER_SILENT", "")


def test_session_party_cut_off_ends_alone_within_30_s_and_takes_the_majority_ending_later() -> None:
    world = a_world(work_s=300)
    world.submit(a_spec())
    run_until(world, "gamma", State.RUNNING)
    for peer in ("alpha", "beta"):
        world.cut("gamma", peer)
    world.run(30)
    alone, together = world.endings("job-1")["gamma"], world.endings("job-1")["alpha"]
    assert alone is not None
    assert together is not None
    assert (alone.by_majority, together.by_majority) == (False, True)
    world.heal()
    world.run(15)
    assert world.check_endings("job-1") == together


def test_session_lead_that_is_heard_and_hears_nobody_ends_within_30_s() -> None:
    """What it says arrives; that must not pass for a sign that the others go on."""
    world = a_world(work_s=300)
    world.submit(a_spec())
    run_until(world, "alpha", State.RUNNING)
    world.deafen("alpha")
    world.run(30)
    alone, together = world.endings("job-1")["alpha"], world.endings("job-1")["beta"]
    assert alone is not None
    assert (alone.state, alone.by_majority, alone.at_fault) == (State.ABORTED, False, "")
    assert together is not None
    assert together.by_majority
    world.heal()
    world.run(15)
    assert world.check_endings("job-1") == together


def test_session_cut_off_after_voting_done_waits_and_takes_completed() -> None:
    world = a_world()
    world.submit(a_spec())
    run_until(world, "gamma", State.RELEASING)
    world.run(0.5)  # its vote is delivered
    for peer in ("alpha", "beta"):
        world.cut("gamma", peer)
    for name in ("alpha", "beta"):
        worker = world.hosts[name].workers["job-1"]
        worker.finish_at = world.now
    world.run(120)
    assert world.state("alpha", "job-1") is State.COMPLETED
    assert world.state("gamma", "job-1") is State.RELEASING
    world.heal()
    world.run(15)
    assert world.check_endings("job-1").state is State.COMPLETED


def test_session_worker_hangs_at_one_party_is_reported_by_that_party() -> None:
    machine = _running("beta")
    actions = machine.handle(on.Tick(), EPOCH + 21)
    votes = [a.message.body for a in actions if isinstance(a, act.Send) and isinstance(a.message.body, said.Vote)]
    assert machine.state is State.STOPPING
    assert [vote.report.code for vote in votes if vote.report] == [ErrorCode.WORKER_LOST]
    assert act.StopWorker(1) in actions


def test_session_late_word_of_a_stopped_worker_has_no_effect() -> None:
    machine = _running("beta")
    report = said.FailureReport(ErrorCode.WORKER_LOST, State.RUNNING, "beta", "an earlier one")
    assert machine.handle(on.WorkerFailed(0, report), EPOCH + 1) == ()
    assert machine.state is State.RUNNING


def test_session_two_leads_want_the_same_slots_both_complete() -> None:
    world = World(TRIO, 3, Chances(delay_s=0.01, work_s=3))
    world.submit(a_spec("job-1", TRIO))
    world.submit(a_spec("job-2", ("gamma", "beta", "alpha")))
    world.submit(a_spec("job-3", ("beta", "alpha", "gamma")))
    world.run(90)
    assert {world.check_endings(f"job-{n}").state for n in (1, 2, 3)} == {State.COMPLETED}


@pytest.mark.parametrize("party", TRIO)
def test_session_party_that_cannot_store_falls_silent_and_shows_the_same_ending_later(party: str) -> None:
    world = a_world(work_s=300)
    world.submit(a_spec())
    run_until(world, party, State.RUNNING)
    world.hosts[party].full = True
    report = said.FailureReport(ErrorCode.WORKER_LOST, State.RUNNING, party, "killed by signal 9")
    world.feed(world.hosts[party], "job-1", on.WorkerFailed(world.hosts[party].workers["job-1"].number, report))
    assert world.state(party, "job-1") is State.RUNNING, "the step was not stored, so it was not made"
    world.run(30)
    others = [world.endings("job-1")[other] for other in TRIO if other != party]
    assert others[0] is not None
    assert others[0] == others[1]
    assert (others[0].state, others[0].at_fault) == (State.ABORTED, party)
    assert world.endings("job-1")[party] is None
    world.hosts[party].full = False
    world.run(30)
    assert world.check_endings("job-1") == others[0]


def test_session_party_that_could_not_store_for_a_moment_confesses() -> None:
    world = a_world(work_s=300)
    world.submit(a_spec())
    run_until(world, "gamma", State.RUNNING)
    gamma = world.hosts["gamma"]
    gamma.full = True
    world.feed(gamma, "job-1", on.CancelRequested())
    gamma.full = False
    world.feed(gamma, "job-1", on.Recovered(ErrorCode.DISK_FULL))
    world.run(20)
    ending = world.check_endings("job-1")
    assert (ending.state, ending.code, ending.at_fault) == (State.ABORTED, "DISK_FULL", "gamma")


@pytest.mark.parametrize("party", TRIO)
@pytest.mark.parametrize("state", [State.AGREED, State.PREPARING, State.RUNNING])
def test_session_consent_ends_at_any_party_while_open_is_aborted_everywhere(party: str, state: State) -> None:
    world = a_world()
    world.hosts["alpha"].slot = ("another", 1) if state is State.AGREED else None
    world.submit(a_spec())
    run_until(world, party, state)
    world.end_consent("job-1", party)
    world.run(10)
    ending = world.check_endings("job-1")
    assert (ending.state, ending.code, ending.at_fault) == (State.ABORTED, "GRANT_REVOKED", "")
    assert ending.phase is state
    assert "the grant has been revoked" in ending.cause


@pytest.mark.parametrize("countersigned", [False, True])
def test_session_consent_ends_while_proposed_is_rejected_everywhere(countersigned: bool) -> None:
    world = a_world()
    world.submit(a_spec(), reach=("beta", "gamma") if countersigned else TRIO)
    world.crash("alpha") if countersigned else None
    world.run(0.02)
    if countersigned:
        world.run(1)
        assert "beta" in world.hosts["beta"].machines["job-1"]._memory.digests
    else:
        run_until(world, "beta", State.PROPOSED)
    world.end_consent("job-1", "beta")
    world.run(2)
    world.restart("alpha")
    world.run(30)
    ending = world.check_endings("job-1")
    assert (ending.state, ending.code) == (State.REJECTED, "GRANT_REVOKED")


def test_session_consent_ends_after_its_vote_has_no_effect_on_the_session() -> None:
    """What is released then is the matter of the party's release gate, which hands out nothing."""
    world = a_world()
    world.submit(a_spec())
    run_until(world, "gamma", State.RUNNING)
    world.hosts["gamma"].workers["job-1"].finish_at = world.now
    run_until(world, "gamma", State.RELEASING)
    world.end_consent("job-1", "gamma")
    world.run(20)
    ending = world.check_endings("job-1")
    assert ending.state is State.COMPLETED
    world.end_consent("job-1", "alpha")
    assert world.state("alpha", "job-1") is State.COMPLETED


def test_session_completed_shows_what_every_computing_party_committed_to() -> None:
    world = a_world()
    world.submit(a_spec())
    world.run(20)
    ending = world.check_endings("job-1")
    assert {party: set(found) for party, found in ending.commitments.items()} == {"alpha": {"labels"}, "beta": {"labels"}}


@pytest.mark.parametrize("party", ["alpha", "beta"])
def test_session_party_dies_after_voting_and_votes_the_same_commitments_after_its_restart(party: str) -> None:
    world = a_world()
    world.submit(a_spec())
    run_until(world, "gamma", State.RUNNING)
    world.run(1)
    world.lost_messages = [(other, said.ProposeEnding) for other in ("beta", "gamma")] * 3
    for name in TRIO:
        world.hosts[name].workers["job-1"].finish_at = world.now
    for name in TRIO:
        run_until(world, name, State.RELEASING)
    before = world.hosts[party].machines["job-1"].vote
    world.crash(party)
    world.run(1)
    world.restart(party)
    world.run(20)
    assert world.check_endings("job-1").state is State.COMPLETED
    assert world.hosts[party].machines["job-1"].vote == before


# Found by the random schedules.


def test_session_slot_asked_twice_before_the_first_answer_is_released_once() -> None:
    """A party that slept got two rounds of Prepare at once, took two tickets and forgot the first: its slot stayed reserved."""
    machine = SessionMachine(a_spec(), "gamma")
    machine.handle(on.JobAccepted(PLAN, ""), EPOCH)
    for party in ("alpha", "beta"):
        machine.handle(on.Received(said.SessionMessage("job-1", 1, party, said.Countersignature(PLAN, ""))), EPOCH)
    asked = [
        action
        for number in (1, 2)
        for action in machine.handle(on.Received(said.SessionMessage("job-1", 1, "alpha", said.Prepare(number))), EPOCH + 1)
        if isinstance(action, act.TrySlot)
    ]
    assert len(asked) == 1
    actions = machine.handle(on.SlotGranted(asked[0].ticket), EPOCH + 1)
    replies = [a.message.body for a in actions if isinstance(a, act.Send)]
    assert said.PrepareReply(2, granted=True) in replies


def test_session_party_dies_after_voting_done_is_at_fault() -> None:
    """Having voted was mistaken for being alive, so the ending named nobody."""
    world = a_world(work_s=300)
    world.submit(a_spec())
    run_until(world, "gamma", State.RUNNING)
    world.hosts["gamma"].workers["job-1"].finish_at = world.now
    run_until(world, "gamma", State.RELEASING)
    world.run(1)
    world.crash("gamma")
    world.run(30)
    ending = world.endings("job-1")["alpha"]
    assert ending is not None
    assert (ending.state, ending.at_fault) == (State.ABORTED, "gamma")


def _running(party: str) -> SessionMachine:
    """A party other than the lead whose worker runs since EPOCH."""
    machine = SessionMachine(a_spec(), party)
    machine.handle(on.JobAccepted(PLAN, ""), EPOCH)
    for peer in TRIO:
        if peer != party:
            machine.handle(on.Received(said.SessionMessage("job-1", 1, peer, said.Countersignature(PLAN, ""))), EPOCH)
    (ask,) = [a for a in _hear(machine, said.Prepare(1), EPOCH) if isinstance(a, act.TrySlot)]
    machine.handle(on.SlotGranted(ask.ticket), EPOCH)
    _hear(machine, said.Start(1), EPOCH)
    machine.handle(on.WorkerPrepared(1), EPOCH)
    machine.handle(on.WorkerRunning(1), EPOCH)
    for second in range(3, 21, 3):  # the lead lives
        _hear(machine, said.AskEnding(0), EPOCH + second)
    return machine


def _hear(machine: SessionMachine, body: said.Body, now: float) -> tuple[act.Action, ...]:
    return machine.handle(on.Received(said.SessionMessage("job-1", 1, "alpha", body)), now)
