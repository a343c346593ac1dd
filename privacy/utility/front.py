"""Which of several private models none of the others beats: the front of utility, epsilon, attack score and group gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from privacy.figures import Figure


@dataclass(frozen=True)
class Candidate:
    """One model by what it gives and what it costs; public among those who may see the figures.

    Attributes:
        epsilon: that its training was charged.
        utility: more is better; None if it was withheld or not measured.
        attack: what a membership attack finds, less is better; likewise.
        gap: between groups, less is better; likewise.
    """

    epsilon: Decimal
    utility: Figure | None
    attack: Figure | None
    gap: Figure | None


def front(candidates: Sequence[Candidate]) -> tuple[bool, ...]:
    """Returns of each whether it is Pareto-optimal: none of the others is at least as good in all ways and better in one.

    Estimates are compared, not their intervals. A figure that is not there counts as the worst possible: nothing is known in its
    favour, so a model never gets ahead by hiding it. One that no candidate has decides nothing.
    """
    costs = [_costs(candidate) for candidate in candidates]
    return tuple(not any(_beats(other, own) for other in costs) for own in costs)


def _costs(candidate: Candidate) -> tuple[float | Decimal, ...]:
    worst = float("inf")
    return (
        candidate.epsilon,
        worst if candidate.utility is None else -candidate.utility.value,
        worst if candidate.attack is None else candidate.attack.value,
        worst if candidate.gap is None else candidate.gap.value,
    )


def _beats(one: tuple[float | Decimal, ...], other: tuple[float | Decimal, ...]) -> bool:
    return one != other and all(ours <= theirs for ours, theirs in zip(one, other, strict=True))
