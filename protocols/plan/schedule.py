"""How often and in which order the segments of a plan run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """`count` runs of a segment, one after the other; each works on the next `batch_rows` rows, or on none."""

    segment: str
    count: int
    batch_rows: int


@dataclass(frozen=True)
class Stage:
    """`count` passes over the same parts; in every pass batches start at `first_row`."""

    count: int
    parts: tuple[Part, ...]
    first_row: int = 0


@dataclass(frozen=True)
class Run:
    """One run of a segment: its name and the rows from `start` to before `stop` that it works on (0, 0 if none)."""

    segment: str
    start: int
    stop: int


def runs_of(schedule: tuple[Stage, ...]) -> Iterator[Run]:
    """Yields every run of a schedule in order."""
    for stage in schedule:
        for _ in range(stage.count):
            start = stage.first_row
            for part in stage.parts:
                for _ in range(part.count):
                    yield _run(part, start)
                    start += part.batch_rows


def first_runs(schedule: tuple[Stage, ...]) -> Iterator[Run]:
    """Yields the first run of every segment, in order; takes as long as the schedule has parts, whatever their counts."""
    found: set[str] = set()
    for stage in schedule:
        start = stage.first_row
        for part in stage.parts:
            if part.segment not in found:
                found.add(part.segment)
                yield _run(part, start)
            start += part.count * part.batch_rows


def _run(part: Part, start: int) -> Run:
    return Run(part.segment, start, start + part.batch_rows) if part.batch_rows else Run(part.segment, 0, 0)
