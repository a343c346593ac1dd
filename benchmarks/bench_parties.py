"""How a training step, an evaluation and an inference grow with 2, 3 and 5 computing parties.

Every party is a process of one machine, the dealer too; links are pipes without encryption, so the figures are of the engine.
With more parties than cores they share the cores, and seconds grow faster than they would on a machine for each. Rounds and
bytes are those of the plan, which the tests compare with what is sent. `--write` puts the table into docs/scaling.md.

    python benchmarks/bench_parties.py --repeats 3 --write
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from protocols.job import Job, JobType, OutputKind, Task
from protocols.job_parts import JOINT
from protocols.model.layers import Linear, Relu
from protocols.model.spec import ModelSpec
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.mpc.query import share_query
from protocols.plan.estimate import LOOPBACK, estimate
from protocols.plan.plan import Plan
from protocols.training import Loss
from tests.support.jobs import sgd
from tests.support.mpc_world import a_job, stream
from tests.support.pipe_world import Measured, run_processes
from tests.support.programs import Table, a_table, shares_of, some_weights

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("alpha", "beta", "delta", "epsilon", "omega")
FEATURES, HIDDEN, CLASSES, BATCH, STEPS, SAMPLES = 64, 32, 10, 64, 20, 256
MARK = "<!-- the table below is written by benchmarks/bench_parties.py -->"
MODEL = ModelSpec.chain(FEATURES, first=Linear(HIDDEN), between=Relu(), second=Linear(CLASSES))


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    task: str
    parties: int
    seconds: float | None
    estimated: float
    rounds: int
    party_bytes: int
    dealer_bytes: int

    def __str__(self) -> str:
        mine, dealt = f"{self.party_bytes / 1e6:.2f}", f"{self.dealer_bytes / 1e6:.2f}"
        taken = "not measured" if self.seconds is None else f"{self.seconds:.3f}"
        return f"| {self.task} | {self.parties} | {taken} | {self.estimated:.3f} | {self.rounds} | {mine} | {dealt} |"


def a_task(kind: JobType, parties: int) -> tuple[Job, dict[str, LocalInputs]]:
    """A job with rows at the first computing party, and what the parties bring."""
    computing = NAMES[:parties]
    table = a_table(MODEL, Task.CLASSES, BATCH if kind is JobType.TRAIN else SAMPLES)
    weights = some_weights(MODEL)
    if kind is JobType.INFER:
        job = a_job(
            kind,
            features=FEATURES,
            query_rows=SAMPLES,
            model=MODEL,
            task=Task.CLASSES,
            computing=computing,
            output=OutputKind.PROBABILITY,
        )
        query = share_query(table.features, num_parties=parties, source=stream("query"))
        shares = shares_of(weights, parties)
        return job, {n: LocalInputs(model_share=s, query_share=q) for n, s, q in zip(computing, shares, query, strict=True)}
    job = a_job(
        kind,
        features=FEATURES,
        rows={"alpha": len(table.labels)},
        model=MODEL,
        task=Task.CLASSES,
        computing=computing,
        training=sgd(STEPS, BATCH, "0.1", "0.9", loss=Loss.CROSS_ENTROPY),
        outputs=(OutputKind.CORRECT_COUNT, OutputKind.CONFUSION, OutputKind.LOG_LOSS),
        min_cell=5,
    )
    return job, _inputs(job, table, weights)


def _inputs(job: Job, table: Table, weights: dict[str, np.ndarray]) -> dict[str, LocalInputs]:
    shares = dict(zip(job.computing_parties, shares_of(weights, len(job.computing_parties)), strict=True))
    trains = job.job_type is JobType.TRAIN
    return {
        name: LocalInputs(
            rows=table.rows_of(job, name), initial_weights=weights if trains else None, model_share=None if trains else share
        )
        for name, share in shares.items()
    }


def measure(kind: JobType, parties: int, repeats: int) -> Row:
    """Runs a job several times; a training counts by its median step."""
    job, inputs = a_task(kind, parties)
    plan = derive_plan(job)
    trains = kind is JobType.TRAIN
    seconds: Callable[[Measured], float] = (lambda m: statistics.median(m.steps("step")[2:])) if trains else (lambda m: m.seconds)
    times = [seconds(run_processes(job, plan, inputs)["alpha"]) for _ in range(repeats)]
    found = statistics.median(times) if times else None
    if not trains:
        return Row(
            kind.value, parties, found, _estimated(plan), plan.rounds, plan.opened_bytes * (parties - 1), plan.correction_bytes
        )
    step = plan.segment("step")
    return Row(
        "train, a step",
        parties,
        found,
        _estimated(plan) / STEPS,
        step.rounds,
        step.opened_bytes * (parties - 1),
        step.correction_bytes,
    )


def _estimated(plan: Plan) -> float:
    return estimate(plan, LOOPBACK).seconds


def main() -> None:
    """Prints the table, and writes it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="0 prints what the plan says without running anything")
    parser.add_argument("--write", action="store_true", help="put the table into docs/scaling.md")
    arguments = parser.parse_args()
    lines = [
        "| task | computing parties | seconds | estimated | rounds | MB sent by a party | MB sent by the dealer |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in JOINT:
        lines += [str(measure(kind, parties, arguments.repeats)) for parties in (2, 3, 5)]
    if arguments.repeats:
        lines += ["", f"Load average when the run ended: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."]
    print("\n".join(lines))
    if arguments.write:
        page = ROOT / "docs" / "scaling.md"
        head, _, _ = page.read_text().partition(MARK)
        page.write_text(f"{head}{MARK}\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
