"""Whose rows a registration is of: data sets of the same people share one budget, and are found where they do not.

The owner declares a population; undeclared, a data set is its own. A name stays with its population, since what was spent of it
stands on that account. Rows that are registered under another name of another population are refused, and so is a new data set
that names people of another population, or is aligned with one, unless the owner declares whose it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from governance.budget.amounts import dataset_account, policy_caps
from governance.policy.budgets import Budgets, Caps
from parties.arrays import arrays_from_bytes
from parties.storage.database import Tables
from parties.storage.datasets import DatasetRecord
from parties.storage.sealed import Purpose, SealedFiles
from privacy.preparation.contract import PreparedRows
from privacy.preparation.people import are_same_rows, people_in_both
from protocols.errors import ConfideError, ErrorCode

PEOPLE = "people"  # in the sealed file of registered rows: digests of whom they name


def datasets_by_account(tables: Tables) -> Mapping[str, tuple[str, ...]]:
    """Returns the data sets of every population by its account, in order; for the owner's people."""
    found: dict[str, tuple[str, ...]] = {}
    for name, population in tables.datasets.populations().items():
        account = dataset_account(population)
        found[account] = (*found.get(account, ()), name)
    return found


def caps_in_force(tables: Tables, budgets: Budgets, account: str) -> Caps:
    """Returns the caps of an account: those that a person has set for it, else those of the policy.

    Raises:
        ConfideError: INVALID_ARGUMENT (the asker's fault): it is no account.
    """
    own, caps = tables.ledger.find_caps(account), policy_caps(budgets, account)
    if own is not None:
        return own.caps
    kind, _, name = account.partition("/")
    if kind != "dataset":
        return caps
    return budgets.of_population(name, datasets_by_account(tables).get(account, ()))


@dataclass(frozen=True)
class Newcomer:
    """Rows that are about to be registered; secret but for the names.

    Attributes:
        name: of the data set.
        declared: the population that the owner declares; None if it declares none.
        rows: that are registered.
        alignment: public; empty if there is none.
        people: (people,) uint64 digests of those whom they name; empty if no column names people.
    """

    name: str
    declared: str | None
    rows: PreparedRows
    alignment: str
    people: NDArray[np.uint64]

    def population(self, tables: Tables) -> str:
        """Returns whose rows these are, as of one transaction.

        Raises:
            ConfideError: INVALID_ARGUMENT (the owner's fault): another population is declared than of the versions before, of
                which something was spent, or whose caps a person has set.
        """
        before = tables.datasets.populations().get(self.name)
        population = self.declared or before or self.name
        if before in (None, population):
            return population
        account = dataset_account(before)
        if account in tables.ledger.accounts():
            what = f"{self.name} is of the population {before}, whose budget was used; under another one nothing was spent of it"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy=f"Leave --population out, or declare {before}.")
        return population

    def overlaps(self, sealed: SealedFiles, others: Iterable[DatasetRecord], population: str) -> Mapping[str, int]:
        """Returns how many people of each other population these rows are of too, and refuses what nobody has declared.

        Args:
            sealed: this party's sealed files.
            others: registrations to compare with.
            population: whose rows these are.

        Raises:
            ConfideError: INVALID_ARGUMENT (the owner's fault): the rows, or without a declared population their people, are
                registered under another name of another population; STATE_DAMAGED (the operator's): a sealed file.
        """
        found: dict[str, int] = {}
        for record in others:
            if record.name == self.name or record.population == population:
                continue
            arrays = arrays_from_bytes(sealed.read(Purpose.DATASET, record.object_id, record.sealed_name))
            if self._is_same(record, arrays):
                what = (
                    f"these are the rows of {record.name}, version {record.version}; under another name nothing was spent of them"
                )
                remedy = f"Register them as the next version of {record.name}, or declare --population {record.population}."
                raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy=remedy)
            common = self._common(record, arrays)
            if common and self.declared is None:
                what = f"{common} of these people are in {record.name} too, of the population {record.population}"
                remedy = (
                    f"Declare --population {record.population}, so that both have one budget. If the column names no people, "
                    f"give it the role ignored; if others have these names, declare --population {self.name}."
                )
                raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy=remedy)
            if common:
                found[record.population] = max(common, found.get(record.population, 0))
        return found

    def _is_same(self, record: DatasetRecord, arrays: Mapping[str, NDArray[Any]]) -> bool:
        # Rows that are aligned for different projects have a name for each of them.
        if record.num_rows != self.rows.num_rows or record.alignment != self.alignment:
            return False
        return are_same_rows(self.rows, PreparedRows(arrays["features"], arrays["labels"], {}))

    def _common(self, record: DatasetRecord, arrays: Mapping[str, NDArray[Any]]) -> int:
        if self.alignment and self.alignment == record.alignment:
            return record.num_rows
        return people_in_both(self.people, arrays[PEOPLE]) if PEOPLE in arrays else 0
