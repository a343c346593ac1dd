"""How the rows of a step are chosen; each way has a type of its own, and each type one event that its accountant composes.

A mechanism that samples in one way and is accounted as if it sampled in another claims what it does not give, and nothing shows
it. So an accountant is never chosen: it follows from the type of the sampler (`events.event_of`). The neighbouring relation is
zero-out for all of them: public sizes, and the rows of one unit replaced by rows that contribute nothing.

Shuffled and WithReplacement are here to be refused: no tight and proved accountant exists for them under this relation, and to
account them as Poisson sampling understates their cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class FullBatch:
    """Every step uses all rows: a composition of as many Gaussian mechanisms."""

    steps: int


@dataclass(frozen=True)
class PrivatePoisson:
    """In every step each row is used with probability `rate`, apart from all others; nobody but its owner learns whether."""

    rate: Fraction
    steps: int


@dataclass(frozen=True)
class TruncatedPoisson:
    """Private Poisson sampling whose draws are cut to a public size.

    Attributes:
        rate: of a row in a step.
        steps: of the training.
        overflow: bound of the probability that any draw of the training is cut, in either of two neighbouring worlds.
    """

    rate: Fraction
    steps: int
    overflow: float


@dataclass(frozen=True)
class PublicFixedBatches:
    """Batches that everybody knows: each row is in one batch of every pass. It is amplified by nothing and used once a pass."""

    passes: int


@dataclass(frozen=True)
class Shuffled:
    """Batches of a secret random order; refused."""

    rate: Fraction
    steps: int


@dataclass(frozen=True)
class WithReplacement:
    """Batches of a fixed size, drawn with replacement; refused."""

    rate: Fraction
    steps: int


Sampler = FullBatch | PrivatePoisson | TruncatedPoisson | PublicFixedBatches
AnySampler = Sampler | Shuffled | WithReplacement


def overflow_of(sampler: Sampler) -> float:
    """Returns the bound of the probability that a sampler is not what its event says."""
    return sampler.overflow if isinstance(sampler, TruncatedPoisson) else 0.0
