"""How a party stands, for one screen: read from its own files and asked of its own process and of its peers."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import grpc

from governance.documents import SignedDocument
from governance.identity.certificates import parse_certificate
from parties.config import PartyConfig
from parties.operating.own import PeerAnswer, ask_peers, is_serving, load_own_member, own_channel
from parties.policy_file import load_policy
from parties.standing_releases import StandingRelease, standing_releases
from parties.storage.database import Tables, one_transaction
from parties.storage.jobs import JobRecord
from parties.wire import methods
from protocols.errors import ConfideError
from protocols.job import Job
from protocols.session.messages import Ending

LAST_ENDINGS = 5
CALL_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class OpenJob:
    """A job that has not ended here.

    Attributes:
        job_id: its id.
        job_type: train, evaluate, infer or serve.
        querier: who asked for it.
        state: of its session.
        phase: what its worker does, as far as the process can be asked.
        age_s: since it reached this party.
    """

    job_id: str
    job_type: str
    querier: str
    state: str
    phase: str
    age_s: float


@dataclass(frozen=True)
class EndedJob:
    """How a job ended; `code` and `at_fault` are empty if it completed."""

    job_id: str
    job_type: str
    state: str
    code: str
    at_fault: str
    time: str


@dataclass(frozen=True)
class AuditStanding:
    """How far the audit log and its witnesses are.

    Attributes:
        entries: of the log.
        checkpoint: entries that the newest signed checkpoint covers; 0 before the first.
        made: when it was signed, or None.
        cosigned: entries that each witness has cosigned, by its id.
        forks: contradictions in other parties' logs of which this party holds evidence.
    """

    entries: int
    checkpoint: int
    made: datetime | None
    cosigned: Mapping[str, int]
    forks: int


@dataclass(frozen=True)
class PartyStatus:
    """How the party stands.

    Attributes:
        party: its id.
        listen: where its port is.
        is_serving: whether its process says so.
        software_version: of this installation.
        directory_version: of the directory that it holds.
        certificate_until: when its certificate ends.
        peers: every other party of the directory.
        open_jobs: the oldest first.
        endings: the latest first.
        audit: how far the audit log and its witnesses are.
        num_datasets: registered here.
        num_models: held here as shares, usable.
        releases: what `released` stands for here, and until when.
        free_bytes: on the disk of the state folder.
        used_bytes: of the state folder.
    """

    party: str
    listen: str
    is_serving: bool
    software_version: str
    directory_version: int
    certificate_until: datetime
    peers: tuple[PeerAnswer, ...]
    open_jobs: tuple[OpenJob, ...]
    endings: tuple[EndedJob, ...]
    audit: AuditStanding
    num_datasets: int
    num_models: int
    releases: tuple[StandingRelease, ...]
    free_bytes: int
    used_bytes: int


def party_status(config: PartyConfig, *, software_version: str, now: datetime, timeout_s: float = CALL_TIMEOUT_S) -> PartyStatus:
    """Reads and asks everything; waits for silent parties `timeout_s` at most.

    Raises:
        ConfideError: NOT_ENROLLED, FILE_MODE, UNAUTHENTICATED, STATE_SCHEMA, INVALID_CONFIG (the operator's fault).
    """
    member, policy = load_own_member(config, now), load_policy(config.policy)
    with one_transaction(config.folder.database_file) as tables:
        unfinished = tables.jobs.without_ending()
        endings = tuple(_endings(tables))
        audit = _audit(tables)
        num_datasets, num_models = len(tables.datasets.latest()), len(tables.models.usable())
        releases = standing_releases(tables, policy)
    with own_channel(config, member) as channel:
        serving = is_serving(channel, timeout_s=timeout_s)
        open_jobs = tuple(_open_job(record, channel if serving else None, config.party, now) for record in unfinished)
    return PartyStatus(
        party=config.party,
        listen=config.listen,
        is_serving=serving,
        software_version=software_version,
        directory_version=member.directory.version,
        certificate_until=parse_certificate(member.certificate).not_after,
        peers=ask_peers(member, timeout_s=timeout_s),
        open_jobs=open_jobs,
        endings=endings,
        audit=audit,
        num_datasets=num_datasets,
        num_models=num_models,
        releases=releases,
        free_bytes=shutil.disk_usage(config.state).free,
        used_bytes=folder_bytes(config.state),
    )


def folder_bytes(folder: Path) -> int:
    """Returns the bytes of all files below a folder; files that vanish meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def _open_job(record: JobRecord, channel: grpc.Channel | None, party: str, now: datetime) -> OpenJob:
    state, phase = record.state, ""
    if channel is not None:
        request = methods.GET_JOB.request(job_id=record.job_id)
        try:
            said = methods.GET_JOB.call(channel, request, party=party, timeout_s=CALL_TIMEOUT_S)
        except ConfideError:
            pass  # what the database says stands
        else:
            state, phase = said.state, f"{said.phase} {said.step}/{said.steps}" if said.steps else said.phase
    job = Job.from_bytes(record.document)
    age = (now - record.created).total_seconds()
    return OpenJob(record.job_id, job.job_type.value, record.querier, state, phase, age)


def _audit(tables: Tables) -> AuditStanding:
    latest = tables.audit.latest_checkpoint()
    return AuditStanding(
        entries=tables.audit.size(),
        checkpoint=0 if latest is None else latest.size,
        made=None if latest is None else latest.made,
        cosigned=tables.audit.cosigned_sizes(),
        forks=len(tables.witness.forks()),
    )


def _endings(tables: Tables) -> Iterable[EndedJob]:
    shown = 0
    for record in tables.jobs.recent(querier=None, limit=4 * LAST_ENDINGS):
        document = tables.jobs.ending(record.job_id)
        if document is None:
            continue
        ending = Ending.from_document(SignedDocument.from_bytes(document).document)
        job_type = Job.from_bytes(record.document).job_type.value
        yield EndedJob(record.job_id, job_type, ending.state.value, ending.code, ending.at_fault, ending.time)
        shown += 1
        if shown == LAST_ENDINGS:
            return
