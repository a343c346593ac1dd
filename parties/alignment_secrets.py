"""The secret under which the owners of different columns of the same rows make their alignment: one file at each of them.

One owner makes the file and hands it to the others outside Confide; it never goes to computing parties, the dealer or queriers.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from parties.storage.files import read_secret, write_secret
from privacy.preparation.alignment import SECRET_BYTES
from protocols.errors import ConfideError, ErrorCode

_WRITTEN = re.compile(rb"[0-9a-f]{%d}\n?" % (2 * SECRET_BYTES))


@dataclass(frozen=True)
class AlignBy:
    """Under what the owners of all parts agreed to align their rows.

    Attributes:
        secret_file: holds the secret; readable by its owner alone.
        label: what they call this set of people, 1 to 63 characters.
    """

    secret_file: Path
    label: str


def make_alignment_secret(path: Path) -> None:
    """Writes a fresh secret as 64 hexadecimal digits, into a file that nobody else can read.

    Raises:
        ConfideError: INVALID_ARGUMENT (the operator's fault): the file exists, or cannot be written there.
    """
    if path.exists():
        remedy = "Name another file; whoever made parts under this one needs it again."
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path} exists and is not overwritten", remedy=remedy)
    write_secret(path, secrets.token_hex(SECRET_BYTES).encode() + b"\n")


def read_alignment_secret(path: Path) -> bytes:
    """Reads a secret; 32 bytes.

    Raises:
        ConfideError: INVALID_ARGUMENT (the operator's fault): no such file, or not 64 hexadecimal digits; FILE_MODE: others
            may read it.
    """
    written = read_secret(path)
    if not _WRITTEN.fullmatch(written):
        remedy = "Copy the file that `confide dataset alignment-secret` made, whole."
        raise ConfideError(
            ErrorCode.INVALID_ARGUMENT, f"{path} does not hold {2 * SECRET_BYTES} hexadecimal digits", remedy=remedy
        )
    return bytes.fromhex(written.decode().strip())
