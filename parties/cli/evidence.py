"""`confide model evidence`: bundles of evidence about model versions: make, show, verify, approve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.options import PartyConfigOption, PersonOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported
from parties.config import load_party_config

if TYPE_CHECKING:
    from governance.evidence.bundle import EvidenceBundle
    from governance.evidence.gate import Decision

app = typer.Typer(help="What is known of a model version before it is released, and what the gate says.", no_args_is_help=True)
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="name@version, as `confide model list` shows it.")]


@app.command("make")
@reported
def make(
    *,
    model: ModelArgument,
    config: PartyConfigOption,
    person: PersonOption,
    risk_report: Annotated[
        list[Path] | None, typer.Option("--risk-report", help="Signed by an owner; again for each.", dir_okay=False)
    ] = None,
    utility: Annotated[
        list[Path] | None, typer.Option("--utility", help="A report of utility; again for each.", dir_okay=False)
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where the signed bundle is written too.", dir_okay=False)] = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Make, sign and keep a bundle of this party's records and these reports, and say what the gate says to it."""
    from parties.evidence import make_evidence
    from parties.models import read_label
    from parties.storage.files import write_public

    judged = make_evidence(
        load_party_config(config),
        person,
        read_label(model),
        risk_reports=risk_report or (),
        utility=utility or (),
        now=now(),
    )
    if out is not None:
        write_public(out, judged.record.signed.to_bytes())
    text = decision_text(judged.decision)
    if judged.ended_release:
        text += f"\nThe release of {judged.record.ref.label} has ended by this: `released` does not stand for it any more."
    Output(output_format).result({**decision_data(judged.decision), "ended_release": judged.ended_release}, text)


@app.command("state")
@reported
def state(
    *,
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="As `confide job result --report` wrote it.", dir_okay=False)],
    config: PartyConfigOption,
    person: PersonOption,
    out: Annotated[Path, typer.Option("--out", help="Where the signed risk report is written.", dir_okay=False)],
    in_the_clear: Annotated[
        bool, typer.Option("--in-the-clear", help="This party attacked the model itself; nobody checks the figures.")
    ] = False,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Check, state and sign, for this party, what an assessment with its rows found; every holder's gate reads it."""
    from governance.risk_report import read_risk_report
    from parties.cli.risk_words import figures_in_words
    from parties.risk_statements import state_risk
    from parties.storage.files import write_public
    from privacy.risk.report import ATTACKED_IN_SHARES, ATTACKED_IN_THE_CLEAR

    method = ATTACKED_IN_THE_CLEAR if in_the_clear else ATTACKED_IN_SHARES
    signed = state_risk(load_party_config(config), person, report, method=method, now=now())
    write_public(out, signed.to_bytes())
    stated = read_risk_report(signed.document)
    data: dict[str, Json] = {"model": stated.ref.label, "owner": stated.owner, "report": stated.digest}
    Output(output_format).result(data, f"{stated.owner} states about {stated.ref.label}:\n{figures_in_words(stated.figures)}")


@app.command("show")
@reported
def show(*, model: ModelArgument, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Show the last bundle about a version: the impact assessment, what has changed, and what the gate says now."""
    from governance.evidence.bundle import EvidenceBundle
    from parties.evidence import judge_evidence
    from parties.models import read_label

    judged = judge_evidence(load_party_config(config), read_label(model), now=now())
    bundle = EvidenceBundle.from_bytes(judged.record.signed.body)
    data: dict[str, Json] = {"evidence": dict(judged.record.signed.document), **decision_data(judged.decision)}
    Output(output_format).result(data, f"{bundle_text(bundle)}\n{decision_text(judged.decision)}")


@app.command("verify")
@reported
def verify(
    *,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A signed bundle.", dir_okay=False)],
    config: PartyConfigOption,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Check who signed a bundle and every risk report in it; whether it is enough is the gate's to say."""
    from governance.documents import SignedDocument
    from governance.evidence.bundle import verify_evidence
    from governance.risk_report import verify_risk_report
    from parties.agreements import load_member
    from parties.evidence import MAX_FILE_BYTES
    from parties.storage.files import read_public

    directory = load_member(load_party_config(config), now()).directory
    found = verify_evidence(SignedDocument.from_bytes(read_public(bundle, max_bytes=MAX_FILE_BYTES)), directory)
    owners = sorted({verify_risk_report(report, directory).owner for report in found.risk_reports})
    data: dict[str, Json] = {"model": found.ref.label, "issuer": found.issuer, "evidence": found.digest}
    text = f"{found.issuer} signed it about {found.ref.label}; risk reports of {', '.join(owners) or 'nobody'}."
    Output(output_format).result(data | {"risk_reports_of": [*owners]}, text)


@app.command("approve")
@reported
def approve(
    *, model: ModelArgument, config: PartyConfigOption, person: PersonOption, output_format: FormatOption = OutputFormat.TEXT
) -> None:
    """Approve the release of a version under the last bundle about it; another bundle is approved anew."""
    from parties.evidence import approve_release
    from parties.models import read_label

    judged = approve_release(load_party_config(config), person, read_label(model), now=now())
    Output(output_format).result(decision_data(judged.decision), decision_text(judged.decision))


def decision_data(decision: Decision) -> dict[str, Json]:
    """Returns a decision of the gate for programs."""
    reasons: list[Json] = [
        {"code": reason.code.value, "verdict": reason.verdict.value, "what": reason.what} for reason in decision.reasons
    ]
    return {
        "model": None if decision.ref is None else decision.ref.label,
        "bundle": decision.bundle or None,
        "verdict": decision.verdict.value,
        "classes": [*decision.classes],
        "reasons": reasons,
    }


def decision_text(decision: Decision) -> str:
    """Returns a decision of the gate for people."""
    label = "the bundle" if decision.ref is None else decision.ref.label
    lines = [f"{label}: {decision.verdict.value}" + (f" (class {', '.join(decision.classes)})" if decision.classes else "")]
    lines += [f"  {reason.verdict.value}: {reason.what} [{reason.code.value}]" for reason in decision.reasons]
    return "\n".join(lines)


def bundle_text(bundle: EvidenceBundle) -> str:
    """Returns a bundle for people."""
    lines = [f"evidence {bundle.digest[:12]} of {bundle.issuer} about {bundle.ref.label}, {bundle.time:%Y-%m-%d %H:%M:%S} UTC"]
    for part, sentences in bundle.impact.items():
        lines += [f"{part}:", *(f"  {sentence}" for sentence in sentences)]
    if bundle.changes:
        lines += ["changed since the last release:", *(f"  {change}" for change in bundle.changes)]
    return "\n".join(lines)
