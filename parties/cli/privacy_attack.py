"""`confide privacy attack`: what opened weights tell of an owner's rows, attacked by that owner in the clear."""

from __future__ import annotations

import math
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.attack_words import (
    DatasetsOption,
    OutOption,
    SeedOption,
    about_seconds,
    report_data,
    report_in_words,
    statement_of,
)
from parties.cli.options import now
from parties.cli.output import FormatOption, Output, OutputFormat, reported

if TYPE_CHECKING:
    from parties.attacked_model import AttackedModel
    from privacy.figures import Figures

_BY_CHANCE = {
    "membership.lira.auc": 0.5,
    "membership.rmia.auc": 0.5,
    "attribute_inference.gain": 0.0,
    "reconstruction.gain": 0.0,
    "canaries.exposed": 0.1,
    "canaries.exposure": 1 / math.log(2),  # of a rank that is any as likely, in bits
}


@reported
def attack(
    *,
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="Released weights, as `confide model receive` wrote them.", file_okay=False),
    ] = None,
    manifest: Annotated[Path | None, typer.Option("--manifest", help="Else: the architecture, JSON.", dir_okay=False)] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="Its weights, safetensors.", dir_okay=False)] = None,
    schema: Annotated[Path | None, typer.Option("--schema", help="Of the rows that it takes.", dir_okay=False)] = None,
    members: Annotated[Path, typer.Option("--members", help="Own rows that it was trained on.", dir_okay=False)],
    others: Annotated[Path, typer.Option("--others", help="As many that it was not trained on.", dir_okay=False)],
    sensitive: Annotated[str, typer.Option("--sensitive", help="The feature that an attacker would like to know.")],
    hidden: Annotated[
        list[str] | None, typer.Option("--hidden", help="A number that is drawn back out; again for more. The sensitive one.")
    ] = None,
    planted: Annotated[
        Path | None, typer.Option("--canaries", help="Rows without meaning, planted among the members.", dir_okay=False)
    ] = None,
    references: Annotated[
        Path | None, typer.Option("--references", help="With --canaries: drawn likewise, not planted.", dir_okay=False)
    ] = None,
    shadows: Annotated[int, typer.Option("--shadows", min=8, max=1024, help="Shadow models of the attack.")] = 64,
    seed: SeedOption = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="With FOLDER or --out: the institution's party.yaml.", dir_okay=False)
    ] = None,
    purpose: Annotated[str | None, typer.Option("--purpose", help="With FOLDER: what its licence is asked for.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="With --manifest and --out: name@version that the report is about.")
    ] = None,
    dataset: DatasetsOption = None,
    out: OutOption = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Attack opened weights with own rows: membership, attributes, reconstruction, canaries; nothing leaves this machine."""
    from parties.attack_files import SEED_BITS
    from parties.attacked_model import AttackRowFiles, read_attack, what_is_attacked
    from privacy.risk.own_model import assess_own_model, seconds_for

    if (planted is None) != (references is None):
        raise typer.BadParameter("--canaries are ranked among --references: give both, or none")
    found = _model(folder, (manifest, weights, schema), config, purpose, model)
    about = model if found.ref is None else found.ref.label
    statement = None
    if out is not None or dataset or found.ref is None:
        statement = statement_of(config, about, dataset, out, now=now())
    asked = what_is_attacked(
        found,
        sensitive=sensitive,
        hidden=tuple(hidden or ()),
        shadows=shadows,
        seed=secrets.randbits(SEED_BITS) if seed is None else seed,
    )
    rows = read_attack(found, AttackRowFiles(members, others, planted, references))
    output = Output(output_format)
    about_seconds(output, seconds_for(found.spec, rows, asked, time.process_time))
    judged = assess_own_model(found.spec, found.weights, rows, asked)
    if statement is not None:
        statement.write(judged.report, now=now())
    text = f"{judged.report.members} members, {judged.report.others} others, {shadows} shadow models\n"
    verdict = _verdict(judged.report.figures)
    output.result(
        {**report_data(judged.report, statement), "model": about}, text + report_in_words(judged.report, statement, verdict)
    )


def _model(
    folder: Path | None,
    files: tuple[Path | None, Path | None, Path | None],
    config: Path | None,
    purpose: str | None,
    named: str | None,
) -> AttackedModel:
    from parties.attacked_model import licensed_model, model_of_files
    from parties.config import load_party_config

    manifest, weights, schema = files
    if folder is None and purpose is not None:
        raise typer.BadParameter("--purpose is for what released weights are licensed: name their folder, or leave it out")
    if folder is not None:
        if files != (None, None, None) or named is not None:
            raise typer.BadParameter("a folder of released weights says itself what they are: leave out the other options")
        if config is None or purpose is None:
            raise typer.BadParameter("--config and --purpose say to whom and for what released weights are licensed")
        return licensed_model(load_party_config(config), folder, purpose=purpose, now=now())
    if manifest is None or weights is None or schema is None:
        raise typer.BadParameter("name a folder of released weights, or bring --manifest, --weights and --schema")
    return model_of_files(manifest, weights, schema)


def _verdict(figures: Figures) -> str:
    from privacy.risk.report import FALSE_ALARMS

    rates = {f"membership.{of}.{name}": share for of in ("lira", "rmia") for name, share in FALSE_ALARMS.items()}
    telling = [name for name, chance in (_BY_CHANCE | rates).items() if name in figures and figures[name].low > chance]
    if telling:
        return f"The model tells of its rows: the whole interval of {', '.join(telling)} lies above chance."
    return "No figure lies above chance with its whole interval. Another attack may find more."
