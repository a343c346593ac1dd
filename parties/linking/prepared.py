"""A side's set from a raw file: prepared under a contract by a recipe, then checked as other sets are."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from governance.preparation import SALT_BYTES, PreparationStatement, commit_raw, commit_seed
from parties.config import PartyConfig
from parties.linking.made import Made
from parties.linking.staging import CheckedRows, Terms, check_set
from parties.preparing.files import memory_file
from parties.preparing.preparing import Instructions, MakePseudonyms, draw_seed, prepare_file
from privacy.preparation.alignment import identifier_column
from privacy.preparation.contract import OnViolation
from privacy.preparation.recipes.steps.pseudonymise import Pseudonymise
from privacy.preparation.table import Content, FileFormat, read_table
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.identifiers.normalisation import normalise_all


def stand_ins(_project: str, identifiers: Sequence[str]) -> Mapping[str, str]:
    """Returns normal forms in place of pseudonyms, for a set that is only counted: nobody is asked, and nothing is used up."""
    return dict(zip(identifiers, normalise_all(identifiers), strict=True))


def read_prepared_set(
    config: PartyConfig, terms: Terms, *, file: Path, instructions: Instructions, make_pseudonyms: MakePseudonyms
) -> CheckedRows:
    """Prepares a raw file and checks what comes out; rows are matched by the pseudonyms of the linkage key.

    Args:
        config: of this institution.
        terms: what is agreed.
        file: CSV or Parquet, secret; every prepared row with an identifier of its own.
        instructions: contract and recipe, public; the recipe pseudonymises the contract's linkage key.
        make_pseudonyms: as for `parties.preparing.preparing.prepare_file`.

    Raises:
        ConfideError: INVALID_RECIPE (the author's fault): no step pseudonymises the linkage key; else as
            `parties.preparing.preparing.prepare_file` and `parties.linking.staging.read_set`.
    """
    schema, seed, raw_salt = instructions.contract.schema, draw_seed(), secrets.token_bytes(SALT_BYTES)
    key = identifier_column(schema)
    if not any(isinstance(step, Pseudonymise) and step.column == key for step in instructions.recipe.steps):
        problem = Problem("steps", f"none pseudonymises {key}, so that it does not come out", "add a step pseudonymise")
        raise ConfideError(ErrorCode.INVALID_RECIPE, "rows are aligned by the pseudonyms of a linkage key", problems=[problem])
    with memory_file() as sink:
        outcome = prepare_file(
            file,
            instructions,
            sink=sink,
            seed=seed,
            on_violation=OnViolation.REFUSE,  # as for every aligned set: the other side must be able to count on a row
            make_pseudonyms=make_pseudonyms,
        )
        sink.seek(0)
        table = read_table(sink, schema, content=Content.ALIGNED_ROWS, file_format=FileFormat.PARQUET)
    said = PreparationStatement(
        dataset="",
        num_rows=0,
        rows_commitment="",
        contract=instructions.contract,
        recipe=instructions.recipe,
        seed_commitment=commit_seed(seed),
        raw_commitment=commit_raw(outcome.raw, raw_salt),
        code=version("confide"),
    )
    did = {key: value for key, value in outcome.to_document().items() if key != "raw"}  # a bare digest can be guessed
    return check_set(config, terms, table, schema, made=Made(said.to_document(), did, seed.reveal(), raw_salt))
