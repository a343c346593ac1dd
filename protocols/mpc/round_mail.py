"""Bytes among the computing parties that travel with the messages of a round that there is anyway, and cost none of their own.

What is posted goes with this party's message of the next round, to every other computing party alike; what they posted at the
same place of the plan comes with theirs. Who needs it while no round is to come gets it by messages of their own, which all send
at the same place.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.links import Array, TensorSpec
from protocols.mpc.channels import Channel


class RoundMail:
    """One party's mail; one posting at a time.

    Args:
        channels: to the other computing parties, by id.
    """

    def __init__(self, channels: Mapping[str, Channel]) -> None:
        self._channels = channels
        self._posted: bytes | None = None
        self._expected: dict[str, int] = {}
        self._received: dict[str, bytes] = {}

    @property
    def has_arrived(self) -> bool:
        """Whether nothing is on its way: all that was expected with a posting is here, or was taken."""
        return not self._expected

    def post(self, said: bytes, expected: Mapping[str, int]) -> None:
        """Posts bytes to all.

        Args:
            said: the same for everybody, at least one.
            expected: of every other computing party, how many bytes it posts at the same place, at least one.

        Raises:
            ConfideError: INTERNAL (ours) while something is on its way.
        """
        if not self.has_arrived:
            raise ConfideError(ErrorCode.INTERNAL, "what is posted goes one after the other")
        self._posted, self._expected = said, dict(expected)

    def aboard(self) -> Array | None:
        """Returns what goes with the messages of a round, uint8, or None; it is then on its way."""
        posted, self._posted = self._posted, None
        return None if posted is None else np.frombuffer(posted, np.uint8)

    def layout_of(self, peer: str) -> TensorSpec:
        """Returns what comes with the message of a peer, in a round with which something went."""
        return TensorSpec("uint8", (self._expected[peer],))

    def deliver(self, peer: str, array: Array) -> None:
        """Takes what came with the message of a peer."""
        self._received[peer] = array.tobytes()
        del self._expected[peer]

    def take(self) -> dict[str, bytes]:
        """Returns what the others posted, by party, once; sends and waits if no round has carried it.

        Raises:
            ConfideError: what the links raise.
        """
        said = self.aboard()
        if said is not None:
            for channel in self._channels.values():
                channel.send_bytes(said)
        for peer, count in list(self._expected.items()):
            self.deliver(peer, self._channels[peer].receive_bytes(count))
        received, self._received = self._received, {}
        return received
