"""A step that makes dates of texts in one stated form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from privacy.preparation.recipes.cells import MAX_REPORTED, document_of, is_date, is_text, needed, trimmed
from privacy.preparation.recipes.dates import form_problem, forms_of, parse_dates
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.step import Columns, Context, Rows, Step, Transform
from protocols.errors import ConfideError, ErrorCode, Problem


@dataclass(frozen=True)
class ParseDate(Step):
    """Reads dates that are all written in one form; a cell in another form is refused by row, never guessed.

    Attributes:
        columns: of texts; columns of dates and times are taken as dates.
        form: for example `%d.%m.%Y`.
    """

    KIND: ClassVar[str] = "parse-date"
    columns: tuple[str, ...]
    form: str

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        reader = EntryReader(where, entry)
        columns, form = reader.columns(), reader.text("format")
        if form and form_problem(form):
            reader.wrong("format", form_problem(form), "for example %Y-%m-%d")
        return (cls(columns, form) if reader.done() else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        return document_of(self.KIND, columns=self.columns, format=self.form)

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        return needed(columns, self.columns, lambda kind: is_text(kind) or _has_date(kind), "texts or dates")

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return {name: pa.date32() if name in self.columns else kind for name, kind in columns.items()}

    def start(self, context: Context) -> Transform:
        """As `Step.start`."""

        def transform(rows: Rows) -> Rows:
            for name in self.columns:
                rows = rows.with_column(name, self._parse(rows, name))
            return rows

        return transform

    def _parse(self, rows: Rows, name: str) -> pa.Array:
        if _has_date(rows.column(name).type):
            return rows.column(name).cast(pa.date32(), safe=False)
        texts = trimmed(rows.column(name))
        dates, wrong = parse_dates(texts, self.form)
        if wrong.any():
            problems = [
                Problem(
                    f"row {rows.numbers[at]}, column {name}", self._finding(texts[int(at)].as_py()), "write one form throughout"
                )
                for at in np.flatnonzero(wrong)[:MAX_REPORTED]
            ]
            what = f"{int(wrong.sum())} cell(s) of column {name} are no dates of the form {self.form}"
            raise ConfideError(ErrorCode.INVALID_DATA, what, problems=problems)
        return dates

    def _finding(self, text: str) -> str:
        forms = forms_of(text)
        return f"is not a date of the form {self.form}" + (f"; it seems to be of the form {' or '.join(forms)}" if forms else "")


def _has_date(kind: pa.DataType) -> bool:
    return is_date(kind) or bool(pa.types.is_timestamp(kind))
