"""What a differentially private training must fulfil beside the job's other fields; every party checks it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from protocols.errors import Problem
from protocols.job_parts import Partition, Task
from protocols.model.layers import BatchNorm, Dropout, Flatten, Linear, Sigmoid
from protocols.private_training import (
    Mechanism,
    PrivateTraining,
    Unit,
    check_delta,
    check_private_training,
)
from protocols.training import Loss, OptimiserKind, Training

if TYPE_CHECKING:  # the job imports this module
    from protocols.job import Job

_WHERE = "training.privacy."


def contributors(job: Job) -> tuple[str, ...]:
    """Returns the owners of a job's data sets, once each, in order: whoever adds noise."""
    return tuple(dict.fromkeys(dataset.party for dataset in job.datasets))


def check_private_job(job: Job, training: Training, terms: PrivateTraining) -> Iterable[Problem]:
    """Yields why a training with these terms would protect nobody, or less than it says."""
    owners = contributors(job)
    if len(owners) < 2:
        remedy = "name data sets of at least two institutions; one alone trains with a library for central privacy"
        yield Problem("datasets", "noise that one institution alone draws is known to it, and protects nobody from it", remedy)
    elif terms.colluders >= len(owners):
        what = f"{terms.colluders} of {len(owners)} owners may pool: nobody is left whose noise is unknown to them"
        yield Problem(f"{_WHERE}colluders", what, f"write 1 to {len(owners) - 1}")
    if not tuple(check_private_training(terms)):
        # Sizes are public: people whom the agreed number leaves out must not be published either.
        people = _fewest_people(job, terms, len(owners))
        for problem in check_delta(terms, people):
            what = f"{problem.what}; {_WHERE}nominal_rows and nominal_people say {terms.nominal_rows} and {terms.nominal_people}"
            yield problem if people <= terms.nominal_people else replace(problem, what=what)
    if job.resumes is not None:
        what = "the steps before the checkpoint and those after it would be accounted apart"
        yield Problem("resumes", what, "submit the training anew; what it spent so far stays spent")
    if job.model_ref is not None:
        yield Problem("model_ref", "a private training starts from public weights", "name a weights file")
    if any(isinstance(layer.operator, BatchNorm) for layer in job.model.layers):
        yield Problem("model", "batch norm mixes the rows of a batch: one row's effect has no bound", "use layer norm, or none")
    if any(isinstance(layer.operator, Dropout) for layer in job.model.layers):
        yield Problem("model", "dropout is not computed in a private training", "remove it; the noise regularises")
    match terms.mechanism:
        case Mechanism.SHARED_GRADIENTS:
            yield from _check_shared_gradients(job, training, terms, owners)
        case Mechanism.NOISY_SUMS:
            yield from _check_noisy_sums(job, training, terms)


def _fewest_people(job: Job, terms: PrivateTraining, owners: int) -> int:
    """Returns how many people the rows are of at least, if none has more than the terms say."""
    everywhere = terms.unit is Unit.PERSON_EVERYWHERE and job.partition is Partition.ROWS
    return max(1, -(-job.num_rows // (terms.rows_per_person * (owners if everywhere else 1))))


def _check_shared_gradients(job: Job, training: Training, terms: PrivateTraining, owners: tuple[str, ...]) -> Iterable[Problem]:
    kinds = [type(layer.operator) for layer in job.model.layers]
    bare = [kind for kind in kinds if kind not in (Flatten, Sigmoid)]
    ends = kinds[-1] is Sigmoid
    if bare != [Linear] or kinds.count(Sigmoid) > ends or (job.task is Task.REAL and ends) or job.task is Task.CLASSES:
        remedy = "use a logistic or linear regression with one output, or the mechanism noisy_sums"
        yield Problem("model", "gradients of rows of bounded norm are bounded for a linear model of one output alone", remedy)
    if training.loss is Loss.CROSS_ENTROPY or (job.task is Task.BINARY and training.loss is not Loss.BINARY_CROSS_ENTROPY):
        yield Problem("training.loss", "its gradient is not bounded by the norm of the row", "use binary_cross_entropy")
    if training.optimiser.kind is not OptimiserKind.SGD:
        remedy = "use sgd, or the mechanism noisy_sums"
        yield Problem("training.optimiser.kind", "how far its steps reach has no bound by the settings alone here", remedy)
    if training.batch_size != terms.nominal_rows:
        yield Problem("training.batch_size", "every step uses all rows", f"write the nominal rows, {terms.nominal_rows}")
    if terms.colluders >= len(job.computing_parties):
        what = f"{terms.colluders} parties can be all computing parties, who could put the shared rows together"
        yield Problem(f"{_WHERE}colluders", what, "let more parties compute, or write fewer")
    if job.dealer in owners and terms.colluders >= 2:
        what = f"two parties can be the dealer {job.dealer} and a computing party, who could put the shared rows together"
        yield Problem(f"{_WHERE}colluders", what, "write 1, or name a dealer that brings no data")


def _check_noisy_sums(job: Job, training: Training, terms: PrivateTraining) -> Iterable[Problem]:
    if job.partition is not Partition.ROWS:
        yield Problem("partition", "only who holds all columns of a row can clip its gradient", "use shared_gradients")
    if terms.colluders >= len(job.computing_parties):
        what = f"{terms.colluders} parties can be all computing parties, who could put every owner's sums together"
        yield Problem(f"{_WHERE}colluders", what, "let more parties compute, or write fewer")
    if terms.unit is Unit.PERSON_EVERYWHERE or terms.rows_per_person != 1:
        what = "rows of one person would be sampled apart, and that has no accountant here"
        yield Problem(f"{_WHERE}unit", what, "bring one row a person, at one institution, or use shared_gradients")
    if training.batch_size * 2 > terms.nominal_rows:
        what = f"a sample of {training.batch_size} in {terms.nominal_rows} nominal rows"
        remedy = f"sample at most half of them, or agree on more ({_WHERE}nominal_rows)"
        yield Problem("training.batch_size", what, remedy)
    if training.optimiser.kind is OptimiserKind.ADAM and training.optimiser.weight_decay.strip("0."):
        yield Problem("training.optimiser.weight_decay", "Adam has none here", 'write "0"')
