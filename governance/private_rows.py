"""Whether a row of a data set tells of one person alone, and a person has few enough, as a job with noise about rows counts them.

Sensitivity is of the rows that are registered, in a private training, and in evaluations and summaries with noise. A recipe may
make several of one row, or make a row of other people's: then a person stands behind more of them than the job says, or behind an
unknown number, and its epsilon would be too small. Only the owner knows how its rows were made, so only its party can refuse. It
refuses what the recipe shows, and more rows of one person than the job counts where the registration has counted them, by a
column that names people, or its owner has declared them. Of other rows nobody knows whose they are, and the job's number is as
declared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from privacy.accounting.statement import terms_of
from privacy.augmentation.technique import Reads, Use
from protocols.errors import Problem
from protocols.job import Job
from protocols.private_training import Unit
from protocols.row_noise import adds_row_noise, rows_of_person

_DRAWS_CELLS, _LEAVES_OUT_GROUPS, _LEAVES_OUT_EQUAL, _AUGMENTS = (
    "impute-draw",
    "suppress-small-groups",
    "drop-duplicates",
    "augment",
)
_REMEDY = "register the rows again without this step, or leave them out of the job"


def people_problems(counted: int, rows_per_person: int | None, *, where: str) -> Iterable[Problem]:
    """Yields why a person has more rows than the noise of a job that protects persons is for.

    Args:
        counted: for how many rows of one the noise is.
        rows_per_person: of the job's data sets of these people, as they are registered; None if that is unknown.
        where: the data set, for the problems.
    """
    if rows_per_person is not None and rows_per_person > counted:
        what = f"it has up to {rows_per_person} rows of one person; the job counts {counted}"
        yield Problem(
            where, what, f"protect persons with rows_per_person {rows_per_person} or more, or register fewer rows of one"
        )


def rows_counted(job: Job) -> int | None:
    """Returns for how many rows of one person, or made of one row, the noise of a job is; None without noise about rows."""
    terms = terms_of(job)
    if terms is not None:
        return terms.rows_per_person
    return rows_of_person(job) if adds_row_noise(job) else None


def protects_persons(job: Job) -> bool:
    """Whether the noise of a job is for all rows of a person.

    Rows that a training protects one by one may be of whom they like. What an evaluation or a summary opens hides as many rows of
    a person as the job says, and where she has more it would hide none of them.
    """
    terms = terms_of(job)
    if terms is not None:
        return terms.unit is not Unit.ROW
    return adds_row_noise(job)


def row_problems(counted: int, statement: Mapping[str, Any] | None, *, where: str) -> Iterable[Problem]:
    """Yields why rows are not those of single people, or more of one than the noise is for.

    Args:
        counted: for how many rows of one the noise is.
        statement: the owner's, of the preparation of a data set (`governance.preparation`), as a document; None if it was
            registered as it was.
        where: the data set, for the problems.
    """
    if statement is None:
        return
    keys = {column["name"] for column in statement["contract"]["columns"] if column["role"] == "linkage-key"}
    rows = 1
    for step in statement["recipe"]["steps"]:
        if step["step"] == _AUGMENTS:
            reads, made = _augmented(step)
            rows *= made
            if reads is not Reads.OWN_ROW:
                yield Problem(where, f"its recipe makes rows by {step['technique']}, from {reads.value}", _REMEDY)
        elif step["step"] == _DRAWS_CELLS:
            yield Problem(where, "its recipe fills cells with other people's values", _REMEDY)
        elif step["step"] == _LEAVES_OUT_GROUPS:
            yield Problem(where, "its recipe leaves rows out by how many other rows are like them", _REMEDY)
        elif step["step"] == _LEAVES_OUT_EQUAL and "columns" in step and not keys & set(step["columns"]):
            # Without columns only rows that are equal throughout fall together, with a key only rows of one person.
            what = "its recipe keeps of rows that are alike in some columns the first, whoever's it is"
            yield Problem(where, what, "name the linkage key among the columns, or no columns, and register the rows again")
    if rows > counted:
        what = f"its recipe makes up to {rows} rows of one; the noise is for {counted}"
        remedy = f"register the rows without copies, or ask for persons with rows_per_person {rows} or more"
        yield Problem(where, what, remedy)


def _augmented(step: Mapping[str, Any]) -> tuple[Reads, int]:
    """Returns what a technique reads, and how many rows it leaves of one."""
    # Few parties ever have augmented rows, and the catalogue loads every technique.
    from privacy.augmentation.table_techniques import TABLES

    technique = next(each for each in TABLES if each.name == step["technique"])
    return technique.statement.reads, 1 if technique.use is Use.REPLACES else 1 + int(step["copies"])
