"""Who learns what from a job, in words, for its preview."""

from __future__ import annotations

from collections.abc import Iterable

from protocols.job import Job, Partition
from protocols.plan.plan import ADVERSARY, Plan
from protocols.private_training import Mechanism
from protocols.row_noise import adds_row_noise


def who_learns_what(job: Job, plan: Plan) -> Iterable[tuple[str, str]]:
    """Yields who learns what from a job, in words; public."""
    rows = "samples" if job.most_samples else "rows"
    opened = ", ".join(f"{output.name} ({output.kind.value})" for output in job.outputs)
    yield job.querier, f"{opened}, within their constraints" if opened else "that the job completed, and what it cost"
    if job.assessment is not None:
        labels = [f"{job.datasets[place].party}/{job.datasets[place].name}" for place in job.assessment.members]
        yield "everybody", f"that {', '.join(labels)} is said to be among the rows that the model was trained on"
    if job.summary is not None and not adds_row_noise(job):
        yield job.querier, "how many rows of a group have 1 in a column of 0 and 1, however few"
    if any(preparation.openings for preparation in job.prepared_with):
        yield "everybody", "the noisy means and deviations that the schema's ranges follow from"
    computing = ", ".join(job.computing_parties)
    if plan.revealed_bits:
        yield computing, f"{plan.revealed_bits} bit(s): whether the numbers are in range, at the end of every epoch"
    if plan.noise is not None:
        together = ", ".join(dict.fromkeys((*job.computing_parties, *plan.noise.owners)))
        yield together, "figures of every owner's noise in the spare coordinates, which are used for nothing"
    if _opens_sums(job):
        yield from _learns_of_sums(job, computing)
        return
    yield computing, "shapes, schedule and volumes, unless all of them pool their shares"
    yield job.dealer, "shapes, schedule and volumes, unless a computing party pools with it"
    yield "who pools so", f"{rows} and outputs" if job.summary is not None else f"{rows}, weights and outputs"
    if job.partition is Partition.COLUMNS:
        labelled = ", ".join(f"{part.party}/{part.name}" for part in job.datasets if part.has_label)
        yield "everybody", f"that the data sets are columns of the same {job.num_rows} people in one order"
        yield "everybody", f"that {labelled} has the label"
        yield ", ".join(dict.fromkeys(part.party for part in job.datasets)), "that the others hold everybody in its own list"
    owners = [party for party in job.participants if party not in (*job.computing_parties, job.dealer)]
    if owners:
        yield ", ".join(owners), "that the job ran, and its shapes"
    yield "assumed of all", ADVERSARY


def _opens_sums(job: Job) -> bool:
    privacy = None if job.training is None else job.training.privacy
    return privacy is not None and privacy.mechanism is Mechanism.NOISY_SUMS


def _learns_of_sums(job: Job, computing: str) -> Iterable[tuple[str, str]]:
    together = ", ".join(dict.fromkeys((*job.computing_parties, *(part.party for part in job.datasets))))
    yield together, "the noisy sum of the gradients in every step, and so the weights after it; shapes, schedule and volumes"
    yield computing, "unless all of them pool their shares: then every owner's sum of every step, without noise"
    if job.training is not None and job.training.privacy is not None and job.training.privacy.canaries:
        yield "everybody", "which epsilon the canaries of each owner show at least"
    if job.dealer not in together.split(", "):
        yield job.dealer, "that the job ran, and its shapes"
    yield "assumed of all", "semi-honest; at least one computing party does not pool its shares"
