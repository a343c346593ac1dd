"""How much noise a guarantee needs: the least noise multiplier, to three decimals, that keeps a stated limit.

The limit is either epsilon for a delta, or the most members that any attack may find at a rate of false alarms. The second says
what people can judge, and asks for less noise than the epsilon that is customary for the same fear.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from privacy.accounting.accountant import MAX_EPSILON, Account, read_number, renyi_epsilon
from privacy.accounting.samplers import Sampler, overflow_of
from protocols.errors import ConfideError, ErrorCode

PLACES = 3
LEAST_NOISE, MOST_NOISE = Decimal("0.1"), Decimal(10_000)
_STEP = Decimal(1).scaleb(-PLACES)
_ROUGH, _FINE = 1e-3, 2e-4
_FINE_UP_TO = 4.0  # epsilon; as the accountant chooses
_RATE_DELTA = 1e-6  # at which hopelessly little noise is told from the rest without a curve
_HOPELESS = 4 * MAX_EPSILON

Distance = Callable[[str], float]
"""From a noise multiplier to the distance of what is drawn from continuous Gaussian noise, over all steps."""


def no_distance(_: str) -> float:
    """Returns 0: what a first look leaves out; the noise that a job draws is further only by less than 2^-100."""
    return 0.0


def choose_noise(sampler: Sampler, *, epsilon: str, delta: str, distance_of: Distance = no_distance) -> str:
    """Returns the least noise multiplier for which an accountant gives at most epsilon at delta.

    Args:
        sampler: how rows are chosen.
        epsilon: decimal.
        delta: decimal.
        distance_of: of the noise that is drawn.

    Raises:
        ConfideError: INVALID_ARGUMENT (the asker's fault): the limits are none, or no noise up to 10,000 keeps them.
    """
    limit, given = float(read_number("epsilon", epsilon, least="0.0001", most=str(MAX_EPSILON))), _delta(delta)

    def keeps(noise: Decimal, interval: float) -> bool:
        if renyi_epsilon(sampler, float(noise), given) > _HOPELESS:
            return False
        distance = distance_of(f"{noise:f}") + overflow_of(sampler)
        return Account(sampler, float(noise), interval=interval).epsilon(given, distance) <= limit

    return _least(keeps, _FINE if limit <= _FINE_UP_TO else _ROUGH)


def choose_noise_for_attack(sampler: Sampler, *, max_tpr: str, at_fpr: str, distance_of: Distance = no_distance) -> str:
    """Returns the least noise multiplier for which no attack finds more members than a limit.

    Args:
        sampler: how rows are chosen.
        max_tpr: decimal: the most members, of all, that an attack may find.
        at_fpr: decimal: with so many false alarms among those who are none.
        distance_of: of the noise that is drawn.

    Raises:
        ConfideError: INVALID_ARGUMENT (the asker's fault): the limit is none, is met by guessing at best, or by no noise.
    """
    limit, alarms = _rate("max_tpr", max_tpr), _rate("at_fpr", at_fpr)
    if limit <= alarms:
        what = f"whoever guesses finds {at_fpr} of members at {at_fpr} false alarms: no noise makes it {max_tpr}"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Permit more than the rate of false alarms.")

    def keeps(noise: Decimal, interval: float) -> bool:
        if renyi_epsilon(sampler, float(noise), _RATE_DELTA) > _HOPELESS:
            return False
        distance = distance_of(f"{noise:f}") + overflow_of(sampler)
        return Account(sampler, float(noise), interval=interval).true_positives(alarms, distance) <= limit

    return _least(keeps, _FINE)


def _least(keeps: Callable[[Decimal, float], bool], fine: float) -> str:
    """Returns the least noise that keeps a limit: found on a rough curve, which is never too good, then tried on the fine one."""
    high = Decimal(1)
    while not keeps(high, _ROUGH):
        high *= 2
        if high > MOST_NOISE:
            what = f"no noise multiplier up to {MOST_NOISE} keeps the limit"
            remedy = "Train with fewer steps, sample fewer rows, or permit more."
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy=remedy)
    low = LEAST_NOISE if high == 1 else high / 2
    if low == LEAST_NOISE and keeps(low, _ROUGH):
        return f"{LEAST_NOISE:f}"
    high = _bisect(low, high, lambda noise: keeps(noise, _ROUGH))
    if fine < _ROUGH:  # the fine curve is lower by a few thousandths of the noise at most; else the rough answer stands
        low = max(LEAST_NOISE, (high * Decimal("0.98")).quantize(_STEP))
        if not keeps(low, fine):
            high = _bisect(low, high, lambda noise: keeps(noise, fine))
    return f"{high:f}"


def _bisect(low: Decimal, high: Decimal, keeps: Callable[[Decimal], bool]) -> Decimal:
    while high - low > _STEP:
        middle = ((low + high) / 2).quantize(_STEP)
        if keeps(middle):
            high = middle
        else:
            low = middle
    return high


def _delta(text: str) -> float:
    return float(read_number("delta", text, least="0.000000000001", most="0.1"))


def _rate(name: str, text: str) -> float:
    return float(read_number(name, text, least="0.000001", most="1"))
