"""The interface over which the parties of one session exchange tensors.

A link is an authenticated, ordered byte channel between two parties within one session and attempt. Protocol code sees only
this interface; the real one runs over mutual TLS (`parties/transport`, `parties/worker`), the one of the tests in memory.

A message is a list of arrays that belongs to one operation of the plan. The receiver says which operation and which layout
the plan expects; a frame that differs in anything ends the session. Nothing is parsed on the sender's word.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DTYPES: tuple[str, ...] = ("uint8", "uint16", "int64", "uint32")
MAX_ARRAYS = 64
"""Of a message."""


@dataclass(frozen=True)
class TensorSpec:
    """What an array of a message looks like; public.

    Attributes:
        dtype: one of `DTYPES`.
        shape: its dimensions, all positive, at most four.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Payload bytes of the array."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


class Link(Protocol):
    """One party's end of the channel to one peer; used by one thread at a time in each direction."""

    @property
    def peer(self) -> str:
        """Party id of the other end."""
        ...

    def send(self, operation: int, arrays: Sequence[Array]) -> None:
        """Sends one message.

        Args:
            operation: number of the operation in the plan; grows by at least one from message to message of a direction.
            arrays: at most `MAX_ARRAYS`, C-contiguous, of `DTYPES`; the peer sees them, so they must be masked or be meant for
                it. They may be changed once this returns.

        Raises:
            ConfideError: PEER_LOST or PEER_SILENT (the peer's fault).
        """
        ...

    def receive(self, operation: int, layout: Sequence[TensorSpec]) -> list[Array]:
        """Waits for one message and returns its arrays, read-only.

        Raises:
            ConfideError: PEER_LOST, PEER_SILENT or BAD_FRAME (the peer's fault).
        """
        ...
