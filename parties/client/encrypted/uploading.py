"""Messages that are larger than a part travel in parts, and go on where they were interrupted.

A part that was received before changes nothing, so every one may be sent again; the digest says which message it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable

from parties.client.encrypted.evaluator import PART_BYTES, Evaluator
from protocols.canonical import sha256_hex
from protocols.errors import ConfideError, ErrorCode, Kind

ATTEMPTS = 4
"""So often the connection may break between two parts that arrive."""

Sent = Callable[[int, int], None]


def nothing(sent: int, total: int) -> None:
    """Tells nobody how far an upload is."""


def upload(evaluator: Evaluator, enquiry_id: str, message: bytes, *, sent: Sent = nothing) -> str:
    """Sends a message in parts, from where the party has it already.

    Args:
        evaluator: the party.
        enquiry_id: for which enquiry.
        message: of any size up to what its plan says.
        sent: is told, after every part, how many bytes the party has, and of how many.

    Returns:
        The message's digest, by which it is named from then on.

    Raises:
        ConfideError: a refusal, or that the connection broke again and again.
    """
    digest, total = sha256_hex(message), len(message)
    received, failures = 0, 0
    asked = False
    while not asked or received < total:
        # An empty part asks how much has arrived: at the beginning, and again after the connection broke.
        data = message[received : received + PART_BYTES] if asked else b""
        try:
            now = evaluator.put(enquiry_id, digest, total=total, offset=received if asked else 0, data=data)
        except ConfideError as error:
            failures += 1
            if error.code.kind is not Kind.UNAVAILABLE or failures >= ATTEMPTS:
                raise
            asked = False
            continue
        # It may have more, if another program of the researcher's uploads the same; with less this might never end.
        if not (received + len(data) if asked else 0) <= now <= total:
            what = f"{evaluator.party} says that it has {now} of {total} bytes after {received + len(data)} were sent"
            raise ConfideError(ErrorCode.BAD_FRAME, what, party=evaluator.party)
        failures = failures if not asked else 0
        received, asked = now, True
        sent(received, total)
    return digest
