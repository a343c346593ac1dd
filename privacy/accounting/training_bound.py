"""The bound of a private training by a normal mechanism, by which it composes with what else is charged to a data set."""

from __future__ import annotations

from fractions import Fraction

from privacy.accounting.jobs import noise_of, sampler_of
from privacy.accounting.normal_bound import UNIT_OF_ROWS, NormalBound, normal_bound
from privacy.accounting.samplers import FullBatch, PublicFixedBatches, Sampler, overflow_of
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.mpc.noise_design import private_terms
from protocols.private_job_checks import contributors
from protocols.private_training import RELATION, PrivateTraining, Unit

EXCESS_SHARE = 256
"""So small a part of delta may a bound tell everything with: that many trainings of one delta compose at it, and fewer well."""


def training_bound(job: Job) -> NormalBound | None:
    """Returns the bound of a private training.

    A training in full batches, or in public ones, is a normal mechanism; one on private samples is bounded by one, at the cost of
    a second of processor time the first time.

    Args:
        job: with terms of differential privacy; public.

    Returns:
        None if it has no bound, as a job has none that is refused for its noise: what it claims then adds up.
    """
    terms = private_terms(job)
    if terms.colluders >= len(contributors(job)):
        return None
    try:
        noise, sampler = noise_of(job), sampler_of(job)
        excess = float(terms.delta) / EXCESS_SHARE
        squared = _squared(sampler, noise.multiplier, excess)
    except ConfideError as error:
        if error.code not in (ErrorCode.INVALID_JOB, ErrorCode.INVALID_ARGUMENT):
            raise
        return None
    if squared is None:
        return None
    is_normal = isinstance(sampler, FullBatch | PublicFixedBatches)
    distance = noise.distance + overflow_of(sampler)
    return normal_bound(unit_of(terms), squared=squared, excess=0.0 if is_normal else excess, distance=distance)


def unit_of(terms: PrivateTraining) -> str:
    """Returns relation and unit of a private training, as the ledger tells them apart."""
    if terms.unit is Unit.ROW:
        return UNIT_OF_ROWS
    return f"{RELATION} {terms.unit.value.replace('_', ' ')}, {terms.rows_per_person} row(s)"


def _squared(sampler: Sampler, multiplier: str, excess: float) -> float | None:
    match sampler:
        case FullBatch(steps=count) | PublicFixedBatches(passes=count):
            noise = Fraction(multiplier)
            return None if noise <= 0 else float(count / noise**2)
    # The accountants take a second to import: who sees none but full batches need not wait for them.
    from privacy.accounting.accountant import normal_mu

    mu = normal_mu(sampler, noise_multiplier=multiplier, excess=excess)
    return None if mu is None else mu * mu
