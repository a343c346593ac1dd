"""What the parties of a serving session tell each other between blocks: small messages of fixed size, nothing of them secret.

A turn: the lead announces what it does next, and with an offer which queries it holds. Every other computing party replies
which of those it holds too, and whether it is asked to stop. The lead names the batch: queries that all hold, in its order.
Every message has one size whatever it says, so that both ends know it beforehand as they know all others of the session.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.links import TensorSpec

MAX_OFFERED = 64  # queries of one turn
QUERY_ID_BYTES = 16
_ROW_BYTES = 4
_ENTRY_BYTES = QUERY_ID_BYTES + _ROW_BYTES
_HEAD_BYTES = 4  # turn, reason, queries, 0
_MASK_BYTES = MAX_OFFERED // 8
ANNOUNCEMENT = (TensorSpec("uint8", (_HEAD_BYTES + MAX_OFFERED * _ENTRY_BYTES,)),)
REPLY = (TensorSpec("uint8", (_MASK_BYTES + 1,)),)
CHOICE = (TensorSpec("uint8", (_MASK_BYTES,)),)
Message = NDArray[np.uint8]


class Turn(IntEnum):
    """What is done next."""

    OFFER = 1
    REKEY = 2
    END = 3


class EndReason(Enum):
    """Why a serving session ended in order."""

    STOPPED = "stopped"  # the querier, or somebody at a party, asked for it
    IDLE = "idle"  # nobody asked anything for as long as the job says
    LIFETIME = "lifetime"  # the weights were open under masks for as long as the job permits
    QUOTA = "quota"  # as many queries or rows as the job permits were answered


_REASONS = tuple(EndReason)


@dataclass(frozen=True)
class Query:
    """One query that waits; public.

    Attributes:
        query_id: 32 hexadecimal digits, chosen by the querier at random.
        rows: how many samples it has.
    """

    query_id: str
    rows: int


@dataclass(frozen=True)
class Announcement:
    """What the lead does next; `queries` with an offer, `reason` with an end."""

    turn: Turn
    queries: tuple[Query, ...] = ()
    reason: EndReason | None = None

    def to_message(self) -> Message:
        """Returns the bytes that every other computing party gets; public among them."""
        reason = 0 if self.reason is None else 1 + _REASONS.index(self.reason)
        head = bytes([self.turn, reason, len(self.queries), 0])
        entries = [bytes.fromhex(query.query_id) + query.rows.to_bytes(_ROW_BYTES, "little") for query in self.queries]
        filling = bytes((MAX_OFFERED - len(entries)) * _ENTRY_BYTES)
        return np.frombuffer(head + b"".join(entries) + filling, np.uint8)

    @staticmethod
    def from_message(message: Message, lead: str) -> Announcement:
        """Reads an announcement.

        Raises:
            ConfideError: BAD_FRAME (the lead's fault) for anything that no lead announces.
        """
        data = message.tobytes()
        announced = _read(data) if len(data) == ANNOUNCEMENT[0].num_bytes else None
        # What was read must be all that was said.
        if announced is None or announced.to_message().tobytes() != data:
            raise ConfideError(ErrorCode.BAD_FRAME, "no announcement of a serving session", party=lead)
        return announced


@dataclass(frozen=True)
class Reply:
    """Which offered queries a party holds, and whether it is asked to stop."""

    held: tuple[bool, ...]
    stops: bool

    def to_message(self) -> Message:
        """Returns the bytes for the lead."""
        return np.append(_to_mask(self.held), np.uint8(self.stops))

    @staticmethod
    def from_message(message: Message, *, offered: int, party: str) -> Reply:
        """Reads a reply to an offer of so many queries.

        Raises:
            ConfideError: BAD_FRAME (the fault of the party named) for anything else.
        """
        if message.shape != REPLY[0].shape or message[-1] > 1:
            raise ConfideError(ErrorCode.BAD_FRAME, "no reply to an offer", party=party)
        return Reply(_from_mask(message[:-1], offered, party), bool(message[-1]))


def choice_to_message(chosen: Sequence[bool]) -> Message:
    """Returns the lead's choice among the queries that it offered."""
    return _to_mask(chosen)


def choice_from_message(message: Message, *, held: Sequence[bool], lead: str) -> tuple[bool, ...]:
    """Reads the lead's choice.

    Args:
        message: what came.
        held: which of the offered queries this party said it holds.
        lead: whose message it is.

    Raises:
        ConfideError: BAD_FRAME (the lead's fault) if it chose what this party does not hold.
    """
    chosen = _from_mask(message, len(held), lead)
    if any(is_chosen and not is_held for is_chosen, is_held in zip(chosen, held, strict=True)):
        raise ConfideError(ErrorCode.BAD_FRAME, "a batch with a query that this party does not hold", party=lead)
    return chosen


def choose(
    offered: Sequence[Query], held_by_all: Sequence[bool], *, block_rows: int, left_queries: int, left_rows: int
) -> tuple[bool, ...]:
    """Returns which queries are answered next: in order as many as fit into one block, or one that takes several blocks.

    Args:
        offered: all that the lead holds.
        held_by_all: whether all computing parties hold it.
        block_rows: rows of a block.
        left_queries: how many queries may still be answered.
        left_rows: how many rows of queries.
    """
    chosen: list[bool] = []
    rows = 0
    for query, is_held in zip(offered, held_by_all, strict=True):
        total = rows + query.rows
        fits = is_held and (rows == 0 or total <= block_rows) and total <= left_rows and sum(chosen) < left_queries
        rows = total if fits else rows
        chosen.append(fits)
    return tuple(chosen)


def batch_digest(handshake: str, number: int, batch: Sequence[Query]) -> bytes:
    """Returns SHA-256 of what a batch is: the keys in force, its number, its queries in order; equal at all parties."""
    listed = b"".join(bytes.fromhex(query.query_id) + query.rows.to_bytes(_ROW_BYTES, "little") for query in batch)
    return hashlib.sha256(b"confide.batch/1" + bytes.fromhex(handshake) + number.to_bytes(8, "little") + listed).digest()


def _read(data: bytes) -> Announcement | None:
    turn, reason, count, _ = data[:_HEAD_BYTES]
    if turn not in Turn.__members__.values() or reason > len(_REASONS) or count > MAX_OFFERED:
        return None
    entries = [data[at : at + _ENTRY_BYTES] for at in range(_HEAD_BYTES, _HEAD_BYTES + count * _ENTRY_BYTES, _ENTRY_BYTES)]
    queries = tuple(Query(entry[:QUERY_ID_BYTES].hex(), int.from_bytes(entry[QUERY_ID_BYTES:], "little")) for entry in entries)
    is_sound = len({query.query_id for query in queries}) == count and all(query.rows for query in queries)
    if not is_sound or (turn != Turn.OFFER and count) or ((turn == Turn.END) != (reason > 0)):
        return None
    return Announcement(Turn(turn), queries, _REASONS[reason - 1] if reason else None)


def _to_mask(flags: Sequence[bool]) -> Message:
    padded = np.zeros(MAX_OFFERED, np.uint8)
    padded[: len(flags)] = flags
    return np.packbits(padded, bitorder="little")


def _from_mask(mask: Message, count: int, party: str) -> tuple[bool, ...]:
    flags = np.unpackbits(mask, bitorder="little")
    if flags.size != MAX_OFFERED or flags[count:].any():
        raise ConfideError(ErrorCode.BAD_FRAME, "a word on queries that nobody offered", party=party)
    return tuple(bool(flag) for flag in flags[:count])
