"""Calls that are made again while their failure is one that may pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from protocols.errors import ConfideError, ErrorCode

PAUSE_S = 0.5
T = TypeVar("T")


def patiently(call: Callable[[], T], *, within_s: float, waits_for: Sequence[ErrorCode]) -> T:
    """Calls again while the failure is one that may pass.

    Args:
        call: has the same effect once or several times.
        within_s: no call begins later, in seconds.
        waits_for: codes of failures that may pass.

    Raises:
        ConfideError: the last failure.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            return call()
        except ConfideError as error:
            if error.code not in waits_for or time.monotonic() > deadline:
                raise
        time.sleep(PAUSE_S)
