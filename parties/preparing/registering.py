"""From a raw file to a registered data set in one go, and the same again to see that it gives the same rows."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from governance.audit.entries import Fact
from governance.documents import DocumentKind, sign
from governance.identity.keys import SigningKey
from governance.preparation import SALT_BYTES as RAW_SALT_BYTES
from governance.preparation import PreparationStatement, commit_raw, commit_seed
from parties.alignment_secrets import AlignBy
from parties.config import PartyConfig
from parties.linking.made import CHOSEN
from parties.preparing.files import memory_file
from parties.preparing.preparing import Instructions, draw_seed, prepare_file, with_the_others
from parties.registration import (
    align_rows,
    check_dataset_name,
    check_population,
    check_size,
    check_use,
    content_for,
    keep_rows,
    open_sealed,
    people_in,
)
from parties.storage.database import Tables, one_transaction, open_database
from parties.storage.datasets import DatasetRecord
from parties.storage.preparations import PreparationRecord
from privacy.preparation.commitment import SALT_BYTES, commit
from privacy.preparation.contract import OnViolation, PreparedRows, prepare
from privacy.preparation.outcome import Outcome
from privacy.preparation.schema import TableSchema
from privacy.preparation.table import Content, FileFormat, Table, read_table
from privacy.preparation.values import Violation
from protocols.errors import ConfideError, ErrorCode
from protocols.identifiers.normalisation import normalise_all
from protocols.secrets import SecretBytes


@dataclass(frozen=True)
class Reproduction:
    """Whether a preparation gave the same again.

    Attributes:
        record: of the registration.
        is_same_file: whether the raw file is the one that was prepared then.
        is_same_rows: whether the rows are.
        code_then: version of Confide then.
        code_now: and now.
    """

    record: DatasetRecord
    is_same_file: bool
    is_same_rows: bool
    code_then: str
    code_now: str


def register_prepared(
    config: PartyConfig,
    *,
    name: str,
    file: Path,
    instructions: Instructions,
    on_violation: OnViolation,
    now: datetime,
    align_by: AlignBy | None = None,
    rows_per_person: int | None = None,
    population: str | None = None,
) -> tuple[DatasetRecord, Outcome]:
    """Prepares a raw file and registers what comes out as the next version of a data set.

    Args:
        config: the owner's configuration.
        name: the data set's name here.
        file: CSV or Parquet, secret.
        instructions: contract and recipe, public.
        on_violation: whether rows that break the contract after the last step stop everything or are left out and counted.
        now: the time, UTC.
        align_by: if other columns of the same people lie at other owners: under what all of them align their rows, here by the
            pseudonyms of the linkage key.
        rows_per_person: so many a person has at most, as the owner declares; None for as many as are counted, if they can be.
        population: whose rows these are, as the owner declares; None for that of earlier versions, else the data set's name.

    Returns:
        The registration, and what the preparation did.

    Raises:
        ConfideError: as `parties.preparing.preparing.prepare_file` and `parties.registration.register_dataset`; nothing is kept.
    """
    check_dataset_name(name)
    check_population(population)
    sealed = config.folder.open_sealed()
    schema = instructions.contract.schema
    check_use(schema, align_by)
    key, seed = config.folder.member.load_signing_key(), draw_seed()
    with memory_file() as sink:
        outcome = prepare_file(
            file,
            instructions,
            sink=sink,
            seed=seed,
            on_violation=OnViolation.REFUSE if align_by is not None else on_violation,
            make_pseudonyms=with_the_others(config),
        )
        table = _read(sink, schema, content_for(align_by))
    alignment = "" if align_by is None else align_rows(table, schema, align_by, on_violation)
    people = people_in(table, schema, rows_per_person, key=sealed.people_key, population=population)
    checked = prepare(table, schema, OnViolation.REFUSE)
    left_out = {Violation[reason.upper()]: count for reason, count in outcome.left_out.items()}
    rows = PreparedRows(checked.features, checked.labels, left_out)
    check_size(config, rows)
    salt, raw_salt = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(RAW_SALT_BYTES)

    def also(tables: Tables, record: DatasetRecord) -> Mapping[str, Fact]:
        made = _statement(record, instructions, outcome, seed=seed, raw_salt=raw_salt)
        tables.preparations.add(_record(record, made, outcome, party=config.party, key=key))
        return {"preparation": made.digest}

    database = open_database(config.folder.database_file)
    try:
        record = keep_rows(
            database,
            sealed,
            name=name,
            schema=schema,
            rows=rows,
            alignment=alignment,
            people=people,
            salt=salt,
            now=now,
            besides={"seed": np.frombuffer(seed.reveal(), np.uint8), "raw_salt": np.frombuffer(raw_salt, np.uint8)},
            also=also,
        )
    finally:
        database.close()
    return record, outcome


def reproduce(config: PartyConfig, *, name: str, number: int | None, file: Path) -> Reproduction:
    """Prepares a raw file again as a registration says, and compares the rows with its commitment; keeps nothing.

    Args:
        config: the owner's configuration.
        name: the data set's name here.
        number: its version; the latest if None.
        file: the raw file, secret.

    Raises:
        ConfideError: UNKNOWN_DATASET (the caller's fault): no such data set, or it was registered without a recipe;
            STATE_DAMAGED (the operator's); else as `parties.preparing.preparing.prepare_file`.
    """
    with one_transaction(config.folder.database_file) as tables:
        record = tables.datasets.get(name, number)
        kept = tables.preparations.find(record.name, record.version)
    if kept is None:
        what = f"{record.object_id} was registered as it was, without a recipe"
        raise ConfideError(ErrorCode.UNKNOWN_DATASET, what, remedy="Name a data set that was registered with a recipe.")
    arrays = open_sealed(config.folder.open_sealed(), record)
    if not {"salt", "seed", "raw_salt"} <= set(arrays):
        raise ConfideError(ErrorCode.STATE_DAMAGED, f"the sealed file of {record.object_id} holds no seed")
    statement, seed = kept.statement, SecretBytes(arrays["seed"].tobytes())
    schema = statement.contract.schema
    with memory_file() as sink:
        outcome = prepare_file(
            file,
            Instructions(statement.contract, statement.recipe),
            sink=sink,
            seed=seed,
            on_violation=OnViolation.LEAVE_OUT,
            # Pseudonyms are in no row that is kept; normal forms tell the same people apart.
            make_pseudonyms=lambda _project, identifiers: dict(zip(identifiers, normalise_all(identifiers), strict=True)),
        )
        content = Content.ALIGNED_ROWS if record.alignment else Content.LABELLED_ROWS
        rows = prepare(_read(sink, schema, content), schema, OnViolation.REFUSE)
    rows = _chosen(rows, arrays.get(CHOSEN))
    return Reproduction(
        record,
        is_same_file=commit_raw(outcome.raw, arrays["raw_salt"].tobytes()) == statement.raw_commitment,
        is_same_rows=_commitment(rows, schema, arrays["salt"].tobytes()) == record.commitment,
        code_then=statement.code,
        code_now=version("confide"),
    )


def _chosen(rows: PreparedRows, chosen: NDArray[np.int64] | None) -> PreparedRows:
    """Returns the rows that an intersection chose; none if a changed file has too few."""
    if chosen is None:
        return rows
    if len(chosen) and chosen.max() >= rows.num_rows:
        chosen = chosen[:0]
    return PreparedRows(rows.features[chosen], rows.labels[chosen] if len(rows.labels) else rows.labels, {})


def _commitment(rows: PreparedRows, schema: TableSchema, salt: bytes) -> str:
    return commit(rows, schema_digest=schema.digest, salt=salt)


def _read(sink: BinaryIO, schema: TableSchema, content: Content) -> Table:
    sink.seek(0)
    return read_table(sink, schema, content=content, file_format=FileFormat.PARQUET)


def _statement(
    record: DatasetRecord, instructions: Instructions, outcome: Outcome, *, seed: SecretBytes, raw_salt: bytes
) -> PreparationStatement:
    return PreparationStatement(
        dataset=record.object_id,
        num_rows=record.num_rows,
        rows_commitment=record.commitment,
        contract=instructions.contract,
        recipe=instructions.recipe,
        seed_commitment=commit_seed(seed),
        raw_commitment=commit_raw(outcome.raw, raw_salt),
        code=version("confide"),
    )


def _record(
    record: DatasetRecord, made: PreparationStatement, outcome: Outcome, *, party: str, key: SigningKey
) -> PreparationRecord:
    document = outcome.to_document()
    del document["raw"]  # a bare digest of rows can be guessed; the statement has a commitment
    signed = sign(made.to_document(), kind=DocumentKind.PREPARATION, signer=party, key=key)
    return PreparationRecord(record.name, record.version, signed, document)
