"""What the commands of `confide job` print: plans, jobs, progress and endings, for people and for the JSON formats."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from parties.cli.answer_words import NO_ANSWER, answer_constraints, answer_noise_note, mean_in_words, number_in_words
from parties.cli.noise_words import (
    is_withheld,
    noise_note,
    noisy_count_in_words,
    noisy_loss_in_words,
    scores_in_words,
    shown_count,
)
from parties.cli.output import Json, table
from parties.cli.risk_words import attack_in_words
from parties.cli.utility_words import groups_in_words, reliability_in_words
from privacy.accounting.statement import privacy_in_short, terms_of
from protocols.job import TIME_FORMAT
from protocols.job import OutputKind as Kind
from protocols.session.states import State

if TYPE_CHECKING:
    from parties.client.client import Progress, Values
    from parties.client.explaining import PartyAnswer
    from privacy.preparation.columns import Column
    from protocols.job import Job
    from protocols.job import Output as JobOutput
    from protocols.plan.noise import PlannedNoise
    from protocols.plan.plan import Plan
    from protocols.session.messages import Ending


def describe_answer(answer: PartyAnswer) -> dict[str, Json]:
    """Returns what a party says to a job for the JSON formats."""
    preview: dict[str, Json] | None = None if answer.preview is None else json.loads(answer.preview.to_bytes())
    return {
        "party": answer.party,
        "says": answer.in_words,
        "error": None if answer.error is None else answer.error.code.name,
        "ending": None if answer.ending is None else answer.ending.to_document(),
        "reasons": [vars(reason) for reason in answer.reasons],
        "approvals_needed": answer.approvals_needed,
        "approvals_given": answer.approvals_given,
        "rule": answer.rule,
        "preview": preview,
    }


def plan_in_words(plan: Plan, job: Job | None = None) -> str:
    """Returns a plan for people: what runs, what is sent, who receives what; with its job, also under which constraint."""
    from governance.preview import epsilon_in_words

    heads: tuple[str, ...] = ("from", "to", "shares of rows", "masked openings", "corrections")
    flows: list[tuple[int, ...]] = [(d.input_bytes, d.opening_bytes, d.correction_bytes) for d in plan.directions]
    if plan.noise is not None:
        heads = (*heads, "noise")
        flows = [(*flow, d.noise_bytes) for flow, d in zip(flows, plan.directions, strict=True)]
    rows = [(d.sender, d.receiver, *_to_the_right(heads[2:], flow)) for flow, d in zip(flows, plan.directions, strict=True)]
    to_querier = f", {plan.output_bytes:,} to the querier" if plan.outputs else ""
    lines = [
        f"plan {plan.digest}",
        f"computing: {', '.join(plan.computing_parties)}; dealer: {plan.dealer}; engine {plan.engine}",
        f"{plan.rounds:,} rounds, {plan.payload_bytes:,} payload bytes between the parties{to_querier}",
        f"values: {plan.numbers.value_bits} fractional bits, below 2^{plan.numbers.value_limit_bits}; "
        f"parameters: {plan.numbers.parameter_bits}, below 2^{plan.numbers.parameter_limit_bits}",
        "",
        table(heads, rows),
        "",
    ]
    if job is not None:
        lines.append(f"epsilon: {epsilon_in_words(job)}")
    if plan.noise is not None:
        lines += _noise_in_words(plan.noise)
    if plan.revealed_bits:
        bits = f"{plan.revealed_bits:,} bit{'' if plan.revealed_bits == 1 else 's'}"
        lines.append(f"opened to the computing parties: {bits}: are the numbers in range?")
    limits = {} if job is None else {output.name: constraint_in_words(output) for output in job.outputs}
    for output in plan.outputs:
        lines.append(f"opened to {output.recipient} alone: {output.name} {list(output.shape)}")
        lines += [f"  {limits[output.name]}"] if limits.get(output.name) else []
    if plan.model:
        lines.append(f"kept as shares by {', '.join(plan.computing_parties)}, opened to nobody:")
        lines += [f"  {item.name} {list(item.shape)}" for item in plan.model]
    return "\n".join(lines)


def _noise_in_words(noise: PlannedNoise) -> list[str]:
    deviation = noise.deviation / 2**noise.scale_bits
    return [
        f"noise of {', '.join(noise.owners)}: each {noise.steps:,} x {noise.width:,} numbers of deviation {deviation:.4g};",
        f"  {noise.spares:,} of every {noise.width:,} are opened to test it, and used for nothing",
    ]


def constraint_in_words(output: JobOutput) -> str:
    """Returns what is done to predictions in shares before they are opened, for people; empty for nothing."""
    parts = [f"in {len(output.group_edges) + 1} groups by {output.group_by}"] if output.group_by else []
    parts += [f"the {output.top_k} largest of each sample, the others as 0"] if output.top_k else []
    if Decimal(output.clip):
        parts.append(f"clipped to {output.clip} to {1 - Decimal(output.clip)}")
    if output.decimals is not None:
        parts.append(f"rounded to {output.decimals} decimal{'' if output.decimals == 1 else 's'}")
    parts += answer_constraints(output)
    return f"{output.kind.value}: {', '.join(parts)}, in shares" if parts else ""


def describe_plan(plan: Plan) -> dict[str, Json]:
    """Returns a plan for the JSON formats."""
    return {
        "plan_digest": plan.digest,
        "job_digest": plan.job_digest,
        "computing_parties": list(plan.computing_parties),
        "dealer": plan.dealer,
        "numbers": plan.numbers.to_document(),
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
        "query_commitment": job.query_commitment,
        "privacy": None if job.training is None else privacy_in_short(job),
    }


def job_in_words(job: Job) -> str:
    """Returns one line on a job for people."""
    does = "to train" if job.produced_model else "with"
    what = f"{does} {model_of(job)}" if model_of(job) else f"over {job.num_rows:,} rows"
    privacy = f"; {privacy_in_short(job)}" if job.training is not None else ""
    return f"{job.job_type.value} job {job.job_id}, created {job.created.strftime(TIME_FORMAT)}, {what}{privacy}"


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
        "checkpoints": [{"run": kept.run, "head": kept.head} for kept in said.checkpoints],
        "waiting_for": said.waiting_for,
        "timing": [dict[str, Json](entry.to_document()) for entry in said.timing],
    }


def progress_in_words(said: Progress) -> tuple[str, str, str, str, str]:
    """Returns what a party says of a job as the cells of a table: party, state, phase, rounds, payload bytes."""
    phase = f"{said.phase} {said.step}/{said.steps}" if said.steps else said.phase
    phase = f"waits for {said.waiting_for}" if said.waiting_for else phase
    return said.party, said.state, phase, f"{said.rounds:,}", f"{said.payload_bytes:,}"


def checkpoints_in_words(job: Job, heard: Mapping[str, Progress]) -> str:
    """Returns what a training could go on from, for people; empty if no party that was heard holds a checkpoint."""
    held = [set(heard[party].checkpoints) for party in job.computing_parties if party in heard]
    if not any(held):
        return ""
    common = set.intersection(*held) if len(held) == len(job.computing_parties) else set()
    if not common:
        return "checkpoints: none that all computing parties are known to hold"
    words = f"checkpoints: the newest that all computing parties hold is of run {max(kept.run for kept in common):,}"
    aborted = all(said.state == State.ABORTED.value for said in heard.values())
    return f"{words}; `confide job resume {job.job_id[:12]}` goes on from it" if aborted else words


def charge_note(job: Job, ending: Ending) -> str:
    """Returns what stays charged of a private training that ended while it ran, for people; empty for every other job and end."""
    if ending.state is State.COMPLETED or ending.phase not in (State.RUNNING, State.RELEASING) or terms_of(job) is None:
        return ""
    return f"what it claims stays charged to its data sets, {privacy_in_short(job)}; another attempt is charged again"


def outputs_in_words(job: Job, values: Mapping[str, Values]) -> str:
    """Returns opened outputs for people: counts and rates, predictions one a line in the samples' order."""
    from privacy.preparation.schema import TableSchema

    label = TableSchema.from_document(job.schema).label
    parts = [_output_in_words(job, label, output, values[output.name]) for output in job.outputs]
    return "\n".join(parts) or f"A {job.job_type.value} job opens nothing."


