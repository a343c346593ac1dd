"""A whole session in one process: all parties as threads over in-memory links, with fixed seeds."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from protocols.canonical import canonical_bytes, sha256_hex
from protocols.job import DatasetRef, Job, JobType, ModelRef, Output, OutputKind, Partition, Task, check
from protocols.job_parts import Serving
from protocols.model.layers import Linear, Operator, Sigmoid
from protocols.model.spec import ModelSpec
from protocols.mpc.channels import Channel, CorrectionReader, CorrectionWriter, LinkExchange
from protocols.mpc.checkpoint import Checkpoint
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.keys import SessionKeys, derive_keys
from protocols.mpc.material.context import DealerMaterial, ShapeMaterial, ShareMaterial, Window
from protocols.mpc.material.registry import deal
from protocols.mpc.session import Progress, SessionOutputs, run_session
from protocols.mpc.tapes import RecordingTape
from protocols.mpc.timing import Stopwatch
from protocols.plan.operations import Deal, Operation
from protocols.plan.plan import Plan
from protocols.prg import AesCtrStream
from protocols.secrets import SecretBytes
from protocols.training import Training
from tests.support.jobs import sgd
from tests.support.memory_links import MemoryLink, as_links, connect, cut_all

SCHEMA: dict[str, Any] = {"format": "test"}


def stream(seed: str) -> AesCtrStream:
    """A reproducible byte source for tests."""
    return AesCtrStream(SecretBytes(hashlib.sha256(seed.encode()).digest()))


def own_random(party: str, seed: str = "") -> Callable[[int], bytes]:
    """A party's own random bytes, reproducible."""
    own = stream(f"own random bytes of {party}{seed}")
    return lambda count: own.take(count).tobytes()


