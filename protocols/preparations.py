"""What a training was prepared with: in the job's document, and what must hold of it that shows in the job alone.

A preparation is a job whose outcome went into the training: means and deviations by which features were standardised, figures by
which a setting was chosen. What it spent is charged already, and composes with what the training spends
(docs/differential-privacy.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from protocols.errors import Problem
from protocols.job_fields import check_decimal, check_hex, check_id, read_items, read_object, read_text, read_whole
from protocols.job_parts import MAX_COMPUTING_PARTIES, MAX_PREPARATIONS, JobType, Partition, Preparation, PreparedOpening
from protocols.private_job_checks import contributors
from protocols.private_training import PrivateTraining, Unit

if TYPE_CHECKING:  # the job imports this module
    from protocols.job import Job

PREPARING = (JobType.TRAIN, JobType.EVALUATE, JobType.ASSESS, JobType.SUMMARISE)
"""Types of jobs from which something about owners' rows is known before a training."""

_MOST_EPSILON = Decimal(100_000)  # of several jobs together, as a model's claims have it (`governance.privacy_claims`)
_MOST_ROWS = 1_000_000
_MOST_COLLUDERS = 63
_MOST_SHARE_DIGITS = 2 * 8 * 2 * 4_096  # of two sums of so many features
_BYTES = re.compile(r"(?:[0-9a-f]{2})+")


def preparation_document(preparation: Preparation) -> dict[str, Any]:
    """Returns a preparation as it stands in a job's document."""
    openings = [dict(vars(opening)) for opening in preparation.openings]
    return {**vars(preparation), "job_type": preparation.job_type.value, "openings": openings}


def read_preparations(entries: Any) -> tuple[Preparation, ...]:
    """Reads what `preparation_document` returned.

    Raises:
        ValueError: it is none.
    """
    return tuple(_preparation(entry) for entry in read_items(entries, MAX_PREPARATIONS))


def check_preparations(job: Job) -> Iterable[Problem]:
    """Yields what is wrong with what a job says that it was prepared with."""
    if job.prepared_with and job.job_type is not JobType.TRAIN:
        yield Problem("prepared_with", "a training alone is prepared with other jobs", "remove it")
        return
    names = [preparation.job for preparation in job.prepared_with]
    if names != sorted(set(names)):
        yield Problem("prepared_with", "a job stands twice, or out of order", "sort the ids, each once")
    for preparation in job.prepared_with:
        yield from _check_preparation(preparation)
        yield from _check_composition(job, preparation)


def rows_hidden(job: Job, terms: PrivateTraining) -> int:
    """Returns how many rows of one person a private training hides together, at all owners; public.

    Joined columns are parts of the same rows, so that its noise hides no more of them than one owner has.

    Args:
        job: with these terms.
        terms: of privacy.
    """
    return _rows_of_unit(job, terms) if job.partition is Partition.ROWS else terms.rows_per_person


def whole_epsilon(job: Job, terms: PrivateTraining) -> tuple[Decimal, Decimal]:
    """Returns epsilon and delta of a private training and of all that it was prepared with, added up; public.

    Args:
        job: whose checks have passed, so that each of its preparations has a bound.
        terms: of privacy.
    """
    epsilon = sum((Decimal(each.epsilon) for each in job.prepared_with), Decimal(terms.epsilon))
    return epsilon, sum((Decimal(each.delta) for each in job.prepared_with), Decimal(terms.delta))


def _check_preparation(preparation: Preparation) -> Iterable[Problem]:
    where = f"prepared_with.{preparation.job[:12]}"
    yield from check_hex(f"{where}.job", preparation.job, 32)
    if preparation.job_type not in PREPARING:
        yield Problem(f"{where}.job_type", f"a job {preparation.job_type.value} tells nothing of owners' rows", "leave it out")
    if preparation.epsilon:
        yield from check_decimal(f"{where}.epsilon", preparation.epsilon, Decimal(0), _MOST_EPSILON)
        yield from check_decimal(f"{where}.delta", preparation.delta, Decimal(0), Decimal(1))
        for name, value, most in (("rows", preparation.rows, _MOST_ROWS), ("colluders", preparation.colluders, _MOST_COLLUDERS)):
            if not 1 <= value <= most:
                yield Problem(f"{where}.{name}", f"must be 1 to {most}", "copy what the job says")
    elif preparation.delta != "0" or preparation.rows or preparation.colluders:
        yield Problem(where, "says more than that it has no bound", 'write delta "0", rows 0 and colluders 0')
    parties = [opening.party for opening in preparation.openings]
    if len(set(parties)) != len(parties):
        yield Problem(f"{where}.openings", "a party stands twice", "bring one share of each")
    for opening in preparation.openings:
        yield from check_id(f"{where}.openings.party", opening.party)
        yield from check_hex(f"{where}.openings.nonce", opening.nonce, 64)
        if _BYTES.fullmatch(opening.share) is None:
            yield Problem(f"{where}.openings.share", "hexadecimal digits are expected", "copy it whole")


def _check_composition(job: Job, preparation: Preparation) -> Iterable[Problem]:
    """A guarantee is of all that was computed from the rows before the first step, or it is none."""
    terms = None if job.training is None else job.training.privacy
    if terms is None:
        return
    where = f"prepared_with.{preparation.job[:12]}"
    if not preparation.epsilon:
        what = "it opened something without noise, or had no terms of privacy: no epsilon holds for a model prepared with it"
        yield Problem(where, what, "prepare with noise, or train without terms of privacy")
        return
    if preparation.rows < (needed := _rows_of_unit(job, terms)):
        what = f"its noise hides {preparation.rows} row(s) of a person together, and the training {needed}"
        yield Problem(where, what, f"prepare with rows_per_person {needed}, or protect fewer rows")
    if preparation.colluders < terms.colluders:
        what = f"its noise holds against {preparation.colluders} owner(s) who pool, and the training's against {terms.colluders}"
        remedy = f"prepare with noise_colluders {terms.colluders}, or train with colluders {preparation.colluders}"
        yield Problem(where, what, remedy)


def _rows_of_unit(job: Job, terms: PrivateTraining) -> int:
    """How many rows of what it protects as one the owners of a training have; other jobs may have them below each other."""
    return terms.rows_per_person * (len(contributors(job)) if terms.unit is Unit.PERSON_EVERYWHERE else 1)


def _preparation(entry: Any) -> Preparation:
    document = read_object(entry)
    if set(document) != set(Preparation.__annotations__):
        raise ValueError(f"a preparation has the fields {', '.join(Preparation.__annotations__)}")
    return Preparation(
        job=read_text(document["job"]),
        job_type=JobType(document["job_type"]),
        epsilon=read_text(document["epsilon"]),
        delta=read_text(document["delta"]),
        rows=read_whole(document["rows"]),
        colluders=read_whole(document["colluders"]),
        openings=tuple(_opening(each) for each in read_items(document["openings"], MAX_COMPUTING_PARTIES)),
    )


def _opening(entry: Any) -> PreparedOpening:
    document = read_object(entry)
    if set(document) != set(PreparedOpening.__annotations__):
        raise ValueError(f"an opening has the fields {', '.join(PreparedOpening.__annotations__)}")
    share = document["share"]
    if not isinstance(share, str) or len(share) > _MOST_SHARE_DIGITS:
        raise ValueError(f"a text of at most {_MOST_SHARE_DIGITS} digits is expected")
    return PreparedOpening(read_text(document["party"]), share, read_text(document["nonce"]))
