"""`confide serve` and `confide infer`: a researcher keeps a model warm and asks it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.job_words import describe_job, describe_outputs, outputs_in_words
from parties.cli.opened_client import opened_client
from parties.cli.options import PartyConfigOption, PersonOption, ResearcherConfigOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from protocols.errors import ConfideError
from protocols.job import TIME_FORMAT, Job

if TYPE_CHECKING:
    from parties.client.answer_options import AnswerOptions
    from parties.client.calls import Values
    from parties.client.client import Client
    from parties.client.placement import Placement
    from parties.client.warm import ServingState

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="name@version, or name@live for what its holders call so.")]
ServingArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="The serving's job, as `start` printed it, or its beginning.")
]
KindOption = Annotated[str, typer.Option("--output", help="What is opened of every sample: label, probability, score or value.")]
DecimalsOption = Annotated[int | None, typer.Option("--decimals", help="Round to so many decimals before it is opened.")]
TopOption = Annotated[int | None, typer.Option("--top-k", help="Open only the largest probabilities of a sample.")]
ClipOption = Annotated[str | None, typer.Option("--clip", help="Open probabilities from this to 1 less this.")]
NoiseOption = Annotated[
    str | None,
    typer.Option("--noise", help="Standard deviation of noise on each number of labels, probabilities, values, means."),
]
ColludersOption = Annotated[
    int | None, typer.Option("--noise-colluders", help="Computing parties that may pool what they know of it; else all but one.")
]
AbstainOption = Annotated[
    str | None, typer.Option("--abstain-below", help="No label or probability for samples of which the model is less sure.")
]
BeyondOption = Annotated[
    str | None,
    typer.Option(
        "--abstain-beyond", help="No answer for samples that lie farther from the middle of their ranges: 0.001 to 1, their ends."
    ),
]
DealerOption = Annotated[str | None, typer.Option("--dealer", help="The party that deals; else the profile's.")]
PurposeOption = Annotated[str | None, typer.Option("--purpose", help="One of the agreement's; else its only one.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait at most.")]
app = typer.Typer(help="Keep a model warm, so that predictions need no job of their own.", no_args_is_help=True)


@app.command("start")
@reported
def start(
    *,
    model: ModelArgument,
    config: ResearcherConfigOption,
    kind: KindOption = "label",
    decimals: DecimalsOption = None,
    top_k: TopOption = None,
    clip: ClipOption = None,
    noise: NoiseOption = None,
    noise_colluders: ColludersOption = None,
    abstain_below: AbstainOption = None,
    abstain_beyond: BeyondOption = None,
    max_queries: Annotated[int | None, typer.Option("--max-queries", help="Queries at most; 100 if nothing is said.")] = None,
    max_rows: Annotated[int | None, typer.Option("--max-rows", help="Rows of queries at most; else 1000.")] = None,
    block_rows: Annotated[int | None, typer.Option("--block-rows", help="Rows that are answered together; else 128.")] = None,
    idle_s: Annotated[int | None, typer.Option("--idle", help="Seconds without a query until it ends; else 300.")] = None,
    lifetime_s: Annotated[int | None, typer.Option("--lifetime", help="Seconds until it ends; else 3600.")] = None,
    rekey_s: Annotated[int | None, typer.Option("--rekey", help="Seconds between fresh keys; else 900.")] = None,
    dealer: DealerOption = None,
    purpose: PurposeOption = None,
    timeout_s: TimeoutOption = 120.0,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Keep a model warm for your queries; prints the serving's job once it is warm, and leaves it so."""
    with opened_client(config) as client:
        handle = client.serve(
            model,
            output=kind,
            decimals=decimals,
            top_k=top_k,
            clip=clip,
            noise=noise,
            noise_colluders=noise_colluders,
            abstain_below=abstain_below,
            abstain_beyond=abstain_beyond,
            max_queries=max_queries,
            max_rows=max_rows,
            block_rows=block_rows,
            idle_s=idle_s,
            lifetime_s=lifetime_s,
            rekey_s=rekey_s,
            placement=_placement(dealer, purpose),
            timeout_s=timeout_s,
        )
        state = handle.state
    Output(output_format).result(_describe(state), handle.id)


