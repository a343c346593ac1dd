"""How charges compose: each is bounded by a normal mechanism, and normal mechanisms compose exactly, whatever was chosen when.

By Blackwell's theorem a mechanism with a bound (`privacy.accounting.normal_bound`) is a function of its result (Zhu, Dong
and Wang, "Optimal Accounting of Differential Privacy via Characteristic Function", AISTATS 2022, on dominating pairs). So charges
of one unit together are a function of normal mechanisms, of mu^2 the sum of theirs, except with probability sum(excess):

    delta(epsilon) <= delta_mu(epsilon) + sum(excess) + (1 + e^epsilon) sum(distance),    mu^2 = sum(mu_i^2)

Why not one privacy loss distribution over all charges: noise, rate and steps of a later job may be chosen after the results of
earlier ones, and a cap stops whoever chooses so. As a cap, the composition of privacy loss distributions is no bound in general
(Regehr et al., "Privacy Filters are Captured by Residues", 2026). That of normal mechanisms is one (Smith and Thakurta, "Fully
Adaptive Composition for Gaussian Differential Privacy", 2022). Where results may decide between mu^2 and excess, or between the
sum and the composition, it holds at a larger delta (docs/differential-privacy.md).

Sums of exact decimals, a maximum and minima: no order of charges matters, and no figure falls by another charge.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache, reduce

from privacy.accounting.noisy_answers import least_epsilon
from privacy.accounting.normal_bound import EXACT, NormalBound

_QUANTUM = Decimal("0.0001")
_LEAST_DELTA = 1e-10  # the formula is rounded too coarsely for less


@dataclass(frozen=True)
class Level:
    """Charges of one unit whose deltas are of one power of ten; public.

    Attributes:
        bound: of all of them.
        epsilon: of all of them, added up.
        delta: likewise.
        least_delta: of them.
        charges: how many.
    """

    bound: NormalBound
    epsilon: Decimal
    delta: Decimal
    least_delta: Decimal
    charges: int

    @property
    def power(self) -> int:
        """Of ten, of every delta in it."""
        return self.least_delta.adjusted()

    def __add__(self, other: Level) -> Level:
        """Returns the charges of both together."""
        return Level(
            bound=self.bound + other.bound,
            epsilon=EXACT.add(self.epsilon, other.epsilon),
            delta=EXACT.add(self.delta, other.delta),
            least_delta=min(self.least_delta, other.least_delta),
            charges=self.charges + other.charges,
        )


@dataclass(frozen=True)
class Composition:
    """What charges of one unit spend together; public.

    One charge of a small delta, a noisy count's, must not make those of large deltas add up, whose bounds tell everything with a
    probability above it. So levels are cut into runs, each of which composes at the least of its deltas or adds up, and runs add
    up. Of all ways to cut, the one that gives least counts. A further charge raises what every way gives: no figure falls by it.

    Attributes:
        levels: in falling powers; at least one.
        largest: of the epsilons of all charges.
    """

    levels: tuple[Level, ...]
    largest: Decimal

    @staticmethod
    def of(bound: NormalBound, *, epsilon: Decimal, delta: Decimal) -> Composition:
        """Returns what one charge of that epsilon and delta spends."""
        return Composition((Level(bound, epsilon, delta, delta, 1),), epsilon)

    @property
    def bound(self) -> NormalBound:
        """Of all charges."""
        return reduce(NormalBound.__add__, (level.bound for level in self.levels))

    @property
    def added(self) -> Decimal:
        """The epsilons of all charges, added up."""
        return reduce(EXACT.add, (level.epsilon for level in self.levels))

    @property
    def charges(self) -> int:
        """How many there are."""
        return sum(level.charges for level in self.levels)

    @property
    def epsilon(self) -> Decimal:
        """The least that a way to cut gives, but never less than the largest charge."""
        return max(self.largest, self._least[0])

    @property
    def at_delta(self) -> Decimal:
        """At which delta the epsilon is."""
        return self._least[1]

    @property
    def _least(self) -> tuple[Decimal, Decimal]:
        best = [(Decimal(0), Decimal(0))]  # of the levels before each
        for end in range(1, len(self.levels) + 1):
            runs = ((best[start], _of_run(self.levels[start:end])) for start in range(end))
            best.append(min((EXACT.add(one[0], two[0]), EXACT.add(one[1], two[1])) for one, two in runs))
        return best[-1]

    def __add__(self, other: Composition) -> Composition:
        """Returns what both spend together; they are of one unit."""
        found: dict[int, Level] = {}
        for level in (*self.levels, *other.levels):
            found[level.power] = found[level.power] + level if level.power in found else level
        return Composition(tuple(found[power] for power in sorted(found, reverse=True)), max(self.largest, other.largest))

    def less(self, part: Composition) -> Composition:
        """Returns what remains of one charge without a part of it."""
        (whole,), left = self.levels, EXACT.subtract(self.added, part.added)
        return Composition((replace(whole, bound=whole.bound.less(part.bound), epsilon=left),), left)


def _of_run(levels: Sequence[Level]) -> tuple[Decimal, Decimal]:
    """Returns epsilon and delta of levels that compose, or add up if that is less."""
    run = reduce(Level.__add__, levels)
    # Of a single charge too: it may claim more than it needs, and composed with a second one it would lower the figure.
    together = composed_epsilon(run.bound, run.least_delta)
    added = (run.epsilon, run.delta)
    return added if together is None else min(added, (together, run.least_delta))


def by_unit(parts: Iterable[Composition]) -> tuple[Composition, ...]:
    """Returns one composition for each unit, in the order of units."""
    found: dict[str, Composition] = {}
    for part in parts:
        unit = part.bound.unit
        found[unit] = found[unit] + part if unit in found else part
    return tuple(found[unit] for unit in sorted(found))


@lru_cache(maxsize=1024)
def composed_epsilon(bound: NormalBound, delta: Decimal) -> Decimal | None:
    """Returns the least epsilon of a bound for a delta, rounded up to four places; None if there is none up to 100."""
    mu = math.nextafter(math.sqrt(math.nextafter(float(bound.squared), math.inf)), math.inf)
    excess, distance, found = float(bound.excess), float(bound.distance), 0.0
    while True:
        left = float(delta) - excess - (1 + math.exp(found)) * distance
        needed = None if left <= _LEAST_DELTA else least_epsilon(mu, left)
        if needed is None:
            return None
        if needed <= found:
            return Decimal(found).quantize(_QUANTUM, ROUND_CEILING)
        found = (
            needed + float(_QUANTUM) / 2
        )  # what the distance takes grows with epsilon: the next round is the last, or it is much
