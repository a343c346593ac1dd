"""Prepares an owner's raw file under a contract by a recipe, in a confined process; pseudonyms are made on the way."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from parties.config import PartyConfig
from parties.preparing.files import new_file
from parties.preparing.process import PreparingProcess
from parties.raw_file import raw_source, read_contract_file
from parties.storage.files import read_public
from privacy.preparation.contract import OnViolation
from privacy.preparation.data_contract import DataContract
from privacy.preparation.outcome import Outcome
from privacy.preparation.recipes.recipe import Recipe
from privacy.preparation.recipes.recipe_file import MAX_RECIPE_BYTES, recipe_from_yaml
from privacy.preparation.recipes.row_randomness import SEED_BYTES
from protocols.errors import ConfideError, ErrorCode
from protocols.secrets import SecretBytes

MakePseudonyms: TypeAlias = Callable[[str, Sequence[str]], Mapping[str, str]]


@dataclass(frozen=True)
class Instructions:
    """Under which contract a file is prepared, and by which recipe; public."""

    contract: DataContract
    recipe: Recipe

    @staticmethod
    def read(contract_file: Path, recipe_file: Path) -> Instructions:
        """Reads both files.

        Raises:
            ConfideError: INVALID_CONTRACT or INVALID_RECIPE (the author's fault); INVALID_ARGUMENT: they cannot be read.
        """
        recipe = recipe_from_yaml(read_public(recipe_file, max_bytes=MAX_RECIPE_BYTES))
        return Instructions(read_contract_file(contract_file), recipe)


def draw_seed() -> SecretBytes:
    """Draws the seed of one preparation from the operating system."""
    return SecretBytes(secrets.token_bytes(SEED_BYTES))


def with_the_others(config: PartyConfig | None) -> MakePseudonyms:
    """Returns how pseudonyms are made with the other institutions of a project; it refuses if there is no configuration."""

    def make(project: str, identifiers: Sequence[str]) -> Mapping[str, str]:
        from parties.linking.pseudonyms import pseudonyms_for

        if config is None:
            what = f"the recipe makes pseudonyms for project {project} with other institutions"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Name the institution's party.yaml with --config.")
        return pseudonyms_for(config, project, identifiers)

    return make


def prepare_file(
    file: Path,
    instructions: Instructions,
    *,
    sink: BinaryIO,
    seed: SecretBytes,
    on_violation: OnViolation,
    make_pseudonyms: MakePseudonyms,
) -> Outcome:
    """Prepares a raw file into an open one, as Parquet.

    Args:
        file: CSV or Parquet, secret.
        instructions: contract and recipe, public.
        sink: gets the prepared rows, secret; worthless if this raises.
        seed: 32 random bytes, secret.
        on_violation: whether rows that break the contract stop everything or are left out.
        make_pseudonyms: called with a project and the different identifiers of a column, for every step that needs pseudonyms.

    Raises:
        ConfideError: INVALID_DATA, INVALID_RECIPE, FILE_CHANGED, TOO_LARGE, INVALID_ARGUMENT (the owner's fault), WORKER_LOST,
            SETUP_INCOMPLETE (this institution's), and what making pseudonyms raises.
    """
    with (
        raw_source(file) as source,
        PreparingProcess(source, instructions.contract, instructions.recipe, sink=sink) as process,
    ):
        pseudonyms: dict[str, Mapping[str, str]] = {}
        if process.projects:
            identifiers = process.identifiers()
            for column, project in process.projects.items():
                pseudonyms[column] = make_pseudonyms(project, identifiers[column])
        return process.prepare(seed, pseudonyms, on_violation)


def prepare_to_file(
    file: Path, instructions: Instructions, out: Path, *, on_violation: OnViolation, config: PartyConfig | None
) -> Outcome:
    """Prepares a raw file into a new Parquet file of mode 0600, with a seed that is not kept; errors as for `prepare_file`."""
    with new_file(out) as sink:
        return prepare_file(
            file,
            instructions,
            sink=sink,
            seed=draw_seed(),
            on_violation=on_violation,
            make_pseudonyms=with_the_others(config),
        )


def preview_file(file: Path, instructions: Instructions, *, num_rows: int) -> Mapping[str, Any]:
    """Returns what `Preview.to_document` says of the first rows of a file, with `refused`; secret. Errors as `prepare_file`."""
    with (
        raw_source(file) as source,
        PreparingProcess(source, instructions.contract, instructions.recipe, sink=None) as process,
    ):
        return process.preview(num_rows, draw_seed())
