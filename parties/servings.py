"""Servings as people of an institution end them; beside a serving party, on the same database."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from governance.people.roles import Action
from parties.authority import authorise, keep_authorisation
from parties.config import PartyConfig
from parties.storage.database import one_transaction
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job


def end_serving(config: PartyConfig, person_folder: Path, job_id: str, *, now: datetime) -> Job:
    """Has a person of a computing party end a serving: queries under way are answered, and then it ends everywhere.

    The serving party notices within seconds. What was not used goes back into every holder's budget.

    Args:
        config: the party's.
        person_folder: hers, with her secret key.
        job_id: the serving's job, or the beginning of its id.
        now: the time, UTC.

    Returns:
        The serving.

    Raises:
        ConfideError: UNKNOWN_JOB (the asker's fault): no open serving, or several; INVALID_ARGUMENT: this party does not compute
            in it; NOT_AUTHORISED or BAD_SIGNATURE (the person's), see `authorise`; as the database.
    """
    with one_transaction(config.folder.database_file) as tables:
        listed = (Job.from_bytes(record.document) for record in tables.jobs.without_ending())
        found = [job for job in listed if job.serving is not None and job.job_id.startswith(job_id)]
    if len(found) != 1 or not job_id:
        what = "several open servings begin" if found else "no open serving of this party begins"
        raise ConfideError(ErrorCode.UNKNOWN_JOB, f"{what} with {job_id[:32]!r}")
    job = found[0]
    if config.party not in job.computing_parties:
        what = f"{config.party} computes nothing in it; {', '.join(job.computing_parties)} can end it"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Ask one of them, or revoke what your consent rests on.")
    signed = authorise(config, person_folder, Action.END_SERVING, job.job_id, now)
    with one_transaction(config.folder.database_file) as tables:
        keep_authorisation(tables, signed, now=now)
        tables.serving.ask_to_stop(job.job_id, now)
    return job
