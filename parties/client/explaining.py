"""What every party says to a job, whether or not it was submitted: all reasons against it, or what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from governance.preview import Preview
from parties.client.calls import Calls, PreparedJob
from parties.client.everybody import answers_of_everybody
from parties.client.failures import raises_typed
from parties.client.listing import html_table
from parties.client.progress import ending_in_words
from parties.wire.generated.confide.v1 import jobs_pb2
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.session.documents import clean_text

if TYPE_CHECKING:
    from parties.client.client import Client
    from parties.client.requests import JobRequest
    from protocols.session.messages import Ending

MAX_REASONS = 1_000
_HEADS = ("party", "says", "where", "what", "what to do")


@dataclass(frozen=True)
class Reason:
    """One reason against a job, as its party words it: name of the code, the field or rule, what is wrong, what to do."""

    code: str
    where: str
    what: str
    remedy: str


@dataclass(frozen=True)
class PartyAnswer:
    """What one party says to a job.

    Attributes:
        party: its id.
        reasons: against the job; empty if the party takes part, or waits for people.
        approvals_needed: how many of its people must approve; 0 if its policy decides alone.
        approvals_given: how many have.
        rule: the rule of its policy that decides; empty if it was not asked.
        preview: what the job would do at this party; None if it could not be planned.
        error: why the party could not be asked; None if it answered.
        ending: of a job that has ended, as the party signed it; None of every other.
    """

    party: str
    reasons: tuple[Reason, ...] = ()
    approvals_needed: int = 0
    approvals_given: int = 0
    rule: str = ""
    preview: Preview | None = None
    error: ConfideError | None = None
    ending: Ending | None = None

    @property
    def in_words(self) -> str:
        """What it says, shortly."""
        if self.error is not None:
            return f"{self.error.code.name}: {self.error.what}"
        if self.ending is not None:
            return f"the job has ended: {ending_in_words(self.ending)}"
        if self.reasons:
            return f"refuses, for {len(self.reasons)} reason(s)"
        missing = self.approvals_needed - self.approvals_given
        if missing > 0:
            return f"waits for {missing} of {self.approvals_needed} approval(s) (rule {self.rule})"
        return f"takes part (rule {self.rule})" if self.rule else "has nothing against it"


class Answers(tuple[PartyAnswer, ...]):
    """What all participants say, in their order; shows as a text and, in a notebook, as a table."""

    __slots__ = ()

    @property
    def refuse(self) -> bool:
        """Whether a party refuses the job or cannot be asked."""
        return any(answer.reasons or answer.error for answer in self)

    def __str__(self) -> str:
        """Lines for people."""
        lines = []
        for answer in self:
            lines.append(f"{answer.party}: {answer.in_words}")
            for reason in answer.reasons:
                where = f"{reason.where}: " if reason.where else ""
                remedy = f" ({reason.remedy})" if reason.remedy else ""
                lines.append(f"  - {reason.code}: {where}{reason.what}{remedy}")
        remedies = dict.fromkeys(answer.ending.remedy for answer in self if answer.ending is not None)
        lines += [f"what to do: {remedy}" for remedy in remedies if remedy]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [
            (answer.party, reason.code, reason.where, reason.what, reason.remedy)
            for answer in self
            for reason in answer.reasons or (Reason(answer.in_words, "", "", answer.ending.remedy if answer.ending else ""),)
        ]
        return html_table(_HEADS, rows)


@raises_typed
def explain(client: Client, job: PreparedJob | JobRequest | Job | str, *, folder: Path | None = None) -> Answers:
    """Asks every participant what it says to a job; nothing is kept and nothing runs.

    Args:
        client: the researcher's connections.
        job: a request, a prepared job or a job document, which need not have been submitted; or the id of a job that was
            submitted from here, or its beginning.
        folder: where the files that a request names lie; else the current one.

    Returns:
        Each participant's reasons, all at once, what it waits for, or how a job that was submitted has ended; one that cannot be
        asked is named with its error.

    Raises:
        InvalidRequest, NotFound: the request cannot be completed, with all problems.
    """
    if isinstance(job, str):
        return ask_of_known(client.calls, client.job(job))
    if not isinstance(job, Job):
        if not isinstance(job, PreparedJob):
            from parties.client.prepare import prepare_job

            job = prepare_job(client, job, folder=folder or Path(), now=datetime.now(UTC))
        job = job.job
    return ask_why(client.calls, job, jobs_pb2.ExplainJobRequest(job=job.to_bytes()))


def ask_why(calls: Calls, job: Job, request: jobs_pb2.ExplainJobRequest) -> Answers:
    """Asks every participant of a job at once."""
    return answers_to(job.participants, lambda party: calls.explain(party, request))


def ask_of_known(calls: Calls, job: Job) -> Answers:
    """Asks every participant of a job that was submitted: how it has ended, or else what it says to it."""

    def answer(party: str) -> PartyAnswer:
        ending = calls.progress(job.job_id, party).ending
        if ending is not None:
            return PartyAnswer(party, ending=ending)
        return read_answer(calls.explain(party, jobs_pb2.ExplainJobRequest(job_id=job.job_id)), party=party)

    return _answers(job.participants, answer)


def answers_to(parties: Sequence[str], ask: Callable[[str], jobs_pb2.ExplainJobReply]) -> Answers:
    """Returns what each party says, read strictly; a party whose answer is not one is named with that error."""

    def answer(party: str) -> PartyAnswer:
        return read_answer(ask(party), party=party)

    return _answers(parties, answer)


def _answers(parties: Sequence[str], answer: Callable[[str], PartyAnswer]) -> Answers:
    said = answers_of_everybody(parties, answer)
    return Answers(
        PartyAnswer(party, error=found) if isinstance(found, ConfideError) else found
        for party, found in zip(parties, said, strict=True)
    )


def read_answer(reply: jobs_pb2.ExplainJobReply, *, party: str) -> PartyAnswer:
    """Returns what a party said.

    Raises:
        ConfideError: INVALID_DOCUMENT (that party's fault): too many reasons, or a preview that is none, or another party's.
    """
    if len(reply.reasons) > MAX_REASONS:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"{len(reply.reasons)} reasons are no answer", party=party)
    preview = Preview.from_bytes(reply.preview) if reply.preview else None
    if preview is not None and preview.party != party:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"{party} shows the preview of {preview.party}", party=party)
    reasons = [Reason(clean_text(r.code), clean_text(r.where), clean_text(r.what), clean_text(r.remedy)) for r in reply.reasons]
    return PartyAnswer(
        party=party,
        reasons=tuple(reasons),
        approvals_needed=reply.approvals_needed,
        approvals_given=reply.approvals_given,
        rule=clean_text(reply.rule),
        preview=preview,
    )
