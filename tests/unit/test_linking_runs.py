"""Whole runs of a private intersection between two institutions: what both end with, and what is left if one misbehaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from governance.audit.entries import EntryKind
from parties.linking import alignment, dialling, patience
from parties.linking.concluding import end_expired
from parties.linking.dialling import conclude_again
from parties.linking.meeting import RUN_LIMIT
from parties.linking.staging import Staged, read_set
from parties.server import linking_desk
from parties.server.linking_desk import IntersectionDesk
from parties.storage.linking import IntersectionState, LinkingStore
from protocols.errors import ConfideError, ErrorCode
from protocols.identifiers import intersection
from protocols.identifiers.group import BASE_POINT, hash_to_point
from protocols.identifiers.intersection import Mode, element
from tests.support.linking_world import (
    COMMON,
    DIALS,
    HEAD,
    PEOPLE,
    SCHEMAS,
    STRANGER,
    WAITS,
    LinkingWorld,
    LocalCalls,
    a_linking_world,
    linking_calls,
    mask_here,
)

INTERSECTED = EntryKind.SETS_INTERSECTED


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LinkingWorld:
    mask_here(monkeypatch)
    return a_linking_world(tmp_path, monkeypatch)


def refusal(act: Callable[[], object]) -> ConfideError:
    with pytest.raises(ConfideError) as caught:
        act()
    return caught.value


def assert_nothing_is_left(world: LinkingWorld) -> None:
    for hospital in (world.dials, world.waits):
        assert hospital.registered() is None
        assert hospital.sealed_files() == 0
        with hospital.database.transaction() as tables:
            assert all(r.state.is_over for r in tables.linking.in_states(*IntersectionState))


def test_both_register_the_rows_of_the_common_people_in_one_order(world: LinkingWorld) -> None:
    offer = world.offer()
    done = world.dial()
    first, second = world.dials.registered(), world.waits.registered()
    assert first is not None
    assert first == second
    assert sorted(first[0]) == COMMON
    assert first[0] != sorted(first[0])
    assert (done.found, done.peer_rows, done.alignment) == (len(COMMON), len(PEOPLE[WAITS]), first[1])
    kept = world.waits.record(offer.intersection_id)
    assert (kept.state, kept.found, kept.transcript) == (IntersectionState.DONE, len(COMMON), done.transcript)
    # The rows are the only sealed file: keys and masked sets are destroyed.
    assert (world.dials.sealed_files(), world.waits.sealed_files()) == (1, 1)


def test_audit_log_of_both_tells_what_was_disclosed_and_no_person(world: LinkingWorld) -> None:
    world.offer()
    world.dial()
    (first,), (second,) = world.dials.audit(INTERSECTED), world.waits.audit(INTERSECTED)
    assert {first["peer"], second["peer"]} == {DIALS, WAITS}
    same = ("label", "mode", "outcome", "session", "found", "transcript", "alignment")
    assert [first[name] for name in same] == [second[name] for name in same]
    assert (first["own_rows"], first["peer_rows"]) == (second["peer_rows"], second["own_rows"])
    assert (first["outcome"], first["found"]) == ("complete", len(COMMON))
    assert len(world.waits.audit(EntryKind.DATASET_REGISTERED)) == 1
    for hospital in (world.dials, world.waits):
        kept = b"".join(path.read_bytes() for path in hospital.config.state.glob("confide.db*"))
        assert b"erson 41" not in kept.lower()


def test_sizes_alone_register_nothing(world: LinkingWorld) -> None:
    world.offer(Mode.SIZE)
    done = world.dial(Mode.SIZE)
    assert (done.found, done.alignment, done.dataset_version) == (len(COMMON), "", None)
    assert_nothing_is_left(world)
    assert [entry["found"] for entry in world.waits.audit(INTERSECTED)] == [len(COMMON)]


def test_side_learns_no_row_from_sizes_alone(world: LinkingWorld) -> None:
    """What comes back of a side's own set is sorted: it would be in the order of the masked set otherwise."""
    seen: list[bytes] = []

    def watch(name: str, reply: Any) -> Any:
        if name == "GetPart":
            seen.append(bytes(reply.points))
        return reply

    world.calls.alter_reply = watch
    world.offer(Mode.SIZE)
    world.dial(Mode.SIZE)
    doubled = [seen[1][start : start + 32] for start in range(0, len(seen[1]), 32)]
    assert len(doubled) == len(PEOPLE[DIALS])
    assert doubled == sorted(doubled)


def test_people_of_one_side_alone_are_found_nowhere(world: LinkingWorld) -> None:
    world.offer()
    done = world.dial(people=range(30))
    assert (done.found, done.alignment, done.dataset_version) == (0, "", None)
    assert_nothing_is_left(world)


