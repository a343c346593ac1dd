"""A sweep: one private training after the other with different noise, each evaluated jointly and, if asked for, attacked.

Nothing about it is special to the parties: every training, evaluation and assessment is an ordinary job, which each of them
checks, may refuse and charges. What all of them together charge is known before the first, since epsilon follows from the terms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

from governance.budget.amounts import NOTHING, Amount, charges, dataset_account
from parties.client.handle import failure_of
from parties.client.risk import risk_of
from parties.client.sweep_rows import Step, SweepRow
from privacy.utility.report import opened_figures
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.private_training import PrivateTraining
from protocols.session.messages import Ending
from protocols.session.states import State

if TYPE_CHECKING:
    from parties.client.calls import PreparedJob, Values
    from parties.client.requests import AssessRequest, EvaluateRequest, TrainRequest
    from privacy.figures import Figure

Measure = Literal["roc_auc", "correct_count"]
MEASURES: Mapping[Measure, str] = {"roc_auc": "roc_auc", "correct_count": "accuracy"}  # the figure that follows from each


@dataclass(frozen=True)
class SweepRequest:
    """What a researcher asks for; the jobs of each row differ in their model alone.

    Attributes:
        trainings: by the names of the models, the requests of their trainings.
        evaluation: what is asked of each model; its `model` is filled in.
        assessment: likewise; None for no attack.
        utility: the name of the figure that is to be large.
        gap: of the one between groups that is to be small; empty if no groups are asked for.
    """

    trainings: Mapping[str, TrainRequest]
    evaluation: EvaluateRequest
    assessment: AssessRequest | None
    utility: str
    gap: str

    @property
    def steps(self) -> tuple[Step, ...]:
        """The jobs of each row."""
        return (Step.TRAIN, Step.EVALUATE) if self.assessment is None else tuple(Step)

    def utility_of(self, row: SweepRow) -> Figure | None:
        """Returns how useful the model of a row is; None if that is not known."""
        return row.figures.get(self.utility)

    def gap_of(self, row: SweepRow) -> Figure | None:
        """Returns how far groups are apart; likewise."""
        return row.figures.get(self.gap)

    def attack_of(self, row: SweepRow) -> Figure | None:
        """Returns the share of members that the attack finds at 1 % false alarms; likewise."""
        return None if self.assessment is None else row.figures.get(f"membership.{self.assessment.attack}.tpr_at_1_percent")


class SweepJobs(Protocol):
    """The parties, as a sweep uses them; each call may raise ConfideError."""

    def prepare(self, request: TrainRequest | EvaluateRequest | AssessRequest) -> PreparedJob:
        """Returns a job, complete; nothing is submitted."""
        ...

    def draft(self, training: Job, request: EvaluateRequest | AssessRequest) -> Job:
        """Returns what will be asked of the model of a training; good for its charges alone."""
        ...

    def submit(self, prepared: PreparedJob) -> None:
        """Gives a job to every participant."""
        ...

    def job(self, job_id: str) -> Job:
        """Returns a job that was submitted before."""
        ...

    def wait(self, job: Job, *, now: bool) -> Ending:
        """Waits for its ending; with `now` not at all, and fails with DEADLINE_PASSED if it has none."""
        ...

    def result(self, job: Job) -> dict[str, Values]:
        """Opens its outputs, which is possible once."""
        ...


@dataclass(frozen=True)
class Charge:
    """What the jobs of a sweep that have not been submitted charge to one account of a data set.

    Attributes:
        party: whose account.
        account: for example `dataset/patients`.
        trainings: their epsilons and deltas, added up.
        outputs: what evaluations and assessments open there; of no finite epsilon, if any.
    """

    party: str
    account: str
    trainings: Amount
    outputs: Amount

    @property
    def total(self) -> Amount:
        """Both together, as the owner's ledger counts them."""
        return self.trainings + self.outputs


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep has made, what it will make, and what that charges.

    Attributes:
        request: what is asked for.
        rows: one for each training of the request, in its order.
        charges: of all jobs that are left, to accounts of data sets.
        others: rows of the same sweep that were made before and are not asked for now; what they charged stays charged.
    """

    request: SweepRequest
    rows: tuple[SweepRow, ...]
    charges: tuple[Charge, ...]
    others: tuple[SweepRow, ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return all(set(self.request.steps) <= set(row.done) for row in self.rows)


@dataclass(frozen=True)
class SweepEnd:
    """How a sweep ended: all rows, and what stopped it, if anything did."""

    rows: tuple[SweepRow, ...]
    failure: ConfideError | None


def plan_sweep(request: SweepRequest, jobs: SweepJobs, kept: Sequence[SweepRow]) -> SweepPlan:
    """Returns what a sweep will do and charge; nothing is submitted.

    A job that was submitted before and has not ended badly is not submitted again.

    Args:
        request: what is asked for.
        jobs: the parties.
        kept: what was made before, of this and perhaps other settings.

    Raises:
        ConfideError: INVALID_JOB and others (the researcher's to mend): a job that would be refused for what it is.
    """
    known = {row.name: row for row in kept}
    rows: list[SweepRow] = []
    charged: dict[tuple[str, str], Charge] = {}
    for name, training in request.trainings.items():
        row = known.get(name)
        row = None if row is None else _without_failed(row, jobs)
        if row is not None and Step.TRAIN in row.jobs:
            job = jobs.job(row.jobs[Step.TRAIN])
        else:
            job = jobs.prepare(training).job
            row = _row(name, job, begun=0 if row is None else row.begun)
            _add(charged, job, is_training=True)
        for step, asked in _questions(request):
            if step not in row.jobs:
                _add(charged, jobs.draft(job, asked), is_training=False)
        rows.append(row)
    others = tuple(row for row in kept if row.name not in request.trainings)
    return SweepPlan(request, tuple(rows), tuple(charge for _, charge in sorted(charged.items())), others)


def run_sweep(
    plan: SweepPlan, jobs: SweepJobs, *, keep: Callable[[Sequence[SweepRow]], None], tell: Callable[[str], None]
) -> SweepEnd:
    """Runs what is left of a sweep, one job at a time, and stops at the first that is refused or fails.

    Args:
        plan: as `plan_sweep` returned it.
        jobs: the parties.
        keep: is given all rows before and after every job.
        tell: is given a line for people at every job.

    Learns: the caller alone what evaluations and assessments open.
    """
    rows = list(plan.rows)

    def kept(place: int, row: SweepRow) -> None:
        rows[place] = row
        keep([*rows, *plan.others])

    try:
        for place in range(len(rows)):
            for step in plan.request.steps:
                if step not in rows[place].done:
                    _run_step(plan.request, jobs, step, rows[place], keep=partial(kept, place), tell=tell)
    except ConfideError as error:  # the rows are what the sweep is for: the caller shows them beside the failure
        return SweepEnd(tuple(rows), error)
    return SweepEnd(tuple(rows), None)


def _run_step(
    request: SweepRequest,
    jobs: SweepJobs,
    step: Step,
    row: SweepRow,
    *,
    keep: Callable[[SweepRow], None],
    tell: Callable[[str], None],
) -> None:
    if step in row.jobs:
        job = jobs.job(row.jobs[step])
    else:
        prepared = jobs.prepare(_request_of(request, step, row))
        job = prepared.job
        if step is Step.TRAIN and _terms(job) != (row.epsilon, row.delta, row.noise_multiplier, row.norm_bound):
            what = f"the training of {row.name} would not charge any more what was said"
            raise ConfideError(ErrorCode.INVALID_JOB, what, remedy="Begin the sweep again; it says anew what it charges.")
        submitted = replace(row, begun=row.begun + (step is Step.TRAIN))
        # Kept before it is submitted: whatever happens then, a charge that may have come about is counted.
        keep(replace(submitted, jobs={**row.jobs, step: job.job_id}))
        try:
            jobs.submit(prepared)
        except ConfideError:
            keep(submitted)
            tell(f"job {job.job_id} was not taken by everybody; `job show` tells what became of it")
            raise
        row = replace(submitted, jobs={**row.jobs, step: job.job_id})
    tell(f"{row.name}: {step.value} job {job.job_id}")
    ending = jobs.wait(job, now=False)
    if ending.state is not State.COMPLETED:
        raise failure_of(job, ending)
    keep(_completed(row, step, job, jobs))


def _completed(row: SweepRow, step: Step, job: Job, jobs: SweepJobs) -> SweepRow:
    row = replace(row, done=(*row.done, step))
    if step is Step.TRAIN:
        return replace(row, model="" if job.produced_model is None else job.produced_model.label)
    values = jobs.result(job)
    found = opened_figures(job, values) if step is Step.EVALUATE else risk_of(job, values[job.outputs[0].name]).figures
    return replace(row, figures={**row.figures, **found})


def _request_of(request: SweepRequest, step: Step, row: SweepRow) -> TrainRequest | EvaluateRequest | AssessRequest:
    if step is Step.TRAIN:
        return request.trainings[row.name]
    return dict(_questions(request))[step].model_copy(update={"model": row.model})


def _questions(request: SweepRequest) -> Iterator[tuple[Step, EvaluateRequest | AssessRequest]]:
    yield Step.EVALUATE, request.evaluation
    if request.assessment is not None:
        yield Step.ASSESS, request.assessment


def _without_failed(row: SweepRow, jobs: SweepJobs) -> SweepRow:
    """The row without a job that is to be submitted again: it ended badly, or was never submitted."""
    lost = {step for step, job_id in row.jobs.items() if step not in row.done and _is_lost(job_id, jobs)}
    return replace(row, jobs={step: job_id for step, job_id in row.jobs.items() if step not in lost})


def _is_lost(job_id: str, jobs: SweepJobs) -> bool:
    try:
        return jobs.wait(jobs.job(job_id), now=True).state is not State.COMPLETED
    except ConfideError as error:
        # Otherwise it has not ended, or nobody can be asked now: it is waited for in its turn.
        return error.code is ErrorCode.UNKNOWN_JOB


def _row(name: str, job: Job, *, begun: int) -> SweepRow:
    return SweepRow(name, *_terms(job), begun=begun)


def _terms(job: Job) -> tuple[str, str, str, str]:
    terms: PrivateTraining | None = None if job.training is None else job.training.privacy
    if terms is None:
        raise ConfideError(ErrorCode.INTERNAL, "a training of a sweep has no terms of privacy")
    return terms.epsilon, terms.delta, terms.noise_multiplier, terms.norm_bound


def _add(charged: dict[tuple[str, str], Charge], job: Job, *, is_training: bool) -> None:
    for party in job.participants:
        for account, amount in charges(job, party).items():
            if not account.startswith(dataset_account("")):
                continue  # of a model that the sweep makes: nobody else has asked it
            old = charged.get((party, account), Charge(party, account, NOTHING, NOTHING))
            part = "trainings" if is_training else "outputs"
            charged[party, account] = replace(old, **{part: getattr(old, part) + amount})
