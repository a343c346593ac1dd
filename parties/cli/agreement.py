"""`confide agreement`: what the institutions of a consortium do together, signed by each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.options import PartyConfigOption, PersonOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from parties.config import load_party_config
from parties.storage.files import read_public, write_public
from protocols.canonical import MAX_DOCUMENT_BYTES
from protocols.errors import Problem

if TYPE_CHECKING:
    from governance.consent.agreement import SignedAgreement

app = typer.Typer(help="Propose, sign and end agreements between institutions.", no_args_is_help=True)
DocumentArgument = Annotated[
    Path, typer.Argument(metavar="DOCUMENT", help="The agreement with the signatures so far.", dir_okay=False)
]
NameArgument = Annotated[str, typer.Argument(metavar="AGREEMENT", help="Its name, its digest, or the beginning of it.")]
SHOWN_DIGITS = 12


@app.command("propose")
@reported
def propose(
    *,
    file: Annotated[Path, typer.Option("--file", help="The agreement: YAML.", dir_okay=False)],
    out: Annotated[Path, typer.Option("--out", help="The document to write, for the parties to sign.", dir_okay=False)],
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Make a document of an agreement, for its parties to sign; it permits nothing before all of them have."""
    from parties.agreements import propose_agreement
    from parties.consent_files import load_agreement

    signed = propose_agreement(load_agreement(file, now=now()))
    write_public(out, signed.to_bytes())
    text = f"Wrote {out}; send it to {', '.join(signed.agreement.parties)}, to be signed by each.\ndigest: {signed.digest}"
    Output(output_format).result(describe(signed), text)


@app.command("sign")
@reported
def sign(
    *,
    document: DocumentArgument,
    config: PartyConfigOption,
    person: PersonOption,
    out: Annotated[Path | None, typer.Option("--out", help="Where to write it; else over DOCUMENT.", dir_okay=False)] = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Sign an agreement as this institution, by a privacy officer; a serving party tells the others."""
    from parties.agreements import sign_agreement

    data = read_public(document, max_bytes=MAX_DOCUMENT_BYTES)
    loaded = load_party_config(config)
    signed = sign_agreement(loaded, person, data, now=now())
    write_public(out or document, signed.to_bytes())
    missing = ", ".join(signed.missing) or "nobody"
    text = f"{loaded.party} has signed {signed.agreement.name}; still to sign: {missing}.\nThe document is in {out or document}."
    Output(output_format).result(describe(signed), text)


@app.command("join")
@reported
def join(*, document: DocumentArgument, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Take in the signatures that others have put under an agreement."""
    from parties.agreements import join_agreement

    signed = join_agreement(load_party_config(config), read_public(document, max_bytes=MAX_DOCUMENT_BYTES), now=now())
    missing = ", ".join(signed.missing) or "nobody"
    Output(output_format).result(describe(signed), f"{signed.agreement.name} is known here; still to sign: {missing}.")


@app.command("list")
@reported
def list_all(*, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """List the agreements that are known here, and whether they are in force."""
    from parties.agreements import known_agreements

    known = known_agreements(load_party_config(config), now=now())
    rows = []
    for signed, problems in known:
        stands = "in force" if not problems else problems[0].what
        expires = signed.agreement.to_document()["expires"]
        rows.append((signed.agreement.name, signed.digest[:SHOWN_DIGITS], expires, stands))
    data: list[Json] = [describe(signed, problems) for signed, problems in known]
    Output(output_format).result({"agreements": data}, table(("name", "digest", "until", "standing"), rows))


@app.command("show")
@reported
def show(*, name: NameArgument, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Show one agreement: what it says, who has signed it, and whether it is in force."""
    from parties.agreements import known_agreement

    signed, problems = known_agreement(load_party_config(config), name, now=now())
    data = describe(signed, problems)
    lines = [f"{field}: {_in_words(value)}" for field, value in data.items() if field != "standing"]
    lines += ["standing: in force"] if not problems else [f"standing: {problem}" for problem in problems]
    Output(output_format).result(data, "\n".join(lines))


@app.command("revoke")
@reported
def revoke(
    *,
    name: NameArgument,
    config: PartyConfigOption,
    person: PersonOption,
    reason: Annotated[str, typer.Option("--reason", help="Why, in a sentence; the other parties read it.")],
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """End an agreement for everybody, by a privacy officer: no job under it is accepted, and running ones stop."""
    from parties.agreements import revoke_agreement

    record = revoke_agreement(load_party_config(config), person, name, reason=reason, now=now())
    data: dict[str, Json] = {"agreement": record.revocation.subject, "reason": reason}
    Output(output_format).result(data, f"The agreement {record.revocation.subject[:SHOWN_DIGITS]} has ended.")


@app.command("schema")
@reported
def schema(*, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Print the JSON Schema of an agreement's file."""
    from parties.consent_files import agreement_schema

    found = json.loads(json.dumps(agreement_schema()))
    Output(output_format).result(found, json.dumps(found, indent=2))


def describe(signed: SignedAgreement, problems: tuple[Problem, ...] | None = None) -> dict[str, Json]:
    """Returns an agreement for the JSON formats; `standing` are the reasons for which it is not in force."""
    said = {field: value for field, value in signed.agreement.to_document().items() if field != "format"}
    data: dict[str, Json] = {"digest": signed.digest, **said, "signed_by": list(signed.signers), "missing": list(signed.missing)}
    if problems is not None:
        data |= {"in_force": not problems, "standing": [str(problem) for problem in problems]}
    return data


def _in_words(value: Json) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return "none" if value is None else str(value)
