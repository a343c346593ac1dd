"""Makes the re-identification report of an owner's file, in the owner's process."""

from __future__ import annotations

import secrets
from pathlib import Path

from parties.raw_file import raw_file
from privacy.preparation.data_contract import DataContract
from privacy.preparation.recipes.row_randomness import SEED_BYTES
from privacy.reidentification.entities import find_entities
from privacy.reidentification.report import ReidentificationReport, report_on
from protocols.errors import ConfideError, ErrorCode
from protocols.secrets import SecretBytes


def report_on_file(file: Path, contract: DataContract) -> ReidentificationReport:
    """Makes the report of a file; keeps nothing and sends nothing.

    Args:
        file: CSV (`.csv`) or Parquet (`.parquet`), secret. Columns that the contract does not have are examined too.
        contract: the roles of its columns.

    Raises:
        ConfideError: INVALID_DATA or FILE_CHANGED (the owner's fault): the file; INVALID_ARGUMENT: it cannot be read;
            SETUP_INCOMPLETE (the operator's): it holds free text, and no detector is installed.
    """
    seed = SecretBytes(secrets.token_bytes(SEED_BYTES))
    with raw_file(file) as table:
        return report_on(table.batches, table.columns(table.names), contract, seed=seed, detect=find_entities)


def write_picture(path: Path, drawn: str) -> None:
    """Writes a picture; a file that is there stays as it is.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): it exists, or cannot be written there.
    """
    try:
        with path.open("x", encoding="utf-8") as out:
            out.write(drawn)
    except FileExistsError:
        remedy = "Name another file, or remove this one."
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path} exists and is not overwritten", remedy=remedy) from None
    except OSError as error:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path}: {error.strerror or 'cannot be written'}") from error
