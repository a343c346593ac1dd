"""`confide model evidence`: bundles of evidence about model versions: make, show, verify, approve."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.options import PartyConfigOption, PersonOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported
from parties.config import load_party_config

if TYPE_CHECKING:
    from governance.evidence.bundle import EvidenceBundle
    from governance.evidence.gate import Decision, Reason
    from parties.own_assessing import OwnJudged
    from privacy.risk.own_model import OwnAttack, OwnRows
    from protocols.model.spec import ModelSpec

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


@app.command("own")
@reported
def own(
    *,
    config: PartyConfigOption,
    person: PersonOption,
    published: Annotated[
        str | None, typer.Option("--published", metavar="MODEL", help="name@version, as `confide model published` shows it.")
    ] = None,
    manifest: Annotated[Path | None, typer.Option("--manifest", help="Else: the architecture, JSON.", dir_okay=False)] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="Its weights, safetensors.", dir_okay=False)] = None,
    terms: Annotated[Path | None, typer.Option("--terms", help="As it is to be published: YAML.", dir_okay=False)] = None,
    validation: Annotated[
        Path | None,
        typer.Option("--validation", help="As of the publication: rows that polynomials are fitted on.", dir_okay=False),
    ] = None,
    approximate: Annotated[
        int | None, typer.Option("--approximate", metavar="DEGREE", help="As of the publication: polynomials of this degree.")
    ] = None,
    between: Annotated[
        tuple[float, float] | None,
        typer.Option("--range", metavar="LOW HIGH", help="As of the publication: for these arguments."),
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", help="party/name/version of own rows behind it; else as the terms say.")
    ] = None,
    members: Annotated[
        Path | None, typer.Option("--members", help="Rows that it was trained on: CSV; they stay here.", dir_okay=False)
    ] = None,
    others: Annotated[
        Path | None, typer.Option("--others", help="Rows that it was not trained on: CSV; they stay here.", dir_okay=False)
    ] = None,
    label: Annotated[str | None, typer.Option("--label", help="The column of labels in both.")] = None,
    sensitive: Annotated[str | None, typer.Option("--sensitive", help="The feature that an attacker would like to know.")] = None,
    hidden: Annotated[
        list[str] | None, typer.Option("--hidden", help="A number that is drawn back out; again for more. The sensitive one.")
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", help="A column of groups, of gaps between which a class may speak.")
    ] = None,
    shadows: Annotated[int, typer.Option("--shadows", min=8, max=1024, help="Shadow models of the attack.")] = 64,
    without_figures: Annotated[
        bool, typer.Option("--without-figures", help="Nobody can attack it; people answer for it, if the class names any.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Where the signed bundle is written too.", dir_okay=False)] = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Attack a model of this institution's own with its rows, and make, sign and keep evidence; say what the gate says.

    The rows stay here. The evidence is about the model as it answers encrypted queries: bring what you publish, or name what is.
    """
    from governance.evidence.bundle import EvidenceBundle
    from parties.models import read_label
    from parties.own_assessing import AttackFiles, answering_model, brought_model, make_own_evidence
    from parties.publication_files import load_publication_terms
    from parties.publishing import PublicationFiles
    from parties.storage.files import write_public
    from privacy.risk.own_model import seconds_for
    from protocols.ckks.offers import Choice

    loaded = load_party_config(config)
    if (published is None) == (manifest is None or weights is None or terms is None):
        raise typer.BadParameter("name a --published model, or bring --manifest, --weights and --terms")
    rows = None
    if not without_figures:
        if members is None or others is None or label is None or sensitive is None:
            wanted = "--members, --others, --label and --sensitive say what it is attacked with"
            raise typer.BadParameter(f"{wanted}; without rows behind it, --without-figures")
        rows = AttackFiles(members, others, label, sensitive, tuple(hidden or ()), group, shadows)
    said: tuple[str, ...] = ()
    if published is not None:
        model = answering_model(loaded, read_label(published))
    elif manifest is not None and weights is not None and terms is not None:
        declared = load_publication_terms(terms)
        said = declared.datasets
        chosen = None if approximate is None else Choice(approximate, between)
        files = PublicationFiles(manifest, weights, validation, label if validation is not None else None)
        model = brought_model(loaded, files, declared, approximation=chosen)
    output = Output(output_format)

    def tell(spec: ModelSpec, rows: OwnRows, attack: OwnAttack) -> None:
        seconds = seconds_for(spec, rows, attack, time.process_time)
        output.note(
            f"the model is attacked with {len(rows.members.labels):,} rows that it was trained on and"
            f" {len(rows.others.labels):,} that it was not, by {attack.shadows} shadow models:"
            f" about {math.ceil(seconds)} seconds of one core, longer on a busy machine"
        )

    judged = make_own_evidence(loaded, person, model, datasets=tuple(dataset or said), rows=rows, now=now(), tell=tell)
    if out is not None:
        write_public(out, judged.record.signed.to_bytes())
    text = f"{bundle_text(EvidenceBundle.from_bytes(judged.record.signed.body))}\n{_own_text(judged)}"
    output.result(_own_data(judged), text)


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
    from parties.own_assessing import judge_own_evidence
    from parties.renewal import reports_put_off

    loaded, ref = load_party_config(config), read_label(model)
    own = judge_own_evidence(loaded, ref, now=now())
    judged = own or judge_evidence(loaded, ref, now=now())
    waiting = [each.in_words for each in reports_put_off(loaded, ref, now=now())] if own is None else []
    bundle = EvidenceBundle.from_bytes(judged.record.signed.body)
    data: dict[str, Json] = {"evidence": dict(judged.record.signed.document), **decision_data(judged.decision)}
    text = "\n".join([bundle_text(bundle), decision_text(judged.decision), *waiting])
    Output(output_format).result({**data, "put_off": [*waiting]}, text)


