"""The party's database: one SQLite file, checked when it is opened, changed in short transactions.

    with database.transaction() as tables:
        tables.jobs.save_snapshot(...)
        tables.openings.make(...)

Everything in one `with` block becomes durable together or not at all. Several processes may use the file: writers wait for
each other, up to the busy timeout.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, text, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from parties.storage.acceptances import AcceptanceStore
from parties.storage.agreements import AgreementStore
from parties.storage.approvals import ApprovalStore, AuthorisationStore, PolicyStore
from parties.storage.assessments import AssessmentStore
from parties.storage.audit_log import AuditStore
from parties.storage.checkpoints import CheckpointStore
from parties.storage.datasets import DatasetStore
from parties.storage.encrypted import EncryptedStore
from parties.storage.evidence import EvidenceStore, OwnEvidenceStore
from parties.storage.files import SECRET_MODE
from parties.storage.grants import GrantStore
from parties.storage.jobs import JobStore
from parties.storage.leases import LeaseStore
from parties.storage.ledger import LedgerStore
from parties.storage.linking import LinkingStore
from parties.storage.models import ModelStore
from parties.storage.outputs import OpeningStore, OutputStore
from parties.storage.preparations import PreparationStore
from parties.storage.registry import RegistryStore
from parties.storage.revocations import RevocationStore
from parties.storage.serving import ServingStore
from parties.storage.statements import StatementStore
from parties.storage.tables import SCHEMA_VERSION, SchemaInfo, Table
from parties.storage.witness import WitnessStore
from protocols.errors import ConfideError, ErrorCode

BUSY_TIMEOUT_S = 10
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",  # a used grant must not come back after a power cut
    "PRAGMA secure_delete = ON",
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}",
)


@dataclass(frozen=True)
class Tables:
    """The stores of one transaction; they end with it."""

    datasets: DatasetStore
    jobs: JobStore
    models: ModelStore
    outputs: OutputStore
    openings: OpeningStore
    checkpoints: CheckpointStore
    serving: ServingStore
    encrypted: EncryptedStore
    leases: LeaseStore
    ledger: LedgerStore
    agreements: AgreementStore
    grants: GrantStore
    revocations: RevocationStore
    registry: RegistryStore
    statements: StatementStore
    authorisations: AuthorisationStore
    policies: PolicyStore
    approvals: ApprovalStore
    witness: WitnessStore
    acceptances: AcceptanceStore
    linking: LinkingStore
    preparations: PreparationStore
    evidence: EvidenceStore
    own_evidence: OwnEvidenceStore
    assessments: AssessmentStore
    audit: AuditStore

    def sealed_names(self) -> frozenset[str]:
        """Returns the names of all sealed files that a table names."""
        stores = (self.datasets, self.models, self.outputs, self.checkpoints, self.encrypted, self.linking)
        return frozenset(name for store in stores for name in store.sealed_names())


class Database:
    """One party's database; may be shared by threads, each in its own transaction."""

    def __init__(self, engine: Engine) -> None:
        """Takes an engine whose schema has been checked; use `open_database`."""
        self._engine = engine
        # SQLite admits one writer; threads of one process wait for each other here, without its polling.
        self._turn = threading.RLock()

    @contextmanager
    def transaction(self) -> Iterator[Tables]:
        """Begins a transaction; commits at the end of the block, rolls back if it raises.

        Raises:
            ConfideError: DISK_FULL (the operator's fault): the file takes nothing now, and nothing has changed; else whatever
                the stores in the block raise.
        """
        try:
            with self._turn, Session(self._engine, expire_on_commit=False) as session, session.begin():
                yield Tables(
                    datasets=DatasetStore(session),
                    jobs=JobStore(session),
                    models=ModelStore(session),
                    outputs=OutputStore(session),
                    openings=OpeningStore(session),
                    checkpoints=CheckpointStore(session),
                    serving=ServingStore(session),
                    encrypted=EncryptedStore(session),
                    leases=LeaseStore(session),
                    ledger=LedgerStore(session),
                    agreements=AgreementStore(session),
                    grants=GrantStore(session),
                    revocations=RevocationStore(session),
                    registry=RegistryStore(session),
                    statements=StatementStore(session),
                    authorisations=AuthorisationStore(session),
                    policies=PolicyStore(session),
                    approvals=ApprovalStore(session),
                    witness=WitnessStore(session),
                    acceptances=AcceptanceStore(session),
                    linking=LinkingStore(session),
                    preparations=PreparationStore(session),
                    evidence=EvidenceStore(session),
                    own_evidence=OwnEvidenceStore(session),
                    assessments=AssessmentStore(session),
                    audit=AuditStore(session),
                )
        except OperationalError as error:
            raise ConfideError(ErrorCode.DISK_FULL, f"the database takes nothing: {error.orig}") from error

    def probe(self) -> None:
        """Writes what is there already, to see whether the file takes anything.

        Raises:
            ConfideError: DISK_FULL (the operator's fault): it does not.
        """
        try:
            with self._turn, self._engine.begin() as connection:
                connection.execute(update(SchemaInfo).values(version=SCHEMA_VERSION))
        except OperationalError as error:
            raise ConfideError(ErrorCode.DISK_FULL, f"the database takes nothing: {error.orig}") from error

    def close(self) -> None:
        """Closes every connection that is not in use."""
        self._engine.dispose()


