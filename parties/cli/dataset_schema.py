"""`confide dataset schema`: the schema that follows from a contract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parties.cli.output import FormatOption, Output, OutputFormat, reported


@reported
def schema(
    *,
    contract: Annotated[Path, typer.Option("--contract", help="The contract: YAML.", dir_okay=False)],
    out: Annotated[Path, typer.Option("--out", help="Where the schema is written; must not exist.", dir_okay=False)],
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Write the schema that jobs know of a contract's rows: what is shared, and the linkage key as identifier."""
    from parties.raw_file import read_contract_file, write_document

    found = read_contract_file(contract).schema
    write_document(out, found.to_document())
    text = f"Wrote {out}: {found.num_features} features{', a label' if found.has_label else ', no label'}; digest {found.digest}"
    Output(output_format).result({"file": str(out), "digest": found.digest}, text)
