"""What privacy costs a joint logistic regression: full-batch steps with noise beside the same steps without, taking turns.

    python benchmarks/bench_shared_gradients.py --turns 5

Three owners, two of them compute and the third deals; all are threads of one process with links in memory, and what is counted
is each party's own processor time, so a busy machine changes little. "Without" is the ordinary training of the same model with
the same full batches; it ends every step with a range check, which a private training has none of, so it may take longer.
"Noise" is drawing, sharing and testing noise before the first step. "Adding" is the share of a step that its noise takes once it
is there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from protocols.job import Job
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.mpc.programs.train_private import STEP
from protocols.mpc.session import Progress, run_session
from protocols.mpc.timing import Stopwatch
from protocols.plan.plan import Plan
from tests.support.memory_links import as_links, connect
from tests.support.mpc_world import in_threads, keys_for
from tests.support.private_training import a_private_job, private_sgd, terms

OWNERS = ("alpha", "beta", "gamma")
SHAPES = ((569, 30), (5_000, 30), (22_500, 56))


@dataclass(frozen=True)
class Measured:
    """One session: processor seconds of all parties together, before the inputs are shared, and in all."""

    noise: float
    whole: float


def a_job(rows: int, features: int, steps: int) -> Job:
    """A private training of as many rows at three owners."""
    parts = {owner: len(part) for owner, part in zip(OWNERS, np.array_split(np.arange(rows), len(OWNERS)), strict=True)}
    training = private_sgd(steps, "2", privacy=terms(rows, noise_multiplier="10", delta="0.000001"))
    return a_private_job(training, features=features, owners=parts)


def without_noise(job: Job) -> Job:
    """The ordinary training of the same model in as many steps of all rows."""
    training = job.training
    if training is None:
        raise ValueError("a training is compared")
    return replace(job, training=replace(training, privacy=None, batch_size=job.num_rows))


def measure(job: Job, plan: Plan, inputs: Mapping[str, LocalInputs]) -> Measured:
    """Runs a session."""
    links, keys = connect(plan.participants), keys_for(plan, job)

    def party(name: str) -> tuple[float, float]:
        began, at_inputs = time.thread_time(), list[float]()

        def progress(said: Progress) -> None:
            if said.phase == "inputs":
                at_inputs.append(time.thread_time())

        run_session(
            job=job,
            plan=plan,
            party=name,
            keys=keys[name],
            links=as_links(links[name]),
            inputs=inputs[name],
            progress=progress,
            checkpoint=lambda _: None,
            now=lambda: 0.0,
            random=os.urandom,
            stopwatch=Stopwatch(wall=time.monotonic, processor=time.thread_time),
        )
        return at_inputs[0] - began, time.thread_time() - began

    spent = in_threads({name: lambda name=name: party(name) for name in plan.participants}, links)
    return Measured(sum(noise for noise, _ in spent.values()), sum(whole for _, whole in spent.values()))


def adding_seconds(used: int) -> float:
    """Processor seconds of one addition of a step's noise to a share of the sums."""
    share, noise = np.ones(used, np.int64), np.ones(used, np.int64)
    began = time.thread_time()
    for _ in range(1_000):
        share = share + noise
    return (time.thread_time() - began) / 1_000


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3, help="how often the two take turns")
    parser.add_argument("--steps", type=int, default=60)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("processor time of three parties together; rounds and bytes as planned")
    head = (
        "rows x features   ms a step, private / without (ratio)   noise ms, share of all   adding   rounds   KB a step   noise KB"
    )
    print(head)
    for rows, features in SHAPES:
        private = a_job(rows, features, asked.steps)
        jobs = {"private": private, "without": without_noise(private)}
        plans = {name: derive_plan(job) for name, job in jobs.items()}
        generator = np.random.default_rng(0)
        held = {
            dataset.party: {
                index: (
                    generator.uniform(-1, 1, (dataset.num_rows, features)),
                    generator.integers(0, 2, dataset.num_rows).astype(float),
                )
            }
            for index, dataset in enumerate(private.datasets)
        }
        weights = {spec.name: np.zeros(spec.shape) for spec in private.model.parameters}
        inputs = {owner: LocalInputs(rows=held[owner], initial_weights=weights) for owner in OWNERS}
        found: dict[str, list[Measured]] = {name: [] for name in jobs}
        for _ in range(asked.turns):
            for name, job in jobs.items():
                found[name].append(measure(job, plans[name], inputs))
        steps = {name: statistics.median(m.whole - m.noise for m in runs) / asked.steps for name, runs in found.items()}
        noise = statistics.median(m.noise for m in found["private"])
        share = statistics.median(m.noise / m.whole for m in found["private"])
        step = plans["private"].segment(STEP)
        noise_bytes = sum(direction.noise_bytes for direction in plans["private"].directions)
        adding = 2 * adding_seconds(features + 1) / steps["private"]
        print(
            f"{rows:>6} x {features:<8} {1e3 * steps['private']:>10.1f} / {1e3 * steps['without']:<6.1f}"
            f" ({steps['private'] / steps['without']:.2f}) {1e3 * noise:>18.0f}, {share:>6.2%} {adding:>18.3%}"
            f" {step.rounds:>6} {(2 * step.opened_bytes + step.correction_bytes) / 1e3:>10.0f} {noise_bytes / 1e3:>10.0f}"
        )


if __name__ == "__main__":
    main()
