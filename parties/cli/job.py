"""`confide job`: a researcher's commands; what they print is worded in `job_words`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli import approvals
from parties.cli.job_words import (
    charge_note,
    checkpoints_in_words,
    describe_answer,
    describe_job,
    describe_outputs,
    describe_plan,
    describe_progress,
    job_in_words,
    model_of,
    outputs_in_words,
    plan_in_words,
    progress_in_words,
)
from parties.cli.opened_client import opened_client
from parties.cli.options import ResearcherConfigOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, exit_code, reported, table
from parties.cli.range_words import describe_ranges, ranges_in_words
from parties.client.progress import ending_in_words
from protocols.errors import ConfideError, ErrorCode
from protocols.job import TIME_FORMAT

if TYPE_CHECKING:
    from parties.client.client import Client, PreparedJob
    from parties.client.progress import Progress
    from protocols.job import Job
    from protocols.session.messages import Ending

REQUEST_HELP = "The request, a YAML file: type, parties, data sets, model; docs/jobs.md shows one of each type."
RequestArgument = Annotated[Path, typer.Argument(metavar="REQUEST", help=REQUEST_HELP, dir_okay=False)]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, as `submit` printed it, or its beginning.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait at most.")]
app = typer.Typer(help="Submit jobs to the parties and follow them; approve them for an institution.", no_args_is_help=True)
app.add_typer(approvals.app)  # without a name: its commands stand among those of `confide job`


@app.command("plan")
@reported
def plan(*, request: RequestArgument, config: ResearcherConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Show what a job would do, send and open; nothing runs."""
    with opened_client(config) as client:
        prepared = _prepared(client, request)
        found = client.plan(prepared.job)
    from parties.client.preparations import preparation_notes
    from privacy.accounting.statement import privacy_in_words

    privacy = None if prepared.job.training is None else privacy_in_words(prepared.job)
    data, lines = {**describe_plan(found), "privacy": privacy}, [plan_in_words(found, prepared.job)]
    if prepared.ranges is not None:
        data |= {"ranges": describe_ranges(prepared.ranges)}
        lines.append(ranges_in_words(prepared.ranges))
    if notes := preparation_notes(prepared.job):
        data |= {"notes": [*notes]}
        lines += notes
    Output(output_format).result(data, "\n\n".join(lines))


