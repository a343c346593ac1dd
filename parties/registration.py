"""Registration of data sets at their owner: rows are checked, scaled, committed to, sealed; they never leave as rows.

What becomes public with a registration: name, version, schema, number of rows, salted commitment, and the alignment if there is
one. Rows, salt, identifiers and the count of rows left out stay here; of identifiers nothing is kept but digests under a key of
the party, sealed with the rows, which recognise the same people in another data set.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from governance.audit.entries import EntryKind, Fact
from parties.alignment_secrets import AlignBy, read_alignment_secret
from parties.arrays import arrays_from_bytes, arrays_to_bytes
from parties.config import PartyConfig
from parties.populations import PEOPLE, Newcomer
from parties.raw_file import format_of
from parties.storage.database import Database, Tables, open_database
from parties.storage.datasets import DatasetRecord, dataset_object_id
from parties.storage.files import read_public
from parties.storage.sealed import Purpose, SealedFiles
from privacy.preparation.alignment import align, identifiers_of
from privacy.preparation.commitment import SALT_BYTES, commit, verify
from privacy.preparation.contract import OnViolation, PreparedRows, prepare
from privacy.preparation.people import bound_of_people, most_rows_of_one, people_digests
from privacy.preparation.schema import TableSchema
from privacy.preparation.schema_file import MAX_SCHEMA_BYTES, schema_from_yaml
from privacy.preparation.table import Content, Table, read_table
from protocols.canonical import canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import ID_PATTERN

_MOST_NAMED = 100  # populations in an entry of the audit log


def register_dataset(
    config: PartyConfig,
    *,
    name: str,
    file: Path,
    schema_file: Path,
    on_violation: OnViolation,
    now: datetime,
    align_by: AlignBy | None = None,
    rows_per_person: int | None = None,
    population: str | None = None,
) -> DatasetRecord:
    """Registers the rows of a file as the next version of a data set; works while the party serves.

    Args:
        config: the owner's configuration.
        name: the data set's name here.
        file: CSV (`.csv`) or Parquet (`.parquet`), secret.
        schema_file: the schema (YAML), public.
        on_violation: whether rows that break the contract stop everything or are left out and counted.
        now: the time, UTC.
        align_by: if other columns of the same people lie at other owners: under what all of them align their rows.
        rows_per_person: so many a person has at most, as the owner declares; None for as many as are counted, if they can be.
        population: whose rows these are, as the owner declares; None for that of earlier versions, else the data set's name.

    Returns:
        The registration.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): file, rows or identifiers, with every problem, or more rows of one person
            than are declared; INVALID_SCHEMA: the schema, also one without a label or with other than one identifier where that
            does not do; INVALID_ARGUMENT: name, files, alignment, more rows than the configuration allows, rows that are
            registered under another name, or people of another population; STATE_SCHEMA or FILE_MODE: the state folder.
    """
    check_dataset_name(name)
    check_population(population)
    schema = schema_from_yaml(read_public(schema_file, max_bytes=MAX_SCHEMA_BYTES))
    check_use(schema, align_by)
    table = read_rows(file, schema, content_for(align_by))
    alignment = "" if align_by is None else align_rows(table, schema, align_by, on_violation)
    sealed = config.folder.open_sealed()
    people = people_in(table, schema, rows_per_person, key=sealed.people_key, population=population)
    rows = prepare(table, schema, on_violation)
    check_size(config, rows)
    salt = secrets.token_bytes(SALT_BYTES)
    database = open_database(config.folder.database_file)
    try:
        return keep_rows(
            database, sealed, name=name, schema=schema, rows=rows, alignment=alignment, people=people, salt=salt, now=now
        )
    finally:
        database.close()


@dataclass(frozen=True, eq=False, repr=False)
class People:
    """Whose rows are registered; secret but for the population.

    Attributes:
        most_rows: so many a person has at most; None if nobody knows.
        is_counted: whether they were counted, else declared.
        digests: (people,) uint64, of those whom the rows name, under the party's key; empty if no column names people.
        population: as the owner declares it; None if it declares none.
    """

    most_rows: int | None
    is_counted: bool
    digests: NDArray[np.uint64]
    population: str | None


def people_in(table: Table, schema: TableSchema, declared: int | None, *, key: bytes, population: str | None) -> People:
    """Returns whose rows a table has: how many of each, counted where a column names people, and digests of their names.

    Args:
        table: secret.
        schema: of the rows, public.
        declared: so many rows a person has at most, as the owner declares; None if it declares nothing.
        key: of the digests, secret.
        population: as the owner declares it.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): more rows than are declared.
    """
    counted = most_rows_of_one(table, schema)
    most_rows = bound_of_people(counted, declared)
    return People(most_rows, counted is not None, people_digests(table, schema, key=key), population)


def check_dataset_name(name: str) -> None:
    """Refuses a name that no data set can have.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault).
    """
    if not ID_PATTERN.fullmatch(name):
        problem = Problem("name", "an identifier is 1 to 63 of a-z, 0-9 and -, not at the ends", "choose another")
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the data set cannot have this name", problems=[problem])


def check_population(population: str | None) -> None:
    """Refuses a name that no population can have: they are called as data sets are.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault).
    """
    if population is not None and not ID_PATTERN.fullmatch(population):
        problem = Problem("population", "an identifier is 1 to 63 of a-z, 0-9 and -, not at the ends", "choose another")
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the population cannot have this name", problems=[problem])


def check_use(schema: TableSchema, align_by: AlignBy | None) -> None:
    """Refuses rows that no job could use: without a label, and not aligned with others.

    Raises:
        ConfideError: INVALID_SCHEMA (the author's fault).
    """
    if align_by is None and not schema.has_label:
        problem = Problem(
            "columns", f"{schema.name} has no label column", "name the alignment secret and label, or add the label"
        )
        what = "rows without a label are of use only beside other columns of the same people"
        raise ConfideError(ErrorCode.INVALID_SCHEMA, what, problems=[problem])


def content_for(align_by: AlignBy | None) -> Content:
    """Returns what a file of rows must hold."""
    return Content.COUNTED_ROWS if align_by is None else Content.ALIGNED_ROWS


def check_size(config: PartyConfig, rows: PreparedRows) -> None:
    """Refuses more rows than the configuration allows.

    Raises:
        ConfideError: INVALID_ARGUMENT (the operator's fault).
    """
    if rows.num_rows > config.max_rows:
        raise ConfideError(
            ErrorCode.INVALID_ARGUMENT,
            f"{rows.num_rows} rows; this party's configuration allows {config.max_rows}",
            remedy="Raise max_rows, or split the file.",
        )


def open_rows(sealed: SealedFiles, record: DatasetRecord) -> PreparedRows:
    """Opens the rows of a registration, for a session worker of their owner, and checks them against their commitment.

    Returns:
        The rows, secret: features (rows, features) float64 in [-1, 1], labels (rows,) float64, or (0,) if it has none.

    Raises:
        ConfideError: STATE_DAMAGED (the operator's fault): the sealed file does not open or holds other rows.
    """
    arrays = open_sealed(sealed, record)
    if not {"features", "labels", "salt"} <= set(arrays):
        raise ConfideError(ErrorCode.STATE_DAMAGED, f"the sealed file of {record.object_id} does not hold rows")
    rows = PreparedRows(arrays["features"], arrays["labels"], {})
    digest = sha256_hex(record.schema_document)
    if not verify(record.commitment, rows, schema_digest=digest, salt=arrays["salt"].tobytes()):
        raise ConfideError(ErrorCode.STATE_DAMAGED, f"the rows of {record.object_id} are not those that were registered")
    return rows


def open_sealed(sealed: SealedFiles, record: DatasetRecord) -> Mapping[str, NDArray[Any]]:
    """Opens everything that is sealed with a registration, secret; not compared with its commitment.

    Raises:
        ConfideError: STATE_DAMAGED (the operator's fault).
    """
    return arrays_from_bytes(sealed.read(Purpose.DATASET, record.object_id, record.sealed_name))


def keep_rows(
    database: Database,
    sealed: SealedFiles,
    *,
    name: str,
    schema: TableSchema,
    rows: PreparedRows,
    alignment: str,
    people: People,
    salt: bytes,
    now: datetime,
    besides: Mapping[str, NDArray[Any]] = MappingProxyType({}),
    also: Callable[[Tables, DatasetRecord], Mapping[str, Fact] | None] = lambda tables, record: None,
) -> DatasetRecord:
    """Keeps checked rows as the next version of a data set.

    Args:
        database: the owner's.
        sealed: likewise.
        name: of the data set.
        schema: of the rows, public.
        rows: secret.
        alignment: public; empty if there is none.
        people: whose rows these are.
        salt: of the commitment, 32 random bytes, secret.
        now: the time, UTC.
        besides: what is sealed with the rows, secret.
        also: what becomes durable together with the registration, or stops it by raising; returns what the audit log says of the
            registration besides.

    Raises:
        ConfideError: DISK_FULL or INVALID_ARGUMENT (the operator's fault), the latter also for rows that are registered under
            another name: nothing is kept; else what `also` raises.
    """
    newcomer = Newcomer(name, people.population, rows, alignment, people.digests)
    with database.transaction() as tables:
        first, known = newcomer.population(tables), tables.datasets.all()
    overlaps = newcomer.overlaps(sealed, known, first)  # outside: other rows are opened, for which nobody shall wait
    salted: dict[str, NDArray[Any]] = {"salt": np.frombuffer(salt, dtype=np.uint8)}
    if people.digests.size:
        salted[PEOPLE] = people.digests
    contents = arrays_to_bytes({**besides, **salted, "features": rows.features, "labels": rows.labels})
    written = ""
    try:
        with database.transaction() as tables:
            population = newcomer.population(tables)
            # What was registered meanwhile by another process has not been compared yet, nor, if it has moved this name, what was
            # of the population before; nothing comes between from here on.
            before = {record.object_id: record.population for record in known} if population == first else {}
            since = [each for each in tables.datasets.all() if before.get(each.object_id) != each.population]
            overlaps = {**overlaps, **newcomer.overlaps(sealed, since, population)}
            # The version is part of what the seal authenticates, so it must not change before the registration is kept.
            version = tables.datasets.next_version(name)
            written = sealed.write(Purpose.DATASET, dataset_object_id(name, version), contents)
            record = DatasetRecord(
                name=name,
                version=version,
                schema_document=canonical_bytes(schema.to_document()),
                num_rows=rows.num_rows,
                left_out={violation.name.lower(): count for violation, count in rows.left_out.items()},
                commitment=commit(rows, schema_digest=schema.digest, salt=salt),
                alignment=alignment,
                sealed_name=written,
                created=now,
                rows_per_person=people.most_rows,
                is_counted=people.is_counted,
                population=population,
            )
            tables.datasets.add(record)
            facts: dict[str, Fact] = {
                "dataset": record.object_id,
                "commitment": record.commitment,
                "schema": schema.digest,
                "rows": rows.num_rows,
                "rows_per_person": people.most_rows,
                "population": population,
                "also_of": _in_words(overlaps),
            }
            more = also(tables, record) or {}
            tables.audit.append(EntryKind.DATASET_REGISTERED, {**facts, **more}, now=now)
    except BaseException:  # whatever stopped the transaction, no rows stay behind that no registration knows
        if written:
            sealed.delete(written)
        raise
    return record


def _in_words(overlaps: Mapping[str, int]) -> list[str]:
    """Who else's people these are, the most first; as many as an entry of the audit log holds."""
    found = [f"{other}: {count}" for other, count in sorted(overlaps.items(), key=lambda each: (-each[1], each[0]))]
    more = [f"and {len(found) - _MOST_NAMED} more"] if len(found) > _MOST_NAMED else []
    return [*found[:_MOST_NAMED], *more]


def align_rows(table: Table, schema: TableSchema, align_by: AlignBy, on_violation: OnViolation) -> str:
    """Returns the alignment of rows under the owners' common secret, public.

    Raises:
        ConfideError: INVALID_ARGUMENT (the owner's fault): rows would be left out, or secret and label; INVALID_DATA,
            INVALID_SCHEMA: the identifiers.
    """
    if on_violation is not OnViolation.REFUSE:
        what = "rows are not left out of an aligned data set: they would be missing beside the other owners' columns"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Correct or remove the rows at every owner.")
    identifiers = identifiers_of(table, schema)
    return align(identifiers, secret=read_alignment_secret(align_by.secret_file), label=align_by.label)


def read_rows(file: Path, schema: TableSchema, content: Content) -> Table:
    """Reads a data owner's file, CSV or Parquet by its name.

    Raises:
        ConfideError: as `read_table`; INVALID_ARGUMENT (the owner's fault): the file cannot be read.
    """
    file_format = format_of(file)
    try:
        with file.open("rb") as source:
            return read_table(source, schema, content=content, file_format=file_format)
    except OSError as error:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{file}: {error.strerror or 'cannot be read'}") from error
