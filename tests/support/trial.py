"""A consortium of real processes for tests: the harness's own functions, with a second researcher and short ways to run jobs.

Three hospitals own rows; two of them compute, the third deals. Everything is real but the distance between the parties.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from parties import consortium, harness
from parties.client.client import Client, PreparedJob, Progress
from parties.client.prepare import prepare_job
from parties.client.requests import EvaluateRequest, InferRequest, TrainingRequest, TrainRequest
from parties.client.training_request import CheckpointsRequest
from parties.config import load_party_config, load_researcher_config
from parties.enrolment import init_researcher, join_party, join_researcher
from parties.registration import register_dataset
from parties.storage.database import Tables, open_database
from parties.storage.datasets import DatasetRecord
from parties.storage.files import read_public
from privacy.preparation.contract import OnViolation, prepare
from privacy.preparation.table import Content, FileFormat, read_table
from protocols.canonical import MAX_DOCUMENT_BYTES, canonical_bytes
from protocols.errors import ConfideError
from protocols.job import Job
from protocols.model.layers import Linear
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_to_safetensors
from protocols.plan.plan import Plan
from protocols.session.messages import Ending
from protocols.session.states import State
from tests.support.processes import Program, descendants, end, is_running, start
from tests.support.tables import EXAMPLES, breast_cancer_frame, breast_cancer_schema

LEAD, SECOND, DEALER = "hospital-a", "hospital-b", "hospital-c"
HOSPITALS = (LEAD, SECOND, DEALER)
COMPUTING = [LEAD, SECOND]
OTHER_RESEARCHER = "eve"
SCHEMA_FILE = EXAMPLES / "breast_cancer_schema.yaml"
MODEL = ModelSpec.chain(30, linear=Linear(1))
ZEROS = {"linear.weight": np.zeros((1, 30), np.float32), "linear.bias": np.zeros(1, np.float32)}
DEMO_TRAINING = TrainingRequest(epochs=15, batch_size=48, learning_rate="0.5", momentum="0.9")
SHORT_TRAINING = TrainingRequest(epochs=1, batch_size=150, learning_rate="0.5")
# Minutes of computation, so that there is time to do something while it runs. No checkpoints: one that is made before a fault
# is kept for a resumption, and when it would be made depends on how busy the machine is.
LONG_TRAINING = TrainingRequest(epochs=1000, batch_size=10, learning_rate="0.001", checkpoints=CheckpointsRequest(every_epochs=0))
# A party must show the ending this long after a fault (the promise of docs/protocols/session.md).
ENDING_WITHIN_S = 30.0
JOB_WITHIN_S = 60.0
_POLL_S = 0.1


@dataclass(frozen=True)
class Split:
    """The breast-cancer table: who owns which rows to train on and to evaluate on, and a researcher's own samples."""

    train: dict[str, pd.DataFrame]
    holdout: dict[str, pd.DataFrame]
    samples: pd.DataFrame


def split_rows() -> Split:
    """Returns the same split every time; the files' labels are 0 and 1."""
    frame = breast_cancer_frame()
    frame["benign"] = frame["benign"].astype(int)
    rest, samples = train_test_split(frame, test_size=40, stratify=frame["benign"], random_state=1)
    train, holdout = train_test_split(rest, test_size=0.2, stratify=rest["benign"], random_state=1)
    return Split(
        train={party: train.iloc[i::3] for i, party in enumerate(HOSPITALS)},
        holdout={party: holdout.iloc[i::3] for i, party in enumerate(HOSPITALS)},
        samples=samples.drop(columns="benign"),
    )


