"""The plan of a training by noisy sums: one opening a step, no correlated randomness, nothing for the dealer to do."""

from __future__ import annotations

import hashlib

from protocols.fixed_point import PARAMETER_BITS
from protocols.job import Job
from protocols.links import TensorSpec
from protocols.mpc.noisy_sums_design import check_room, num_coordinates
from protocols.mpc.noisy_sums_sampling import training_of
from protocols.plan.operations import Open, Segment
from protocols.plan.plan import Part, Plan, PlannedInput, PlannedResult, PlannedTold, Stage
from protocols.private_job_checks import contributors

SUM = "noisy sum"
AGREEMENT = "equal weights"
DIGEST_BYTES = hashlib.sha256().digest_size


def opened_layout(job: Job) -> tuple[TensorSpec, ...]:
    """Returns what a computing party sends every other one in a step: its share of the noisy sum, and a digest of the weights."""
    return (TensorSpec("int64", (num_coordinates(job),)), digest_layout())


def digest_layout() -> TensorSpec:
    """Returns the layout of a digest."""
    return TensorSpec("uint8", (DIGEST_BYTES,))


def contributed_inputs(job: Job) -> tuple[PlannedInput, ...]:
    """Returns what owners share in all steps: each the sum over all of its data sets, under the first of them."""
    names = [dataset.party for dataset in job.datasets]
    return tuple(
        PlannedInput(
            owner,
            names.index(owner),
            training_of(job).epochs * num_coordinates(job),
            owner if owner in job.computing_parties else job.computing_parties[-1],
        )
        for owner in contributors(job)
    )


def noisy_sums_plan(job: Job) -> Plan:
    """Returns the plan: a step after the other, and the comparison of the weights after the last one.

    Computing parties keep the parameters, without the optimiser's state: a private training is not gone on with.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) if sums could leave the ring.
    """
    check_room(job)
    steps = training_of(job).epochs
    owners = [owner for owner in contributors(job) if owner not in job.computing_parties]
    return Plan(
        job_digest=job.digest,
        computing_parties=job.computing_parties,
        dealer=job.dealer,
        inputs=contributed_inputs(job),
        segments=(
            Segment(SUM, (Open(SUM, opened_layout(job)),), 0),
            Segment(AGREEMENT, (Open(AGREEMENT, (digest_layout(),)),), 0),
        ),
        schedule=(Stage(1, (Part(SUM, steps, 0), Part(AGREEMENT, 1, 0))),),
        results=tuple(PlannedResult(spec.name, spec.shape, PARAMETER_BITS, "") for spec in job.model.parameters),
        told=tuple(PlannedTold(owner, 8 * steps * num_coordinates(job), DIGEST_BYTES * steps) for owner in owners),
    )
