"""`confide budget`: what an owner's data sets and models have been used for, and what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.options import PartyConfigOption, PersonOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from parties.config import load_party_config
from protocols.errors import ConfideError, ErrorCode
from protocols.job import TIME_FORMAT

if TYPE_CHECKING:
    from decimal import Decimal

    from governance.budget.amounts import Amount
    from parties.budgets import AccountState

app = typer.Typer(help="Look at what was spent of data sets and models, and set the most that may be.", no_args_is_help=True)
AccountArgument = Annotated[
    str, typer.Argument(metavar="ACCOUNT", help="dataset/POPULATION, of all its data sets, or model/NAME@VERSION.")
]
SHOWN_DIGITS = 12
MAX_COUNT = 1_000_000_000  # as in a policy


@app.command("show")
@reported
def show(
    *,
    account: Annotated[str | None, typer.Argument(metavar="[ACCOUNT]", help="One account; all if not given.")] = None,
    config: PartyConfigOption,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Show what is spent and permitted, of one account or of all."""
    from parties.budgets import budget, budgets

    loaded = load_party_config(config)
    states = budgets(loaded) if account is None else (budget(loaded, account),)
    rows = [
        (state.account, ", ".join(state.datasets) or "-", *_in_words(state), _units(state), _source(state)) for state in states
    ]
    text = table(("account", "data sets", "queries", "answers", "epsilon", "delta", "epsilon is for", "caps of"), rows)
    Output(output_format).result({"budgets": [_describe(state) for state in states]}, text)


@app.command("history")
@reported
def history(*, account: AccountArgument, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """List every reservation, debit and refund of an account, in order."""
    from parties.budgets import history as entries_of

    entries = entries_of(load_party_config(config), account)
    rows = [
        (e.time.strftime(TIME_FORMAT), e.step.value, e.job_id[:SHOWN_DIGITS], *(str(value) for value in _values(e.amount)))
        for e in entries
    ]
    data: list[Json] = [
        {"time": e.time.strftime(TIME_FORMAT), "step": e.step.value, "job": e.job_id, **e.amount.to_facts()} for e in entries
    ]
    text = table(("time", "step", "job", "queries", "answers", "epsilon", "delta"), rows)
    Output(output_format).result({"account": account, "entries": data}, text)


@app.command("set")
@reported
def set_caps(
    *,
    account: AccountArgument,
    config: PartyConfigOption,
    person: PersonOption,
    queries: Annotated[int, typer.Option("--queries", min=0, max=MAX_COUNT, help="Jobs that open something about it, in all.")],
    answers: Annotated[int, typer.Option("--answers", min=0, max=MAX_COUNT, help="Outputs and predictions opened, in all.")],
    epsilon: Annotated[
        str | None, typer.Option("--epsilon", help="A decimal; then nothing is opened without noise. No cap if not given.")
    ] = None,
    delta: Annotated[str | None, typer.Option("--delta", help="A decimal, beside --epsilon.")] = None,
    permit: Annotated[
        list[str] | None,
        typer.Option(
            "--permit", help="A type of job that may open without noise beside --epsilon: no formal guarantee. Repeatable."
        ),
    ] = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Set the most that may ever be spent on an account, above the policy, by a privacy officer."""
    from governance.policy.budgets import Caps
    from parties.budgets import set_budget

    permits = tuple(dict.fromkeys(permit or ()))
    caps = Caps(queries, answers, _decimal("--epsilon", epsilon), _decimal("--delta", delta), permits)
    state = set_budget(load_party_config(config), person, account, caps, now=now().replace(microsecond=0))
    spent = zip(_in_words(state), ("queries", "answers", "epsilon", "delta"), strict=True)
    text = f"Spent of {account}: {'; '.join(f'{measure} {words}' for words, measure in spent)}."
    Output(output_format).result(_describe(state), text)


def _decimal(option: str, text: str | None) -> Decimal | None:
    from governance.policy.budgets import read_decimal

    try:
        return None if text is None else read_decimal(text)
    except ValueError as error:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{option}: {error}") from error


def _values(amount: Amount) -> tuple[int, int, str, str]:
    return amount.queries, amount.answers, amount.epsilon_in_words, f"{amount.delta:f}"


def _in_words(state: AccountState) -> tuple[str, ...]:
    from privacy.accounting.statement import NO_GUARANTEE

    queries, answers, epsilon, delta = _values(state.spent)
    if state.spent.epsilon is None and state.counted.epsilon is not None:
        epsilon = state.counted.epsilon_in_words
    elif state.spent.epsilon is None and state.with_noise.queries:
        epsilon = f"{epsilon} (with noise: {state.with_noise.epsilon_in_words})"
    found = [f"{used} of {cap}" for used, cap in zip((queries, answers, epsilon, delta), state.caps.in_words, strict=True)]
    if state.caps.permits:
        found[2] += f"; beside it {', '.join(state.caps.permits)} without noise: {NO_GUARANTEE}"
    return tuple(found)


def _units(state: AccountState) -> str:
    """Returns for whom the account's epsilon holds: each relation and unit of which something is charged."""
    return "; ".join(part.bound.unit for part in state.with_noise.parts) or "-"


def _source(state: AccountState) -> str:
    return "the policy" if state.set_by is None else f"authorisation {state.set_by.authorisation[:SHOWN_DIGITS]}"


def _describe(state: AccountState) -> dict[str, Json]:
    caps: dict[str, Json] = {
        "queries": state.caps.queries,
        "answers": state.caps.answers,
        "epsilon": None if state.caps.epsilon is None else f"{state.caps.epsilon:f}",
        "delta": None if state.caps.delta is None else f"{state.caps.delta:f}",
        "permits": list(state.caps.permits),
    }
    return {
        "account": state.account,
        "datasets": list(state.datasets),
        "spent": dict(state.spent.to_facts()),
        "with_noise": dict(state.with_noise.to_facts()),
        "counted": dict(state.counted.to_facts()),
        "composed": _composed(state.spent),
        "reserved": dict(state.reserved.to_facts()),
        "caps": caps,
        "authorisation": None if state.set_by is None else state.set_by.authorisation,
    }


def _composed(amount: Amount) -> dict[str, Json]:
    """Returns epsilon as it counts against a cap, and what each unit of privacy has of it; what is in no unit adds up."""
    epsilon = amount.composed_epsilon
    units: list[Json] = [
        {
            "unit": part.bound.unit,
            "charges": part.charges,
            "added": f"{part.added:f}",
            "epsilon": f"{part.epsilon:f}",
            "at_delta": f"{part.at_delta:f}",
        }
        for part in amount.parts
    ]
    return {"epsilon": None if epsilon is None else f"{epsilon:f}", "units": units}
