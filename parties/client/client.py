"""A researcher's side: she asks every party herself and believes what they agree on.

with Client.from_profile() as client:                     # or Client.local(parties=3), to try things on one machine
    job = client.train(module, datasets=[...], model_name="diagnosis", training={...})
    job.wait(timeout_s=600)                               # JobFailed says phase, party at fault, cause and fix
    labels = client.predict(job.model, samples)           # shares of all computing parties, combined here and nowhere else

From files, as the command line does it: `prepare_job`, then `plan`, `submit`, `wait` and `result` with the job's document.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from governance.identity.names import MemberKind
from parties.client.asking import evaluate, summarise, train
from parties.client.calls import Calls
from parties.client.calls import PreparedJob as PreparedJob
from parties.client.calls import Values as Values
from parties.client.encrypted.methods import all_published, infer_encrypted
from parties.client.explaining import explain
from parties.client.failures import raises_typed
from parties.client.handle import HEADS, JobHandle
from parties.client.listing import Listing
from parties.client.opening import Opened as Opened
from parties.client.placement import Placement
from parties.client.predicting import predict, predict_cold, serve
from parties.client.profiles import load_profile
from parties.client.progress import Progress as Progress
from parties.client.records import JobRecords
from parties.client.risk import assess
from parties.client.warm import Servings
from parties.config import load_researcher_config
from parties.storage.state import Member
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.plan.plan import Plan
from protocols.session.messages import Ending

if TYPE_CHECKING:
    import pandas as pd

    from parties.alignment_secrets import AlignBy
    from parties.client.catalogue import DatasetEntry, ModelEntry
    from parties.client.encrypted.keys import QueryKey
    from parties.client.local import LocalNetwork, Schema
    from parties.client.requests import JobRequest
    from parties.client.serving import ServingHandle
    from parties.storage.datasets import DatasetRecord
    from parties.wire.generated.confide.v1 import party_pb2


class Client:
    """One researcher's connections to the parties of her consortium."""

    def __init__(self, member: Member, records: JobRecords, *, placement: Placement | None = None) -> None:
        """Takes her keys and directory, where she keeps her jobs, and who computes and deals unless a call says otherwise."""
        self.calls = Calls(member, records)
        self.servings = Servings(self.calls)
        self.directory = member.directory
        self.researcher = member.identity.id
        self.placement = placement or Placement()
        self.query_keys: dict[tuple[str, str], QueryKey] = {}  # of this process, by published model and lane
        self._network: LocalNetwork | None = None
        self._stop_network: weakref.finalize[[Path], LocalNetwork] | None = None

    @property
    def folder(self) -> Path:
        """The researcher's folder."""
        return self.calls.records.folder.parent

    @staticmethod
    @raises_typed
    def open(config_file: Path, *, now: datetime, placement: Placement | None = None) -> Client:
        """Reads a researcher's folder.

        Raises:
            ConfideError: INVALID_CONFIG, NOT_ENROLLED, FILE_MODE or UNAUTHENTICATED (the researcher's to mend).
        """
        config = load_researcher_config(config_file)
        member = config.folder.load_member(kind=MemberKind.RESEARCHER, member=config.researcher, now=now)
        return Client(member, JobRecords(config.folder.root / "jobs"), placement=placement)

    @staticmethod
    @raises_typed
    def from_profile(name: str | None = None, path: Path | None = None) -> Client:
        """Opens the identity of a profile: the one named, else that of the environment, else the active one.

        Args:
            name: of the profile.
            path: the file of the profiles, in place of the usual one.

        Raises:
            SetupError: the profile, or the folder that it names, cannot be used.
        """
        profile = load_profile(name, path)
        placement = Placement(profile.computing_parties, profile.dealer)
        return Client.open(profile.researcher_config, now=datetime.now(UTC), placement=placement)

    @staticmethod
    @raises_typed
    def local(parties: int = 3) -> Client:
        """Starts a private network of real processes on this machine and opens its researcher.

        `party-a` and `party-b` compute and the last party deals, unless a call says otherwise. Closing the client stops the
        processes and removes everything; so does the end of the program.

        Args:
            parties: how many institutions, at least three.

        Raises:
            InvalidRequest: too few or too many; SetupError: a party did not start.
        """
        from parties.client.local import start_local, stop_local

        network = start_local(parties)
        stop = weakref.finalize(network, stop_local, network.folder)
        try:
            ids = network.parties
            client = Client.open(network.researcher_config, now=datetime.now(UTC), placement=Placement(ids[:2], ids[-1]))
        except BaseException:
            stop()
            raise
        client._network, client._stop_network = network, stop
        return client

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self.researcher} of {self.directory.consortium}>"

    def close(self) -> None:
        """Closes the connections, and stops a local network; safe to call again."""
        self.calls.close()
        if self._stop_network is not None:
            self._stop_network()

    # What is there.

    @raises_typed
    def all_datasets(self) -> Listing[DatasetEntry]:
        """Returns the data sets of all parties; those that cannot be asked are named in it."""
        from parties.client.catalogue import list_datasets

        return list_datasets(self)

    @raises_typed
    def all_models(self) -> Listing[ModelEntry]:
        """Returns the models that the parties hold as shares, the latest first."""
        from parties.client.catalogue import list_models

        return list_models(self)

    @raises_typed
    def all_jobs(self) -> Listing[JobHandle]:
        """Returns the jobs that were submitted from this folder, the latest first."""
        return Listing(HEADS, [JobHandle(self, job) for job in self.jobs()])

    @raises_typed
    def handle(self, job_id: str) -> JobHandle:
        """Returns the handle of a job that was submitted from this folder; a beginning of its id is enough.

        Raises:
            NotFound: no such job.
        """
        return JobHandle(self, self.job(job_id))

    # What can be asked for.

    train = train  # a joint training
    summarise = summarise  # means and sizes of groups of rows
    evaluate = evaluate  # a joint evaluation by the parties that hold the model
    assess = assess  # a membership attack on a model, by rows that it was trained on and others
    predict = predict  # by a warm serving if there is one, else in a job of its own
    predict_cold = predict_cold  # in a job of its own, whatever is warm
    serve = serve  # keep a model warm for such predictions
    infer_encrypted = infer_encrypted  # by a published model, on ciphertexts
    all_published = all_published  # what can be asked so

    @raises_typed
    def serving(self, job_id: str) -> ServingHandle:
        """Returns the handle of a serving that was begun from this folder; a beginning of its id is enough.

        Raises:
            NotFound: no such serving.
        """
        from parties.client.serving import ServingHandle

        job = self.job(job_id)
        if job.serving is None:
            raise ConfideError(ErrorCode.UNKNOWN_JOB, f"job {job.job_id} is no serving")
        return ServingHandle(self, JobHandle(self, job))

    @raises_typed
    def register(
        self, party: str, name: str, rows: pd.DataFrame, schema: Schema, *, align_by: AlignBy | None = None
    ) -> DatasetRecord:
        """Registers rows at a party of a local network; elsewhere only the owner itself can.

        Args:
            party: the owner.
            name: the data set's name there.
            rows: with the schema's columns; secret.
            schema: a YAML file, its text, or its content as a mapping (docs/datasets.md).
            align_by: if other parties hold other columns of the same people: secret file and label of all of them.

        Raises:
            InvalidRequest: the rows, the schema, or a client that is not local.
        """
        if self._network is None:
            what = "rows are registered by their owner, at its own party"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="The owner runs `confide dataset register`.")
        return self._network.register(party, name, rows, schema, align_by)

    explain = explain  # what every party says to a job, before or after it is submitted

    # One step each, with the job's document; what the command line uses.

    @raises_typed
    def datasets(self, party: str) -> list[party_pb2.Dataset]:
        """Returns the public descriptions of a party's data sets, as they arrived."""
        return self.calls.datasets(party)

    @raises_typed
    def models(self, party: str) -> list[party_pb2.Model]:
        """Returns the public descriptions of the models that a party holds shares of, as they arrived."""
        return self.calls.models(party)

    @raises_typed
    def plan(self, job: Job) -> Plan:
        """Asks every participant for the plan; nothing is kept and nothing runs.

        Raises:
            ClientError: a party's refusal with all its reasons, or IntegrityError if their plans differ.
        """
        return self.calls.plan(job)

    @raises_typed
    def submit(self, request: PreparedJob | JobRequest, *, folder: Path | None = None) -> JobHandle:
        """Signs a job and gives it to every participant; shares the samples to the computing parties.

        Args:
            request: a prepared job, or a request as `read_request` gives it.
            folder: where the files that a request names lie; else the current one.

        Learns: each computing party one share of the samples, which alone is uniformly random.

        Raises:
            ClientError: a party's refusal with all its reasons; the job then ends as rejected everywhere.
        """
        if isinstance(request, PreparedJob):
            prepared = request
        else:
            from parties.client.prepare import prepare_job

            prepared = prepare_job(self, request, folder=folder or Path(), now=datetime.now(UTC))
        self.calls.submit(prepared)
        return JobHandle(self, prepared.job, warnings=prepared.warnings)

    def job(self, job_id: str) -> Job:
        """Returns the document of a job that was submitted from this folder; a beginning of its id is enough.

        Raises:
            ConfideError: UNKNOWN_JOB.
        """
        return self.calls.records.job(job_id)

    def jobs(self) -> list[Job]:
        """Returns the documents of the jobs that were submitted from this folder, the latest first."""
        return self.calls.records.jobs()

    @raises_typed
    def progress(self, job_id: str, party: str) -> Progress:
        """Asks one party how a job stands."""
        return self.calls.progress(job_id, party)

    def watch(self, job: Job) -> Iterator[Progress]:
        """Yields how a job goes on until it has ended; turns to the next participant when one is lost.

        Raises:
            ConfideError: if no participant can be asked any more.
        """
        return self.calls.watch(job)

    @raises_typed
    def wait(self, job: Job, *, timeout_s: float) -> Ending:
        """Waits for a job's ending, whatever it is, whichever participants are up.

        Raises:
            TimedOut: it has not ended in time.
        """
        return self.calls.wait(job, timeout_s=timeout_s)

    @raises_typed
    def cancel(self, job: Job) -> None:
        """Asks for a job's cancellation at the first participant that answers.

        Raises:
            ClientError: none answers, the job is unknown, or it is too late.
        """
        self.calls.cancel(job)

    @raises_typed
    def result(self, job: Job) -> dict[str, Values]:
        """Fetches every output's shares from the computing parties and combines them here.

        Learns: the caller alone the outputs.

        Raises:
            ClientError: it has not completed, the outputs were opened before, or a party does not answer.
        """
        return self.calls.result(job)

    @raises_typed
    def opened(self, job: Job) -> dict[str, Opened]:
        """Opens the outputs as `result`, and returns beside each the shares of it: what the owners check a risk report by.

        Learns: the caller alone the outputs.

        Raises:
            ClientError: as `result`.
        """
        return self.calls.opened(job)
