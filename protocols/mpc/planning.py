"""Derives the plan of a job by running its program on zeros.

The dry run is the program itself, with shapes for shares, so what the plan says and what the session does cannot differ.
Equal steps are run once. No secret and no randomness is involved.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType
from protocols.mpc.channels import ZeroExchange
from protocols.mpc.engine import Engine
from protocols.mpc.inputs import planned_inputs
from protocols.mpc.material.context import ShapeMaterial, Window
from protocols.mpc.programs.program import Program, Results
from protocols.mpc.programs.serve import SCHEDULE, EvaluateProgram, InferProgram
from protocols.mpc.programs.train import TrainProgram, training_schedule
from protocols.mpc.tapes import RecordingTape
from protocols.mpc.tensor import use_engine
from protocols.plan.operations import Segment
from protocols.plan.plan import Plan, PlannedResult, Stage, runs_of
from protocols.ring import RingArray


def derive_plan(job: Job) -> Plan:
    """Returns the plan of a job; the same at every party that runs the same version.

    Raises:
        ConfideError: INVALID_JOB or INVALID_MODEL (the querier's fault) if the job cannot be computed within the ring.
    """
    schedule = schedule_of(job)
    material = ShapeMaterial()
    tape = RecordingTape()
    engine = Engine(index=0, exchange=ZeroExchange(), material=material, tape=tape)
    segments: dict[str, Segment] = {}
    with use_engine(engine):
        program = _dry_program(job)
        for run in runs_of(schedule):
            if run.segment in segments:
                if len(segments) == len({part.segment for stage in schedule for part in stage.parts}):
                    break
                continue
            tape.operations = []
            material.correction_bytes = 0
            with engine.segment(Window(run.start, run.stop) if run.stop else None):
                program.run_segment(run.segment)
            segments[run.segment] = Segment(run.segment, tuple(tape.operations), material.correction_bytes)
        tape.operations = []
        results = program.results()
    if tape.operations:
        raise ConfideError(ErrorCode.INTERNAL, "a program computes outside its segments")
    return Plan(
        job_digest=job.digest,
        computing_parties=job.computing_parties,
        dealer=job.dealer,
        inputs=planned_inputs(job),
        segments=tuple(segments.values()),
        schedule=schedule,
        results=tuple(_planned_results(job, results)),
    )


def schedule_of(job: Job) -> tuple[Stage, ...]:
    """Returns how often and in which order the segments of the job's program run."""
    if job.job_type is JobType.TRAIN and job.training is not None:
        return training_schedule(job.num_rows, job.training)
    return SCHEDULE


def _planned_results(job: Job, results: Results) -> Sequence[PlannedResult]:
    recipients = {output.name: output.recipient for output in job.outputs}
    kept = [PlannedResult(name, value.shape, value.scale_bits, "") for name, value in results.model.items()]
    sent = [PlannedResult(name, value.shape, value.scale_bits, recipients[name]) for name, value in results.outputs.items()]
    return [*kept, *sent]


def _dry_program(job: Job) -> Program:
    parameters = {spec.name: _zeros(spec.shape) for spec in job.model.parameters}
    features, labels = _zeros((job.num_rows, job.model.input_features)), _zeros((job.num_rows, 1))
    match job.job_type:
        case JobType.TRAIN:
            weights = {spec.name: np.zeros(spec.shape) for spec in job.model.parameters}
            return TrainProgram(job=job, features=features, labels=labels, initial_weights=weights)
        case JobType.EVALUATE:
            return EvaluateProgram(job=job, model_share=parameters, features=features, labels=labels)
        case JobType.INFER:
            query = _zeros((job.query_rows or 0, job.model.input_features))
            return InferProgram(job=job, model_share=parameters, query_share=query)


def _zeros(shape: tuple[int, ...]) -> RingArray:
    return np.zeros(shape, np.int64)
