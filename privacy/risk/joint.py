"""From the counts that a joint assessment opens to its report: the one function that researcher and owners use.

The same counts give everybody the same figures, so an owner that has opened the counts itself can say whether a report is theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from privacy.risk.report import ATTACKED_IN_SHARES, RiskReport
from protocols.errors import ConfideError, ErrorCode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protocols.job import Job


def risk_of(job: Job, counts: NDArray[np.float64] | NDArray[np.int64]) -> RiskReport:
    """Returns the report of an assessment.

    Args:
        job: the assessment.
        counts: (thresholds, 2), the opened output.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): another job, or counts of another one.
    """
    from privacy.risk.rates import figures_of_counts  # scipy is slow to load, and most commands need none of it

    assessment = job.assessment
    if assessment is None or counts.shape != (len(assessment.thresholds), 2):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"job {job.job_id} opened no such counts of an attack")
    rows = [dataset.num_rows for dataset in job.datasets]
    members = sum(rows[place] for place in assessment.members)
    figures = figures_of_counts(
        np.asarray(counts, np.int64),
        members=members,
        others=sum(rows) - members,
        min_cell=max(output.min_cell for output in job.outputs),
        prefix=f"membership.{assessment.attack}",
    )
    return RiskReport(
        figures=figures,
        members=members,
        others=sum(rows) - members,
        shadows=assessment.shadows,
        seeds=(),
        method=ATTACKED_IN_SHARES,
    )
