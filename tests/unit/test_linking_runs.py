"""Whole runs of a private intersection between two institutions, and the offers that they begin with."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from governance.audit.entries import EntryKind
from parties.linking import alignment, dialling
from parties.linking.concluding import end_expired
from parties.linking.staging import read_set
from parties.server import linking_desk
from parties.storage.linking import IntersectionState
from protocols.errors import ErrorCode
from protocols.identifiers import intersection
from protocols.identifiers.group import hash_to_point
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
    a_linking_world,
    assert_nothing_is_left,
    before,
    mask_here,
)
from tests.support.refusals import refusal

INTERSECTED = EntryKind.SETS_INTERSECTED


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LinkingWorld:
    mask_here(monkeypatch)
    return a_linking_world(tmp_path, monkeypatch)


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
