"""Files of a party: whole or not at all, and secret ones readable by nobody else."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from protocols.errors import ConfideError, ErrorCode

SECRET_MODE = 0o600
PUBLIC_MODE = 0o644
FOLDER_MODE = 0o700
MAX_KEY_BYTES = 16 * 1024
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_DISK_FAILS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})


def make_folder(path: Path) -> None:
    """Makes a folder that only its owner may enter, with its parents; an existing one is left as it is.

    Raises:
        ConfideError: INVALID_ARGUMENT (the operator's fault): it cannot be made there.
    """
    try:
        # With `parents=True` the parents would get the default mode.
        for missing in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
            missing.mkdir(mode=FOLDER_MODE, exist_ok=True)
        if not path.is_dir():
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path} is not a folder")
    except OSError as error:
        raise _unusable(path, error) from error


def write_secret(path: Path, data: bytes) -> None:
    """Writes a file of mode 0600, atomically and durably.

    Raises:
        ConfideError: DISK_FULL or INVALID_ARGUMENT (the operator's fault): it cannot be written there.
    """
    _write(path, data, mode=SECRET_MODE)


def write_public(path: Path, data: bytes) -> None:
    """Writes a file of mode 0644, atomically and durably.

    Raises:
        ConfideError: DISK_FULL or INVALID_ARGUMENT (the operator's fault): it cannot be written there.
    """
    _write(path, data, mode=PUBLIC_MODE)


def overwrite_start(path: Path, data: bytes) -> None:
    """Overwrites the first bytes of a file in place, durably; a shorter file is overwritten as far as it goes.

    Raises:
        FileNotFoundError: there is none.
        ConfideError: DISK_FULL or INVALID_ARGUMENT (the operator's fault): it cannot be written.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.pwrite(handle, data[: os.fstat(handle).st_size], 0)
            os.fsync(handle)
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unusable(path, error) from error


def read_secret(path: Path, *, max_bytes: int = MAX_KEY_BYTES) -> bytes:
    """Reads a file that nobody but its owner may touch.

    Raises:
        ConfideError: FILE_MODE if its mode lets others in; INVALID_ARGUMENT if it cannot be read, is no file or is too large.
    """
    return _read(path, max_bytes=max_bytes, forbidden=_OTHERS)


def read_public(path: Path, *, max_bytes: int) -> bytes:
    """Reads a file of bounded size.

    Raises:
        ConfideError: INVALID_ARGUMENT (the operator's fault): it cannot be read, is no file or is too large.
    """
    return _read(path, max_bytes=max_bytes, forbidden=0)


@contextmanager
def regular_file(path: Path) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """Opens a file for reading; yields it, and its status when it was opened.

    Raises:
        ConfideError: INVALID_ARGUMENT (the operator's fault): it cannot be read, or is a folder, a pipe or a device.
    """
    try:
        # O_NONBLOCK: opening a pipe or a device must not hang; the check below refuses them.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _unusable(path, error) from error
    status = os.fstat(handle)  # of the file that is open, so nobody can swap it after the check
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path} is not a file")
    with os.fdopen(handle, "rb") as file:
        yield file, status


@contextmanager
def exclusive_lock(path: Path, *, busy: str) -> Iterator[None]:
    """Holds an exclusive lock on a file for the length of a `with` block; the system drops it if the process ends.

    Args:
        path: the lock file; made if missing, never removed (removing it would let two holders in).
        busy: what to say if another process holds it.

    Raises:
        ConfideError: STATE_LOCKED (the operator's fault), at once, without waiting.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, SECRET_MODE)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfideError(ErrorCode.STATE_LOCKED, busy) from error
        yield
    finally:
        os.close(handle)


def _read(path: Path, *, max_bytes: int, forbidden: int) -> bytes:
    with regular_file(path) as (file, status):
        if status.st_mode & forbidden:
            raise ConfideError(ErrorCode.FILE_MODE, f"{path} has mode {stat.S_IMODE(status.st_mode):04o}")
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path} is larger than {max_bytes} bytes")
    return data


def _write(path: Path, data: bytes, *, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(handle, mode)  # whatever the umask is
                file.write(data)
                file.flush()
                os.fsync(handle)
            temporary.replace(path)
        except BaseException:  # nothing half-written stays, whatever stopped the write
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise _unusable(path, error) from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unusable(path: Path, error: OSError) -> ConfideError:
    code = ErrorCode.DISK_FULL if error.errno in _DISK_FAILS else ErrorCode.INVALID_ARGUMENT
    return ConfideError(code, f"{path}: {error.strerror or 'cannot be used'}")
