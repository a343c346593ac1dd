"""What a sampler is to its accountant: one event for each type of sampler, and none for what is refused."""

from __future__ import annotations

from dp_accounting import DpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

from privacy.accounting.samplers import (
    AnySampler,
    FullBatch,
    PrivatePoisson,
    PublicFixedBatches,
    Shuffled,
    TruncatedPoisson,
    WithReplacement,
)
from protocols.errors import ConfideError, ErrorCode


def event_of(sampler: AnySampler, noise_multiplier: float) -> DpEvent:
    """Returns what a training by a sampler is to its accountant.

    Args:
        sampler: how rows are chosen.
        noise_multiplier: standard deviation of the noise of a step, in units of the sensitivity of one unit.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault): the sampler has no accountant, or its parameters are none.
    """
    gaussian = GaussianDpEvent(noise_multiplier)
    match sampler:
        case FullBatch(steps=count) | PublicFixedBatches(passes=count):
            return SelfComposedDpEvent(gaussian, _count(count))
        case PrivatePoisson(rate=rate, steps=count) | TruncatedPoisson(rate=rate, steps=count):
            if not 0 < rate < 1:
                raise ConfideError(ErrorCode.INVALID_JOB, f"a sampling rate of {float(rate):g} is not between 0 and 1")
            return SelfComposedDpEvent(PoissonSampledDpEvent(float(rate), gaussian), _count(count))
        case Shuffled() | WithReplacement():
            what = f"{type(sampler).__name__} has no accountant here: accounted as Poisson sampling, it would claim too much"
            raise ConfideError(ErrorCode.INVALID_JOB, what, remedy="Sample by Poisson in private, or use all rows in every step.")


def _count(count: int) -> int:
    if count < 1:
        raise ConfideError(ErrorCode.INVALID_JOB, f"{count} steps are no training")
    return count