@app.command("list")
@reported
def list_all(*, config: ResearcherConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """List your servings that are open at any party, with what is left of their quota."""
    from privacy.accounting.statement import NO_GUARANTEE

    with opened_client(config) as client:
        states = client.servings.listed([party.id for party in client.directory.parties])
        claimed = {model.label: model.privacy for model in client.all_models()} if states else {}
    said = [claimed.get(_model(state), NO_GUARANTEE) for state in states]
    data: list[Json] = [{**_describe(state), "privacy": privacy} for state, privacy in zip(states, said, strict=True)]
    heads = ("job", "model", "opens", "state", "queries left", "rows left", "ends at the latest", "privacy of the model")
    rows = [(*_cells(state), privacy) for state, privacy in zip(states, said, strict=True)]
    Output(output_format).result({"servings": data}, table(heads, rows))


@app.command("stop")
@reported
def stop(
    *,
    job_id: ServingArgument,
    config: ResearcherConfigOption,
    timeout_s: TimeoutOption = 60.0,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """End a serving, once the queries under way are answered; what is left of its quota goes back into the budgets."""
    with opened_client(config) as client:
        handle = client.serving(job_id)
        handle.stop(timeout_s)
    Output(output_format).result(describe_job(handle.job.job), f"serving {handle.id} has ended")


@app.command("end")
@reported
def end(
    *, job_id: ServingArgument, config: PartyConfigOption, person: PersonOption, output_format: FormatOption = OutputFormat.TEXT
) -> None:
    """End a researcher's serving in the name of an institution that computes in it; within seconds it has ended everywhere."""
    from parties.config import load_party_config
    from parties.servings import end_serving

    job = end_serving(load_party_config(config), person, job_id, now=now())
    Output(output_format).result(describe_job(job), f"Asked to end serving {job.job_id}.")


@reported
def infer(
    *,
    model: ModelArgument,
    samples: Annotated[Path, typer.Argument(metavar="SAMPLES", help="Your samples, CSV or Parquet.", dir_okay=False)],
    config: ResearcherConfigOption,
    kind: Annotated[
        str, typer.Option("--output", help="What is opened: of every sample label, probability, score or value; or their mean.")
    ] = "label",
    decimals: DecimalsOption = None,
    top_k: TopOption = None,
    clip: ClipOption = None,
    noise: NoiseOption = None,
    noise_colluders: ColludersOption = None,
    abstain_below: AbstainOption = None,
    abstain_beyond: BeyondOption = None,
    min_cell: Annotated[int | None, typer.Option("--min-cell", help="Fewest samples that a mean may be of; else 20.")] = None,
    cold: Annotated[bool, typer.Option("--cold", help="Submit a job of its own even if the model is warm.")] = False,
    dealer: DealerOption = None,
    purpose: PurposeOption = None,
    timeout_s: TimeoutOption = 600.0,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Predict your samples with a model that nobody holds: by a serving of yours if one is warm, else in a job of its own."""
    from parties.client.predicting import named_version
    from parties.client.serving import require_answering

    constraint: AnswerOptions = {
        "decimals": decimals,
        "top_k": top_k,
        "clip": clip,
        "noise": noise,
        "noise_colluders": noise_colluders,
        "abstain_below": abstain_below,
        "abstain_beyond": abstain_beyond,
        "min_cell": min_cell,
    }
    with opened_client(config) as client:
        found = None if cold else _ask_warm(client, model, samples, kind, constraint)
        if found is None:
            who = _placement(dealer, purpose).or_else(client.placement.beside_holders)
            if not cold:
                require_answering(client, named_version(client, model), who)
            found = _ask_cold(client, model, samples, kind, constraint, placement=who, timeout_s=timeout_s)
        job, values = found
    Output(output_format).result({**describe_job(job), "outputs": describe_outputs(values)}, outputs_in_words(job, values))


def _ask_warm(
    client: Client, model: str, samples: Path, kind: str, constraint: AnswerOptions
) -> tuple[Job, dict[str, Values]] | None:
    from parties.client.predicting import find_warm
    from parties.client.serving import predict_file
    from parties.client.warm import OVER

    job = find_warm(client, model, output=kind, constraint=constraint, num_rows=1)
    if job is None:
        return None
    try:
        return job, {job.outputs[0].name: predict_file(client, job, samples)}
    except ConfideError as error:
        if error.code not in OVER:
            raise
        return None


def _ask_cold(
    client: Client,
    model: str,
    samples: Path,
    kind: str,
    constraint: AnswerOptions,
    *,
    placement: Placement,
    timeout_s: float,
) -> tuple[Job, dict[str, Values]]:
    from parties.client.tasks import prepare_file

    handle = client.submit(prepare_file(client, model, samples, output=kind, constraint=constraint, placement=placement))
    return handle.job, handle.result(timeout_s)


def _placement(dealer: str | None, purpose: str | None) -> Placement:
    from parties.client.placement import Placement

    return Placement(dealer=dealer or "", purpose=purpose or "")


def _describe(state: ServingState) -> dict[str, Json]:
    at: list[Json] = [
        {
            "party": each.party,
            "warm": each.warm,
            "queries_left": each.queries_left,
            "rows_left": each.rows_left,
            "until": None if each.until is None else each.until.strftime(TIME_FORMAT),
        }
        for each in state.at
    ]
    return {**describe_job(state.job), "warm": state.is_warm, "at": at}


def _model(state: ServingState) -> str:
    return "" if state.job.model_ref is None else state.job.model_ref.label


def _cells(state: ServingState) -> tuple[str, ...]:
    job = state.job
    ends = [each.until for each in state.at if each.until is not None]
    return (
        job.job_id,
        _model(state),
        job.outputs[0].kind.value,
        "warm" if state.is_warm else "not warm yet",
        str(min((each.queries_left for each in state.at), default=0)),
        str(min((each.rows_left for each in state.at), default=0)),
        min(ends).strftime(TIME_FORMAT) if ends else "",
    )
