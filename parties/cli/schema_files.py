"""A schema that is written beside opened means and deviations: with ranges by which rows are shared standardised."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from protocols.errors import ConfideError, ErrorCode
from protocols.private_job_checks import contributors
from protocols.row_noise import opened_deviation, opens_moments

if TYPE_CHECKING:
    from parties.client.client import Values
    from protocols.job import Job

_NAME_CHARS = 63
_JOB_DIGITS = 12


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


def write_schema_file(job: Job, values: Mapping[str, Values], path: Path | None) -> None:
    """Writes the schema with standardising ranges, if it was asked for; its first line says which job they are from.

    Raises:
        ConfideError: INVALID_ARGUMENT (the researcher's): the file cannot be written.
    """
    import yaml

    from parties.storage.files import write_public
    from privacy.preparation.schema import TableSchema
    from privacy.preparation.standardised import DEFAULT_REACH, least_deviation, standardised_schema

    if path is None:
        return
    usual = TableSchema.from_document(job.schema)
    suffix = f"-{job.job_id[:_JOB_DIGITS]}"
    name = usual.name[: _NAME_CHARS - len(suffix)].rstrip("-") + suffix
    least = least_deviation(opened_deviation(job, owners=len(contributors(job))), job.num_rows)
    made = standardised_schema(usual, values[job.outputs[0].name].astype("float64"), name=name, least=least)
    head = f"# Ranges: {DEFAULT_REACH:g} deviations around the means that job {job.job_id} opened with noise.\n"
    write_public(path, (head + yaml.safe_dump(made.to_document(), sort_keys=False)).encode())
