"""How far the memory of a fuzzed process may grow: what leaks or hoards in a decoder is found, what the tools hold is not."""

from __future__ import annotations

import operator
import re
from pathlib import Path
from typing import Any

import atheris

MAX_GROWTH_MIB = 256
_EVERY = 2_048  # inputs between two looks
_COMPARISONS = (operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge)


class OutOfMemory(Exception):
    """The process's own memory grew beyond the limit."""


class Growth:
    """The growth of a process's own (anonymous) memory since this was made.

    libFuzzer's limit is on resident memory, and in a process that was forked that grows by every page of a library that is read
    for the first time. Its limit leaves place for all of them, so that it stops one huge input only; what is kept from input to
    input is measured here.
    """

    def __init__(self) -> None:
        self._before_mib = _status_mib("RssAnon")
        self._inputs = 0
        self.resident_limit_mib = _status_mib("VmRSS") + _unread_mib() + MAX_GROWTH_MIB

    def check(self) -> None:
        """Looks, once in some thousand calls.

        Raises:
            OutOfMemory: the process's own memory grew by more than `MAX_GROWTH_MIB`.
        """
        self._inputs += 1
        if self._inputs % _EVERY:
            return
        grown = _status_mib("RssAnon") - self._before_mib
        if grown > MAX_GROWTH_MIB:
            raise OutOfMemory(f"{self._inputs} inputs made the process grow by {grown} MiB; {MAX_GROWTH_MIB} MiB are the limit")


def lend_array_comparisons() -> None:
    """Keeps comparisons of arrays from the fuzzer, which never frees the array that such a comparison makes (atheris 3.0.0)."""
    traced = atheris._trace_cmp
    if getattr(traced, "__module__", None) == __name__:
        return

    def compare(left: Any, right: Any, operation: int, *rest: Any) -> Any:
        if hasattr(left, "__array__") or hasattr(right, "__array__"):
            return _COMPARISONS[operation](left, right)
        return traced(left, right, operation, *rest)

    atheris._trace_cmp = compare


def _status_mib(name: str) -> int:
    """A size of this process, in MiB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) // 1024


def _unread_mib() -> int:
    """What of the mapped files is not resident yet, in MiB."""
    size = resident = 0
    is_file = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            is_file = "/" in line
        elif is_file and line.startswith("Size:"):
            size += int(line.split()[1])
        elif is_file and line.startswith("Rss:"):
            resident += int(line.split()[1])
    return (size - resident) // 1024
