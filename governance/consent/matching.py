"""The rule of consent: whether a party's agreement and grants cover a job, and every reason if they do not.

A party takes part in a job only if
  - the job keeps to an agreement that is in force at this party, and
  - for each data set of the party in the job, and for each that went into the job's model, a grant of its own covers the job.

A party looks after its own rows: what others permit, their own parties decide. Only an owner of rows behind a model cannot that
takes no part in a job on that model, or that took no part in a further training on the way to it and so does not know of its rows
in it: for these, the parties that do know apply the grants that the owner has told them, and refuse if none covers the job. Pure:
what is known arrives as arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from governance.admission import Finding
from governance.consent.agreement import Agreement, SignedAgreement, why_not_in_force
from governance.consent.covering import Asset, GrantStanding, ends, is_about, mismatches, over_epsilon
from governance.consent.facts import JobFacts, Source, facts_of
from governance.consent.grant import Grant
from governance.identity.directory import Directory
from protocols.errors import ErrorCode, Problem
from protocols.job import Job


@dataclass(frozen=True)
class Consents:
    """What a party knows when it decides about a job.

    Attributes:
        party: its id.
        agreement: the one that the job names, or None if it is not known here.
        revoked_by: signatories that have revoked it, with the times they state.
        grants: the party's own, as they stand.
        sources: what the job's model was trained on, as far as this party knows.
        absent: grants of owners of these rows that cannot decide for themselves, as they told them; their uses are not known.
    """

    party: str
    agreement: SignedAgreement | None
    revoked_by: Mapping[str, datetime]
    grants: Sequence[GrantStanding]
    sources: tuple[Source, ...]
    absent: Sequence[GrantStanding] = ()


@dataclass(frozen=True)
class ConsentDecision:
    """Whether consent covers a job.

    Attributes:
        findings: every reason against it; empty if it is covered.
        grants: those that cover the party's rows, one for each data set, each once; meaningful only without findings.
        until: when each of them stops covering the job, by its id, UTC.
    """

    findings: tuple[Finding, ...]
    grants: tuple[Grant, ...]
    until: Mapping[str, datetime] = field(default_factory=dict)


def decide_consent(job: Job, consents: Consents, *, directory: Directory, now: datetime) -> ConsentDecision:
    """Applies the rule of consent.

    Args:
        job: what is asked; its own checks have passed.
        consents: what the party knows.
        directory: who is who now.
        now: the time, UTC.
    """
    institution = {entry.id: entry.institution for entry in directory.researchers}.get(job.querier)
    facts = facts_of(job, institution=institution, sources=consents.sources)
    findings = [*_agreement(job, consents, facts, directory, now)]
    used: dict[str, Grant] = {}
    until: dict[str, datetime] = {}
    for asset in assets_of(job, party=consents.party, sources=consents.sources):
        covering, problems = _cover(job, asset, consents.grants, facts, now)
        findings += problems
        if covering is not None:
            used[covering.grant_id] = covering
            until[covering.grant_id] = min(ends(covering, asset), until.get(covering.grant_id, ends(covering, asset)))
    for source in consents.sources:
        owner = source.dataset.party
        if owner != consents.party and _is_undecided(job, source):
            told = [standing for standing in consents.absent if standing.grant.issuer == owner]
            findings += _cover(job, Asset(source.dataset, source.models), told, facts, now)[1]
    return ConsentDecision(tuple(findings), tuple(used[grant_id] for grant_id in sorted(used)), until)


def absent_owners(job: Job, sources: Iterable[Source]) -> tuple[str, ...]:
    """Returns the owners of rows behind a job's model that take no part in it, or do not know of their rows there."""
    return tuple(dict.fromkeys(source.dataset.party for source in sources if _is_undecided(job, source)))


def assets_of(job: Job, *, party: str, sources: Iterable[Source]) -> tuple[Asset, ...]:
    """Returns the rows of a party that a job would use: its data sets in the job, then those that went into the job's model."""
    own = [Asset(dataset, ()) for dataset in job.datasets if dataset.party == party]
    return (*own, *(Asset(source.dataset, source.models) for source in sources if source.dataset.party == party))


