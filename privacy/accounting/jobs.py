"""A private training as its accountant sees it: its sampler, and the noise that is really drawn for it.

The owners that do not collude draw discrete Gaussians. Their sum is within a proved distance of one discrete Gaussian of the
whole variance, and that is a normal distribution of a slightly smaller deviation, rounded at random: post-processing
(`protocols.discrete_gaussian`). So the deviation that is accounted is the smaller one, over the sensitivity of the integers that
are shared, and all distances are charged to delta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from privacy.accounting.samplers import FullBatch, Sampler, TruncatedPoisson
from protocols.discrete_gaussian import MAX_DEVIATION, rounded_gaussian, sampler_distance, sum_distance
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job
from protocols.mpc.noise_design import private_terms
from protocols.mpc.noisy_sums_design import design as noisy_sums_design
from protocols.mpc.noisy_sums_sampling import overflow_delta, sampling_rate
from protocols.mpc.shared_gradients_design import design as shared_gradients_design
from protocols.plan.noise import PlannedNoise
from protocols.private_training import Mechanism

_LEAST_DEVIATION = 64  # far below any design; the proofs of distances need 8
NOISE_PLACES = 6  # of the multiplier that is accounted, rounded down


@dataclass(frozen=True)
class AccountedNoise:
    """The noise of the owners that do not collude; public.

    Attributes:
        multiplier: its deviation in units of the sensitivity of one unit, as a decimal, rounded down.
        distance: of all of it from continuous Gaussian noise of that deviation, rounded at random, in total variation.
    """

    multiplier: str
    distance: float


def sampler_of(job: Job) -> Sampler:
    """Returns how a private training chooses its rows; it follows from the mechanism.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) if the job is no private training.
    """
    terms = private_terms(job)
    steps = 0 if job.training is None else job.training.epochs
    match terms.mechanism:
        case Mechanism.SHARED_GRADIENTS:
            return FullBatch(steps)
        case Mechanism.NOISY_SUMS:
            return TruncatedPoisson(sampling_rate(job), steps, overflow=float(overflow_delta(job)))


def noise_of(job: Job) -> AccountedNoise:
    """Returns the noise that the owners of a private training draw, as it is accounted.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault): the job is none, or so much or so little noise has no exact sampler.
    """
    terms = private_terms(job)
    match terms.mechanism:
        case Mechanism.SHARED_GRADIENTS:
            design = shared_gradients_design(job, 0)
        case Mechanism.NOISY_SUMS:
            design = noisy_sums_design(job, 0)
    return _accounted(design, honest=len(design.owners) - terms.colluders)


def _accounted(design: PlannedNoise, *, honest: int) -> AccountedNoise:
    """Returns the noise of a design as it is accounted, of which so many owners' remains unknown to those that collude.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault): so much noise has no exact sampler, or it is no noise at all.
    """
    if honest < 1:
        raise _refused("training.privacy.colluders", "nobody is left whose noise is unknown to the colluders", "write fewer")
    if design.deviation > MAX_DEVIATION:
        what = f"noise of deviation {design.deviation:,} on the integers that are shared is beyond what can be drawn exactly"
        raise _refused("training.privacy.noise_multiplier", what, "write a smaller one, or a smaller norm_bound")
    if design.deviation < _LEAST_DEVIATION:
        what = "so little noise on so coarse a grid is no Gaussian"
        raise _refused("training.privacy.norm_bound", what, "write a larger one, or a larger noise_multiplier")
    # The bound of the rounding is the same for every deviation s, and what it rounds has sqrt(s^2 - 36), which is above s - 1.
    smaller, (_, rounding) = math.isqrt(honest * design.deviation**2) - 1, rounded_gaussian(design.deviation)
    values = design.steps * design.used
    drawn = sampler_distance(values * len(design.owners), design.deviation)
    distance = drawn + values * (sum_distance(honest, design.deviation) + rounding)
    multiplier = smaller * 10**NOISE_PLACES // design.sensitivity
    return AccountedNoise(f"{multiplier // 10**NOISE_PLACES}.{multiplier % 10**NOISE_PLACES:0{NOISE_PLACES}}", distance)


def _refused(where: str, what: str, remedy: str) -> ConfideError:
    return ConfideError(
        ErrorCode.INVALID_JOB, "the noise of the training cannot be drawn", problems=[Problem(where, what, remedy)]
    )