def scaled(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Returns features in [-1, 1] and labels as their owner prepares them."""
    schema = breast_cancer_schema()
    table = read_table(frame.to_csv(index=False).encode(), schema, content=Content.LABELLED_ROWS, file_format=FileFormat.CSV)
    rows = prepare(table, schema, OnViolation.REFUSE)
    return rows.features, rows.labels


def found_consortium(folder: Path, *, log_level: str = "info") -> None:
    """Makes keys and enrols everybody, with a second researcher; starts nothing."""
    harness.make_consortium(folder, HOSPITALS)
    founder, now = folder / "consortium", datetime.now(UTC)
    enrolment = init_researcher(folder / OTHER_RESEARCHER, researcher=OTHER_RESEARCHER, institution=None)
    request = read_public(enrolment.request_file, max_bytes=MAX_DOCUMENT_BYTES)
    founded = consortium.approve(founder, request, fingerprint=enrolment.request.fingerprint, roles=None, now=now)
    consortium.publish(founder, folder / "directory.json")
    directory = read_public(folder / "directory.json", max_bytes=MAX_DOCUMENT_BYTES)
    fingerprint = founded.founder_key.fingerprint
    for researcher in (harness.RESEARCHER, OTHER_RESEARCHER):
        config = load_researcher_config(folder / researcher / "researcher.yaml")
        pinned = None if config.folder.pinned_founder() else fingerprint
        join_researcher(config, directory, founder_fingerprint=pinned, now=datetime.now(UTC))
    for party in HOSPITALS:
        config_file = folder / party / "party.yaml"
        join_party(load_party_config(config_file), directory, founder_fingerprint=None, now=datetime.now(UTC))
        set_option(config_file, "log_level", log_level)


def set_option(config_file: Path, option: str, value: str) -> None:
    """Changes one line of a party.yaml."""
    text, count = re.subn(rf"(?m)^{option}: .*$", f"{option}: {value}", config_file.read_text())
    if count != 1:
        raise ValueError(f"{config_file} has not exactly one {option}")
    config_file.write_text(text)


class Trial:
    """A running consortium; `down` ends everything that it started, whatever happened."""

    def __init__(self, folder: Path, *, program: Program = Program.PARTY) -> None:
        """Starts every party of a folder that `found_consortium` made."""
        self.folder = folder
        self.network = harness.Harness(folder, ())
        (folder / "model.json").write_bytes(canonical_bytes(MODEL.to_document()))
        (folder / "model.safetensors").write_bytes(weights_to_safetensors(ZEROS, MODEL))
        started: list[harness.RunningParty] = []
        try:
            for party in HOSPITALS:
                started.append(start(folder / party / "party.yaml", program))
                self.network = harness.Harness(folder, tuple(started))
            for running in started:
                harness.await_health(running)
            self.client = Client.open(folder / harness.RESEARCHER / "researcher.yaml", now=datetime.now(UTC))
            self.other = Client.open(folder / OTHER_RESEARCHER / "researcher.yaml", now=datetime.now(UTC))
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Ends every party process, and waits until its workers have ended too."""
        for client in (getattr(self, "client", None), getattr(self, "other", None)):
            if client is not None:
                client.close()
        end(*self.network.parties)

    def bring_up(self) -> None:
        """Starts every party that does not run, for example after a test that failed half-way."""
        for running in self.network.parties:
            if not running.is_alive:
                self.restart(running.party)

    def register(
        self, party: str, name: str, frame: pd.DataFrame, *, schema_file: Path = SCHEMA_FILE, population: str | None = None
    ) -> DatasetRecord:
        """Registers rows at their owner, who permits everything that the agreement of the harness knows."""
        record = self.register_unpermitted(party, name, frame, schema_file=schema_file, population=population)
        harness.permit(self.network.party(party).config, record)
        return record

    def register_unpermitted(
        self, party: str, name: str, frame: pd.DataFrame, *, schema_file: Path = SCHEMA_FILE, population: str | None = None
    ) -> DatasetRecord:
        """Registers rows at their owner, who permits nothing yet."""
        file = self.folder / f"{party}-{name}.csv"
        frame.to_csv(file, index=False)
        return register_dataset(
            self.network.party(party).config,
            name=name,
            file=file,
            schema_file=schema_file,
            population=population,
            on_violation=OnViolation.REFUSE,
            now=datetime.now(UTC),
        )

    def train(
        self, training: TrainingRequest, *, model_name: str = "diagnosis", datasets: str = "train", computing: Sequence[str] = ()
    ) -> PreparedJob:
        """Prepares a joint training on everybody's rows."""
        return self.train_on([f"{party}/{datasets}" for party in HOSPITALS], training, model_name=model_name, computing=computing)

    def train_on(
        self, datasets: Sequence[str], training: TrainingRequest, *, model_name: str, computing: Sequence[str] = ()
    ) -> PreparedJob:
        """Prepares a joint training on these data sets, each `party/name`."""
        computing = list(computing or COMPUTING)
        request = TrainRequest(
            api_version="confide/v1",
            type="train",
            computing_parties=computing,
            dealer=next(party for party in HOSPITALS if party not in computing),
            datasets=list(datasets),
            model_name=model_name,
            manifest="model.json",
            weights="model.safetensors",
            training=training,
        )
        return prepare_job(self.client, request, folder=self.folder, now=datetime.now(UTC))

    def evaluate(self, model: str, *, datasets: Sequence[str] = ()) -> PreparedJob:
        """Prepares a joint evaluation."""
        request = EvaluateRequest(
            api_version="confide/v1",
            type="evaluate",
            computing_parties=COMPUTING,
            dealer=DEALER,
            datasets=list(datasets or [f"{party}/holdout" for party in HOSPITALS]),
            model=model,
        )
        return prepare_job(self.client, request, folder=self.folder, now=datetime.now(UTC))

    def infer(self, model: str, samples: pd.DataFrame, *, client: Client | None = None) -> PreparedJob:
        """Prepares a private inference of labels."""
        request = InferRequest(
            api_version="confide/v1",
            type="infer",
            computing_parties=COMPUTING,
            dealer=DEALER,
            model=model,
            samples="(in memory)",
        )
        return prepare_job(client or self.client, request, folder=self.folder, now=datetime.now(UTC), samples=samples)

    def complete(self, prepared: PreparedJob) -> PreparedJob:
        """Submits a job and waits until every participant shows that it has completed."""
        self.client.submit(prepared)
        endings = self.endings(prepared.job, within_s=JOB_WITHIN_S)
        wrong = {party: ending for party, ending in endings.items() if ending.state is not State.COMPLETED}
        if wrong:
            raise AssertionError(f"the job did not complete: {wrong}")
        return prepared

    def plan_and_complete(self, prepared: PreparedJob) -> Completed:
        """Looks at a job's plan, submits it and waits until it has completed everywhere."""
        plan = self.client.plan(prepared.job)
        return Completed(self.complete(prepared), plan)

    def endings(self, job: Job, *, parties: Sequence[str] = (), within_s: float = ENDING_WITHIN_S) -> dict[str, Ending]:
        """Waits until these parties show an ending and returns what each shows."""
        parties = tuple(parties or job.participants)
        found: dict[str, Ending] = {}
        deadline = time.monotonic() + within_s
        while len(found) < len(parties):
            for party in parties:
                if party not in found and (said := self._ask(job.job_id, party)) is not None and said.ending is not None:
                    found[party] = said.ending
            if time.monotonic() > deadline:
                missing = {party: self._ask(job.job_id, party) for party in parties if party not in found}
                raise AssertionError(f"no ending within {within_s:.0f} s at {missing}; known: {found}")
            time.sleep(_POLL_S)
        return found

    def await_state(self, job: Job, state: State, *, parties: Sequence[str] = ()) -> None:
        """Waits until these parties are in a state of a job."""
        deadline = time.monotonic() + JOB_WITHIN_S
        for party in parties or job.participants:
            while (said := self._ask(job.job_id, party)) is None or said.state != state.value:
                if time.monotonic() > deadline or (said is not None and said.ending is not None):
                    raise AssertionError(f"{party} is not {state.value} in time: {said}")
                time.sleep(_POLL_S)

    def await_steps(self, job: Job) -> None:
        """Waits until a job runs everywhere and its computing parties have exchanged something."""
        self.await_state(job, State.RUNNING)
        deadline = time.monotonic() + JOB_WITHIN_S
        while (said := self._ask(job.job_id, job.lead)) is None or said.rounds < 10:
            if time.monotonic() > deadline:
                raise AssertionError(f"the job makes no steps: {said}")
            time.sleep(_POLL_S)

    def progress(self, job: Job) -> dict[str, Progress]:
        """Returns what every participant says of a job."""
        return {party: self.client.progress(job.job_id, party) for party in job.participants}

    def restart(self, party: str, program: Program = Program.PARTY) -> None:
        """Starts a party again, perhaps as another program, and waits until it serves."""
        running = start(self.network.party(party).config_file, program)
        others = tuple(running if known.party == party else known for known in self.network.parties)
        self.network = harness.Harness(self.folder, others)
        harness.await_health(running)
        deadline = time.monotonic() + JOB_WITHIN_S
        while not self._reaches(party):  # a connection that was refused before is tried again after up to 2 s
            if time.monotonic() > deadline:
                raise AssertionError(f"{party} serves, and the researcher does not reach it")
            time.sleep(_POLL_S)

    def kill(self, party: str) -> None:
        """Kills a party's process without warning; its template and workers must follow by themselves."""
        running = self.network.party(party)
        children = descendants(running.pid)
        end(running, politely=False)
        deadline = time.monotonic() + 60.0  # a template that is still starting sees it when it has, which takes long under load
        while any(is_running(pid) for pid in children):
            if time.monotonic() > deadline:
                raise AssertionError(f"processes of {party} outlive it")
            time.sleep(_POLL_S)

    def party_log(self, party: str) -> str:
        """Everything that a party's process has printed."""
        return self.network.party(party).log_file.read_text()

    @contextmanager
    def tables(self, party: str) -> Iterator[Tables]:
        """Reads a party's database, as its operator could."""
        database = open_database(self.network.party(party).config.folder.database_file)
        try:
            with database.transaction() as tables:
                yield tables
        finally:
            database.close()

    def sealed_files(self, party: str) -> set[str]:
        """Names of a party's sealed files."""
        return {path.name for path in self.network.party(party).config.folder.sealed_folder.iterdir()}

    def _reaches(self, party: str) -> bool:
        try:
            self.client.models(party)
        except ConfideError:
            return False
        return True

    def _ask(self, job_id: str, party: str) -> Progress | None:
        try:
            return self.client.progress(job_id, party)
        except ConfideError:
            return None  # down or not told yet; the callers' deadlines decide


@dataclass(frozen=True)
class Completed:
    """A job that has completed, and the plan that its researcher was shown before she submitted it."""

    prepared: PreparedJob
    plan: Plan

    @property
    def job(self) -> Job:
        """The job."""
        return self.prepared.job

    @property
    def model(self) -> str:
        """Name and version of the model that it left, for the next job's request."""
        if self.job.produced_model is None:
            raise AssertionError("only a training leaves a model")
        return self.job.produced_model.label


def changed(prepared: PreparedJob, **changes: Any) -> PreparedJob:
    """Returns the prepared job with fields of its document changed."""
    return replace(prepared, job=replace(prepared.job, **changes))
