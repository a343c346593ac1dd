"""What is fixed about a session before it begins."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import ID_PATTERN
from protocols.session.timing import Timing

MAX_PARTICIPANTS = 80
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SessionSpec:
    """One attempt at one job; public, and the same at every participant except for clock settings.

    Attributes:
        session: session id, which is the job's.
        job_digest: SHA-256 of the job, 64 hexadecimal digits.
        participants: party ids in order: computing parties, dealer, other owners. The first leads.
        committers: the computing parties, in order: they commit to their shares of the outputs before anything is opened.
        outputs: names of the outputs.
        querier: researcher id.
        attempt: counts from 1.
        agree_by: Unix time in seconds; without all countersignatures by then the session expires.
        start_by: Unix time in seconds; a session that has not started by then expires.
        timing: time constants.
    """

    session: str
    job_digest: str
    participants: tuple[str, ...]
    committers: tuple[str, ...]
    outputs: tuple[str, ...]
    querier: str
    attempt: int
    agree_by: float
    start_by: float
    timing: Timing = field(default_factory=Timing)

    def __post_init__(self) -> None:
        """Refuses a spec that no session can follow.

        Raises:
            ConfideError: INVALID_JOB (the querier's fault), with every problem.
        """
        problems = [
            Problem(where, "not an identifier", "use 1 to 63 of a-z, 0-9 and -")
            for where, value in (
                ("session", self.session),
                ("querier", self.querier),
                *(("participants", p) for p in self.participants),
                *(("outputs", name) for name in self.outputs),
            )
            if not ID_PATTERN.fullmatch(value)
        ]
        if not _DIGEST.fullmatch(self.job_digest):
            problems.append(Problem("job_digest", "not a SHA-256 digest", "give 64 hexadecimal digits"))
        if not 2 <= len(self.participants) <= MAX_PARTICIPANTS or len(set(self.participants)) != len(self.participants):
            problems.append(Problem("participants", f"2 to {MAX_PARTICIPANTS} different parties take part", "name each once"))
        if not set(self.committers) <= set(self.participants) or len(set(self.committers)) != len(self.committers):
            problems.append(Problem("committers", "not different participants", "name computing parties, each once"))
        if len(set(self.outputs)) != len(self.outputs):
            problems.append(Problem("outputs", "a name occurs twice", "name each once"))
        if self.attempt < 1:
            problems.append(Problem("attempt", "attempts count from 1", "use 1"))
        if self.start_by < self.agree_by:
            problems.append(Problem("start_by", "lies before agree_by", "let the job live longer"))
        if problems:
            raise ConfideError(ErrorCode.INVALID_JOB, f"{len(problems)} problem(s) in the session's spec", problems=problems)

    @property
    def lead(self) -> str:
        """The party that orders the session's messages; trusted with nothing more than the others."""
        return self.participants[0]

    @property
    def majority(self) -> int:
        """How many participants must have accepted an ending before it is effective."""
        return len(self.participants) // 2 + 1

    def committed_by(self, party: str) -> frozenset[str]:
        """Returns the outputs to whose shares a party commits: all of them if it computes, else none."""
        return frozenset(self.outputs if party in self.committers else ())
