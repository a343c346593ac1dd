"""`confide privacy sweep`: private trainings with different noise, and the front of what they give and cost."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.opened_client import opened_client
from parties.cli.options import ResearcherConfigOption
from parties.cli.output import FormatOption, Output, OutputFormat, exit_code, reported
from parties.cli.sweep_words import charges_in_words, describe_sweep, sweep_in_words
from protocols.errors import ConfideError

if TYPE_CHECKING:
    pass


class MeasureName(Enum):
    """What tells how useful a model is."""

    ROC_AUC = "roc_auc"
    CORRECT_COUNT = "correct_count"


class GapName(Enum):
    """The rates that a gap between groups is of."""

    ACCURACY = "accuracy"
    FNR = "fnr"
    FPR = "fpr"
    SELECTION_RATE = "selection_rate"


class AttackName(Enum):
    """The attacks of an assessment."""

    LIRA = "lira"
    RMIA = "rmia"


@reported
def sweep(
    *,
    request: Annotated[
        Path, typer.Argument(metavar="REQUEST", help="The request of one private training, a YAML file.", dir_okay=False)
    ],
    holdout: Annotated[list[str], typer.Option("--holdout", help="party/name of rows to evaluate on; may be repeated.")],
    config: ResearcherConfigOption,
    epsilon: Annotated[list[str] | None, typer.Option("--epsilon", help="Of a training; repeat it.")] = None,
    noise_multiplier: Annotated[list[str] | None, typer.Option("--noise-multiplier", help="In place of epsilon.")] = None,
    norm_bound: Annotated[list[str] | None, typer.Option("--norm-bound", help="With each of them; may be repeated.")] = None,
    measure: Annotated[MeasureName, typer.Option("--measure", help="Of utility.")] = MeasureName.ROC_AUC,
    group_by: Annotated[str, typer.Option("--group-by", help="A feature by which the rows are grouped.")] = "",
    group_edge: Annotated[list[str] | None, typer.Option("--group-edge", help="In its own unit; may be repeated.")] = None,
    gap: Annotated[GapName, typer.Option("--gap", help="With --group-by: the rate whose gap is shown.")] = GapName.ACCURACY,
    assess: Annotated[AttackName | None, typer.Option("--assess", help="Attack each model, with the rows held out.")] = None,
    shadows: Annotated[int, typer.Option("--shadows", help="With --assess: how many each owner trains.")] = 64,
    min_cell: Annotated[int, typer.Option("--min-cell", help="No count that is opened tells of fewer rows.")] = 5,
    noise: Annotated[
        str, typer.Option("--noise", help="Of the owners, on each number that evaluations open: its deviation.")
    ] = "0",
    noise_colluders: Annotated[
        int | None, typer.Option("--noise-colluders", help="Owners that may pool what they know of it.")
    ] = None,
    rows_per_person: Annotated[int, typer.Option("--rows-per-person", min=1, help="That the noise hides together.")] = 1,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait for each job at most.")] = 3600.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before it charges.")] = False,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Train with each of several epsilons, evaluate each model jointly, and show which none of the others beats.

    Every training, evaluation and assessment is a job that its owners charge; what all of them charge is said first. Run it again
    to go on from where it stopped, or with more epsilons.
    """
    from parties.client.sweep import plan_sweep, run_sweep
    from parties.client.sweep_request import ClientJobs, SweepTerms, read_training, sweep_file, sweep_request

    output = Output(output_format)
    terms = SweepTerms(
        epsilons=tuple(epsilon or ()),
        noise_multipliers=tuple(noise_multiplier or ()),
        norm_bounds=tuple(norm_bound or ()),
        holdout=tuple(holdout),
        measure=measure.value,
        group_by=group_by,
        group_edges=tuple(group_edge or ()),
        gap=gap.value,
        attack=None if assess is None else assess.value,
        shadows=shadows,
        min_cell=min_cell,
        noise=noise,
        noise_colluders=noise_colluders,
        rows_per_person=rows_per_person,
    )
    training = read_training(request)
    asked = sweep_request(training, terms)
    with opened_client(config) as client:
        jobs = ClientJobs(client, folder=request.parent, timeout_s=timeout_s)
        file = sweep_file(client.folder, training, asked, folder=request.parent)
        planned = plan_sweep(asked, jobs, file.read())
        if planned.charges:
            output.note(charges_in_words(planned))
            if not yes:
                typer.confirm("Charge this to the owners?", abort=True, err=True)
        end = run_sweep(planned, jobs, keep=file.write, tell=output.note)
    text = f"{sweep_in_words(planned, end)}\n\nkept in {file.path}"
    data = describe_sweep(planned, end, kept_in=str(file.path))
    if end.failure is None:
        output.result(data, text)
        return
    if output_format is OutputFormat.TEXT:
        output.result(data, text)
    error = end.failure
    what = f"the sweep stopped: {error.what}"
    stopped = ConfideError(error.code, what, problems=error.problems, remedy=error.remedy, party=error.party)
    output.error(stopped, data=data)
    raise typer.Exit(exit_code(stopped))
