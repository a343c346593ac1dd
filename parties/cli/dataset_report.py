"""`confide dataset report`: whom a table gives away, and what its preparation changed about that."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parties.cli.output import FormatOption, Output, OutputFormat, reported


@reported
def report(
    *,
    file: Annotated[Path, typer.Option("--file", help="The rows: .csv or .parquet.", dir_okay=False)],
    contract: Annotated[Path, typer.Option("--contract", help="Says what each column is: YAML.", dir_okay=False)],
    against: Annotated[
        Path | None, typer.Option("--against", help="The same people's rows after their preparation.", dir_okay=False)
    ] = None,
    picture: Annotated[Path | None, typer.Option("--picture", help="Draw it into this file: .svg.", dir_okay=False)] = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Report whom a table gives away, before and after its preparation; for the owner's eyes, nothing leaves this process."""
    from parties.cli.dataset_report_words import comparison_in_words, report_in_words
    from parties.raw_file import read_contract_file
    from parties.reidentifying import report_on_file, write_picture
    from privacy.reidentification.comparison import comparison_document
    from privacy.reidentification.picture import picture as draw
    from privacy.reidentification.report_document import report_document

    agreed = read_contract_file(contract)
    before = report_on_file(file, agreed)
    document, text = report_document(before), report_in_words(before)
    after = None
    if against is not None:
        after = report_on_file(against, agreed)
        document = comparison_document(before, after) | {"before": document, "after": report_document(after)}
        text = "\n\n".join(
            [f"BEFORE: {file.name}", text, f"AFTER: {against.name}", report_in_words(after), comparison_in_words(before, after)]
        )
    if picture is not None:
        write_picture(picture, draw(before, after))
        text += f"\n\nWrote {picture}."
    Output(output_format).result(document, text)
