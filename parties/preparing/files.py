"""Files of prepared rows, on the owner's disk or in memory alone."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from parties.storage.files import SECRET_MODE
from protocols.errors import ConfideError, ErrorCode


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Makes a file that only its owner may read, whole or not at all; one that is there stays as it is.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): it exists, or cannot be written there.
    """
    if path.exists():
        remedy = "Name another file, or remove this one."
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path} exists and is not overwritten", remedy=remedy)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, SECRET_MODE)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            os.fsync(handle)
        temporary.replace(path)
    except BaseException:  # nothing half-written stays, whatever stopped it
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def memory_file() -> Iterator[BinaryIO]:
    """Makes a file without a name that never reaches the disk; it is gone at the end of the block."""
    with os.fdopen(os.memfd_create("prepared rows", os.MFD_CLOEXEC), "w+b") as file:
        yield file


def _unusable(path: Path, error: OSError) -> ConfideError:
    return ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path}: {error.strerror or 'cannot be used'}")
