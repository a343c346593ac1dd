"""Runs a recipe over a raw table, batch by batch: whatever the size of the batches, the rows that come out are the same.

A step that surveys needs the whole table first, so the table is read once for each of those and once more for the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from privacy.preparation.raw_table import BATCH_BYTES, MAX_REPORTED, RawTable
from privacy.preparation.recipes.recipe import Recipe
from privacy.preparation.recipes.row_randomness import RowRandomness
from privacy.preparation.recipes.step import Columns, Context, Rows, Step, Survey, SurveyingStep, Transform
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.secrets import SecretBytes


@runtime_checkable
class Noting(Protocol):
    """A survey that has something to tell the owner."""

    def notes(self) -> Mapping[str, str]:
        """What it found, in words; no cell of the table."""
        ...


@dataclass
class StepCount:
    """What became of the rows at one step; for the owner's eyes."""

    kind: str
    rows_in: int
    rows_out: int
    notes: Mapping[str, str]


class RecipeRun:
    """One run of a recipe over one table.

    Attributes:
        counts: of every step; complete when `rows` has ended.
        rows_read: how many rows the table has, likewise.
    """

    def __init__(
        self,
        recipe: Recipe,
        table: RawTable,
        read: Sequence[str],
        *,
        seed: SecretBytes,
        pseudonyms: Mapping[str, Mapping[str, str]],
        look: Callable[[Rows], None],
        finish: Transform,
        batch_bytes: int = BATCH_BYTES,
    ) -> None:
        """Takes a recipe that has no `problems` with the columns that are read of the table.

        Args:
            recipe: public.
            table: secret.
            read: names of the columns that are read; all others are dropped while the file is read.
            seed: 32 random bytes, secret, kept by the owner.
            pseudonyms: for the steps that need them, by column and identifier; secret.
            look: is shown every batch as it was read, once.
            finish: what is done with the rows after the last step; raises like a step.
            batch_bytes: about how many bytes of the file are worked on at a time.
        """
        self.counts = [StepCount(step.KIND, 0, 0, {}) for step in recipe.steps]
        self.rows_read = 0
        self._recipe, self._table, self._read = recipe, table, read
        self._look: Callable[[Rows], None] | None = look
        self._finish, self._batch_bytes = finish, batch_bytes
        self._contexts = list(_contexts(recipe.steps, table.columns(read), seed, pseudonyms))
        self._surveys: list[Survey] = []

    def rows(self) -> Iterator[Rows]:
        """Yields the rows that the recipe leaves, secret; call it once.

        Raises:
            ConfideError: INVALID_DATA (the owner's fault): the file, or up to `MAX_REPORTED` cells that a step cannot use, by
                row, line and column; FILE_CHANGED.
        """
        for position, step in enumerate(self._recipe.steps):
            if isinstance(step, SurveyingStep):
                survey = step.survey(self._contexts[position])
                for rows in self._pass(position):
                    survey.see(rows)
                self._surveys.append(survey)
        for count in self.counts:
            count.rows_in = count.rows_out = 0
        yield from self._pass(len(self._recipe.steps) + 1)
        surveys = iter(self._surveys)
        for step, count in zip(self._recipe.steps, self.counts, strict=True):
            survey_of = next(surveys) if isinstance(step, SurveyingStep) else None
            if isinstance(survey_of, Noting):
                count.notes = survey_of.notes()

    def _pass(self, steps: int) -> Iterator[Rows]:
        """Yields the rows after the first so many steps, the finish being the last."""
        transforms = self._transforms(steps)
        problems: list[Problem] = []
        self.rows_read = 0
        look, self._look = self._look, None
        for rows in self._table.batches(self._read, batch_bytes=self._batch_bytes):
            self.rows_read += len(rows)
            if look is not None:
                look(rows)
            try:
                rows = self._through(rows, transforms)
            except _Refused as refused:
                if not refused.error.problems:
                    raise refused.error from None
                # The steps after it would see other rows than they expect; those up to it look at the rest of the file too.
                transforms = transforms[: refused.position + 1]
                problems += refused.error.problems
                if len(problems) >= MAX_REPORTED:
                    break
            else:
                if not problems and len(rows):
                    yield rows
        if problems:
            raise self._table.refused(self._table.with_lines(problems[:MAX_REPORTED]))

    def _transforms(self, steps: int) -> list[Transform]:
        surveys = iter(self._surveys)
        transforms = [
            next(surveys).transform() if isinstance(step, SurveyingStep) else step.start(context)
            for step, context in zip(self._recipe.steps[:steps], self._contexts, strict=False)
        ]
        return transforms if steps <= len(self._recipe.steps) else [*transforms, self._finish]

    def _through(self, rows: Rows, transforms: Sequence[Transform]) -> Rows:
        for position, transform in enumerate(transforms):
            before = len(rows)
            try:
                rows = transform(rows)
            except ConfideError as error:
                if error.code is not ErrorCode.INVALID_DATA:
                    raise
                raise _Refused(position, error) from None
            if position < len(self.counts):
                self.counts[position].rows_in += before
                self.counts[position].rows_out += len(rows)
        return rows


class _Refused(Exception):
    def __init__(self, position: int, error: ConfideError) -> None:
        super().__init__()
        self.position, self.error = position, error


def _contexts(
    steps: Sequence[Step], columns: Columns, seed: SecretBytes, pseudonyms: Mapping[str, Mapping[str, str]]
) -> Iterator[Context]:
    for position, step in enumerate(steps):
        yield Context(columns, RowRandomness(seed, f"{position}:{step.KIND}"), pseudonyms)
        columns = step.columns_after(columns)
