"""Runs protocols in rounds: draws their correlated randomness, opens what they ask for, and keeps to the plan.

A protocol is a generator. It yields an `Opening`, its masked shares of everything it opens in one round, and is sent the
opened values; several run `together` in the same rounds. It never sees a link.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.links import TensorSpec
from protocols.mpc.material.context import Material, Window
from protocols.mpc.material.registry import deal
from protocols.plan.operations import Deal, Open, Operation, Parameter, Reveal
from protocols.ring import BitArray, RingArray, ShortArray

T = TypeVar("T")
M = TypeVar("M")


# What is made for every operation of every step is not frozen: making it so would cost three times as much as making it.
@dataclass(slots=True, eq=False)
class Opening:
    """What a protocol opens in one round: this party's masked shares; never changed.

    Attributes:
        name: what for; goes into the plan.
        numbers: additive shares, int64, or uint32 of numbers modulo 2^32.
        bits: exclusive-or shares, packed uint8.
    """

    name: str
    numbers: tuple[RingArray | ShortArray, ...] = ()
    bits: tuple[BitArray, ...] = ()


@dataclass(slots=True, eq=False)
class Opened:
    """What came of it, of the types that the shares had; known to every computing party and uniform, since masked."""

    numbers: tuple[RingArray, ...]
    bits: tuple[BitArray, ...]


Steps = Generator[Opening, Opened, T]


class Exchange(Protocol):
    """Opens shares among the computing parties: every party sends its own to every other."""

    def open(self, numbers: Sequence[RingArray | ShortArray], bits: Sequence[BitArray]) -> Opened:
        """One round: returns sums and exclusive-ors over all parties."""
        ...


class Tape(Protocol):
    """Takes down every operation, or checks it against the plan."""

    def note(self, operation: Operation) -> None:
        """Notes the next operation of the segment.

        Raises:
            ConfideError: INTERNAL (ours) if the plan says otherwise.
        """
        ...


class Engine:
    """One computing party's side of a session, or its dry run.

    Args:
        index: this party's position among the computing parties.
        parties: how many computing parties there are.
        exchange: how it opens.
        material: its correlated randomness.
        tape: the plan being written or kept to.

    Attributes:
        leads: whether this party adds public numbers to its share; exactly one does.
        is_pair: whether there are two computing parties, for protocols that rest on each knowing its own share; public.
        segments: how many runs of segments have begun; a mask of another one is not the dealer's any more.
    """

    def __init__(self, *, index: int, parties: int, exchange: Exchange, material: Material, tape: Tape) -> None:
        self.leads = index == 0
        self.is_pair = parties == 2
        self.segments = 0
        self._exchange = exchange
        self._material = material
        self._tape = tape
        self._next_mask = 0
        self._session_masks = 0

    @property
    def window(self) -> Window | None:
        """The rows of the current batch."""
        return self._material.window

    @contextmanager
    def segment(self, window: Window | None) -> Iterator[None]:
        """Runs a segment of the plan; masks made in it end with it, unless made for the session."""
        self._next_mask = self._session_masks
        self.segments += 1
        self._material.begin_segment(window)
        yield

    def new_mask(self, *, for_session: bool) -> int:
        """Returns the id of the next mask, the same at all parties."""
        mask_id = self._next_mask
        self._next_mask += 1
        if for_session:
            self._session_masks = self._next_mask
        return mask_id

    def deal(self, kind: str, *parameters: Parameter, result: type[M]) -> M:
        """Returns this party's shares of the next correlated randomness of the plan."""
        operation = _deal_of(kind, parameters)
        self._tape.note(operation)
        dealt = deal(self._material, operation)
        if not isinstance(dealt, result):
            raise ConfideError(ErrorCode.INTERNAL, f"material {kind} is not a {result.__name__}")
        return dealt

    def run(self, protocol: Steps[T]) -> T:
        """Runs a protocol to its end, one round for each opening, and returns its result."""
        try:
            opening = next(protocol)
            while True:
                opening = protocol.send(self._round(opening))
        except StopIteration as end:
            result: T = end.value
            return result

    def reveal_bit(self, name: str, share: BitArray) -> bool:
        """Opens one bit of the computation to all computing parties; one round, one byte.

        The only opening that is not masked. It is an operation of its own, so every plan shows what is learnt, and it stands
        outside of what runs `together`: a revealed bit hides in no other round.

        Args:
            name: what the bit says; goes into the plan.
            share: (1,) uint8, this party's exclusive-or share, 0 or 1; secret, and uniform but for the bit.

        Raises:
            ConfideError: BAD_FRAME (another computing party's fault) if the shares make no bit; what the links raise.

        Learns: every computing party the bit, and nothing else.
        """
        self._tape.note(Reveal(name))
        (opened,) = self._exchange.open((), (share,)).bits
        if opened.shape != (1,) or opened[0] > 1:
            raise ConfideError(ErrorCode.BAD_FRAME, "the shares of a revealed bit make no bit")
        return bool(opened[0])

    def public(self, values: RingArray) -> RingArray:
        """Returns this party's share of public ring elements: the elements at the lead, zeros elsewhere."""
        return values if self.leads else np.zeros_like(values)

    def _round(self, opening: Opening) -> Opened:
        arrays: tuple[NDArray[Any], ...] = (*opening.numbers, *opening.bits)
        form = tuple([(array.dtype, array.shape) for array in arrays])
        self._tape.note(_open_of(opening.name, form))
        return self._exchange.open(opening.numbers, opening.bits)


