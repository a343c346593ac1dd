"""How many rows of a data set one person has at most, and whether two data sets have the same rows, or the same people.

All is asked by the owner of its own rows while it registers them. A training with differential privacy promises something to a
person with at most so many rows: who counts them need not believe it. The same rows under another name would have a new budget,
and so would other rows of the same people.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from privacy.preparation.contract import PreparedRows
from privacy.preparation.schema import TableSchema
from privacy.preparation.table import Table
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.identifiers.normalisation import normalise
from protocols.private_training import MAX_ROWS_PER_PERSON

_DOMAIN = b"confide.people/1\x00"


def most_rows_of_one(table: Table, schema: TableSchema) -> int | None:
    """Returns how many rows the person with most of them has, to be kept at the owner; None if no column names people.

    Every identifier counts: of several columns the one with the most equal cells, however they are spelt
    (`protocols.identifiers.normalisation`). Rows without an identifier may all be of one person, and count so.

    Args:
        table: read as rows that are counted, secret.
        schema: of the rows, public.
    """
    counted = (_most_equal(table.columns[column.name]) for column in schema.identifiers if column.name in table.columns)
    return max((most for most in counted if most is not None), default=None)


def bound_of_people(counted: int | None, declared: int | None) -> int | None:
    """Returns with how many rows of one person a data set is registered: as the owner declares, else as was counted.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): fewer are declared than were counted, or a number that none can be.
    """
    if declared is None:
        return counted
    if not 1 <= declared <= MAX_ROWS_PER_PERSON:
        what = f"{declared} rows a person; a number from 1 to {MAX_ROWS_PER_PERSON} is expected"
        raise _refused(Problem("rows_per_person", what, "declare another"))
    if counted is not None and counted > declared:
        what = f"one person has {counted} rows; {declared} are declared"
        raise _refused(Problem("rows_per_person", what, f"declare {counted} or more, or leave out rows of whoever has more"))
    return declared


def are_same_rows(one: PreparedRows, other: PreparedRows) -> bool:
    """Whether two data sets have the same rows in any order, and rows that differ enough for this to be no chance; secret."""
    if one.features.shape != other.features.shape or one.labels.shape != other.labels.shape or one.features.shape[1] == 0:
        return False
    ordered = _in_order(one)
    differing = 1 + np.count_nonzero(ordered[1:] != ordered[:-1])
    return bool(2 * differing >= len(ordered) and np.array_equal(ordered, _in_order(other)))


def people_digests(table: Table, schema: TableSchema, *, key: bytes) -> NDArray[np.uint64]:
    """Returns a keyed digest of everybody whom a data set names, to be sealed at the owner; empty if no column names people.

    It recognises the same identifiers in another data set of this owner. Who has not the key learns from it how many people
    there are; who has it can try whether somebody whom it guesses is one of them.

    Args:
        table: read as rows that are counted or aligned, secret.
        schema: of the rows, public.
        key: 32 bytes, secret, the same for all data sets of the owner.

    Returns:
        (people,) uint64, ascending, each once: eight bytes of BLAKE2b of the normal form, which private alignment takes too. Two
        of ten million people have one digest with a probability below 0.00001.
    """
    named = {text for column in schema.identifiers if column.name in table.columns for text in _texts(table.columns[column.name])}
    return np.unique(digests_of(named, key=key))


def digests_of(identifiers: Iterable[str], *, key: bytes) -> NDArray[np.uint64]:
    """Returns the digest of each identifier, in order, as of `people_digests`; identifiers and key are secret.

    Args:
        identifiers: in their normal form (`protocols.identifiers.normalisation`).
        key: as for `people_digests`.
    """
    digests = (hashlib.blake2b(_DOMAIN + text.encode(), key=key, digest_size=8).digest() for text in identifiers)
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def people_in_both(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> int:
    """Returns how many people of two data sets are the same, by their digests under one key; stays at the owner."""
    return len(np.intersect1d(one, other, assume_unique=True))


def _texts(cells: pa.ChunkedArray) -> Iterable[str]:
    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    try:
        found = pc.unique(cells).cast(pa.string()).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError):  # no type that names people, or text that is none
        return ()
    return tuple(filter(None, (normalise(text) for text in found if text is not None)))


def _in_order(rows: PreparedRows) -> NDArray[np.void]:
    parts: Iterable[NDArray[np.float64]] = (rows.features, rows.labels[:, None]) if len(rows.labels) else (rows.features,)
    cells = np.ascontiguousarray(np.hstack(tuple(parts)) + 0.0)  # -0 is 0
    return np.sort(cells.view(np.dtype((np.void, cells.itemsize * cells.shape[1]))).ravel())


def _most_equal(cells: pa.ChunkedArray) -> int | None:
    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    try:
        found = pc.value_counts(cells)
    except pa.ArrowException:  # no type that names people
        return None
    counts = found.field("counts").to_pylist()
    try:
        values = found.field("values").cast(pa.string()).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError):  # bytes that are no text
        return max(counts, default=None)
    together: Counter[str] = Counter()
    for value, count in zip(values, counts, strict=True):
        # Whoever is one person where people are compared is one here too, and so are all without a name, however that is written.
        together["" if value is None else normalise(value)] += count
    return max(together.values(), default=None)


def _refused(problem: Problem) -> ConfideError:
    return ConfideError(ErrorCode.INVALID_DATA, "the rows are more than a person is declared to have", problems=[problem])
