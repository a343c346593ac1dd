"""Private intersections that break off: lost answers, restarts, timeouts, full disks, and how they are taken up again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from governance.audit.entries import EntryKind
from parties.linking import alignment, dialling, patience
from parties.linking.concluding import end_expired
from parties.linking.dialling import conclude_again
from parties.linking.meeting import RUN_LIMIT
from parties.server import linking_desk
from parties.server.linking_desk import IntersectionDesk
from parties.storage.linking import IntersectionState, LinkingStore
from protocols.errors import ConfideError, ErrorCode
from tests.support.linking_world import (
    DIALS,
    WAITS,
    LinkingWorld,
    a_linking_world,
    assert_nothing_is_left,
    before,
    linking_calls,
    mask_here,
    session_of,
)
from tests.support.refusals import refusal
from tests.support.witness_world import await_true

INTERSECTED = EntryKind.SETS_INTERSECTED


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LinkingWorld:
    mask_here(monkeypatch)
    return a_linking_world(tmp_path, monkeypatch)


def lose(name: str) -> Callable[[str, Any], Any]:
    def act(called: str, message: Any) -> Any:
        if called == name:
            raise ConfideError(ErrorCode.PARTY_UNREACHABLE, "gone", party=WAITS)
        return message

    return act


def test_lost_answer_to_the_last_message_is_said_and_taken_up(world: LinkingWorld) -> None:
    world.offer()
    world.calls.alter_reply = lose("FinishIntersection")
    said = refusal(world.dial)
    assert said.code is ErrorCode.PARTY_UNREACHABLE
    assert "whether hospital-b has registered the common rows is not known" in said.what
    assert world.dials.registered() is None
    assert world.waits.registered() is not None
    with world.dials.database.transaction() as tables:
        record = tables.linking.find_open(WAITS, "cohort-1", IntersectionState.CONCLUDING)
    assert record is not None
    world.calls.alter_reply = lambda name, message: message
    sealed, calls = world.dials.config.folder.open_sealed(), linking_calls(world.calls)
    conclude_again(world.dials.database, sealed, calls, record, config=world.dials.config)
    assert world.dials.registered() == world.waits.registered()
    assert (world.dials.sealed_files(), world.waits.sealed_files()) == (1, 1)


def test_last_message_that_never_arrived_registers_nothing_once_it_is_known(world: LinkingWorld) -> None:
    world.offer()
    world.calls.alter_request = lose("FinishIntersection")
    assert refusal(world.dial).code is ErrorCode.PARTY_UNREACHABLE
    world.desk.stop()  # the other side has ended meanwhile
    world.desk = IntersectionDesk(world.waits.party)
    with world.dials.database.transaction() as tables:
        record = tables.linking.find_open(WAITS, "cohort-1", IntersectionState.CONCLUDING)
    assert record is not None
    world.calls.alter_request = lambda name, message: message
    sealed, calls = world.dials.config.folder.open_sealed(), linking_calls(world.calls)
    assert (
        refusal(lambda: conclude_again(world.dials.database, sealed, calls, record, config=world.dials.config)).code
        is ErrorCode.UNKNOWN_SESSION
    )
    assert_nothing_is_left(world)


def test_lost_answer_to_the_first_message_is_given_again(world: LinkingWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSE_S", 0.0)
    lost: list[Any] = []

    def lose_once(name: str, message: Any) -> Any:
        if name == "OpenIntersection" and not lost:
            lost.append(message.session)
            raise ConfideError(ErrorCode.PARTY_UNREACHABLE, "gone", party=WAITS)
        if name == "OpenIntersection":
            lost.append(message.session)
        return message

    world.calls.alter_reply = lose_once
    world.offer()
    world.dial(wait_s=60.0)
    assert world.dials.registered() == world.waits.registered()
    assert len(lost) == 2
    assert lost[0] == lost[1]


def test_last_message_may_be_repeated_but_not_changed(world: LinkingWorld) -> None:
    sent: list[Any] = []

    def keep(name: str, request: Any) -> Any:
        sent.extend([request] if name == "FinishIntersection" else [])
        return request

    world.calls.alter_request = keep
    world.offer()
    world.dial()
    registered = world.waits.registered()
    world.calls.call("FinishIntersection", sent[0])
    sent[0].found = 1
    assert refusal(lambda: world.calls.call("FinishIntersection", sent[0])).code is ErrorCode.COMMITMENT_DIFFERS
    assert world.waits.registered() == registered


def test_restart_of_the_side_that_waits_breaks_the_run_off(world: LinkingWorld) -> None:
    offer = world.offer()

    def restart(name: str, request: Any) -> Any:
        if name == "GetPart":
            world.desk = IntersectionDesk(world.waits.party)
            world.desk.start()
            world.desk.stop()
        return request

    world.calls.alter_request = restart
    assert refusal(world.dial).code is ErrorCode.UNKNOWN_SESSION
    assert world.waits.record(offer.intersection_id).failure == "PARTY_RESTARTED"
    assert_nothing_is_left(world)


def test_side_that_is_killed_between_sealing_and_asking_leaves_no_part_behind_for_ever(world: LinkingWorld) -> None:
    world.offer()
    world.calls.alter_request = lose("FinishIntersection")
    refusal(world.dial)
    assert world.dials.sealed_files() == 1
    later = world.dials.clock[0] + timedelta(days=2)
    end_expired(world.dials.database, world.dials.config.folder.open_sealed(), now=later)
    assert world.dials.sealed_files() == 0


def test_run_that_takes_too_long_is_ended_whatever_the_peer_sends(world: LinkingWorld) -> None:
    offer = world.offer()

    def much_later() -> None:
        world.waits.clock[0] += RUN_LIMIT + timedelta(seconds=1)
        world.desk.look_after()

    answered: list[str] = []

    def watch(name: str, message: Any) -> Any:
        answered.append(name)
        return message

    world.calls.alter_request, world.calls.alter_reply = before("GetPart", much_later), watch
    assert refusal(world.dial).code is ErrorCode.UNKNOWN_SESSION
    assert "GetPart" not in answered  # nothing of the set is shown any more
    record = world.waits.record(offer.intersection_id)
    assert (record.failure, record.what) == ("DEADLINE_PASSED", "the intersection with hospital-a took too long")
    assert [entry["outcome"] for entry in world.waits.audit(INTERSECTED)] == ["broken-off"]
    assert_nothing_is_left(world)


def test_operator_who_ends_the_waiting_command_ends_the_run(world: LinkingWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    offer = world.offer()

    def cancel() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(alignment.time, "sleep", interrupt)
            with pytest.raises(KeyboardInterrupt):
                alignment._await_peer(world.waits.database, world.waits.config.folder.open_sealed(), offer)

    world.calls.alter_request = before("FinishIntersection", cancel)
    said = refusal(world.dial)
    assert said.code is ErrorCode.UNKNOWN_SESSION
    assert_nothing_is_left(world)
    world.desk.look_after()
    assert "CANCELLED" in str(refusal(lambda: world.desk.get_masked(DIALS, bytes.fromhex(session_of(world, offer)), 0)))


@pytest.mark.parametrize("state", [IntersectionState.OFFERED, IntersectionState.CONCLUDING])
def test_full_database_leaves_no_sealed_file_behind(
    world: LinkingWorld, monkeypatch: pytest.MonkeyPatch, state: IntersectionState
) -> None:
    """What is sealed is the set with its key, or the common rows: no table would name the file."""
    original = LinkingStore.put

    def put(self: LinkingStore, record: Any) -> None:
        if record.state is state:
            raise ConfideError(ErrorCode.DISK_FULL, "the database takes nothing")
        original(self, record)

    if state is not IntersectionState.OFFERED:
        world.offer()
    monkeypatch.setattr(LinkingStore, "put", put)
    act = world.offer if state is IntersectionState.OFFERED else world.dial
    assert refusal(act).code is ErrorCode.DISK_FULL
    assert_nothing_is_left(world)


def test_failure_here_after_the_other_side_has_registered_is_said_and_taken_up(
    world: LinkingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.offer()

    def full(*_: object, **__: object) -> None:
        raise ConfideError(ErrorCode.DISK_FULL, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr(dialling, "conclude", full)
        said = refusal(world.dial)
    assert said.code is ErrorCode.DISK_FULL
    assert "hospital-b has registered the common rows" in said.what
    assert "same command again" in said.remedy
    with world.dials.database.transaction() as tables:
        record = tables.linking.find_open(WAITS, "cohort-1", IntersectionState.CONCLUDING)
    assert record is not None
    conclude_again(
        world.dials.database,
        world.dials.config.folder.open_sealed(),
        linking_calls(world.calls),
        record,
        config=world.dials.config,
    )
    assert world.dials.registered() == world.waits.registered()


def test_defect_while_a_set_is_doubled_ends_the_run_at_once(world: LinkingWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(linking_desk.Maskers):  # type: ignore[name-defined, misc]
        def powers(self, points: Any) -> Any:
            raise OSError("no more processes")

    monkeypatch.setattr(linking_desk, "Maskers", Failing)
    offer = world.offer()
    said = refusal(world.dial)
    assert said.code in (ErrorCode.INTERNAL, ErrorCode.UNKNOWN_SESSION)  # as it asks while or after it fails
    assert world.waits.record(offer.intersection_id).failure == "INTERNAL"
    await_true(lambda: world.waits.sealed_files() == 0)  # the run's thread records its end, then removes its file
    assert_nothing_is_left(world)


def test_answer_that_never_came_is_not_blamed_on_a_side(world: LinkingWorld) -> None:
    world.offer()
    world.calls.alter_request = lose("FinishIntersection")
    refusal(world.dial)
    with world.dials.database.transaction() as tables:
        record = tables.linking.find_open(WAITS, "cohort-1", IntersectionState.CONCLUDING)
    assert record is not None
    sealed = world.dials.config.folder.open_sealed()
    end_expired(world.dials.database, sealed, now=world.dials.clock[0] + timedelta(days=2))
    assert "never learned" in world.dials.record(record.intersection_id).what
