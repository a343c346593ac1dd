"""Joint training by noisy sums against central DP-SGD by Opacus, with equal noise, rate and steps, on scikit-learn's digits.

    pip install --no-deps --target build/tables opacus==1.6.0 opt-einsum==3.4.0
    python benchmarks/bench_noisy_sums.py --seeds 12 --draws 2 --model mlp --multiplier 1.5
    python benchmarks/bench_noisy_sums.py --seeds 96 --draws 2 --model cnn --multiplier 1.5 --peers opacus replayed

Three owners share noise and clipped sums as they would, two of them compute; all are threads of one process with links in memory.
The peers hold all rows in one place and start from the same weights with the same hyper-parameters; their noise has the deviation
of the joint sum, of all owners together.

- "opacus": Opacus itself, with its own sampler and noise. Left out where it is not installed, as is the next.
- "replayed": Opacus with the samples and the noise of the joint training of that seed. Chance is the same for both, so what is
  left between them is what they compute otherwise.
- "central": DP-SGD by torch's own per-row gradients.
- "trusted": central with the noise multiplier alone, which is what one trusted place needs for the same epsilon.

The figure of a seed of the others but "replayed" is the mean of several trainings with draws of their own, which leaves less to
chance. Printed: test accuracy of each over the seeds, the joint one's difference to the peers with its standard error, how far
weights are apart from the replayed ones, epsilon as the accountant gives it, and what a step costs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from peer_opacus import Settings, is_installed, replay_with_opacus, train_with_opacus
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits
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
from tests.support.noisy_sums_draws import draws_of

OWNERS = ("alpha", "beta", "gamma")
COMPUTING = OWNERS[:2]
RATE, MOMENTUM, CLIP = 0.5, 0.9, 1.0
PEERS = ("opacus", "replayed", "central", "trusted")
Rows = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Figures:
    """What came of one seed.

    Attributes:
        joint: test accuracy.
        peers: that of each peer.
        apart: the largest difference between a weight of the joint model and the replayed one; None if nothing was replayed.
        seconds: of processor time, of the joint session, all parties together.
    """

    joint: float
    peers: Mapping[str, float]
    apart: float | None
    seconds: float


def a_network(kind: str) -> tuple[nn.Module, int | tuple[int, ...]]:
    """A small network for digits, and the shape of its rows."""
    if kind == "logistic":
        return nn.Sequential(nn.Linear(64, 10)), 64
    if kind == "mlp":
        return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), 64
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 10)), (1, 8, 8)


def as_tensors(rows: Rows, shape: int | tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Features in the shape of the network, and labels."""
    features = torch.tensor(rows[0]).reshape(len(rows[0]), *(shape if isinstance(shape, tuple) else (shape,)))
    return features, torch.tensor(rows[1]).long()


def central(
    module: nn.Module, shape: int | tuple[int, ...], rows: Rows, options: argparse.Namespace, *, deviation: float, seed: int
) -> nn.Module:
    """DP-SGD in one place, as papers write it: Poisson sample, clip each row, add noise, divide by the expected batch."""
    generator = torch.Generator().manual_seed(seed)
    features, labels = as_tensors(rows, shape)
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
    features, labels = as_tensors(rows, shape)
    with torch.no_grad():
        return float((module(features).argmax(1) == labels).double().mean())


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
    """Trains all of them from the same weights, on the same rows."""
    features, labels = load_digits(return_X_y=True)
    scaled = features / 8.0 - 1.0
    train_x, test_x, train_y, test_y = train_test_split(scaled, labels, test_size=0.3, random_state=seed, stratify=labels)
    train, test = (train_x, train_y), (test_x, test_y)

    def fresh() -> tuple[nn.Module, int | tuple[int, ...]]:
        torch.manual_seed(seed)
        return a_network(kind)  # the same weights every time

    module, shape = fresh()
    spec, weights = export_model(module, shape)
    job = job_of(kind, len(train_y), steps=options.steps, batch=options.batch, multiplier=options.multiplier)
    began = time.process_time()
    opened = joint(job, train, weights, seed)
    seconds = time.process_time() - began
    right = reference.predicted(spec, opened, test_x, task=Task.CLASSES) == test_y
    multiplier = float(options.multiplier)
    total = multiplier * math.sqrt(len(OWNERS) / (len(OWNERS) - 1))
    settings = Settings(options.steps, options.batch, total, CLIP, RATE, MOMENTUM)
    trainers: Mapping[str, Callable[[nn.Module, int], nn.Module]] = {
        "opacus": lambda module, draw: train_with_opacus(module, *as_tensors(train, shape), settings, seed=draw),
        "central": lambda module, draw: central(module, shape, train, options, deviation=CLIP * total, seed=draw),
        "trusted": lambda module, draw: central(module, shape, train, options, deviation=CLIP * multiplier, seed=draw),
    }
    peers, apart = {}, None
    for name in options.peers:
        if name == "replayed":
            draws = draws_of(job, derive_plan(job), seed=stream_of(seed))
            noise, taken = torch.tensor(draws.noise), torch.tensor(draws.taken)
            again = replay_with_opacus(fresh()[0], *as_tensors(train, shape), settings, noise=noise, taken=taken)
            both = zip(spec.parameters, again.parameters(), strict=True)
            apart = max(float(np.abs(opened[one.name] - other.detach().numpy()).max()) for one, other in both)
            peers[name] = accuracy_of(again, shape, test)
        else:
            found = [trainers[name](fresh()[0], 1_000 * seed + draw) for draw in range(options.draws)]
            peers[name] = float(np.mean([accuracy_of(module, shape, test) for module in found]))
    return Figures(float(right.mean()), peers, apart, seconds)


