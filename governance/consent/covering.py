"""Whether one grant covers a job: every limit that the job leaves, by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from governance.admission import Finding
from governance.consent.facts import JobFacts
from governance.consent.grant import ANYBODY, INSTITUTION, DatasetSubject, Grant
from governance.consent.reading import time_text
from governance.consent.revocation import Revocation
from privacy.accounting.noisy_answers import spent_together
from protocols.canonical import canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import DatasetRef, Job, JobType, ModelRef
from protocols.training import Training

SHOWN_DIGITS = 12


@dataclass(frozen=True)
class GrantStanding:
    """A grant of the party itself as it stands now.

    Attributes:
        grant: what it says.
        uses: other jobs that count against it.
        revocation: its issuer's, or None.
        unsound: why its document does not hold, for example a signature that does not verify; None if it does.
    """

    grant: Grant
    uses: int
    revocation: Revocation | None
    unsound: ConfideError | None


@dataclass(frozen=True)
class Asset:
    """Rows of the party that a job would use.

    Attributes:
        dataset: the registration.
        models: empty if the job is on the rows themselves; else the models of the job that hold what was learnt from them: its
            own model first, then those that it was trained from, back to the one that was trained on the rows.
    """

    dataset: DatasetRef
    models: tuple[ModelRef, ...]

    @property
    def where(self) -> str:
        """How findings name it."""
        of_model = f" in {self.models[0].label}" if self.models else ""
        return f"{self.dataset.party}/{self.dataset.name}/{self.dataset.version}{of_model}"


def is_about(grant: Grant, asset: Asset) -> bool:
    """Returns whether a grant's subject is the asset, in any version of a data set: a candidate to cover it."""
    if isinstance(grant.subject, DatasetSubject):
        return grant.subject.name == asset.dataset.name
    return grant.subject.ref in asset.models


def is_derived(grant: Grant, asset: Asset) -> bool:
    """Returns whether the asset comes of the grant's subject and is not the subject itself."""
    if isinstance(grant.subject, DatasetSubject):
        return bool(asset.models)
    return grant.subject.ref != asset.models[0]


def ends(grant: Grant, asset: Asset) -> datetime:
    """Returns when a grant stops covering an asset, UTC."""
    return grant.derived_until if is_derived(grant, asset) else grant.expires


def mismatches(job: Job, asset: Asset, standing: GrantStanding, facts: JobFacts, now: datetime) -> tuple[Finding, ...]:
    """Returns everything for which a grant does not cover an asset of a job; empty if it does.

    Args:
        job: what is asked.
        asset: rows of the party, see `is_about`.
        standing: a grant of the party that is about them.
        facts: what else is known of the job.
        now: the time, UTC.
    """
    found = [*_standing(asset, standing, now)]
    found += [_finding(asset, standing.grant, problem) for problem in _limits(job, asset, standing.grant, facts)]
    return tuple(found)


def _standing(asset: Asset, standing: GrantStanding, now: datetime) -> Iterable[Finding]:
    grant, end = standing.grant, ends(standing.grant, asset)
    if standing.unsound is not None:
        problem = Problem("document", standing.unsound.what, "have the owner issue a new one")
        yield _finding(asset, grant, problem, standing.unsound.code)
    if standing.revocation is not None:
        what = f"revoked at {time_text(standing.revocation.time)}: {standing.revocation.reason}"
        yield _finding(asset, grant, Problem("revoked", what, "ask the owner"), ErrorCode.GRANT_REVOKED)
    if now < grant.valid_from:
        yield _finding(asset, grant, Problem("valid_from", f"valid from {time_text(grant.valid_from)} on", "wait until then"))
    if now >= end:
        name = "derived_until" if is_derived(grant, asset) else "expires"
        problem = Problem(name, f"expired at {time_text(end)}", "ask the owner for a new one")
        yield _finding(asset, grant, problem, ErrorCode.GRANT_EXPIRED)
    if standing.uses >= grant.max_uses:
        problem = Problem("max_uses", f"used {standing.uses} times of {grant.max_uses}", "ask the owner for a new one")
        yield _finding(asset, grant, problem, ErrorCode.GRANT_EXHAUSTED)


