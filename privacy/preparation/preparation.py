"""How one raw file becomes the table of a contract by one recipe: what is read, what is dropped and why, what comes out.

Everything here follows from names and types alone; it is settled before a row is read. Direct identifiers are never read. A
linkage key is read only for the few steps that may name it, no other step sees it, and it leaves as a pseudonym or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from privacy.preparation.data_contract import DataContract, DataRole
from privacy.preparation.raw_table import RawTable
from privacy.preparation.recipes.recipe import Recipe
from privacy.preparation.recipes.step import Columns, Step
from privacy.preparation.recipes.steps.columns import Drop, Select
from privacy.preparation.recipes.steps.drop_duplicates import DropDuplicates
from privacy.preparation.recipes.steps.pseudonymise import Pseudonymise
from privacy.preparation.recipes.steps.shift_dates import ShiftDates
from privacy.preparation.schema import Role
from protocols.errors import ConfideError, ErrorCode, Problem

# These neither change a linkage key nor copy anything of it into another column.
_MAY_NAME_KEYS = (Select, Drop, DropDuplicates, ShiftDates, Pseudonymise)


@dataclass(frozen=True)
class Preparation:
    """A settled preparation; public apart from what the owner's file is called inside.

    Attributes:
        contract: which columns the task may have.
        recipe: how they are made.
        read: columns that are read of the file.
        dropped: why each other column of the file is not read.
        columns: those that come out, in the order of the schema, with the types that the recipe leaves.
        not_shared: columns that are read and do not come out.
    """

    contract: DataContract
    recipe: Recipe
    read: tuple[str, ...]
    dropped: Mapping[str, str]
    columns: Columns
    not_shared: tuple[str, ...]

    @property
    def pseudonymised(self) -> tuple[Pseudonymise, ...]:
        """The steps that need pseudonyms."""
        return _pseudonymised(self.recipe)


def settle(table: RawTable, contract: DataContract, recipe: Recipe) -> Preparation:
    """Settles a preparation, or says everything that stands against it.

    Args:
        table: of which only names and types of columns are looked at.
        contract: public.
        recipe: public.

    Raises:
        ConfideError: INVALID_RECIPE (the author's fault): made for another contract, a step that cannot work, a linkage key
            that a step may not touch, columns of the contract that do not come out; INVALID_DATA (the owner's fault): columns
            that the file lacks.
    """
    if recipe.contract != contract.name:
        problem = Problem("contract", f"is {recipe.contract}, not {contract.name}", "name the contract, or take its recipe")
        raise ConfideError(ErrorCode.INVALID_RECIPE, "the recipe is for another contract", problems=[problem])
    keys = contract.names(DataRole.LINKAGE_KEY)
    used = [key for key in keys if any(_names(step, key) for step in recipe.steps)]
    allowed = [name for name in contract.names() if name not in contract.names(DataRole.DIRECT_IDENTIFIER, DataRole.LINKAGE_KEY)]
    read = tuple(name for name in table.names if name in allowed or name in used)
    table.require(read or allowed)
    columns, problems = _through(recipe, table.columns(read), keys)
    lacking = [name for name in allowed if name not in table.names and _is_named(name, problems)]
    if lacking:
        table.require([*read, *lacking])
    wanted = [
        column.name for column in contract.schema.columns if column.role is not Role.IDENTIFIER or column.name in _made(recipe)
    ]
    if not problems:
        problems = [
            Problem(f"column {name}", "does not come out of the recipe", "read it from the file, or have a step make it")
            for name in wanted
            if name not in columns
        ]
    if problems:
        raise ConfideError(ErrorCode.INVALID_RECIPE, f"{len(problems)} problem(s) of the recipe with the file", problems=problems)
    left = {name: columns[name] for name in wanted}
    why = {name: _why(name, contract) for name in table.names if name not in read}
    return Preparation(contract, recipe, read, why, left, tuple(name for name in read if name not in left))


def _through(recipe: Recipe, columns: Columns, keys: Iterable[str]) -> tuple[Columns, list[Problem]]:
    pseudonymised: set[str] = set()
    for position, step in enumerate(recipe.steps):
        hidden = () if isinstance(step, _MAY_NAME_KEYS) else keys
        seen = {name: kind for name, kind in columns.items() if name not in hidden}
        problems = [_of_step(position, found, hidden) for found in step.problems(seen)]
        if isinstance(step, Pseudonymise) and step.column not in keys:
            what = "is no linkage key of the contract"
            problems.append(Problem(f"steps[{position}], column {step.column}", what, "give it that role, or drop the step"))
        if isinstance(step, Pseudonymise) and step.column in pseudonymised:
            what = "holds pseudonyms already"
            problems.append(Problem(f"steps[{position}], column {step.column}", what, "drop one of the steps"))
        if isinstance(step, ShiftDates) and set(step.columns) & set(keys):
            what = "is a linkage key, which no step may change"
            problems.append(Problem(f"steps[{position}], columns", what, "pseudonymise it"))
        if problems:
            return {}, problems
        columns = step.columns_after(columns)
        pseudonymised |= {step.column} if isinstance(step, Pseudonymise) else set()
    return columns, []


def _of_step(position: int, found: Problem, hidden: Iterable[str]) -> Problem:
    where = f"steps[{position}], {found.where}"
    if found.where in [f"column {key}" for key in hidden]:
        what = "is a linkage key, which this step may not see"
        return Problem(where, what, "pseudonymise it, and use it in no other step")
    return Problem(where, found.what, found.remedy)


def _is_named(name: str, problems: Iterable[Problem]) -> bool:
    return any(problem.where.endswith(f", column {name}") for problem in problems)


def _names(step: Step, key: str) -> bool:
    """Whether a step that may do so names a linkage key."""
    match step:
        case Pseudonymise():
            return step.column == key
        case ShiftDates():
            return step.person == key
        case DropDuplicates():
            return step.columns is not None and key in step.columns
        case _:
            return False


def _made(recipe: Recipe) -> set[str]:
    return {step.column for step in _pseudonymised(recipe)}


def _pseudonymised(recipe: Recipe) -> tuple[Pseudonymise, ...]:
    return tuple(step for step in recipe.steps if isinstance(step, Pseudonymise))


def _why(name: str, contract: DataContract) -> str:
    roles = {column.name: column.role for column in contract.columns}
    match roles.get(name):
        case None:
            return "not in the contract"
        case DataRole.DIRECT_IDENTIFIER:
            return "direct identifier"
        case _:
            return "linkage key that no step pseudonymises"
