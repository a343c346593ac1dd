"""Joint training by noisy sums against central DP-SGD by Opacus, with equal noise, rate and steps, on scikit-learn's digits.

    pip install --no-deps --target build/tables opacus==1.6.0 opt-einsum==3.4.0
    python benchmarks/bench_noisy_sums.py --seeds 12 --draws 2 --model mlp --multiplier 1.5

Three owners share noise and clipped sums as they would, two of them compute; all are threads of one process with links in memory.
The peers hold all rows in one place and start from the same weights with the same hyper-parameters; their noise has the deviation
of the joint sum, of all owners together. "Opacus" is Opacus itself, left out where it is not installed; "central" is the same by
torch's own per-row gradients. "Trusted" is central with the noise multiplier alone: what one trusted place needs for the same
epsilon. A peer's figure of a seed is the mean of several trainings with noise of their own, which costs little and leaves less
to chance. Printed: test accuracy of each over the seeds, the joint one's difference to the peers with its
standard error, epsilon as the accountant gives it, and what a step costs.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peer_opacus import is_installed, train_with_opacus
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from privacy.accounting.statement import statement_of
from protocols.job import Job, Task
from protocols.model import reference
from protocols.model.export import export_model
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.noisy_sums_plan import noisy_sums_plan
from protocols.mpc.planning import derive_plan
from protocols.training import Optimiser, OptimiserKind
from tests.support.mpc_world import run_world
from tests.support.noisy_sums import a_noisy_sums_job

OWNERS = ("alpha", "beta", "gamma")
COMPUTING = OWNERS[:2]
RATE, MOMENTUM, CLIP = 0.5, 0.9, 1.0
PEERS = ("opacus", "central", "trusted")
Rows = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Figures:
    """Test accuracies of one seed, and the processor seconds of the joint session, all parties together."""

    joint: float
    central: float
    trusted: float
    opacus: float | None
    seconds: float


def a_network(kind: str) -> tuple[nn.Module, int | tuple[int, ...]]:
    """A small network for digits, and the shape of its rows."""
    if kind == "logistic":
        return nn.Sequential(nn.Linear(64, 10)), 64
    if kind == "mlp":
        return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), 64
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 10)), (1, 8, 8)


def central(
    module: nn.Module, shape: int | tuple[int, ...], rows: Rows, options: argparse.Namespace, *, deviation: float, seed: int
) -> nn.Module:
    """DP-SGD in one place, as papers write it: Poisson sample, clip each row, add noise, divide by the expected batch."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.tensor(rows[0]).reshape(len(rows[0]), *(shape if isinstance(shape, tuple) else (shape,)))
    labels = torch.tensor(rows[1]).long()
    parameters = {name: parameter.detach().double() for name, parameter in module.named_parameters()}

    def loss(weights: dict[str, torch.Tensor], row: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(functional_call(module, weights, (row[None],)), label[None])

    of_rows = vmap(grad(loss), in_dims=(None, 0, 0))
    momenta = {name: torch.zeros_like(value) for name, value in parameters.items()}
    rate, batch = options.batch / len(labels), options.batch
    for _ in range(options.steps):
        taken = torch.rand(len(labels), generator=generator, dtype=torch.float64) < rate
        found = of_rows(parameters, features[taken], labels[taken])
        norms = torch.sqrt(sum(part.flatten(1).pow(2).sum(1) for part in found.values()))
        factors = torch.clamp(CLIP / norms, max=1.0)
        for name, part in found.items():
            total = torch.einsum("r,r...->...", factors, part)
            noise = deviation * torch.randn(total.shape, generator=generator, dtype=torch.float64)
            momenta[name] = MOMENTUM * momenta[name] + (total + noise) / batch
            parameters[name] = parameters[name] - RATE * momenta[name]
    module = module.double()
    module.load_state_dict(parameters)
    return module


def accuracy_of(module: nn.Module, shape: int | tuple[int, ...], rows: Rows) -> float:
    """The share of rows that a torch model gets right."""
    features = torch.tensor(rows[0]).reshape(len(rows[0]), *(shape if isinstance(shape, tuple) else (shape,)))
    with torch.no_grad():
        return float((module(features).argmax(1).numpy() == rows[1]).mean())


def job_of(kind: str, count: int, *, steps: int, batch: int, multiplier: str) -> Job:
    """The joint training of so many rows."""
    module, shape = a_network(kind)
    spec, _ = export_model(module, shape)
    parts = {owner: len(part) for owner, part in zip(OWNERS, np.array_split(np.arange(count), len(OWNERS)), strict=True)}
    return a_noisy_sums_job(
        parts,
        steps=steps,
        batch_size=batch,
        computing=COMPUTING,
        dealer="delta",
        optimiser=Optimiser(OptimiserKind.SGD, str(RATE), momentum=str(MOMENTUM)),
        spec=spec,
        task=Task.CLASSES,
        noise_multiplier=multiplier,
        delta="0.00001",
        epsilon="100",
    )


def run_seed(kind: str, seed: int, options: argparse.Namespace) -> Figures:
    """Trains all three from the same weights, on the same rows."""
    features, labels = load_digits(return_X_y=True)
    scaled = features / 8.0 - 1.0
    train_x, test_x, train_y, test_y = train_test_split(scaled, labels, test_size=0.3, random_state=seed, stratify=labels)
    torch.manual_seed(seed)
    module, shape = a_network(kind)
    spec, weights = export_model(module, shape)
    job = job_of(kind, len(train_y), steps=options.steps, batch=options.batch, multiplier=options.multiplier)
    began = time.process_time()
    opened = joint(job, (train_x, train_y), weights, seed)
    seconds = time.process_time() - began
    right = reference.predicted(spec, opened, test_x, task=Task.CLASSES) == test_y
    total = float(options.multiplier) * math.sqrt(len(OWNERS) / (len(OWNERS) - 1))
    train, test = (train_x, train_y), (test_x, test_y)

    def mean_of(peer: Callable[[nn.Module, int], nn.Module]) -> float:
        found = []
        for draw in range(options.draws):
            torch.manual_seed(seed)
            fresh, _ = a_network(kind)  # the same weights every time
            found.append(accuracy_of(peer(fresh, 1_000 * seed + draw), shape, test))
        return float(np.mean(found))

    return Figures(
        joint=float(right.mean()),
        central=mean_of(lambda fresh, draw: central(fresh, shape, train, options, deviation=CLIP * total, seed=draw)),
        trusted=mean_of(
            lambda fresh, draw: central(fresh, shape, train, options, deviation=CLIP * float(options.multiplier), seed=draw)
        ),
        opacus=mean_of(lambda fresh, draw: by_opacus(fresh, shape, train, options, total, draw)) if is_installed() else None,
        seconds=seconds,
    )


def by_opacus(
    module: nn.Module, shape: int | tuple[int, ...], rows: Rows, options: argparse.Namespace, multiplier: float, seed: int
) -> nn.Module:
    """The same training in one place by Opacus."""
    return train_with_opacus(
        module,
        torch.tensor(rows[0]).reshape(len(rows[0]), *(shape if isinstance(shape, tuple) else (shape,))),
        torch.tensor(rows[1]).long(),
        steps=options.steps,
        batch=options.batch,
        noise_multiplier=multiplier,
        clip=CLIP,
        rate=RATE,
        momentum=MOMENTUM,
        seed=seed,
    )


def joint(job: Job, rows: Rows, weights: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Runs the whole session and opens what the computing parties kept."""
    ends = np.cumsum([dataset.num_rows for dataset in job.datasets])[:-1]
    parts = zip(np.split(rows[0], ends), np.split(rows[1].astype(np.float64), ends), strict=True)
    inputs = {
        dataset.party: LocalInputs(rows={index: part}, initial_weights=weights)
        for index, (dataset, part) in enumerate(zip(job.datasets, parts, strict=True))
    }
    world = run_world(job, derive_plan(job), inputs, seed=f"digits {seed}")
    shares = [world.outputs[party].model_share or {} for party in COMPUTING]
    return {name: sum((share[name] for share in shares[1:]), shares[0][name]) / 2.0**24 for name in shares[0]}


def main() -> None:
    """Runs all seeds and prints the table."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--seeds", type=int, default=12)
    reader.add_argument("--draws", type=int, default=4, help="trainings of a peer for each seed")
    reader.add_argument("--model", choices=("logistic", "mlp", "cnn"), default="mlp")
    reader.add_argument("--steps", type=int, default=120)
    reader.add_argument("--batch", type=int, default=250)
    reader.add_argument("--multiplier", default="3")
    options = reader.parse_args()
    torch.set_num_threads(1)
    found = []
    for seed in range(options.seeds):
        found.append(run_seed(options.model, seed, options))
        one = found[-1]
        shown = (f"{name} {value:.4f}" for name in PEERS if (value := getattr(one, name)) is not None)
        print(f"seed {seed}: joint {one.joint:.4f}, {', '.join(shown)}", flush=True)
    job = job_of(options.model, 1257, steps=options.steps, batch=options.batch, multiplier=options.multiplier)
    plan, statement = noisy_sums_plan(job), statement_of(job)
    how = f"{options.steps} steps of {options.batch} expected rows of 1257, noise multiplier {options.multiplier}, t = 1 of 3"
    print(f"{options.model}, {how}")
    if statement is not None:
        print(f"epsilon {statement.accounted_epsilon} at delta {statement.delta}, on {os.cpu_count()} cores")
    print(f"joint    {100 * np.mean([one.joint for one in found]):.2f} %")
    for name in PEERS:
        peer = [getattr(one, name) for one in found]
        if None in peer:
            print(f"{name:8} is not installed")
            continue
        differences = np.array([100 * (one.joint - other) for one, other in zip(found, peer, strict=True)])
        error = differences.std(ddof=1) / math.sqrt(len(found))
        compared = f"joint less {name} {differences.mean():+.2f} points, standard error {error:.2f}"
        print(f"{name:8} {100 * np.mean(peer):.2f} %; {compared}")
    cost, sent = 1000 * np.median([one.seconds for one in found]) / options.steps, plan.payload_bytes / options.steps
    print(f"{cost:.1f} ms of processor time a step, of all parties together with their noise; {sent:.0f} bytes without it")


if __name__ == "__main__":
    main()
