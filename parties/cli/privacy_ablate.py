"""`confide privacy ablate` and `ablation`: what each protection does to an attack and to the analysis, on own rows."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.options import PartyConfigOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from protocols.errors import ConfideError, ErrorCode

if TYPE_CHECKING:
    from privacy.ablation.lines import Line
    from privacy.figures import Figures


MAX_SEED = (1 << 53) - 1  # what a document can hold


class PartName(Enum):
    """The parts of an ablation."""

    TRAINING = "training"
    ANSWERS = "answers"
    STATISTICS = "statistics"
    PREPARATION = "preparation"


@reported
def ablate(
    *,
    file: Annotated[Path, typer.Option("--file", help="Own rows with their label: .csv or .parquet.", dir_okay=False)],
    schema: Annotated[Path, typer.Option("--schema", help="Their schema, with declared ranges.", dir_okay=False)],
    part: Annotated[list[PartName] | None, typer.Option("--part", help="One of the parts; may be repeated. All.")] = None,
    by: Annotated[
        list[str] | None, typer.Option("--by", help="A feature by which a table counts rows; may be repeated. Of statistics.")
    ] = None,
    quasi: Annotated[
        list[str] | None,
        typer.Option("--quasi", help="A feature by which somebody could be singled out; may be repeated. Of preparation."),
    ] = None,
    epsilon: Annotated[
        list[str] | None, typer.Option("--epsilon", help="Of a private training; up to 40 of them. 8, 3, 1.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=MAX_SEED, help="Of everything that is drawn; else drawn.")
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option("--max-seconds", min=1, help="Of one core: nothing more is begun then. Twice what is foreseen."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="To sign: the institution's party.yaml.", dir_okay=False)
    ] = None,
    person: Annotated[
        Path | None, typer.Option("--person", help="To sign: the folder of the person who states it.", file_okay=False)
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where the signed report is written.", dir_okay=False)] = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Measure what each protection does to an attack and to the analysis, on own rows; nothing leaves this machine."""
    import time

    from governance.ablation_report import lines_document
    from parties.ablating import read_ablation, require_may_state, state_ablation
    from parties.config import load_party_config
    from parties.storage.files import write_public
    from privacy.ablation.lines import Line, Part
    from privacy.ablation.own_rows import measured, most_seconds
    from privacy.ablation.protections import EPSILONS

    if (out is None) != (config is None) or (out is None) != (person is None):
        what = "a report is signed with --out, --config and --person together"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Give all three, or none.")
    if out is not None and config is not None and person is not None:
        require_may_state(load_party_config(config), person, out, now=now())
    asked = read_ablation(
        file,
        schema,
        parts=[Part(each.value) for each in part or PartName],
        groups_by=by or (),
        quasi=quasi or (),
        epsilons=epsilon or EPSILONS,
        seed=seed,
    )
    output = Output(output_format)
    foreseen = asked.foreseen_s(time.process_time)
    most = most_seconds(foreseen) if max_seconds is None else max_seconds
    output.note(f"{len(asked.lines)} settings: about {foreseen:.0f} s of one core; after {most:.0f} s nothing more is begun.")
    lines: list[Line] = []
    left_out = list(asked.left_out)
    for found in measured(asked, time.process_time, most_s=most):
        if isinstance(found, Line):
            lines.append(found)
            output.record({"line": lines_document((found,))[0]}, _line_in_words(found))
        else:
            left_out.append(found)
    signed: str | None = None
    if out is not None and config is not None and person is not None:
        document = state_ablation(load_party_config(config), person, asked, lines, left_out, now=now())
        write_public(out, document.to_bytes())
        signed = str(out)
    described: list[Json] = [*lines_document(tuple(lines))]
    data: dict[str, Json] = {
        "members": len(asked.rows.labels),
        "others": len(asked.rows.other_labels),
        "classes": asked.rows.classes,
        "seed": asked.settings.seed,
        "foreseen_seconds": round(foreseen, 1),
        "lines": described,
        "left_out": [*left_out],
        "report": signed,
    }
    output.result(data, _ended(left_out, signed))


@reported
def ablation(
    *,
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="As `confide privacy ablate --out` wrote it.", dir_okay=False)],
    config: PartyConfigOption,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Check who signed a report on an ablation, and show it."""
    from parties.ablating import read_stated
    from parties.config import load_party_config

    stated = read_stated(load_party_config(config), report, now=now())
    said = f"{stated.owner} states, {stated.made:%Y-%m-%d %H:%M:%S} UTC, of {stated.members} and {stated.others} rows of its own:"
    text = "\n".join([said, lines_in_words(stated.lines), *stated.left_out])
    Output(output_format).result({**stated.to_document(), "digest": stated.digest}, text)


def lines_in_words(lines: Sequence[Line]) -> str:
    """Returns the lines of an ablation for people."""
    rows = [(line.part.value, line.setting, _shown(line.attack), _shown(line.analysis)) for line in lines]
    return table(("part", "setting", "attack (less is better)", "analysis"), rows)


def _line_in_words(line: Line) -> str:
    return f"{line.part.value}: {line.setting}\n    attack:   {_shown(line.attack)}\n    analysis: {_shown(line.analysis)}"


def _shown(figures: Figures) -> str:
    return ", ".join(f"{name} {each.value:.4f} ({each.low:.4f} to {each.high:.4f})" for name, each in figures.items())


def _ended(left_out: Sequence[str], signed: str | None) -> str:
    lines = [f"not measured: {each}" for each in left_out]
    lines += [f"The signed report is in {signed}."] if signed is not None else []
    lines.append("Intervals are of 95 %. Keep this to yourself unless you mean to show it: it tells of your rows.")
    return "\n".join(lines)