def describe_outputs(values: Mapping[str, Values]) -> dict[str, Json]:
    """Returns opened outputs for the JSON formats; null stands for a cell or rate that is withheld."""
    return {name: _json(value.tolist()) for name, value in values.items()}


def _json(value: Json) -> Json:
    if isinstance(value, list):
        return [_json(item) for item in value]
    is_withheld = math.isnan(value) if isinstance(value, float) else type(value) is int and value < 0
    return None if is_withheld else value


def _output_in_words(job: Job, label: Column, output: JobOutput, value: Values) -> str:
    # One job computes all its counts under the strictest of its minimum cells.
    least = max(output.min_cell for output in job.outputs)
    match output.kind:
        case Kind.CORRECT_COUNT if output.noise != "0":
            return f"{output.name}: {noisy_count_in_words(job, float(value[0]), min_cell=least)}"
        case Kind.CORRECT_COUNT:
            return f"{output.name}: {count_in_words(int(value[0]), num_rows=job.num_rows, min_cell=least)}"
        case Kind.CONFUSION:
            return f"{output.name}:\n{_confusion_in_words(label.class_names, value, min_cell=least)}{noise_note(job, output)}"
        case Kind.RELIABILITY:
            return f"{output.name}:\n{reliability_in_words(value, min_cell=least)}{noise_note(job, output)}"
        case Kind.GROUP_CONFUSION:
            return f"{output.name}:\n{groups_in_words(job, output, value, min_cell=least)}{noise_note(job, output)}"
        case Kind.ATTACK_COUNTS:
            return f"{output.name}:\n{attack_in_words(job, value, min_cell=least)}"
        case Kind.SCORE_HISTOGRAM:
            return f"{output.name}:\n{scores_in_words(job, label.class_names, output, value)}{noise_note(job, output)}"
        case Kind.LOG_LOSS | Kind.SQUARED_ERROR if output.noise != "0":
            return f"{output.name}: {noisy_loss_in_words(job, output, float(value[0]))}"
        case Kind.ROC_AUC | Kind.LOG_LOSS:
            withheld = math.isnan(value[0])
            return f"{output.name}: " + (f"withheld: a class has fewer than {least} rows" if withheld else f"{value[0]:.4f}")
        case Kind.SQUARED_ERROR:
            low, high = label.bounds
            own_unit = math.sqrt(value[0]) * (high - low) / 2
            return f"{output.name}: {value[0]:.6f} of labels scaled to [-1, 1]; its root in the label's own unit: {own_unit:.4g}"
        case Kind.MOMENTS:
            return f"{output.name}:\n{_moments_in_words(job, value)}{noise_note(job, output)}"
        case Kind.CENTROIDS | Kind.GROUP_MEANS:
            return f"{output.name}:\n{_groups_in_words(job, label, output, value)}{noise_note(job, output)}"
        case Kind.LABEL | Kind.PROBABILITY | Kind.SCORE | Kind.VALUE:
            return f"{_predictions_in_words(label, output, value)}{answer_noise_note(job, output)}"
        case Kind.MEAN:
            return f"{mean_in_words(label, output, value)}{answer_noise_note(job, output)}"
        case Kind.WEIGHTS:
            return f"{output.name}: {len(value):,} parameters; `confide model receive` keeps them with their licence"


