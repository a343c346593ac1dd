"""The consortium that is put through faults: real processes and real TLS, every connection through a route of ours.

Four hospitals: two compute, one deals, one owns rows and does not compute. Every member holds the same directory but for the
endpoints, which are its own routes to the others. The harness looks at parties past the routes, so that it sees what a party
that is cut off shows.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from governance.consent.revocation import Effect
from governance.documents import DocumentKind, SignedDocument, sign_bytes
from governance.identity.ca import MEMBER_LIFETIME
from governance.identity.directory import Directory, sign_directory
from governance.identity.keys import SigningKey
from governance.identity.names import MemberKind
from governance.identity.request import read_request
from parties import consortium, harness
from parties.client.client import Client, PreparedJob
from parties.client.prepare import prepare_job
from parties.client.records import JobRecords
from parties.client.requests import TrainingRequest, TrainRequest
from parties.config import PartyConfig, load_party_config, load_researcher_config
from parties.consortium import ConsortiumFolder, load_consortium
from parties.enrolment import join_party, join_researcher
from parties.grants import revoke_grant
from parties.registration import register_dataset
from parties.storage.database import open_database
from parties.storage.datasets import DatasetRecord
from parties.storage.files import read_secret
from parties.wire import methods
from parties.wire.documents import to_wire
from parties.wire.generated.confide.v1 import jobs_pb2
from privacy.preparation.contract import OnViolation
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError
from protocols.job import Job
from protocols.model.weights import weights_to_safetensors
from protocols.session.messages import Ending
from tests.chaos.cells import MEMBERS, Role
from tests.support.callers import calling
from tests.support.disturbed_party import flipped
from tests.support.processes import Program, end, session_workers, start
from tests.support.routes import Routes
from tests.support.tables import EXAMPLES, breast_cancer_frame
from tests.support.trial import MODEL, ZEROS

HOSPITALS = ("hospital-a", "hospital-b", "hospital-c", "hospital-d")
COMPUTING, DEALER = HOSPITALS[:2], HOSPITALS[2]
OWNERS = (HOSPITALS[0], HOSPITALS[1], HOSPITALS[3])
ROWS = 40
SHORT = TrainingRequest(epochs=1, batch_size=120, learning_rate="0.5")
MEDIUM = TrainingRequest(epochs=20, batch_size=20, learning_rate="0.01")  # seconds of computation
LONG = TrainingRequest(epochs=1000, batch_size=10, learning_rate="0.001")  # minutes
SERVES_WITHIN_S = 60.0
STATE_MIB = 24
_POLL_S = 0.1


class Network:
    """A running consortium; `down` ends everything that it started, whatever happened."""

    def __init__(self, folder: Path, *, small_disks: bool = False) -> None:
        """Founds it in an empty folder and starts every party. `small_disks`: state folders on file systems of a few MiB."""
        self.folder = folder
        self._mounted: list[Path] = []
        self._records: dict[str, DatasetRecord] = {}
        harness.make_consortium(folder, HOSPITALS)
        self._ports = {party: int(self._config(party).listen.rpartition(":")[2]) for party in HOSPITALS}
        self.routes = Routes(self._ports, MEMBERS.values())
        (folder / "model.json").write_bytes(canonical_bytes(MODEL.to_document()))
        (folder / "model.safetensors").write_bytes(weights_to_safetensors(ZEROS, MODEL))
        self._running: dict[str, harness.RunningParty] = {}
        self._read: dict[str, int] = {}
        self.client: Client | None = None
        self._observer: Client | None = None
        try:
            for party in HOSPITALS:
                (folder / party / "orders").mkdir()
                if small_disks:
                    self._mount(folder / party / "state")
            self._sign_next()
            self.distribute()
            for party in HOSPITALS:
                self._running[party] = start(folder / party / "party.yaml", Program.DISTURBED)
            self.watch_as(HOSPITALS[0])
            for party in HOSPITALS:
                self.await_serving(party)
                self.await_client(party)
            frame = breast_cancer_frame()
            frame["benign"] = frame["benign"].astype(int)
            for number, party in enumerate(OWNERS):
                self._register(party, frame.iloc[number * ROWS : (number + 1) * ROWS])
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Ends every process and connection."""
        # The folder goes with them; how a party stops when asked is tested elsewhere.
        end(*self._running.values(), politely=False)
        self.leave()
        if self._observer is not None:
            self._observer.close()
        self.routes.close()
        for path in self._mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=False)
        self._mounted.clear()

    # Members and their folders.

    def config_file(self, party: str) -> Path:
        """A party's configuration file."""
        return self.folder / party / "party.yaml"

    def state(self, party: str) -> Path:
        """A party's state folder."""
        return self._config(party).state

    def order(self, party: str, name: str, text: str = "") -> None:
        """Orders a party's process to misbehave; see `disturbed_party`."""
        path = self.folder / party / "orders" / name
        unfinished = path.with_name(f".{name}")
        unfinished.write_text(text)
        unfinished.replace(path)

    def recall(self, party: str, *names: str) -> None:
        """Takes orders back; all of them if none is named."""
        folder = self.folder / party / "orders"
        for path in [folder / name for name in names] if names else list(folder.iterdir()):
            path.unlink(missing_ok=True)

    def distribute(self, *, to: Sequence[str] = tuple(MEMBERS.values())) -> None:
        """Gives members the newest directory, each with its own routes as the others' endpoints."""
        newest = load_consortium(self.folder / "consortium")
        now = datetime.now(UTC)
        for member in to:
            if member == MEMBERS[Role.RESEARCHER]:
                config = load_researcher_config(self.folder / member / "researcher.yaml")
                join_researcher(config, self._signed(self._routed(newest, member)), founder_fingerprint=None, now=now)
                self._open_client()
            else:
                data = self._signed(self._routed(newest, member))
                join_party(self._config(member), data, founder_fingerprint=None, now=now)

    def revoke(self, member: str) -> None:
        """Takes a member out of the directory of everybody else."""
        consortium.remove(self.folder / "consortium", member=member, now=datetime.now(UTC))
        self.distribute(to=[other for other in MEMBERS.values() if other != member])

    def enrol_again(self, member: str) -> None:
        """Takes a member in again, with the same keys, and gives everybody the new directory."""
        self._sign_next(member)
        self.distribute()

    def certify(self, member: str, *, lifetime: timedelta) -> None:
        """Issues a member a certificate that ends soon; `distribute` hands it out."""
        self._sign_next(member, lifetime=lifetime)

    def leave(self) -> None:
        """Closes the researcher's connections, as the end of her program does."""
        if self.client is not None:
            self.client.close()
            self.client = None

    def borrow(self, party: str) -> None:
        """Lets the researcher's program show a party's certificate; her documents keep her own signature."""
        config = load_researcher_config(self.folder / MEMBERS[Role.RESEARCHER] / "researcher.yaml")
        hers = config.folder.load_member(kind=MemberKind.RESEARCHER, member=config.researcher, now=datetime.now(UTC))
        folder = self._config(party).folder.member
        certificate = folder.certificate_file.read_text()
        self.leave()
        records = JobRecords(config.folder.root / "jobs")
        self.client = Client(replace(hers, tls_key=folder.load_tls_key(), certificate=certificate), records)

    def await_client(self, party: str) -> None:
        """Waits until the researcher reaches a party over her own route: a connection that failed is tried again after 2 s."""
        if not until(lambda: self.reached_by_client(party), within_s=SERVES_WITHIN_S):
            raise AssertionError(f"the researcher does not reach {party}")

    def reached_by_client(self, party: str) -> bool:
        """Whether the researcher reaches a party over her own route."""
        try:
            self.hers.models(party)
        except ConfideError:
            return False
        return True

    @property
    def hers(self) -> Client:
        """The researcher's connections, over her routes."""
        if self.client is None:
            raise AssertionError("the researcher is gone")
        return self.client

    def watch_as(self, party: str) -> None:
        """Looks at parties from now on with this party's certificate, at their real endpoints."""
        if self._observer is not None:
            self._observer.close()
        config = self._config(party)
        member = config.folder.member.load_member(kind=MemberKind.PARTY, member=party, now=datetime.now(UTC))
        newest = load_consortium(self.folder / "consortium")
        self._observer = Client(replace(member, directory=newest), JobRecords(self.folder / "observer"))

    # Consent.

    def permit(self, party: str) -> None:
        """Has an owner permit everything on its rows."""
        harness.permit(self._config(party), self._records[party])

    def withdraw(self, party: str) -> None:
        """Has an owner revoke every grant of its own, as its steward does beside the party that serves."""
        config, now = self._config(party), datetime.now(UTC)
        with closing(open_database(config.folder.database_file)) as database, database.transaction() as tables:
            ended = {record.revocation.subject for record in tables.revocations.all()}
            grants = [record.grant_id for record in tables.grants.all() if record.grant_id not in ended]
        steward = harness.person_folder(config, harness.STEWARD)
        for grant_id in grants:
            revoke_grant(config, steward, grant_id, reason="the study has ended", effect=Effect.STOP, now=now)

    # Processes.

    def pid(self, party: str) -> int:
        """Id of a party's process."""
        return self._running[party].pid

    def is_alive(self, party: str) -> bool:
        """Whether a party's process runs."""
        return self._running[party].is_alive

    def kill(self, party: str) -> None:
        """Ends a party's process without warning."""
        end(self._running[party], politely=False)

    def signal(self, party: str, number: signal.Signals) -> None:
        """Sends a signal to a party's process."""
        with suppress(ProcessLookupError):
            os.kill(self.pid(party), number)

    def launch(self, party: str) -> None:
        """Starts a party's process and returns at once."""
        self._running[party] = start(self.config_file(party), Program.DISTURBED)

    def await_serving(self, party: str) -> None:
        """Waits until a party that was started answers the harness."""
        deadline = time.monotonic() + SERVES_WITHIN_S
        while not self.answers(party):
            if time.monotonic() > deadline or not self.is_alive(party):
                raise AssertionError(f"{party} does not serve: {self.log(party)[-600:]}")
            time.sleep(_POLL_S)

    def answers(self, party: str) -> bool:
        """Whether a party answers the harness."""
        try:
            self._watching.models(party)
        except ConfideError:
            return False
        return True

    # Jobs.

    def train(self, training: TrainingRequest, *, model_name: str) -> PreparedJob:
        """Prepares a joint training."""
        request = TrainRequest(
            api_version="confide/v1",
            type="train",
            computing_parties=list(COMPUTING),
            dealer=DEALER,
            datasets=[f"{party}/train" for party in OWNERS],
            model_name=model_name,
            manifest="model.json",
            weights="model.safetensors",
            training=training,
        )
        return prepare_job(self.hers, request, folder=self.folder, now=datetime.now(UTC))

    def submit_altered(self, prepared: PreparedJob, *, bit: int, weights: bytes) -> None:
        """Submits a job of which one bit was flipped after she had signed it, or with other weights than it names."""
        config = load_researcher_config(self.folder / MEMBERS[Role.RESEARCHER] / "researcher.yaml")
        key = config.folder.load_signing_key()
        signed = sign_bytes(prepared.job.to_bytes(), kind=DocumentKind.JOB, signer=self.hers.researcher, key=key)
        altered = replace(signed, body=flipped(signed.body, bit)) if bit >= 0 else signed
        request = jobs_pb2.SubmitJobRequest(job=to_wire(altered), initial_weights=weights)
        with calling(config) as caller:
            for party in prepared.job.participants:
                caller.call(methods.SUBMIT_JOB, request, party=party)

    def seen(self, job: Job, party: str) -> tuple[str, Ending | None] | None:
        """What a party shows of a job, past the routes; None if it does not answer or knows nothing."""
        try:
            said = self._watching.progress(job.job_id, party)
        except ConfideError:
            return None
        return said.state, said.ending

    # What parties hold.

    def log(self, party: str) -> str:
        """Everything that a party's process has printed."""
        return self._running[party].log_file.read_text()

    def new_log(self, party: str) -> str:
        """What a party's process has printed since this was asked last."""
        text = self.log(party)
        new = text[self._read.get(party, 0) :]
        self._read[party] = len(text)
        return new

    def workers(self, party: str) -> list[int]:
        """Processes that compute for a party."""
        return session_workers(self.pid(party)) if self.is_alive(party) else []

    def left_behind(self, party: str, job: Job) -> list[str]:
        """What a party holds of a job that did not complete, and files that its database does not know; in words."""
        found = []
        with sqlite3.connect(f"file:{self.state(party) / 'confide.db'}?mode=ro", uri=True) as database:
            for table, what in (("models", "a model"), ("outputs", "an output"), ("openings", "a permission to open")):
                (count,) = database.execute(f"SELECT count(*) FROM {table} WHERE job_id = ?", (job.job_id,)).fetchone()  # noqa: S608
                if count:
                    found.append(f"{party} holds {what} of the job")
            known: set[str] = set()
            tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
                if "sealed_name" in columns:
                    known |= {row[0] for row in database.execute(f"SELECT sealed_name FROM {table}")}  # noqa: S608
        database.close()
        stray = {path.name for path in (self.state(party) / "sealed").iterdir()} - known
        return [*found, *(f"{party} has a stray file {name}" for name in sorted(stray))]

    # Inside.

    @property
    def _watching(self) -> Client:
        if self._observer is None:
            raise AssertionError("nobody watches")
        return self._observer

    def _config(self, party: str) -> PartyConfig:
        return load_party_config(self.config_file(party))

    def _routed(self, directory: Directory, member: str) -> Directory:
        parties = tuple(
            entry if entry.id == member else replace(entry, endpoint=f"127.0.0.1:{self.routes.port(member, entry.id)}")
            for entry in directory.parties
        )
        return replace(directory, parties=parties)

    def _signed(self, directory: Directory) -> bytes:
        key = SigningKey.from_pem(read_secret(ConsortiumFolder(self.folder / "consortium").founder_key_file))
        return sign_directory(directory, key).to_bytes()

    def _sign_next(self, member: str = HOSPITALS[0], *, lifetime: timedelta = MEMBER_LIFETIME) -> None:
        consortium.approve(
            self.folder / "consortium",
            (self.folder / member / "request.json").read_bytes(),
            fingerprint=self._fingerprint(member),
            roles=None,
            now=datetime.now(UTC),
            lifetime=lifetime,
        )

    def _fingerprint(self, member: str) -> str:
        data = (self.folder / member / "request.json").read_bytes()
        return read_request(SignedDocument.from_bytes(data)).fingerprint

    def _open_client(self) -> None:
        self.leave()
        self.client = Client.open(self.folder / MEMBERS[Role.RESEARCHER] / "researcher.yaml", now=datetime.now(UTC))

    def _register(self, party: str, frame: object) -> None:
        file = self.folder / f"{party}.csv"
        frame.to_csv(file, index=False)  # type: ignore[attr-defined]
        self._records[party] = register_dataset(
            self._config(party),
            name="train",
            file=file,
            schema_file=EXAMPLES / "breast_cancer_schema.yaml",
            on_violation=OnViolation.REFUSE,
            now=datetime.now(UTC),
        )
        self.permit(party)

    def _mount(self, state: Path) -> None:
        kept = state.with_name("state-before")
        state.rename(kept)
        state.mkdir(mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={STATE_MIB}m,mode=0700", "tmpfs", str(state)], check=True)
        self._mounted.append(state)
        shutil.copytree(kept, state, dirs_exist_ok=True)
        shutil.rmtree(kept)


def until(condition: Callable[[], bool], *, within_s: float) -> bool:
    """Waits until something holds; False if it does not in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
