"""Opens an owner's raw file for reading in batches, and writes documents that people keep beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from parties.storage.files import read_public
from privacy.preparation.contract_file import MAX_CONTRACT_BYTES, contract_from_yaml
from privacy.preparation.data_contract import DataContract
from privacy.preparation.raw import RawTable, open_raw
from privacy.preparation.table import FileFormat
from protocols.errors import ConfideError, ErrorCode

_FORMATS = {".csv": FileFormat.CSV, ".parquet": FileFormat.PARQUET}


@contextmanager
def raw_file(path: Path) -> Iterator[RawTable]:
    """Opens a file of rows, secret, for as long as the context lasts.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): neither `.csv` nor `.parquet`, or not to be read; INVALID_DATA (the
            owner's): the file as a whole.
    """
    file_format = format_of(path)
    try:
        source = path.open("rb")
    except OSError as error:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path}: {error.strerror or 'cannot be read'}") from error
    with source:
        yield open_raw(source, file_format=file_format, name=path.name)


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
