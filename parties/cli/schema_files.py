"""A schema that is written beside opened means and deviations: with ranges by which rows are shared standardised."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from protocols.errors import ConfideError, ErrorCode
from protocols.row_noise import opens_moments

if TYPE_CHECKING:
    from parties.client.opening import Opened
    from protocols.job import Job


def check_schema_file(job: Job, path: Path | None) -> None:
    """Refuses a file that could not be written, before outputs are fetched, which are handed out once.

    Raises:
        ConfideError: INVALID_ARGUMENT (the researcher's): the job opens no means and deviations, or there is no folder.
    """
    if path is None:
        return
    if not opens_moments(job):
        what = "the job opens no means and deviations"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Leave out --schema, or summarise with groups: all.")
    if not path.absolute().parent.is_dir():
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path}: there is no such folder", remedy="Make it, or name another.")


def write_schema_file(job: Job, opened: Mapping[str, Opened], path: Path | None) -> None:
    """Writes the schema with standardising ranges, if it was asked for; its first line says which job they are from.

    Raises:
        ConfideError: INVALID_ARGUMENT (the researcher's): the file cannot be written.
    """
    import yaml

    from parties.storage.files import write_public
    from privacy.preparation.standardised import DEFAULT_REACH, released_schema

    if path is None:
        return
    moments = opened[job.outputs[0].name]
    made = released_schema(job, moments.value.astype("float64"))
    head = f"# Ranges: {DEFAULT_REACH:g} deviations around the means that job {job.job_id} opened with noise.\n"
    write_public(path, (head + yaml.safe_dump(made.to_document(), sort_keys=False)).encode())
