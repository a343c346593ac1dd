"""Runs a protocol at all parties and the dealer in one thread, step by step: no links and nothing but arithmetic.

For runs over very many elements. What the parties and the dealer compute is the real code; only the exchange is a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from protocols.mpc.channels import ZeroExchange
from protocols.mpc.engine import Engine, Opened, Opening, Steps
from protocols.mpc.material.context import DealerMaterial, ShapeMaterial, ShareMaterial
from protocols.mpc.material.registry import deal
from protocols.mpc.tapes import RecordingTape
from protocols.plan.operations import Deal
from protocols.prg import ByteSource
from protocols.ring import RingArray

T = TypeVar("T")
Protocol = Callable[[Engine, Sequence[RingArray]], Steps[T]]


class LockstepWorld:
    """Parties and a dealer with one stream each, which goes on from protocol to protocol.

    Args:
        dealers: the dealer's copies of the streams.
        parties: each party's copy of its own stream, in the same order.
    """

    def __init__(self, *, dealers: Sequence[ByteSource], parties: Sequence[ByteSource]) -> None:
        self._corrections = _Corrections()
        self._dealer = DealerMaterial(list(dealers), self._corrections)
        last = len(parties) - 1
        self._engines = [
            Engine(
                index=index,
                parties=len(parties),
                exchange=ZeroExchange(),
                material=ShareMaterial(stream, self._corrections if index == last else None),
                tape=RecordingTape(),
            )
            for index, stream in enumerate(parties)
        ]

    def run(self, protocol: Protocol[T], shares: Sequence[Sequence[RingArray]]) -> list[T]:
        """Runs a protocol on each party's shares and returns each party's result."""
        self._deal(protocol, shares[0])
        waiting: list[Opening] = []
        steps = []
        for engine, mine in zip(self._engines, shares, strict=True):
            engine._material.begin_segment(None)
            engine._next_mask = 0
            steps.append(protocol(engine, mine))
            waiting.append(next(steps[-1]))
        while True:
            opened = _open(waiting)
            results: list[T] = []
            for index, step in enumerate(steps):
                try:
                    waiting[index] = step.send(opened)
                except StopIteration as end:
                    results.append(end.value)
            if results:
                self._corrections.check_empty()
                return results

    def _deal(self, protocol: Protocol[T], shares: Sequence[RingArray]) -> None:
        tape = RecordingTape()
        dry = Engine(index=0, parties=len(self._engines), exchange=ZeroExchange(), material=ShapeMaterial(), tape=tape)
        with dry.segment(None):
            dry.run(protocol(dry, [np.broadcast_to(np.int64(0), share.shape) for share in shares]))
        self._dealer.begin_segment(None)
        for operation in tape.operations:
            if isinstance(operation, Deal):
                deal(self._dealer, operation)


class _Corrections:
    """What the dealer sends the last party, without a link between."""

    def __init__(self) -> None:
        self._pieces: list[np.ndarray] = []

    def room(self, count: int) -> np.ndarray:
        self._pieces.append(np.empty(count, np.uint8))
        return self._pieces[-1]

    def take(self, count: int) -> np.ndarray:
        piece = self._pieces.pop(0)
        assert piece.size == count, "dealer and party differ on what is dealt"
        return piece.copy()

    def check_empty(self) -> None:
        assert not self._pieces, "corrections are left over"


def _open(openings: Sequence[Opening]) -> Opened:
    numbers = [sum(arrays[1:], arrays[0]) for arrays in zip(*(opening.numbers for opening in openings), strict=True)]
    bits = [np.bitwise_xor.reduce(arrays) for arrays in zip(*(opening.bits for opening in openings), strict=True)]
    return Opened(tuple(numbers), tuple(bits))
