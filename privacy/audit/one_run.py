"""A lower bound of epsilon from one run of a mechanism.

An owner plants canaries, each by a fair coin of its own, and scores every one of them from what the mechanism put out (Steinke,
Nasr, Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023). For the highest scores it guesses "planted", for as
many lowest ones "left out", for the rest nothing. How many of the guesses can be right is bounded as in Mahloujifar, Melis,
Chaudhuri, "Auditing f-Differential Privacy in One Run", ICML 2025, which loses little to delta, while the first paper loses the
number of canaries times delta. Of m canaries, g are guessed; p(k) is the probability that k guesses are right, and

    right(c) = sum over k >= c of p(k) k / m,    wrong(c) = sum over k >= c of p(k) (g - k) / m.

Take one canary at random. right(c) is the probability that it is guessed, rightly, and c - 1 or more of the others are right;
wrong(c - 1) that it is guessed, wrongly, and c - 1 or more of the others are right. One becomes the other by turning its coin,
with everything else as it was. If the mechanism is (epsilon, delta) private for a canary, then (the averages over canaries and
coins cost nothing, for the bound of privacy is concave)

    wrong(c - 1) >= max(0, e^-epsilon (right(c) - delta), 1 - delta - e^epsilon (1 - right(c))).

Suppose that c or more right guesses had a probability of `chance`. The least that this makes of right and wrong at c is with all
of it at c itself; going down to c = 0 with the least that the inequality asks for, right and wrong can only grow. If they end at
more than the g / m that they are, so many right guesses are less probable than `chance`.

Every epsilon under which what was seen is less probable than one minus the confidence is refuted. How many guesses are made must
not depend on the scores, so the same few numbers of them are always tried, and each gets an equal part of what may go wrong.

A bound above the claim shows that the claim is wrong. One below it shows nothing: it is no estimate of epsilon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.audit.terms import CONFIDENCE, MAX_EPSILON, MIN_CANARIES
from protocols.errors import ConfideError, ErrorCode

_SHARES = (1, 2, 4, 8, 16, 32)  # of the canaries, one in so many is guessed
_STEPS_PER_UNIT = 10_000


@dataclass(frozen=True)
class AuditBound:
    """What an audit found; it says how much some canaries leaked, and nothing about any row.

    Attributes:
        epsilon: everything below it is refuted; 0 if nothing is. Rounded down to four decimals.
        confidence: with which.
        canaries: planted or left out.
        guesses: of the number of guesses that gave the bound.
        correct: of these.
    """

    epsilon: float
    confidence: float
    canaries: int
    guesses: int
    correct: int


def epsilon_lower_bound(
    scores: NDArray[np.float64], included: NDArray[np.bool_], *, delta: float, confidence: float = CONFIDENCE
) -> AuditBound:
    """Returns the lower bound of epsilon that the canaries of one run show.

    Args:
        scores: (canaries,), larger for those that seem planted; from what the mechanism put out alone, secret to the owner.
        included: (canaries,), the owner's coins: fair, independent, and used for nothing but planting; secret.
        delta: of the guarantee that is claimed.
        confidence: the chance that a bound is not above the true epsilon, at least.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault) for fewer than 8 canaries, other shapes, scores that are no numbers,
            a delta outside [0, 1) or a confidence outside (0, 1).
    """
    if scores.ndim != 1 or scores.shape != included.shape or scores.size < MIN_CANARIES:
        raise ConfideError(
            ErrorCode.INVALID_ARGUMENT, f"an audit takes a score and a coin of each of at least {MIN_CANARIES} canaries"
        )
    if not bool(np.isfinite(scores).all()) or not 0 <= delta < 1 or not 0 < confidence < 1:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "scores are numbers, delta and confidence are below 1")
    order = np.argsort(scores, kind="stable")  # ties in the order of the canaries, which knows nothing of the coins
    planted = included[order]
    halves = sorted({half for share in _SHARES if 2 * (half := scores.size // share // 2) >= MIN_CANARIES}, reverse=True)
    chance = (1 - confidence) / len(halves)
    found = []
    for half in halves:
        correct = int(np.count_nonzero(~planted[:half]) + np.count_nonzero(planted[planted.size - half :]))
        epsilon = _largest_refuted(correct, 2 * half, scores.size, delta, chance)
        found.append(AuditBound(epsilon, confidence, scores.size, 2 * half, correct))
    return max(found, key=lambda bound: bound.epsilon)


def is_refuted(correct: int, guesses: int, canaries: int, *, epsilon: float, delta: float, chance: float) -> bool:
    """Whether so many right guesses, or more, are less probable than `chance` for every (epsilon, delta) private mechanism.

    Args:
        correct: right guesses.
        guesses: in all.
        canaries: in all.
        epsilon: of the mechanism, for a canary.
        delta: of the mechanism, for a canary.
        chance: above 0.
    """
    less, more = math.exp(-epsilon), math.exp(epsilon)
    right = chance * correct / canaries
    wrong = chance * (guesses - correct) / canaries
    for count in range(correct - 1, -1, -1):
        least = max((right - delta) * less, 1 - delta - more * (1 - right))
        if least <= wrong:  # then nothing changes any more, down to 0
            break
        right += count / (guesses - count) * (least - wrong)
        wrong = least
        if right + wrong > guesses / canaries:
            return True
    return right + wrong > guesses / canaries


def _largest_refuted(correct: int, guesses: int, canaries: int, delta: float, chance: float) -> float:
    """Returns the largest epsilon that is refuted, in steps of 1 / 10,000; 0 if none is."""
    low, high = 0, int(MAX_EPSILON * _STEPS_PER_UNIT)
    while high - low > 1:
        middle = (low + high) // 2
        refuted = is_refuted(correct, guesses, canaries, epsilon=middle / _STEPS_PER_UNIT, delta=delta, chance=chance)
        low, high = (middle, high) if refuted else (low, middle)
    return low / _STEPS_PER_UNIT
