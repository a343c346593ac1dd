"""What a training is prepared with, as its researcher asks for it; what no owner could believe is refused at once.

Owners compare a named job with their own records, and make ranges that a schema claims again by the shares that were opened. An
owner that took no part in the job, and a researcher that has not those shares, cannot be helped later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from governance.prepared_with import preparation_of
from parties.client.released_moments import released_by
from privacy.preparation.standardised import claimed_job
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import DatasetRef, Job, Preparation
from protocols.row_noise import opens_moments

if TYPE_CHECKING:
    from parties.client.client import Client


def preparations_of(
    client: Client, named: Sequence[str], *, schema_name: str, rows: Sequence[DatasetRef]
) -> tuple[Preparation, ...]:
    """Returns what a training is prepared with: the jobs that its request names, and the one that its schema claims.

    Args:
        client: of the researcher, who keeps the jobs and what they released.
        named: ids of jobs.
        schema_name: of the training's rows.
        rows: of the training.

    Raises:
        ConfideError: UNKNOWN_JOB: she has not submitted one of them; INVALID_JOB (hers), with all problems: an owner of the rows
            took no part in one, or what a claimed job released is not kept here.
    """
    released = released_by(client.folder, schema_name)
    jobs = {job.job_id: job for job in (client.job(job_id) for job_id in (*named, *released))}
    claimed = claimed_job(schema_name)
    problems = [problem for job in jobs.values() for problem in _unknown_to(job, rows)]
    if claimed and not released and (job := _submitted(client, claimed)) is not None and opens_moments(job):
        what = (
            f"its ranges are from job {job.job_id}, and the shares that prove them to the owners are not kept in {client.folder}"
        )
        problems.append(Problem("schema", what, f"fetch them: `confide job result {job.job_id} --schema FILE`"))
    if problems:
        what = "the owners would refuse what the training says that it was prepared with"
        raise ConfideError(ErrorCode.INVALID_JOB, what, problems=problems)
    return tuple(preparation_of(job, released.get(job_id, ())) for job_id, job in sorted(jobs.items()))


def preparation_notes(job: Job) -> tuple[str, ...]:
    """Returns what a researcher should know before she submits a job that serves to prepare trainings; empty for other jobs."""
    if not opens_moments(job):
        return ()
    owners = ", ".join(sorted({ref.party for ref in job.datasets}))
    return (
        f"a training can be prepared with it only if all owners of its rows bring rows here: {owners}; of others, nobody knows "
        f"this job. When it has completed, `confide job result {job.job_id} --schema FILE` writes the ranges, and keeps the "
        "shares that prove them",
    )


def _unknown_to(job: Job, rows: Sequence[DatasetRef]) -> list[Problem]:
    missing = sorted({ref.party for ref in rows} - {ref.party for ref in job.datasets})
    if not missing:
        return []
    who = " and ".join(missing)
    what = f"{who} had no rows in it, and refuses a training that names it"
    return [Problem(f"prepared_with.{job.job_id[:12]}", what, f"prepare anew with rows of {who} too, or train without them")]


def _submitted(client: Client, beginning: str) -> Job | None:
    try:
        return client.job(beginning)
    except ConfideError as error:
        if error.code is not ErrorCode.UNKNOWN_JOB:
            raise
        return None  # not hers, or no job at all: a schema may be called so by chance, and the owners know