def together(*protocols: Steps[T]) -> Steps[list[T]]:
    """Runs protocols in the same rounds, as long as each lasts; returns their results in order."""
    if len(protocols) == 1:
        return [(yield from protocols[0])]
    results: dict[int, T] = {}
    waiting: list[tuple[int, Opening]] = []
    for index, protocol in enumerate(protocols):
        _advance(index, protocol, None, waiting, results)
    while waiting:
        turn, waiting = waiting, []
        if len(turn) == 1:
            # The others have ended, or open nothing.
            ((index, opening),) = turn
            _advance(index, protocols[index], (yield opening), waiting, results)
            continue
        opened = yield _merge([opening for _, opening in turn])
        number = bit = 0
        for index, opening in turn:
            next_number, next_bit = number + len(opening.numbers), bit + len(opening.bits)
            mine = Opened(opened.numbers[number:next_number], opened.bits[bit:next_bit])
            number, bit = next_number, next_bit
            _advance(index, protocols[index], mine, waiting, results)
    return [results[index] for index in range(len(protocols))]


def alongside(first: Steps[T], second: Steps[M]) -> Steps[tuple[T, M]]:
    """Runs two protocols of different results in the same rounds."""

    def boxed(protocol: Steps[Any]) -> Steps[Any]:
        return (yield from protocol)

    one, two = yield from together(boxed(first), boxed(second))
    return one, two


def _advance(
    index: int, protocol: Steps[T], opened: Opened | None, waiting: list[tuple[int, Opening]], results: dict[int, T]
) -> None:
    try:
        waiting.append((index, next(protocol) if opened is None else protocol.send(opened)))
    except StopIteration as end:
        results[index] = end.value


def _merge(openings: Sequence[Opening]) -> Opening:
    names = dict.fromkeys([opening.name for opening in openings])
    numbers = tuple([array for opening in openings for array in opening.numbers])
    bits = tuple([array for opening in openings for array in opening.bits])
    return Opening(" + ".join(names), numbers, bits)


@lru_cache(maxsize=4096)
def _deal_of(kind: str, parameters: tuple[Parameter, ...]) -> Deal:
    return Deal(kind, parameters)


@lru_cache(maxsize=4096)
def _open_of(name: str, form: tuple[tuple[np.dtype[Any], tuple[int, ...]], ...]) -> Open:
    return Open(name, tuple(TensorSpec(dtype.name, shape) for dtype, shape in form))
