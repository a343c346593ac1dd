"""What an answer or a summary with noise spends of differential privacy.

The computing parties that do not collude add independent discrete Gaussians, whose sum is one of the whole variance up to a
proved distance, and that is the normal mechanism, rounded (`protocols.discrete_gaussian`). m answers of sensitivity D with a
deviation s are one normal mechanism of sensitivity D sqrt(m), for any m that are asked one after the other. Its exact privacy
profile is, with u = D sqrt(m) / s and F the normal distribution function,

    delta(epsilon) = F(u / 2 - epsilon / u) - e^epsilon F(-u / 2 - epsilon / u)

(Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018, theorem 8). No library is asked, so that
a party can charge a job in microseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from protocols.answer_noise import has_noise, num_answers, own_deviation, squared_sensitivity
from protocols.discrete_gaussian import rounded_gaussian, sampler_distance, sum_distance
from protocols.fixed_point import VALUE_BITS
from protocols.job import Job
from protocols.job_parts import Output

DELTA = Decimal("0.000000001")
"""Of every job's answers, so that no one has to choose it; of the rows' owners, whatever their number up to 10^8."""

MAX_EPSILON = 100  # beyond it a figure says nothing: answers count as opened without noise
_PLACES = Decimal("0.0001")
_MARGIN = 1e-4
_STEPS = 60  # of the search, each of which halves an interval of 100


@dataclass(frozen=True)
class Spent:
    """Epsilon and delta of what a job opens, both rounded up; public."""

    epsilon: Decimal
    delta: Decimal


def spent_by(job: Job, output: Output, *, answers: int | None = None) -> Spent | None:
    """Returns what the answers of one output spend, composed over all of them.

    Against whom: everybody but the parties that compute, of whom so many as the output says may pool. What is protected: all that
    went into the model, since an answer moves by no more than its range whatever the model is; of a summary, one row, which adds
    to the sums of one group or is left out.

    Args:
        job: the job; public.
        output: one of its outputs; public.
        answers: how many answers; None for as many as the job may open.

    Returns:
        None if it has no noise, or so little that epsilon would be above 100.
    """
    if not has_noise(output):
        return None
    count = num_answers(job, output) if answers is None else answers
    if count == 0:
        return Spent(Decimal(0), Decimal(0))
    squared = squared_sensitivity(job, output)
    numbers = count * _numbers(job, output)
    honest = len(job.computing_parties) - output.noise_colluders
    own = own_deviation(output, computing_parties=len(job.computing_parties))
    smaller, rounding = rounded_gaussian(math.isqrt(honest * own * own))
    distance = numbers * (sum_distance(honest, own) + rounding) + sampler_distance(numbers * honest, own)
    ratio = math.nextafter(math.sqrt(squared * count) * 2**VALUE_BITS / smaller, math.inf)
    epsilon = least_epsilon(ratio, float(DELTA) / 2)
    if epsilon is None or (1 + math.exp(epsilon)) * distance > float(DELTA) / 2:
        return None
    return Spent(Decimal(epsilon).quantize(_PLACES, ROUND_CEILING), DELTA)


def spent_in_words(job: Job) -> str:
    """Returns what all answers of a job spend at most, for people; empty if something is opened without enough noise."""
    found = [spent_by(job, output) for output in job.outputs]
    if not found or any(each is None for each in found):
        return ""
    epsilon = sum((each.epsilon for each in found if each is not None), Decimal(0))
    unit = "one row, counted or left out" if job.summary is not None else "all rows that the model was trained on"
    colluders = min(output.noise_colluders for output in job.outputs)
    return f"{epsilon:f} (delta {DELTA * len(found):f}) for {unit}, against {colluders} computing part(ies) who pool"


def least_epsilon(ratio: float, delta: float) -> float | None:
    """Returns the least epsilon of the normal mechanism for a delta, from above; None above `MAX_EPSILON`.

    Args:
        ratio: sensitivity over deviation.
        delta: above 10^-10: the profile is rounded by less than 10^-14, and a ten-thousandth of delta is kept back for that.
    """
    delta *= 1 - _MARGIN
    if profile(ratio, MAX_EPSILON) > delta:
        return None
    low, high = 0.0, float(MAX_EPSILON)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if profile(ratio, middle) <= delta else (middle, high)
    return high


def profile(ratio: float, epsilon: float) -> float:
    """Returns delta(epsilon) of the normal mechanism; see the module."""
    return _below(ratio / 2 - epsilon / ratio) - math.exp(epsilon) * _below(-ratio / 2 - epsilon / ratio)


def _below(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


def _numbers(job: Job, output: Output) -> int:
    """Returns how many numbers of one answer get noise of their own."""
    if job.summary is not None:
        return job.summary.groups * (job.model.input_features + 1)
    return job.label_width
