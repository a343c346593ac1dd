"""Derives the plan of a job by running its program on zeros.

The dry run is the program itself, with shapes for shares, so what the plan says and what the session does cannot differ.
Equal steps are run once. No secret and no randomness is involved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from protocols.attack_numbers import width_of
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job, JobType
from protocols.links import MAX_ARRAYS
from protocols.mpc.channels import ZeroExchange
from protocols.mpc.checkpoint import CheckpointTimes
from protocols.mpc.engine import Engine
from protocols.mpc.inputs import planned_inputs
from protocols.mpc.material.context import ShapeMaterial, Window
from protocols.mpc.noise_designs import planned_noise
from protocols.mpc.noisy_sums_design import is_noisy_sums
from protocols.mpc.noisy_sums_plan import noisy_sums_plan
from protocols.mpc.programs.catalogue import Brought, program_of, schedule_of
from protocols.mpc.programs.names import ANSWER
from protocols.mpc.programs.noisy import no_noise
from protocols.mpc.programs.program import Results
from protocols.mpc.programs.serve import check_block
from protocols.mpc.programs.step_noise import StepNoise
from protocols.mpc.programs.train import Steps
from protocols.mpc.row_bounds import bounds_rows
from protocols.mpc.shared_gradients_design import design
from protocols.mpc.tapes import RecordingTape
from protocols.mpc.tensor import use_engine
from protocols.plan.operations import Open, Segment
from protocols.plan.plan import Plan, PlannedResult, first_runs
from protocols.ring import RingArray
from protocols.row_noise import adds_row_noise, noise_steps, num_noisy


def derive_plan(job: Job) -> Plan:
    """Returns the plan of a job; the same at every party that runs the same version.

    The zeros take no memory, whatever the number of rows.

    Raises:
        ConfideError: INVALID_JOB or INVALID_MODEL (the querier's fault) if the job cannot be computed within the ring, nothing
            is left to train, or too many rows are to be ranked.
    """
    if is_noisy_sums(job):
        return replace(noisy_sums_plan(job), noise=planned_noise(job))
    schedule = schedule_of(job)
    material = ShapeMaterial()
    tape = RecordingTape()
    parties = len(job.computing_parties)
    engine = Engine(index=0, parties=parties, exchange=ZeroExchange(), material=material, tape=tape)
    segments: dict[str, Segment] = {}
    with use_engine(engine):
        program = program_of(job, engine, _zeros(job))
        for run in first_runs(schedule):
            tape.operations = []
            material.correction_bytes = 0
            with engine.segment(Window(run.start, run.stop) if run.stop else None):
                program.run_segment(run.segment)
            segments[run.segment] = Segment(run.segment, tuple(tape.operations), material.correction_bytes)
        if job.serving is not None:
            check_block(segments[ANSWER])
        tape.operations = []
        results = program.results()
    if tape.operations:
        raise ConfideError(ErrorCode.INTERNAL, "a program computes outside its segments")
    _check_messages(segments.values(), mail=int(bounds_rows(job)))
    return Plan(
        job_digest=job.digest,
        computing_parties=job.computing_parties,
        dealer=job.dealer,
        inputs=planned_inputs(job),
        segments=tuple(segments.values()),
        schedule=schedule,
        results=tuple(_planned_results(job, results)),
        signals=_signals(job),
        noise=planned_noise(job),
    )


def _check_messages(segments: Iterable[Segment], *, mail: int) -> None:
    """Refuses a plan with a round that one message cannot carry.

    Args:
        segments: of the plan.
        mail: arrays that may travel beside those of any round: what is told for noise (`protocols.mpc.noise_beside`).
    """
    rounds = (operation for segment in segments for operation in segment.operations if isinstance(operation, Open))
    most = max((len(each.arrays) + mail for each in rounds), default=0)
    if most > MAX_ARRAYS:
        what = f"a round opens {most} arrays at once, and a message carries at most {MAX_ARRAYS}"
        problem = Problem("model", what, "use fewer layers with weights, or an optimiser without momentum")
        raise ConfideError(ErrorCode.INVALID_MODEL, "the model has too many layers for one round", problems=[problem])


def checkpoint_times(job: Job) -> CheckpointTimes | None:
    """Returns when the checkpoints of a job are made; None unless it is a training, or if none may go on from one."""
    if job.job_type is not JobType.TRAIN or job.training is None or job.training.privacy is not None:
        return None
    steps = Steps.of(job)
    return CheckpointTimes(job.training.checkpoints, steps.per_epoch, steps.total)


def _signals(job: Job) -> int:
    times = checkpoint_times(job)
    return 0 if times is None else times.questions(Steps.of(job).before)


def _planned_results(job: Job, results: Results) -> Sequence[PlannedResult]:
    recipients = {output.name: output.recipient for output in job.outputs}
    kept = [PlannedResult(name, value.shape, value.scale_bits, "") for name, value in results.model.items()]
    sent = [PlannedResult(name, value.shape, value.scale_bits, recipients[name]) for name, value in results.outputs.items()]
    return [*kept, *sent]


def _zeros(job: Job) -> Brought:
    parameters: Mapping[str, RingArray] = {spec.name: _zero(spec.shape) for spec in job.model.parameters}
    has_rows = bool(job.datasets)
    return Brought(
        features=_zero((job.num_rows, job.model.input_features)) if has_rows else None,
        labels=_zero((job.num_rows, job.label_width)) if has_rows else None,
        initial_weights={spec.name: np.zeros(spec.shape) for spec in job.model.parameters},
        training_state=parameters,
        model_share=parameters,
        query_share=None if job.query_rows is None else _zero((job.query_rows, job.model.input_features)),
        noise=_zero((noise_steps(job), num_noisy(job))) if adds_row_noise(job) else None,
        step_noise=_step_noise(job) if bounds_rows(job) else None,
        draw=no_noise,
        attack_numbers=None if job.assessment is None else _zero((job.num_rows, width_of(job.assessment))),
    )


def _step_noise(job: Job) -> StepNoise:
    wanted = design(job, 0)
    return StepNoise.of(_zero((wanted.steps, wanted.used)))


def _zero(shape: tuple[int, ...]) -> RingArray:
    return np.broadcast_to(np.int64(0), shape)
