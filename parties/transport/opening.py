"""The first words of a link's connection: which link it is, and whether it is joined.

opening: magic 4 | session 16 | attempt 4                                 (little-endian, unsigned)
answer:  length 1 | name of an error code, ASCII; empty: the link is joined, and frames follow
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from protocols.errors import ConfideError, ErrorCode

_MAGIC = b"CFL1"
_OPENING = struct.Struct("<4s16sI")
OPENING_BYTES = _OPENING.size
JOINED = b"\x00"


@dataclass(frozen=True)
class LinkOpening:
    """Which link a connection is for: job id of the session (32 hexadecimal digits), and its attempt; public."""

    session: str
    attempt: int

    def to_bytes(self) -> bytes:
        """Returns the first words of whoever dials."""
        return _OPENING.pack(_MAGIC, bytes.fromhex(self.session), self.attempt)

    @staticmethod
    def from_bytes(data: bytes) -> LinkOpening:
        """Reads them.

        Raises:
            ConfideError: INVALID_ARGUMENT (the peer's fault): no party of this protocol says that.
        """
        if len(data) != OPENING_BYTES or data[: len(_MAGIC)] != _MAGIC:
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, "a link names its session and attempt")
        _, session, attempt = _OPENING.unpack(data)
        return LinkOpening(session.hex(), attempt)


def refused(code: ErrorCode) -> bytes:
    """Returns the answer to an opening that is refused."""
    name = code.name.encode("ascii")
    return bytes([len(name)]) + name


def read_answer(hear: Callable[[int], bytes], *, party: str) -> None:
    """Reads the answer to an opening with what waits for so many bytes.

    Raises:
        ConfideError: the code that the party refuses with; BAD_FRAME (its fault): no answer.
        OSError: what `hear` raises.
    """
    (length,) = hear(1)
    if not length:
        return
    name = hear(length).decode("ascii", "replace")
    code = ErrorCode.__members__.get(name)
    if code is None:
        raise ConfideError(ErrorCode.BAD_FRAME, "the answer to the opening of a link names no known code", party=party)
    raise ConfideError(code, f"{party} refuses a link", party=party)
