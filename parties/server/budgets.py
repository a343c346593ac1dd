"""A job against this party's budgets: what it charges, what the policy or a person permits, and the reservation."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from governance.admission import Finding
from governance.budget.amounts import charges, dataset_account, policy_caps
from governance.budget.ledger import spent
from governance.policy.budgets import Budgets, Caps
from parties.server.party import Party
from parties.storage.database import Tables
from protocols.errors import ErrorCode, Problem
from protocols.job import Job, JobType


def budget_findings(party: Party, tables: Tables, job: Job) -> tuple[Finding, ...]:
    """Returns every budget of this party that does not suffice for a job; empty if all do, or the job has reserved already."""
    charged = charges(job, party.id)
    caps = caps_of(tables, party.policy.budgets, charged)
    found = [
        *tables.ledger.problems(job.job_id, charged, caps),
        *_without_guarantee(party, tables, job),
        *_assessed(party, tables, job),
    ]
    return tuple(Finding(ErrorCode.BUDGET_EXHAUSTED, problem) for problem in found)


def reserve_budget(party: Party, tables: Tables, job: Job, now: datetime) -> None:
    """Sets a job's charges aside, in the transaction of what countersigns it; again changes nothing.

    Raises:
        ConfideError: BUDGET_EXHAUSTED (the owner's limit), with every cap that would be broken; JOB_CONFLICT (ours): the job's
            charges are settled.
    """
    charged = charges(job, party.id)
    tables.ledger.reserve(job.job_id, charged, caps_of(tables, party.policy.budgets, charged), now)


def budgets_in_words(party: Party, tables: Tables, job: Job) -> tuple[str, ...]:
    """Returns at what this party's accounts would stand with a job, for its people; without accounts that it does not charge."""
    charged = charges(job, party.id)
    caps = caps_of(tables, party.policy.budgets, charged)
    said = []
    for account, amount in charged.items():
        others = [entry for entry in tables.ledger.of_account(account) if entry.job_id != job.job_id]
        total, (queries, answers, epsilon, _) = spent(others) + amount, caps[account].in_words
        said.append(
            f"{account} would stand at epsilon {total.epsilon_in_words} of {epsilon}, delta {total.delta:f}, "
            f"{total.queries} of {queries} queries, {total.answers} of {answers} answers"
        )
    return tuple(said)


def _without_guarantee(party: Party, tables: Tables, job: Job) -> Iterable[Problem]:
    """A plain training spends nothing itself; but what its model will say of the rows has no epsilon that a cap could bound."""
    if job.training is None or job.training.privacy is not None:
        return
    own = [dataset_account(dataset.name) for dataset in job.datasets if dataset.party == party.id]
    for account, caps in caps_of(tables, party.policy.budgets, own).items():
        if caps.epsilon is not None:
            what = f"a training without differential privacy has no formal guarantee; epsilon {caps.epsilon:f} permitted"
            yield Problem(f"budget.{account}", what, "train with terms of privacy, or ask its owner to take the cap away")


def _assessed(party: Party, tables: Tables, job: Job) -> Iterable[Problem]:
    """The counts of an assessment have no noise: under a cap on epsilon no release can rest on one, so it says what to do."""
    if job.job_type is not JobType.ASSESS:
        return
    for account, caps in caps_of(tables, party.policy.budgets, charges(job, party.id)).items():
        if caps.epsilon is not None:
            what = f"an assessment opens counts without noise, and a cap on epsilon, here {caps.epsilon:f}, permits none"
            remedy = (
                f"finish the private trainings, then have a privacy officer take the cap away (confide budget set {account} "
                f"without --epsilon): from then on queries and answers bound what is asked"
            )
            yield Problem(f"budget.{account}", what, remedy)


def caps_of(tables: Tables, budgets: Budgets, accounts: Iterable[str]) -> dict[str, Caps]:
    """Returns the caps of accounts: those that a person has set for the account, else those of the policy."""
    found = {account: tables.ledger.find_caps(account) for account in accounts}
    return {account: policy_caps(budgets, account) if own is None else own.caps for account, own in found.items()}
