"""Why this party would refuse a job, or what it would wait for: every reason at once, whether or not the job was submitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from governance.admission import Finding
from governance.preview import Preview
from parties.server.approvals import Standing, preview_of, standing
from parties.server.capacity import capacity, demand_room, need_of
from parties.server.party import Party
from parties.server.reasons import admission_findings, reasons, warm_reasons
from protocols.canonical import parse_canonical
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job
from protocols.plan.estimate import LOOPBACK, estimate
from protocols.plan.plan import Plan


@dataclass(frozen=True)
class Explained:
    """What this party says to a job.

    Attributes:
        findings: every reason against it; empty if the party takes part, or waits for people.
        standing: where it stands with the policy and people; None if the job could not be planned.
        preview: what it would do here; None likewise.
    """

    findings: tuple[Finding, ...]
    standing: Standing | None = None
    preview: Preview | None = None


def explain(party: Party, job: Job, derive: Callable[[Job], bytes]) -> Explained:
    """Says what this party says to a job, as things stand now; nothing is kept.

    Args:
        party: this party.
        job: sound as a document; whoever asks is its querier.
        derive: derives the plan of a job, in canonical bytes.
    """
    if party.id not in job.participants:
        problem = Problem("", f"{party.id} has no role in this job", "ask its participants")
        return Explained((Finding(ErrorCode.INVALID_JOB, problem),))
    now = party.now()
    warm_reasons(party, job)
    with party.database.transaction() as tables:
        if admission_findings(party, tables, job, now):  # what is not sound in itself costs no derivation
            return Explained(reasons(party, tables, job, plan=None, now=now))
        kept = tables.jobs.plan(job.job_id)
    try:
        plan = derive(job) if kept is None else kept.document
    except ConfideError as error:
        with party.database.transaction() as tables:
            found = reasons(party, tables, job, plan=None, now=now)
        return Explained((*found, *_findings_of(error)))
    with party.database.transaction() as tables:
        found = (*reasons(party, tables, job, plan=plan, now=now), *_room(party, job, plan))
        return Explained(found, standing(party, tables, job, plan), preview_of(party, tables, job, plan, now=now))


def approvals_needed(party: Party, job: Job, plan: bytes) -> int:
    """Returns how many people of this party must approve a job; 0 if its policy decides alone."""
    with party.database.transaction() as tables:
        return standing(party, tables, job, plan).decision.needed


def _room(party: Party, job: Job, plan: bytes) -> tuple[Finding, ...]:
    memory_bytes = estimate(Plan.from_document(parse_canonical(plan)), LOOPBACK).memory_bytes
    try:
        demand_room(need_of(job, party=party.id, memory_bytes=memory_bytes), capacity(party.config), party=party.id)
    except ConfideError as error:
        return _findings_of(error)
    return ()


def _findings_of(error: ConfideError) -> tuple[Finding, ...]:
    problems = error.problems or (Problem("", error.what, error.remedy),)
    return tuple(Finding(error.code, problem) for problem in problems)
