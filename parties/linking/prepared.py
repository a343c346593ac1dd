"""A side's set from a raw file: prepared under a contract by a recipe, then checked as other sets are."""

from __future__ import annotations

import secrets
from importlib.metadata import version
from pathlib import Path

from governance.preparation import SALT_BYTES, PreparationStatement, commit_raw, commit_seed
from parties.config import PartyConfig
from parties.linking.made import Made
from parties.linking.staging import CheckedRows, Terms, check_set
from parties.preparing.files import memory_file
from parties.preparing.preparing import Instructions, draw_seed, prepare_file, with_the_others
from privacy.preparation.alignment import identifier_column
from privacy.preparation.contract import OnViolation
from privacy.preparation.table import Content, FileFormat, read_table


def read_prepared_set(config: PartyConfig, terms: Terms, *, file: Path, instructions: Instructions) -> CheckedRows:
    """Prepares a raw file and checks what comes out; rows are matched by the linkage key as the recipe leaves it.

    Args:
        config: of this institution.
        terms: what is agreed.
        file: CSV or Parquet, secret; every prepared row with an identifier of its own.
        instructions: contract and recipe, public.

    Raises:
        ConfideError: as `parties.preparing.preparing.prepare_file` and `parties.linking.staging.read_set`.
    """
    schema, seed, raw_salt = instructions.contract.schema, draw_seed(), secrets.token_bytes(SALT_BYTES)
    identifier_column(schema)
    with memory_file() as sink:
        outcome = prepare_file(
            file,
            instructions,
            sink=sink,
            seed=seed,
            on_violation=OnViolation.REFUSE,  # as for every aligned set: the other side must be able to count on a row
            make_pseudonyms=with_the_others(config),
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
