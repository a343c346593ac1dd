"""What every technique of the catalogue says of itself.

The statement counts people, since that is what differential privacy is about. A step of private training clips what belongs
together to a norm C and adds noise for one person's part. Copies of a row are averaged before they are clipped, so that they
count once. What is left to say is into how many of these clipped groups one person's row enters:

    groups g   replace-one sensitivity   add-or-remove sensitivity
    1          2 C                       C            the row alone is read
    2          4 C                       3 C          it is also mixed into one other row's copies
    all        not bounded               not bounded  a statistic of the whole table is read that is not public or charged
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import TypeAlias

from protocols.errors import Problem

Settings: TypeAlias = Mapping[str, float]
MAX_COPIES = 16
_DECIMAL = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,9})?")


class Medium(Enum):
    """What a technique works on."""

    TABLE = "table"
    IMAGE = "image"
    TEXT = "text"


class Reads(Enum):
    """What is read to make one row."""

    OWN_ROW = "the row alone"
    OTHER_ROW = "the row and one other row of the same owner and class"
    WHOLE_TABLE = "the row and a statistic of the owner's whole table"


class Use(Enum):
    """What becomes of the rows that were there."""

    ADDS_COPIES = "adds copies"
    REPLACES = "replaces rows; queries must go through it too"


@dataclass(frozen=True)
class Parameter:
    """One parameter and its bounds, both inside.

    Attributes:
        name: as in a recipe.
        low: the least value, a decimal.
        high: the greatest.
        whole: whether it is a whole number.
        meaning: for people.
    """

    name: str
    low: str
    high: str
    whole: bool
    meaning: str


@dataclass(frozen=True)
class Statement:
    """What a technique means for the people behind the rows.

    Attributes:
        reads: what is read to make one row.
        groups: into how many clipped groups one person's row enters; None if into all.
        reversible: whether who holds a made row gets the row back exactly.
        note: what else one must know, for people.
    """

    reads: Reads
    groups: int | None
    reversible: bool
    note: str

    @property
    def sensitivity(self) -> str:
        """The effect on the sensitivity of a step of private training, copies averaged before clipping; for people."""
        match self.groups:
            case None:
                return "not bounded, unless the statistic is public or its cost already charged"
            case 1:
                return "unchanged"
            case groups:
                return f"{groups} times under replace-one, {2 * groups - 1} times under add-or-remove"


@dataclass(frozen=True, kw_only=True)
class Technique:
    """One entry of the catalogue; public.

    Attributes:
        name: as in commands, recipes and records.
        medium: what it works on.
        what: what it does, for people.
        statement: what it means for people.
        parameters: all must be given; there are no defaults.
        measured_with: the settings of its record, decimals.
        use: what becomes of the rows that were there.
    """

    name: str
    medium: Medium
    what: str
    statement: Statement
    parameters: tuple[Parameter, ...]
    measured_with: Mapping[str, str]
    use: Use = Use.ADDS_COPIES

    def read_settings(self, where: str, given: Mapping[str, object]) -> tuple[dict[str, str], list[Problem]]:
        """Reads settings, decimals as texts.

        Args:
            where: the path of the settings, for problems.
            given: what stands there.

        Returns:
            The settings in their shortest form, and everything that is wrong with them.
        """
        settings: dict[str, str] = {}
        problems: list[Problem] = []
        known = [parameter.name for parameter in self.parameters]
        for name in given:
            if name not in known:
                remedy = f"{self.name} has {', '.join(known) or 'no parameters'}"
                problems.append(Problem(f"{where}.{str(name)[:64]}", "unknown parameter", remedy))
        for parameter in self.parameters:
            bounds = f"give {'a whole number' if parameter.whole else 'a decimal'} from {parameter.low} to {parameter.high}"
            value = given.get(parameter.name)
            if value is None:
                problems.append(Problem(f"{where}.{parameter.name}", "missing parameter", bounds))
            elif not isinstance(value, str) or not _DECIMAL.fullmatch(value) or not _within(Decimal(value), parameter):
                problems.append(Problem(f"{where}.{parameter.name}", "is outside its bounds", bounds))
            else:
                settings[parameter.name] = _shortest(Decimal(value))
        return settings, problems


def as_numbers(settings: Mapping[str, str]) -> Settings:
    """Returns settings that were read as numbers."""
    return {name: float(value) for name, value in settings.items()}


def _within(value: Decimal, parameter: Parameter) -> bool:
    return Decimal(parameter.low) <= value <= Decimal(parameter.high) and not (parameter.whole and value % 1)


def _shortest(value: Decimal) -> str:
    text = format(value.normalize(), "f")
    return "0" if text in ("-0", "0") else text