def random_ring(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform ring elements."""
    return np.random.default_rng(seed).integers(-(2**63), 2**63, shape, dtype=np.int64)


def split(values: np.ndarray, num_parties: int, seed: int = 7) -> list[np.ndarray]:
    """Shares of a value."""
    random = [random_ring(seed + i, values.shape) for i in range(num_parties - 1)]
    return [*random, values - sum(random, np.zeros_like(values))]


def a_model(features: int, *, with_sigmoid: bool = True, bias: bool = True) -> ModelSpec:
    layers: dict[str, Operator] = {"linear": Linear(1, bias=bias)}
    if with_sigmoid:
        layers["sigmoid"] = Sigmoid()
    return ModelSpec.chain(features, **layers)


def a_job(
    job_type: JobType,
    *,
    features: int = 4,
    rows: Mapping[str, int] | None = None,
    computing: Sequence[str] = ("alpha", "beta"),
    dealer: str = "gamma",
    training: Training | None = None,
    query_rows: int | None = None,
    output: OutputKind | None = None,
    outputs: Sequence[OutputKind] | None = None,
    min_cell: int = 1,
    model: ModelSpec | None = None,
    task: Task = Task.BINARY,
    model_ref: ModelRef | None = None,
    wanted: Sequence[Output] = (),
    serving: Serving | None = None,
) -> Job:
    """A valid job document; `wanted` are outputs with their constraints, in place of kinds."""
    digest = sha256_hex(canonical_bytes(SCHEMA))
    trains = job_type is JobType.TRAIN
    kinds = {JobType.EVALUATE: OutputKind.CORRECT_COUNT, JobType.INFER: OutputKind.LABEL, JobType.SERVE: OutputKind.LABEL}
    opened = [] if trains else list(outputs or [output or kinds[job_type]])
    cell = min_cell if job_type is JobType.EVALUATE else 0
    names = ["answer"] if len(opened) == 1 else [kind.value.replace("_", "-") for kind in opened]
    plain = tuple(Output(name, kind, "researcher", cell) for name, kind in zip(names, opened, strict=True))
    created = datetime(2030, 1, 1, tzinfo=UTC)
    spec = model or a_model(features)
    job = Job(
        consortium="demo",
        directory_version=1,
        agreement="a1" * 32,
        purpose="prognosis",
        job_type=job_type,
        querier="researcher",
        computing_parties=tuple(computing),
        dealer=dealer,
        datasets=tuple(
            DatasetRef(p, f"rows-{p}", 1, n, digest, "0" * 64, spec.input_features, True, "") for p, n in (rows or {}).items()
        ),
        partition=Partition.ROWS,
        schema=SCHEMA,
        task=task,
        model=spec,
        initial_weights_sha256="0" * 64 if trains and model_ref is None else None,
        model_name="risk" if trains else None,
        model_ref=model_ref if trains else ModelRef("risk", "0" * 12),
        training=(training or sgd(2, 8, "0.5", "0.9")) if trains else None,
        resumes=None,
        query_rows=query_rows,
        query_commitment="b2" * 32 if job_type is JobType.INFER else None,
        serving=serving,
        outputs=tuple(wanted) or plain,
        created=created,
        agree_by=created + timedelta(minutes=2),
        expires=created + timedelta(hours=1),
        nonce="cd" * 16,
    )
    assert list(check(job)) == []
    return job


def keys_for(plan: Plan, job: Job, *, attempt: int = 1, seed: str = "") -> dict[str, SessionKeys]:
    """The key schedules of all parties, as the handshake would give them."""
    names = plan.participants
    source = stream(f"secrets{seed}")
    secrets = {frozenset((a, b)): source.take(32).tobytes() for i, a in enumerate(names) for b in names[i + 1 :]}
    nonces = {name: source.take(32).tobytes() for name in names}
    return {
        name: derive_keys(
            party=name,
            participants=names,
            pair_secrets={peer: secrets[frozenset((name, peer))] for peer in names if peer != name},
            nonces=nonces,
            job_digest=job.digest,
            attempt=attempt,
            plan_digest=plan.digest,
        )
        for name in names
    }


@dataclass
class World:
    """What came of a session."""

    plan: Plan
    outputs: dict[str, SessionOutputs]
    links: dict[str, dict[str, MemoryLink]]
    progress: dict[str, list[Progress]]
    inputs: Mapping[str, LocalInputs]
    checkpoints: dict[str, list[Checkpoint]]


def run_world(
    job: Job, plan: Plan, inputs: Mapping[str, LocalInputs], *, seed: str = "", clock: Callable[[], float] = lambda: 0.0
) -> World:
    """Runs all parties of a session; only the lead has the clock, the others' raises."""
    links = connect(plan.participants)
    keys = keys_for(plan, job, attempt=job.attempt, seed=seed)
    progress: dict[str, list[Progress]] = {name: [] for name in plan.participants}
    checkpoints: dict[str, list[Checkpoint]] = {name: [] for name in plan.participants}

    def no_clock() -> float:
        raise AssertionError("only the lead looks at its clock")

    def party(name: str) -> SessionOutputs:
        return run_session(
            job=job,
            plan=plan,
            party=name,
            keys=keys[name],
            links=as_links(links[name]),
            inputs=inputs.get(name, LocalInputs()),
            progress=progress[name].append,
            checkpoint=checkpoints[name].append,
            now=clock if name == job.lead else no_clock,
            random=own_random(name, seed),
            stopwatch=Stopwatch(wall=lambda: 0.0, processor=lambda: 0.0),
        )

    outputs = in_threads({name: lambda name=name: party(name) for name in plan.participants}, links)
    return World(plan, outputs, links, progress, inputs, checkpoints)


def in_threads(tasks: Mapping[str, Callable[[], Any]], links: dict[str, dict[str, MemoryLink]]) -> dict[str, Any]:
    """Runs all tasks at once and raises the first failure; the others then lose their links."""
    results: dict[str, Any] = {}
    failures: list[BaseException] = []

    def run(name: str, task: Callable[[], Any]) -> None:
        try:
            results[name] = task()
        except BaseException as error:
            failures.append(error)
            cut_all(links)

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in tasks.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if failures:
        raise failures[0]
    assert len(results) == len(tasks), "a party hangs"
    return results


@dataclass
class ProtocolRun:
    """What came of a single protocol: the parties' shares, and what each of them saw."""

    shares: list[Any]
    rounds: int
    opened_bytes: int
    correction_bytes: int
    operations: list[Operation]
    links: dict[str, dict[str, MemoryLink]]

    @property
    def value(self) -> np.ndarray:
        return sum(self.shares[1:], self.shares[0])


def run_protocol(
    protocol: Callable[[Engine, Sequence[np.ndarray]], Steps[Any]],
    shares: Sequence[Sequence[np.ndarray]],
    *,
    window: Window | None = None,
    seed: str = "",
) -> ProtocolRun:
    """Runs one protocol among len(shares) parties and a dealer; shares[i] are party i's arrays."""
    num_parties = len(shares)
    tape = RecordingTape()
    shape_material = ShapeMaterial()
    from protocols.mpc.channels import ZeroExchange

    dry = Engine(index=0, parties=num_parties, exchange=ZeroExchange(), material=shape_material, tape=tape)
    with dry.segment(window):
        dry.run(protocol(dry, [np.zeros_like(a) for a in shares[0]]))
    operations = list(tape.operations)
    names = [f"p{i}" for i in range(num_parties)]
    links = connect([*names, "dealer"])

    def dealer() -> None:
        writer = CorrectionWriter(Channel(links["dealer"][names[-1]]))
        material = DealerMaterial([stream(f"{seed}dealt{i}") for i in range(num_parties)], writer)
        material.begin_segment(window)
        for operation in operations:
            if isinstance(operation, Deal):
                deal(material, operation)
        writer.end_run()

    def party(index: int) -> Any:
        reader = None
        if index == num_parties - 1:
            reader = CorrectionReader(Channel(links[names[index]]["dealer"]))
            reader.begin_run(shape_material.correction_bytes)
        channels = [Channel(links[names[index]][other]) for other in names if other != names[index]]
        exchange = LinkExchange(channels)
        mine = RecordingTape()
        material = ShareMaterial(stream(f"{seed}dealt{index}"), reader)
        engine = Engine(index=index, parties=num_parties, exchange=exchange, material=material, tape=mine)
        with engine.segment(window):
            result = engine.run(protocol(engine, shares[index]))
        assert mine.operations == operations
        return result, exchange.rounds, channels[0].sent_bytes

    tasks: dict[str, Callable[[], Any]] = {"dealer": dealer}
    for index, name in enumerate(names):
        tasks[name] = lambda index=index: party(index)
    results = in_threads(tasks, links)
    _, rounds, opened = results[names[0]]
    return ProtocolRun([results[name][0] for name in names], rounds, opened, shape_material.correction_bytes, operations, links)
