"""Which program and schedule a job has; the session runs it on shares and the dry run on zeros."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType
from protocols.mpc.engine import Engine
from protocols.mpc.inputs import starts_from_public_weights
from protocols.mpc.programs.assess import AssessProgram, assess_schedule
from protocols.mpc.programs.evaluate import EvaluateProgram, evaluate_schedule
from protocols.mpc.programs.forward import forward_stages
from protocols.mpc.programs.infer import InferProgram
from protocols.mpc.programs.moments import MomentsProgram, moments_schedule
from protocols.mpc.programs.noisy import Draw
from protocols.mpc.programs.noisy_clusters import NoisyClusters, noisy_clusters_schedule
from protocols.mpc.programs.program import Program
from protocols.mpc.programs.release import ReleaseProgram, release_schedule
from protocols.mpc.programs.serve import ServeProgram, serve_schedule
from protocols.mpc.programs.step_noise import StepNoise
from protocols.mpc.programs.summarise import SummariseProgram, summarise_schedule
from protocols.mpc.programs.train import Steps, TrainProgram, public_start, shared_start
from protocols.mpc.programs.train_private import PrivateTrainProgram, private_schedule
from protocols.mpc.row_bounds import bounds_rows
from protocols.mpc.row_order import row_order
from protocols.plan.plan import Stage
from protocols.ring import RingArray
from protocols.row_noise import opens_moments, opens_noisy_clusters


@dataclass(frozen=True, repr=False, eq=False)
class Brought:
    """What a program works on, as this party's shares (see `LocalInputs`); the weights are public.

    Attributes:
        features: (rows, features) int64 of the data sets in order; None for an inference.
        labels: (rows, label_width) int64 of the same rows.
        initial_weights: of a training from public weights.
        training_state: of a training that goes on.
        model_share: of an evaluation or inference, or of serving.
        query_share: of an inference.
        attack_numbers: of an assessment: (rows, numbers of the attack) int64 of the same rows (`protocols.attack_numbers`).
        noise: of outputs about rows that have some: (steps, used coordinates) of the sum of all owners' noise (`PlannedNoise`).
        step_noise: the same of a private training on shares, which may come later.
        draw: gives this party's own noise, for an output of predictions that has some.
    """

    features: RingArray | None
    labels: RingArray | None
    initial_weights: Mapping[str, NDArray[np.floating]]
    training_state: Mapping[str, RingArray]
    model_share: Mapping[str, RingArray]
    query_share: RingArray | None
    noise: RingArray | None = None
    step_noise: StepNoise | None = None
    attack_numbers: RingArray | None = None
    draw: Draw | None = None


def schedule_of(job: Job) -> tuple[Stage, ...]:
    """Returns how often and in which order the segments of the job's program run.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) if nothing is left to train, or too many rows are to be ranked.
    """
    match job.job_type:
        case JobType.TRAIN:
            return private_schedule(job) if bounds_rows(job) else Steps.of(job).schedule()
        case JobType.EVALUATE:
            return evaluate_schedule(job)
        case JobType.ASSESS:
            return assess_schedule(job)
        case JobType.SUMMARISE:
            if opens_moments(job):
                return moments_schedule(job)
            return noisy_clusters_schedule(job) if opens_noisy_clusters(job) else summarise_schedule(job)
        case JobType.INFER:
            return forward_stages(job, job.query_rows or 0)
        case JobType.SERVE:
            return serve_schedule(job)
        case JobType.RELEASE:
            return release_schedule()
        case JobType.INFER_ENCRYPTED:
            raise _no_program(job)


def program_of(job: Job, engine: Engine, brought: Brought) -> Program:
    """Returns the program of a job over what was brought.

    Raises:
        ConfideError: INVALID_DATA (this party's fault) if rows or samples are missing.
    """
    match job.job_type:
        case JobType.TRAIN:
            features, labels = _rows(brought)
            if starts_from_public_weights(job):
                start = public_start(engine, brought.initial_weights)
            else:
                start = shared_start(brought.training_state)
            if bounds_rows(job):
                if brought.step_noise is None:
                    raise ConfideError(ErrorCode.INTERNAL, "a private training begins without its owners' noise")
                return PrivateTrainProgram(job=job, features=features, labels=labels, start=start, noise=brought.step_noise)
            return TrainProgram(job=job, features=features, labels=labels, start=start)
        case JobType.EVALUATE:
            features, labels = _rows(brought)
            model_share, noise = brought.model_share, brought.noise
            return EvaluateProgram(job=job, model_share=model_share, features=features, labels=labels, noise=noise)
        case JobType.ASSESS:
            features, labels = _rows(brought)
            if brought.attack_numbers is None:
                raise ConfideError(ErrorCode.INVALID_DATA, "rows lack what the owners' shadows say of them")
            return AssessProgram(
                job=job,
                model_share=brought.model_share,
                features=features,
                labels=labels,
                numbers=brought.attack_numbers,
            )
        case JobType.SUMMARISE:
            features, labels = _rows(brought)
            if opens_moments(job):
                return MomentsProgram(job=job, features=features, noise=brought.noise)
            if opens_noisy_clusters(job):
                return NoisyClusters(job=job, features=features, noise=brought.noise)
            return SummariseProgram(job=job, features=features, labels=labels, noise=brought.noise)
        case JobType.INFER:
            if brought.query_share is None:
                raise ConfideError(ErrorCode.INVALID_DATA, "no samples to predict")
            model_share, query_share = brought.model_share, brought.query_share
            return InferProgram(job=job, model_share=model_share, query_share=query_share, draw=brought.draw)
        case JobType.SERVE:
            return ServeProgram(job=job, model_share=brought.model_share, draw=brought.draw)
        case JobType.RELEASE:
            return ReleaseProgram(job=job, model_share=brought.model_share)
        case JobType.INFER_ENCRYPTED:
            raise _no_program(job)


def _no_program(job: Job) -> ConfideError:
    return ConfideError(ErrorCode.INVALID_JOB, f"no parties compute a job of type {job.job_type.value} together")


def in_step_order(job: Job, rows: RingArray) -> RingArray:
    """Returns rows in the order of a training's steps; rows of other jobs as they are."""
    if job.training is None:
        return rows
    ordered: RingArray = rows[row_order(job.training.shuffle_seed, job.num_rows)]
    return ordered


def _rows(brought: Brought) -> tuple[RingArray, RingArray]:
    if brought.features is None or brought.labels is None:
        raise ConfideError(ErrorCode.INVALID_DATA, "no rows to compute on")
    return brought.features, brought.labels
