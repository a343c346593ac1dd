"""What an owner checks of an assessment before it believes one: that it was of the rows that it says, and what it opened.

Which rows a model was trained on stands in its trainings. An assessment that calls others its members would show a model as
harmless that is not. A researcher opens the counts and hands an owner the shares; the commitments to them stand in the ending
that the owner's party keeps, so it opens the counts too, and believes nobody's figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from governance.admission import Finding
from governance.documents import SignedDocument
from governance.opened_assessment import WRITE_AGAIN, OpenedAssessment, committed_shares
from governance.opening import open_committed
from parties.lineage import trainings_behind_job
from parties.storage.database import Tables
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import TIME_FORMAT, DatasetRef, Job, JobType
from protocols.session.endings import Ending
from protocols.session.states import State


def assessment_findings(tables: Tables, job: Job, *, party: str) -> Iterator[Finding]:
    """Yields which data sets of an assessment are on the wrong side, as far as the trainings behind its model are known here.

    Another version of a data set that was trained on holds the same people, so it is none of the others either; nor is one of
    the same population, which only its owner knows: members among the others hide what the attack finds.

    Args:
        tables: of the transaction in which the job is decided; nothing is written.
        job: of any type.
        party: this one.
    """
    if job.assessment is None or job.model_ref is None:
        return
    trained = {
        dataset
        for made in tables.jobs.starting_with(job.model_ref.version)
        if Job.from_bytes(made.document).produced_model == job.model_ref
        for facts in trainings_behind_job(tables, made.job_id).values()
        for dataset in facts.job.datasets
    }
    populations = tables.datasets.populations()

    def people_of(dataset: DatasetRef) -> tuple[str, str]:
        return dataset.party, populations.get(dataset.name, dataset.name) if dataset.party == party else dataset.name

    exactly = {(dataset.party, dataset.name, dataset.version) for dataset in trained}
    people = {people_of(dataset) for dataset in trained}
    for place, dataset in enumerate(job.datasets if trained else ()):
        label = f"{dataset.party}/{dataset.name}/{dataset.version}"
        if place in job.assessment.members:
            if (dataset.party, dataset.name, dataset.version) not in exactly:
                what = f"{job.model_ref.label} was not trained on {label}"
                yield Finding(ErrorCode.INVALID_JOB, Problem("assessment.members", what, "name it without calling it a member"))
        elif people_of(dataset) in people:
            what = f"{job.model_ref.label} was trained on {label}, on another version of it, or on rows of the same people"
            yield Finding(ErrorCode.INVALID_JOB, Problem("assessment.members", what, "add it to the members, or leave it out"))


@dataclass(frozen=True, eq=False)
class AssessedHere:
    """An assessment that a party took part in, with the counts that it has opened itself.

    Attributes:
        job: the assessment.
        counts: (thresholds, 2) int64; -1 where withheld; for the owners and the researcher alone.
        ended: when it ended, UTC.
    """

    job: Job
    counts: NDArray[np.float64] | NDArray[np.int64] = field(repr=False)
    ended: datetime


def open_assessed(tables: Tables, opened: OpenedAssessment, *, party: str) -> AssessedHere:
    """Opens the counts of an assessment by this party's own record of its ending.

    Args:
        tables: of one transaction of a party that took part; nothing is written.
        opened: what a researcher hands to the owners.
        party: this one.

    Learns: this party the counts, which only the researcher knew before.

    Raises:
        ConfideError: UNKNOWN_JOB (the report's author's fault): no such assessment has completed here; INVALID_DOCUMENT
            (likewise): its members were not those that the model was trained on, an opening is missing or is of somebody else,
            or a share is not the one that was committed to when the assessment ended.
    """
    record = tables.jobs.find(opened.job_id)
    document = tables.jobs.ending(opened.job_id)
    job = None if record is None else Job.from_bytes(record.document)
    ending = None if document is None else Ending.from_document(SignedDocument.from_bytes(document).document)
    if job is None or ending is None or job.job_type is not JobType.ASSESS or ending.state is not State.COMPLETED:
        what = f"no completed assessment {opened.job_id[:12]} is known here"
        remedy = "Bring the report of one that this party took part in, as `confide job result --report` wrote it."
        raise ConfideError(ErrorCode.UNKNOWN_JOB, what, remedy=remedy)
    problems = [finding.problem for finding in assessment_findings(tables, job, party=party)]
    if problems:
        what = f"job {job.job_id[:12]} attacked other rows than the model's"
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, what, problems=problems)
    shares = committed_shares(opened, job)
    try:
        counts = open_committed(job, job.outputs[0], shares, commitments=ending.commitments)
    except ConfideError as error:
        # Whose share it is, is no party's fault: the file is the word of whoever brings it.
        what = f"the openings are not those of job {job.job_id[:12]} as it ended here: {error.what}"
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, what, remedy=WRITE_AGAIN) from error
    return AssessedHere(job, counts, datetime.strptime(ending.time, TIME_FORMAT).replace(tzinfo=UTC))
