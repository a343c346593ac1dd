"""What a serving party consists of: its configuration, identity, database and sealed files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

import structlog

from governance.admission import Holdings, ModelFacts, PastJob
from governance.identity.directory import Directory
from governance.policy.rules import Policy
from parties.config import PartyConfig
from parties.server.policy import CurrentPolicy
from parties.storage.database import Database, Tables
from parties.storage.datasets import DatasetRecord
from parties.storage.sealed import SealedFiles
from parties.storage.state import Member, MemberFolder
from protocols.canonical import sha256_hex
from protocols.errors import ConfideError
from protocols.job import DatasetRef, Job, Partition
from protocols.session.states import State
from protocols.training import OptimiserKind

_log = structlog.get_logger()


class CurrentDirectory:
    """The directory as it is now: `confide party join` may replace the file while the party serves."""

    def __init__(self, folder: MemberFolder, first: Directory) -> None:
        self._folder = folder
        self._lock = Lock()
        self._seen = self._stamp()
        self._current = first

    def get(self) -> Directory:
        """Returns the newest directory; one that does not verify is not taken over, and the last good one stays."""
        with self._lock:
            stamp = self._stamp()
            if stamp != self._seen:
                self._seen = stamp
                try:
                    found = self._folder.load_directory()
                except ConfideError as error:
                    _log.error("directory_refused", code=error.code.name, what=error.what)
                else:
                    self._take(found)
            return self._current

    def _take(self, found: Directory) -> None:
        if found.version > self._current.version:
            self._current = found
            _log.info("directory", version=found.version)

    def _stamp(self) -> tuple[int, int]:
        status = self._folder.directory_file.stat()
        return status.st_mtime_ns, status.st_ino


@dataclass(frozen=True)
class Party:
    """A serving party; shared by all threads."""

    config: PartyConfig
    member: Member
    database: Database
    sealed: SealedFiles
    current_directory: CurrentDirectory
    current_policy: CurrentPolicy

    @property
    def id(self) -> str:
        """This party's id."""
        return self.member.identity.id

    @property
    def directory(self) -> Directory:
        """The directory, as it is now."""
        return self.current_directory.get()

    @property
    def policy(self) -> Policy:
        """The policy, as it is now."""
        return self.current_policy.get()

    @property
    def worker_log(self) -> Path:
        """Where workers' own words go; they hold no values."""
        return self.config.state / "worker.log"

    def now(self) -> datetime:
        """The time, UTC."""
        return datetime.now(UTC)


def dataset_ref(party: str, record: DatasetRecord) -> DatasetRef:
    """Returns the public description of a registration."""
    schema = record.schema
    return DatasetRef(
        party=party,
        name=record.name,
        version=record.version,
        num_rows=record.num_rows,
        schema_digest=sha256_hex(record.schema_document),
        commitment=record.commitment,
        num_features=schema.num_features,
        has_label=schema.has_label,
        alignment=record.alignment,
    )


def holdings(party: Party, tables: Tables, job: Job) -> Holdings:
    """Returns what the party brings to a job, as of one transaction."""
    models = {}
    for model in tables.models.usable():
        training = Job.from_bytes(tables.jobs.get(model.job_id).document)
        schema_digest = sha256_hex(model.schema_document)
        optimiser = OptimiserKind.SGD if training.training is None else training.training.optimiser.kind
        models[model.ref] = ModelFacts(training.computing_parties, model.model_document, schema_digest, model.steps, optimiser)
    named = {dataset.name for dataset in job.datasets if dataset.party == party.id}
    records = [record for record in tables.datasets.latest() if record.name in named]
    found = [tables.preparations.find(record.name, record.version) for record in records]
    return Holdings(
        party=party.id,
        datasets={record.name: dataset_ref(party.id, record) for record in records},
        schemas={record.name: record.schema for record in records},
        rows_per_person=_rows_per_person(records, job),
        prepared={each.name: each.signed.document for each in found if each is not None},
        models=models,
        min_evaluation_rows=party.config.min_evaluation_rows,
        max_rows=party.config.max_rows,
        max_query_rows=party.config.max_query_rows,
        servings=_older_servings(tables, job),
        max_servings=party.config.max_servings_per_model,
        min_cell=party.config.min_cell,
        resumed=_resumed(tables, job),
    )


def _rows_per_person(records: Sequence[DatasetRecord], job: Job) -> dict[str, int]:
    """A person of several data sets of one population has the rows of all, of each one at least; joined columns are one row."""
    known = {record.name: record.rows_per_person for record in records if record.rows_per_person is not None}
    if job.partition is Partition.COLUMNS:
        return known
    together: Counter[str] = Counter()
    for record in records:
        together[record.population] += known.get(record.name, 1)
    return {record.name: together[record.population] for record in records}


def _older_servings(tables: Tables, job: Job) -> int:
    """Counts the open servings of a job's model that were made before it: of two at once, the later one is refused everywhere.

    One that is stopping, refused or not, answers nothing any more and stands in nobody's way.
    """
    if job.serving is None:
        return 0
    open_here = (record for record in tables.jobs.without_ending() if State(record.state) is not State.STOPPING)
    others = (Job.from_bytes(record.document) for record in open_here if record.job_id != job.job_id)
    same = (other for other in others if other.serving is not None and other.model_ref == job.model_ref)
    return sum((other.created, other.job_id) < (job.created, job.job_id) for other in same)


def _resumed(tables: Tables, job: Job) -> PastJob | None:
    record = None if job.resumes is None else tables.jobs.find(job.resumes.job_id)
    if record is None:
        return None
    checkpoints = frozenset((kept.run, kept.head) for kept in tables.checkpoints.of_job(record.job_id))
    return PastJob(Job.from_bytes(record.document), State(record.state), checkpoints)
