"""How long a session's phases took at one party: online computing, waiting for the dealer, and the dealer's own work.

Offline is what the dealer does, online what the computing parties do between the first and the last message of a run of a
segment. The clocks are arguments; what they show is public to the participants and the querier, like rounds and bytes: a plan
has no branch that depends on a secret, so neither does the time that it takes (docs/protocols/corrections.md).
"""

from __future__ import annotations

import statistics
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields

from protocols.errors import ConfideError, ErrorCode

_LIMIT = 2.0**53  # of what a timing may say: seconds and runs
WARM_UP_RUNS = 2  # of a segment; medians leave them out


@dataclass(frozen=True)
class SegmentTiming:
    """What one segment of the plan took at one party, all runs together; public.

    Attributes:
        segment: its name.
        runs: how often it ran.
        seconds_total: of all runs; at the dealer with its waits for room.
        seconds_median: of one run, without the first two.
        online_seconds_median: the same without what was waited for the dealer; 0 at the dealer.
        wait_dealer_seconds: of all runs, waited for corrections; 0 everywhere but at the last computing party.
        processor_seconds: processor time of the engine's thread, all runs; 0 at the dealer.
        dealer_seconds: processor time of dealing, all runs; 0 everywhere but at the dealer.
    """

    segment: str
    runs: int
    seconds_total: float
    seconds_median: float
    online_seconds_median: float
    wait_dealer_seconds: float
    processor_seconds: float
    dealer_seconds: float

    def to_document(self) -> dict[str, str | int | float]:
        """Returns its fields by name, as JSON shows them; seconds to the microsecond."""
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in vars(self).items()}

    @staticmethod
    def from_document(document: Mapping[str, object]) -> SegmentTiming:
        """Reads what `to_document` gave.

        Raises:
            ConfideError: INVALID_DOCUMENT (whoever wrote it): other fields, types, or numbers below zero.
        """
        names = {entry.name: entry.type for entry in fields(SegmentTiming)}
        if set(document) != set(names):
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, "a timing with other fields")
        for name, kind in names.items():
            value = document[name]
            if type(value).__name__ != kind or (isinstance(value, int | float) and not 0 <= value < _LIMIT):
                raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"{name} of a timing is not a {kind}")
        return SegmentTiming(**document)  # type: ignore[arg-type]  # compared with the fields' types above


@dataclass
class _Runs:
    seconds: array[float] = field(default_factory=lambda: array("d"))
    waited: array[float] = field(default_factory=lambda: array("d"))
    processor: float = 0.0


class Stopwatch:
    """Times the runs of segments at one party; for one thread."""

    def __init__(self, *, wall: Callable[[], float], processor: Callable[[], float]) -> None:
        """Takes two clocks in seconds that never go back: of the world, and of the thread's processor time."""
        self._wall = wall
        self._processor = processor
        self._computed: dict[str, _Runs] = {}
        self._dealt: dict[str, _Runs] = {}
        self._waited = 0.0

    def computing(self, segment: str) -> AbstractContextManager[None]:
        """Times one run of a segment at a computing party for the length of a `with` block."""
        return self._one_run(self._computed, segment)

    def dealing(self, segment: str) -> AbstractContextManager[None]:
        """Times one run of a segment at the dealer for the length of a `with` block."""
        return self._one_run(self._dealt, segment)

    @contextmanager
    def waiting_for_dealer(self) -> Iterator[None]:
        """Counts the length of a `with` block as waiting for corrections."""
        began = self._wall()
        try:
            yield
        finally:
            self._waited += self._wall() - began

    def timings(self) -> tuple[SegmentTiming, ...]:
        """Returns what every segment took so far, in the order in which they first ran."""
        computed = [_timing(segment, runs) for segment, runs in self._computed.items()]
        dealt = [_dealer_timing(segment, runs) for segment, runs in self._dealt.items()]
        return (*computed, *dealt)

    @contextmanager
    def _one_run(self, counted: dict[str, _Runs], segment: str) -> Iterator[None]:
        runs = counted.setdefault(segment, _Runs())
        self._waited = 0.0
        began, worked = self._wall(), self._processor()
        yield
        runs.processor += self._processor() - worked
        runs.seconds.append(self._wall() - began)
        runs.waited.append(self._waited)


def _timing(segment: str, runs: _Runs) -> SegmentTiming:
    online = [taken - waited for taken, waited in zip(runs.seconds, runs.waited, strict=True)]
    return SegmentTiming(
        segment=segment,
        runs=len(runs.seconds),
        seconds_total=sum(runs.seconds, 0.0),
        seconds_median=_steady_median(runs.seconds),
        online_seconds_median=_steady_median(online),
        wait_dealer_seconds=sum(runs.waited, 0.0),
        processor_seconds=runs.processor,
        dealer_seconds=0.0,
    )


def _dealer_timing(segment: str, runs: _Runs) -> SegmentTiming:
    return SegmentTiming(
        segment=segment,
        runs=len(runs.seconds),
        seconds_total=sum(runs.seconds, 0.0),
        seconds_median=_steady_median(runs.seconds),
        online_seconds_median=0.0,
        wait_dealer_seconds=0.0,
        processor_seconds=0.0,
        dealer_seconds=runs.processor,
    )


def _steady_median(seconds: array[float] | list[float]) -> float:
    """Returns the median without the first runs; of all runs if there are no others, 0 if there are none."""
    steady = seconds[WARM_UP_RUNS:] or seconds
    return max(0.0, statistics.median(steady)) if steady else 0.0
