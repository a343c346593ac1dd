"""`confide grant`: an owner's signed, expiring, counted permissions."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.options import PartyConfigOption, PersonOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from parties.config import PartyConfig, load_party_config
from protocols.errors import ConfideError, ErrorCode
from protocols.job import TIME_FORMAT, JobType, OutputKind

if TYPE_CHECKING:
    from parties.grants import GrantTerms
    from parties.storage.grants import GrantRecord

app = typer.Typer(help="Permit the use of a data set or model, look at permissions, end them.", no_args_is_help=True)
GrantArgument = Annotated[str, typer.Argument(metavar="GRANT", help="Its id, or the beginning of it.")]
SHOWN_DIGITS = 12
DEFAULT_MIN_CELL = 5
DEFAULT_DAYS = 30


@app.command("create")
@reported
def create(
    *,
    config: PartyConfigOption,
    person: PersonOption,
    file: Annotated[Path | None, typer.Option("--file", help="The grant: YAML, with all limits.", dir_okay=False)] = None,
    agreement: Annotated[str | None, typer.Option("--agreement", help="Without a file: its name or digest.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Without a file: name or name/version.")] = None,
    purposes: Annotated[list[str] | None, typer.Option("--purpose", help="Without a file; may be repeated.")] = None,
    job_types: Annotated[list[JobType] | None, typer.Option("--job", help="Jobs on the rows; may be repeated.")] = None,
    derived: Annotated[list[JobType] | None, typer.Option("--derived-job", help="Jobs on models that come of them.")] = None,
    recipients: Annotated[
        list[str] | None, typer.Option("--recipient", help="A researcher, institution/PARTY, or *; may be repeated.")
    ] = None,
    outputs: Annotated[list[OutputKind] | None, typer.Option("--output", help="What may be opened; may be repeated.")] = None,
    min_cell: Annotated[int, typer.Option("--min-cell", help="No opened count tells of fewer rows.")] = DEFAULT_MIN_CELL,
    min_parties: Annotated[int, typer.Option("--min-parties", help="A job is over the rows of so many owners.")] = 2,
    min_rows: Annotated[int, typer.Option("--min-rows", help="A job is over so many rows.")] = 1,
    max_uses: Annotated[int, typer.Option("--max-uses", help="How many jobs it covers.")] = 1,
    days: Annotated[int, typer.Option("--days", help="How long it is valid, from now.")] = DEFAULT_DAYS,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Permit the use of a registered data set, or of a model that came of one or is published, by a data steward."""
    from parties.cli.encrypted_grant_words import create_from
    from parties.consent_files import load_grant_terms
    from parties.encrypted_grant_files import is_encrypted_grant
    from parties.grants import create_grant

    if file is not None:
        if agreement is not None or dataset is not None:
            what = "the file says what is permitted; --agreement and --dataset stand in its place"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Give either.")
        if is_encrypted_grant(file):
            create_from(load_party_config(config), person, file, Output(output_format), time=now())
            return
        terms = load_grant_terms(file)
    else:
        terms = _terms(
            agreement=agreement,
            dataset=dataset,
            purposes=purposes or [],
            job_types=job_types or [],
            derived=derived or [],
            recipients=recipients or [],
            outputs=outputs or [],
            min_cell=min_cell,
            bounds=(min_parties, min_rows, max_uses),
            days=days,
        )
    record = create_grant(load_party_config(config), person, terms, now=now())
    text = "\n".join([f"Issued grant {record.grant_id} for {record.grant.subject.label}.", *in_words(record)])
    Output(output_format).result(describe(record), text)


