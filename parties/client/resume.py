"""Takes a training that failed up again: as a new job, from the newest checkpoint that all computing parties hold."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, Resumption
from protocols.session.states import State

if TYPE_CHECKING:
    from parties.client.client import Client, PreparedJob


def resume_job(client: Client, job: Job, now: datetime) -> PreparedJob:
    """Returns the job that goes on where a failed training left off.

    It equals the failed one but for its times, its nonce, the version of the directory, which may have moved on, and what it
    resumes; all its randomness is new. If the failed one was
    itself resumed and made no checkpoint, the one before it is gone back to.

    Args:
        client: the researcher's, whose job it was.
        job: the training that failed.
        now: the time, UTC.

    Raises:
        ConfideError: CHECKPOINT_DIFFERS (the request's fault): no training, one that was not aborted, or the computing parties
            hold no checkpoint in common; a computing party's failure to answer.
    """
    from parties.client.client import PreparedJob

    if job.job_type is not JobType.TRAIN:
        raise ConfideError(ErrorCode.CHECKPOINT_DIFFERS, "only a training makes checkpoints", remedy="Submit the job again.")
    created = now.replace(microsecond=0)
    resumed = replace(
        job,
        directory_version=client.directory.version,
        resumes=_newest(client, job),
        created=created,
        agree_by=created + (job.agree_by - job.created),
        expires=created + (job.expires - job.created),
        nonce=secrets.token_hex(16),
    )
    return PreparedJob(resumed)


def _newest(client: Client, job: Job) -> Resumption:
    heard = [client.progress(job.job_id, party) for party in job.computing_parties]
    for said in heard:
        # Without this, a resumption that was cancelled would be gone back from to the attempt before it.
        if said.state != State.ABORTED.value:
            what = f"job {job.job_id} is {said.state} at {said.party}; only an aborted training is resumed"
            raise ConfideError(ErrorCode.CHECKPOINT_DIFFERS, what, remedy="Look at how it stands; train again if it is wanted.")
    held = [{(kept.run, kept.head) for kept in said.checkpoints} for said in heard]
    common = set.intersection(*held)
    if common:
        run, head = max(common)
        return Resumption(job.job_id, head, run, job.attempt + 1)
    if job.resumes is not None and not any(held):
        return job.resumes
    shown = "; ".join(
        f"{party}: {', '.join(f'run {run} head {head[:12]}' for run, head in sorted(kept)) or 'none'}"
        for party, kept in zip(job.computing_parties, held, strict=True)
    )
    raise ConfideError(ErrorCode.CHECKPOINT_DIFFERS, f"no checkpoint of job {job.job_id} is held by all; held: {shown}")
