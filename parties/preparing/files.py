"""Raw files, and files of prepared rows, as they lie on the owner's disk."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from parties.preparing.process import RawSource
from parties.raw_file import format_of
from parties.storage.files import SECRET_MODE
from protocols.errors import ConfideError, ErrorCode


@contextmanager
def raw_source(path: Path) -> Iterator[RawSource]:
    """Opens a raw file, secret; at the end of the block, the path must still lead to it, unchanged.

    What is read is compared byte by byte elsewhere; this also finds a file that was replaced by another.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): not to be read, or no file of rows; FILE_CHANGED (the owner's).
    """
    file_format = format_of(path)
    try:
        # O_NONBLOCK: opening a pipe or a device must not hang; the check below refuses them.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _unusable(path, error) from error
    before = os.fstat(handle)  # of the file that is open, so nobody can swap it after the check
    if not stat.S_ISREG(before.st_mode):
        os.close(handle)
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path} is not a file")
    with os.fdopen(handle, "rb") as file:
        yield RawSource(file, path.name, file_format)
        try:
            after = path.stat()
        except OSError:
            after = None
        if after is None or _state(before) != _state(after):
            raise ConfideError(ErrorCode.FILE_CHANGED, f"{path.name} changed while it was read; nothing was kept of it")


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


def _state(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _unusable(path: Path, error: OSError) -> ConfideError:
    return ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path}: {error.strerror or 'cannot be used'}")
