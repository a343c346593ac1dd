"""Opens an owner's raw file as it lies on the disk, and writes documents that people keep beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from parties.storage.files import read_public, regular_file
from privacy.preparation.contract_file import MAX_CONTRACT_BYTES, contract_from_yaml
from privacy.preparation.data_contract import DataContract
from privacy.preparation.raw import RawTable, open_raw
from privacy.preparation.table import FileFormat
from protocols.errors import ConfideError, ErrorCode

_FORMATS = {".csv": FileFormat.CSV, ".parquet": FileFormat.PARQUET}


@dataclass(frozen=True)
class RawSource:
    """An open raw file, secret, what messages call it, and how it is written."""

    file: BinaryIO
    name: str
    file_format: FileFormat


@contextmanager
def raw_source(path: Path) -> Iterator[RawSource]:
    """Opens a raw file, secret; at the end of the block, the path must still lead to it, unchanged.

    What is read may be compared byte by byte elsewhere; this also finds a file that was replaced by another.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): not to be read, or no file of rows; FILE_CHANGED (the owner's).
    """
    file_format = format_of(path)
    with regular_file(path) as (file, before):
        yield RawSource(file, path.name, file_format)
        try:
            after = path.stat()
        except OSError:
            after = None
        if after is None or _state(before) != _state(after):
            raise ConfideError(ErrorCode.FILE_CHANGED, f"{path.name} changed while it was read; nothing was kept of it")


@contextmanager
def raw_file(path: Path) -> Iterator[RawTable]:
    """Opens a file of rows, secret, for as long as the context lasts.

    Raises:
        ConfideError: as for `raw_source`; INVALID_DATA (the owner's): the file as a whole.
    """
    with raw_source(path) as source:
        yield open_raw(source.file, file_format=source.file_format, name=source.name)


def format_of(path: Path) -> FileFormat:
    """Returns how a file of rows is written, by the end of its name.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): neither `.csv` nor `.parquet`.
    """
    found = _FORMATS.get(path.suffix.lower())
    if found is None:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path} is neither a .csv nor a .parquet file")
    return found


def read_contract_file(path: Path) -> DataContract:
    """Reads a contract (YAML).

    Raises:
        ConfideError: INVALID_CONTRACT (the author's fault); INVALID_ARGUMENT: it cannot be read.
    """
    return contract_from_yaml(read_public(path, max_bytes=MAX_CONTRACT_BYTES))


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Writes a document as YAML for people, keys in their order; a file that is there stays as it is.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): it exists, or cannot be written there.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            yaml.safe_dump(dict(document), file, sort_keys=False, allow_unicode=True, width=100)
    except FileExistsError:
        remedy = "Name another file, or remove this one."
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path} exists and is not overwritten", remedy=remedy) from None
    except OSError as error:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path}: {error.strerror or 'cannot be written'}") from error


def _state(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
