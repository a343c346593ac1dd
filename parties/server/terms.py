"""Jobs and failures in the terms of the session machine, and how a defect around it is logged."""

from __future__ import annotations

import json

import structlog

from parties import defect
from parties.server.capacity import need_of
from parties.server.slots import Applicant
from protocols.errors import ConfideError
from protocols.job import Job
from protocols.session.events import JobRefused
from protocols.session.machine import SessionMachine
from protocols.session.messages import FailureReport
from protocols.session.spec import SessionSpec
from protocols.session.states import State

_log = structlog.get_logger()


def spec_of(job: Job) -> SessionSpec:
    """Returns what is fixed about the session of a job; the same at every participant."""
    return SessionSpec(
        session=job.job_id,
        job_digest=job.digest,
        participants=job.participants,
        committers=job.computing_parties,
        outputs=tuple(output.name for output in job.closing_outputs),
        querier=job.querier,
        attempt=job.attempt,
        agree_by=job.agree_by.timestamp(),
        start_by=job.expires.timestamp(),
    )


def applicant_of(job: Job, *, party: str, memory_bytes: int) -> Applicant:
    """Returns the session of a job as one that wants a slot of a party."""
    need = need_of(job, party=party, memory_bytes=memory_bytes)
    return Applicant(job.job_id, job.querier, job.created.timestamp(), need)


def snapshot_text(machine: SessionMachine) -> str:
    """Returns the machine's snapshot as it is stored; equal snapshots give equal texts."""
    return json.dumps(machine.snapshot(), sort_keys=True)


def refusal(error: ConfideError) -> JobRefused:
    """Returns the event for a job that this party's check refused, with all reasons in one text."""
    text = "; ".join([error.what, *(str(problem) for problem in error.problems)])
    return JobRefused(FailureReport(error.code, State.PROPOSED, error.party, text))


def log_defect(job_id: str, on: str, error: Exception) -> None:
    """Logs what failed around a session: class and places, and the text only where it is public."""
    what = error.what if isinstance(error, ConfideError) else ""
    _log.error("defect", job=job_id, on=on, path=defect.path(error), error=type(error).__name__, what=what)