@app.command("verify")
@reported
def verify(
    *,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A signed bundle.", dir_okay=False)],
    config: PartyConfigOption,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Check who signed a bundle and every risk report and audit in it; whether it is enough is the gate's to say."""
    from governance.canary_audit import verify_canary_audit
    from governance.documents import SignedDocument
    from governance.evidence.bundle import verify_evidence
    from governance.risk_report import verify_risk_report
    from parties.agreements import load_member
    from parties.evidence import MAX_FILE_BYTES
    from parties.storage.files import read_public

    directory = load_member(load_party_config(config), now()).directory
    found = verify_evidence(SignedDocument.from_bytes(read_public(bundle, max_bytes=MAX_FILE_BYTES)), directory)
    owners = sorted({verify_risk_report(report, directory).owner for report in found.risk_reports})
    signed = [audit for training in found.trainings for audit in training.audits]
    audited = sorted({verify_canary_audit(audit, directory).owner for audit in signed})
    data: dict[str, Json] = {"model": found.ref.label, "issuer": found.issuer, "evidence": found.digest}
    reports, audits = (", ".join(each) or "nobody" for each in (owners, audited))
    text = f"{found.issuer} signed it about {found.ref.label}; risk reports of {reports}; audits by canaries of {audits}."
    Output(output_format).result(data | {"risk_reports_of": [*owners], "audits_of": [*audited]}, text)


@app.command("approve")
@reported
def approve(
    *,
    model: ModelArgument,
    config: PartyConfigOption,
    person: PersonOption,
    evidence: Annotated[
        str, typer.Option("--evidence", help="First digits of the bundle that you have looked at; another one is refused.")
    ] = "",
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Approve the release of a version under the last bundle about it; it counts for later ones that are no worse."""
    from parties.evidence import approve_release
    from parties.models import read_label
    from parties.own_assessing import approve_own, judge_own_evidence

    loaded, ref = load_party_config(config), read_label(model)
    if judge_own_evidence(loaded, ref, now=now()) is not None:
        approved = approve_own(loaded, person, ref, now=now(), seen=evidence)
        Output(output_format).result(_own_data(approved), _own_text(approved))
        return
    judged = approve_release(loaded, person, ref, now=now(), seen=evidence)
    Output(output_format).result(decision_data(judged.decision), decision_text(judged.decision))


def _own_data(judged: OwnJudged) -> dict[str, Json]:
    from parties.own_evidence import own_remedy

    return {**decision_data(judged.decision, own_remedy), "answers": [ref.label for ref in judged.published]}


def _own_text(judged: OwnJudged) -> str:
    from parties.own_evidence import own_remedy

    text = decision_text(judged.decision, own_remedy)
    if judged.published:
        text += f"\nPublished as {', '.join(ref.label for ref in judged.published)}."
    return text


def decision_data(decision: Decision, remedy: Callable[[Reason], str] | None = None) -> dict[str, Json]:
    """Returns a decision of the gate for programs; `remedy` says what to do about a reason, as of any release if it is None."""
    from governance.evidence.gate import Verdict
    from parties.release_remedies import remedy_for

    reasons: list[Json] = [
        {
            "code": reason.code.value,
            "verdict": reason.verdict.value,
            "what": reason.what,
            "remedy": "" if decision.verdict is Verdict.PASS else (remedy or remedy_for)(reason),
        }
        for reason in decision.reasons
    ]
    return {
        "model": None if decision.ref is None else decision.ref.label,
        "bundle": decision.bundle or None,
        "verdict": decision.verdict.value,
        "classes": [*decision.classes],
        "reasons": reasons,
    }


def decision_text(decision: Decision, remedy: Callable[[Reason], str] | None = None) -> str:
    """Returns a decision of the gate for people, with what to do about each reason unless it passes."""
    from governance.evidence.gate import Verdict
    from parties.release_remedies import remedy_for

    label = "the bundle" if decision.ref is None else decision.ref.label
    lines = [f"{label}: {decision.verdict.value}" + (f" (class {', '.join(decision.classes)})" if decision.classes else "")]
    for reason in decision.reasons:
        lines.append(f"  {reason.verdict.value}: {reason.what} [{reason.code.value}]")
        if decision.verdict is not Verdict.PASS:
            lines.append(f"    what to do: {(remedy or remedy_for)(reason)}")
    return "\n".join(lines)


def bundle_text(bundle: EvidenceBundle) -> str:
    """Returns a bundle for people."""
    lines = [f"evidence {bundle.digest[:12]} of {bundle.issuer} about {bundle.ref.label}, {bundle.time:%Y-%m-%d %H:%M:%S} UTC"]
    for part, sentences in bundle.impact.items():
        lines += [f"{part}:", *(f"  {sentence}" for sentence in sentences)]
    if bundle.changes:
        lines += ["changed since the last release:", *(f"  {change}" for change in bundle.changes)]
    return "\n".join(lines)
