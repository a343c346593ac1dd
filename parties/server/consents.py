"""Consent as this party's database has it: what is known about a job's agreement, grants and model, and the decision."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from governance.admission import Finding
from governance.consent.covering import GrantStanding
from governance.consent.grant import Grant, verify_grant
from governance.consent.matching import ConsentDecision, Consents, absent_owners, decide_consent
from governance.documents import DocumentKind, SignedDocument
from governance.identity.directory import Directory
from parties.model_registry import model_findings
from parties.model_sources import model_sources as model_sources
from parties.server.party import Party
from parties.storage.database import Tables
from parties.storage.grants import GrantRecord
from protocols.errors import ConfideError, Problem
from protocols.job import Job


def consent_findings(party: Party, tables: Tables, job: Job, now: datetime) -> tuple[Finding, ...]:
    """Returns every reason for which consent does not cover a job at this party; empty if it does.

    For a job that counts against grants already, these very grants must still cover it: they are what it was accepted under.

    Args:
        party: this party.
        tables: of the transaction in which the job is decided.
        job: what is asked.
        now: the time, UTC.
    """
    return decide(party, tables, job, now).findings


def grants_used(party: Party, tables: Tables, job: Job, now: datetime) -> tuple[GrantRecord, ...]:
    """Returns the grants that cover this party's rows in a job, one for each data set, each once; count each with `grants.use`.

    Raises:
        ConfideError: the first reason if consent does not cover the job, with all reasons as problems.
    """
    decision = decide(party, tables, job, now)
    if decision.findings:
        problems = [finding.problem for finding in decision.findings]
        what = f"consent does not cover the job at {party.id}, for {len(problems)} reason(s)"
        raise ConfideError(decision.findings[0].code, what, problems=problems, party=party.id)
    return tuple(tables.grants.get(grant.grant_id) for grant in decision.grants)


def decide(party: Party, tables: Tables, job: Job, now: datetime) -> ConsentDecision:
    """Applies the rule of consent to a job, as of one transaction."""
    try:
        decision = decide_consent(job, consents_of(party, tables, job), directory=party.directory, now=now)
    except ConfideError as error:  # a document of ours that does not read any more covers nothing
        problem = Problem("grants", str(error.what), error.remedy)
        return ConsentDecision((Finding(error.code, problem),), ())
    return ConsentDecision((*decision.findings, *model_findings(tables, job)), decision.grants)


def consents_of(party: Party, tables: Tables, job: Job) -> Consents:
    """Returns what this party knows when it decides about a job."""
    sources = () if job.model_ref is None else model_sources(tables, job.model_ref)
    counted = tables.grants.used_by(job.job_id)
    candidates = [tables.grants.get(grant_id) for grant_id in counted] if counted else tables.grants.all()
    revocations = [record.revocation for record in tables.revocations.of(job.agreement)]
    directory = party.directory
    return Consents(
        party=party.id,
        agreement=tables.agreements.find(job.agreement),
        revoked_by={revocation.issuer: revocation.time for revocation in reversed(revocations)},
        grants=[_standing(record, directory, counts=record.grant_id in counted) for record in candidates],
        sources=sources,
        absent=_told(tables, absent_owners(job, sources), directory),
    )


def _told(tables: Tables, owners: Collection[str], directory: Directory) -> tuple[GrantStanding, ...]:
    """The grants of owners that take no part in a job, as they told them; how often they were used, only they know."""
    if not owners:
        return ()
    found = []
    for signed in tables.statements.heard(DocumentKind.GRANT):
        if signed.signer in owners:
            grant = Grant.from_bytes(signed.body)
            ended = tables.revocations.strongest(grant.grant_id, grant.issuer)
            unsound = _why_unsound(signed, directory)
            found.append(GrantStanding(grant, 0, None if ended is None else ended.revocation, unsound))
    return tuple(found)


def _standing(record: GrantRecord, directory: Directory, *, counts: bool) -> GrantStanding:
    # The job itself is none of the other jobs that count.
    return GrantStanding(record.grant, record.uses - counts, record.revocation, _why_unsound(record.signed, directory))


def _why_unsound(signed: SignedDocument, directory: Directory) -> ConfideError | None:
    try:
        verify_grant(signed, directory)
    except ConfideError as error:
        return error
    return None
