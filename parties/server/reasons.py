"""Every reason for which this party would not take part in a job: admission, consent, budgets and policy, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from governance.admission import Finding, examine
from governance.budget.amounts import charges
from parties.assessed_jobs import assessment_findings
from parties.prepared_jobs import preparation_findings
from parties.server.approvals import standing
from parties.server.budgets import budget_findings
from parties.server.consents import consent_findings
from parties.server.party import Party, holdings
from parties.server.releases import release_findings, warm_release
from parties.storage.database import Tables
from privacy.accounting.statement import claim_problems
from protocols.errors import ConfideError
from protocols.job import Job, check


class JobRefusal(ConfideError):
    """This party does not take part in a job; the code is that of the first reason, the problems are all of them.

    Attributes:
        codes: the different codes of all reasons, in their order.
    """

    def __init__(self, findings: Sequence[Finding], *, party: str) -> None:
        """Takes at least one reason, and the party that refuses."""
        problems = [finding.problem for finding in findings]
        what = f"{party} refuses the job for {len(problems)} reason(s)"
        super().__init__(findings[0].code, what, problems=problems, party=party)
        self.codes = tuple(dict.fromkeys(finding.code.name for finding in findings))


def admission_findings(party: Party, tables: Tables, job: Job, now: datetime) -> tuple[Finding, ...]:
    """Returns what is wrong with the job itself, as this party sees it: roles, data sets, model, sizes, times."""
    return tuple(examine(job, directory=party.directory, holdings=holdings(party, tables, job), now=now))


def reasons(party: Party, tables: Tables, job: Job, *, plan: bytes | None, now: datetime) -> tuple[Finding, ...]:
    """Returns every reason against a job; empty if this party takes part, or waits for people.

    Args:
        party: this party.
        tables: of the transaction in which the job is decided; nothing is written.
        job: what is asked.
        plan: canonical bytes of the plan that this party derived, or None before that: then its policy is not asked.
        now: the time, UTC.
    """
    found = [*admission_findings(party, tables, job, now), *consent_findings(party, tables, job, now)]
    found += [*budget_findings(party, tables, job), *release_findings(party, tables, job, now)]
    found += [*assessment_findings(tables, job, party=party.id), *preparation_findings(tables, job, party=party.id)]
    if plan is not None:
        found += standing(party, tables, job, plan).findings
    return tuple(dict.fromkeys(found))


def warm_reasons(party: Party, job: Job) -> None:
    """Derives what the accountants say of a job before the transaction opens in which `reasons` asks them.

    The first time takes them a second, for which every other writer would wait; they keep what they found. What is wrong is for
    `reasons` to say.

    Args:
        party: this party.
        job: what is asked; it need not be sound.
    """
    with suppress(ConfideError):
        if not any(check(job)):
            tuple(claim_problems(job))
            charges(job, party.id)
    warm_release(party, job)


def codes_of(error: ConfideError) -> tuple[str, ...]:
    """Returns the names of all codes of a refusal."""
    return error.codes if isinstance(error, JobRefusal) else (error.code.name,)
