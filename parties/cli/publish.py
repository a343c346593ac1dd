"""`confide model publish|published|withdraw`: models that answer encrypted queries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.options import PartyConfigOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from parties.config import load_party_config
from protocols.errors import ConfideError, ErrorCode
from protocols.job import TIME_FORMAT, ModelRef

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from parties.own_evidence import OwnStanding
    from parties.storage.encrypted import PublishedRecord

PublishedArgument = Annotated[str, typer.Argument(metavar="MODEL", help="name@version, as `confide model published` shows it.")]


@reported
def publish(
    *,
    manifest: Annotated[Path, typer.Option("--manifest", help="The architecture, JSON.", dir_okay=False)],
    weights: Annotated[Path, typer.Option("--weights", help="Its weights, safetensors.", dir_okay=False)],
    terms: Annotated[Path, typer.Option("--terms", help="What is declared of it: YAML.", dir_okay=False)],
    config: PartyConfigOption,
    person: Annotated[
        Path | None, typer.Option("--person", help="The folder of the person who publishes it.", file_okay=False)
    ] = None,
    validation: Annotated[
        Path | None, typer.Option("--validation", help="Rows to measure on: CSV; they stay here.", dir_okay=False)
    ] = None,
    label: Annotated[str | None, typer.Option("--label", help="The column of labels in these rows.")] = None,
    approximate: Annotated[
        int | None, typer.Option("--approximate", metavar="DEGREE", help="Have polynomials of this degree stand for activations.")
    ] = None,
    between: Annotated[
        tuple[float, float] | None,
        typer.Option("--range", metavar="LOW HIGH", help="For these arguments; else as the rows show."),
    ] = None,
    purpose: Annotated[
        str | None, typer.Option("--purpose", help="Of released weights: for which purpose of their licence.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show how it would be asked, and what to choose from.")] = False,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Have a model of this institution answer encrypted queries of those who hold a grant; its weights stay here."""
    from parties.cli.publish_words import preview_data, preview_text
    from parties.publication_files import load_publication_terms
    from parties.publication_gate import publication_case
    from parties.publishing import PublicationFiles, preview_publication, publish_model
    from protocols.ckks.offers import Choice

    if approximate is not None and between is None and validation is None:
        raise typer.BadParameter("a degree needs rows or the range that polynomials are fitted for", param_hint="--range")
    loaded, said = load_party_config(config), load_publication_terms(terms)
    files = PublicationFiles(manifest, weights, validation, label)
    publication_case(loaded, weights, said, purpose=purpose, now=now())
    chosen = None if approximate is None else Choice(approximate, between)
    output = Output(output_format)
    if not dry_run and person is None:
        raise typer.BadParameter("who publishes must be named, unless it is a dry run", param_hint="--person")
    preview = preview_publication(files, said, approximation=chosen, between=between)
    text = preview_text(preview, limit=said.output_limit)
    if dry_run or person is None:
        output.result(preview_data(preview), text)
        return
    if preview.lanes is None:
        output.note(text)
        what = "the model has activations that encrypted computation has not, and nobody has chosen polynomials for them"
        raise ConfideError(ErrorCode.INVALID_MODEL, what, remedy="Choose with --approximate from what is shown.")
    model = publish_model(loaded, person, files, said, now=now(), approximation=chosen, purpose=purpose)
    data = {"model": model.ref.label, "published": model.digest, **preview_data(preview)}
    output.result(data, f"Published {model.ref.label}; nobody may ask it before a grant says so.\n\n{text}")


@reported
def published(*, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """List the models of this institution that answer encrypted queries, or did."""
    from parties.publishing import published_models, published_standings

    time, loaded = now(), load_party_config(config)
    records, evidence = published_models(loaded), published_standings(loaded, now=time)
    rows = [
        (
            record.model.ref.label,
            ", ".join(sorted(record.model.plans)),
            record.published.strftime(TIME_FORMAT),
            record.model.expires.strftime(TIME_FORMAT),
            _standing(record, time, evidence),
            record.model.privacy,
        )
        for record in records
    ]
    data: list[Json] = [_describe(record, time, evidence) for record in records]
    Output(output_format).result({"models": data}, table(("model", "lanes", "published", "until", "standing", "privacy"), rows))


@reported
def withdraw(
    *,
    model: PublishedArgument,
    config: PartyConfigOption,
    person: Annotated[
        Path | None, typer.Option("--person", help="The folder of the person who withdraws it.", file_okay=False)
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, in a sentence; it stands in the audit log.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which enquiries would end.")] = False,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Have a published model answer nothing any more, within a minute. There is no way back."""
    from parties.models import read_label
    from parties.publishing import open_enquiries_of, published_model, withdraw_model

    loaded, ref = load_party_config(config), read_label(model)
    published_model(loaded, ref)
    ending = [record.enquiry.enquiry_id for record in open_enquiries_of(loaded, ref)]
    data: dict[str, Json] = {"model": ref.label, "enquiries": list(ending)}
    if dry_run:
        lines = [f"If {ref.label} is withdrawn:", *(f"  enquiry {each[:12]} would end" for each in ending)]
        Output(output_format).result(data, "\n".join(lines if ending else [*lines, "  no open enquiry would end"]))
        return
    if person is None:
        raise typer.BadParameter("who withdraws it must be named, unless it is a dry run", param_hint="--person")
    withdraw_model(loaded, person, ref, reason=reason, now=now())
    text = f"{ref.label} answers nothing any more; {len(ending)} open enquiries end. Its weights here are destroyed."
    Output(output_format).result(data, text)


def _standing(record: PublishedRecord, time: datetime, evidence: Mapping[ModelRef, OwnStanding]) -> str:
    if record.withdrawn is not None:
        return "withdrawn"
    if time >= record.model.expires:
        return "expired"
    if time < record.model.valid_from:
        return "not yet valid"
    found = evidence.get(record.model.ref)
    if found is None or found.decision is None:
        return "answers"
    if not found.answers:
        codes = ", ".join(dict.fromkeys(reason.code.value for reason in found.decision.reasons))
        return f"{found.decision.verdict.value}: {codes}"
    return "answers" if found.renewal is None else f"answers; evidence until {found.renewal.ends.strftime(TIME_FORMAT)}"


def _describe(record: PublishedRecord, time: datetime, evidence: Mapping[ModelRef, OwnStanding]) -> dict[str, Json]:
    said = {name: value for name, value in record.model.to_document().items() if name not in ("format", "plans")}
    withdrawn = None if record.withdrawn is None else record.withdrawn.strftime(TIME_FORMAT)
    ends = {"published_at": record.published.strftime(TIME_FORMAT), "withdrawn_at": withdrawn}
    names = {"model": record.model.ref.label, "digest": record.model.digest, "lanes": sorted(record.model.plans)}
    return {**said, **names, **ends, "standing": _standing(record, time, evidence), "privacy": record.model.privacy}
