"""Small networks, tables and whole sessions for the tests of the engine's programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from protocols.job import Job, JobType, Task
from protocols.model.layers import Dropout, Linear, Operator, Relu
from protocols.model.spec import ModelSpec
from protocols.mpc.checkpoint import Checkpoint
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.mpc.query import combine_output
from protocols.mpc.training_state import scale_of
from protocols.plan.plan import Plan
from protocols.training import Training
from tests.support.mpc_world import World, a_job, run_world, split

RELU = Relu()
PARTIES = ("alpha", "beta", "delta", "epsilon", "omega")
Weights = Mapping[str, np.ndarray]


def a_network(
    features: int, outputs: int, *, hidden: Operator = RELU, last: Operator | None = None, dropout: str = ""
) -> ModelSpec:
    """Two linear layers with six values between them."""
    layers: dict[str, Operator] = {"first": Linear(6), "between": hidden}
    if dropout:
        layers["drop"] = Dropout(dropout)
    layers["second"] = Linear(outputs)
    if last is not None:
        layers["last"] = last
    return ModelSpec.chain(features, **layers)


@dataclass(frozen=True)
class Table:
    """Rows whose values are exact at 16 fractional bits: the first half is alpha's, the rest gamma's, who deals."""

    features: np.ndarray
    labels: np.ndarray

    def owners(self) -> dict[str, int]:
        half = len(self.labels) // 2
        return {"alpha": half, "gamma": len(self.labels) - half}

    def rows_of(self, job: Job, party: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        found, start = {}, 0
        for index, dataset in enumerate(job.datasets):
            stop = start + dataset.num_rows
            if dataset.party == party:
                found[index] = (self.features[start:stop], self.labels[start:stop])
            start = stop
        return found


def by_sides(job: Job) -> Job:
    """Cuts each data set of a job into members, at the even positions, and others: every owner of an assessment brings both."""
    parts = []
    for dataset in job.datasets:
        half = dataset.num_rows // 2
        parts += [
            replace(dataset, name=f"{dataset.name}-members", num_rows=half),
            replace(dataset, name=f"{dataset.name}-others", num_rows=dataset.num_rows - half),
        ]
    return replace(job, datasets=tuple(parts))


def a_table(model: ModelSpec, task: Task, num_rows: int, *, seed: int = 1) -> Table:
    """A random table for a task."""
    generator = np.random.default_rng(seed)
    features = np.rint(generator.uniform(-1, 1, (num_rows, model.input_features)) * 2**16) / 2**16
    match task:
        case Task.BINARY:
            labels = generator.integers(0, 2, num_rows).astype(np.float64)
        case Task.CLASSES:
            labels = generator.integers(0, model.output_features, num_rows).astype(np.float64)
        case Task.REAL:
            labels = np.rint(generator.uniform(-1, 1, num_rows) * 2**16) / 2**16
    return Table(features, labels)


def some_weights(model: ModelSpec, *, seed: int = 2) -> dict[str, np.ndarray]:
    """Random weights that are exact at 24 fractional bits."""
    generator = np.random.default_rng(seed)
    return {spec.name: np.rint(generator.normal(0, 0.5, spec.shape) * 2**24) / 2**24 for spec in model.parameters}


def shares_of(values: Weights, num_parties: int) -> list[dict[str, np.ndarray]]:
    """Kept tensors as shares, one mapping for each party."""
    parts = {name: split(np.rint(value * 2.0 ** scale_of(name)).astype(np.int64), num_parties) for name, value in values.items()}
    return [{name: part[index] for name, part in parts.items()} for index in range(num_parties)]


def opened_state(shares: Sequence[Mapping[str, np.ndarray] | None]) -> dict[str, np.ndarray]:
    """Kept tensors from the shares of all computing parties."""
    known = [share for share in shares if share is not None]
    assert len(known) == len(shares)
    return {name: np.asarray(sum(share[name] for share in known)) / 2.0 ** scale_of(name) for name in known[0]}


def a_training(table: Table, model: ModelSpec, task: Task, training: Training, *, computing: Sequence[str] = PARTIES[:2]) -> Job:
    return a_job(
        JobType.TRAIN,
        features=model.input_features,
        rows=table.owners(),
        computing=computing,
        training=training,
        model=model,
        task=task,
    )


def train(
    job: Job,
    table: Table,
    *,
    weights: Weights | None = None,
    state: Sequence[Mapping[str, np.ndarray]] | None = None,
    seed: str = "",
    clock: Callable[[], float] = lambda: 0.0,
) -> World:
    """Runs a training from public weights or from the shares of all computing parties."""
    inputs = {}
    for party in dict.fromkeys((*job.computing_parties, "alpha", "gamma")):
        computes = party in job.computing_parties
        inputs[party] = LocalInputs(
            rows=table.rows_of(job, party),
            initial_weights=weights if computes else None,
            training_state=state[job.computing_parties.index(party)] if computes and state is not None else None,
        )
    return run_world(job, derive_plan(job), inputs, seed=seed, clock=clock)


def trained(world: World) -> dict[str, np.ndarray]:
    """Parameters and optimiser state that a training left."""
    return opened_state([world.outputs[party].model_share for party in world.plan.computing_parties])


def at_checkpoint(checkpoints: Mapping[str, Sequence[Checkpoint]], computing: Sequence[str], index: int) -> dict[str, np.ndarray]:
    """What one checkpoint holds."""
    return opened_state([checkpoints[party][index].state for party in computing])


def evaluate(job: Job, table: Table, weights: Weights, *, seed: str = "") -> World:
    """Runs an evaluation."""
    shares = shares_of(weights, len(job.computing_parties))
    inputs = {
        party: LocalInputs(
            rows=table.rows_of(job, party),
            model_share=shares[job.computing_parties.index(party)] if party in job.computing_parties else None,
        )
        for party in dict.fromkeys((*job.computing_parties, "alpha", "gamma"))
    }
    return run_world(job, derive_plan(job), inputs, seed=seed)


def opened_outputs(job: Job, plan: Plan, world: World) -> dict[str, np.ndarray]:
    """All outputs of a session, by kind, as the querier opens them."""
    scales = {output.name: output.scale_bits for output in plan.outputs}
    found = {}
    for output in job.outputs:
        shares = []
        for party in job.computing_parties:
            mine = world.outputs[party].output_shares
            assert mine is not None
            shares.append(mine[output.name])
        found[output.kind.value] = combine_output(shares, output=output, scale_bits=scales[output.name], num_rows=job.num_rows)
    return found


def assert_measured_as_planned(world: World) -> None:
    """Rounds and payload bytes of every direction are those of the plan."""
    plan = world.plan
    assert {world.outputs[party].rounds for party in plan.computing_parties} == {plan.rounds}
    planned = {(d.sender, d.receiver): d.total_bytes for d in plan.directions}
    measured = {(a, b): link.sent_bytes for a, mine in world.links.items() for b, link in mine.items() if link.sent_bytes}
    assert measured == planned
    for party in plan.participants:
        assert sum(world.outputs[party].sent_bytes.values()) == plan.sent_bytes(party)
    assert plan.payload_bytes == sum(measured.values())
