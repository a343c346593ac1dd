"""A serving in the researcher's hands: a model that is kept warm for her queries.

with client.serve("diagnosis@0123456789ab") as serving:
    serving.predict(samples)        # no worker is started
    serving.state.rows_left
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from parties.client.failures import raises_typed
from parties.client.handle import DEFAULT_TIMEOUT_S, JobHandle, failure_of
from parties.client.warm import ServingState
from privacy.preparation.contract import prepare_query
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job
from protocols.session.endings import Ending

if TYPE_CHECKING:
    from pathlib import Path

    from parties.client.calls import Values
    from parties.client.client import Client
    from parties.client.placement import Placement
    from parties.client.tasks import Samples

_POLL_S = 0.1
_STOP_TIMEOUT_S = 60.0


class ServingHandle:
    """One serving; what it tells is asked of the parties anew."""

    def __init__(self, client: Client, job: JobHandle) -> None:
        """Takes the client and the serving's job; use `Client.serve` or `Client.serving`."""
        self._client = client
        self.job = job

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def model(self) -> str:
        """The model, `name@version`."""
        return self.job.model

    @property
    def state(self) -> ServingState:
        """How the computing parties show it now; none of them lists one that is over."""
        parties = self.job.job.computing_parties
        listed = self._client.servings.listed(parties)
        return next((state for state in listed if state.job == self.job.job), ServingState(self.job.job, ()))

    @raises_typed
    def wait_until_warm(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Waits until every computing party takes queries.

        Raises:
            JobFailed: the session ended before; TimedOut: it is not warm in time.
        """
        deadline = time.monotonic() + timeout_s
        while not self.state.is_warm:
            ending = self._ending()
            if ending is not None:
                raise failure_of(self.job.job, ending)
            if time.monotonic() > deadline:
                what = f"serving {self.id} is not warm within {timeout_s:.0f} s"
                raise ConfideError(ErrorCode.DEADLINE_PASSED, what, remedy="Look at how the job stands, or wait longer.")
            time.sleep(_POLL_S)
        self._client.servings.remember(self.job.job)

    @raises_typed
    def predict(self, samples: Samples) -> Samples:
        """Has the warm model predict samples that nobody else sees.

        Args:
            samples: a frame with the schema's columns, or an array or tensor (samples, features) in their order; secret.

        Returns:
            A frame with the samples' index for a frame, a tensor for a tensor, an array for an array.

        Raises:
            NotReady: it is over; BudgetExhausted: its quota does not suffice; InvalidRequest: the samples; PartyUnavailable.
        """
        return predict_warm(self._client, self.job.job, samples)

    @raises_typed
    def stop(self, timeout_s: float = _STOP_TIMEOUT_S) -> Ending | None:
        """Ends the serving, once queries under way are answered, and waits for the end.

        Returns:
            The ending; one that was over before has its own.

        Raises:
            JobFailed: it ended otherwise than completed; TimedOut: it has not ended in time.
        """
        try:
            self._client.servings.stop(self.job.job)
        except ConfideError as error:
            if error.code not in (ErrorCode.UNKNOWN_JOB, ErrorCode.NOT_READY):
                raise
        return self.job.wait(timeout_s)

    def __enter__(self) -> ServingHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<ServingHandle {self.id} of {self.model}>"

    def _ending(self) -> Ending | None:
        for party in self.job.job.participants:
            try:
                return self._client.progress(self.id, party).ending
            except ConfideError:
                continue  # the others may know
        return None


def require_answering(client: Client, model: str, placement: Placement) -> None:
    """Checks that somebody is named to deal for an inference in a job of its own, which is asked for since no serving answers.

    Args:
        client: the researcher's.
        model: `name@version`.
        placement: of the job.

    Raises:
        ConfideError: INVALID_JOB: nobody is, with what became of the researcher's last serving of the model.
    """
    if placement.dealer:
        return
    begin = f"begin another: `confide serve start {model}`, or `client.serve`"
    named = "name one for a job of its own: `--dealer`, `placement`, or the profile"
    problems = [
        Problem("serving", _why_silent(client, model), begin),
        Problem("dealer", "nobody is named", named),
    ]
    what = f"no serving of yours answers this for {model}, and an inference in a job of its own has no dealer"
    raise ConfideError(ErrorCode.INVALID_JOB, what, problems=problems, remedy="Begin a serving, or name a dealer.")


def _why_silent(client: Client, model: str) -> str:
    """Returns what is known of the last serving of a model that was begun from this folder, or that a party lists."""
    states = client.servings.listed([party.id for party in client.directory.parties])
    for state in states:
        if state.job.model_ref is not None and state.job.model_ref.label == model:
            left = f"has {state.queries_left} queries and {state.rows_left} rows left" if state.is_warm else "is not warm"
            return f"{state.job.job_id[:12]} {left}, and opens {state.job.outputs[0].kind.value}"
    for job in client.jobs():
        if job.serving is not None and job.model_ref is not None and job.model_ref.label == model:
            return f"the last one, {job.job_id[:12]}, is over: its quota is used up, its time has passed, or it was ended"
    return "none was begun from this folder"


def predict_file(client: Client, job: Job, path: Path) -> Values:
    """Has a serving predict the samples of a file.

    Returns:
        What the serving opens, one a row; see `protocols.mpc.query.combine_output`.

    Raises:
        ConfideError: as `Servings.ask`; INVALID_DATA or INVALID_ARGUMENT (the researcher's): the file.
    """
    from parties.client.prepare import read_samples

    schema = client.servings.schema(job)
    return client.servings.ask(job, prepare_query(read_samples(path, schema), schema).features)


def predict_warm(client: Client, job: Job, samples: Samples) -> Samples:
    """Has a serving predict samples; see `ServingHandle.predict`.

    Raises:
        ConfideError: as `Servings.ask`; INVALID_DATA (the researcher's): the samples.
    """
    from parties.client.tasks import as_given, rows_of

    query = prepare_query(rows_of(samples), client.servings.schema(job))
    values = client.servings.ask(job, query.features)
    return as_given(values, samples, output=job.outputs[0].kind.value)