def _limits(job: Job, asset: Asset, grant: Grant, facts: JobFacts) -> Iterable[Problem]:
    if grant.consortium != job.consortium or grant.issuer != asset.dataset.party:
        yield Problem("issuer", f"issued by {grant.issuer} in {grant.consortium}", "ask the owner of the rows")
    if grant.agreement != job.agreement:
        what = f"given under the agreement {grant.agreement[:SHOWN_DIGITS]}, the job is under {job.agreement[:SHOWN_DIGITS]}"
        yield Problem("agreement", what, "submit the job under that agreement")
    yield from _subject(grant, asset)
    yield from _named("purposes", job.purpose, grant.purposes)
    derived = is_derived(grant, asset)
    permitted = grant.derived_job_types if derived else grant.job_types
    if job.job_type not in permitted:
        yield _job_type(job.job_type, permitted, derived=derived)
    recipients = {ANYBODY, job.querier}
    if facts.institution is not None:
        recipients.add(f"{INSTITUTION}{facts.institution}")
    if not recipients & set(grant.recipients):
        yield Problem("recipients", f"{job.querier} is none of them", "ask the owner")
    for output in job.outputs:
        rule = grant.rule(output.kind)
        if rule is None:
            kinds = ", ".join(rule.kind.value for rule in grant.outputs) or "none"
            yield Problem("outputs", f"{output.kind.value} may not be opened; permitted: {kinds}", "ask for a permitted one")
        else:
            yield from rule.problems(output)
    architecture = sha256_hex(canonical_bytes(job.model.to_document()))
    if grant.architectures and architecture not in grant.architectures and job.summary is None:  # which uses no model
        what = f"the model's manifest has the digest {architecture[:SHOWN_DIGITS]}, which is none of them"
        yield Problem("architectures", what, "use a permitted architecture")
    yield from grant.parameters.problems(job)
    for party in job.computing_parties if grant.computing_parties else ():
        yield from _named("computing_parties", party, grant.computing_parties)
    if grant.dealers:
        yield from _named("dealers", job.dealer, grant.dealers)
    yield from facts.too_small(min_parties=grant.min_parties, min_rows=grant.min_rows)
    yield from over_epsilon(job, grant.epsilon_cap)


def over_epsilon(job: Job, cap: str | None) -> Iterable[Problem]:
    """Yields why a job spends more than a cap on epsilon permits: whatever opens without noise has no epsilon.

    A training opens nothing, but its model will be asked: without terms of differential privacy it has no epsilon either.
    """
    if cap is None:
        return
    if job.training is not None:
        yield from _over_training(job.training, cap)
        return
    if not job.outputs:
        return
    spent = spent_together(job)
    if spent is None:
        what = f"the job opens outputs without noise, or with next to none; at most epsilon {cap} may be spent"
        yield Problem("epsilon_cap", what, "ask for outputs with noise, or under a permission without a cap")
    elif spent.epsilon > Decimal(cap):
        what = f"the job spends epsilon {spent.epsilon:f}; at most {cap} may be spent"
        yield Problem("epsilon_cap", what, "ask for more noise, or for fewer answers")


def _over_training(training: Training, cap: str) -> Iterable[Problem]:
    terms = training.privacy
    if terms is None:
        what = f"a training without differential privacy has no formal guarantee; at most epsilon {cap} may be spent"
        yield Problem("epsilon_cap", what, "train with terms of privacy, or under a permission without a cap")
    elif Decimal(terms.epsilon) > Decimal(cap):
        what = f"the training spends epsilon {terms.epsilon}; at most {cap} may be spent"
        yield Problem("epsilon_cap", what, "use more noise or fewer steps")


def _subject(grant: Grant, asset: Asset) -> Iterable[Problem]:
    if not isinstance(grant.subject, DatasetSubject):
        return
    if grant.subject.version != asset.dataset.version:
        what = f"given for version {grant.subject.version} of {grant.subject.name}, not {asset.dataset.version}"
        yield Problem("subject.version", what, "use that version, or ask the owner for a grant on this one")
    elif grant.subject.commitment != asset.dataset.commitment:
        yield Problem("subject.commitment", "given for other rows under this version", "ask the owner for a new one")


def _job_type(asked: JobType, permitted: tuple[JobType, ...], *, derived: bool) -> Problem:
    name, on = ("derived_job_types", "models that come of it") if derived else ("job_types", "it")
    kinds = ", ".join(kind.value for kind in permitted) or "none"
    return Problem(name, f"{asked.value} jobs on {on} are not permitted; permitted: {kinds}", "ask the owner")


def _named(name: str, value: str, permitted: tuple[str, ...]) -> Iterable[Problem]:
    if value not in permitted:
        yield Problem(name, f"{value} is not permitted; permitted: {', '.join(permitted)}", "use a permitted one")


def _finding(asset: Asset, grant: Grant, problem: Problem, code: ErrorCode = ErrorCode.NO_CONSENT) -> Finding:
    what = f"{asset.where}: {problem.what}"
    return Finding(code, Problem(f"grants.{grant.grant_id[:SHOWN_DIGITS]}.{problem.where}", what, problem.remedy))