def test_offer_is_used_once(world: LinkingWorld) -> None:
    world.offer()
    world.dial()
    assert refusal(world.dial).code is ErrorCode.NOT_READY


def test_nothing_offered_to_this_side_under_this_label_is_told_alike(world: LinkingWorld) -> None:
    assert refusal(world.dial).code is ErrorCode.NOT_READY
    terms = world.waits.terms(label="other")
    world.waits.offer(terms, world.waits.read(terms))
    assert refusal(world.dial).code is ErrorCode.NOT_READY
    world.offer()
    world.calls.caller = STRANGER
    assert refusal(world.dial).code is ErrorCode.NOT_READY


def test_other_mode_or_columns_are_refused_and_the_offer_stays(world: LinkingWorld) -> None:
    world.offer()
    assert refusal(lambda: world.dial(Mode.SIZE)).code is ErrorCode.INVALID_ARGUMENT
    doubled = refusal(lambda: dial_with(world, "nodes"))
    assert doubled.code is ErrorCode.INVALID_SCHEMA
    assert [problem.where for problem in doubled.problems] == ["column nodes"]
    world.dial()
    assert world.waits.registered() == world.dials.registered()


def dial_with(world: LinkingWorld, column: str) -> object:
    """Dials with the feature under another name."""
    original = world.dials.read

    def read(terms: Any, **arguments: Any) -> Any:
        checked = original(terms)
        renamed = checked.schema_document.replace(b'"dose"', f'"{column}"'.encode())
        return replace(checked, schema_document=renamed)

    world.dials.read = read  # type: ignore[method-assign]
    try:
        return world.dial()
    finally:
        world.dials.read = original  # type: ignore[method-assign]


def test_two_labels_are_refused(world: LinkingWorld) -> None:
    labelled = HEAD + "  - {name: nodes, role: feature, type: integer, range: [0, 1000]}\n"
    terms = world.waits.terms()
    checked = world.waits.read(terms, schema=labelled)
    document = checked.schema_document.replace(b'"columns":[', b'"columns":[{"name":"dead","role":"label","type":"boolean"},', 1)
    world.waits.offer(terms, replace(checked, schema_document=document))
    said = refusal(world.dial)
    assert said.code is ErrorCode.INVALID_SCHEMA
    assert [problem.what for problem in said.problems] == ["hospital-a and hospital-b both have a label"]


def changed(field: str, value: Any) -> Callable[[Any], None]:
    return lambda message: setattr(message, field, value)


def swapped(message: Any) -> None:
    message.points = message.points[32:64] + message.points[:32] + message.points[64:]


def doubled_point(message: Any) -> None:
    message.points = message.points[:32] + message.points[:32] + message.points[64:]


def foreign_point(message: Any) -> None:
    points = sorted([*(message.points[i : i + 32] for i in range(32, len(message.points), 32)), BASE_POINT])
    message.points = b"".join(points)


def off_the_curve(message: Any) -> None:
    message.points = bytes(31) + b"\x01" + message.points[32:]


def longer(message: Any) -> None:
    message.points = message.points + b"\xff" * 32


def cut_off(message: Any) -> None:
    message.points = message.points[:-1]


def emptied(message: Any) -> None:
    message.points = b""


