"""A step of a recipe: what every step says of itself, and what it does to the rows of a table.

A step is data: a frozen dataclass that is read from and written to a document. Its work on one table begins with `start` and goes
batch by batch, so that a table of any length needs the memory of a batch. A step that must know the whole column first, for
example to leave out groups that are too small, is a `SurveyingStep`: the table goes through the steps before it once more.

Cells are texts as they stand in the file until a step makes numbers, dates or booleans of them; null means missing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, Self, SupportsIndex, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from privacy.preparation.recipes.row_randomness import RowRandomness
from protocols.errors import Problem

Columns: TypeAlias = Mapping[str, pa.DataType]  # in their order; public


@dataclass(frozen=True, eq=False, repr=False)
class Rows:
    """Some rows on their way through a recipe; secret: no repr, no equality, no pickling.

    Attributes:
        numbers: (rows,) int64, where each row stands in the file, from 1; rows keep theirs when others are left out.
        cells: their columns.
    """

    numbers: NDArray[np.int64]
    cells: pa.RecordBatch

    def __len__(self) -> int:
        """How many there are."""
        return len(self.numbers)

    def column(self, name: str) -> pa.Array:
        """One column."""
        return self.cells.column(name)

    def with_column(self, name: str, values: pa.Array) -> Rows:
        """Returns the rows with a column replaced, or added at the end."""
        position = self.cells.schema.get_field_index(name)
        if position < 0:
            return Rows(self.numbers, self.cells.append_column(name, values))
        return Rows(self.numbers, self.cells.set_column(position, name, values))

    def where(self, kept: NDArray[np.bool_]) -> Rows:
        """Returns the rows of which `kept`, (rows,), says so."""
        return Rows(self.numbers[kept], self.cells.filter(pa.array(kept)))

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuses: rows do not travel by pickle."""
        raise TypeError("rows are not pickled")


@dataclass(frozen=True)
class Context:
    """What a step is given beside the rows.

    Attributes:
        columns: the columns that it will be given, in order.
        randomness: of this step alone.
        pseudonyms: by the name of a column, the pseudonym of every identifier in it, as texts; secret. Made beforehand with the
            other institutions; empty if no step asks for any.
    """

    columns: Columns
    randomness: RowRandomness
    pseudonyms: Mapping[str, Mapping[str, str]]


Transform: TypeAlias = Callable[[Rows], Rows]


class Step(ABC):
    """One entry of a recipe; public, compared by value."""

    KIND: ClassVar[str]  # how the entry says which step it is: `step: KIND`

    @classmethod
    @abstractmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """Reads an entry whose scalars are all texts, without its key `step`; returns None and everything wrong with it."""

    @abstractmethod
    def to_document(self) -> dict[str, Any]:
        """Returns the entry, `step` among its keys; `read` returns an equal step. Decimals are texts in their shortest form."""

    @abstractmethod
    def problems(self, columns: Columns) -> Iterable[Problem]:
        """Yields why the step cannot work on these columns: missing, of another type, names that are taken."""

    @abstractmethod
    def columns_after(self, columns: Columns) -> Columns:
        """Returns the columns that it leaves, of columns without `problems`."""

    @abstractmethod
    def start(self, context: Context) -> Transform:
        """Begins the work on one table; the transform is called for each batch, in the order of the rows.

        The transform raises INVALID_DATA (the owner's fault) for cells that it cannot use, by row and column; it never names a
        value.
        """


class Survey(ABC):
    """What a step learns of the whole table before it changes anything."""

    @abstractmethod
    def see(self, rows: Rows) -> None:
        """Looks at a batch; every batch comes once, in the order of the rows."""

    @abstractmethod
    def transform(self) -> Transform:
        """Returns the work, after everything was seen."""


class SurveyingStep(Step):
    """A step that needs to see all rows first."""

    @abstractmethod
    def survey(self, context: Context) -> Survey:
        """Begins to look at one table."""

    def start(self, context: Context) -> Transform:
        """Refuses: such a step begins with `survey`."""
        raise TypeError(f"{self.KIND} begins with a survey")
