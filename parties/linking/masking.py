"""Raises many points to one secret exponent, on as many cores as there are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType

from parties.linking.masker import COUNT_BYTES, DONE, HASH, POINT
from protocols.errors import ConfideError, ErrorCode
from protocols.identifiers.group import POINT_BYTES, Exponent, split_points

BATCH = 2048  # values that a process is given at once: some tenths of a second
_AHEAD = 4  # batches for each process: what waits is bounded, whatever the size of a set


class Maskers:
    """Processes with one exponent; a context manager. Used by one thread at a time."""

    def __init__(self, exponent: Exponent, *, processes: int | None = None) -> None:
        """Starts the processes; as many as there are cores if no number is given."""
        self._count = processes or os.cpu_count() or 1
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        self._all: list[subprocess.Popen[bytes]] = []
        self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="mask")
        try:
            for _ in range(self._count):
                self._start(exponent)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Maskers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def hashed(self, elements: Sequence[bytes]) -> list[bytes]:
        """Returns the masked points of a set's elements, in order; arguments and result as in `protocols.identifiers`."""
        return [point for batch in self._run(HASH, elements) for point in split_points(batch)]

    def powers(self, points: Sequence[bytes]) -> Iterator[list[bytes]]:
        """Yields the powers of points, in order, a batch at a time as soon as it is ready.

        Raises:
            ConfideError: BAD_FRAME (of whoever sent the points): one is not on the curve.
        """
        for batch in self._run(POINT, points):
            yield list(split_points(batch))

    def close(self) -> None:
        """Ends every process."""
        for process in self._all:
            process.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for process in self._all:
            process.communicate()

    def _start(self, exponent: Exponent) -> None:
        command = [sys.executable, "-I", "-m", "parties.linking.masker"]
        # S603: our own interpreter and module. The exponent goes through the pipe, never through argv or the environment.
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/", env={}
        )
        self._all.append(process)
        self._ask(process, exponent.export_secret_bytes(), expected=0)
        self._idle.put(process)

    def _run(self, operation: bytes, values: Sequence[bytes]) -> Iterator[bytes]:
        waiting: deque[Future[bytes]] = deque()
        for start in range(0, len(values), BATCH):
            waiting.append(self._pool.submit(self._batch, operation, values[start : start + BATCH]))
            if len(waiting) >= _AHEAD * self._count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _batch(self, operation: bytes, values: Sequence[bytes]) -> bytes:
        process = self._idle.get()
        try:
            request = operation + len(values).to_bytes(COUNT_BYTES, "little") + b"".join(values)
            return self._ask(process, request, expected=len(values) * POINT_BYTES)
        finally:
            self._idle.put(process)

    def _ask(self, process: subprocess.Popen[bytes], request: bytes, *, expected: int) -> bytes:
        if process.stdin is None or process.stdout is None:
            raise ConfideError(ErrorCode.INTERNAL, "a masking process has no pipes")
        try:
            process.stdin.write(request)
            process.stdin.flush()
        except OSError:  # it has ended
            raise _lost() from None
        if not expected:
            return b""
        status = process.stdout.read(1)
        if not status:
            raise _lost()
        if status != DONE:
            raise ConfideError(ErrorCode.BAD_FRAME, "a value is no point of the curve")
        answer = process.stdout.read(expected)
        if len(answer) != expected:
            raise _lost()
        return answer


def _lost() -> ConfideError:
    return ConfideError(ErrorCode.WORKER_LOST, "a process that masks a set ended early")
