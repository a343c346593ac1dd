"""A step that makes the values of a column coarser, so that more people have the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from privacy.preparation.anonymity.generalisations import Generalisation, read_rule
from privacy.preparation.recipes.cells import document_of, needed, refuse_cells
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.step import Columns, Context, Rows, Step, Transform
from protocols.errors import Problem


@dataclass(frozen=True)
class Generalise(Step):
    """Makes one column coarser.

    Attributes:
        column: its name.
        rule: what becomes of its values.
    """

    KIND: ClassVar[str] = "generalise"
    column: str
    rule: Generalisation

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        reader = EntryReader(where, entry)
        column, rule = reader.column("column"), read_rule(reader)
        return (cls(column, rule) if reader.done() and rule is not None else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        return document_of(self.KIND, column=self.column, **self.rule.to_document())

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        return needed(columns, [self.column], self.rule.takes, self.rule.NEEDS)

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return {**columns, self.column: self.rule.type_after(columns[self.column])}

    def start(self, context: Context) -> Transform:
        """As `Step.start`."""

        def transform(rows: Rows) -> Rows:
            values = rows.column(self.column)
            wrong = self.rule.unreadable(values)
            refuse_cells(rows, self.column, wrong, f"is not among {self.rule.NEEDS}", "correct it, or take another rule")
            return rows.with_column(self.column, self.rule.apply(values))

        return transform
