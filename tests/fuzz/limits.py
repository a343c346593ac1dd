"""What one input may cost a decoder, measured so that a busy machine does not change the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable

MAX_SECONDS_AN_INPUT = 1.0
# A slow input is decoded again: loading, a collection of garbage and a machine that is short of memory or of processor
# caches lengthen one decoding by chance, and the input lengthens every one.
TRIES = 4


class TooSlow(Exception):
    """A decoder took too long for one input."""


def check(decode: Callable[[bytes], object], data: bytes, *, clock: Callable[[], float] = time.process_time) -> None:
    """Decodes an input, again if that was slow.

    Args:
        decode: the decoder; what it raises passes through.
        data: the input.
        clock: processor time of this process, seconds.

    Raises:
        TooSlow: every decoding took more than `MAX_SECONDS_AN_INPUT` of processor time.
    """
    taken = []
    while len(taken) < TRIES:
        started = clock()
        decode(data)
        taken.append(clock() - started)
        if taken[-1] <= MAX_SECONDS_AN_INPUT:
            return
    raise TooSlow(
        f"{len(data)} bytes took {min(taken):.2f} s and more in {TRIES} decodings; {MAX_SECONDS_AN_INPUT} s are the limit"
    )
