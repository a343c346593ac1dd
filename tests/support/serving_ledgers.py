"""What a party's ledger and log say of a serving, read as its operator could."""

from __future__ import annotations

from governance.audit.entries import EntryKind, read_entry
from governance.budget.amounts import consumer_account, model_account
from governance.budget.ledger import Step
from protocols.job import Job, ModelRef
from tests.support.trial import Trial


def queries_of(trial: Trial, party: str, job: Job) -> list[dict[str, object]]:
    """The facts of every query of a serving that stands in a party's log."""
    with trial.tables(party) as tables:
        entries = [read_entry(entry.body) for entry in tables.audit.entries(0, tables.audit.size())]
    return [dict(entry.facts) for entry in entries if entry.kind is EntryKind.QUERY and entry.facts["job"] == job.job_id]


def charges_of(trial: Trial, party: str, job: Job) -> dict[Step, tuple[int, int]]:
    """Queries and answers that a party's ledger says of a serving, by step; alike of the model and of who asks it."""
    with trial.tables(party) as tables:
        entries = tables.ledger.of_job(job.job_id)
    ref = job.model_ref or ModelRef("", "")
    told = [
        {entry.step: (entry.amount.queries, entry.amount.answers) for entry in entries if entry.account == account}
        for account in (model_account(ref), consumer_account(job.querier, ref))
    ]
    assert sum(len(steps) for steps in told) == len(entries)
    assert told[0] == told[1]
    return told[0]
