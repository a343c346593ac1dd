"""Whether a party takes part in a job: every check that the party makes for itself, whatever the client or the lead say.

Pure: the directory, the party's own holdings and the time are arguments. All findings are reported at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from governance.identity.directory import Directory
from governance.identity.names import Role
from governance.private_rows import people_problems, protects_persons, row_problems, rows_counted
from privacy.accounting.statement import claim_problems
from privacy.preparation.fit import fit_or_refuse
from privacy.preparation.parts import check_part
from privacy.preparation.schema import TableSchema
from protocols.canonical import canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import DatasetRef, Job, JobType, ModelRef, Partition, Resumption
from protocols.row_noise import stands_in_for_minimum
from protocols.session.states import State
from protocols.training import OptimiserKind

# Clocks of honest parties may differ by this much.
CLOCK_SKEW = timedelta(minutes=5)
# A job waits in the order of the times that queriers write: none may be dated back by more than this.
SUBMITTED_WITHIN = timedelta(minutes=10)


@dataclass(frozen=True)
class ModelFacts:
    """What a computing party knows of a model that it holds a share of; public.

    Attributes:
        computing_parties: who holds the shares, in order.
        manifest: canonical bytes of the architecture.
        schema_digest: of the rows.
        steps: of training behind it.
        optimiser: whose state is kept beside its weights.
    """

    computing_parties: tuple[str, ...]
    manifest: bytes
    schema_digest: str
    steps: int
    optimiser: OptimiserKind


@dataclass(frozen=True)
class PastJob:
    """What a party knows of the job that another one resumes; public.

    Attributes:
        job: its document.
        state: where it stands here.
        checkpoints: run and head of the checkpoints of which the party holds its shares.
    """

    job: Job
    state: State
    checkpoints: frozenset[tuple[int, str]]


@dataclass(frozen=True)
class Holdings:
    """What the party itself brings to a job.

    Attributes:
        party: its id.
        datasets: its registered data sets, by name, newest version.
        models: the models it holds shares of.
        min_evaluation_rows: fewer rows are never evaluated: a count over few rows says too much about each.
        max_rows: a job over more rows, of all owners together, is refused.
        max_query_rows: an inference over more samples is refused.
        servings: older servings of the job's model that are open here, this job aside.
        max_servings: so many servings of one model may be open here at once.
        min_cell: no output of an evaluation of its rows may tell of fewer rows.
        resumed: the job that this one resumes, if the party knows it.
        schemas: of those data sets, by name.
        prepared: the statements of preparation of those that were prepared, as documents, by name.
        rows_per_person: so many rows one person has at most in those where it is known, by name; over all of the job's data sets
            of the same people, where their rows stand below each other.
    """

    party: str
    datasets: Mapping[str, DatasetRef]
    models: Mapping[ModelRef, ModelFacts]
    min_evaluation_rows: int
    max_rows: int
    max_query_rows: int
    servings: int
    max_servings: int
    min_cell: int
    resumed: PastJob | None
    schemas: Mapping[str, TableSchema]
    prepared: Mapping[str, Mapping[str, Any]]
    rows_per_person: Mapping[str, int]


@dataclass(frozen=True)
class Finding:
    """One reason not to take part."""

    code: ErrorCode
    problem: Problem


def admit(job: Job, *, directory: Directory, holdings: Holdings, now: datetime) -> None:
    """Checks a job whose querier's signature has been verified.

    Raises:
        ConfideError: with every problem; the code is that of the first.
    """
    findings = tuple(examine(job, directory=directory, holdings=holdings, now=now))
    if findings:
        problems = [finding.problem for finding in findings]
        what = f"{holdings.party} refuses the job for {len(problems)} reason(s)"
        raise ConfideError(findings[0].code, what, problems=problems, party=holdings.party)


def demand_new(job: Job, *, now: datetime) -> None:
    """Checks that a job which its querier brings for the first time was made a short while ago.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault).
    """
    age = now - job.created
    if age > SUBMITTED_WITHIN:
        what = f"made {age.total_seconds() / 60:.0f} minutes ago; a job is submitted within {SUBMITTED_WITHIN.seconds // 60}"
        problem = Problem("created", what, "make a new one, or set the clock")
        raise ConfideError(ErrorCode.INVALID_JOB, "the job was made too long ago", problems=[problem])


def examine(job: Job, *, directory: Directory, holdings: Holdings, now: datetime) -> Iterable[Finding]:
    """Yields every reason for which this party would not take part."""
    if job.consortium != directory.consortium:
        yield _finding(ErrorCode.INVALID_JOB, "consortium", f"this is a party of {directory.consortium}", "use its directory")
    if job.directory_version != directory.version:
        what = f"the job was made with version {job.directory_version}, this party holds {directory.version}"
        yield _finding(ErrorCode.STALE_DIRECTORY, "directory_version", what, "import the newest directory everywhere")
    if job.querier not in {researcher.id for researcher in directory.researchers}:
        yield _finding(ErrorCode.NOT_ENROLLED, "querier", f"{job.querier} is no researcher of the consortium", "enrol first")
    yield from _roles(job, directory)
    if now > job.expires:
        yield _finding(ErrorCode.JOB_EXPIRED, "expires", "the job has expired", "submit a new one")
    if job.created > now + CLOCK_SKEW:
        yield _finding(ErrorCode.INVALID_JOB, "created", "the job was made in the future", "set the clocks")
    yield from _datasets(job, holdings)
    yield from _model(job, holdings)
    yield from _fit(job)
    for problem in claim_problems(job):
        yield Finding(ErrorCode.INVALID_JOB, problem)
    if job.num_rows > holdings.max_rows:
        what = f"{job.num_rows} rows; this party takes part in jobs over at most {holdings.max_rows}"
        yield _finding(ErrorCode.INVALID_JOB, "datasets", what, "use fewer rows")
    if (job.query_rows or 0) > holdings.max_query_rows:
        what = f"{job.query_rows} samples; this party predicts at most {holdings.max_query_rows} at once"
        yield _finding(ErrorCode.INVALID_JOB, "query_rows", what, "submit several jobs")
    if job.serving is not None and holdings.servings >= holdings.max_servings:
        what = f"{holdings.servings} serving(s) of this model are open here; {holdings.party} permits {holdings.max_servings}"
        yield _finding(ErrorCode.PARTY_BUSY, "serving", what, "wait until another has ended, or submit an inference")
    if job.job_type in (JobType.EVALUATE, JobType.ASSESS, JobType.SUMMARISE):
        yield from _evaluation(job, holdings)
    if job.resumes is not None:
        yield from _resumption(job, job.resumes, holdings)


def _roles(job: Job, directory: Directory) -> Iterable[Finding]:
    wanted = [(party, Role.COMPUTING, "computing_parties") for party in job.computing_parties]
    wanted.append((job.dealer, Role.DEALER, "dealer"))
    wanted += [(dataset.party, Role.DATA_OWNER, "datasets") for dataset in job.datasets]
    for party, role, where in dict.fromkeys(wanted):
        if party not in directory.with_role(role):
            what = f"{party} has not the role {role.value} in the directory"
            yield _finding(ErrorCode.NOT_AUTHORISED, where, what, "choose a party with that role")


def _datasets(job: Job, holdings: Holdings) -> Iterable[Finding]:
    for position, dataset in enumerate(job.datasets):
        if dataset.party != holdings.party:
            continue
        where, known = f"datasets.{dataset.party}.{dataset.name}", holdings.datasets.get(dataset.name)
        if known is None:
            yield _finding(ErrorCode.UNKNOWN_DATASET, where, "not registered here", "register it, or correct the name")
        elif known != dataset:
            what = f"the description is not that of version {known.version}"
            yield _finding(ErrorCode.INVALID_JOB, where, what, "fetch the owner's description again")
        else:
            if job.partition is Partition.COLUMNS:
                yield from _part(job, position, holdings.schemas[dataset.name])
            for problem in _rows_of_people(job, dataset, holdings, where=where):
                yield Finding(ErrorCode.INVALID_JOB, problem)


def _rows_of_people(job: Job, dataset: DatasetRef, holdings: Holdings, *, where: str) -> Iterable[Problem]:
    """Noise about rows is for few rows of one person: how they were made, and whose they are, only their owner knows."""
    counted = rows_counted(job)
    if counted is None:
        return
    yield from row_problems(counted, holdings.prepared.get(dataset.name), where=where)
    if protects_persons(job):
        yield from people_problems(counted, holdings.rows_per_person.get(dataset.name), where=where)


def _part(job: Job, position: int, schema: TableSchema) -> Iterable[Finding]:
    """Nobody but the owner knows which columns its data set really has."""
    try:
        for problem in check_part(job, position, schema):
            yield Finding(ErrorCode.INVALID_JOB, problem)
    except ConfideError:
        return  # the joined schema cannot be read or has no label: the fit reports it


def _model(job: Job, holdings: Holdings) -> Iterable[Finding]:
    if job.model_ref is None or holdings.party not in job.computing_parties:
        return
    label = job.model_ref.label
    facts = holdings.models.get(job.model_ref)
    if facts is None:
        yield _finding(ErrorCode.UNKNOWN_MODEL, "model_ref", f"no share of {label} is held here", "check name and version")
        return
    if facts.computing_parties != job.computing_parties:
        what = f"shares of {label} are held by {', '.join(facts.computing_parties)}, in this order"
        yield _finding(ErrorCode.INVALID_JOB, "computing_parties", what, "name exactly these")
    if facts.manifest != canonical_bytes(job.model.to_document()):
        yield _finding(ErrorCode.INVALID_JOB, "model", f"the architecture is not that of {label}", "use the model's manifest")
    if facts.schema_digest != sha256_hex(canonical_bytes(job.schema)):
        yield _finding(ErrorCode.INVALID_JOB, "schema", f"the schema is not that of {label}", "use the model's schema")
    if job.training is not None and job.training.steps_before != facts.steps:
        what = f"{label} has {facts.steps} steps behind it, not {job.training.steps_before}"
        yield _finding(ErrorCode.INVALID_JOB, "training.steps_before", what, f"write {facts.steps}")
    if job.training is not None and OptimiserKind.ADAM is job.training.optimiser.kind is not facts.optimiser:
        # Adam corrects its means by the steps they have seen; it has seen none of these.
        what = f"{label} was trained by {facts.optimiser.value} and holds no state that Adam could go on with"
        yield _finding(ErrorCode.INVALID_JOB, "training.optimiser", what, f"continue with {facts.optimiser.value}")


def _evaluation(job: Job, holdings: Holdings) -> Iterable[Finding]:
    if job.num_rows < holdings.min_evaluation_rows:
        what = f"{job.num_rows} rows; this party opens counts over at least {holdings.min_evaluation_rows}"
        yield _finding(ErrorCode.NOT_ENOUGH_ROWS, "datasets", what, "evaluate on more rows")
    if holdings.party in {dataset.party for dataset in job.datasets}:
        for output in job.outputs:
            if output.min_cell < holdings.min_cell:
                what = f"may tell of {output.min_cell} row(s); {holdings.party} permits at least {holdings.min_cell}"
                where = f"outputs.{output.name}.min_cell"
                yield _finding(ErrorCode.NOT_ENOUGH_ROWS, where, what, f"write at least {holdings.min_cell}")
            if not stands_in_for_minimum(output):
                # Else next to no noise would be a way around the rules for exact counts, which noise switches off.
                what = f"noise {output.noise} does not hide that a count is of fewer rows than its minimum cell {output.min_cell}"
                remedy = f"write at least {Decimal(output.min_cell) / 2:f}, or a smaller min_cell"
                yield _finding(ErrorCode.NOT_ENOUGH_ROWS, f"outputs.{output.name}.noise", what, remedy)


def _resumption(job: Job, resumes: Resumption, holdings: Holdings) -> Iterable[Finding]:
    """Only what failed is taken up again, from a checkpoint held here, and as what it was.

    A training that completed has its model; one that was cancelled is not wanted any more and its checkpoints are destroyed;
    one that was rejected or expired never ran. So only an aborted one can be resumed.
    """
    past, computes = holdings.resumed, holdings.party in job.computing_parties
    if past is None:
        if computes:
            what = f"job {resumes.job_id[:12]} is not known here"
            yield _finding(ErrorCode.CHECKPOINT_DIFFERS, "resumes.job_id", what, "train again from the beginning")
        return
    before = past.job
    # The directory may have moved on between the attempts; against the one in force the job is checked above.
    same = replace(
        job,
        directory_version=before.directory_version,
        agreement=before.agreement,
        resumes=before.resumes,
        created=before.created,
        agree_by=before.agree_by,
        expires=before.expires,
        nonce=before.nonce,
    )
    if same != before:
        differing = ", ".join(field.name for field in fields(Job) if getattr(same, field.name) != getattr(before, field.name))
        what = f"not the training that job {resumes.job_id[:12]} was: {differing}"
        yield _finding(ErrorCode.INVALID_JOB, "resumes", what, "resume it unchanged, or train again from the beginning")
    if resumes.attempt != before.attempt + 1:
        what = f"attempt {resumes.attempt} after attempt {before.attempt}"
        yield _finding(ErrorCode.INVALID_JOB, "resumes.attempt", what, f"write {before.attempt + 1}")
    if past.state is not State.ABORTED:
        what = f"job {resumes.job_id[:12]} is {past.state.value}; only an aborted training is resumed"
        yield _finding(ErrorCode.CHECKPOINT_DIFFERS, "resumes.job_id", what, "look at how it ended")
    if computes and (resumes.run, resumes.head) not in past.checkpoints:
        held = ", ".join(f"run {run} head {head[:12]}" for run, head in sorted(past.checkpoints, reverse=True)) or "none"
        what = f"no checkpoint of run {resumes.run} with head {resumes.head[:12]} is held here; held: {held}"
        yield _finding(ErrorCode.CHECKPOINT_DIFFERS, "resumes", what, "name one that all computing parties hold")


def _fit(job: Job) -> Iterable[Finding]:
    """What the labels are, and so what is predicted, follows from the schema and not from the querier's word."""
    for code, problem in fit_or_refuse(job):
        yield Finding(code, problem)


def _finding(code: ErrorCode, where: str, what: str, remedy: str) -> Finding:
    return Finding(code, Problem(where, what, remedy))
