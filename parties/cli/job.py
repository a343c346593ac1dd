"""`confide job`: a researcher's commands."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.options import ResearcherConfigOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from protocols.errors import ConfideError, ErrorCode

if TYPE_CHECKING:
    from parties.client.client import Client, Progress
    from protocols.job import Job
    from protocols.plan.plan import Plan
    from protocols.session.messages import Ending

RequestArgument = Annotated[Path, typer.Argument(help="The request: YAML.", dir_okay=False)]
JobArgument = Annotated[str, typer.Argument(help="The job's id, or its beginning.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait at most.")]
app = typer.Typer(help="Submit jobs to the parties and follow them.", no_args_is_help=True)


@app.command("plan")
@reported
def plan(*, request: RequestArgument, config: ResearcherConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Show what a job would do, send and open; nothing runs."""
    from parties.client.prepare import prepare_job
    from parties.client.requests import read_request

    with _client(config) as client:
        prepared = prepare_job(client, read_request(request), folder=request.parent, now=now())
        found = client.plan(prepared.job)
    Output(output_format).result(_describe_plan(found), plan_in_words(found))


@app.command("submit")
@reported
def submit(*, request: RequestArgument, config: ResearcherConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Sign a job and give it to every participant; prints its id."""
    from parties.client.prepare import prepare_job
    from parties.client.requests import read_request

    with _client(config) as client:
        prepared = prepare_job(client, read_request(request), folder=request.parent, now=now())
        client.submit(prepared)
    Output(output_format).result(_describe_job(prepared.job), prepared.job.job_id)


@app.command("list")
@reported
def list_all(*, config: ResearcherConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """List the jobs that were submitted from here, with their state now."""
    with _client(config) as client:
        jobs = client.jobs()
        states = {job.job_id: _state(client, job) for job in jobs}
    rows = [(job.job_id, job.job_type.value, states[job.job_id], job.created.isoformat()) for job in jobs]
    data: list[Json] = [{**_describe_job(job), "state": states[job.job_id]} for job in jobs]
    Output(output_format).result({"jobs": data}, table(("job", "type", "state", "created"), rows))


@app.command("show")
@reported
def show(*, job_id: JobArgument, config: ResearcherConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Show what every participant says of a job."""
    with _client(config) as client:
        job = client.job(job_id)
        rows: list[tuple[str, ...]] = []
        parties: list[Json] = []
        for party in job.participants:
            try:
                said = client.progress(job.job_id, party)
            except ConfideError as error:
                rows.append((party, error.code.name, error.what, "", ""))
                parties.append({"party": party, "error": error.code.name})
                continue
            rows.append((party, said.state, _phase(said), str(said.rounds), str(said.payload_bytes)))
            parties.append(_describe_progress(said))
    heads = ("party", "state", "phase", "rounds", "payload bytes")
    Output(output_format).result({**_describe_job(job), "parties": parties}, f"{job.job_id}\n{table(heads, rows)}")


@app.command("watch")
@reported
def watch(*, job_id: JobArgument, config: ResearcherConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Follow a job to its end: progress bars on a terminal, lines of JSON otherwise."""
    on_terminal = output_format is OutputFormat.TEXT and sys.stdout.isatty()
    output = Output(OutputFormat.JSONL if output_format is OutputFormat.TEXT and not on_terminal else output_format)
    with _client(config) as client:
        job = client.job(job_id)
        ending = _with_bars(client, job) if on_terminal else _with_lines(client, job, output)
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
    with _client(config) as client:
        job = client.job(job_id)
        ending = client.wait(job, timeout_s=timeout_s)
    _finish(Output(output_format), job, ending)


@app.command("cancel")
@reported
def cancel(*, job_id: JobArgument, config: ResearcherConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Ask for a job's cancellation; `wait` shows whether it came in time."""
    with _client(config) as client:
        job = client.job(job_id)
        client.cancel(job)
    Output(output_format).result(_describe_job(job), f"Asked to cancel {job.job_id}.")


@app.command("result")
@reported
def result(*, job_id: JobArgument, config: ResearcherConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Fetch the shares of a completed job's outputs and open them here."""
    with _client(config) as client:
        job = client.job(job_id)
        values = client.result(job)
    data: dict[str, Json] = {name: value.tolist() for name, value in values.items()}
    text = "\n".join(f"{name}: {value}" for name, value in data.items()) or "This job opens nothing."
    Output(output_format).result({"job": job.job_id, "outputs": data}, text)


def plan_in_words(plan: Plan) -> str:
    """Returns a plan for people: what runs, what is sent, who receives what."""
    rows = [(d.sender, d.receiver, str(d.input_bytes), str(d.opening_bytes), str(d.correction_bytes)) for d in plan.directions]
    lines = [
        f"plan {plan.digest}",
        f"computing: {', '.join(plan.computing_parties)}; dealer: {plan.dealer}; engine {plan.engine}",
        f"{plan.rounds} rounds, {plan.payload_bytes} payload bytes between the parties, {plan.output_bytes} to the querier",
        "",
        table(("from", "to", "shares of rows", "masked openings", "corrections"), rows),
        "",
    ]
    lines += [f"opened to {output.recipient} alone: {output.name} {list(output.shape)}" for output in plan.outputs]
    if plan.model:
        kept = ", ".join(f"{item.name} {list(item.shape)}" for item in plan.model)
        lines.append(f"kept as shares by {', '.join(plan.computing_parties)}, opened to nobody: {kept}")
    return "\n".join(lines)


@contextmanager
def _client(config: Path) -> Iterator[Client]:
    from parties.client.client import Client

    client = Client.open(config, now=now())
    try:
        yield client
    finally:
        client.close()


def _with_lines(client: Client, job: Job, output: Output) -> Ending:
    ending: Ending | None = None
    for said in client.watch(job):
        output.record(_describe_progress(said), f"{said.state} {_phase(said)}")
        ending = said.ending
    return _ended(ending)


def _with_bars(client: Client, job: Job) -> Ending:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    ending: Ending | None = None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[said]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as bars:
        bar = bars.add_task(job.job_type.value, total=1, said="")
        for said in client.watch(job):
            done = said.steps if said.ending is not None else said.step
            label = f"{said.state} {said.phase}".strip()
            counted = f"{said.rounds:,} rounds {said.payload_bytes / 1e6:.1f} MB"
            bars.update(bar, total=max(1, said.steps), completed=done, description=f"{label:<18}", said=counted)
            ending = said.ending
    return _ended(ending)


def _ended(ending: Ending | None) -> Ending:
    if ending is None:
        raise ConfideError(ErrorCode.PARTY_UNREACHABLE, "the parties were lost before the job's end was known")
    return ending


def _finish(output: Output, job: Job, ending: Ending) -> None:
    from protocols.session.states import State

    if ending.state is not State.COMPLETED:
        code = ErrorCode[ending.code] if ending.code in ErrorCode.__members__ else ErrorCode.JOB_FAILED
        at_fault = f" at {ending.at_fault}" if ending.at_fault else ""
        what = f"job {job.job_id} was {ending.state.value} in phase {ending.phase.value}{at_fault}: {ending.code}: {ending.cause}"
        raise ConfideError(
            ErrorCode.CANCELLED if code is ErrorCode.CANCELLED else ErrorCode.JOB_FAILED,
            what,
            remedy=ending.remedy,
            party=ending.at_fault,
        )
    produced = job.produced_model
    model = f"; model {produced.name}@{produced.version}" if produced else ""
    output.result({**_describe_job(job), "ending": ending.to_document()}, f"job {job.job_id} completed{model}")


def _state(client: Client, job: Job) -> str:
    for party in job.participants:
        try:
            return client.progress(job.job_id, party).state
        except ConfideError:
            continue
    return "unknown"


def _phase(said: Progress) -> str:
    return f"{said.phase} {said.step}/{said.steps}" if said.steps else said.phase


def _describe_job(job: Job) -> dict[str, Json]:
    produced = job.produced_model
    return {
        "job": job.job_id,
        "type": job.job_type.value,
        "participants": list(job.participants),
        "created": job.created.isoformat(),
        "produced_model": None if produced is None else f"{produced.name}@{produced.version}",
    }


def _describe_progress(said: Progress) -> dict[str, Json]:
    return {
        "party": said.party,
        "state": said.state,
        "phase": said.phase,
        "step": said.step,
        "steps": said.steps,
        "rounds": said.rounds,
        "payload_bytes": said.payload_bytes,
        "frame_bytes": said.frame_bytes,
        "plan_digest": said.plan_digest,
        "ending": None if said.ending is None else said.ending.to_document(),
    }


def _describe_plan(plan: Plan) -> dict[str, Json]:
    return {
        "plan_digest": plan.digest,
        "job_digest": plan.job_digest,
        "rounds": plan.rounds,
        "payload_bytes": plan.payload_bytes,
        "output_bytes": plan.output_bytes,
        "directions": [vars(direction) for direction in plan.directions],
        "outputs": [{"name": o.name, "shape": list(o.shape), "recipient": o.recipient} for o in plan.outputs],
        "kept_as_shares": [{"name": m.name, "shape": list(m.shape)} for m in plan.model],
    }