# What a side may send wrongly: the method, which of its messages, and what it becomes.
REQUESTS: dict[str, tuple[str, int, Callable[[Any], None], ErrorCode]] = {
    "masked set unsorted": ("PutPart", 0, swapped, ErrorCode.BAD_FRAME),
    "masked point twice": ("PutPart", 0, doubled_point, ErrorCode.BAD_FRAME),
    "masked set of others": ("PutPart", 0, foreign_point, ErrorCode.COMMITMENT_DIFFERS),
    "masked set longer": ("PutPart", 0, longer, ErrorCode.BAD_FRAME),
    "masked set cut off": ("PutPart", 0, cut_off, ErrorCode.BAD_FRAME),
    "masked set empty": ("PutPart", 0, emptied, ErrorCode.BAD_FRAME),
    "masked set elsewhere": ("PutPart", 0, changed("offset", 7), ErrorCode.BAD_FRAME),
    "another salt": ("PutPart", 0, changed("salt", bytes(32)), ErrorCode.COMMITMENT_DIFFERS),
    "no such list": ("PutPart", 0, changed("list", 7), ErrorCode.INVALID_ARGUMENT),
    "asks for no part": ("GetPart", 0, changed("offset", 3), ErrorCode.BAD_FRAME),
    "asks beyond": ("GetPart", 0, changed("offset", 32768), ErrorCode.BAD_FRAME),
    "asks without commitment": ("GetPart", 1, changed("commitment", b""), ErrorCode.BAD_FRAME),
    "doubles otherwise than committed": ("PutPart", 1, swapped, ErrorCode.COMMITMENT_DIFFERS),
    "doubled point twice": ("PutPart", 1, doubled_point, ErrorCode.BAD_FRAME),
    "other outcome": ("FinishIntersection", 0, changed("found", 3), ErrorCode.COMMITMENT_DIFFERS),
    "other transcript": ("FinishIntersection", 0, changed("transcript", "0" * 64), ErrorCode.COMMITMENT_DIFFERS),
    "unknown session": ("PutPart", 0, changed("session", bytes(16)), ErrorCode.UNKNOWN_SESSION),
    "session of no form": ("PutPart", 0, changed("session", b"x"), ErrorCode.INVALID_ARGUMENT),
}
REPLIES: dict[str, tuple[str, int, Callable[[Any], None], ErrorCode]] = {
    "masked set unsorted": ("GetPart", 0, swapped, ErrorCode.BAD_FRAME),
    "masked set of others": ("GetPart", 0, foreign_point, ErrorCode.COMMITMENT_DIFFERS),
    "masked set longer": ("GetPart", 0, longer, ErrorCode.BAD_FRAME),
    "masked set empty": ("GetPart", 0, emptied, ErrorCode.BAD_FRAME),
    "another salt": ("GetPart", 0, changed("salt", b""), ErrorCode.COMMITMENT_DIFFERS),
    "doubled point twice": ("GetPart", 1, doubled_point, ErrorCode.BAD_FRAME),
    "doubled set longer": ("GetPart", 1, longer, ErrorCode.BAD_FRAME),
    "doubled otherwise": ("GetPart", 1, swapped, ErrorCode.COMMITMENT_DIFFERS),  # the other side has seen another list
    "no session": ("OpenIntersection", 0, changed("session", b""), ErrorCode.BAD_FRAME),
}


def altering(name: str, which: int, alter: Callable[[Any], None]) -> Callable[[str, Any], Any]:
    seen = [0]

    def act(called: str, message: Any) -> Any:
        if called == name:
            seen[0] += 1
            if seen[0] == which + 1:
                alter(message)
        return message

    return act


@pytest.mark.parametrize("case", REQUESTS)
def test_wrong_message_of_the_side_that_dials_leaves_nothing_at_either_side(world: LinkingWorld, case: str) -> None:
    name, which, alter, code = REQUESTS[case]
    world.calls.alter_request = altering(name, which, alter)
    world.offer()
    assert refusal(world.dial).code is code
    world.desk.stop()  # a run that was only left alone ends with the process, or when its peer is silent for long
    assert_nothing_is_left(world)
    assert [entry["outcome"] for entry in world.waits.audit(INTERSECTED)] == ["broken-off"]


@pytest.mark.parametrize("case", REPLIES)
def test_wrong_message_of_the_side_that_waits_leaves_nothing_at_either_side(world: LinkingWorld, case: str) -> None:
    name, which, alter, code = REPLIES[case]
    world.calls.alter_reply = altering(name, which, alter)
    world.offer()
    assert refusal(world.dial).code is code
    world.desk.stop()
    assert_nothing_is_left(world)
    assert [entry["outcome"] for entry in world.dials.audit(INTERSECTED)] in (["broken-off"], [])


