"""Whether a row of a data set tells of one person alone, and a person has few enough, as a private training counts them.

Sensitivity is of the rows that are registered. A recipe may make several of one row, or make a row of other people's: then a
person stands behind more of them than the job says, or behind an unknown number, and its epsilon would be too small. Only the
owner knows how its rows were made, so only its party can refuse. It refuses what the recipe shows, and more rows of one person
than the job counts where the registration has counted them, by a column that names people, or its owner has declared them. Of
other rows nobody knows whose they are, and the job's number is as declared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from privacy.augmentation.technique import Reads, Use
from protocols.errors import Problem
from protocols.private_training import PrivateTraining, Unit

_DRAWS_CELLS, _LEAVES_OUT_GROUPS, _LEAVES_OUT_EQUAL, _AUGMENTS = (
    "impute-draw",
    "suppress-small-groups",
    "drop-duplicates",
    "augment",
)
_REMEDY = "register the rows again without this step, or train without them"


def people_problems(terms: PrivateTraining, rows_per_person: int | None, *, where: str) -> Iterable[Problem]:
    """Yields why a person has more rows than the terms count.

    Args:
        terms: of the training.
        rows_per_person: of the data set, as it is registered; None if that is unknown. Rows that are protected one by one may be
            of whom they like.
        where: the data set, for the problems.
    """
    if terms.unit is not Unit.ROW and rows_per_person is not None and rows_per_person > terms.rows_per_person:
        what = f"it has up to {rows_per_person} rows of one person; the terms count {terms.rows_per_person}"
        yield Problem(
            where, what, f"protect persons with rows_per_person {rows_per_person} or more, or register fewer rows of one"
        )


def row_problems(terms: PrivateTraining, statement: Mapping[str, Any] | None, *, where: str) -> Iterable[Problem]:
    """Yields why rows are not those of single people, or more of one than the terms say.

    Args:
        terms: of the training.
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
    if rows > terms.rows_per_person:
        what = f"its recipe makes up to {rows} rows of one; the terms count {terms.rows_per_person} of a person"
        yield Problem(where, what, f"protect persons with rows_per_person {rows} or more, or register the rows without copies")


def _augmented(step: Mapping[str, Any]) -> tuple[Reads, int]:
    """Returns what a technique reads, and how many rows it leaves of one."""
    # Few parties ever have augmented rows, and the catalogue loads every technique.
    from privacy.augmentation.table_techniques import TABLES

    technique = next(each for each in TABLES if each.name == step["technique"])
    return technique.statement.reads, 1 if technique.use is Use.REPLACES else 1 + int(step["copies"])
