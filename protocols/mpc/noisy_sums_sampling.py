"""Which of its rows an owner takes in a step: each for itself, with an agreed probability, and nobody else ever learns which.

A row is taken where a uniform whole number below `nominal_rows` is below `batch_size`: probability q = batch_size / nominal_rows
exactly, no rounding anywhere. What is taken is padded to a size that follows from public numbers, so neither time nor shapes tell
how much it was. A draw that does not fit is dropped whole and the owner adds nothing in that step: whether that happens depends
on the coins alone, never on what a row holds (docs/protocols/noisy-sums.md).

Learns: nobody anything; the draw stays in the owner's worker.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.mpc.noise_design import private_terms
from protocols.training import Training

OVERFLOW_BITS = 60  # one draw of one owner does not fit with a probability of at most 2^-60
_WORD = 8
_SLACK = 1e-6  # of the exponent, far above the rounding of its few logarithms


def padded_batch(num_rows: int, rate: Fraction) -> int:
    """Returns how many rows an owner computes with in every step, whatever it drew; public.

    Args:
        num_rows: of the owner in all, canaries counted; at least 1.
        rate: probability q of every row, between 0 and 1, both excluded.

    Returns:
        The smallest m from q num_rows on for which Chernoff's bound on the probability of more than m, exp(-n KL((m + 1) / n, q))
        (Hoeffding 1963, theorem 1), is at most 2^-60; num_rows if there is none.
    """
    low, high = math.floor(rate * num_rows), num_rows
    while low < high:  # the bound falls from the mean on
        middle = (low + high) // 2
        if _exponent(middle + 1, num_rows, rate) >= OVERFLOW_BITS * math.log(2) + _SLACK:
            high = middle
        else:
            low = middle + 1
    return low


def training_of(job: Job) -> Training:
    """Returns the hyper-parameters of a private training; its epochs count steps.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) if the job is no training.
    """
    if job.training is None:
        raise ConfideError(ErrorCode.INVALID_JOB, "a training without hyper-parameters")
    return job.training


def sampling_rate(job: Job) -> Fraction:
    """Returns the probability with which a row of any owner is in a step, exactly; public."""
    return Fraction(training_of(job).batch_size, private_terms(job).nominal_rows)


def overflow_delta(job: Job) -> Fraction:
    """Returns the probability that a draw of a row's owner overflows in any step: steps times 2^-60, to be added to delta.

    Under the zero-out relation it costs nothing: given the coins of the other rows, either the row's own coin leaves the draw
    within the size, and the step is the sampled Gaussian mechanism; or an overflow takes the row out whether it is zero or not.
    It is charged all the same, so that the guarantee does not hang on this argument.
    """
    return Fraction(training_of(job).epochs, 1 << OVERFLOW_BITS)


def draw_sample(num_rows: int, *, batch_size: int, nominal_rows: int, random: Callable[[int], bytes]) -> NDArray[np.bool_]:
    """Draws which rows are in a step; secret.

    Args:
        num_rows: of this owner.
        batch_size: expected rows of a step over all owners.
        nominal_rows: agreed rows of all owners.
        random: gives so many uniform bytes, from the system's generator.

    Returns:
        (num_rows,) bool, independent, each True with probability batch_size / nominal_rows exactly.
    """
    limit = (1 << 64) // nominal_rows * nominal_rows  # words from here on would favour small remainders
    words = np.frombuffer(random(_WORD * num_rows), "<u8").copy()
    while limit < 1 << 64 and (outside := words >= np.uint64(limit)).any():
        words[outside] = np.frombuffer(random(_WORD * int(outside.sum())), "<u8")
    taken: NDArray[np.bool_] = words % np.uint64(nominal_rows) < np.uint64(batch_size)
    return taken


def _exponent(count: int, num_rows: int, rate: Fraction) -> float:
    """Minus the logarithm of the bound on drawing at least `count` of n: n KL(count / n, q)."""
    share, expected = count / num_rows, float(rate)
    if share <= expected:
        return 0.0
    rest = 0.0 if count == num_rows else (1 - share) * math.log((1 - share) / (1 - expected))
    return num_rows * (share * math.log(share / expected) + rest)