def count_in_words(count: int, *, num_rows: int, min_cell: int) -> str:
    """Returns a count of correct rows for people; none and all may stand for groups that are too small to be told."""
    if min_cell > 1 and count == num_rows:
        return f"{num_rows - min_cell + 1} or more of {num_rows} rows (fewer than {min_cell} wrong ones are not counted)"
    if min_cell > 1 and count == 0:
        return f"fewer than {min_cell} of {num_rows} rows"
    return f"{count} of {num_rows} rows"


def _confusion_in_words(names: Sequence[str], counts: Values, *, min_cell: int) -> str:
    cells = [[shown_count(count) for count in line] for line in counts.tolist()]
    text = table(("true \\ predicted", *names), [(name, *line) for name, line in zip(names, cells, strict=True)])
    return (
        f"{text}\n-: withheld: it, or what could be computed from it, is of fewer than {min_cell} rows"
        if is_withheld(counts)
        else text
    )


def _groups_in_words(job: Job, label: Column, output: JobOutput, value: Values) -> str:
    """Returns groups for people: one a line, means in the columns' own units."""
    from privacy.preparation.schema import TableSchema

    features = TableSchema.from_document(job.schema).features
    by_label = output.kind is Kind.GROUP_MEANS
    lines: list[tuple[str, ...]] = []
    for number, (*means, size) in enumerate(value.tolist()):
        name = label.class_names[number] if by_label else str(number + 1)
        if math.isnan(size):
            lines.append((name, "-", *("-" for _ in means)))
            continue
        if not size:
            lines.append((name, "0", *("" for _ in means)))
            continue
        own = [low + (mean + 1) / 2 * (high - low) for mean, (low, high) in zip(means, (c.bounds for c in features), strict=True)]
        lines.append((name, f"{size:.0f}", *(f"{mean:.6g}" for mean in own)))
    text = table((label.name if by_label else "cluster", "rows", *(column.name for column in features)), lines)
    if not any(line[1] == "-" for line in lines):
        return text
    return f"{text}\n-: withheld: it, or what could be computed from it, is of fewer than {output.min_cell} rows"