def open_database(path: Path) -> Database:
    """Opens a party's database, makes its tables if the file is new, and checks that they are this version's.

    Raises:
        ConfideError: STATE_SCHEMA (the operator's fault): written by another version, or not a database of Confide;
            INVALID_ARGUMENT: the file cannot be made.
    """
    try:
        # Made by us first, so that it and its side files are never readable by others.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, SECRET_MODE))
    except OSError as error:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path}: {error.strerror}") from error
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _prepare_connection)
    event.listen(engine, "begin", _begin)
    try:
        with engine.begin() as connection:
            _check_schema(connection, path)
    except (DatabaseError, sqlite3.DatabaseError) as error:  # the latter from `_prepare_connection`
        engine.dispose()
        raise ConfideError(ErrorCode.STATE_SCHEMA, f"{path} is not a database that can be used") from error
    except ConfideError:
        engine.dispose()
        raise
    return Database(engine)


@contextmanager
def one_transaction(path: Path) -> Iterator[Tables]:
    """Opens a party's database for one transaction, as a command does; a serving party keeps its own open.

    Raises:
        ConfideError: as `open_database` and `Database.transaction`.
    """
    with closing(open_database(path)) as database, database.transaction() as tables:
        yield tables


def _check_schema(connection: Connection, path: Path) -> None:
    found = set(inspect(connection).get_table_names())
    if not found:
        Table.metadata.create_all(connection)
        connection.execute(insert(SchemaInfo).values(only=1, version=SCHEMA_VERSION))
        return
    if "schema_info" not in found:
        raise ConfideError(ErrorCode.STATE_SCHEMA, f"{path} is not a database of Confide")
    versions = [row[0] for row in connection.execute(text("SELECT version FROM schema_info"))]
    if versions != [SCHEMA_VERSION]:
        shown = ", ".join(str(version) for version in versions) or "none"
        raise ConfideError(
            ErrorCode.STATE_SCHEMA, f"{path} has schema version {shown}; this program reads version {SCHEMA_VERSION}"
        )
    expected = set(Table.metadata.tables)
    if found != expected:
        differing = ", ".join(sorted(found ^ expected))
        raise ConfideError(ErrorCode.STATE_SCHEMA, f"{path} has not the tables of its version: {differing}")


def _prepare_connection(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    # The driver would begin transactions late and never before reads; `_begin` does it instead.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(pragma).close()


def _begin(connection: Connection) -> None:
    # A transaction that reads and then writes would fail, not wait, if another process wrote in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
