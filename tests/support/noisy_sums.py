"""Trainings by noisy sums in one process, with given noise: builders, and a plain twin of the whole protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from protocols.job import Job, JobType, Task
from protocols.model.layers import Linear, Relu
from protocols.model.spec import ModelSpec
from protocols.mpc.channels import Channel
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.noisy_sums import NoisySums, Trained
from protocols.mpc.noisy_sums_design import num_coordinates
from protocols.mpc.noisy_sums_plan import noisy_sums_plan
from protocols.plan.plan import Plan
from protocols.private_training import Mechanism, PrivateTraining, Unit
from protocols.training import CheckpointRule, Loss, Optimiser, OptimiserKind, Schedule, Training
from tests.support.memory_links import MemoryLink, as_links, connect
from tests.support.mpc_world import a_job, in_threads, keys_for, split, stream

CLASSES = 3
FEATURES = 5


def a_network() -> ModelSpec:
    """A small network for three classes."""
    return ModelSpec.chain(FEATURES, hidden=Linear(4), relu=Relu(), out=Linear(CLASSES))


def initial_weights(spec: ModelSpec, seed: int = 3) -> dict[str, np.ndarray]:
    """Public weights to start from."""
    generator = np.random.default_rng(seed)
    return {parameter.name: generator.normal(0, 0.4, parameter.shape).astype(np.float32) for parameter in spec.parameters}


def private_terms(*, nominal_rows: int, **changes: Any) -> PrivateTraining:
    """Terms of a training by noisy sums; the claim is not what the noise gives."""
    found = PrivateTraining(
        mechanism=Mechanism.NOISY_SUMS,
        noise_multiplier="1",
        colluders=1,
        nominal_rows=nominal_rows,
        nominal_people=nominal_rows,
        epsilon="8",
        delta="0.0000001",
        unit=Unit.ROW,
        rows_per_person=1,
        norm_bound="1",
        canaries=0,
    )
    return replace(found, **changes)


def a_noisy_sums_job(
    rows: Mapping[str, int],
    *,
    steps: int = 4,
    batch_size: int = 20,
    computing: tuple[str, ...] = ("alpha", "beta"),
    dealer: str = "gamma",
    optimiser: Optimiser | None = None,
    spec: ModelSpec | None = None,
    task: Task = Task.CLASSES,
    loss: Loss = Loss.CROSS_ENTROPY,
    **terms: Any,
) -> Job:
    """A job that the checks accept."""
    privacy = private_terms(nominal_rows=sum(rows.values()), **terms)
    how = optimiser or Optimiser(OptimiserKind.SGD, "0.5", momentum="0.9", weight_decay="0.01")
    training = Training(steps, batch_size, loss, how, Schedule(), CheckpointRule(0, 0), "ab" * 16)
    model = spec or a_network()
    return a_job(
        JobType.TRAIN,
        rows=rows,
        computing=computing,
        dealer=dealer,
        training=replace(training, privacy=privacy),
        model=model,
        task=task,
    )


def rows_for(job: Job, seed: int = 5) -> dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]:
    """Random rows of every owner, by party and position of the data set."""
    generator = np.random.default_rng(seed)
    found: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]] = {}
    for index, dataset in enumerate(job.datasets):
        features = generator.uniform(-1, 1, (dataset.num_rows, dataset.num_features))
        labels = generator.integers(0, job.label_width, dataset.num_rows).astype(np.float64)
        found.setdefault(dataset.party, {})[index] = (features, labels)
    return found


def noise_for(job: Job, seed: int = 11, deviation: float = 2.0**20) -> np.ndarray:
    """The sum of all owners' noise, (steps, coordinates)."""
    steps = 0 if job.training is None else job.training.epochs
    shape = (steps, num_coordinates(job))
    return np.rint(np.random.default_rng(seed).normal(0, deviation, shape)).astype(np.int64)


def bytes_of(seed: str) -> Callable[[int], bytes]:
    """A reproducible source of random bytes."""
    source = stream(seed)
    return lambda count: source.take(count).tobytes()


@dataclass
class NoisyWorld:
    """What came of a training."""

    plan: Plan
    trained: dict[str, Trained]
    kept: dict[str, dict[str, np.ndarray]]
    links: dict[str, dict[str, MemoryLink]]


def run_noisy_sums(
    job: Job,
    *,
    noise: np.ndarray,
    rows: Mapping[str, Mapping[int, tuple[np.ndarray, np.ndarray]]],
    weights: Mapping[str, np.ndarray],
    make: Callable[..., NoisySums] = NoisySums,
) -> NoisyWorld:
    """Runs all participants as threads; `make` may build another party for some of them."""
    plan = noisy_sums_plan(job)
    links, keys = connect(plan.participants), keys_for(plan, job)
    shares = dict(zip(job.computing_parties, split(noise, len(job.computing_parties)), strict=True))
    kept: dict[str, dict[str, np.ndarray]] = {}

    def party(name: str) -> Trained:
        side = make(
            job=job,
            party=name,
            keys=keys[name],
            channels={peer: Channel(link) for peer, link in as_links(links[name]).items()},
            inputs=LocalInputs(rows=rows.get(name, {}), initial_weights=weights),
            noise=shares.get(name),
            random=bytes_of(f"random {name}"),
        )
        for step in range(len(noise)):
            side.make_step(step)
        side.agree()
        if name in job.computing_parties:
            kept[name] = side.kept()
        return side.trained()

    taking = [name for name in plan.participants if name in rows or name in job.computing_parties]
    trained = in_threads({name: lambda name=name: party(name) for name in taking}, links)
    return NoisyWorld(plan, trained, kept, links)