def agreement_problems(job: Job, agreement: Agreement, facts: JobFacts, sources: Iterable[Source]) -> Iterable[Problem]:
    """Yields everything in which a job does not keep to an agreement, whether that is in force or not.

    Clients use it to find the agreement that a request fits.
    """
    where = "agreement"
    if job.purpose not in agreement.purposes:
        what = f"{job.purpose} is none of its purposes: {', '.join(agreement.purposes)}"
        yield Problem("purpose", what, "name one of its purposes, if it is yours")
    if job.job_type not in agreement.job_types:
        known = ", ".join(kind.value for kind in agreement.job_types)
        yield Problem(f"{where}.job_types", f"{job.job_type.value} jobs are not permitted; permitted: {known}", "make another")
    for output in job.outputs:
        if output.kind not in agreement.outputs:
            known = ", ".join(kind.value for kind in agreement.outputs) or "none"
            what = f"{output.kind.value} may not be opened; permitted: {known}"
            yield Problem(f"{where}.outputs", what, "ask for a permitted output")
    for party in job.participants:
        if party not in agreement.parties:
            yield Problem(f"{where}.parties", f"{party} is no party of {agreement.name}", "choose among its parties")
    behind = (source.dataset for source in sources)
    for party, name in dict.fromkeys((dataset.party, dataset.name) for dataset in (*job.datasets, *behind)):
        if not agreement.names_dataset(party, name):
            what = f"{party}/{name} is no data set of {agreement.name}"
            yield Problem(f"{where}.datasets", what, "use data sets of the agreement, and models trained on them")
    for problem in facts.too_small(min_parties=agreement.min_parties, min_rows=agreement.min_rows):
        yield Problem(f"{where}.{problem.where}", problem.what, problem.remedy)
    for problem in over_epsilon(job, agreement.epsilon_cap):
        yield Problem(f"{where}.{problem.where}", problem.what, problem.remedy)


def _is_undecided(job: Job, source: Source) -> bool:
    return source.dataset.party not in job.participants or not source.is_known_to_owner


def _cover(
    job: Job, asset: Asset, grants: Sequence[GrantStanding], facts: JobFacts, now: datetime
) -> tuple[Grant | None, tuple[Finding, ...]]:
    """Returns the grant that covers an owner's asset in a job, or every reason of the nearest one that does not."""
    candidates = [standing for standing in grants if is_about(standing.grant, asset)]
    judged = [(standing.grant, mismatches(job, asset, standing, facts, now)) for standing in candidates]
    covering = [grant for grant, problems in judged if not problems]
    if covering:
        # The one that lasts longest: a job is stopped when the grant that it rests on ends.
        return max(covering, key=lambda grant: (ends(grant, asset), grant.grant_id)), ()
    if judged:
        return None, min(judged, key=lambda pair: (len(pair[1]), -ends(pair[0], asset).timestamp(), pair[0].grant_id))[1]
    owner = asset.dataset.party
    problem = Problem(asset.where, f"{owner} has given no grant for it", f"ask {owner} for one under this agreement")
    return None, (Finding(ErrorCode.NO_CONSENT, problem),)


def _agreement(job: Job, consents: Consents, facts: JobFacts, directory: Directory, now: datetime) -> Iterable[Finding]:
    signed = consents.agreement
    if signed is None:
        what = f"no agreement {job.agreement[:12]} is known at {consents.party}"
        yield Finding(ErrorCode.NO_AGREEMENT, Problem("agreement", what, "name one that is in force at every party"))
        return
    problems = [*why_not_in_force(signed, directory=directory, revoked_by=consents.revoked_by, now=now)]
    problems += agreement_problems(job, signed.agreement, facts, consents.sources)
    for problem in problems:
        yield Finding(ErrorCode.NO_AGREEMENT, problem)
