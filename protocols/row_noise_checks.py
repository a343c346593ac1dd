"""What a job must fulfil whose outputs about rows have noise of the rows' owners; every party checks it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from protocols.errors import Problem
from protocols.loss_bounds import LOSSES
from protocols.private_job_checks import contributors

if TYPE_CHECKING:  # the job's checks import this module
    from protocols.job import Job


def check_row_noise(job: Job) -> Iterable[Problem]:
    """Yields why the noise of an evaluation or a summary would protect nobody, or cannot be drawn; nothing without noise."""
    if not any(output.has_noise for output in job.outputs):
        return
    terms = {(output.noise, output.noise_colluders, output.min_cell, output.rows_per_person) for output in job.outputs}
    if len(terms) > 1:
        # Beside a number without noise that tells of the same rows, noise on the others would promise nothing.
        what = "outputs about the same rows all have the same noise, minimum cell and rows of a person, or none has noise"
        yield Problem("outputs", what, "write one noise for all of them, and ask for what takes none in another job")
    owners, colluders = contributors(job), max(output.noise_colluders for output in job.outputs)
    if len(owners) < 2:
        remedy = "name data sets of at least two institutions"
        yield Problem("datasets", "noise that one institution alone draws is known to it, and protects nobody from it", remedy)
    elif colluders >= len(owners):
        what = f"{colluders} of {len(owners)} owners may pool: nobody is left whose noise is unknown to them"
        yield Problem("outputs.noise_colluders", what, f"write 1 to {len(owners) - 1}")
    for output in job.outputs:
        if output.kind in LOSSES and job.num_rows < output.min_cell:
            what = f"{job.num_rows} rows are fewer than its minimum"
            yield Problem(f"outputs.{output.name}.min_cell", what, "use more rows")
    if job.dealer in owners and colluders >= 2:
        what = f"two parties can be the dealer {job.dealer} and a computing party, who could put the shared rows together"
        yield Problem("outputs.noise_colluders", what, "write 1, or name a dealer that brings no data")
