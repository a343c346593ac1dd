"""Which constraints an output may have: what is chosen, clipped and rounded in shares before it is opened.

docs/protocols/outputs.md says what they do.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from protocols.errors import Problem
from protocols.job_fields import check_ascending, check_decimal
from protocols.job_parts import MAX_GROUP_EDGES, Output, OutputKind, Task
from protocols.loss_bounds import LEAST_BOUND, LOSSES, MOST_BOUND
from protocols.private_training import MAX_ROWS_PER_PERSON

MAX_DECIMALS = 4  # a fifth is beyond what the approximations compute
_LARGEST_CLIP = Decimal("0.499999999")  # from a half on nothing is left
_PLACES = Decimal("0.000000001")
NOISY_ABOUT_ROWS = (
    OutputKind.CORRECT_COUNT,
    OutputKind.CONFUSION,
    OutputKind.RELIABILITY,
    OutputKind.GROUP_CONFUSION,
    OutputKind.SCORE_HISTOGRAM,
    *LOSSES,
    OutputKind.GROUP_MEANS,
    OutputKind.MOMENTS,
    OutputKind.CENTROIDS,
)
"""What is about the rows of owners, whose noise it then has."""

_GROUPED = (OutputKind.GROUP_CONFUSION, OutputKind.SCORE_HISTOGRAM)
_FITS = {
    "top_k": (OutputKind.PROBABILITY,),
    "decimals": (OutputKind.PROBABILITY, OutputKind.SCORE, OutputKind.VALUE),
    "clip": (OutputKind.PROBABILITY,),
    "group_by": (OutputKind.GROUP_CONFUSION,),
    "noise": (OutputKind.LABEL, OutputKind.PROBABILITY, OutputKind.VALUE, OutputKind.MEAN, *NOISY_ABOUT_ROWS),
    "abstain_below": (OutputKind.LABEL, OutputKind.PROBABILITY),
    "abstain_beyond": (OutputKind.LABEL, OutputKind.PROBABILITY, OutputKind.SCORE, OutputKind.VALUE),
}
_NONE = {
    "top_k": "0",
    "decimals": "null",
    "clip": '"0"',
    "group_by": '""',
    "noise": '"0"',
    "abstain_below": '"0"',
    "abstain_beyond": '"0"',
}
LEAST_DISTANCE = Decimal("0.001")
MOST_DISTANCE = Decimal(1)  # beyond lies nothing that is within the ranges of its features


def check_constraint(output: Output, task: Task, *, classes: int) -> Iterable[Problem]:
    """Yields what is wrong with an output's constraint.

    Args:
        output: public.
        task: of the job.
        classes: how many there are, for a task of classes.
    """
    asked = {
        "top_k": output.top_k != 0,
        "decimals": output.decimals is not None,
        "clip": output.clip != "0",
        "group_by": output.group_by != "" or (output.group_edges != () and output.kind not in _GROUPED),
        "noise": output.noise != "0" or output.noise_colluders != 0,
        "abstain_below": output.abstain_below != "0",
        "abstain_beyond": output.abstain_beyond != "0",
    }
    if asked["noise"] and output.kind is OutputKind.ROC_AUC:
        what = "one row moves an area over all pairs by what the other rows are, so no noise is enough for it"
        yield _problem(output, "noise", what, "open score_histogram, from whose noisy counts the area follows")
        asked["noise"] = False
    for name, kinds in _FITS.items():
        if asked[name] and output.kind not in kinds:
            fitting = " and ".join(kind.value for kind in kinds)
            yield _problem(output, name, f"means nothing for {output.kind.value}", f"write {_NONE[name]}, or open {fitting}")
            asked[name] = False
    if asked["top_k"] and task is not Task.CLASSES:
        yield _problem(output, "top_k", "there is one probability a sample", "write 0")
    elif asked["top_k"] and not 1 <= output.top_k < classes:
        yield _problem(output, "top_k", f"must be 1 to {classes - 1}, fewer than the classes", "write 0 to open all of them")
    if output.decimals is not None and asked["decimals"] and not 0 <= output.decimals <= MAX_DECIMALS:
        yield _problem(output, "decimals", f"must be 0 to {MAX_DECIMALS}", "write null for no rounding")
        asked["decimals"] = False
    yield from _check_groups(output)
    yield from _check_histogram(output, task)
    yield from _check_losses(output)
    if asked["noise"]:
        yield from check_decimal(f"outputs.{output.name}.noise", output.noise, Decimal("0.001"), Decimal(1_000))
        if not 1 <= output.noise_colluders <= 63:
            yield _problem(output, "noise_colluders", "must be 1 or more, and fewer than the computing parties", "write 1")
    if asked["abstain_below"]:
        # Independent noise on each class may take all of them below this; without, the largest of k is 1/k or more.
        is_noisy = output.noise != "0" and task is Task.CLASSES
        least = Decimal("0.000001") if is_noisy else (Decimal(1) / max(classes, 2)).quantize(_PLACES, ROUND_CEILING)
        yield from check_decimal(f"outputs.{output.name}.abstain_below", output.abstain_below, least, Decimal(1))
    if asked["abstain_beyond"]:
        yield from check_decimal(f"outputs.{output.name}.abstain_beyond", output.abstain_beyond, LEAST_DISTANCE, MOST_DISTANCE)
    if asked["clip"]:
        yield from _check_clip(output, task, classes, decimals=output.decimals if asked["decimals"] else None)


def _check_groups(output: Output) -> Iterable[Problem]:
    if output.kind is not OutputKind.GROUP_CONFUSION:
        return
    if not output.group_by:
        yield _problem(output, "group_by", "missing", "name the feature by which rows are grouped")
    if len(output.group_edges) > MAX_GROUP_EDGES:
        yield _problem(output, "group_edges", f"more than {MAX_GROUP_EDGES}", "write fewer")
    yield from check_ascending(f"outputs.{output.name}.group_edges", output.group_edges, Decimal(-1), Decimal(1))


def _check_histogram(output: Output, task: Task) -> Iterable[Problem]:
    if output.kind is not OutputKind.SCORE_HISTOGRAM:
        return
    if task is not Task.BINARY:
        yield _problem(output, "kind", "there is one probability to order rows by in a binary task alone", "leave it out")
    if not output.has_noise:
        what = "counts between so many edges are opened with noise alone"
        yield _problem(output, "noise", what, "write its deviation, or open roc_auc or reliability")
    edges = (_PLACES, 1 - _PLACES)
    yield from check_ascending(f"outputs.{output.name}.group_edges", output.group_edges, *edges)


def _check_losses(output: Output) -> Iterable[Problem]:
    """Yields what is wrong with how much a row of a noisy loss counts, and with how many rows of a person noise hides."""
    if output.kind in LOSSES and output.has_noise:
        yield from check_decimal(f"outputs.{output.name}.bound", output.bound, LEAST_BOUND, MOST_BOUND[output.kind])
    elif output.bound != "0":
        yield _problem(output, "bound", "bounds the rows of a loss with noise alone", 'write "0"')
    if not 1 <= output.rows_per_person <= MAX_ROWS_PER_PERSON:
        yield _problem(output, "rows_per_person", f"must be 1 to {MAX_ROWS_PER_PERSON}", "write 1 if nobody has several rows")
    elif output.rows_per_person > 1 and not (output.has_noise and output.kind in NOISY_ABOUT_ROWS):
        yield _problem(output, "rows_per_person", "noise on numbers about rows alone hides several rows together", "write 1")


def _check_clip(output: Output, task: Task, classes: int, *, decimals: int | None) -> Iterable[Problem]:
    most = _LARGEST_CLIP
    if task is Task.CLASSES:
        most = min(most, (Decimal(1) / max(classes, 1)).quantize(_PLACES, ROUND_FLOOR))
    wrong = tuple(check_decimal(f"outputs.{output.name}.clip", output.clip, Decimal(0), most))
    yield from wrong
    # Rounding must not lead out of what is clipped to.
    if not wrong and decimals is not None and Decimal(output.clip).scaleb(decimals) % 1:
        yield _problem(output, "clip", f"has more than the output's {decimals} decimals", "write fewer digits, or more decimals")


def _problem(output: Output, field: str, what: str, remedy: str) -> Problem:
    return Problem(f"outputs.{output.name}.{field}", what, remedy)
