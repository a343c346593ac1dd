"""A step that leaves out the rows of people whom too few others are like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from privacy.preparation.anonymity.groups import MAX_GROUP, GroupIndex, as_read
from privacy.preparation.recipes.cells import document_of, is_any, needed
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.step import Columns, Context, Rows, Survey, SurveyingStep, Transform
from protocols.errors import ConfideError, ErrorCode, Problem


@dataclass(frozen=True)
class SuppressSmallGroups(SurveyingStep):
    """Leaves out rows of which fewer than `k` have the same cells in some columns, or whose groups are not diverse.

    Attributes:
        columns: the quasi-identifiers.
        k: the least number of rows that are alike.
        sensitive: columns of which each group must have several values; may be empty.
        l: how many values; 1 if there is no sensitive column.
        most: the largest share of rows that may be left out, a decimal below 1; more are refused.
    """

    KIND: ClassVar[str] = "suppress-small-groups"
    columns: tuple[str, ...]
    k: int
    sensitive: tuple[str, ...]
    l: int  # noqa: E741  # the name of the measure
    most: str

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        reader = EntryReader(where, entry)
        columns, k = reader.columns(), reader.whole("k", least=2, most=MAX_GROUP)
        sensitive = reader.columns("sensitive") if reader.has("sensitive") else ()
        least = reader.whole("l", least=2, most=MAX_GROUP) if sensitive else 1
        most = reader.decimal("most")
        if not 0 <= float(most) < 1:
            reader.wrong("most", "must be a share of the rows, from 0 to below 1", "for example 0.05")
        if set(columns) & set(sensitive):
            reader.wrong("sensitive", "a column is also among those that give people away", "name it once")
        return (cls(columns, k, sensitive, least, most) if reader.done() else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        diverse = {"sensitive": self.sensitive, "l": str(self.l)} if self.sensitive else {}
        return document_of(self.KIND, columns=self.columns, k=str(self.k), **diverse, most=self.most)

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        return needed(columns, (*self.columns, *self.sensitive), is_any, "anything")

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return columns

    def survey(self, context: Context) -> Survey:
        """As `SurveyingStep.survey`."""
        return _Sizes(self)


class _Sizes(Survey):
    def __init__(self, step: SuppressSmallGroups) -> None:
        self._step = step
        self._index = GroupIndex()
        self._sizes: NDArray[np.int64] = np.zeros(0, np.int64)
        self._pairs = [(GroupIndex(), set[tuple[int, int]]()) for _ in step.sensitive]

    def see(self, rows: Rows) -> None:
        groups = self._groups(rows)
        found = np.bincount(groups, minlength=len(self._sizes))
        found[: len(self._sizes)] += self._sizes
        self._sizes = found
        for name, (values, pairs) in zip(self._step.sensitive, self._pairs, strict=True):
            both = np.unique(np.stack([groups, values.ids([as_read(rows.column(name))])], axis=1), axis=0)
            pairs.update(map(tuple, both.tolist()))

    def transform(self) -> Transform:
        kept = self._sizes >= self._step.k
        for _, pairs in self._pairs:
            members = np.array([group for group, _ in pairs], np.int64)
            kept &= np.bincount(members, minlength=len(kept)) >= self._step.l
        left_out, total = int(self._sizes[~kept].sum()), int(self._sizes.sum())
        if left_out > float(self._step.most) * total or left_out == total:
            what = f"{left_out} of {total} rows are in groups that are too small; the recipe allows {self._step.most} of all"
            remedy = "Make the columns coarser, ask for less, or allow more rows to be left out."
            raise ConfideError(ErrorCode.INVALID_DATA, what, remedy=remedy)
        return lambda rows: rows.where(kept[self._groups(rows)])

    def _groups(self, rows: Rows) -> NDArray[np.int64]:
        return self._index.ids([rows.column(name) for name in self._step.columns])
