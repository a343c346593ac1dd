"""One step of logistic regression: our engine against CrypTen's third-party mode, in the same run, taking turns.

Both run two computing parties and a dealer as processes of one machine. Ours speaks over pipes, the peer over gloo; neither
encrypts. The dealer works on the same cores, so its time is in the figures. Times are medians over all steps but the first two.

    python benchmarks/bench_engine.py --rounds 3 --batch 64 --features 30
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from protocols.job import JobType
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.plan.plan import Plan
from tests.support.jobs import sgd
from tests.support.mpc_world import a_job
from tests.support.pipe_world import run_processes


def job_of(batch: int, features: int, steps: int):
    """A training of as many full batches."""
    return a_job(JobType.TRAIN, features=features, rows={"alpha": batch}, training=sgd(steps, batch, "0.5", "0.9"))


def ours(shape: tuple[int, int, int], plan: Plan) -> list[float]:
    """Seconds of every step but the first two, at the first computing party."""
    job = job_of(*shape)
    generator = np.random.default_rng(0)
    rows = {0: (generator.uniform(-1, 1, shape[:2]), generator.integers(0, 2, shape[0]).astype(float))}
    weights = {spec.name: np.zeros(spec.shape) for spec in job.model.parameters}
    inputs = {name: LocalInputs(rows=rows if name == "alpha" else {}, initial_weights=weights) for name in plan.computing_parties}
    return run_processes(job, plan, inputs)["alpha"].steps("step")[2:]


def peer(shape: tuple[int, int, int]) -> dict:
    """What the peer reports."""
    command = [sys.executable, str(Path(__file__).with_name("peer_crypten_ttp.py")), *(str(value) for value in shape)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often the two take turns")
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--features", type=int, default=30)
    arguments = parser.parse_args()
    shape = (arguments.batch, arguments.features, arguments.steps)
    plan = derive_plan(job_of(*shape))
    step = plan.segment("step")
    mine, theirs, ratios, other = [], [], [], {}
    for _ in range(arguments.rounds):
        mine.append(statistics.median(ours(shape, plan)))
        other = peer(shape)
        theirs.append(statistics.median(other["times"]))
        ratios.append(theirs[-1] / mine[-1])
    print(f"logistic regression step, batch {shape[0]}, {shape[1]} features, 2 parties and a dealer, {os.cpu_count()} cores")
    print(f"{'':24}{'ms':>9}{'rounds':>9}{'bytes a party':>15}{'corrections':>13}")
    print(f"{'ours':24}{1e3 * statistics.median(mine):9.2f}{step.rounds:9}{step.opened_bytes:15,}{step.correction_bytes:13,}")
    print(f"{'CrypTen 0.4.1, TTP':24}{1e3 * statistics.median(theirs):9.2f}{other['rounds']:9.0f}{other['bytes']:15,.0f}{'':>13}")
    print(f"median of the ratios of medians: {statistics.median(ratios):.1f}; by turn: {', '.join(f'{r:.1f}' for r in ratios)}")


if __name__ == "__main__":
    main()
