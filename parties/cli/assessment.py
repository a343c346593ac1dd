"""`confide model assessment`: assessments of released versions that the party repeats by itself: order, list, end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.options import PartyConfigOption, PersonOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from parties.config import load_party_config
from protocols.job import TIME_FORMAT

if TYPE_CHECKING:
    from parties.standing_assessments import OrderStanding

app = typer.Typer(help="Have the risk of a released version assessed again and again by itself.", no_args_is_help=True)
_SHOWN = 12  # digits of a digest


@app.command("order")
@reported
def order(
    *,
    request: Annotated[
        Path, typer.Argument(metavar="REQUEST", help="As for `confide job submit`: type: assess.", dir_okay=False)
    ],
    config: PartyConfigOption,
    person: PersonOption,
    every_days: Annotated[int, typer.Option("--every-days", help="At most so many days between two assessments.")],
    until: Annotated[datetime, typer.Option("--until", help="When it ends, UTC; at most with the agreement.")],
    max_runs: Annotated[int, typer.Option("--max-runs", help="At most so many assessments run.")],
    for_owners: Annotated[
        bool, typer.Option("--for-owners", help="Hand what is opened to the other owners, so that one job serves all.")
    ] = False,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Have the serving party repeat this assessment, state what it finds, and renew the evidence by it."""
    from parties.client.requests import AssessRequest, read_request
    from parties.standing_assessments import order_assessment
    from protocols.errors import ConfideError, ErrorCode

    asked = read_request(request)
    if not isinstance(asked, AssessRequest):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{request.name} asks for no assessment", remedy="Write type: assess.")
    record = order_assessment(
        load_party_config(config),
        person,
        asked,
        every_days=every_days,
        until=until.replace(tzinfo=until.tzinfo or UTC).astimezone(UTC).replace(microsecond=0),
        max_runs=max_runs,
        for_owners=for_owners,
        now=now(),
    )
    found = record.order
    data: dict[str, Json] = {"order": found.digest, "model": found.ref.label, "until": found.until.strftime(TIME_FORMAT)}
    text = f"Standing assessment {found.digest[:_SHOWN]} of {found.ref.label} stands until {found.until:%Y-%m-%d %H:%M} UTC."
    Output(output_format).result(data, text)


@app.command("list")
@reported
def list_all(*, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """List the standing assessments: when the next one is due, and how the last one went."""
    from parties.standing_assessments import standing_assessments

    time = now()
    found = standing_assessments(load_party_config(config), now=time)
    rows = [
        (
            each.record.order.digest[:_SHOWN],
            each.record.order.ref.label,
            _stands(each, time),
            str(each.runs_left),
            _last(each),
        )
        for each in found
    ]
    text = "\n".join([table(("order", "model", "next", "runs left", "last"), rows), *_by_people(found)])
    Output(output_format).result({"orders": [_describe(each) for each in found]}, text)


@app.command("end")
@reported
def end(
    *,
    digest: Annotated[str, typer.Argument(metavar="ORDER", help="As `list` shows it.")],
    config: PartyConfigOption,
    person: PersonOption,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """End a standing assessment at once; a run that is under way is cancelled, and nothing of it is used."""
    from parties.standing_assessments import end_assessment

    found = end_assessment(load_party_config(config), person, digest, now=now()).order
    data: dict[str, Json] = {"order": found.digest, "model": found.ref.label}
    Output(output_format).result(data, f"Standing assessment {found.digest[:_SHOWN]} of {found.ref.label} has ended.")


def _stands(each: OrderStanding, time: datetime) -> str:
    if each.record.ended is not None:
        return f"ended: {each.record.why}"
    if each.runs and each.runs[-1].ended is None:
        return "under way"
    if each.unknown:
        return each.unknown
    if not each.record.order.measures:
        return f"by the reports of {', '.join(each.record.order.owners)}"
    if each.due is None:
        return "none: no runs are left" if each.runs_left < 1 else "none while it is not released here"
    return "now" if each.due <= time else f"{each.due:%Y-%m-%d %H:%M} UTC"


def _by_people(found: tuple[OrderStanding, ...]) -> Iterator[str]:
    for each in found:
        for left in each.by_people:
            until = "was never measured" if left.until is None else f"counts until {left.until:%Y-%m-%d %H:%M} UTC"
            yield (
                f"{each.record.order.ref.label}: {left.figure} {until}; no job measures it: attack the model with your rows in "
                "the clear with `confide privacy attack`, and state what you found with `confide model evidence state REPORT "
                "--in-the-clear`."
            )


def _last(each: OrderStanding) -> str:
    if not each.runs:
        return "-"
    run = each.runs[-1]
    said = f"{run.state.value} {(run.ended or run.started):%Y-%m-%d %H:%M}"
    return f"{said}: {run.what}" if run.what else said


def _describe(each: OrderStanding) -> dict[str, Json]:
    found = each.record.order
    runs: list[Json] = [
        {
            "job": None if run.job is None else run.job.job_id,
            "started": run.started.strftime(TIME_FORMAT),
            "state": run.state.value,
            "what": run.what,
            "ended": None if run.ended is None else run.ended.strftime(TIME_FORMAT),
        }
        for run in each.runs
    ]
    return {
        "order": found.digest,
        "model": found.ref.label,
        "querier": found.querier,
        "for_owners": found.for_owners,
        "every_days": found.every_days,
        "until": found.until.strftime(TIME_FORMAT),
        "runs_left": each.runs_left,
        "due": None if each.due is None else each.due.strftime(TIME_FORMAT),
        "by_people": {left.figure: None if left.until is None else left.until.strftime(TIME_FORMAT) for left in each.by_people},
        "unknown": each.unknown,
        "ended": None if each.record.ended is None else each.record.ended.strftime(TIME_FORMAT),
        "why": each.record.why,
        "runs": runs,
    }
