"""The two uses of a program's operations: writing them down in the dry run, and keeping to them in the session."""

from __future__ import annotations

from protocols.errors import ConfideError, ErrorCode
from protocols.plan.operations import Operation, Segment


class RecordingTape:
    """Writes down the operations of one segment."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def note(self, operation: Operation) -> None:
        """Appends the operation."""
        self.operations.append(operation)


class CheckingTape:
    """Compares every operation with the plan's before anything is sent."""

    def __init__(self) -> None:
        self._segment: Segment | None = None
        self._position = 0
        # By segment, the operations that were equal to the plan's when they were last noted: an operation never changes, so the
        # same object is equal again.
        self._found: dict[int, tuple[Segment, list[Operation]]] = {}
        self._known: list[Operation] = []

    def begin_run(self, segment: Segment) -> None:
        """Starts a run of a segment."""
        self._segment = segment
        self._position = 0
        # The segment is kept beside what is known of it, so that its id names no other one.
        _, self._known = self._found.setdefault(id(segment), (segment, list(segment.operations)))

    def note(self, operation: Operation) -> None:
        """Checks the next operation.

        Raises:
            ConfideError: INTERNAL (ours) if the program does something else than the plan says.
        """
        position = self._position
        if position >= len(self._known):
            raise ConfideError(ErrorCode.INTERNAL, "the program leaves the agreed plan")
        if self._known[position] is not operation:
            if self._known[position] != operation:
                raise ConfideError(ErrorCode.INTERNAL, "the program leaves the agreed plan")
            self._known[position] = operation
        self._position = position + 1

    def end_run(self) -> None:
        """Checks that the run did everything.

        Raises:
            ConfideError: INTERNAL (ours) if not.
        """
        if self._segment is None or self._position != len(self._segment.operations):
            raise ConfideError(ErrorCode.INTERNAL, "the program ends before the agreed plan does")
