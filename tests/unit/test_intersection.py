"""Private set intersection, step by step, against plain sets; and every way of not keeping to it."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.identifiers.group import BASE_POINT, SECRET_BYTES, Exponent
from protocols.identifiers.intersection import (
    MAX_ELEMENTS,
    PART_ELEMENTS,
    Incoming,
    Meeting,
    Mode,
    Outcome,
    Side,
    check_doubled,
    check_masked,
    commit,
    element,
    outcome_of,
    part_of,
)
from protocols.secrets import SecretBytes

PARTIES = ("hospital-a", "hospital-b")
SALTS = (b"a" * 32, b"b" * 32)
DIGEST = "0" * 64


def key(seed: str) -> Exponent:
    return Exponent.from_secret(SecretBytes(hashlib.shake_256(seed.encode()).digest(SECRET_BYTES)))


def masked_set(people: list[str], exponent: Exponent, label: str = "cohort") -> tuple[list[bytes], list[str]]:
    """The masked set in its order, and the people in that order."""
    points = [exponent.power_of_hash(element(p, consortium="cardio", label=label, parties=PARTIES)) for p in people]
    order = sorted(range(len(people)), key=points.__getitem__)
    return [points[i] for i in order], [people[i] for i in order]


def run(first: list[str], second: list[str], mode: Mode) -> tuple[list[Outcome], list[list[str]]]:
    """Everything that both sides do."""
    keys = (key("first"), key("second"))
    sets = [masked_set(people, exponent) for people, exponent in zip((first, second), keys, strict=True)]
    masked = (sets[0][0], sets[1][0])
    sides = [Side(p, len(m), DIGEST, commit(m, salt)) for p, m, salt in zip(PARTIES, masked, SALTS, strict=True)]
    meeting = Meeting("cardio", "cohort", mode, bytes(16), *sides)
    for points, side, salt in zip(masked, sides, SALTS, strict=True):
        check_masked(points, side, salt)
    doubled = ([keys[1].power(p) for p in masked[0]], [keys[0].power(p) for p in masked[1]])
    if mode is Mode.SIZE:
        doubled = (sorted(doubled[0]), sorted(doubled[1]))
    for points, side in zip(doubled, sides, strict=True):
        check_doubled(points, mode, size=side.size, party=side.party)
    return [outcome_of(meeting, masked=masked, doubled=doubled, own=own) for own in (0, 1)], [s[1] for s in sets]


def test_both_sides_find_the_same_people_in_the_same_order() -> None:
    generator = random.Random(7)
    everybody = [f"person {number}" for number in range(300)]
    for _ in range(3):
        first, second = (generator.sample(everybody, generator.randint(1, 120)) for _ in range(2))
        outcomes, people = run(first, second, Mode.ROWS)
        rows = [[people[own][position] for position in outcomes[own].positions] for own in (0, 1)]
        assert rows[0] == rows[1]
        assert sorted(rows[0]) == sorted(set(first) & set(second))
        assert outcomes[0].transcript == outcomes[1].transcript
        assert outcomes[0].alignment == outcomes[1].alignment
        assert len(outcomes[0].alignment) == 64
        assert outcomes[0].found == len(rows[0])


def test_sizes_alone_tell_no_side_which_rows() -> None:
    first, second = [f"p{n}" for n in range(40)], [f"p{n}" for n in range(30, 90)]
    outcomes, _ = run(first, second, Mode.SIZE)
    assert [(o.found, o.positions, o.alignment) for o in outcomes] == [(10, (), ""), (10, (), "")]


def test_masked_sets_of_two_runs_have_nothing_in_common() -> None:
    people = [f"p{n}" for n in range(20)]
    found = [masked_set(people, key("one"))[0], masked_set(people, key("two"))[0], masked_set(people, key("one"), "other")[0]]
    assert len({point for points in found for point in points}) == 60


def test_alignment_is_bound_to_label_session_sides_and_set() -> None:
    points = sorted(key("x").power_of_hash(bytes([n])) for n in range(4))
    sides = [Side(p, 4, DIGEST, commit(points, SALTS[0])) for p in PARTIES]
    meeting = Meeting("cardio", "cohort", Mode.ROWS, bytes(16), *sides)

    def alignment(changed: Meeting, doubled: tuple[list[bytes], list[bytes]]) -> str:
        return outcome_of(changed, masked=(points, points), doubled=doubled, own=0).alignment

    found = {
        alignment(meeting, (points, points)),
        alignment(replace(meeting, label="other"), (points, points)),
        alignment(replace(meeting, session=b"\x01" * 16), (points, points)),
        alignment(replace(meeting, consortium="onco"), (points, points)),
        alignment(replace(meeting, waiting=replace(sides[1], schema_digest="1" * 64)), (points, points)),
        alignment(meeting, (points, points[:3])),
        alignment(meeting, (points[::-1], points)),
    }
    assert len(found) == 7


POINTS = sorted(key("p").power_of_hash(bytes([n])) for n in range(5))
SIDE = Side("hospital-b", 5, DIGEST, commit(POINTS, SALTS[1]))


@pytest.mark.parametrize(
    ("points", "salt", "code"),
    [
        (POINTS[:4], SALTS[1], ErrorCode.BAD_FRAME),
        (POINTS[::-1], SALTS[1], ErrorCode.BAD_FRAME),
        ([*POINTS[:3], POINTS[3], POINTS[3]], SALTS[1], ErrorCode.BAD_FRAME),
        (sorted([*POINTS[:4], BASE_POINT]), SALTS[1], ErrorCode.COMMITMENT_DIFFERS),
        (POINTS, SALTS[0], ErrorCode.COMMITMENT_DIFFERS),
        (POINTS, b"", ErrorCode.COMMITMENT_DIFFERS),
    ],
    ids=["one missing", "unsorted", "twice", "another set", "another salt", "no salt"],
)
def test_set_that_was_not_committed_to_is_refused(points: list[bytes], salt: bytes, code: ErrorCode) -> None:
    with pytest.raises(ConfideError) as caught:
        check_masked(points, SIDE, salt)
    assert (caught.value.code, caught.value.party) == (code, "hospital-b")


def test_doubled_set_with_an_element_twice_or_in_a_telling_order_is_refused() -> None:
    check_doubled(POINTS[::-1], Mode.ROWS, size=5, party="hospital-b")
    wrong = [(POINTS[::-1], Mode.SIZE), ([*POINTS[:4], POINTS[0]], Mode.ROWS), (POINTS[:4], Mode.ROWS)]
    for points, mode in wrong:
        with pytest.raises(ConfideError) as caught:
            check_doubled(points, mode, size=5, party="hospital-b")
        assert caught.value.code is ErrorCode.BAD_FRAME


def test_parts_arrive_in_order_and_no_more_than_announced() -> None:
    incoming = Incoming(3, party="hospital-b")
    incoming.add(0, POINTS[0] + POINTS[1])
    for offset, data in ((0, POINTS[2]), (3, POINTS[2]), (2, b""), (2, POINTS[2] + POINTS[3]), (2, POINTS[2][:-1] + b"")):
        with pytest.raises(ConfideError) as caught:
            incoming.add(offset, data)
        assert (caught.value.code, caught.value.party) == (ErrorCode.BAD_FRAME, "hospital-b")
    assert not incoming.is_complete
    incoming.add(2, POINTS[2])
    assert incoming.is_complete
    assert list(incoming.points) == POINTS[:3]


def test_cut_off_point_leaves_nothing_behind() -> None:
    incoming = Incoming(3, party="hospital-b")
    with pytest.raises(ConfideError):
        incoming.add(0, POINTS[0] + POINTS[1][:-1])
    assert incoming.num_received == 0


def test_parts_are_whole_and_begin_where_one_begins() -> None:
    points = [number.to_bytes(32, "big") for number in range(PART_ELEMENTS + 2)]
    assert len(part_of(points, 0)) == 32 * PART_ELEMENTS
    assert part_of(points, PART_ELEMENTS) == points[-2] + points[-1]
    for offset in (1, -PART_ELEMENTS, 2 * PART_ELEMENTS):
        with pytest.raises(ConfideError):
            part_of(points, offset)


@pytest.mark.parametrize("size", [0, MAX_ELEMENTS + 1])
def test_set_of_no_or_too_many_elements_is_refused(size: int) -> None:
    with pytest.raises(ConfideError):
        Side("hospital-a", size, DIGEST, bytes(32))
