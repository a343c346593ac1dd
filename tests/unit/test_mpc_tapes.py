"""The tape of a session: every operation of every run is the plan's, in the plan's order."""

from __future__ import annotations

import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.links import TensorSpec
from protocols.mpc.tapes import CheckingTape
from protocols.plan.operations import Deal, Open, Operation, Segment

MASK, OPENING, OTHER = Deal("mask", (0, 1, (3,))), Open("operands", (TensorSpec("int64", (3,)),)), Deal("mask", (1, 0, (3,)))


def a_segment(*operations: Operation, name: str = "step") -> Segment:
    return Segment(name, operations, 0)


def noted(tape: CheckingTape, segment: Segment, *operations: Operation) -> None:
    tape.begin_run(segment)
    for operation in operations:
        tape.note(operation)
    tape.end_run()


def test_equal_operations_are_accepted_in_every_run_whichever_objects_they_are() -> None:
    tape, segment = CheckingTape(), a_segment(MASK, OPENING)
    for _ in range(3):
        noted(tape, segment, Deal("mask", (0, 1, (3,))), Open("operands", (TensorSpec("int64", (3,)),)))
        noted(tape, segment, MASK, OPENING)


@pytest.mark.parametrize("wrong", [(OPENING, MASK), (MASK, MASK), (OTHER, OPENING), (MASK, OPENING, OPENING)])
def test_another_operation_is_refused_in_a_later_run_too(wrong: tuple[Operation, ...]) -> None:
    tape, segment = CheckingTape(), a_segment(MASK, OPENING)
    noted(tape, segment, MASK, OPENING)
    with pytest.raises(ConfideError) as caught:
        noted(tape, segment, *wrong)
    assert caught.value.code is ErrorCode.INTERNAL


def test_a_run_that_ends_early_is_refused() -> None:
    tape, segment = CheckingTape(), a_segment(MASK, OPENING)
    noted(tape, segment, MASK, OPENING)
    with pytest.raises(ConfideError):
        noted(tape, segment, MASK)


def test_what_was_found_of_one_segment_says_nothing_about_another_one() -> None:
    tape, first, second = CheckingTape(), a_segment(MASK, OPENING), a_segment(OTHER, OPENING, name="last step")
    noted(tape, first, MASK, OPENING)
    noted(tape, second, OTHER, OPENING)
    with pytest.raises(ConfideError):
        noted(tape, second, MASK, OPENING)


def test_an_operation_outside_of_a_run_is_refused() -> None:
    with pytest.raises(ConfideError):
        CheckingTape().note(MASK)
