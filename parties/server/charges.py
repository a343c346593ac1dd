"""What a job charges this party: to accounts of populations, which only their owner knows."""

from __future__ import annotations

from governance.budget.amounts import Amount, charges, of_populations
from parties.storage.database import Tables
from protocols.job import Job


def charges_of(tables: Tables, job: Job, party: str) -> dict[str, Amount]:
    """Returns what a job charges a party, by account, as of one transaction.

    Args:
        tables: of that transaction.
        job: the job.
        party: this party, whose database it is.
    """
    return of_populations(charges(job, party), tables.datasets.populations())
