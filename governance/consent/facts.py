"""What a party knows of a job beyond its document, as far as consent depends on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from protocols.errors import Problem
from protocols.job import DatasetRef, Job, ModelRef


@dataclass(frozen=True)
class Source:
    """Rows that went into a model; public.

    Attributes:
        dataset: the registration.
        models: the models that hold what was learnt from it: the one asked about first, then those that it was trained from,
            back to the earliest that was trained on the rows.
        is_known_to_owner: whether the owner of the rows took part in all the trainings between, so that it knows for itself that
            the model comes of them.
    """

    dataset: DatasetRef
    models: tuple[ModelRef, ...]
    is_known_to_owner: bool = True


@dataclass(frozen=True)
class JobFacts:
    """Whose rows a job is over, and whose job it is; public.

    Attributes:
        institution: of the querier, or None if she belongs to none.
        owners: whose rows; None if the job is on a model of which this party does not know what it was trained on.
        num_rows: how many in all; likewise.
    """

    institution: str | None
    owners: frozenset[str] | None
    num_rows: int | None

    def too_small(self, *, min_parties: int, min_rows: int) -> Iterable[Problem]:
        """Yields why a job is over the rows of too few owners, or over too few rows."""
        if self.owners is not None and len(self.owners) < min_parties:
            what = f"the job is over the rows of {len(self.owners)} owner(s); at least {min_parties} are demanded"
            yield Problem("min_parties", what, "use the data sets of more owners")
        if self.num_rows is not None and self.num_rows < min_rows:
            what = f"the job is over {self.num_rows} row(s); at least {min_rows} are demanded"
            yield Problem("min_rows", what, "use more rows")


def facts_of(job: Job, *, institution: str | None, sources: tuple[Source, ...]) -> JobFacts:
    """Returns the facts of a job: its own data sets count, and for a job without any those behind its model.

    Args:
        job: what is asked.
        institution: of the querier, or None.
        sources: what the job's model was trained on, as far as this party knows.
    """
    datasets = job.datasets or tuple(source.dataset for source in sources)
    if not datasets:
        return JobFacts(institution, None, None)
    owners = frozenset(dataset.party for dataset in datasets)
    if job.datasets:
        return JobFacts(institution, owners, job.num_rows)
    # Parts with one alignment are columns of the same rows, which count once.
    rows = {dataset.alignment or (dataset.party, dataset.name, dataset.version): dataset.num_rows for dataset in datasets}
    return JobFacts(institution, owners, sum(rows.values()))
