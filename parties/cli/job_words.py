"""What the commands of `confide job` print: plans, jobs, progress and endings, for people and for the JSON formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from parties.cli.output import Json, table
from protocols.job import TIME_FORMAT
from protocols.job import OutputKind as Kind

if TYPE_CHECKING:
    from parties.client.client import Progress, Values
    from protocols.job import Job
    from protocols.plan.plan import Plan
    from protocols.session.messages import Ending


def plan_in_words(plan: Plan) -> str:
    """Returns a plan for people: what runs, what is sent, who receives what."""
    heads = ("from", "to", "shares of rows", "masked openings", "corrections")
    rows = [
        (d.sender, d.receiver, *_to_the_right(heads[2:], (d.input_bytes, d.opening_bytes, d.correction_bytes)))
        for d in plan.directions
    ]
    to_querier = f", {plan.output_bytes:,} to the querier" if plan.outputs else ""
    lines = [
        f"plan {plan.digest}",
        f"computing: {', '.join(plan.computing_parties)}; dealer: {plan.dealer}; engine {plan.engine}",
        f"{plan.rounds:,} rounds, {plan.payload_bytes:,} payload bytes between the parties{to_querier}",
        "",
        table(heads, rows),
        "",
    ]
    lines += [f"opened to {output.recipient} alone: {output.name} {list(output.shape)}" for output in plan.outputs]
    if plan.model:
        lines.append(f"kept as shares by {', '.join(plan.computing_parties)}, opened to nobody:")
        lines += [f"  {item.name} {list(item.shape)}" for item in plan.model]
    return "\n".join(lines)


def describe_plan(plan: Plan) -> dict[str, Json]:
    """Returns a plan for the JSON formats."""
    return {
        "plan_digest": plan.digest,
        "job_digest": plan.job_digest,
        "computing_parties": list(plan.computing_parties),
        "dealer": plan.dealer,
        "rounds": plan.rounds,
        "payload_bytes": plan.payload_bytes,
        "output_bytes": plan.output_bytes,
        "directions": [vars(direction) for direction in plan.directions],
        "outputs": [{"name": o.name, "shape": list(o.shape), "recipient": o.recipient} for o in plan.outputs],
        "kept_as_shares": [{"name": m.name, "shape": list(m.shape)} for m in plan.model],
    }


def describe_job(job: Job) -> dict[str, Json]:
    """Returns a job for the JSON formats."""
    produced = job.produced_model
    return {
        "job": job.job_id,
        "type": job.job_type.value,
        "participants": list(job.participants),
        "created": job.created.strftime(TIME_FORMAT),
        "produced_model": None if produced is None else produced.label,
    }


def job_in_words(job: Job) -> str:
    """Returns one line on a job for people."""
    does = "to train" if job.produced_model else "with"
    return f"{job.job_type.value} job {job.job_id}, created {job.created.strftime(TIME_FORMAT)}, {does} {model_of(job)}"


def model_of(job: Job) -> str:
    """Returns the model that a job trains or uses, as requests name it."""
    model = job.produced_model or job.model_ref
    return "" if model is None else model.label


def describe_progress(said: Progress) -> dict[str, Json]:
    """Returns what a party says of a job for the JSON formats."""
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


def progress_in_words(said: Progress) -> tuple[str, str, str, str, str]:
    """Returns what a party says of a job as the cells of a table: party, state, phase, rounds, payload bytes."""
    phase = f"{said.phase} {said.step}/{said.steps}" if said.steps else said.phase
    return said.party, said.state, phase, f"{said.rounds:,}", f"{said.payload_bytes:,}"


def ending_in_words(ending: Ending) -> str:
    """Returns how a job ended, for people; the remedy is not in it."""
    if not ending.code:
        return ending.state.value
    at_fault = f"; at fault: {ending.at_fault}" if ending.at_fault else ""
    return f"{ending.state.value} in phase {ending.phase.value}{at_fault}; {ending.code}: {ending.cause}"


def outputs_in_words(job: Job, values: Mapping[str, Values]) -> str:
    """Returns opened outputs for people: a count with the number of rows, predictions one a line in the samples' order."""
    parts = []
    for output in job.outputs:
        value = values[output.name]
        if output.kind is Kind.CORRECT_COUNT:
            parts.append(f"{output.name}: {int(value[0])} of {job.num_rows} rows")
        else:
            rows = [(str(number), f"{item:g}") for number, item in enumerate(value.tolist(), 1)]
            parts.append(table(("sample", f"{output.name} ({output.kind.value})"), rows))
    return "\n".join(parts) or f"A {job.job_type.value} job opens nothing."


def _to_the_right(heads: Sequence[str], values: Sequence[int]) -> list[str]:
    return [f"{value:,}".rjust(len(head)) for head, value in zip(heads, values, strict=True)]
