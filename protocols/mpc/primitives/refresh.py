"""Refresh: a fresh sharing of the same value, before anything leaves the computing parties (docs/protocols/refresh.md).

The dealer knows all dealt randomness, so a raw output share shown to somebody who works with the dealer would give away
inner values. Adding a sharing of zero from keys that the dealer never holds makes the shares uniform, given the value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from protocols.prg import ByteSource
from protocols.ring import RingArray
from protocols.sharing import draw_ring


class Refresher:
    """Adds sharings of zero; no communication.

    Args:
        index: this party's position among the computing parties.
        streams: for every other computing party's position the stream shared with it and nobody else.
    """

    def __init__(self, index: int, streams: Mapping[int, ByteSource]) -> None:
        self._signed: Sequence[tuple[int, ByteSource]] = [
            (1 if index < other else -1, streams[other]) for other in sorted(streams)
        ]

    def __repr__(self) -> str:
        return "Refresher()"

    def refresh(self, share: RingArray) -> RingArray:
        """Returns this party's share of the same value, uniform and independent of the share given.

        All computing parties must refresh the same tensors in the same order.
        """
        refreshed = share
        for sign, stream in self._signed:
            refreshed = refreshed + sign * draw_ring(stream, share.shape)
        return refreshed
