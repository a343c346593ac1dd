"""A session in the hands of the session loop."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from governance.documents import DocumentKind, SignedDocument
from parties.server.courier import JobPapers
from parties.server.slots import Applicant, Claim
from parties.server.terms import applicant_of, snapshot_text, spec_of
from parties.server.work import Work
from parties.storage.jobs import JobRecord
from protocols.errors import ErrorCode
from protocols.job import Job
from protocols.session.machine import SessionMachine

KEEP_OPEN_S = 600.0


@dataclass
class OpenSession:
    """One session; everything but `query_share` is public.

    Attributes:
        job: the job.
        papers: the job as it was signed, with its public weights.
        machine: this party's view of the session.
        query_share: this party's share of the samples, secret, in memory only.
        stored: the machine's snapshot as the database has it.
        memory_bytes: what the plan predicts for one worker; 0 before there is a plan.
        work: the worker, from its start to the end of the session.
        life: counts how often the session went back to its stored step; events of an earlier life mean nothing.
        asleep: why the session waits to be taken up from its stored step, or None.
        used: when somebody last asked for it, of `time.monotonic`.
    """

    job: Job
    papers: JobPapers
    machine: SessionMachine
    query_share: bytes | None = field(repr=False)
    stored: str
    memory_bytes: int = 0
    work: Work | None = None
    life: int = 0
    asleep: ErrorCode | None = None
    used: float = field(default_factory=time.monotonic)

    @property
    def job_id(self) -> str:
        """The session's id."""
        return self.job.job_id

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be done for it any more: it has ended, its outputs are settled, and no clock runs."""
        machine = self.machine
        return machine.state.is_terminal and machine.is_settled and machine.next_deadline is None and self.work is None

    def claim(self, ticket: int) -> Claim:
        """The session's claim of this ticket."""
        return Claim(self.job_id, ticket)

    def applicant(self, party: str) -> Applicant:
        """The session as one that wants a slot of a party."""
        return applicant_of(self.job, party=party, memory_bytes=self.memory_bytes)

    def go_back(self, party: str, *, because: ErrorCode) -> Work | None:
        """Returns to the stored step, where `Recovered` has to come first.

        Returns:
            The worker to stop, if there is one.
        """
        self.life += 1
        self.asleep = because
        self.machine = SessionMachine.restore(spec_of(self.job), party, json.loads(self.stored))
        work, self.work = self.work, None
        return work


def unused(sessions: Mapping[str, OpenSession]) -> list[str]:
    """Returns the ids of the sessions that are over and of which nobody has asked for a while: the database has them too."""
    before = time.monotonic() - KEEP_OPEN_S
    return [job_id for job_id, session in sessions.items() if session.used < before and session.is_over]


def new_session(job: Job, papers: JobPapers, *, party: str, query_share: bytes | None) -> OpenSession:
    """Makes the session of a job that has just reached this party."""
    machine = SessionMachine(spec_of(job), party)
    return OpenSession(job, papers, machine, query_share, snapshot_text(machine))


def kept_session(record: JobRecord, *, party: str, memory_bytes: int) -> OpenSession:
    """Makes a session from what the database kept of it; `Recovered` is its first event.

    Raises:
        ConfideError: STATE_DAMAGED (the operator's fault).
    """
    job = Job.from_bytes(record.document)
    machine = SessionMachine.restore(spec_of(job), party, json.loads(record.snapshot))
    signed = SignedDocument(DocumentKind.JOB, record.querier, record.document, record.signature)
    # The weights are for parties that have not heard of the job; of an ended one nobody is told any more.
    weights = b"" if machine.state.is_terminal else record.initial_weights or b""
    papers = JobPapers(signed, weights)
    return OpenSession(job, papers, machine, None, record.snapshot, memory_bytes, asleep=ErrorCode.PARTY_RESTARTED)
