"""A submitted job in the researcher's hands.

handle = client.train(module, datasets=[...], model_name="diagnosis", training={...})
handle.wait(timeout_s=600)      # JobFailed tells phase, party at fault, cause and fix
handle.model                    # "diagnosis@0123456789ab"
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from parties.client.everybody import answers_of_everybody
from parties.client.failures import JobCancelled, JobFailed, raises_typed, typed
from parties.client.listing import html_table
from parties.client.progress import Progress
from protocols.error_pages import page_of
from protocols.errors import ConfideError, ErrorCode
from protocols.job import TIME_FORMAT, Job
from protocols.plan.plan import Plan
from protocols.session.messages import Ending
from protocols.session.states import State

if TYPE_CHECKING:
    from parties.client.calls import Values
    from parties.client.client import Client
    from parties.client.explaining import Answers

HEADS = ("job", "type", "state", "created", "model")
_PROGRESS_HEADS = ("party", "state", "phase", "rounds", "payload bytes")
DEFAULT_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Explanation:
    """Why a job is where it is, in one place.

    Attributes:
        job_id: the job.
        state: of the session, as far as it is known.
        code: of the failure; empty if there is none.
        phase: in which it happened.
        at_fault: the party, where that is provable.
        cause: what happened.
        fix: what to do.
        page: the documentation page of the code; empty without one.
        parties: what every participant says; of one that cannot be asked, why.
        answers: of a job that not everybody has countersigned: for what each participant waits, or why it refuses; else None.
    """

    job_id: str
    state: str
    code: str
    phase: str
    at_fault: str
    cause: str
    fix: str
    page: str
    parties: tuple[tuple[str, ...], ...]
    answers: Answers | None = None

    def __str__(self) -> str:
        """Lines for people."""
        lines = [f"job {self.job_id} is {self.state}"]
        lines += ["  " + "  ".join(cell for cell in row if cell) for row in self.parties]
        lines += [] if self.answers is None else str(self.answers).splitlines()
        if self.code:
            fault = f"; at fault: {self.at_fault}" if self.at_fault else ""
            lines += [f"{self.code} in phase {self.phase}{fault}: {self.cause}", f"what to do: {self.fix}", f"more: {self.page}"]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        facts = [("state", self.state)]
        if self.code:
            facts += [("code", self.code), ("phase", self.phase), ("at fault", self.at_fault), ("cause", self.cause)]
            facts += [("what to do", self.fix), ("more", self.page)]
        answers = "" if self.answers is None else self.answers._repr_html_()
        return html_table(("job", self.job_id), facts) + html_table(_PROGRESS_HEADS, self.parties) + answers


class JobHandle:
    """One job; everything it tells is asked of the parties anew."""

    def __init__(self, client: Client, job: Job, *, warnings: tuple[str, ...] = ()) -> None:
        """Takes the client that submitted it, the job, and what was found at its submission; use `Client.submit` or `.handle`.

        `warnings` name the layers whose numbers are not proven to stay within their limits (docs/models.md).
        """
        self._client = client
        self.job = job
        self.warnings = warnings

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.job_id

    @property
    def model(self) -> str:
        """The model that the job trains or uses, as requests name it; one in training cannot be used yet."""
        model = self.job.produced_model or self.job.model_ref
        return "" if model is None else model.label

    @property
    def state(self) -> str:
        """The state that the first participant that answers shows; `unknown` if none does."""
        for party in self.job.participants:
            try:
                return self._client.progress(self.id, party).state
            except ConfideError:
                continue
        return "unknown"

    @raises_typed
    def plan(self) -> Plan:
        """Asks every participant for the plan again.

        Raises:
            ClientError: a party's refusal, or IntegrityError if they disagree.
        """
        return self._client.plan(self.job)

    @raises_typed
    def progress(self) -> dict[str, Progress | None]:
        """Returns what every participant says now; None of one that cannot be asked."""
        answers = answers_of_everybody(self.job.participants, lambda party: self._client.progress(self.id, party))
        return {
            party: None if isinstance(answer, ConfideError) else answer
            for party, answer in zip(self.job.participants, answers, strict=True)
        }

    def watch(self) -> Iterator[Progress]:
        """Yields how the job goes on until it has ended.

        Raises:
            PartyUnavailable: no participant can be asked any more.
        """
        try:
            yield from self._client.watch(self.job)
        except ConfideError as error:
            raise typed(error) from error

    @raises_typed
    def wait(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> Ending:
        """Waits until the job has completed.

        Raises:
            JobFailed: it ended otherwise (JobCancelled if it was cancelled), with phase, party at fault, cause and fix.
            TimedOut: it has not ended; it goes on.
        """
        ending = self._client.wait(self.job, timeout_s=timeout_s)
        if ending.state is not State.COMPLETED:
            raise failure_of(self.job, ending)
        return ending

    @raises_typed
    def result(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> dict[str, Values]:
        """Waits for the end and opens the outputs here, by name.

        Learns: the caller alone the outputs.

        Raises:
            ClientError: as `wait`; PolicyRefused: the outputs were opened before.
        """
        self.wait(timeout_s)
        return self._client.result(self.job)

    @raises_typed
    def cancel(self) -> None:
        """Asks for the job's cancellation; `wait` shows whether it came in time.

        Raises:
            NotReady: it has ended, or its end is being agreed.
        """
        self._client.cancel(self.job)

    @raises_typed
    def explain(self) -> Explanation:
        """Returns why the job is where it is, from what every participant says."""
        answers = answers_of_everybody(self.job.participants, lambda party: self._client.progress(self.id, party))
        rows: list[tuple[str, ...]] = []
        ending: Ending | None = None
        state = "unknown"
        for party, said in zip(self.job.participants, answers, strict=True):
            if isinstance(said, ConfideError):
                rows.append((party, said.code.name, said.what, "", ""))
                continue
            rows.append((party, said.state, _phase(said), f"{said.rounds:,}", f"{said.payload_bytes:,}"))
            ending = ending or said.ending
            state = said.state if state == "unknown" else state
        code = ErrorCode.__members__.get(ending.code) if ending is not None else None
        return Explanation(
            job_id=self.id,
            state=state if ending is None else ending.state.value,
            code=ending.code if ending is not None else "",
            phase=ending.phase.value if ending is not None else "",
            at_fault=ending.at_fault if ending is not None else "",
            cause=ending.cause if ending is not None else "",
            fix=ending.remedy if ending is not None else "",
            page=page_of(code) if code is not None else "",
            parties=tuple(rows),
            answers=self._client.explain(self.id) if state == State.PROPOSED.value and ending is None else None,
        )

    @raises_typed
    def resume(self) -> JobHandle:
        """Takes a training that ended early up from its newest checkpoint, as a new job, and returns that job's handle.

        Raises:
            ClientError: there is no checkpoint that all computing parties hold, or a party refuses.
        """
        from parties.client.resume import resume_job

        return self._client.submit(resume_job(self._client, self.job, datetime.now(UTC)))

    def cells(self) -> tuple[str, ...]:
        """Returns its line in a listing."""
        state = self.state
        shown = self.model if state == State.COMPLETED.value or self.job.produced_model is None else ""
        return (self.id, self.job.job_type.value, state, self.job.created.strftime(TIME_FORMAT), shown)

    def __repr__(self) -> str:
        return f"<JobHandle {self.id} {self.job.job_type.value}>"

    def _repr_html_(self) -> str:
        return html_table(HEADS, [self.cells()])


def failure_of(job: Job, ending: Ending) -> JobFailed:
    """Returns what to raise for a job that did not complete; the text names phase, party at fault and cause."""
    at_fault = f"; at fault: {ending.at_fault}" if ending.at_fault else ""
    cause = f"; {ending.code}: {ending.cause}" if ending.code else ""
    what = f"job {job.job_id} was {ending.state.value} in phase {ending.phase.value}{at_fault}{cause}"
    if ending.code == ErrorCode.CANCELLED.name:
        return JobCancelled(ErrorCode.CANCELLED, what, remedy=ending.remedy, party=ending.at_fault)
    return JobFailed(ErrorCode.JOB_FAILED, what, remedy=ending.remedy, party=ending.at_fault)


def _phase(said: Progress) -> str:
    return f"{said.phase} {said.step}/{said.steps}" if said.steps else said.phase