def test_point_off_the_curve_is_found_by_whoever_doubles_it(world: LinkingWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is committed to as well, or the commitment would already refuse it."""
    original = dialling.Dialler.run

    def run(self: Any, record: Any, staged: Staged, *, wait_s: float) -> Any:
        wrong = replace(staged, masked=sorted([*staged.masked[1:], bytes(31) + b"\x01"]))
        return original(self, replace(record, commitment=wrong.commitment), wrong, wait_s=wait_s)

    monkeypatch.setattr(dialling.Dialler, "run", run)
    offer = world.offer()
    assert refusal(world.dial).code in (ErrorCode.BAD_FRAME, ErrorCode.UNKNOWN_SESSION)  # as it asks while or after it is found
    assert world.waits.record(offer.intersection_id).failure == "BAD_FRAME"
    assert_nothing_is_left(world)


def test_side_that_waits_hears_at_once_why_the_other_does_not_go_on(world: LinkingWorld) -> None:
    world.calls.alter_reply = altering("GetPart", 0, swapped)
    offer = world.offer()
    refusal(world.dial)
    record = world.waits.record(offer.intersection_id)
    assert (record.failure, record.what) == ("PEER_LOST", "hospital-a broke the intersection off: BAD_FRAME")
    assert_nothing_is_left(world)


def test_session_of_others_is_unknown(world: LinkingWorld) -> None:
    calls: list[Any] = []

    def steal(name: str, request: Any) -> Any:
        if name == "GetPart" and not calls:
            stranger = LocalCalls(world.service, STRANGER)
            calls.append(refusal(lambda: stranger.call("GetPart", request)).code)
        return request

    world.calls.alter_request = steal
    world.offer()
    world.dial()
    assert calls == [ErrorCode.UNKNOWN_SESSION]


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


def test_offer_that_nobody_takes_up_expires(world: LinkingWorld) -> None:
    offer = world.offer()
    world.waits.clock[0] += timedelta(seconds=601)
    assert refusal(world.dial).code is ErrorCode.NOT_READY
    end_expired(world.waits.database, world.waits.config.folder.open_sealed(), now=world.waits.clock[0])
    assert world.waits.record(offer.intersection_id).failure == "DEADLINE_PASSED"
    assert_nothing_is_left(world)
    assert world.waits.audit(INTERSECTED) == []  # the sides never met


def test_offer_is_taken_back_with_the_command_that_made_it(world: LinkingWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(alignment.time, "sleep", interrupt)
    offer = world.offer()
    with pytest.raises(KeyboardInterrupt):
        alignment._await_peer(world.waits.database, world.waits.config.folder.open_sealed(), offer)
    assert world.waits.record(offer.intersection_id).failure == "CANCELLED"
    assert_nothing_is_left(world)


def test_offer_is_replaced_by_the_next_one_under_its_label(world: LinkingWorld) -> None:
    first = world.offer()
    world.offer(people=range(50, 55))
    assert world.waits.record(first.intersection_id).failure == "CANCELLED"
    assert world.dial().found == 5


def test_identifier_in_two_spellings_at_one_side_is_refused_by_row(world: LinkingWorld) -> None:
    terms, state = world.dials.terms(), world.dials.config.state
    (state / "rows.csv").write_text("dose,patient,ill\n1,Ann  Lee,true\n2,ANN LEE,false\n")
    (state / "schema.yaml").write_text(SCHEMAS[DIALS])
    said = refusal(lambda: read_set(world.dials.config, terms, file=state / "rows.csv", schema_file=state / "schema.yaml"))
    assert (said.code, [problem.where for problem in said.problems]) == (ErrorCode.INVALID_DATA, ["row 2"])
    assert "lee" not in str(said).lower()


def test_bytes_are_two_lists_of_each_set(world: LinkingWorld) -> None:
    """Each set travels masked and doubled, 32 bytes an element; what comes on top is the same for any size."""
    world.offer()
    world.dial()
    points = 2 * 32 * (len(PEOPLE[DIALS]) + len(PEOPLE[WAITS]))
    assert intersection.payload_bytes(len(PEOPLE[DIALS]), len(PEOPLE[WAITS])) == points
    assert points < world.calls.num_bytes < points + 2_000


def test_sets_of_several_parts_arrive_whole(world: LinkingWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (intersection, dialling, linking_desk):
        monkeypatch.setattr(module, "PART_ELEMENTS", 7)
    for mode in Mode:
        world.offer(mode)
        assert world.dial(mode).found == len(COMMON)
    assert world.dials.registered() == world.waits.registered()


def test_no_identifier_and_no_hash_of_one_leaves(world: LinkingWorld) -> None:
    sent: list[bytes] = []

    def watch(_name: str, message: Any) -> Any:
        sent.append(message.SerializeToString())
        return message

    world.calls.alter_request = world.calls.alter_reply = watch
    world.offer()
    world.dial()
    everything = b"".join(sent)
    for number in (0, 41, 119):
        text = f"person {number}"
        digest = element(text, consortium="cardio", label="cohort-1", parties=(DIALS, WAITS))
        assert not any(plain in everything for plain in (text.encode(), digest, hash_to_point(digest)))


def before(name: str, act: Callable[[], object]) -> Callable[[str, Any], Any]:
    """Does something once, before the first message of a name."""
    done: list[object] = []

    def alter(called: str, message: Any) -> Any:
        if called == name and not done:
            done.append("done")
            act()
        return message

    return alter


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


def session_of(world: LinkingWorld, offer: Any) -> str:
    return world.waits.record(offer.intersection_id).session


def test_second_command_while_a_run_is_under_way_is_refused_and_leaves_nothing(world: LinkingWorld) -> None:
    world.offer()
    refused: list[ErrorCode] = []
    world.calls.alter_request = before("GetPart", lambda: refused.append(refusal(world.offer).code))
    world.dial()
    assert refused == [ErrorCode.JOB_CONFLICT]
    assert world.dials.registered() == world.waits.registered()
    assert world.waits.sealed_files() == 1


def test_offers_of_one_label_leave_the_last_one_alone(world: LinkingWorld) -> None:
    for _ in range(3):
        world.offer()
    assert world.waits.sealed_files() == 1


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
