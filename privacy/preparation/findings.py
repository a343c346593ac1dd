"""What a table looks like that is no error and still worth a look: constant columns, mixed kinds of values, equal rows.

For the owner's eyes: the findings count, they repeat no cell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from privacy.preparation.digests import first_of_equal, row_digests
from privacy.preparation.recipes.cells import mask, trimmed
from privacy.preparation.recipes.dates import KNOWN_FORMS, parse_dates
from privacy.preparation.recipes.step import Rows
from protocols.errors import Problem

HUGE = 10_000
_NUMBER = r"^[+-]?([0-9]+[.,]?[0-9]*|[.,][0-9]+)([eE][+-]?[0-9]{1,4})?$"
_LIKE_A_DATE = r"^[0-9]{1,4}[-./ ][0-9]{1,2}[-./ ][0-9]{1,4}$"


@dataclass
class _Seen:
    """What is known of one column so far."""

    missing: int = 0
    numbers: int = 0
    texts: int = 0
    forms: Counter[str] = field(default_factory=Counter)
    different: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))


class Findings:
    """Looks at batches as they were read."""

    def __init__(self, columns: Sequence[str], *, quasi_identifiers: Sequence[str], label: str, key: bytes) -> None:
        """Takes the columns that are read, those that give people away together, the label (or an empty text), a secret key."""
        self._seen = {name: _Seen() for name in columns}
        self._quasi_identifiers = [name for name in quasi_identifiers if name in self._seen]
        self._label, self._key = label, key
        self._rows: list[NDArray[np.uint64]] = []
        self._groups: list[NDArray[np.uint64]] = []

    def see(self, rows: Rows) -> None:
        """Looks at a batch."""
        self._rows.append(row_digests(rows.cells, list(self._seen), self._key))
        if self._quasi_identifiers:
            self._groups.append(row_digests(rows.cells, self._quasi_identifiers, self._key))
        for name, seen in self._seen.items():
            cells = rows.column(name)
            if pa.types.is_string(cells.type):
                self._see_texts(cells, seen)
            else:
                seen.missing += cells.null_count
            if len(seen.different) <= HUGE:
                new = row_digests(rows.cells.select([name]).filter(cells.is_valid()), [name], self._key)
                seen.different = np.union1d(seen.different, new)

    def problems(self) -> Iterator[Problem]:
        """Yields what was found; none of it is an error."""
        num_rows = sum(map(len, self._rows))
        for name, seen in self._seen.items():
            yield from _of_column(name, seen, num_rows)
        if self._label in self._seen and self._seen[self._label].missing:
            what = f"the label is missing in {self._seen[self._label].missing} of {num_rows} rows"
            yield Problem(f"column {self._label}", what, "complete them, or leave such rows out")
        repeated = int((~first_of_equal(_joined(self._rows))).sum())
        if repeated:
            what = f"{repeated} of {num_rows} rows equal an earlier one in all columns that are read"
            yield Problem("", what, "if that is a mistake, add the step drop-duplicates")
        alone = int((np.unique(_joined(self._groups), return_counts=True)[1] == 1).sum())
        if alone:
            what = f"{alone} of {num_rows} rows are alone in their quasi-identifiers ({', '.join(self._quasi_identifiers)})"
            yield Problem("", what, "make these columns coarser, see `confide dataset report`")

    def _see_texts(self, cells: pa.Array, seen: _Seen) -> None:
        counted = cells.value_counts()
        texts, counts = trimmed(counted.field("values")), counted.field("counts").to_numpy()
        present = texts.is_valid().to_numpy(zero_copy_only=False)
        seen.missing += int(counts[~present].sum())
        are_numbers = mask(pc.match_substring_regex(texts, _NUMBER))
        seen.numbers += int(counts[are_numbers].sum())
        like_dates = mask(pc.match_substring_regex(texts, _LIKE_A_DATE)) & ~are_numbers
        seen.texts += int(counts[present & ~are_numbers & ~like_dates].sum())
        left = like_dates
        for form in KNOWN_FORMS if left.any() else ():
            wrong = np.ones(len(texts), np.bool_)
            wrong[left] = parse_dates(texts.filter(pa.array(left)), form)[1]
            seen.forms[form] += int(counts[left & ~wrong].sum())
            left = left & wrong
        seen.texts += int(counts[left].sum())


def _of_column(name: str, seen: _Seen, num_rows: int) -> Iterator[Problem]:
    where = f"column {name}"
    if seen.missing == num_rows:
        yield Problem(where, "is missing throughout", "drop it, or check the export")
    elif len(seen.different) == 1 and not seen.missing:
        yield Problem(where, "holds one value throughout", "drop it; it says nothing about a row")
    dates = seen.forms.total()
    kinds = [(seen.numbers, "numbers"), (dates, "dates"), (seen.texts, "other texts")]
    mixed = [f"{count} {what}" for count, what in kinds if count]
    if len(mixed) > 1:
        yield Problem(where, f"mixes {', '.join(mixed)}", "name what means missing in mark-missing; correct the others")
    forms = [f"{count} of the form {form}" for form, count in seen.forms.most_common() if count]
    if len(forms) > 1:
        what = f"holds dates in several forms: {', '.join(forms)}"
        yield Problem(where, what, "write one form throughout; day and month cannot be told apart afterwards")
    if len(seen.different) > HUGE and seen.texts > (seen.numbers + dates):
        what = f"holds more than {HUGE} different texts"
        yield Problem(where, what, "a name or a key? drop it, map it to fewer values, or use hash-features")


def _joined(parts: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    return np.concatenate([np.empty(0, np.uint64), *parts])
