"""Wrong messages in a private intersection: nothing is left of the run at either side, and the fault is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from governance.audit.entries import EntryKind
from parties.linking import dialling
from parties.linking.staging import Staged
from protocols.errors import ErrorCode
from protocols.identifiers.group import BASE_POINT
from tests.support.linking_world import (
    STRANGER,
    LinkingWorld,
    LocalCalls,
    a_linking_world,
    assert_nothing_is_left,
    mask_here,
)
from tests.support.refusals import refusal

INTERSECTED = EntryKind.SETS_INTERSECTED


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LinkingWorld:
    mask_here(monkeypatch)
    return a_linking_world(tmp_path, monkeypatch)


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
