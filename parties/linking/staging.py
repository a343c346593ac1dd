"""One side's set before and during a private intersection: checked rows, their masked identifiers, and the key that masks them.

Identifiers are dropped as soon as they are masked; what remains of them are the digests by which their owner recognises people in
its own data sets, under a key that is its own (`privacy.preparation.people`). What waits for the other side lies in a sealed
file, which is destroyed with the run: whoever had the key and the masked set could test guesses of identifiers.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from parties.arrays import arrays_from_bytes, arrays_to_bytes
from parties.config import PartyConfig
from parties.linking.made import Made, chosen_rows
from parties.linking.masking import Maskers
from parties.populations import Newcomer
from parties.registration import read_rows
from parties.storage.database import one_transaction
from parties.storage.files import read_public
from privacy.preparation.alignment import identifiers_of
from privacy.preparation.contract import OnViolation, PreparedRows, prepare
from privacy.preparation.people import digests_of
from privacy.preparation.schema import TableSchema
from privacy.preparation.schema_file import MAX_SCHEMA_BYTES, schema_from_yaml
from privacy.preparation.table import Content, Table
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.identifiers.group import POINT_BYTES, SECRET_BYTES, Exponent, split_points
from protocols.identifiers.intersection import MAX_ELEMENTS, SALT_BYTES, Mode, commit, element
from protocols.identifiers.normalisation import MAX_REPORTED, normalise_all
from protocols.job import ID_PATTERN
from protocols.secrets import SecretBytes

_ARRAYS = {"features", "labels", "order", "masked", "exponent", "salt", "people", "population"}


@dataclass(frozen=True)
class Terms:
    """What this side's operator has agreed to; public between the two sides but for the data set's name.

    Attributes:
        consortium: its id.
        party: this side.
        peer: the other side.
        label: what both call the set of people.
        mode: what is disclosed.
        dataset: the name under which common rows are registered here.
        population: whose rows they are, as the operator declares; None if it declares nothing.
    """

    consortium: str
    party: str
    peer: str
    label: str
    mode: Mode
    dataset: str
    population: str | None

    @property
    def dials(self) -> bool:
        """Whether this side dials: the one whose id sorts first does."""
        return self.party < self.peer


@dataclass(frozen=True, eq=False, repr=False)
class Whose:
    """Whose rows a set has; secret but for the population: no repr, no equality, no pickling.

    Attributes:
        population: under which common rows are registered; empty if none are.
        people: (rows,) uint64 digests of identifiers (`privacy.preparation.people`), in the rows' order.
    """

    population: str
    people: NDArray[np.uint64]

    def of_rows(self, chosen: NDArray[np.int64]) -> Whose:
        """Returns the same of some of the rows."""
        return Whose(self.population, self.people[chosen])

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Returns everything, for a sealed file."""
        return {"people": self.people, "population": np.frombuffer(self.population.encode(), np.uint8)}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Whose:
        """Returns what `to_arrays` gave."""
        return Whose(arrays["population"].tobytes().decode(), arrays["people"])

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuses: who is in a set does not travel by pickle."""
        raise TypeError("whose rows these are is not pickled")


NOBODY = Whose("", np.empty(0, np.uint64))


@dataclass(frozen=True, eq=False, repr=False)
class CheckedRows:
    """A side's rows before they are masked; secret: no repr, no equality, no pickling.

    Attributes:
        identifiers: normalised, of every row.
        rows: which would be registered; without features in a run that tells sizes.
        schema_document: canonical bytes of the schema, public; empty in a run that tells sizes.
        made: how a recipe made the rows; None if they were registered as they were, or in a run that tells sizes.
        whose: the population, and everybody's digest, row by row; empty in a run that tells sizes.
    """

    identifiers: tuple[str, ...]
    rows: PreparedRows
    schema_document: bytes
    made: Made | None
    whose: Whose

    @property
    def num_rows(self) -> int:
        """Elements of this side's set."""
        return len(self.identifiers)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuses: rows and identifiers do not travel by pickle."""
        raise TypeError("rows are not pickled")


@dataclass(frozen=True, eq=False, repr=False)
class CommonRows:
    """The rows of the common people in the common order; secret: no repr, no equality, no pickling.

    Attributes:
        rows: which are registered.
        made: how a recipe made them; None if none did.
        whose: they are.
    """

    rows: PreparedRows
    made: Made | None
    whose: Whose

    def to_secret_bytes(self) -> bytes:
        """Returns everything, for a sealed file."""
        made = {} if self.made is None else self.made.to_arrays()
        rows = {"features": self.rows.features, "labels": self.rows.labels}
        return arrays_to_bytes({**made, **rows, **self.whose.to_arrays()})

    @staticmethod
    def from_secret_bytes(data: bytes) -> CommonRows:
        """Returns the rows of `to_secret_bytes`.

        Raises:
            ConfideError: STATE_DAMAGED (the operator's fault): there are none.
        """
        found = arrays_from_bytes(data)
        if not {"features", "labels", "people", "population"} <= set(found):
            raise ConfideError(ErrorCode.STATE_DAMAGED, "the sealed file of an intersection does not hold rows")
        rows = PreparedRows(found["features"], found["labels"], {})
        return CommonRows(rows, Made.from_arrays(found), Whose.from_arrays(found))

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuses: rows do not travel by pickle."""
        raise TypeError("rows are not pickled")


@dataclass(frozen=True, eq=False, repr=False)
class Staged:
    """A side's set; secret: no repr, no equality, no pickling.

    Attributes:
        features: (rows, features) float64 in [-1, 1].
        labels: (rows,) float64, or (0,) if there are none.
        order: (rows,) int64, for every masked point which row it is of.
        masked: 32 bytes each, sorted.
        exponent: which masked them.
        salt: of the commitment to them.
        made: how a recipe made the rows; None if none did.
        whose: they are.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.float64]
    order: NDArray[np.int64]
    masked: Sequence[bytes]
    exponent: Exponent
    salt: bytes
    made: Made | None
    whose: Whose

    @property
    def commitment(self) -> bytes:
        """To the masked set, 32 bytes."""
        return commit(self.masked, self.salt)

    def rows_at(self, positions: Sequence[int]) -> CommonRows:
        """Returns the rows of some masked points, in their order; secret."""
        chosen = chosen_rows(self.order, positions)
        rows = PreparedRows(self.features[chosen], self.labels[chosen] if len(self.labels) else self.labels, {})
        whose = self.whose.of_rows(chosen) if self.whose.population else NOBODY
        return CommonRows(rows, None if self.made is None else self.made.of_rows(chosen), whose)

    def to_secret_bytes(self) -> bytes:
        """Returns everything, for a sealed file."""
        masked = np.frombuffer(b"".join(self.masked), np.uint8)
        key = np.frombuffer(self.exponent.export_secret_bytes(), np.uint8)
        rows = {"features": self.features, "labels": self.labels, "order": self.order}
        made = {} if self.made is None else self.made.to_arrays()
        masks = {"masked": masked, "exponent": key, "salt": np.frombuffer(self.salt, np.uint8)}
        return arrays_to_bytes({**made, **rows, **masks, **self.whose.to_arrays()})

    @staticmethod
    def from_secret_bytes(data: bytes) -> Staged:
        """Returns the set of `to_secret_bytes`.

        Raises:
            ConfideError: STATE_DAMAGED (the operator's fault): it is none.
        """
        found = arrays_from_bytes(data)
        if not set(found) >= _ARRAYS or len(found["masked"]) != len(found["order"]) * POINT_BYTES:
            raise ConfideError(ErrorCode.STATE_DAMAGED, "the sealed file of an intersection does not hold a set")
        masked = list(split_points(found["masked"].tobytes()))
        exponent = Exponent.from_secret_bytes(found["exponent"].tobytes())
        salt = found["salt"].tobytes()
        rows = found["features"], found["labels"], found["order"]
        return Staged(*rows, masked, exponent, salt, Made.from_arrays(found), Whose.from_arrays(found))

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuses: rows and keys do not travel by pickle."""
        raise TypeError("a set is not pickled")


def check_terms(terms: Terms) -> None:
    """Checks what an operator has agreed to, before any file is read.

    Raises:
        ConfideError: INVALID_ARGUMENT (the operator's fault), with every problem.
    """
    names = {"label": terms.label} | ({"name": terms.dataset} if terms.mode is Mode.ROWS else {})
    names |= {} if terms.population is None else {"population": terms.population}
    problems = [
        Problem(field, "an identifier is 1 to 63 of a-z, 0-9 and -, not at the ends", "choose another")
        for field, value in names.items()
        if not ID_PATTERN.fullmatch(value)
    ]
    if terms.party == terms.peer:
        problems.append(Problem("with", "names this institution itself", "name the other one"))
    if problems:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the intersection cannot be made so", problems=problems)


def read_set(config: PartyConfig, terms: Terms, *, file: Path, schema_file: Path) -> CheckedRows:
    """Reads and checks a file.

    Args:
        config: of this institution.
        terms: what is agreed.
        file: CSV or Parquet, secret; every row with an identifier of its own.
        schema_file: YAML, public, with one identifier column.

    Raises:
        ConfideError: INVALID_DATA, INVALID_SCHEMA or INVALID_ARGUMENT (the owner's fault), with every problem.
    """
    schema = schema_from_yaml(read_public(schema_file, max_bytes=MAX_SCHEMA_BYTES))
    return check_set(config, terms, read_rows(file, schema, Content.ALIGNED_ROWS), schema, made=None)


def check_set(config: PartyConfig, terms: Terms, table: Table, schema: TableSchema, *, made: Made | None) -> CheckedRows:
    """Checks rows that were read.

    Args:
        config: of this institution.
        terms: what is agreed.
        table: read as aligned rows under the schema, secret.
        schema: public.
        made: how a recipe made the rows; None if none did.

    Raises:
        ConfideError: as `read_set`.
    """
    most = min(config.max_rows, MAX_ELEMENTS)
    if table.num_rows > most:
        what = f"{table.num_rows} rows; at most {most} are intersected here"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Raise max_rows, or split the file.")
    identifiers = normalise_all(identifiers_of(table, schema))
    _refuse_doubles(identifiers)
    if terms.mode is Mode.SIZE:  # nothing of the columns is needed or told
        return CheckedRows(identifiers, PreparedRows(np.empty((table.num_rows, 0)), np.empty(0), {}), b"", None, NOBODY)
    rows = prepare(table, schema, OnViolation.REFUSE)
    return CheckedRows(identifiers, rows, canonical_bytes(schema.to_document()), made, _whose(config, terms, identifiers))


def _whose(config: PartyConfig, terms: Terms, identifiers: Sequence[str]) -> Whose:
    """Finds whose rows these are before the sides meet: afterwards the other one knows who is common, and nothing is refused."""
    sealed = config.folder.open_sealed()
    people = digests_of(identifiers, key=sealed.people_key)
    no_rows = PreparedRows(np.empty((0, 0)), np.empty(0), {})  # common rows are others, in another order
    newcomer = Newcomer(terms.dataset, terms.population, no_rows, "", np.unique(people))
    with one_transaction(config.folder.database_file) as tables:
        population, known = newcomer.population(tables), tables.datasets.all()
    newcomer.overlaps(sealed, known, population)
    return Whose(population, people)


def mask(config: PartyConfig, terms: Terms, checked: CheckedRows) -> Staged:
    """Masks a set under a new key; nothing leaves yet."""
    sides = (terms.party, terms.peer)
    elements = [element(text, consortium=terms.consortium, label=terms.label, parties=sides) for text in checked.identifiers]
    exponent = Exponent.from_secret(SecretBytes(secrets.token_bytes(SECRET_BYTES)))
    with Maskers(exponent, processes=config.cores) as maskers:
        masked = maskers.hashed(elements)
    order = sorted(range(len(masked)), key=masked.__getitem__)
    return Staged(
        features=checked.rows.features,
        labels=checked.rows.labels,
        order=np.array(order, np.int64),
        masked=[masked[row] for row in order],
        exponent=exponent,
        salt=secrets.token_bytes(SALT_BYTES),
        made=checked.made,
        whose=checked.whose,
    )


def _refuse_doubles(identifiers: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    problems = []
    for row, text in enumerate(identifiers, start=1):
        if text in seen:
            what = f"has the identifier of row {seen[text]}, written otherwise perhaps"
            problems.append(Problem(f"row {row}", what, "keep one row a person"))
        seen.setdefault(text, row)
    if problems:
        what = f"{len(problems)} row(s) with the identifier of another row"
        raise ConfideError(ErrorCode.INVALID_DATA, what, problems=problems[:MAX_REPORTED])
