"""What a party knows of the jobs that a training says it was prepared with: from its own records, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from governance.admission import Finding
from governance.documents import SignedDocument
from governance.prepared_with import PastPreparation, preparation_problems
from parties.lineage import trainings_behind_job
from parties.storage.database import Tables
from privacy.preparation.standardised import claimed_job
from protocols.errors import ErrorCode
from protocols.job import Job, JobType
from protocols.row_noise import opens_moments
from protocols.session.endings import Ending
from protocols.session.states import State


def preparation_findings(tables: Tables, job: Job, *, party: str) -> Iterator[Finding]:
    """Yields why this party does not believe what a training was prepared with; nothing for other jobs.

    Args:
        tables: of the transaction in which the job is decided; nothing is written.
        job: of any type.
        party: this one.
    """
    if job.job_type is not JobType.TRAIN:
        return
    named = {preparation.job for preparation in job.prepared_with}
    claimed = claimed_job(str(job.schema.get("name", "")))
    if claimed:
        named |= {record.job_id for record in tables.jobs.starting_with(claimed)}
    if not named:
        return
    populations = tables.datasets.populations()
    known = {job_id: found for job_id in sorted(named) if (found := _past(tables, job_id, populations, party)) is not None}
    people = _people(job, populations, party)
    if job.training is not None and job.training.privacy is not None:
        known = {
            job_id: replace(past, rests_on=tuple(_rests_on(tables, past.job, populations, party, people)))
            for job_id, past in known.items()
        }
    for problem in preparation_problems(job, known, people=people):
        yield Finding(ErrorCode.INVALID_JOB, problem)


def _past(tables: Tables, job_id: str, populations: dict[str, str], party: str) -> PastPreparation | None:
    record = tables.jobs.find(job_id)
    if record is None:
        return None
    document, past = tables.jobs.ending(job_id), Job.from_bytes(record.document)
    commitments = {} if document is None else Ending.from_document(SignedDocument.from_bytes(document).document).commitments
    return PastPreparation(past, State(record.state), commitments, _people(past, populations, party))


def _rests_on(tables: Tables, past: Job, populations: dict[str, str], party: str, people: frozenset[str]) -> Iterator[str]:
    """What a job's model and ranges were made of, on rows of these people, by id, as far as it is known here.

    What a training was prepared with is counted with it already; a summary and an evaluation name nothing.
    """
    ref, claimed = past.model_ref, claimed_job(str(past.schema.get("name", "")))
    found: dict[str, tuple[Job, str]] = {}
    for made in () if ref is None else tables.jobs.starting_with(ref.version):
        if Job.from_bytes(made.document).produced_model == ref:
            found |= {job_id: (facts.job, facts.state) for job_id, facts in trainings_behind_job(tables, made.job_id).items()}
    for made in tables.jobs.starting_with(claimed) if claimed and past.job_type is not JobType.TRAIN else ():
        if opens_moments(release := Job.from_bytes(made.document)):
            found[made.job_id] = (release, made.state)
    for job_id, (job, state) in sorted(found.items()):
        if state == State.COMPLETED.value and people & _people(job, populations, party):
            yield job_id


def _people(job: Job, populations: dict[str, str], party: str) -> frozenset[str]:
    """The populations of a party's own rows in a job; a data set that is not registered any more stands for itself."""
    return frozenset(populations.get(each.name, each.name) for each in job.datasets if each.party == party)
