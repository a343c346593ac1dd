"""The report on a model's utility: the figures of one evaluation, and of the same on rows from elsewhere if there was one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypedDict

import numpy as np

from privacy.figures import PLACES, Figure, Figures, figures_document, read_figures
from privacy.risk.intervals import difference
from privacy.utility.groups import group_figures, noisy_group_figures
from privacy.utility.opened import Evaluation, figures_of
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job
from protocols.job_fields import check_decimal, check_hex
from protocols.job_parts import MAX_GROUP_EDGES, MAX_ROWS, JobType, OutputKind
from protocols.private_job_checks import contributors
from protocols.row_noise import adds_row_noise, opened_deviation

FORMAT = "confide.utility/2"
MAX_REPORT_BYTES = 64 * 1024
_NAMES = {"format", "job", "model", "rows", "min_cell", "noise", "correct", "groups", "figures", "compared_with"}
_MAX_NAME = 256
NO_NOISE = "0"
_MOST_NOISE = Decimal(100_000)
_JOB_DIGITS = 32


class Conditions(TypedDict):
    """The fields of a report that follow from its job alone."""

    rows: int
    min_cell: int
    noise: str


@dataclass(frozen=True, eq=False)
class UtilityReport:
    """How well one model version predicts the rows of one evaluation; the querier's, who may put it into the evidence.

    Attributes:
        job: id of the evaluation, 32 hexadecimal digits.
        model: `name@version`.
        rows: how many were evaluated.
        min_cell: no count of fewer rows was opened.
        correct: the least and the largest number of correct rows that it may have been; empty if no output told.
        groups: what the groups of the figures are, in their order; empty without groups.
        figures: by name: see docs/utility.md.
        compared_with: id of the evaluation on the rows that a shift is from; empty if none was.
        noise: standard deviation of the noise in each opened count, a decimal; "0" without.
    """

    job: str
    model: str
    rows: int
    min_cell: int
    correct: tuple[int, ...]
    groups: tuple[str, ...]
    figures: Figures
    compared_with: str = ""
    noise: str = "0"

    def to_document(self) -> dict[str, Any]:
        """Returns the report as a document, which holds no floating-point numbers."""
        return {
            "format": FORMAT,
            "job": self.job,
            "model": self.model,
            "rows": self.rows,
            "min_cell": self.min_cell,
            "noise": self.noise,
            "correct": list(self.correct),
            "groups": list(self.groups),
            "figures": figures_document(self.figures),
            "compared_with": self.compared_with,
        }

    def to_bytes(self) -> bytes:
        """Returns the one form of the document."""
        return canonical_bytes(self.to_document())

    def after_shift(self, usual: UtilityReport) -> UtilityReport:
        """Returns this report, on rows from elsewhere, with the drop from a report on the usual rows.

        Raises:
            ConfideError: INVALID_ARGUMENT (the asker's fault): of another model, or without a count of correct rows.
        """
        if self.model != usual.model or self.job == usual.job or not self.correct or not usual.correct:
            what = "a drop is told between two evaluations of one model, both with the number of correct rows"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
        drop = _drop(usual, self)
        return UtilityReport(
            **vars(self) | {"figures": {**self.figures, "shift.accuracy_drop": drop}, "compared_with": usual.job}
        )


def utility_report(job: Job, values: Mapping[str, Any], *, groups: tuple[str, ...]) -> UtilityReport:
    """Returns the report of an evaluation whose outputs were opened.

    Args:
        job: the evaluation.
        values: opened values by the name of the output, as `combine_output` returns them.
        groups: what the groups are, in order; empty if none were asked for.

    Raises:
        ConfideError: INVALID_ARGUMENT (the asker's fault): the job is no evaluation, or nothing of it tells about utility.
    """
    figures = opened_figures(job, values)
    if not figures:
        what = "nothing that this evaluation opened tells how useful the model is"
        remedy = (
            "Evaluate with correct_count, confusion, reliability, group_confusion or score_histogram, on more rows, or with a "
            "smaller min_cell."
        )
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy=remedy)
    return UtilityReport(
        job=job.job_id,
        model="" if job.model_ref is None else job.model_ref.label,
        **conditions_of(job),
        correct=_evaluation(job, values).correct_range or (),
        groups=groups,
        figures=figures,
    )


def conditions_of(job: Job) -> Conditions:
    """Returns under what an evaluation opened its counts; public, and the same for whoever knows the job."""
    deviation = _deviation(job)
    return {
        "rows": job.num_rows,
        "min_cell": max(output.min_cell for output in job.outputs),
        "noise": f"{deviation:.{PLACES}f}" if deviation else NO_NOISE,
    }


def opened_figures(job: Job, values: Mapping[str, Any]) -> dict[str, Figure]:
    """Returns the figures of an evaluation and of its groups; empty if everything that tells of utility was withheld.

    Args:
        job: the evaluation.
        values: opened values by the name of the output, as `combine_output` returns them.

    Raises:
        ConfideError: INVALID_ARGUMENT (the asker's fault): the job is no evaluation.
    """
    evaluation = _evaluation(job, values)
    found, groups = figures_of(evaluation), evaluation.groups
    if groups is None:
        return found
    if evaluation.deviation:
        noisy = groups.astype(np.float64)
        return found | noisy_group_figures(noisy, deviation=evaluation.deviation, rows=evaluation.num_rows)
    return found | group_figures(groups.astype(np.int64))


def _evaluation(job: Job, values: Mapping[str, Any]) -> Evaluation:
    if job.job_type is not JobType.EVALUATE or job.model_ref is None:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "a report on utility is of an evaluation")
    opened = {output.kind: np.asarray(values[output.name]) for output in job.outputs}
    return Evaluation(
        num_rows=job.num_rows,
        min_cell=max(output.min_cell for output in job.outputs),
        correct=None if OutputKind.CORRECT_COUNT not in opened else float(opened[OutputKind.CORRECT_COUNT][0]),
        confusion=opened.get(OutputKind.CONFUSION),
        roc_auc=None if OutputKind.ROC_AUC not in opened else float(opened[OutputKind.ROC_AUC][0]),
        reliability=opened.get(OutputKind.RELIABILITY),
        histogram=opened.get(OutputKind.SCORE_HISTOGRAM),
        groups=opened.get(OutputKind.GROUP_CONFUSION),
        deviation=_deviation(job),
    )


def _deviation(job: Job) -> float:
    return opened_deviation(job, owners=len(contributors(job))) if adds_row_noise(job) else 0.0


def _drop(usual: UtilityReport, elsewhere: UtilityReport) -> Figure:
    """The accuracy on the usual rows less that on rows from elsewhere.

    Of counts the least of either is taken: where one is not exact, the other says by how much at most. Of noisy counts it is the
    middle of where they lie, and the interval is wider by how far they reach.
    """
    if usual.noise == elsewhere.noise == NO_NOISE:
        return difference((usual.correct[0], usual.rows), (elsewhere.correct[0], elsewhere.rows))
    first, second = (sum(each.correct) // 2 for each in (usual, elsewhere))
    reach = sum((each.correct[1] - each.correct[0] + 1) / (2 * each.rows) for each in (usual, elsewhere))
    found = difference((first, usual.rows), (second, elsewhere.rows))
    return Figure(found.value, max(-1.0, found.low - reach), min(1.0, found.high + reach))


def read_utility_report(data: bytes) -> UtilityReport:
    """Reads a report from bytes of unknown origin; accepts only the one form.

    Raises:
        ConfideError: INVALID_DOCUMENT (the author's fault) with all problems.
    """
    if len(data) > MAX_REPORT_BYTES:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"a report on utility has at most {MAX_REPORT_BYTES} bytes")
    document = parse_canonical(data)
    if set(document) != _NAMES or document["format"] != FORMAT:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"this is no report of the format {FORMAT}")
    problems = list(_problems(document))
    if problems:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, "this is no report on utility", problems=problems)
    return UtilityReport(
        job=document["job"],
        model=document["model"],
        rows=document["rows"],
        min_cell=document["min_cell"],
        noise=document["noise"],
        correct=tuple(document["correct"]),
        groups=tuple(document["groups"]),
        figures=read_figures(document["figures"]),
        compared_with=document["compared_with"],
    )


def _problems(document: Mapping[str, Any]) -> list[Problem]:
    found = []
    for name in ("job", "compared_with"):
        value = document[name]
        if not isinstance(value, str) or (value and list(check_hex(name, value, _JOB_DIGITS))) or (name == "job" and not value):
            found.append(Problem(name, f"{_JOB_DIGITS} hexadecimal digits are expected", "copy the id of the job"))
    if not _is_text(document["model"]):
        found.append(Problem("model", "a name and version are expected", "write name@version"))
    if not _is_count(document["rows"]) or not _is_count(document["min_cell"]) or not document["rows"]:
        found.append(Problem("rows", "counts of rows are expected", "copy the report as it was made"))
    elif not _is_range(document["correct"], document["rows"]):
        found.append(Problem("correct", "the least and the largest number are expected, or neither", "copy the report"))
    if not isinstance(document["noise"], str) or list(check_decimal("noise", document["noise"], Decimal(0), _MOST_NOISE)):
        found.append(Problem("noise", "a decimal is expected", "copy the report as it was made"))
    groups = document["groups"]
    if not isinstance(groups, list) or len(groups) > MAX_GROUP_EDGES + 1 or not all(_is_text(name) for name in groups):
        found.append(Problem("groups", "a list of names is expected", "copy the report as it was made"))
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_ROWS * 64


def _is_range(value: object, rows: int) -> bool:
    if not isinstance(value, list) or not all(_is_count(each) for each in value):
        return False
    return not value or (len(value) == 2 and value[0] <= value[1] <= rows)
