"""An owner asks how to make people of a table alike: her own rows are read in this process, and steps of a recipe come of it."""

from __future__ import annotations

from pathlib import Path

from parties.raw_file import raw_file
from parties.storage.files import read_public
from privacy.preparation.anonymity.hierarchy_file import MAX_HIERARCHY_BYTES, hierarchies_from_yaml
from privacy.preparation.anonymity.proposal import Proposal, default_hierarchies, propose
from privacy.preparation.anonymity.search import Demand
from privacy.preparation.data_contract import DataContract, DataRole
from privacy.preparation.recipes.recipe import Recipe


def anonymise_file(file: Path, contract: DataContract, hierarchy_file: Path | None, demand: Demand) -> Proposal:
    """Finds the steps of the least loss that fulfil a demand.

    Args:
        file: raw rows, secret.
        contract: says which columns are quasi-identifiers, and which are sensitive.
        hierarchy_file: rules by column (YAML), where the bands of public ranges do not do; None for none.
        demand: what is asked.

    Raises:
        ConfideError: INVALID_RECIPE (the author's fault): the hierarchies; INVALID_ARGUMENT, INVALID_DATA: as for `propose`.
    """
    given = {} if hierarchy_file is None else hierarchies_from_yaml(read_public(hierarchy_file, max_bytes=MAX_HIERARCHY_BYTES))
    hierarchies = default_hierarchies(contract, given)
    sensitive = contract.names(DataRole.SENSITIVE) if demand.l > 1 else ()
    with raw_file(file) as raw:
        wanted = [*(hierarchy.column for hierarchy in hierarchies), *sensitive]
        return propose(raw.batches(wanted) if wanted else (), hierarchies, demand, sensitive)


def recipe_of(proposal: Proposal, contract: DataContract) -> Recipe:
    """Returns a recipe of the proposed steps alone, to which an owner adds others."""
    return Recipe(f"{contract.name[:53]}-anonymous", 1, contract.name, proposal.steps)