def _moments_in_words(job: Job, value: Values) -> str:
    """Returns means and deviations for people, in the columns' own units."""
    from privacy.preparation.schema import TableSchema

    lines = []
    for column, (mean, deviation) in zip(TableSchema.from_document(job.schema).features, value.tolist(), strict=True):
        low, high = column.bounds
        half = (high - low) / 2
        lines.append((column.name, f"{low + (mean + 1) * half:.6g}", f"{deviation * half:.6g}" if deviation else "lost in noise"))
    return table(("feature", "mean", "deviation"), lines)


def _predictions_in_words(label: Column, output: JobOutput, value: Values) -> str:
    numbers = [str(number) for number in range(1, len(value) + 1)]
    cells: list[tuple[str, ...]]
    if output.kind is Kind.LABEL:
        cells = [(NO_ANSWER if item < 0 else label.class_names[int(item)],) for item in value]
        heads: tuple[str, ...] = (f"{output.name} ({label.name})",)
    elif output.kind is Kind.VALUE:
        low, high = label.bounds
        cells = [(number_in_words(low + (item + 1) / 2 * (high - low), "g"),) for item in value.tolist()]
        heads = (f"{output.name} ({label.name})",)
    elif value.ndim == 1:
        places = "g" if output.decimals is None else f".{output.decimals}f"
        cells, heads = (
            [(number_in_words(item, places),) for item in value.tolist()],
            (f"{output.name} ({output.kind.value} of {label.class_names[1]})",),
        )
    else:
        places = ".4f" if output.decimals is None else f".{output.decimals}f"
        cells, heads = [tuple(number_in_words(item, places) for item in line) for line in value.tolist()], label.class_names
    return table(("sample", *heads), [(number, *line) for number, line in zip(numbers, cells, strict=True)])


def _to_the_right(heads: Sequence[str], values: Sequence[int]) -> list[str]:
    return [f"{value:,}".rjust(len(head)) for head, value in zip(heads, values, strict=True)]
