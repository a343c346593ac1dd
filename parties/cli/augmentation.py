"""`confide augmentation`: the catalogue of techniques, what each means for people, and what it was measured to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.options import now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from protocols.errors import ConfideError, ErrorCode

if TYPE_CHECKING:
    from parties.augmentation.data_sets import MeasuredSet
    from privacy.augmentation.record import Record
    from privacy.augmentation.technique import Technique

app = typer.Typer(help="See what techniques make further rows, and measure what they do.", no_args_is_help=True)
NOT_MEASURED = "not measured"


@app.command("list")
@reported
def list_all(*, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """List the techniques, with their effect on sensitivity and the verdict on each."""
    from parties.augmentation.records import read_records
    from privacy.augmentation.catalogue import TECHNIQUES

    records = read_records()
    rows = [
        (
            technique.name,
            technique.medium.value,
            technique.use.value.partition(";")[0],
            technique.statement.sensitivity.partition(",")[0],
            _verdict(records.get(technique.name)),
        )
        for technique in TECHNIQUES.values()
    ]
    text = table(("technique", "for", "use", "sensitivity", "verdict"), rows)
    data: list[Json] = [_described(technique, records.get(technique.name)) for technique in TECHNIQUES.values()]
    Output(output_format).result({"techniques": data}, text)


@app.command("show")
@reported
def show(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A technique.")],
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Show one technique: what it does, its parameters, what it means for people, and every measured effect."""
    from parties.augmentation.records import read_records
    from privacy.augmentation.catalogue import technique_named

    technique = technique_named(name)
    record = read_records().get(name)
    statement = technique.statement
    lines = [
        f"{technique.name} ({technique.medium.value}): {technique.what}",
        f"use: {technique.use.value}",
        f"reads: {statement.reads.value}",
        f"sensitivity of a step of private training, copies averaged before clipping: {statement.sensitivity}",
        f"the row comes back from a copy: {'yes' if statement.reversible else 'no'}",
        statement.note,
        *(f"parameter {each.name}: {each.low} to {each.high}, {each.meaning}" for each in technique.parameters),
        "",
        *_effect_lines(record),
    ]
    Output(output_format).result(_described(technique, record), "\n".join(lines))


@app.command("evaluate")
@reported
def evaluate(
    *,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Techniques; all if none is named.")] = None,
    data: Annotated[list[str] | None, typer.Option("--data", help="A real data set; may be repeated. All if none.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="Your own rows instead: .csv or .parquet.", dir_okay=False)] = None,
    schema: Annotated[Path | None, typer.Option("--schema", help="With --file: their schema.", dir_okay=False)] = None,
    group: Annotated[str | None, typer.Option("--group", help="With --file: a feature whose groups are compared.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=3, max=1000, help="Runs with and without, one a seed.")] = 8,
    out: Annotated[Path | None, typer.Option("--out", help="A folder for the records.", file_okay=False)] = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Measure techniques: models with and without each, over several seeds, and what an attack on membership finds."""
    from parties.augmentation.data_sets import SETS, set_named
    from parties.augmentation.measuring import measure_techniques
    from parties.augmentation.own_set import own_set
    from parties.augmentation.records import write_record

    if (file is None) != (schema is None) or (file is not None and (data or out)) or (group is not None and file is None):
        what = "own rows need --file and --schema together, and neither --data nor --out"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
    if file is not None and schema is not None:
        sets: tuple[MeasuredSet, ...] = (own_set(file, schema, group=group),)
    else:
        sets = tuple(map(set_named, data)) if data else tuple(SETS.values())
    techniques = _measurable(names or (), sets)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{out}: {error.strerror or 'cannot be made'}") from error
    output = Output(output_format)
    measured = measure_techniques(
        techniques, sets=sets, seeds=range(1, seeds + 1), today=now().date().isoformat(), say=output.note
    )
    texts = []
    for technique, record in zip(techniques, measured, strict=True):
        texts += [f"{technique.name}:", *_effect_lines(record), ""]
        if out is not None:
            output.note(f"written: {write_record(record, out)}")
    result: list[Json] = [_described(technique, record) for technique, record in zip(techniques, measured, strict=True)]
    output.result({"techniques": result}, "\n".join(texts[:-1]))


def _measurable(names: list[str] | tuple[()], sets: tuple[MeasuredSet, ...]) -> list[Technique]:
    """The techniques that are named, or all that can be measured on these sets."""
    from privacy.augmentation.catalogue import TECHNIQUES, technique_named

    media = {entry.medium for entry in sets}
    if not names:
        return [technique for technique in TECHNIQUES.values() if technique.medium in media]
    techniques = [technique_named(name) for name in dict.fromkeys(names)]
    for technique in techniques:
        if technique.medium not in media:
            what = f"{technique.name} is for {technique.medium.value}s, and none of the data sets is one of them"
            remedy = "`confide augmentation evaluate` without names measures all techniques that can be measured."
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy=remedy)
    return techniques


def _verdict(record: Record | None) -> str:
    from privacy.augmentation.verdict import overall

    return NOT_MEASURED if record is None else overall(record.effects()).value


def _effect_lines(record: Record | None) -> list[str]:
    from privacy.augmentation.verdict import JUDGED

    if record is None:
        return [NOT_MEASURED]
    rows = [
        (
            data,
            JUDGED[metric].title,
            f"{effect.without:.4f}",
            f"{effect.difference:+.4f}",
            f"[{effect.low:+.4f}, {effect.high:+.4f}]",
            effect.verdict.value,
        )
        for (data, metric), effect in record.effects().items()
    ]
    heads = ("data set", "figure", "without", "difference", "interval (joint 95 %)", "verdict")
    how = f"measured {record.measured}: {record.command}; {record.copies} copies, {len(record.seeds)} seeds"
    return [how, table(heads, rows), f"verdict: {_verdict(record)}"]


def _described(technique: Technique, record: Record | None) -> dict[str, Json]:
    statement = technique.statement
    described: dict[str, Json] = {
        "name": technique.name,
        "medium": technique.medium.value,
        "what": technique.what,
        "use": technique.use.value,
        "reads": statement.reads.value,
        "groups": statement.groups,
        "sensitivity": statement.sensitivity,
        "reversible": statement.reversible,
        "note": statement.note,
        "parameters": [
            {"name": each.name, "low": each.low, "high": each.high, "whole": each.whole, "meaning": each.meaning}
            for each in technique.parameters
        ],
        "verdict": _verdict(record),
        "effects": [],
    }
    if record is not None:
        described |= {
            "measured": record.measured,
            "command": record.command,
            "settings": dict(record.settings),
            "copies": record.copies,
            "effects": [
                {
                    "data": data,
                    "figure": metric,
                    "without": round(effect.without, 6),
                    "difference": round(effect.difference, 6),
                    "low": round(effect.low, 6),
                    "high": round(effect.high, 6),
                    "verdict": effect.verdict.value,
                }
                for (data, metric), effect in record.effects().items()
            ],
        }
    return described
