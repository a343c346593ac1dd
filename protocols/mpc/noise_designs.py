"""The noise of a private training by its mechanism, or of opened numbers about rows, with the spares that test it; public."""

from __future__ import annotations

from protocols.discrete_gaussian import MAX_DEVIATION
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job
from protocols.mpc import noisy_sums_design, shared_gradients_design
from protocols.mpc.noise_design import private_terms
from protocols.mpc.noise_test import MIN_DEVIATION, spares_for
from protocols.mpc.row_noise_design import row_noise_design
from protocols.plan.noise import PlannedNoise
from protocols.private_job_checks import contributors
from protocols.private_training import Mechanism
from protocols.row_noise import adds_row_noise, noise_steps

MAX_INTEGERS = 1 << 28
"""Of all owners and steps together: a computing party holds shares of both draws, 4 GiB, until one of them is chosen."""


def noise_design(job: Job) -> PlannedNoise:
    """Returns the noise of a private training.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) if the job is none, its noise would be too coarse on the grid or too large
            for it, or there is more of it than a computing party can hold.
    """
    spares = spares_for(job.training.epochs if job.training is not None else 1, len(contributors(job)))
    match private_terms(job).mechanism:
        case Mechanism.SHARED_GRADIENTS:
            design = shared_gradients_design.design(job, spares)
        case Mechanism.NOISY_SUMS:
            design = noisy_sums_design.design(job, spares)
    problems = []
    if not MIN_DEVIATION <= design.deviation <= MAX_DEVIATION:
        what = f"one owner's noise has a deviation of {design.deviation} units of the grid, outside {MIN_DEVIATION} to 2^44"
        problems.append(Problem("training.privacy", what, "choose another noise multiplier or norm bound"))
    if design.num_elements * len(design.owners) > MAX_INTEGERS:
        what = f"{design.num_elements:,} numbers of noise of each of {len(design.owners)} owners, more than 2^28 in all"
        problems.append(Problem("training.epochs", what, "use fewer steps, or a smaller model"))
    if problems:
        raise ConfideError(ErrorCode.INVALID_JOB, "the noise of this training cannot be drawn", problems=problems)
    return design


def opened_noise(job: Job) -> PlannedNoise:
    """Returns the noise of a job whose outputs about rows have some.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) if it would be too coarse on the grid, or too large for it.
    """
    design = row_noise_design(job, spares_for(noise_steps(job), len(contributors(job))))
    problems = []
    if not MIN_DEVIATION <= design.deviation <= MAX_DEVIATION:
        what = f"one owner's noise has a deviation of {design.deviation} units of the grid, outside {MIN_DEVIATION} to 2^44"
        problems.append(Problem("outputs.noise", what, "choose another noise"))
    if design.num_elements * len(design.owners) > MAX_INTEGERS:
        what = f"{design.num_elements:,} numbers of noise of each of {len(design.owners)} owners, more than 2^28 in all"
        problems.append(Problem("summary", what, "use fewer moves or clusters"))
    if problems:
        raise ConfideError(ErrorCode.INVALID_JOB, "the noise of these outputs cannot be drawn", problems=problems)
    return design


def planned_noise(job: Job) -> PlannedNoise | None:
    """Returns the noise that the owners of a job's rows draw, as its plan names it; None for a job without any.

    Raises:
        ConfideError: as `noise_design` and `opened_noise`.
    """
    if adds_row_noise(job):
        return opened_noise(job)
    return None if job.training is None or job.training.privacy is None else noise_design(job)
