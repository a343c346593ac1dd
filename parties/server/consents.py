"""Consent as this party's database has it: what is known about a job's agreement, grants and model, and the decision."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime

from governance.admission import Finding
from governance.audit.manifest import GrantUse
from governance.consent.covering import GrantStanding
from governance.consent.grant import Grant, verify_grant
from governance.consent.matching import ConsentDecision, Consents, absent_owners, decide_consent
from governance.consent.revocation import Effect
from governance.documents import DocumentKind, SignedDocument
from governance.identity.directory import Directory
from governance.lineage.standing import Basis, TrainingFacts, Withdrawal, ends, trainings_behind
from parties.lineage import bases_of, trainings_behind_job
from parties.model_registry import model_findings
from parties.model_sources import model_sources as model_sources
from parties.server.party import Party
from parties.storage.database import Tables
from parties.storage.grants import GrantRecord
from protocols.errors import ConfideError, ErrorCode, Problem
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


def grants_used(party: Party, tables: Tables, job: Job, now: datetime) -> tuple[GrantUse, ...]:
    """Returns the grants that cover this party's rows in a job, one for each data set, each once; count each with `grants.use`.

    Raises:
        ConfideError: the first reason if consent does not cover the job, with all reasons as problems.
    """
    decision = decide(party, tables, job, now)
    if decision.findings:
        problems = [finding.problem for finding in decision.findings]
        what = f"consent does not cover the job at {party.id}, for {len(problems)} reason(s)"
        raise ConfideError(decision.findings[0].code, what, problems=problems, party=party.id)
    return tuple(GrantUse(each.grant_id, each.derived_until, decision.until[each.grant_id]) for each in decision.grants)


def ended_elsewhere(party: Party, tables: Tables, job: Job, now: datetime) -> tuple[Finding, ...]:
    """Returns every reason for which a consent of another participant to an accepted job has ended, as far as is known here.

    An owner that does not compute has voted once its rows are shared, long before the others are through, and hands out
    nothing. So they stop for it, and withhold for it.

    Args:
        party: this party.
        tables: of one transaction.
        job: an accepted job.
        now: the time, UTC.
    """
    others = [basis for basis in bases_of(tables, job.job_id) if basis.party != party.id]
    facts = (TrainingFacts(job, tuple(others), ""),)
    # What `until` ends are models; it is the grant itself that has to cover the job.
    found = [end for end in ends(facts, _withdrawals_of(tables, facts), now=now) if end.issuer != party.id]
    said = [
        *((end.code, end.sentence) for end in found if end.code is not ErrorCode.GRANT_EXPIRED),
        *((ErrorCode.GRANT_EXPIRED, _expired(basis)) for basis in others if _has_ended(basis, now)),
    ]
    remedy = "leave its rows out, or ask it for another grant"
    return tuple(Finding(code, Problem("datasets", sentence, remedy)) for code, sentence in said)


def next_end_elsewhere(party: Party, tables: Tables, job: Job, now: datetime) -> datetime | None:
    """Returns when the next consent of another participant to an accepted job ends by the clock, or None."""
    others = (basis.covers_until for basis in bases_of(tables, job.job_id) if basis.party != party.id)
    return min((time for time in others if time is not None and time > now), default=None)


def next_end(party: Party, tables: Tables, job: Job, now: datetime) -> datetime | None:
    """Returns when the next consent to an accepted job, of this party or of another participant, ends by the clock, or None."""
    grants = [tables.grants.get(grant_id).grant for grant_id in tables.grants.used_by(job.job_id)]
    times = [time for grant in grants for time in (grant.expires, grant.derived_until)]
    agreement = tables.agreements.find(job.agreement)
    if agreement is not None:
        times.append(agreement.agreement.expires)
    elsewhere = next_end_elsewhere(party, tables, job, now)
    times += [] if elsewhere is None else [elsewhere]
    return min((time for time in times if time > now), default=None)


def decide(party: Party, tables: Tables, job: Job, now: datetime) -> ConsentDecision:
    """Applies the rule of consent to a job, as of one transaction."""
    try:
        decision = decide_consent(job, consents_of(party, tables, job), directory=party.directory, now=now)
        before = _ended_before(tables, job, now)
    except ConfideError as error:  # a document of ours that does not read any more covers nothing
        problem = Problem("grants", str(error.what), error.remedy)
        return ConsentDecision((Finding(error.code, problem),), ())
    return replace(decision, findings=(*decision.findings, *before, *model_findings(tables, job)))


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
    for signed in tables.statements.heard(DocumentKind.GRANT, by=owners):
        grant = Grant.from_bytes(signed.body)
        ended = tables.revocations.strongest(grant.grant_id, grant.issuer)
        unsound = _why_unsound(signed, directory)
        found.append(GrantStanding(grant, 0, None if ended is None else ended.revocation, unsound))
    return tuple(found)


def _ended_before(tables: Tables, job: Job, now: datetime) -> Iterable[Finding]:
    """What a resumed training goes on from rests on all consents to the attempts before; new ones do not mend it."""
    if job.resumes is None:
        return ()
    earlier = job.resumes.job_id
    behind = trainings_behind(earlier, trainings_behind_job(tables, earlier))
    found = ends(behind, _withdrawals_of(tables, behind), now=now)
    remedy = "train again from the beginning, under consents that are in force"
    return tuple(Finding(end.code, Problem("resumes", end.sentence, remedy)) for end in found)


def _withdrawals_of(tables: Tables, trainings: Collection[TrainingFacts]) -> tuple[Withdrawal, ...]:
    """The revocations of what these trainings rest on; of all others there may be many."""
    subjects = {facts.job.agreement for facts in trainings} | {basis.grant_id for facts in trainings for basis in facts.bases}
    found = (record.revocation for subject in sorted(subjects) for record in tables.revocations.of(subject))
    return tuple(Withdrawal(each.issuer, each.subject, each.effect is Effect.DELETE, each.time) for each in found)


def _has_ended(basis: Basis, now: datetime) -> bool:
    return basis.covers_until is not None and now >= basis.covers_until


def _expired(basis: Basis) -> str:
    return f"{basis.party}'s grant {basis.grant_id} covered the job until {basis.covers_until:%Y-%m-%d %H:%M:%S} UTC"


def _standing(record: GrantRecord, directory: Directory, *, counts: bool) -> GrantStanding:
    # The job itself is none of the other jobs that count.
    return GrantStanding(record.grant, record.uses - counts, record.revocation, _why_unsound(record.signed, directory))


def _why_unsound(signed: SignedDocument, directory: Directory) -> ConfideError | None:
    try:
        verify_grant(signed, directory)
    except ConfideError as error:
        return error
    return None
