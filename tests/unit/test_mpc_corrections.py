"""Corrections on their way from the dealer to the last computing party: the bytes that were filled in, in order, cut anywhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.channels import MAX_MESSAGE_BYTES, Channel, CorrectionReader, CorrectionWriter
from tests.support.memory_links import MemoryLink, connect

BYTES = np.random.default_rng(11).integers(0, 256, 3 * MAX_MESSAGE_BYTES + 4321, dtype=np.uint8)


def dealt(runs: Sequence[Sequence[int]]) -> tuple[CorrectionReader, dict[str, dict[str, MemoryLink]]]:
    """A reader whose dealer has filled pieces of these sizes, run by run, one after the other from `BYTES`."""
    links = connect(["dealer", "last"])
    writer = CorrectionWriter(Channel(links["dealer"]["last"]))
    start = 0
    for run in runs:
        for size in run:
            place = writer.room(size)
            assert place.view(np.uint8 if size % 8 else np.int64).flags.aligned
            place[:] = BYTES[start : start + size]
            start += size
        writer.end_run()
    return CorrectionReader(Channel(links["last"]["dealer"])), links


@pytest.mark.parametrize(
    "takes",
    [
        [BYTES.size],
        [1, 7, 8, 100, MAX_MESSAGE_BYTES, 3, BYTES.size - MAX_MESSAGE_BYTES - 119],
        [MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES, 4321],
        [2 * MAX_MESSAGE_BYTES + 8, 0, BYTES.size - 2 * MAX_MESSAGE_BYTES - 8],
    ],
)
@pytest.mark.parametrize(
    "pieces",
    [
        [5, 1 << 20, 16, BYTES.size - (1 << 20) - 21],
        [16, 8, MAX_MESSAGE_BYTES - 24, 64, 0, 2 * MAX_MESSAGE_BYTES + 8, BYTES.size - 3 * MAX_MESSAGE_BYTES - 72],
    ],
)
def test_taken_bytes_are_those_that_were_filled_in_wherever_messages_are_cut(takes: list[int], pieces: list[int]) -> None:
    reader, _ = dealt([pieces])
    reader.begin_run(BYTES.size)
    found = [reader.take(count) for count in takes]
    reader.end_run()
    np.testing.assert_array_equal(np.concatenate(found), BYTES)


@pytest.mark.parametrize("first", [0, 1, 3, 8, 12, MAX_MESSAGE_BYTES - 1])
def test_taken_bytes_lie_aligned_whatever_was_taken_before(first: int) -> None:
    reader, _ = dealt([[BYTES.size]])
    reader.begin_run(BYTES.size)
    reader.take(first)
    found = reader.take(64)
    np.testing.assert_array_equal(found, BYTES[first : first + 64])
    assert found.view(np.int64).flags.aligned


def test_messages_hold_at_most_their_limit_and_end_with_each_run() -> None:
    reader, links = dealt([[MAX_MESSAGE_BYTES + 1], [7, 9], [MAX_MESSAGE_BYTES]])
    sizes = [arrays[0].size for _, arrays in links["dealer"]["last"].log]
    assert sizes == [MAX_MESSAGE_BYTES, 1, 16, MAX_MESSAGE_BYTES]
    for run in (MAX_MESSAGE_BYTES + 1, 16, MAX_MESSAGE_BYTES):
        reader.begin_run(run)
        reader.take(run)
    reader.end_run()


def test_run_that_takes_more_than_its_plan_is_our_defect() -> None:
    reader, _ = dealt([[10], [10]])
    reader.begin_run(10)
    reader.take(6)
    with pytest.raises(ConfideError, match="takes more corrections") as caught:
        reader.take(5)
    assert caught.value.code is ErrorCode.INTERNAL


@pytest.mark.parametrize("ends", ["end_run", "begin_run"])
def test_run_that_leaves_corrections_over_is_our_defect(ends: str) -> None:
    reader, _ = dealt([[10], [10]])
    reader.begin_run(10)
    reader.take(6)
    with pytest.raises(ConfideError, match="left corrections over") as caught:
        reader.end_run() if ends == "end_run" else reader.begin_run(10)
    assert caught.value.code is ErrorCode.INTERNAL


def test_fetch_all_receives_every_message_of_the_run_and_no_more() -> None:
    reader, links = dealt([[BYTES.size - 16], [16]])
    reader.begin_run(BYTES.size - 16)
    np.testing.assert_array_equal(reader.take(24), BYTES[:24])
    reader.fetch_all()
    assert links["last"]["dealer"]._incoming.messages.qsize() == 1
    np.testing.assert_array_equal(reader.take(BYTES.size - 40), BYTES[24:-16])
    reader.begin_run(16)
    np.testing.assert_array_equal(reader.take(16), BYTES[-16:])


def test_long_run_of_bytes_over_a_channel_arrives_as_sent() -> None:
    links = connect(["alpha", "beta"])
    Channel(links["alpha"]["beta"]).send_bytes(BYTES)
    np.testing.assert_array_equal(Channel(links["beta"]["alpha"]).receive_bytes(BYTES.size), BYTES)
