"""The noise of a private training on shares, and whether its numbers fit (docs/protocols/shared-gradients.md).

A step adds up residual times row over all rows. Rows are shortened by their owners, and residuals are bounded by what computes
them, for every number of the ring: whatever weights and noise have become, one row adds at most (1 + eta) sqrt(R^2 + 1) to the
sum. So the guarantee rests on no assumption about the training; only whether the model is of use does, and that is why settings
whose numbers could leave the ring are refused here.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil, isqrt, sqrt

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import PARAMETER_LIMIT_BITS, VALUE_BITS, VALUE_LIMIT_BITS
from protocols.job import Job, Partition, Task
from protocols.model.layers import Linear
from protocols.mpc.noise_design import owner_deviation, private_terms
from protocols.mpc.primitives.sigmoid import MAX_ERROR
from protocols.mpc.programs.rates import LearningRates
from protocols.mpc.values import MAX_MAGNITUDE_BITS
from protocols.plan.noise import PlannedNoise
from protocols.private_job_checks import contributors
from protocols.private_training import Unit
from protocols.training import Training

GRID_BITS = 2 * VALUE_BITS
TAIL = 10  # deviations: a sum of discrete Gaussians is beyond with probability below 2 exp(-50)
START_LIMIT = 2**5  # of the public weights that a training starts from
PARAMETER_LIMIT = 2**PARAMETER_LIMIT_BITS
_ONE = 1 << VALUE_BITS


@dataclass(frozen=True)
class GradientBounds:
    """What the untruncated gradients of a job can be, as integers at 32 fractional bits; public.

    Attributes:
        sum: absolute value of one coordinate of the sum over all rows.
        noise: absolute value of one coordinate of the noise of all owners, but for a probability below 2 exp(-50).
    """

    sum: int
    noise: int

    @property
    def magnitude_bits(self) -> int:
        """Log2 of the bound on a noisy sum, rounded up."""
        return (self.sum + self.noise).bit_length()


def design(job: Job, spares: int) -> PlannedNoise:
    """Returns the noise of a private training on shares; its coordinates are the trained parameters, in the model's order.

    Args:
        job: public.
        spares: coordinates of a step that test the noise.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) for other jobs.
    """
    sensitivity = unit_rows(job) * _row_bound(job)
    return PlannedNoise(
        owners=contributors(job),
        steps=training_of(job).epochs,
        used=sum(_sizes(job)),
        spares=spares,
        scale_bits=GRID_BITS,
        sensitivity=sensitivity,
        deviation=owner_deviation(job, sensitivity),
    )


def unit_rows(job: Job) -> int:
    """Returns how many rows of the joint table one unit has at most.

    A person everywhere has so many at every owner; where owners hold columns, theirs are parts of the same rows.
    """
    terms = private_terms(job)
    institutions = len(contributors(job)) if terms.unit is Unit.PERSON_EVERYWHERE and job.partition is Partition.ROWS else 1
    return terms.rows_per_person * institutions


def residual_limit(job: Job) -> int:
    """Returns the largest absolute value of a residual at 16 fractional bits, whatever number of the ring it is computed from.

    The sigmoid is 0, 1, or a series that is bounded over its whole period, so it is within its stated error of [0, 1] for every
    number of the ring; labels are 0 or 1. Residuals of a linear regression are clamped.
    """
    if job.task is Task.REAL:
        return _ONE
    return _ONE + ceil(Fraction(Decimal(str(MAX_ERROR))) * _ONE)


def gradient_bounds(job: Job) -> GradientBounds:
    """Returns what the gradients of a job can be.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) for other jobs.
    """
    # Features are at most 1 and so is what stands for a bias; noise of all owners, those that collude included, is added up.
    variance = design(job, 0).deviation ** 2 * len(contributors(job))
    return GradientBounds(job.num_rows * _ONE * residual_limit(job), isqrt(TAIL**2 * variance) + 1)


def check_fits(job: Job) -> None:
    """Refuses a training whose numbers could leave the ring or the range of kept parameters, in the worst case of all rows.

    Nothing that depends on data is ever tested in such a training, so the bounds must hold by the settings alone, but for noise
    beyond ten deviations. Such noise would spoil the model and not the guarantee.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) with what reaches how far, and what to lower.
    """
    bounds = gradient_bounds(job)
    if bounds.magnitude_bits > MAX_MAGNITUDE_BITS:
        what = f"a noisy sum of gradients may reach 2^{bounds.magnitude_bits}, beyond 2^{MAX_MAGNITUDE_BITS}"
        raise ConfideError(ErrorCode.INVALID_JOB, what, remedy="Use less noise, or fewer rows.")
    if logit_bits(job) > VALUE_LIMIT_BITS:
        what = f"predictions may reach 2^{logit_bits(job)}, beyond 2^{VALUE_LIMIT_BITS}"
        raise ConfideError(ErrorCode.INVALID_JOB, what, remedy="Use fewer features or a smaller norm bound.")
    reach = largest_parameter(job, bounds)
    if not reach < PARAMETER_LIMIT - 1:
        what = f"in the worst case parameters or momenta may reach {reach:.0f}, beyond {PARAMETER_LIMIT - 1}"
        remedy = "Use a lower learning rate or momentum, fewer steps, less noise, or more nominal rows."
        raise ConfideError(ErrorCode.INVALID_JOB, what, remedy=remedy)


def logit_bits(job: Job) -> int:
    """Returns log2 of what a prediction before its sigmoid can be, rounded up, while parameters are below their limit; public.

    By Cauchy and Schwarz it is at most norm bound times root of features, and 1 for the bias, times that limit.
    """
    features = job.model.input_features
    squared = Fraction(Decimal(private_terms(job).norm_bound)) ** 2 * features
    return PARAMETER_LIMIT_BITS + min(isqrt(ceil(squared)) + 1, features).bit_length()


def training_of(job: Job) -> Training:
    """Returns the hyper-parameters of a private training.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) if the job is none.
    """
    private_terms(job)
    training = job.training
    if training is None:
        raise ConfideError(ErrorCode.INVALID_JOB, "this is no private training")
    return training


def gradient_factor(job: Job) -> Fraction:
    """Returns what a noisy sum is multiplied with: 1 / nominal rows, twice that for a mean of squares."""
    return Fraction(2 if job.task is Task.REAL else 1, private_terms(job).nominal_rows)


def largest_parameter(job: Job, bounds: GradientBounds) -> float:
    """Returns the largest absolute value that a parameter or momentum can have, whatever the rows are.

    SGD is linear in its start and in the gradients: a parameter after t steps is a sum of all of them with public coefficients.
    Gradients of rows may all have one sign, so theirs add up; noise of different steps is independent, and the discrete
    Gaussian's tails are no heavier than a Gaussian's, so its deviation grows by the root of the sum of squares.
    """
    training = training_of(job)
    optimiser = training.optimiser
    momentum, decay = float(Fraction(optimiser.momentum)), float(Fraction(optimiser.weight_decay))
    rates = LearningRates(training, 1)
    steps = training.epochs
    scale = float(gradient_factor(job)) / 2.0**GRID_BITS
    rows, noise = scale * bounds.sum, scale * bounds.noise
    # What a start of 1 (at first), and a gradient of 1 in each step, have added to a parameter and to its momentum.
    moved, kept = np.zeros(1 + steps), np.zeros(1 + steps)
    moved[0] = 1.0
    reach = float(START_LIMIT)
    for step in range(steps):
        kept = momentum * kept + decay * moved
        kept[1 + step] += 1.0
        moved -= float(rates.at(step).value) * kept
        for response in (np.abs(moved), np.abs(kept)):
            of_noise = noise * sqrt(float((response[1:] ** 2).sum()))
            reach = max(reach, START_LIMIT * float(response[0]) + rows * float(response[1:].sum()) + of_noise)
    return reach


def _row_bound(job: Job) -> int:
    """Returns the Euclidean norm of the gradient of one row at 32 fractional bits, rounded up."""
    features = (Fraction(Decimal(private_terms(job).norm_bound)) * _ONE) ** 2
    has_bias = any(isinstance(layer.operator, Linear) and layer.operator.bias for layer in job.model.layers)
    squared = (features + has_bias * _ONE**2) * residual_limit(job) ** 2
    return isqrt(ceil(squared) - 1) + 1


def _sizes(job: Job) -> list[int]:
    return [int(np.prod(parameter.shape)) for parameter in job.model.trained]
