"""Options and words that the commands for attacks in the clear share."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.output import Json, Output
from parties.cli.risk_words import figures_in_words
from protocols.errors import ConfideError, ErrorCode

if TYPE_CHECKING:
    from parties.attack_files import Statement
    from privacy.risk.report import RiskReport

MAX_SEED = (1 << 53) - 1  # what a document can hold
_TOLD_FROM_S = 2.0

SeedOption = Annotated[int | None, typer.Option("--seed", min=0, max=MAX_SEED, help="Of everything that is drawn; else drawn.")]
DatasetsOption = Annotated[
    list[str] | None, typer.Option("--dataset", help="With --out: party/name/version of the own rows; again for each.")
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Where `confide model evidence state --in-the-clear` finds the figures.", dir_okay=False),
]


def statement_of(
    config: Path | None, model: str | None, datasets: list[str] | None, out: Path | None, *, now: datetime
) -> Statement | None:
    """Returns what a report will say if one is to be written; None if not.

    Raises:
        ConfideError: INVALID_ARGUMENT (the owner's fault): some of the options without the others; as `statement_about`.
    """
    from parties.attack_files import statement_about
    from parties.config import load_party_config
    from parties.models import read_label

    given = {"--config": config, "--model": model, "--dataset": datasets or None, "--out": out}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return None
    if config is None or model is None or not datasets or out is None:
        what = f"a report is written with --config, --model, --dataset and --out together; {', '.join(missing)} missing"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Give all four, or none.")
    return statement_about(load_party_config(config), read_label(model), tuple(datasets), out, now=now)


def about_seconds(output: Output, seconds: float) -> None:
    """Tells people how long it will take, if that is more than moments."""
    if seconds >= _TOLD_FROM_S:
        output.note(f"This takes about {math.ceil(seconds)} s of one core, longer on a busy machine.")


def report_data(report: RiskReport, statement: Statement | None) -> dict[str, Json]:
    """Returns a report for programs."""
    from privacy.figures import figures_document

    return {
        "members": report.members,
        "others": report.others,
        "shadows": report.shadows,
        "seed": report.seeds[0],
        "figures": dict(figures_document(report.figures)),
        "report": None if statement is None else str(statement.out),
    }


def report_in_words(report: RiskReport, statement: Statement | None, verdict: str) -> str:
    """Returns a report for people, with what is done with it next."""
    lines = [figures_in_words(report.figures), verdict]
    if statement is None:
        lines.append("Keep this to yourself: it tells of your rows.")
    else:
        lines.append(
            f"Wrote {statement.out}: a person states it with `confide model evidence state {statement.out} --in-the-clear`."
        )
    return "\n".join(lines)
