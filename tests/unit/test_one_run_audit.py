"""The audit of one run: valid for mechanisms whose epsilon is known, and able to see planted faults."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom  # type: ignore[import-untyped]

from privacy.audit.one_run import epsilon_lower_bound, is_refuted
from privacy.audit.terms import CONFIDENCE
from protocols.errors import ConfideError, ErrorCode
from tests.support.canary_faults import Fault, SimulatedTraining, simulated_scores

CHANCE = 0.001
DELTA = 1e-5
CANARIES = 5_000
# Rate 0.25, 60 steps, delta 1e-5: PLD accounting gives these noise multipliers for epsilon 1, 3 and 8.
TRAININGS = {
    1.0: SimulatedTraining(0.25, 60, 7.415),
    3.0: SimulatedTraining(0.25, 60, 2.925),
    8.0: SimulatedTraining(0.25, 60, 1.425),
}


def first_refuted(guesses: int, canaries: int, epsilon: float, delta: float) -> int:
    """The fewest right guesses that refute an epsilon."""
    numbers = range(guesses // 2, guesses + 1)
    return next(n for n in numbers if is_refuted(n, guesses, canaries, epsilon=epsilon, delta=delta, chance=CHANCE))


@pytest.mark.parametrize("guesses", [100, 400, 2_000])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
def test_bound_is_nearly_the_best_one_for_randomised_response(epsilon: float, guesses: int) -> None:
    """Of all mechanisms without delta, randomised response has the most right guesses: a binomial number."""
    chance = 1 / (1 + math.exp(-epsilon))
    refuted = first_refuted(guesses, guesses, epsilon, 0.0)
    assert binom.sf(refuted - 1, guesses, chance) <= CHANCE
    # What is given away is a few guesses, less than one deviation of the number of right ones.
    assert refuted - (binom.isf(CHANCE, guesses, chance) + 1) <= math.sqrt(guesses * chance * (1 - chance)) + 1


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-4])
def test_bound_holds_for_mechanisms_that_tell_some_canaries_with_the_probability_delta(epsilon: float, delta: float) -> None:
    """With a probability of m * delta / i it tells i canaries, drawn at random; beside that it is randomised response."""
    m, chance = 2_000, 1 / (1 + math.exp(-epsilon))
    refuted = first_refuted(m, m, epsilon, delta)
    for told in range(1, m, 7):
        often = min(1.0, m * delta / told)
        wrong = often * binom.sf(refuted - 1 - told, m - told, chance) + (1 - often) * binom.sf(refuted - 1, m, chance)
        assert wrong <= CHANCE


@pytest.mark.parametrize("epsilon", [0.2, 1.0, 3.0])
def test_bound_is_not_above_the_epsilon_of_randomised_response(epsilon: float) -> None:
    above = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        included = rng.random(300) < 0.5
        answers = included ^ (rng.random(300) > 1 / (1 + math.exp(-epsilon)))
        above += epsilon_lower_bound(answers + 0.1 * rng.random(300), included, delta=0.0).epsilon > epsilon
    # At most 0.2 are expected; more than 3 have a chance below 1e-4.
    assert above <= 3


@pytest.mark.parametrize("epsilon", TRAININGS)
def test_sound_training_is_never_shown_to_give_away_more_than_it_claims(epsilon: float) -> None:
    for seed in range(20):
        scores, included = simulated_scores(TRAININGS[epsilon], Fault.NONE, CANARIES, np.random.default_rng(seed))
        bound = epsilon_lower_bound(scores, included, delta=DELTA)
        assert 0 < bound.epsilon <= epsilon
        assert (bound.canaries, bound.confidence) == (CANARIES, CONFIDENCE)


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.NONE])
@pytest.mark.parametrize("epsilon", [1.0, 3.0])
def test_planted_fault_is_shown_by_a_bound_above_the_claim(epsilon: float, fault: Fault) -> None:
    for seed in range(5):
        scores, included = simulated_scores(TRAININGS[epsilon], fault, CANARIES, np.random.default_rng(seed))
        assert epsilon_lower_bound(scores, included, delta=DELTA).epsilon > epsilon


def test_fault_beyond_what_so_many_canaries_can_show_is_not_seen() -> None:
    """Even all guesses right refute no more than about ln(guesses / ln(1 / chance)): five thousand canaries do not show 8."""
    included = np.arange(CANARIES) % 2 == 1
    bound = epsilon_lower_bound(included.astype(np.float64), included, delta=DELTA)
    assert bound.correct == bound.guesses
    assert 5.0 < bound.epsilon < math.log(CANARIES / math.log(6 / CHANCE))


def test_scores_without_meaning_show_nothing() -> None:
    rng = np.random.default_rng(1)
    bound = epsilon_lower_bound(rng.random(1_000), rng.random(1_000) < 0.5, delta=0.0)
    assert bound.epsilon == 0.0


def test_more_right_guesses_refute_more() -> None:
    found = [
        max(step for step in range(120) if is_refuted(n, 400, 1_000, epsilon=step / 20, delta=DELTA, chance=CHANCE))
        for n in (300, 350, 380, 400)
    ]
    assert found == sorted(found)
    assert found[0] < found[-1]


NONE: NDArray[np.bool_] = np.zeros(20, np.bool_)


@pytest.mark.parametrize(
    ("scores", "included", "delta", "confidence"),
    [
        (np.zeros(7), NONE[:7], 0.0, 0.9),
        (np.zeros(20), NONE[:19], 0.0, 0.9),
        (np.zeros((4, 5)), NONE, 0.0, 0.9),
        (np.full(20, np.nan), NONE, 0.0, 0.9),
        (np.zeros(20), NONE, 1.0, 0.9),
        (np.zeros(20), NONE, -0.1, 0.9),
        (np.zeros(20), NONE, 0.0, 1.0),
        (np.zeros(20), NONE, 0.0, 0.0),
    ],
)
def test_audit_of_anything_else_is_refused(
    scores: NDArray[np.float64], included: NDArray[np.bool_], delta: float, confidence: float
) -> None:
    with pytest.raises(ConfideError) as caught:
        epsilon_lower_bound(scores, included, delta=delta, confidence=confidence)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
