"""From a sampler and its noise to epsilon, and to the most that any attack can find out.

The figure is that of privacy loss distributions, discretised so that it is never below the true one; Renyi differential privacy
is computed beside it. The latter is an upper bound that is less tight, so a figure above it says that one of the two is wrong,
and then there is none at all.

What is computed is of the ideal mechanism: continuous Gaussian noise and uncut samples. The real one differs from it by at most a
distance eta in total variation, in each of two neighbouring worlds. If the ideal one has (epsilon, delta), the real one has
(epsilon, delta + (1 + e^epsilon) eta):

    P'(S) <= P(S) + eta <= e^epsilon Q(S) + delta + eta <= e^epsilon (Q'(S) + eta) + delta + eta
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from functools import lru_cache
from importlib.metadata import version

import numpy as np
from dp_accounting import NeighboringRelation
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from scipy.special import ndtr  # type: ignore[import-untyped]

from privacy.accounting.events import event_of
from privacy.accounting.samplers import Sampler, overflow_of
from protocols.errors import ConfideError, ErrorCode, Problem

ACCOUNTANT = f"dp-accounting {version('dp-accounting')}: PLD, compared with RDP"
MAX_EPSILON = 100  # beyond it a claim says nothing
EPSILON_PLACES = 4
RATE_PLACES = 6
_RELATION = NeighboringRelation.REPLACE_SPECIAL  # the library's name of zero-out
_FINE, _COARSE = 2e-4, 1e-3  # steps of the privacy loss: for small epsilon, and where the fine one would take seconds
_CHECK = 10  # so many times coarser is the second discretisation, whose difference bounds the error of the first
_FINE_UP_TO = 4.0
_HOPELESS = 4 * MAX_EPSILON  # of Renyi's figure: the tight one is above the largest claim then, and costly to compute
_ORDERS = (*range(2, 65), 80, 96, 128, 192, 256, 512, 1024)  # fractional ones fail to converge for strong sampling
_EPSILONS = 128  # at which the trade-off curve is bounded
_STEPS_OF_PROFILE = 4_000  # of a privacy profile below a normal one
_ROUNDING = 1e-14  # of both
_HALVINGS = 50


@dataclass(frozen=True)
class Guarantee:
    """What a mechanism gives for one delta; public. Decimals are rounded up.

    Attributes:
        epsilon: by privacy loss distributions, every distance to the ideal mechanism charged.
        rdp_epsilon: of the ideal mechanism by Renyi differential privacy, never below.
        distance: of the real mechanism to the ideal one, in total variation.
        tpr_at_1_percent: the most members that any attack finds among all, at one false alarm in 100 others.
        tpr_at_0_1_percent: at one in 1,000.
        advantage: the largest difference of the two rates.
    """

    epsilon: Decimal
    rdp_epsilon: Decimal
    distance: float
    tpr_at_1_percent: Decimal
    tpr_at_0_1_percent: Decimal
    advantage: Decimal


class Account:
    """A sampler with its noise, composed over all its steps."""

    def __init__(self, sampler: Sampler, noise_multiplier: float, *, interval: float) -> None:
        self.interval = interval
        self._pld = PLDAccountant(_RELATION, value_discretization_interval=interval)
        self._pld.compose(event_of(sampler, noise_multiplier))
        self._curve: tuple[np.ndarray, np.ndarray] | None = None

    def ideal_epsilon(self, delta: float) -> float:
        """Returns the least epsilon for a delta, of the ideal mechanism."""
        return float(self._pld.get_epsilon(delta))

    def epsilon(self, delta: float, distance: float) -> float:
        """Returns epsilon for a delta, the distance to the ideal mechanism charged; infinite if delta is too small for it."""
        found = self.ideal_epsilon(delta)
        while found <= MAX_EPSILON:
            left = delta - (1 + math.exp(found)) * distance
            if left <= 0:
                return math.inf
            needed = self.ideal_epsilon(left)
            if needed <= found:
                return found
            found = needed + 10.0**-EPSILON_PLACES / 2  # so that the next round is the last unless the charge grew by much
        return found

    def true_positives(self, false_positives: float, distance: float) -> float:
        """Returns the largest rate of members found, of any attack with so many false alarms: the trade-off of the tests
        between neighbours, which is bounded by e^epsilon times false alarms plus delta, for each epsilon.
        """
        epsilons, deltas = self._trade_off()
        return min(1.0, float(np.min(deltas + np.exp(epsilons) * (false_positives + distance))) + distance)

    def advantage(self, distance: float) -> float:
        """Returns the largest difference of the rates of members found and of false alarms, of any attack."""
        return min(1.0, float(self._pld.get_delta(0.0)) + 2 * distance)

    def normal_mu(self, excess: float) -> float | None:
        """Returns the least mu, from above, so that the profile is nowhere above excess + (1 - excess) delta_mu; see
        `privacy.accounting.normal_bound`. None if there is none up to `MAX_EPSILON`.

        Profiles fall. So between two points of a grid the accounted one is at most its value at the lower point, and the normal
        one at least its value at the upper point; beyond the last point the accounted one is below `excess`.
        """
        top = self.ideal_epsilon(excess / 2)
        if not top <= _HOPELESS:
            return None
        grid = np.linspace(0.0, top, _STEPS_OF_PROFILE + 1)
        accounted = np.asarray(self._pld.get_delta(grid)) + _ROUNDING
        if accounted[-1] > excess:
            return None
        low, high = 0.0, float(MAX_EPSILON)
        for _ in range(_HALVINGS):
            mu = (low + high) / 2
            normal = ndtr(mu / 2 - grid[1:] / mu) - np.exp(grid[1:]) * ndtr(-mu / 2 - grid[1:] / mu)
            below = bool(np.all(accounted[:-1] <= excess + (1 - excess) * (normal - _ROUNDING)))
            low, high = (low, mu) if below else (mu, high)
        return high

    def _trade_off(self) -> tuple[np.ndarray, np.ndarray]:
        if self._curve is None:
            epsilons = np.linspace(0.0, min(MAX_EPSILON, self.ideal_epsilon(1e-6)), _EPSILONS)
            self._curve = epsilons, np.asarray(self._pld.get_delta(epsilons))
        return self._curve


def renyi_epsilon(sampler: Sampler, noise_multiplier: float, delta: float) -> float:
    """Returns epsilon of the ideal mechanism by Renyi differential privacy."""
    accountant = RdpAccountant(orders=_ORDERS, neighboring_relation=_RELATION)
    accountant.compose(event_of(sampler, noise_multiplier))
    return float(accountant.get_epsilon(delta))


def guarantee(sampler: Sampler, *, noise_multiplier: str, delta: str, distance: float) -> Guarantee:
    """Returns what a mechanism gives.

    Args:
        sampler: how rows are chosen.
        noise_multiplier: decimal: standard deviation of the noise in units of the sensitivity of one unit.
        delta: decimal.
        distance: of the noise that is drawn to continuous Gaussian noise, over all steps; a sampler's own comes on top.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault): the sampler has no accountant, or epsilon would be above 100;
            INVALID_ARGUMENT likewise: noise or delta are no numbers; INTERNAL (ours): the two accountants contradict each other.
    """
    return _guarantee(
        sampler,
        read_number("noise_multiplier", noise_multiplier, least="0.01", most="100000"),
        read_number("delta", delta, least="0.000000000001", most="0.1"),
        distance + overflow_of(sampler),
    )


def attack_ceiling(sampler: Sampler, *, noise_multiplier: str, distance: float, at_fpr: str) -> Decimal:
    """Returns the most members that any attack finds at a rate of false alarms.

    Args:
        sampler: how rows are chosen.
        noise_multiplier: decimal, as for `guarantee`.
        distance: likewise.
        at_fpr: decimal: the rate.

    Raises:
        ConfideError: as `guarantee`.
    """
    noise = read_number("noise_multiplier", noise_multiplier, least="0.01", most="100000")
    alarms = float(read_number("at_fpr", at_fpr, least="0.000001", most="1"))
    return rounded_up(_account(sampler, noise, _FINE).true_positives(alarms, distance + overflow_of(sampler)), RATE_PLACES)


@lru_cache(maxsize=256)
def normal_mu(sampler: Sampler, *, noise_multiplier: str, excess: float) -> float | None:
    """Returns `Account.normal_mu` of the ideal mechanism; None if its epsilon would be far above 100."""
    noise = read_number("noise_multiplier", noise_multiplier, least="0.01", most="100000")
    renyi = renyi_epsilon(sampler, float(noise), excess)
    if renyi > _HOPELESS:
        return None
    return _account(sampler, noise, _FINE if renyi <= _FINE_UP_TO else _COARSE).normal_mu(excess)


@lru_cache(maxsize=256)
def _guarantee(sampler: Sampler, noise_multiplier: Decimal, delta: Decimal, distance: float) -> Guarantee:
    noise, wanted = float(noise_multiplier), float(delta)
    renyi = renyi_epsilon(sampler, noise, wanted)
    if renyi > _HOPELESS:
        raise _nothing(f"epsilon would be far above {MAX_EPSILON}")
    account = _account(sampler, noise_multiplier, _FINE if renyi <= _FINE_UP_TO else _COARSE)
    ideal = account.ideal_epsilon(wanted)
    coarse = Account(sampler, noise, interval=account.interval * _CHECK).ideal_epsilon(wanted)
    refuse_contradiction(tight=ideal, renyi=renyi, tolerance=abs(coarse - ideal) + account.interval)
    found = account.epsilon(wanted, distance)
    if found > MAX_EPSILON:
        raise _nothing(f"epsilon would be above {MAX_EPSILON}, or delta is too small for the precision of the noise")
    return Guarantee(
        epsilon=rounded_up(found, EPSILON_PLACES),
        rdp_epsilon=rounded_up(renyi, EPSILON_PLACES),
        distance=distance,
        tpr_at_1_percent=rounded_up(account.true_positives(0.01, distance), RATE_PLACES),
        tpr_at_0_1_percent=rounded_up(account.true_positives(0.001, distance), RATE_PLACES),
        advantage=rounded_up(account.advantage(distance), RATE_PLACES),
    )


@lru_cache(maxsize=2)  # some megabytes each
def _account(sampler: Sampler, noise_multiplier: Decimal, interval: float) -> Account:
    return Account(sampler, float(noise_multiplier), interval=interval)


def refuse_contradiction(*, tight: float, renyi: float, tolerance: float) -> None:
    """Refuses two figures of one mechanism of which the tight one is above the loose one.

    Args:
        tight: epsilon by privacy loss distributions.
        renyi: epsilon by Renyi differential privacy.
        tolerance: by how much discretisation may have raised the first.

    Raises:
        ConfideError: INTERNAL (ours).
    """
    if not tight <= renyi + tolerance:
        raise ConfideError(ErrorCode.INTERNAL, f"two accountants contradict each other: {tight:.6f} above {renyi:.6f}")


def read_number(name: str, text: str, *, least: str, most: str) -> Decimal:
    """Reads a decimal within bounds.

    Raises:
        ConfideError: INVALID_ARGUMENT (the asker's fault).
    """
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or not Decimal(least) <= value <= Decimal(most):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{name} {text[:32]!r} is no decimal from {least} to {most}")
    return value


def rounded_up(value: float, places: int) -> Decimal:
    """Returns a figure as a decimal that is never below it."""
    return Decimal(value).quantize(Decimal(1).scaleb(-places), rounding=ROUND_CEILING)


def _nothing(what: str) -> ConfideError:
    remedy = "use more noise, fewer steps or a smaller sampling rate"
    problem = Problem("training.privacy.noise_multiplier", what, remedy)
    return ConfideError(ErrorCode.INVALID_JOB, "the training would protect nobody", problems=[problem])