@app.command("list")
@reported
def list_all(*, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """List the grants that this institution has issued: on rows, and for published models."""
    from parties.cli.encrypted_grant_words import list_data, list_text
    from parties.encrypted_grants import issued_encrypted_grants
    from parties.grants import issued_grants

    time, loaded = now(), load_party_config(config)
    records, encrypted = issued_grants(loaded), issued_encrypted_grants(loaded)
    rows = [
        (
            record.grant_id[:SHOWN_DIGITS],
            record.grant.subject.label,
            f"{record.uses} of {record.grant.max_uses}",
            record.grant.expires.strftime(TIME_FORMAT),
            record.standing(time),
        )
        for record in records
    ]
    data: list[Json] = [describe(record) | {"standing": record.standing(time)} for record in records]
    text = table(("grant", "for", "used", "until", "standing"), rows)
    if encrypted:
        text += "\n\n" + list_text(encrypted, time)
    Output(output_format).result({"grants": data, "encrypted_grants": list_data(encrypted, time)}, text)


@app.command("show")
@reported
def show(*, grant: GrantArgument, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Show one grant: what it permits, the jobs that used it, its end, and the models that came of it."""
    from governance.consent.revocation import Effect
    from parties.cli.encrypted_grant_words import show as show_encrypted
    from parties.encrypted_grants import find_encrypted_grant
    from parties.grants import issued_grant

    loaded = load_party_config(config)
    encrypted = find_encrypted_grant(loaded, grant)
    if encrypted is not None:
        show_encrypted(encrypted, Output(output_format), now())
        return
    found = issued_grant(loaded, grant)
    record, standing = found.record, found.record.standing(now())
    models = [ref.label for ref in found.models]
    receipts = [f"{receipt.ref.label} at {receipt.holder}" for receipt in found.receipts]
    data = describe(record) | {"standing": standing, "jobs": list(found.jobs), "models": models, "receipts": receipts}
    lines = [f"grant {record.grant_id}, {standing}", *in_words(record)]
    if record.revocation is not None:
        lines.append(f"revoked: {record.revocation.reason}")
    lines.append(f"jobs: {', '.join(found.jobs) or 'none'}")
    lines.append(f"models that came of it: {', '.join(models) or 'none'}")
    if record.revocation is not None and record.revocation.effect is Effect.DELETE:
        lines.append(f"destroyed, by receipt: {', '.join(receipts) or 'none yet'}")
        lines.append(f"no receipt has come for: {', '.join(found.awaited) or 'none'}")
        data["awaited_receipts"] = list(found.awaited)
    Output(output_format).result(data, "\n".join(lines))


@app.command("revoke")
@reported
def revoke(
    *,
    grant: GrantArgument,
    config: PartyConfigOption,
    person: Annotated[
        Path | None, typer.Option("--person", help="The folder of the person who revokes.", file_okay=False)
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, in a sentence; the other parties read it.")] = "",
    delete: Annotated[bool, typer.Option("--delete", help="Have every holder destroy the models that came of it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would end.")] = False,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """End a grant at once and for everybody: jobs and enquiries stop, models that came of it are not used any more."""
    from governance.consent.revocation import Effect
    from parties.encrypted_grants import find_encrypted_grant
    from parties.grants import revoke_grant

    loaded = load_party_config(config)
    if dry_run:
        _show_blast(loaded, grant, Output(output_format))
        return
    if person is None:
        raise typer.BadParameter("who revokes must be named, unless it is a dry run", param_hint="--person")
    effect = Effect.DELETE if delete else Effect.STOP
    record = revoke_grant(loaded, person, grant, reason=reason, effect=effect, now=now())
    data: dict[str, Json] = {"grant": record.revocation.subject, "effect": effect.value, "reason": reason}
    if find_encrypted_grant(loaded, record.revocation.subject) is not None:
        text = f"Grant {record.revocation.subject} has ended: nothing more is answered under it."
        Output(output_format).result(data, text)
        return
    then = "their holders destroy them and send receipts" if delete else "they are kept, and not used"
    text = f"Grant {record.revocation.subject} has ended: its jobs stop. Of the models that came of it, {then}."
    Output(output_format).result(data, text)


@app.command("schema")
@reported
def schema(
    *,
    encrypted: Annotated[bool, typer.Option("--encrypted", help="Of a grant for a published model.")] = False,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Print the JSON Schema of a grant's file."""
    from parties.consent_files import grant_schema
    from parties.encrypted_grant_files import encrypted_grant_schema

    found = json.loads(json.dumps(encrypted_grant_schema() if encrypted else grant_schema()))
    Output(output_format).result(found, json.dumps(found, indent=2))


def describe(record: GrantRecord) -> dict[str, Json]:
    """Returns a grant for the JSON formats."""
    said = {field: value for field, value in record.grant.to_document().items() if field != "format"}
    ended = None if record.revocation is None else dict(record.revocation.to_document())
    return {"grant": record.grant_id, **said, "uses": record.uses, "revocation": ended}


def in_words(record: GrantRecord) -> list[str]:
    """Returns what a grant permits, in lines for people."""
    grant = record.grant
    of_any = "any"
    named = {
        "for": grant.subject.label,
        "under agreement": grant.agreement[:SHOWN_DIGITS],
        "purposes": ", ".join(grant.purposes),
        "jobs on it": ", ".join(kind.value for kind in grant.job_types) or "none",
        "jobs on models of it": ", ".join(kind.value for kind in grant.derived_job_types) or "none",
        "recipients": ", ".join(grant.recipients),
        "outputs": ", ".join(rule.in_words() for rule in grant.outputs) or "none",
        "architectures": ", ".join(digest[:SHOWN_DIGITS] for digest in grant.architectures) or of_any,
        "parameters": grant.parameters.in_words() or of_any,
        "computing parties": ", ".join(grant.computing_parties) or of_any,
        "dealers": ", ".join(grant.dealers) or of_any,
        "at least": f"{grant.min_parties} owners, {grant.min_rows} rows",
        "uses": f"{record.uses} of {grant.max_uses}",
        "epsilon": "no cap" if grant.epsilon_cap is None else f"at most {grant.epsilon_cap}; nothing is opened without noise",
        "valid": f"{grant.valid_from.strftime(TIME_FORMAT)} to {grant.expires.strftime(TIME_FORMAT)}",
        "models of it until": grant.derived_until.strftime(TIME_FORMAT),
    }
    return [f"  {name}: {value}" for name, value in named.items()]


def _terms(
    *,
    agreement: str | None,
    dataset: str | None,
    purposes: list[str],
    job_types: list[JobType],
    derived: list[JobType],
    recipients: list[str],
    outputs: list[OutputKind],
    min_cell: int,
    bounds: tuple[int, int, int],
    days: int,
) -> GrantTerms:
    from governance.consent.limits import OutputRule
    from parties.consent_files import dataset_choice
    from parties.grants import GrantTerms
    from protocols.job_parts import EVALUATED

    if agreement is None or dataset is None:
        raise typer.BadParameter("name agreement and data set, or give a file with all limits", param_hint="--agreement")
    counts = {kind for kinds in EVALUATED.values() for kind in kinds}
    time = now().replace(microsecond=0)
    return GrantTerms(
        agreement=agreement,
        subject=dataset_choice(dataset),
        purposes=tuple(purposes),
        job_types=tuple(job_types),
        derived_job_types=tuple(derived),
        recipients=tuple(recipients),
        outputs=tuple(OutputRule(kind, min_cell=min_cell if kind in counts else 0) for kind in outputs),
        min_parties=bounds[0],
        min_rows=bounds[1],
        max_uses=bounds[2],
        expires=time + timedelta(days=days),
    )


def _show_blast(config: PartyConfig, grant: str, output: Output) -> None:
    from parties.grants import blast_of

    found = blast_of(config, grant)
    output.result(dict(found.to_document()), found.to_text())
