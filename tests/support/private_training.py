"""Private trainings on shares: jobs, and the computing parties and the dealer in one process with noise that the test gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from protocols.fixed_point import PARAMETER_BITS, VALUE_BITS
from protocols.job import Job, JobType, Task
from protocols.model.layers import Linear
from protocols.model.spec import ModelSpec
from protocols.mpc.channels import Channel, CorrectionReader, CorrectionWriter, LinkExchange
from protocols.mpc.engine import Engine
from protocols.mpc.inputs import ROW_LIMIT
from protocols.mpc.material.context import DealerMaterial, ShareMaterial
from protocols.mpc.planning import derive_plan
from protocols.mpc.programs.catalogue import Brought, program_of
from protocols.mpc.programs.step_noise import StepNoise
from protocols.mpc.row_bounds import shorten_rows, squared_limit
from protocols.mpc.session import deal_run, one_run
from protocols.mpc.shared_gradients_design import design
from protocols.mpc.tapes import CheckingTape
from protocols.mpc.tensor import use_engine
from protocols.plan.plan import Plan
from protocols.private_training import Mechanism, PrivateTraining, Unit
from protocols.training import Loss, Training
from tests.support.jobs import sgd
from tests.support.memory_links import MemoryLink, connect
from tests.support.mpc_world import a_job, in_threads, split, stream

ZEROS = {"linear.weight": np.zeros((1, 30)), "linear.bias": np.zeros(1)}
OWNERS = {"alpha": 200, "beta": 100, "gamma": 169, "omega": 100}


def terms(nominal_rows: int = 569, **changes: Any) -> PrivateTraining:
    """Terms of a private training on shares; the claim is not what the noise gives."""
    found = PrivateTraining(
        mechanism=Mechanism.SHARED_GRADIENTS,
        noise_multiplier="2",
        colluders=1,
        nominal_rows=nominal_rows,
        nominal_people=nominal_rows,
        epsilon="50",
        delta="0.0001",
        unit=Unit.ROW,
        rows_per_person=1,
        norm_bound="1",
        canaries=0,
    )
    return replace(found, **changes)


def private_sgd(
    steps: int, rate: str, momentum: str = "0", *, privacy: PrivateTraining, loss: Loss = Loss.BINARY_CROSS_ENTROPY
) -> Training:
    """Hyper-parameters of a private training."""
    return replace(sgd(steps, privacy.nominal_rows, rate, momentum, loss=loss), privacy=privacy)


def a_private_job(
    training: Training,
    *,
    features: int = 30,
    owners: Mapping[str, int] = OWNERS,
    computing: Sequence[str] = ("alpha", "beta"),
    task: Task = Task.BINARY,
    bias: bool = True,
) -> Job:
    """A private training of one linear layer, by rows."""
    return a_job(
        JobType.TRAIN,
        rows=owners,
        training=training,
        computing=computing,
        model=ModelSpec.chain(features, linear=Linear(1, bias=bias)),
        task=task,
    )


def drawn_noise(job: Job, *, seed: int = 1) -> np.ndarray:
    """(steps, parameters) int64: rounded normal numbers of the deviation of all owners together; no sampler for real jobs."""
    wanted = design(job, 0)
    deviation = wanted.deviation * np.sqrt(len(wanted.owners))
    return np.rint(np.random.default_rng(seed).normal(0, deviation, (wanted.steps, wanted.used))).astype(np.int64)


def shortened(job: Job, features: np.ndarray) -> np.ndarray:
    """The integers that owners of whole rows share."""
    squared = squared_limit(job, job.datasets[0])
    assert squared is not None
    return shorten_rows(features, squared=squared, limit=ROW_LIMIT)


@dataclass
class PrivateRun:
    """What came of a training: the opened parameters and momenta, and what the parties sent."""

    plan: Plan
    model: dict[str, np.ndarray]
    links: dict[str, dict[str, MemoryLink]]
    rounds: int


def run_private(
    job: Job, features: np.ndarray, labels: np.ndarray, start: Mapping[str, np.ndarray], noise: np.ndarray
) -> PrivateRun:
    """Runs the program of a private training.

    Args:
        job: the job.
        features: (rows, features) int64 at 16 fractional bits.
        labels: (rows,) float64.
        start: public weights.
        noise: (steps, parameters) int64.
    """
    plan = derive_plan(job)
    parties = plan.computing_parties
    links = connect([*parties, "dealer"])
    encoded = np.rint(labels * 2**VALUE_BITS).astype(np.int64).reshape(-1, 1)
    shares = [split(values, len(parties), seed) for values, seed in ((features, 5), (encoded, 6), (noise, 7))]

    def dealer() -> None:
        writer = CorrectionWriter(Channel(links["dealer"][parties[-1]]))
        material = DealerMaterial([stream(f"dealt{i}") for i in range(len(parties))], writer)
        for run in plan.runs():
            deal_run(material, plan.segment(run.segment), run)
            writer.end_run()

    def party(index: int) -> tuple[dict[str, np.ndarray], int]:
        name, is_last = parties[index], index == len(parties) - 1
        reader = CorrectionReader(Channel(links[name]["dealer"])) if is_last else None
        exchange = LinkExchange([Channel(links[name][other]) for other in parties if other != name])
        tape = CheckingTape()
        material = ShareMaterial(stream(f"dealt{index}"), reader)
        engine = Engine(index=index, parties=len(parties), exchange=exchange, material=material, tape=tape)
        mine = [values[index] for values in shares]
        brought = Brought(
            features=mine[0],
            labels=mine[1],
            initial_weights=start,
            training_state={},
            model_share={},
            query_share=None,
            step_noise=StepNoise.of(mine[2]),
        )
        with use_engine(engine):
            program = program_of(job, engine, brought)
            for run in plan.runs():
                with one_run(engine, tape, reader, plan.segment(run.segment), run):
                    program.run_segment(run.segment)
            return {name: value.share for name, value in program.results().model.items()}, exchange.rounds

    tasks: dict[str, Callable[[], Any]] = {"dealer": dealer}
    for index, name in enumerate(parties):
        tasks[name] = lambda index=index: party(index)
    results = in_threads(tasks, links)
    held = [results[name][0] for name in parties]
    model = {name: sum(share[name] for share in held) / 2.0**PARAMETER_BITS for name in held[0]}
    return PrivateRun(plan, model, links, results[parties[0]][1])
