"""What a mechanism is no worse than, in three numbers that add: how the ledger keeps a charge, so that charges compose.

Between neighbours of the unit the mechanism, but for `distance` in total variation, is no worse than to

    tell everything with probability `excess`, else add normal noise of deviation 1 to a value that moves by mu,

where "no worse" is of the whole privacy profile: delta(epsilon) <= excess + (1 - excess) delta_mu(epsilon) for every epsilon, in
both directions. How they compose: `privacy.accounting.composition`.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal

from protocols.errors import ConfideError, ErrorCode
from protocols.private_training import RELATION, Unit

PLACES = 18
EXACT = Context(prec=80, rounding=ROUND_CEILING)
"""Sums of any number of bounds fit: no addition rounds."""

UNIT_OF_ROWS = f"{RELATION} row"
UNIT_OF_MODELS = "all rows behind a model"
_QUANTUM = Decimal(1).scaleb(-PLACES)


def unit_of_rows(rows_per_person: int) -> str:
    """Returns relation and unit of noise on numbers about rows, as the ledger tells them apart: a row, or a person of several.

    Args:
        rows_per_person: at one owner; public.
    """
    return UNIT_OF_ROWS if rows_per_person == 1 else f"{RELATION} {Unit.PERSON.value}, {rows_per_person} row(s)"


@dataclass(frozen=True)
class NormalBound:
    """See the module; public. Decimals are exact.

    Attributes:
        unit: relation and unit of privacy; only bounds of one unit compose.
        squared: mu^2.
        excess: probability.
        distance: in total variation, in each of two neighbouring worlds.
    """

    unit: str
    squared: Decimal
    excess: Decimal
    distance: Decimal

    def __post_init__(self) -> None:
        """Refuses what is no bound.

        Raises:
            ConfideError: INTERNAL (ours): a number is negative or not finite.
        """
        if not all(number.is_finite() and number >= 0 for number in (self.squared, self.excess, self.distance)):
            raise ConfideError(ErrorCode.INTERNAL, "a bound of a mechanism is of numbers that are not negative")

    def __add__(self, other: NormalBound) -> NormalBound:
        """Returns the bound of two mechanisms of one unit, one after the other or at once."""
        return NormalBound(
            self.unit,
            EXACT.add(self.squared, other.squared),
            EXACT.add(self.excess, other.excess),
            EXACT.add(self.distance, other.distance),
        )

    def less(self, part: NormalBound) -> NormalBound:
        """Returns the bound of what remains of a mechanism without a part of it.

        Raises:
            ConfideError: INTERNAL (ours): the part is more than the whole.
        """
        return NormalBound(
            self.unit,
            EXACT.subtract(self.squared, part.squared),
            EXACT.subtract(self.excess, part.excess),
            EXACT.subtract(self.distance, part.distance),
        )


def normal_bound(unit: str, *, squared: float, excess: float = 0.0, distance: float = 0.0) -> NormalBound:
    """Returns a bound of at most `PLACES` places, none of whose numbers is below the one given."""
    return NormalBound(unit, _rounded_up(squared), _rounded_up(excess), _rounded_up(distance))


def _rounded_up(value: float) -> Decimal:
    return Decimal(value).quantize(_QUANTUM, context=EXACT)