def stream_of(seed: int) -> str:
    """The seed of the streams of a session."""
    return f"digits {seed}"


def joint(job: Job, rows: Rows, weights: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Runs the whole session and opens what the computing parties kept."""
    ends = np.cumsum([dataset.num_rows for dataset in job.datasets])[:-1]
    parts = zip(np.split(rows[0], ends), np.split(rows[1].astype(np.float64), ends), strict=True)
    inputs = {
        dataset.party: LocalInputs(rows={index: part}, initial_weights=weights)
        for index, (dataset, part) in enumerate(zip(job.datasets, parts, strict=True))
    }
    world = run_world(job, derive_plan(job), inputs, seed=stream_of(seed))
    shares = [world.outputs[party].model_share or {} for party in COMPUTING]
    return {name: sum((share[name] for share in shares[1:]), shares[0][name]) / 2.0**24 for name in shares[0]}


class Kept:
    """Figures of finished seeds in a file, one a line, so that a long measurement can be broken off and gone on with."""

    def __init__(self, path: Path | None, options: argparse.Namespace) -> None:
        self._path = path
        self._how = [options.model, options.steps, options.batch, options.multiplier, options.draws, *options.peers]
        lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else []
        read = [json.loads(line) for line in lines]
        self._found = {line["seed"]: Figures(**line["figures"]) for line in read if line["how"] == self._how}

    def of(self, seed: int, measure: Callable[[], Figures]) -> Figures:
        """The figures of a seed, measured if they are not there."""
        if seed not in self._found:
            self._found[seed] = measure()
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"how": self._how, "seed": seed, "figures": asdict(self._found[seed])}) + "\n")
        return self._found[seed]


def main() -> None:
    """Runs all seeds and prints the table."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--seeds", type=int, default=12)
    reader.add_argument("--draws", type=int, default=4, help="trainings of a peer for each seed")
    reader.add_argument("--model", choices=("logistic", "mlp", "cnn"), default="mlp")
    reader.add_argument("--steps", type=int, default=120)
    reader.add_argument("--batch", type=int, default=250)
    reader.add_argument("--multiplier", default="3")
    reader.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS)
    reader.add_argument("--keep", type=Path, help="a file of finished seeds: added to, and not measured again")
    options = reader.parse_args()
    if not is_installed():
        print("opacus is not installed")
        options.peers = [name for name in options.peers if name in ("central", "trusted")]
    torch.set_num_threads(1)
    kept, found = Kept(options.keep, options), []
    for seed in range(options.seeds):
        with threadpool_limits(1):  # more threads of a small product spend their time waiting for each other
            found.append(kept.of(seed, lambda seed=seed: run_seed(options.model, seed, options)))
        one = found[-1]
        shown = "".join(f", {name} {value:.4f}" for name, value in one.peers.items())
        print(f"seed {seed}: joint {one.joint:.4f}{shown}{'' if one.apart is None else f', apart {one.apart:.1e}'}", flush=True)
    job = job_of(options.model, 1257, steps=options.steps, batch=options.batch, multiplier=options.multiplier)
    plan, statement = noisy_sums_plan(job), statement_of(job)
    how = f"{options.steps} steps of {options.batch} expected rows of 1257, noise multiplier {options.multiplier}, t = 1 of 3"
    print(f"{options.model}, {how}")
    if statement is not None:
        print(f"epsilon {statement.accounted_epsilon} at delta {statement.delta}, on {os.cpu_count()} cores")
    print(f"joint    {100 * np.mean([one.joint for one in found]):.2f} %")
    for name in options.peers:
        peer = [one.peers[name] for one in found]
        differences = np.array([100 * (one.joint - other) for one, other in zip(found, peer, strict=True)])
        error = differences.std(ddof=1) / math.sqrt(len(found))
        compared = f"joint less {name} {differences.mean():+.2f} points, standard error {error:.2f}"
        print(f"{name:8} {100 * np.mean(peer):.2f} %; {compared}, largest {np.abs(differences).max():.2f}")
    if "replayed" in options.peers:
        print(f"weights at most {max(one.apart or 0.0 for one in found):.1e} from the replayed ones")
    cost, sent = 1000 * np.median([one.seconds for one in found]) / options.steps, plan.payload_bytes / options.steps
    print(f"{cost:.1f} ms of processor time a step, of all parties together with their noise; {sent:.0f} bytes without it")


if __name__ == "__main__":
    main()
