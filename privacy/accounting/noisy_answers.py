"""What an answer or a summary with noise spends of differential privacy.

The parties that draw and do not collude add independent discrete Gaussians, whose sum is one of the whole variance up to a
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

from privacy.accounting.normal_bound import UNIT_OF_MODELS, NormalBound, normal_bound, unit_of_rows
from protocols.answer_noise import num_answers, own_deviation, squared_sensitivity
from protocols.discrete_gaussian import rounded_gaussian, sampler_distance, sum_distance
from protocols.fixed_point import VALUE_BITS
from protocols.job import Job
from protocols.job_parts import Output
from protocols.private_job_checks import contributors
from protocols.row_noise import (
    adds_row_noise,
    grid_bits,
    noise_steps,
    num_noisy,
    row_noise_deviation,
    rows_of_person,
    squared_row_sensitivity,
)

DELTA = Decimal("0.000000001")
"""Of every job's answers, so that no one has to choose it; of the rows' owners, whatever their number up to 10^8."""

MAX_EPSILON = 100  # beyond it a figure says nothing: answers count as opened without noise
_PLACES = Decimal("0.0001")
_MARGIN = 1e-4
_STEPS = 60  # of the search, each of which halves an interval of 100


@dataclass(frozen=True)
class Spent:
    """Epsilon and delta of what a job opens, both rounded up, and the bound by which it composes; public."""

    epsilon: Decimal
    delta: Decimal
    bound: NormalBound


def spent_by(job: Job, output: Output, *, answers: int | None = None) -> Spent | None:
    """Returns what the answers of one output about samples spend, composed over all of them.

    Against whom: everybody but the parties that compute, of whom so many as the output says may pool. What is protected: all that
    went into the model, since an answer moves by no more than its range whatever the model is.

    Args:
        job: an inference or a serving; of other jobs nothing has noise by itself alone; public.
        output: one of its outputs; public.
        answers: how many answers; None for as many as the job may open.

    Returns:
        None if it has no noise, or so little that epsilon would be above 100.
    """
    if not output.has_noise or not job.most_samples:
        return None
    count = num_answers(job, output) if answers is None else answers
    if count == 0:
        return Spent(Decimal(0), Decimal(0), normal_bound(UNIT_OF_MODELS, squared=0))
    computing = len(job.computing_parties)
    return _of_mechanism(
        squared=squared_sensitivity(job) * count,
        numbers=count * job.label_width,
        honest=computing - output.noise_colluders,
        own=own_deviation(output, drawers=computing),
        bits=VALUE_BITS,
        unit=UNIT_OF_MODELS,
    )


def spent_together(job: Job, *, rows: int | None = None) -> Spent | None:
    """Returns what all outputs of a job spend together; public.

    Those about rows are one mechanism of their owners' noise, which protects one row, or all rows of a person where she has
    several, counted or left out, against everybody but so many owners as may pool. Answers about samples are those of `spent_by`,
    and add up.

    Args:
        job: whose outputs are opened.
        rows: on how many samples answers are; None for as many as the job permits.

    Returns:
        None if something is opened without noise, or with so little that epsilon would be above 100.
    """
    if adds_row_noise(job):
        owners = len(contributors(job))
        return _of_mechanism(
            squared=noise_steps(job) * squared_row_sensitivity(job),
            numbers=noise_steps(job) * num_noisy(job),
            honest=owners - job.outputs[0].noise_colluders,
            own=row_noise_deviation(job, owners=owners),
            bits=grid_bits(job),
            unit=unit_of_rows(rows_of_person(job)),
        )
    total = Spent(Decimal(0), Decimal(0), normal_bound(UNIT_OF_MODELS, squared=0))
    for output in job.outputs:
        most = num_answers(job, output)
        found = spent_by(job, output, answers=most if rows is None else min(most, rows))
        if found is None:
            return None
        total = Spent(total.epsilon + found.epsilon, total.delta + found.delta, total.bound + found.bound)
    return total


def _of_mechanism(*, squared: int, numbers: int, honest: int, own: int, bits: int, unit: str) -> Spent | None:
    """What one normal mechanism spends.

    Args:
        squared: its sensitivity in the unit of the numbers, squared.
        numbers: how many are opened.
        honest: how many of those that draw do not collude.
        own: the deviation of one of them, in units of the grid.
        bits: of the grid: fractional ones.
        unit: what is protected, see `privacy.accounting.normal_bound`.
    """
    smaller, rounding = rounded_gaussian(math.isqrt(honest * own * own))
    distance = numbers * (sum_distance(honest, own) + rounding) + sampler_distance(numbers * honest, own)
    ratio = math.nextafter(math.sqrt(squared) * 2**bits / smaller, math.inf)
    epsilon = least_epsilon(ratio, float(DELTA) / 2)
    if epsilon is None or (1 + math.exp(epsilon)) * distance > float(DELTA) / 2:
        return None
    bound = normal_bound(unit, squared=math.nextafter(ratio * ratio, math.inf), distance=distance)
    return Spent(Decimal(epsilon).quantize(_PLACES, ROUND_CEILING), DELTA, bound)


def spent_in_words(job: Job) -> str:
    """Returns what all answers of a job spend at most, for people; empty if something is opened without enough noise."""
    found = spent_together(job) if job.outputs else None
    if found is None:
        return ""
    colluders = min(output.noise_colluders for output in job.outputs)
    if adds_row_noise(job):
        rows = rows_of_person(job)
        whose = "one row" if rows == 1 else f"a person with at most {rows} rows, all at one owner"
        unit, against = f"{whose}, counted or left out", f"{colluders} of {len(contributors(job))} owners"
    else:
        unit, against = "all rows that the model was trained on", f"{colluders} computing part(ies)"
    return f"{found.epsilon:f} (delta {found.delta:f}) for {unit}, against {against} who pool"


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
