"""A step that spreads a column of very many different texts over a few columns of numbers, within a budget of collisions.

Feature hashing (Weinberger et al. 2009) as scikit-learn does it: a text adds 1 or -1 to one of the buckets that its hash names.
The hash has no key: it makes a column small, so that no model can have a weight for a single rare text; it hides no text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from privacy.preparation.recipes.cells import document_of, drop, is_text, needed, taken
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.step import Columns, Context, Rows, Survey, SurveyingStep, Transform
from protocols.errors import ConfideError, ErrorCode, Problem

MAX_DIFFERENT = 1_000_000
_MAX_BUCKETS = 4_096


@dataclass(frozen=True)
class HashFeatures(SurveyingStep):
    """Replaces a column of texts by columns `COLUMN#0`, `COLUMN#1` and so on; a missing cell is 0 in all of them.

    Attributes:
        column: of texts; spaces around them count.
        buckets: how many columns, from 2.
        budget: the greatest share of the different texts that may share their bucket with another, a decimal from 0 to 1.
    """

    KIND: ClassVar[str] = "hash-features"
    column: str
    buckets: int
    budget: str

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        reader = EntryReader(where, entry)
        column, buckets = reader.column("column"), reader.whole("buckets", least=2, most=_MAX_BUCKETS)
        budget = reader.decimal("collision_budget")
        if not 0 <= float(budget) <= 1:
            reader.wrong("collision_budget", "must be a share from 0 to 1", "for example 0.1")
        return (cls(column, buckets, budget) if reader.done() else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        return document_of(self.KIND, column=self.column, buckets=str(self.buckets), collision_budget=self.budget)

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        yield from needed(columns, [self.column], is_text, "texts")
        yield from taken(columns, self._names())

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        kept = {name: kind for name, kind in columns.items() if name != self.column}
        return kept | dict.fromkeys(self._names(), pa.float64())

    def survey(self, context: Context) -> Survey:
        """As `SurveyingStep.survey`."""
        return _Collisions(self)

    def expected_collisions(self, num_different: int) -> float:
        """Returns the share of texts that share their bucket, expected of a random hash."""
        return 1.0 - (1.0 - 1.0 / self.buckets) ** (num_different - 1)

    def places(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Returns (texts,) buckets and (texts,) signs of texts."""
        from sklearn.feature_extraction import FeatureHasher  # takes a second to load, which most programs need not wait for

        hasher = FeatureHasher(n_features=self.buckets, input_type="string")
        hashed = hasher.transform([[f"{self.column}={text}"] for text in texts])
        return hashed.indices.astype(np.int64), hashed.data

    def spread(self, rows: Rows) -> Rows:
        """Returns rows with the column replaced."""
        encoded = rows.column(self.column).dictionary_encode()
        buckets, signs = (
            self.places(encoded.dictionary.to_pylist()) if len(encoded.dictionary) else (np.empty(0, int), np.empty(0))
        )
        present = encoded.is_valid().to_numpy(zero_copy_only=False)
        codes = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)[present]
        found = np.zeros((self.buckets, len(rows)))
        found[buckets[codes], np.flatnonzero(present)] = signs[codes]
        rows = drop(rows, [self.column])
        for name, values in zip(self._names(), found, strict=True):
            rows = rows.with_column(name, pa.array(values))
        return rows

    def _names(self) -> list[str]:
        return [f"{self.column}#{bucket}" for bucket in range(self.buckets)]


class _Collisions(Survey):
    def __init__(self, step: HashFeatures) -> None:
        self._step = step
        self._different: set[str] = set()
        self._measured = 0.0

    def see(self, rows: Rows) -> None:
        self._different.update(text for text in rows.column(self._step.column).unique().to_pylist() if text is not None)
        if len(self._different) > MAX_DIFFERENT:
            raise self._refused(f"holds more than {MAX_DIFFERENT} different texts", "join rare ones by map-values, or drop it")

    def transform(self) -> Transform:
        step, num_different = self._step, len(self._different)
        if num_different:
            buckets, _ = step.places(sorted(self._different))
            counts = Counter(buckets.tolist())
            self._measured = sum(count for count in counts.values() if count > 1) / num_different
        expected = step.expected_collisions(max(1, num_different))
        if self._measured > float(step.budget):
            what = (
                f"{self._measured:.3f} of its different texts share one of {step.buckets} buckets (expected {expected:.3f}),"
                f" more than the collision budget of {step.budget}"
            )
            raise self._refused(what, "use more buckets, join rare texts by map-values, or agree on a larger budget")
        return step.spread

    def notes(self) -> Mapping[str, str]:
        """What the survey found, for the owner: how many texts there are, and how many share a bucket."""
        different = len(self._different)
        expected = self._step.expected_collisions(max(1, different))
        return {"different texts": str(different), "collisions": f"{self._measured:.3f}", "expected": f"{expected:.3f}"}

    def _refused(self, what: str, remedy: str) -> ConfideError:
        problem = Problem(f"column {self._step.column}", what, remedy)
        return ConfideError(ErrorCode.INVALID_DATA, "the column cannot be hashed within its budget", problems=[problem])
