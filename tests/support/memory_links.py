"""Links in memory: every layout is checked, every byte counted, and what was sent can be looked at afterwards."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.links import DTYPES, Array, Link, TensorSpec

TIMEOUT_S = 20.0


@dataclass
class _Wire:
    messages: queue.SimpleQueue[tuple[int, list[Array]] | None] = field(default_factory=queue.SimpleQueue)
    log: list[tuple[int, list[Array]]] = field(default_factory=list)
    last_sent: int = 0
    last_received: int = 0


class MemoryLink:
    """One party's end."""

    def __init__(self, peer: str, outgoing: _Wire, incoming: _Wire) -> None:
        self._peer = peer
        self._outgoing = outgoing
        self._incoming = incoming
        self.sent_bytes = 0

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def log(self) -> list[tuple[int, list[Array]]]:
        """Everything sent through this end."""
        return self._outgoing.log

    def send(self, operation: int, arrays: Sequence[Array]) -> None:
        assert operation > self._outgoing.last_sent, "operation numbers must grow"
        self._outgoing.last_sent = operation
        copies = []
        for array in arrays:
            assert array.dtype.name in DTYPES
            assert array.ndim <= 4, "a message of the real links carries at most four dimensions"
            assert array.flags.c_contiguous
            assert all(size > 0 for size in array.shape)
            copy = array.copy()
            copy.flags.writeable = False
            copies.append(copy)
        self.sent_bytes += sum(array.nbytes for array in arrays)
        self._outgoing.log.append((operation, copies))
        self._outgoing.messages.put((operation, copies))

    def receive(self, operation: int, layout: Sequence[TensorSpec]) -> list[Array]:
        try:
            message = self._incoming.messages.get(timeout=TIMEOUT_S)
        except queue.Empty:
            raise ConfideError(ErrorCode.PEER_SILENT, party=self._peer) from None
        if message is None:
            raise ConfideError(ErrorCode.PEER_LOST, party=self._peer)
        number, arrays = message
        found = [TensorSpec(array.dtype.name, array.shape) for array in arrays]
        if number != operation or found != list(layout):
            raise ConfideError(ErrorCode.BAD_FRAME, f"operation {number} {found} instead of {operation} {list(layout)}")
        return arrays

    def cut(self) -> None:
        """Ends the connection for the receiver."""
        self._outgoing.messages.put(None)


def cut_all(links: dict[str, dict[str, MemoryLink]]) -> None:
    """Ends all connections, so that nobody waits for a party that failed."""
    for mine in links.values():
        for link in mine.values():
            link.cut()


def connect(parties: Sequence[str]) -> dict[str, dict[str, MemoryLink]]:
    """Returns for every party its links to all others."""
    wires = {(a, b): _Wire() for a in parties for b in parties if a != b}
    return {a: {b: MemoryLink(b, wires[a, b], wires[b, a]) for b in parties if b != a} for a in parties}


def as_links(links: dict[str, MemoryLink]) -> dict[str, Link]:
    """The same links, seen through the interface."""
    return dict(links)


def received_arrays(links: dict[str, dict[str, MemoryLink]], party: str) -> list[Array]:
    """Everything that was sent to a party."""
    return [array for mine in links.values() if party in mine for _, arrays in mine[party].log for array in arrays]


def all_bytes(arrays: Sequence[Array]) -> np.ndarray:
    """The arrays' bytes, one after the other."""
    return np.concatenate([np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays])
