"""A job against this party's budgets: what it charges, what the policy or a person permits, and the reservation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from governance.admission import Finding
from governance.budget.amounts import Amount, consumer_account, dataset_account, model_account
from governance.budget.ledger import Shortfall, spent
from governance.policy.budgets import Budgets, Caps
from parties.populations import caps_in_force, datasets_by_account
from parties.server.charges import charges_of
from parties.server.party import Party
from parties.storage.database import Tables
from privacy.accounting.statement import NO_GUARANTEE
from protocols.errors import ErrorCode, Problem
from protocols.job import Job

_NAMED = 2  # data sets of an account, in a preview whose words are bounded


def budget_findings(party: Party, tables: Tables, job: Job) -> tuple[Finding, ...]:
    """Returns every budget of this party that does not suffice for a job; empty if all do, or the job has reserved already.

    The querier reads them: they say what her job needs of the data sets that she named, and not where accounts stand, how their
    populations are called or what else is of them.
    """
    short = [
        problem
        for shortfall in _shortfalls(party, tables, job)
        for account in _as_asked(party, tables, job, shortfall.account)
        for problem in replace(shortfall, account=account).problems
    ]
    return tuple(Finding(ErrorCode.BUDGET_EXHAUSTED, problem) for problem in (*short, *_without_guarantee(party, tables, job)))


def note_budget_refusal(party: Party, tables: Tables, job: Job, now: datetime) -> None:
    """Appends to the audit log which accounts do not cover a job, with their figures; nothing if all do."""
    tables.ledger.note_refusal(job.job_id, _shortfalls(party, tables, job), now)


def reserve_budget(party: Party, tables: Tables, job: Job, now: datetime) -> None:
    """Sets a job's charges aside, in the transaction of what countersigns it; again changes nothing.

    Raises:
        ConfideError: BUDGET_EXHAUSTED (the owner's limit), with every cap that would be broken; JOB_CONFLICT (ours): the job's
            charges are settled.
    """
    charged = charges_of(tables, job, party.id)
    caps = caps_of(tables, party.policy.budgets, charged)
    tables.ledger.reserve(job.job_id, charged, caps, now, kind=job.job_type.value)


def budgets_in_words(party: Party, tables: Tables, job: Job) -> tuple[str, ...]:
    """Returns at what this party's accounts would stand with a job, for its people; without accounts that it does not charge."""
    charged = charges_of(tables, job, party.id)
    caps = caps_of(tables, party.policy.budgets, charged)
    sets = datasets_by_account(tables)
    said = []
    for account, amount in charged.items():
        others = [entry for entry in tables.ledger.of_account(account) if entry.job_id != job.job_id]
        total = spent(others) + amount
        words = f"{account} would stand at {_standing_in_words(total, caps[account])}"
        if len(names := sets.get(account, ())) > 1:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            words += f"; one account of {', '.join(names[:_NAMED])}{more}"
        if amount.epsilon is None and job.job_type.value in caps[account].permits:
            words += f"; {job.job_type.value} is permitted beside the cap: {NO_GUARANTEE} for what it opens"
        said.append(words)
    return tuple(said)


def _standing_in_words(total: Amount, caps: Caps) -> str:
    queries, answers, epsilon, _ = caps.in_words
    units = [part.bound.unit for part in total.parts]
    whom = f"; epsilon is for {units[0] if len(units) == 1 else f'{len(units)} units of privacy'}" if units else ""
    return (
        f"epsilon {total.epsilon_in_words} of {epsilon}, delta {total.delta:f}, "
        f"{total.queries} of {queries} queries, {total.answers} of {answers} answers{whom}"
    )


def _shortfalls(party: Party, tables: Tables, job: Job) -> tuple[Shortfall, ...]:
    charged = charges_of(tables, job, party.id)
    caps = caps_of(tables, party.policy.budgets, charged)
    return tables.ledger.shortfalls(job.job_id, charged, caps, kind=job.job_type.value)


def _without_guarantee(party: Party, tables: Tables, job: Job) -> Iterable[Problem]:
    """A plain training spends nothing itself; but what its model will say of the rows has no epsilon that a cap could bound."""
    if job.training is None or job.training.privacy is not None:
        return
    populations = tables.datasets.populations()
    for name in sorted({dataset.name for dataset in job.datasets if dataset.party == party.id}):
        caps = caps_in_force(tables, party.policy.budgets, dataset_account(populations.get(name, name)))
        if caps.epsilon is not None and job.job_type.value not in caps.permits:
            what = f"a training without differential privacy has {NO_GUARANTEE}, and a cap on epsilon permits none"
            remedy = "train with terms of privacy, or ask its owner to permit it beside the cap"
            yield Problem(f"budget.{dataset_account(name)}", what, remedy)
    if job.model_ref is None or party.id not in job.computing_parties:
        return
    for account in (consumer_account(job.querier, job.model_ref), model_account(job.model_ref)):
        caps = caps_in_force(tables, party.policy.budgets, account)
        if caps.epsilon is not None and job.job_type.value not in caps.permits:
            # One step of next to no length, and the same model would answer under another name.
            what = "a training that starts from this model leaves another one, which the cap on its epsilon does not bind"
            yield Problem(f"budget.{account}", what, "ask its holder to permit it beside the cap")


def _as_asked(party: Party, tables: Tables, job: Job, account: str) -> Sequence[str]:
    """An account as the querier may know it: of a population, by the data sets of it that her job names."""
    known = datasets_by_account(tables).get(account, ())
    asked = sorted({dataset.name for dataset in job.datasets if dataset.party == party.id and dataset.name in known})
    return [dataset_account(name) for name in asked] or [account]


def caps_of(tables: Tables, budgets: Budgets, accounts: Iterable[str]) -> dict[str, Caps]:
    """Returns the caps of accounts: those that a person has set for the account, else those of the policy."""
    return {account: caps_in_force(tables, budgets, account) for account in accounts}
