"""What a researcher keeps of released means and deviations: the opened shares, by which owners check the ranges made of them.

They lie in her folder under `released`, one file for each job (mode 0600), and go into the job of every training whose schema
claims that job.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from governance.commitments import CommittedShare
from parties.storage.files import make_folder, read_secret, write_secret
from privacy.preparation.standardised import claimed_job
from protocols.canonical import MAX_DOCUMENT_BYTES, canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.job_parts import PreparedOpening

_FOLDER = "released"
_NAMES = {"party", "share", "nonce"}
_JOB = re.compile(r"[0-9a-f]{32}")


def keep_released(folder: Path, job_id: str, shares: Sequence[CommittedShare]) -> None:
    """Keeps the shares of means and deviations that were opened.

    Args:
        folder: the researcher's.
        job_id: that released them.
        shares: one of each computing party; whoever has them has the figures.

    Raises:
        ConfideError: INVALID_ARGUMENT: the file cannot be written.
    """
    openings = [{"party": each.party, "share": each.share.hex(), "nonce": each.nonce.hex()} for each in shares]
    make_folder(folder / _FOLDER)
    write_secret(folder / _FOLDER / f"{job_id}.json", canonical_bytes({"openings": openings}))


def released_by(folder: Path, schema_name: str) -> dict[str, tuple[PreparedOpening, ...]]:
    """Returns the kept openings of the job that a schema claims by its name, by the job's id; empty if there is none.

    Raises:
        ConfideError: INVALID_ARGUMENT (the researcher's): a file that was kept cannot be read.
    """
    claimed = claimed_job(schema_name)
    files = sorted((folder / _FOLDER).glob(f"{claimed}*.json")) if claimed else []
    return {file.stem: tuple(_openings(file)) for file in files if _JOB.fullmatch(file.stem)}


def _openings(file: Path) -> Iterable[PreparedOpening]:
    try:
        document: Any = json.loads(read_secret(file, max_bytes=MAX_DOCUMENT_BYTES))
        entries = document["openings"]
        if not all(set(entry) == _NAMES and all(isinstance(text, str) for text in entry.values()) for entry in entries):
            raise ValueError("an opening has a party, a share and a nonce")
    except (ValueError, TypeError, KeyError) as error:
        what = f"{file} is not what was kept of released figures: {error}"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Restore it from a backup.") from error
    return (PreparedOpening(**entry) for entry in entries)
