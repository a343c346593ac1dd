"""Commands under `confide job` for the people of an institution: what waits for them, what it would do, their yes or no."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.options import PartyConfigOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from parties.config import load_party_config
from protocols.job import TIME_FORMAT

if TYPE_CHECKING:
    from governance.policy.approval import Answer, Tally

app = typer.Typer()
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, or its beginning.")]
PersonOption = Annotated[Path, typer.Option("--person", help="The folder of the person who signs.", file_okay=False)]


@app.command("pending")
@reported
def pending(*, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """List the jobs that wait for the approval of this institution's people."""
    from parties.approving import pending as find

    found = find(load_party_config(config))
    rows = [
        (
            e.job.job_id,
            e.job.job_type.value,
            e.job.querier,
            e.job.purpose,
            e.request.rule,
            _count(e.tally),
            e.job.agree_by.strftime(TIME_FORMAT),
        )
        for e in found
    ]
    data: list[Json] = [
        {
            "job": e.job.job_id,
            "type": e.job.job_type.value,
            "querier": e.job.querier,
            "purpose": e.job.purpose,
            "rule": e.request.rule,
            "asked": e.request.asked.strftime(TIME_FORMAT),
            "agree_by": e.job.agree_by.strftime(TIME_FORMAT),
            **_described(e.tally),
            "approvers": list(e.request.approvers),
        }
        for e in found
    ]
    text = table(("job", "type", "querier", "purpose", "rule", "approved", "until"), rows) if rows else "no job waits for people"
    Output(output_format).result({"pending": data}, text)


@app.command("preview")
@reported
def preview(*, job_id: JobArgument, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Show what a job would do at this institution; once it has ended, what was measured beside it."""
    from parties.approving import show_job
    from parties.cli.preview_words import describe_measured, measured_in_words, preview_in_words

    shown = show_job(load_party_config(config), job_id)
    data: dict[str, Json] = {"state": shown.state, "preview": json.loads(shown.preview.to_bytes())}
    lines = [preview_in_words(shown.preview), "", f"state: {shown.state}"]
    if shown.request is not None and shown.tally is not None:
        data["approval"] = {"rule": shown.request.rule, "approvers": list(shown.request.approvers), **_described(shown.tally)}
        lines.append(f"approved: {_count(shown.tally)}; may approve: {', '.join(shown.request.approvers)}")
    if shown.measured is not None:
        data["measured"] = describe_measured(shown.preview, shown.measured)
        lines += ["", measured_in_words(shown.preview, shown.measured)]
    Output(output_format).result(data, "\n".join(lines))


@app.command("approve")
@reported
def approve(
    *,
    job_id: JobArgument,
    config: PartyConfigOption,
    person: PersonOption,
    comment: Annotated[str, typer.Option("--comment", help="A reason, kept with the approval.")] = "",
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Sign that a job may run with the plan that was previewed; it then goes on by itself."""
    from governance.policy.approval import Answer

    _answer(config, person, job_id, Answer.APPROVE, comment, output_format)


@app.command("deny")
@reported
def deny(
    *,
    job_id: JobArgument,
    config: PartyConfigOption,
    person: PersonOption,
    reason: Annotated[str, typer.Option("--reason", help="Told to the querier and the other parties.")],
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Sign that a job may not run; one denial ends it."""
    from governance.policy.approval import Answer

    _answer(config, person, job_id, Answer.DENY, reason, output_format)


def _answer(config: Path, person: Path, job_id: str, said: Answer, comment: str, output_format: OutputFormat) -> None:
    from parties.approving import answer

    approval, found = answer(load_party_config(config), person, job_id, said, comment=comment, now=now())
    data: dict[str, Json] = {
        "job": approval.question.job[:32],
        "person": approval.person,
        "answer": said.value,
        **_described(found),
    }
    words = f"{approval.person} signed: {said.value} job {approval.question.job[:32]}"
    missing = f"; {found.missing} more must approve" if not found.is_denied and found.missing else ""
    Output(output_format).result(data, words + missing)


def _count(tally: Tally) -> str:
    return f"{len(tally.approved)} of {tally.needed}"


def _described(tally: Tally) -> dict[str, Json]:
    return {
        "needed": tally.needed,
        "approved": list(tally.approved),
        "denied": list(tally.denied),
        "ignored": list(tally.ignored),
    }
