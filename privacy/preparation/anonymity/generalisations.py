"""Coarser values of one column: bands of numbers, beginnings of texts, parts of dates, groups of categories.

What a rule makes of a cell follows from the cell and public parameters alone, whatever else is in the column. A missing cell
stays missing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from privacy.preparation.recipes.cells import is_date, is_number, is_text, mask, numbers_of, trimmed
from privacy.preparation.recipes.entry import EntryReader

_NUMBER = r"^[+-]?([0-9]{1,15}\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_MAX_KEPT = 64
_LARGEST = 1e15  # whole numbers up to there are exact in float64, and so are the middles of their bands


class Generalisation(ABC):
    """A rule that makes the values of a column coarser; public, compared by value."""

    NEEDS: str  # what cells must be, for people

    def unreadable(self, values: pa.Array) -> NDArray[np.bool_]:
        """Returns (rows,) which cells are there and are not what the rule needs; by default none."""
        return np.zeros(len(values), bool)

    def takes(self, kind: pa.DataType) -> bool:
        """Whether it works on columns of a type."""
        return is_text(kind)

    @abstractmethod
    def apply(self, values: pa.Array) -> pa.Array:
        """Returns the coarser values of cells that are readable."""

    @abstractmethod
    def to_document(self) -> dict[str, Any]:
        """Returns the parameters as they stand in a recipe; `read_rule` returns an equal rule."""

    def type_after(self, kind: pa.DataType) -> pa.DataType:
        """Returns the type of the coarser values; texts unless a rule says otherwise."""
        return pa.string()


@dataclass(frozen=True)
class Bands(Generalisation):
    """Numbers by the middles of bands of equal width, of which one begins at 0.

    Bands of a whole width have whole middles, so that whole numbers stay whole: the band 40 to 49 becomes 44.

    Attributes:
        width: a decimal above 0, in its shortest form.
        within: the public range, of which no middle leaves; empty if there is none. Decimals in their shortest form.
    """

    NEEDS = "numbers up to 10^15"
    width: str
    within: tuple[str, ...] = ()

    def unreadable(self, values: pa.Array) -> NDArray[np.bool_]:
        """Returns which cells are no numbers, or too large."""
        wrong = np.zeros(len(values), bool)
        if is_text(values.type):
            wrong = mask(pc.invert(pc.match_substring_regex(trimmed(values), _NUMBER)))
            values = pc.if_else(pa.array(wrong), pa.scalar(None, values.type), values)
        return wrong | (np.abs(_numbers(values)) > _LARGEST)

    def takes(self, kind: pa.DataType) -> bool:
        """Texts and numbers."""
        return is_text(kind) or is_number(kind)

    def apply(self, values: pa.Array) -> pa.Array:
        """Returns numbers, as texts where texts were given."""
        numbers = _numbers(values)
        if self.within:
            # First of all: rows outside the range would else be alike in one width of bands and not in the next.
            numbers = np.clip(numbers, float(self.within[0]), float(self.within[1]))
        missing, low, after = np.isnan(numbers), self._low(numbers), self.type_after(values.type)
        middle = low + (float(self.width) / 2 if "." in self.width else (int(self.width) - 1) // 2)
        if self.within:
            middle = np.clip(middle, float(self.within[0]), float(self.within[1]))
        found = pa.array(middle if self._is_broken else middle.astype(np.int64))
        return pc.if_else(pa.array(missing), pa.scalar(None, after), found.cast(after))

    def to_document(self) -> dict[str, Any]:
        """Returns `bands: width`, and `within` if there is a range."""
        return {"bands": self.width} | ({"within": list(self.within)} if self.within else {})

    def type_after(self, kind: pa.DataType) -> pa.DataType:
        """Returns texts for texts; else int64 for whole numbers in bands of a whole width, and float64."""
        if is_text(kind):
            return pa.string()
        return pa.int64() if pa.types.is_integer(kind) and not self._is_broken else pa.float64()

    @property
    def _is_broken(self) -> bool:
        return any("." in decimal for decimal in (self.width, *self.within))

    def _low(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        width = float(self.width)
        low: NDArray[np.float64] = np.floor(np.nan_to_num(numbers) / width) * width
        return low


@dataclass(frozen=True)
class Prefix(Generalisation):
    """The first characters of a text, and a star for what is left out.

    Attributes:
        kept: how many characters stay, from 1.
    """

    NEEDS = "texts"
    kept: int

    def apply(self, values: pa.Array) -> pa.Array:
        """Returns texts."""
        begun = pc.utf8_slice_codeunits(values, 0, self.kept)
        return pc.if_else(pc.greater(pc.utf8_length(values), self.kept), pc.binary_join_element_wise(begun, "*", ""), begun)

    def to_document(self) -> dict[str, Any]:
        """Returns `keep: characters`."""
        return {"keep": str(self.kept)}


class DatePart(Enum):
    """How much of a date stays."""

    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"
    DECADE = "decade"


@dataclass(frozen=True)
class Dates(Generalisation):
    """The month, quarter, year or decade of a date, as text: `2020-03`, `2020-Q1`, `2020`, `2020s`."""

    NEEDS = "dates, or texts like 2020-03-31"
    part: DatePart

    def unreadable(self, values: pa.Array) -> NDArray[np.bool_]:
        """Returns which cells are no dates."""
        if is_date(values.type):
            return np.zeros(len(values), bool)
        texts = trimmed(values)
        wrong = mask(pc.invert(pc.match_substring_regex(texts, _DATE)))
        # A day that no month has: strptime gives null where it reads nothing.
        read = pc.strptime(texts, format="%Y-%m-%d", unit="s", error_is_null=True)
        again = pc.strftime(read.cast(pa.date32()), "%Y-%m-%d")
        return wrong | mask(pc.and_(pc.is_valid(texts), pc.fill_null(pc.not_equal(again, texts), True)))

    def takes(self, kind: pa.DataType) -> bool:
        """Texts and dates."""
        return is_text(kind) or is_date(kind)

    def apply(self, values: pa.Array) -> pa.Array:
        """Returns texts."""
        dates = values if is_date(values.type) else trimmed(values).cast(pa.date32())
        year = pc.year(dates)
        match self.part:
            case DatePart.MONTH:
                return pc.strftime(dates, "%Y-%m")
            case DatePart.QUARTER:
                return pc.binary_join_element_wise(year.cast(pa.string()), pc.quarter(dates).cast(pa.string()), "-Q")
            case DatePart.YEAR:
                return year.cast(pa.string())
            case DatePart.DECADE:
                decade = pc.multiply(pc.divide(year, 10), 10).cast(pa.string())
                return pc.binary_join_element_wise(decade, "s", "")

    def to_document(self) -> dict[str, Any]:
        """Returns `date: part`."""
        return {"date": self.part.value}


@dataclass(frozen=True)
class Groups(Generalisation):
    """Categories by the group that each belongs to.

    Attributes:
        group_of: pairs of a text as in the file and its group, in the order of the texts.
        other: the group of every other text.
    """

    NEEDS = "texts"
    group_of: tuple[tuple[str, str], ...]
    other: str

    def apply(self, values: pa.Array) -> pa.Array:
        """Returns texts."""
        known, groups = (pa.array(column, pa.string()) for column in zip(*self.group_of, strict=True))
        found = pc.fill_null(groups.take(pc.index_in(values, value_set=known)), self.other)
        return pc.if_else(pc.is_valid(values), found, pa.scalar(None, pa.string()))

    def to_document(self) -> dict[str, Any]:
        """Returns `groups` and `other`."""
        return {"groups": dict(self.group_of), "other": self.other}


def _numbers(values: pa.Array) -> NDArray[np.float64]:
    # Whole numbers that float64 would round are beyond what a band takes.
    found = trimmed(values).cast(pa.float64()) if is_text(values.type) else values.cast(pa.float64(), safe=False)
    return numbers_of(found)


_KEYS = ("bands", "keep", "date", "groups")


def read_rule(reader: EntryReader) -> Generalisation | None:
    """Reads the rule of an entry: exactly one of `bands`, `keep`, `date` and `groups`; `within` may stand beside the first one,
    and `other` must stand beside the last.

    Returns:
        The rule, or None; what is wrong is among the reader's problems.
    """
    given = [key for key in _KEYS if reader.has(key)]
    if len(given) != 1:
        reader.wrong("rule", f"{len(given)} rules; exactly one of {', '.join(_KEYS)} is expected", "choose one")
        return None
    match given[0]:
        case "bands":
            width = reader.decimal("bands")
            if Decimal(width) <= 0:
                reader.wrong("bands", "must be above 0", "say how wide a band is")
            return Bands(width, reader.range("within") if reader.has("within") else ())
        case "keep":
            return Prefix(reader.whole("keep", least=1, most=_MAX_KEPT))
        case "date":
            return Dates(DatePart(reader.choice("date", [part.value for part in DatePart])))
        case _:
            return Groups(tuple(sorted(reader.mapping("groups").items())), reader.text("other"))
