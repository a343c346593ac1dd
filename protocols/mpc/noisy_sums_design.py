"""How much noise a training by noisy sums needs: what one row can change in the integers that its owner shares.

An owner brings the clipped gradient of every row to the grid 2^-36, towards zero, so that its Euclidean norm is at most
floor(C 2^36) exactly; adds them up as integers; and rounds the sum to the grid 2^-20. Zeroing one row moves the sum by at most
C 2^36 on the fine grid, and rounding moves each of D coordinates by at most half a unit in both cases. So the shared integers
move by at most C 2^20 + sqrt(D). A canary is a row of norm C along a coordinate of its own.
"""

from __future__ import annotations

import math
from fractions import Fraction

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.mpc.noise_design import owner_deviation, private_terms
from protocols.mpc.noisy_sums_sampling import padded_batch, sampling_rate, training_of
from protocols.plan.noise import PlannedNoise
from protocols.private_job_checks import contributors
from protocols.private_training import Mechanism
from protocols.ring import TOP

SCALE_BITS = 20  # of the sums that are shared
FINE_BITS = 16  # of a row's gradient beyond that
_DEVIATIONS = 10  # of the noise that the ring has room for: a Gaussian is beyond with a probability below 2^-75


def is_noisy_sums(job: Job) -> bool:
    """Says whether a job is a private training by noisy sums."""
    training = job.training
    return training is not None and training.privacy is not None and training.privacy.mechanism is Mechanism.NOISY_SUMS


def trained_numbers(job: Job) -> int:
    """Returns how many numbers of the model are trained: the first coordinates of every sum."""
    return sum(math.prod(parameter.shape) for parameter in job.model.trained)


def num_coordinates(job: Job) -> int:
    """Returns the coordinates of a sum: trained numbers, then canaries."""
    return trained_numbers(job) + private_terms(job).canaries


def canaries_of(job: Job, party: str) -> range:
    """Returns which canaries an owner plants, as positions among all canaries; they are dealt out in the order of owners."""
    owners, count = contributors(job), private_terms(job).canaries
    if party not in owners:
        return range(0)
    place = owners.index(party)
    return range(place * count // len(owners), (place + 1) * count // len(owners))


def rows_of(job: Job, party: str) -> int:
    """Returns how many rows an owner samples from: those of its data sets, and its canaries."""
    return sum(dataset.num_rows for dataset in job.datasets if dataset.party == party) + len(canaries_of(job, party))


def batch_of(job: Job, party: str) -> int:
    """Returns how many rows an owner computes with in every step, padding included; public."""
    return padded_batch(rows_of(job, party), sampling_rate(job))


def fine_bound(job: Job) -> int:
    """Returns the largest Euclidean norm of a row's clipped gradient, in units of 2^-36."""
    return int(Fraction(private_terms(job).norm_bound) * (1 << (SCALE_BITS + FINE_BITS)))


def sensitivity(job: Job) -> int:
    """Returns what one row can change in the shared integers of a step, Euclidean, in units of 2^-20, rounded up."""
    roundings = math.isqrt(num_coordinates(job) - 1) + 1
    return -(-fine_bound(job) // (1 << FINE_BITS)) + roundings


def check_room(job: Job) -> None:
    """Checks that no sum of an owner, nor the noisy total, leaves the ring.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) if one could.
    """
    owners = contributors(job)
    batches = [batch_of(job, owner) for owner in owners]
    deviation = owner_deviation(job, sensitivity(job))
    most = sum(batches) * sensitivity(job) + _DEVIATIONS * deviation * len(owners)
    if max(batches) * fine_bound(job) >= TOP or most >= TOP:
        what = "sums of so many rows with so large a norm bound do not fit the ring"
        raise ConfideError(ErrorCode.INVALID_JOB, f"{what}; use a smaller norm bound or smaller batches")


def design(job: Job, spares: int) -> PlannedNoise:
    """Returns the noise of a training by noisy sums.

    Args:
        job: the training.
        spares: coordinates of a step that test the noise.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) if sums could leave the ring.
    """
    check_room(job)
    bound = sensitivity(job)
    return PlannedNoise(
        owners=contributors(job),
        steps=training_of(job).epochs,
        used=num_coordinates(job),
        spares=spares,
        scale_bits=SCALE_BITS,
        sensitivity=bound,
        deviation=owner_deviation(job, bound),
    )
