"""The noise of an evaluation or a summary as its plan names it: what the owners draw, and that it has room in the ring."""

from __future__ import annotations

from math import isqrt

from protocols.job import Job
from protocols.plan.noise import PlannedNoise
from protocols.private_job_checks import contributors
from protocols.row_noise import grid_bits, noise_steps, num_noisy, row_noise_deviation, squared_row_sensitivity


def row_noise_design(job: Job, spares: int) -> PlannedNoise:
    """Returns the noise of a job whose outputs about rows have some.

    Args:
        job: public.
        spares: further numbers of a step that test the noise.
    """
    owners = contributors(job)
    squared = squared_row_sensitivity(job) << (2 * grid_bits(job))
    return PlannedNoise(
        owners=owners,
        steps=noise_steps(job),
        used=num_noisy(job),
        spares=spares,
        scale_bits=grid_bits(job),
        sensitivity=isqrt(squared - 1) + 1,
        deviation=row_noise_deviation(job, owners=len(owners)),
    )
