"""Whether the numbers of a job stay within the limits that its plan declares; see `protocols.model.ranges`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import FIXED_POINT
from protocols.job import Job
from protocols.model.ranges import RangeReport, analyse


def ranges_of(job: Job, initial_weights: Mapping[str, NDArray[Any]] | None) -> RangeReport:
    """Returns the bounds of what a job computes.

    Args:
        job: public.
        initial_weights: by parameter name, where the job starts from public ones; None else.
    """
    batch = 1 if job.training is None else min(job.training.batch_size, max(1, job.num_rows))
    return analyse(job.model, initial_weights, numbers=FIXED_POINT, training=job.training, batch_rows=batch)


def refuse_overflow(report: RangeReport) -> None:
    """Refuses a job whose numbers leave their limits whatever the rows are.

    Raises:
        ConfideError: INVALID_MODEL (the querier's fault) naming each layer.
    """
    if report.problems:
        what = f"{len(report.problems)} layer(s) overflow with these weights"
        raise ConfideError(ErrorCode.INVALID_MODEL, what, problems=report.problems)
