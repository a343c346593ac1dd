"""A channel whose next message may be received later: with whatever is received after it.

Messages of a direction have one order, so a party that went on before a message is there could not take the ones behind it. Here
it says that the message is due, and takes it when something else has been waited for: it then costs no waiting of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.links import Array, Link, TensorSpec
from protocols.mpc.channels import Channel


class Due:
    """A run of bytes that the peer sends next; made by `LateChannel.expect_bytes`.

    Attributes:
        count: how many.
        data: they, once they are there and until they are taken.
    """

    def __init__(self, channel: LateChannel, count: int) -> None:
        self._channel = channel
        self.count = count
        self.data: NDArray[np.uint8] | None = None

    def take(self) -> NDArray[np.uint8]:
        """Returns the bytes, (count,) uint8, once; waits for them if nothing behind them was received before.

        Raises:
            ConfideError: INTERNAL (ours) the second time; what the link raises.
        """
        if self.data is None:
            self._channel.receive_due()
        if self.data is None:
            raise ConfideError(ErrorCode.INTERNAL, "a message that was due was taken twice")
        data, self.data = self.data, None
        return data


class LateChannel(Channel):
    """A channel that receives what is due before anything else."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._due: list[Due] = []

    def expect_bytes(self, count: int) -> Due:
        """Returns the next run of `count` bytes of the other direction, to be taken later."""
        due = Due(self, count)
        self._due.append(due)
        return due

    def receive(self, layout: Sequence[TensorSpec]) -> list[Array]:
        """Receives the next message of the other direction that is not due to somebody else."""
        if self._due:
            self.receive_due()
        return super().receive(layout)

    def receive_due(self) -> None:
        """Waits for all that is due."""
        waiting, self._due = self._due, []
        for due in waiting:
            due.data = self.receive_bytes(due.count)
