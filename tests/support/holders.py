"""Three hospitals with real databases and sealed files in which trainings have completed, without any process or network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

from governance.audit.entries import NO_PREVIOUS, EntryKind, entry_body, read_entry
from governance.audit.manifest import GrantUse, Manifest, ManifestProof
from governance.consent.revocation import Effect, Revocation, sign_revocation
from governance.documents import SignedDocument
from governance.identity.directory import Directory
from governance.identity.names import MemberKind, PeerIdentity
from parties.config import PartyConfig
from parties.model_registry import Holder
from parties.server.party import CurrentDirectory, Party
from parties.server.policy import CurrentPolicy
from parties.storage.jobs import CountersignatureRecord, JobRecord
from parties.storage.models import ModelRecord, model_object_id
from parties.storage.sealed import Purpose, SealedFiles, generate_storage_key
from parties.storage.state import Member
from protocols.canonical import canonical_bytes
from protocols.job import Job, ModelRef
from protocols.session.messages import Countersignature, SessionMessage
from protocols.session.states import State
from tests.support.consent import HOSPITALS, ConsentWorld
from tests.support.databases import a_database

SHARE = b"a share of the weights"
PLAN = "d0" * 32
Grants = Mapping[str, Sequence[tuple[str, datetime | None] | GrantUse]]


class StillDirectory:
    """A directory that a test changes itself."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory

    def get(self) -> Directory:
        return self.directory


@dataclass(frozen=True)
class ClockedParty(Party):
    """A party whose time a test sets."""

    clock: list[datetime]

    def now(self) -> datetime:
        return self.clock[0]


class HolderWorld:
    """The hospitals of `ConsentWorld`, each with its own database and sealed files, and one clock."""

    def __init__(self, folder: Path, now: datetime, *, consent: ConsentWorld, parties: Sequence[str] = HOSPITALS) -> None:
        """Makes the databases of these parties; what the others know is nobody's question then."""
        self.consent = consent
        self.clock = [now]
        self.directory = StillDirectory(self.consent.directory)
        self.parties = {party: self._party(folder / party, party) for party in parties}

    @property
    def now(self) -> datetime:
        return self.clock[0]

    def advance(self, **by: float) -> None:
        self.clock[0] += timedelta(**by)

    def holder(self, party: str) -> Holder:
        return Holder.of(self.parties[party].member, self.directory.directory)

    def train(self, job: Job, grants: Grants, *, state: State = State.COMPLETED) -> ModelRef:
        """Has a training in the records of all its participants, with a share at each computing party if it completed."""
        for party in self.parties:
            if party in job.participants:
                self.keep_job(party, job, grants, state=state)
        ref = job.produced_model
        if ref is None:
            raise ValueError("only a training leaves a model")
        for party in self.parties:
            if party in job.computing_parties and state is State.COMPLETED:
                self._keep_model(party, job, ref)
        return ref

    def keep_job(self, party: str, job: Job, grants: Grants, *, state: State = State.COMPLETED) -> None:
        """Has a job in one party's records, countersigned by all participants."""
        with self.parties[party].database.transaction() as tables:
            tables.jobs.add(
                JobRecord(job.job_id, job.querier, job.to_bytes(), bytes(64), None, "{}", state.value, self.now, self.now)
            )
            for signer in job.participants:
                manifest = _manifest(signer, job, grants.get(signer, ()), self.now)
                message = SessionMessage(job.job_id, job.attempt, signer, Countersignature(PLAN, manifest))
                document = canonical_bytes(message.to_document())
                tables.jobs.add_countersignature(CountersignatureRecord(job.job_id, signer, PLAN, document, bytes(64)))
            if state.is_terminal:
                tables.jobs.put_ending(job.job_id, b"an ending", measured="{}")

    def revocation(self, issuer: str, subject: str, effect: Effect = Effect.STOP) -> SignedDocument:
        ended = Revocation("cardio", issuer, subject, effect, "a patient asked", self.now.replace(microsecond=0))
        return sign_revocation(ended, self.consent.keys[issuer].signing)

    def entries(self, party: str, kind: EntryKind) -> list[dict[str, Any]]:
        """The facts of a party's log entries of one kind."""
        with self.parties[party].database.transaction() as tables:
            found = [read_entry(each.body) for each in tables.audit.entries(0, tables.audit.size())]
        return [dict(entry.facts) for entry in found if entry.kind is kind]

    def share_opens(self, party: str, ref: ModelRef) -> bytes:
        """Opens a party's share of a model as a job would."""
        with self.parties[party].database.transaction() as tables:
            record = tables.models.get(ref)
        return self.parties[party].sealed.read(Purpose.MODEL_SHARE, record.object_id, record.sealed_name)

    def close(self) -> None:
        for party in self.parties.values():
            party.database.close()

    def _party(self, folder: Path, party: str) -> Party:
        (folder / "sealed").mkdir(parents=True)
        config = PartyConfig(api_version="confide.party/1", party=party, listen="localhost:1", state=folder)
        keys = self.consent.keys[party]
        identity = PeerIdentity(MemberKind.PARTY, "cardio", party)
        return ClockedParty(
            config,
            Member(identity, keys.signing, keys.tls, "", self.directory.directory),
            a_database(config.folder.database_file),
            SealedFiles(folder / "sealed", generate_storage_key()),
            cast(CurrentDirectory, self.directory),
            cast(CurrentPolicy, None),
            self.clock,
        )

    def _keep_model(self, party: str, job: Job, ref: ModelRef) -> None:
        sealed = self.parties[party].sealed.write(Purpose.MODEL_SHARE, model_object_id(ref), SHARE)
        record = ModelRecord(
            ref=ref,
            job_id=job.job_id,
            plan_digest=PLAN,
            model_document=canonical_bytes(job.model.to_document()),
            schema_document=canonical_bytes(job.schema),
            sealed_name=sealed,
            commitments={},
            created=self.now,
            usable=True,
            steps=40,
        )
        with self.parties[party].database.transaction() as tables:
            tables.models.add(record)


@contextmanager
def holders(folder: Path, *, now: datetime, consent: ConsentWorld, parties: Sequence[str] = HOSPITALS) -> Iterator[HolderWorld]:
    world = HolderWorld(folder, now, consent=consent, parties=parties)
    try:
        yield world
    finally:
        world.close()


def _manifest(party: str, job: Job, grants: Sequence[tuple[str, datetime | None] | GrantUse], now: datetime) -> str:
    facts = Manifest(party, job.job_id, job.digest, PLAN, tuple(GrantUse(*each) for each in grants), "everything", ()).to_facts()
    body = entry_body(index=0, time=now, kind=EntryKind.COUNTERSIGNED, facts=facts, previous=NO_PREVIOUS)
    return ManifestProof(body, 0, 1, (), b"a checkpoint").to_text()
