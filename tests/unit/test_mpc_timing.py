"""What a session's phases took: every second is counted once, where it was spent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from parties.client.progress import read_progress
from parties.server.board import Measured
from parties.wire.generated.confide.v1 import jobs_pb2
from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.channels import Channel, CorrectionReader, CorrectionWriter
from protocols.mpc.timing import SegmentTiming, Stopwatch
from tests.support.memory_links import connect

A_TIMING = SegmentTiming("step", 3, 6.5, 2.0, 1.5, 0.75, 0.25, 0.0)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def ticking(self) -> Iterator[float]:
        """Every look at it is a second later."""
        return (float(second) for second in count())


@pytest.fixture
def wall() -> Clock:
    return Clock()


@pytest.fixture
def processor() -> Clock:
    return Clock()


@pytest.fixture
def stopwatch(wall: Clock, processor: Clock) -> Stopwatch:
    return Stopwatch(wall=wall, processor=processor)


def test_computing_medians_leave_out_the_first_two_runs_and_online_leaves_out_the_wait(
    stopwatch: Stopwatch, wall: Clock, processor: Clock
) -> None:
    for taken, waited in ((90.0, 60.0), (80.0, 0.0), (5.0, 4.0), (3.0, 1.0), (4.0, 0.0)):
        with stopwatch.computing("step"):
            wall.now += taken - waited
            processor.now += 0.5
            with stopwatch.waiting_for_dealer():
                wall.now += waited
    (found,) = stopwatch.timings()
    assert found == SegmentTiming(
        segment="step",
        runs=5,
        seconds_total=182.0,
        seconds_median=4.0,
        online_seconds_median=2.0,
        wait_dealer_seconds=65.0,
        processor_seconds=2.5,
        dealer_seconds=0.0,
    )


@pytest.mark.parametrize(("runs", "median"), [([7.0], 7.0), ([7.0, 9.0], 8.0), ([7.0, 9.0, 2.0], 2.0)])
def test_median_of_few_runs_is_of_those_there_are(stopwatch: Stopwatch, wall: Clock, runs: list[float], median: float) -> None:
    for taken in runs:
        with stopwatch.computing("start"):
            wall.now += taken
    assert stopwatch.timings()[0].seconds_median == median


def test_dealing_counts_processor_time_so_that_waits_for_room_are_not_the_dealers_work(
    stopwatch: Stopwatch, wall: Clock, processor: Clock
) -> None:
    with stopwatch.dealing("step"):
        wall.now += 10.0
        processor.now += 0.25
    (found,) = stopwatch.timings()
    assert (found.seconds_total, found.dealer_seconds) == (10.0, 0.25)
    assert (found.online_seconds_median, found.processor_seconds, found.wait_dealer_seconds) == (0.0, 0.0, 0.0)


def test_segments_are_kept_apart_in_the_order_of_their_first_run(stopwatch: Stopwatch, wall: Clock) -> None:
    for segment in ("start", "step", "step", "results"):
        with stopwatch.computing(segment):
            wall.now += 1.0
    assert [(entry.segment, entry.runs) for entry in stopwatch.timings()] == [("start", 1), ("step", 2), ("results", 1)]


def test_wait_of_one_run_is_not_counted_in_the_next(stopwatch: Stopwatch, wall: Clock) -> None:
    with stopwatch.computing("step"), stopwatch.waiting_for_dealer():
        wall.now += 2.0
    with stopwatch.computing("step"):
        wall.now += 1.0
    assert stopwatch.timings()[0].online_seconds_median == 0.5


def test_wait_for_a_correction_is_counted_only_where_a_message_is_received() -> None:
    ticks = Clock().ticking()
    stopwatch = Stopwatch(wall=lambda: next(ticks), processor=lambda: 0.0)
    links = connect(["dealer", "last"])
    writer = CorrectionWriter(Channel(links["dealer"]["last"]))
    writer.room(32)[:] = np.arange(32)
    writer.end_run()
    reader = CorrectionReader(Channel(links["last"]["dealer"]), stopwatch)
    with stopwatch.computing("step"):
        reader.begin_run(32)
        assert reader.take(16).tolist() == list(range(16))
        assert reader.take(16).tolist() == list(range(16, 32))
        reader.end_run()
    # The clock is looked at when the run begins, before and after the one message, and when the run ends.
    (found,) = stopwatch.timings()
    assert (found.seconds_total, found.wait_dealer_seconds) == (3.0, 1.0)


def test_timing_as_a_document_reads_as_it_was() -> None:
    assert SegmentTiming.from_document(json.loads(json.dumps(A_TIMING.to_document()))) == A_TIMING


@pytest.mark.parametrize(
    "changes",
    [
        {"runs": -1},
        {"runs": 1.0},
        {"runs": True},
        {"segment": 7},
        {"seconds_total": "1.0"},
        {"seconds_median": -0.5},
        {"dealer_seconds": float("nan")},
        {"wait_dealer_seconds": float("inf")},
        {"more": 1},
    ],
)
def test_timing_that_no_party_writes_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfideError) as caught:
        SegmentTiming.from_document(A_TIMING.to_document() | changes)
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


def test_timing_missing_a_field_is_refused() -> None:
    document = A_TIMING.to_document()
    del document["runs"]
    with pytest.raises(ConfideError, match="other fields"):
        SegmentTiming.from_document(document)


def test_measured_as_kept_text_reads_as_it_was_also_of_a_record_without_times() -> None:
    measured = Measured(phase="outputs", rounds=12, sent_bytes={"beta": 5}, timing=(A_TIMING, replace(A_TIMING, segment="start")))
    assert Measured.from_text(measured.to_text()) == measured
    old = json.loads(measured.to_text())
    del old["timing"]
    assert Measured.from_text(json.dumps(old)) == replace(measured, timing=())


def test_progress_of_a_party_shows_its_times_and_names_it_for_times_that_are_none() -> None:
    wire = jobs_pb2.SegmentTiming(**A_TIMING.to_document())  # type: ignore[arg-type]  # the fields have the same names
    status = jobs_pb2.JobStatus(job_id="0" * 32, state="RUNNING", timing=[wire])
    directory: object = None
    said = read_progress(status, party="beta", job_id="0" * 32, directory=directory)  # type: ignore[arg-type]  # no ending is read
    assert said.timing == (A_TIMING,)
    status.timing[0].seconds_total = -1.0
    with pytest.raises(ConfideError) as caught:
        read_progress(status, party="beta", job_id="0" * 32, directory=directory)  # type: ignore[arg-type]  # as above
    assert (caught.value.code, caught.value.party) == (ErrorCode.INVALID_DOCUMENT, "beta")
