"""`confide model`: what a holder's people see of models, and decide about them.

Researchers see models in `confide catalogue`; what is here comes from the institution's own database.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.assessment import app as assessment_app
from parties.cli.evidence import app as evidence_app
from parties.cli.options import PartyConfigOption, PersonOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from parties.cli.publish import publish, published, withdraw
from parties.cli.released import licence, receive
from parties.config import load_party_config
from protocols.job import TIME_FORMAT

if TYPE_CHECKING:
    from governance.lineage.alias import AliasStatement
    from parties.models import HeldModel

app = typer.Typer(help="See where models come from and what may be done with them; name, withdraw and destroy them.")
alias_app = typer.Typer(help="What live, candidate and released stand for, at every holder.", no_args_is_help=True)
app.add_typer(alias_app, name="alias")
app.add_typer(evidence_app, name="evidence")
app.add_typer(assessment_app, name="assessment")
app.command("publish")(publish)
app.command("published")(published)
app.command("withdraw")(withdraw)
app.command("receive")(receive)
app.command("licence")(licence)
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="name@version, as `confide model list` shows it.")]
AliasArgument = Annotated[str, typer.Argument(metavar="ALIAS", help="name@live, name@candidate or name@released.")]


@app.command("list")
@reported
def list_all(*, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """List the models of which this institution holds shares."""
    from parties.models import held_models

    models = held_models(load_party_config(config))
    rows = [
        (
            model.ref.label,
            ", ".join(model.holders),
            model.created.strftime(TIME_FORMAT),
            ", ".join(model.aliases),
            _state(model),
            model.privacy,
        )
        for model in models
    ]
    text = table(("model", "held by", "since", "called", "state", "privacy"), rows)
    Output(output_format).result({"models": [_describe(model) for model in models]}, text)


@app.command("show")
@reported
def show(*, model: ModelArgument, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Show one model: who holds it, what it is called here, and whether it may be used."""
    from parties.models import held_model, read_label

    found = held_model(load_party_config(config), read_label(model))
    lines = [f"model {found.ref.label}, {_state(found)}"]
    lines += [f"  held by: {', '.join(found.holders)}", f"  since: {found.created.strftime(TIME_FORMAT)}"]
    lines += [f"  training steps: {found.steps}", f"  called: {', '.join(found.aliases) or 'nothing'}"]
    lines.append(f"  privacy: {found.privacy}")
    lines += [f"  not used any more: {why}" for why in found.why_not]
    Output(output_format).result(_describe(found), "\n".join(lines))


@app.command("lineage")
@reported
def lineage(*, model: ModelArgument, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Show what a model came of, by whose consent, and what came of it."""
    from parties.models import lineage as lineage_of
    from parties.models import read_label

    graph, tree = lineage_of(load_party_config(config), read_label(model), now=now())
    Output(output_format).result(json.loads(json.dumps(graph.to_document())), tree)


@app.command("explain")
@reported
def explain(*, model: ModelArgument, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Say why a model may be used now, or why not: by which consents, until when."""
    from parties.models import explain as explain_use
    from parties.models import read_label

    said = explain_use(load_party_config(config), read_label(model), now=now())
    Output(output_format).result({"model": model, "sentences": list(said)}, "\n".join(said))


@app.command("card")
@reported
def card(*, model: ModelArgument, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Print a model's card, made from facts: Markdown, or JSON."""
    from parties.models import card as card_of
    from parties.models import read_label

    made = card_of(load_party_config(config), read_label(model), now=now())
    Output(output_format).result(json.loads(json.dumps(made.to_document())), made.to_markdown().rstrip())


@app.command("revoke")
@reported
def revoke(
    *,
    model: ModelArgument,
    config: PartyConfigOption,
    person: PersonOption,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Take part in no use of a model any more; without this holder's share nobody can use it. There is no way back."""
    from parties.models import read_label, withdraw_model

    ref = read_label(model)
    withdraw_model(load_party_config(config), person, ref, now=now())
    Output(output_format).result({"model": ref.label}, f"{ref.label} is not used any more; its jobs stop.")


@app.command("delete")
@reported
def delete(
    *,
    model: ModelArgument,
    config: PartyConfigOption,
    person: PersonOption,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Destroy this institution's share of a model; the other holders get a receipt. There is no way back."""
    from parties.models import delete_model, read_label

    ref = read_label(model)
    if not yes:
        typer.confirm(f"Destroy the share of {ref.label} for good?", abort=True, err=True)
    delete_model(load_party_config(config), person, ref, now=now())
    text = f"The share of {ref.label} is destroyed; the other holders are told by a receipt."
    Output(output_format).result({"model": ref.label}, text)


@alias_app.command("list")
@reported
def alias_list(*, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """List what every alias stands for, here and at the other holders."""
    from parties.models import aliases

    found = aliases(load_party_config(config))
    rows = [(f"{each.ref.name}@{each.alias.value}", each.ref.version, each.holder) for each in found]
    data: list[Json] = [{"alias": alias, "version": version, "holder": holder} for alias, version, holder in rows]
    Output(output_format).result({"aliases": data}, table(("alias", "version", "at"), rows))


@alias_app.command("set")
@reported
def alias_set(
    *,
    alias: AliasArgument,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Of the model, 12 hexadecimal digits.")],
    config: PartyConfigOption,
    person: PersonOption,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Have an alias stand for a version at this holder; requests find it when every holder has done the same."""
    from parties.models import move_alias_forward, read_alias, read_label

    name, called = read_alias(alias)
    said = move_alias_forward(load_party_config(config), person, read_label(f"{name}@{version}"), called, now=now())
    _told(said, Output(output_format))


@alias_app.command("rollback")
@reported
def alias_rollback(
    *,
    alias: AliasArgument,
    config: PartyConfigOption,
    person: PersonOption,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Have an alias stand for the version before, here at once and at all other holders within seconds."""
    from parties.models import move_alias_back, read_alias

    name, called = read_alias(alias)
    _told(move_alias_back(load_party_config(config), person, name, called, now=now()), Output(output_format))


def _told(said: AliasStatement, output: Output) -> None:
    data: dict[str, Json] = {"alias": said.label, "version": said.version, "before": said.before, "move": said.move.value}
    before = "" if said.before in (None, said.version) else f"; before: {said.before}"
    output.result(data, f"{said.label} stands for {said.version} here{before}.")


def _state(model: HeldModel) -> str:
    if model.deleted:
        return "destroyed"
    return "revoked" if model.why_not else "usable"


def _describe(model: HeldModel) -> dict[str, Json]:
    return {
        "model": model.ref.label,
        "held_by": list(model.holders),
        "created": model.created.strftime(TIME_FORMAT),
        "steps": model.steps,
        "aliases": list(model.aliases),
        "privacy": model.privacy,
        "state": _state(model),
        "why_not": list(model.why_not),
    }