@app.command("submit")
@reported
def submit(*, request: RequestArgument, config: ResearcherConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Sign a job and give it to every participant; prints its id."""
    output = Output(output_format)
    with opened_client(config) as client:
        prepared = _prepared(client, request)
        for warning in prepared.warnings:
            output.note(f"warning: {warning}")
        _submit(client, prepared, output)
    output.result({**describe_job(prepared.job), "warnings": list(prepared.warnings)}, prepared.job.job_id)


@app.command("list")
@reported
def list_all(*, config: ResearcherConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """List the jobs that were submitted from here, with their state now."""
    with opened_client(config) as client:
        jobs = client.jobs()
        states = {job.job_id: _state(client, job) for job in jobs}
    rows = [
        (job.job_id, job.job_type.value, states[job.job_id], job.created.strftime(TIME_FORMAT), _model(job, states[job.job_id]))
        for job in jobs
    ]
    data: list[Json] = [{**describe_job(job), "state": states[job.job_id]} for job in jobs]
    Output(output_format).result({"jobs": data}, table(("job", "type", "state", "created", "model"), rows))


@app.command("show")
@reported
def show(*, job_id: JobArgument, config: ResearcherConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Show what every participant says of a job."""
    rows: list[tuple[str, ...]] = []
    parties: list[Json] = []
    unheard: list[str] = []
    heard: dict[str, Progress] = {}
    ending: Ending | None = None
    with opened_client(config) as client:
        job = client.job(job_id)
        for party in job.participants:
            try:
                said = client.progress(job.job_id, party)
            except ConfideError as error:
                rows.append((party, "unknown", "", "", ""))
                parties.append({"party": party, "error": error.code.name})
                unheard.append(f"{party}: {error.code.name}: {error.what}")
                continue
            heard[party] = said
            rows.append(progress_in_words(said))
            parties.append(describe_progress(said))
            ending = ending or said.ending
    lines = [job_in_words(job), table(("party", "state", "phase", "rounds", "payload bytes"), rows), *unheard]
    if job.query_commitment is not None:
        lines.append(f"commitment to the samples, in the parties' logs: {job.query_commitment}")
    if checkpoints := checkpoints_in_words(job, heard):
        lines.append(checkpoints)
    if ending is not None and ending.code:
        lines += [ending_in_words(ending), f"what to do: {ending.remedy}"]
        lines += [note] if (note := charge_note(job, ending)) else []
    Output(output_format).result({**describe_job(job), "parties": parties}, "\n".join(lines))


@app.command("watch")
@reported
def watch(*, job_id: JobArgument, config: ResearcherConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Follow a job to its end: progress bars on a terminal, lines of JSON otherwise."""
    on_terminal = output_format is OutputFormat.TEXT and sys.stdout.isatty()
    output = Output(OutputFormat.JSONL if output_format is OutputFormat.TEXT and not on_terminal else output_format)
    with opened_client(config) as client:
        job = client.job(job_id)
        ending = _with_bars(client, job) if on_terminal else _with_records(client, job, output)
    _finish(output, job, ending)


@app.command("wait")
@reported
def wait(
    *,
    job_id: JobArgument,
    config: ResearcherConfigOption,
    timeout_s: TimeoutOption = 600.0,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Wait for a job's end and print it; exit code 0 only if the job completed."""
    with opened_client(config) as client:
        job = client.job(job_id)
        ending = client.wait(job, timeout_s=timeout_s)
    _finish(Output(output_format), job, ending)


@app.command("explain")
@reported
def explain(
    *,
    job: Annotated[str, typer.Argument(metavar="REQUEST-OR-JOB", help="A request, a YAML file; or a job's id or its beginning.")],
    config: ResearcherConfigOption,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Say all reasons of all parties against a job, whom it waits for, or how it ended; it need not have been submitted."""
    if not Path(job).is_file() and not job.isalnum():
        what = f"there is no file {job}, and no job has such an id"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Name a request's file, or a job of `confide job list`.")
    with opened_client(config) as client:
        answers = client.explain(_prepared(client, Path(job)) if Path(job).is_file() else job)
    data: dict[str, Json] = {"refused": answers.refuse, "parties": [describe_answer(answer) for answer in answers]}
    Output(output_format).result(data, str(answers))


@app.command("cancel")
@reported
def cancel(*, job_id: JobArgument, config: ResearcherConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Ask for a job's cancellation; `wait` shows whether it came in time."""
    with opened_client(config) as client:
        job = client.job(job_id)
        client.cancel(job)
    Output(output_format).result(describe_job(job), f"Asked to cancel {job.job_id}.")


@app.command("resume")
@reported
def resume(*, job_id: JobArgument, config: ResearcherConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Take a training that was aborted up at its newest checkpoint, as a new job; prints its id."""
    from parties.client.resume import resume_job

    output = Output(output_format)
    with opened_client(config) as client:
        prepared = resume_job(client, client.job(job_id), now())
        _submit(client, prepared, output)
    output.result(describe_job(prepared.job), prepared.job.job_id)


@app.command("result")
@reported
def result(
    *,
    job_id: JobArgument,
    config: ResearcherConfigOption,
    report: Annotated[
        Path | None, typer.Option("--report", help="Evaluations and assessments: write a report.", dir_okay=False)
    ] = None,
    usual: Annotated[
        Path | None, typer.Option("--usual", help="With --report: that on the usual rows, to tell the drop.", dir_okay=False)
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Write the reliability diagram (SVG).", dir_okay=False)
    ] = None,
    schema: Annotated[
        Path | None, typer.Option("--schema", help="Moments: write a schema with standardising ranges.", dir_okay=False)
    ] = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Fetch the shares of a completed job's outputs and open them here."""
    from parties.cli.schema_files import check_schema_file, write_schema_file
    from parties.cli.utility_files import check_utility_files, write_utility_files
    from protocols.row_noise import opens_moments

    with opened_client(config) as client:
        job = client.job(job_id)
        if not job.closing_outputs:  # nobody will be asked for a share, who would say that it has not completed
            _require_completed(Output(output_format), client, job)
        # Before the outputs are fetched, since they are handed out once.
        check_utility_files(job, report=report, usual=usual, picture=picture)
        check_schema_file(job, schema)
        opened = client.opened(job)
    values, output = {name: each.value for name, each in opened.items()}, Output(output_format)
    output.result({"job": job.job_id, "outputs": describe_outputs(values)}, outputs_in_words(job, values))
    write_utility_files(job, opened, report=report, usual=usual, picture=picture, sign=client.calls.signed_utility)
    write_schema_file(job, opened, schema)
    if schema is None and opens_moments(job):
        output.note(f"what proves ranges made of it is kept; `confide job result {job.job_id} --schema FILE` writes them")


def _submit(client: Client, prepared: PreparedJob, output: Output) -> None:
    try:
        client.submit(prepared)
    except ConfideError:
        # Some participants may have taken it: without the id nobody could ask them what became of it.
        output.note(f"job {prepared.job.job_id} was not taken by everybody; `job show` tells what became of it")
        raise


def _prepared(client: Client, request: Path) -> PreparedJob:
    from parties.client.prepare import prepare_job
    from parties.client.requests import read_request

    return prepare_job(client, read_request(request), folder=request.parent, now=now())


def _with_bars(client: Client, job: Job) -> Ending:
    from rich.console import Console

    from parties.cli.job_bars import follow_with_bars

    return follow_with_bars(lambda party: client.progress(job.job_id, party), job.participants, console=Console())


def _with_records(client: Client, job: Job, output: Output) -> Ending:
    ending: Ending | None = None
    for said in client.watch(job):
        output.record(describe_progress(said), " ".join(progress_in_words(said)))
        ending = said.ending
    if ending is None:
        raise ConfideError(ErrorCode.PARTY_UNREACHABLE, "the parties were lost before the job's end was known")
    return ending


def _finish(output: Output, job: Job, ending: Ending) -> None:
    from protocols.session.states import State

    data: dict[str, Json] = {**describe_job(job), "ending": ending.to_document()}
    if ending.state is State.COMPLETED:
        model = f"; model {model_of(job)}" if job.produced_model else ""
        output.result(data, f"job {job.job_id} completed{model}")
        return
    code = ErrorCode.CANCELLED if ending.code == ErrorCode.CANCELLED.name else ErrorCode.JOB_FAILED
    what = f"job {job.job_id} was {ending_in_words(ending)}"
    error = ConfideError(code, what, remedy=ending.remedy, party=ending.at_fault)
    if note := charge_note(job, ending):
        output.note(note)
    output.error(error, data=data)
    raise typer.Exit(exit_code(error))


def _require_completed(output: Output, client: Client, job: Job) -> None:
    """Says how a job ended if it did not complete, and exits.

    Raises:
        ConfideError: NOT_READY: it goes on; or why no participant can be asked.
    """
    from protocols.session.states import State

    silent: ConfideError | None = None
    goes_on = ""
    for party in job.participants:
        try:
            said = client.progress(job.job_id, party)
        except ConfideError as error:
            silent = error
            continue
        if said.ending is not None:
            if said.ending.state is not State.COMPLETED:
                _finish(output, job, said.ending)
            return
        goes_on = goes_on or f"{party} says that job {job.job_id} is {said.state}"
    if goes_on or silent is None:
        raise ConfideError(ErrorCode.NOT_READY, goes_on)
    raise silent


def _model(job: Job, state: str) -> str:
    from protocols.session.states import State

    return "" if job.produced_model and state != State.COMPLETED.value else model_of(job)


def _state(client: Client, job: Job) -> str:
    for party in job.participants:
        try:
            return client.progress(job.job_id, party).state
        except ConfideError:
            continue
    return "unknown"
