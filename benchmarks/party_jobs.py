"""Times whole jobs at real parties: four processes on this machine, mutual TLS, plans, consent, countersignatures.

Times are those that the parties' job records hold (docs/performance.md): the dealer of a job works on the same cores while they
are taken, and a job has so many steps that it deals one step for every step that counts (`steady_steps`). A job whose transport
counted other payload bytes or rounds than its plan is a failure of the benchmark.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

from parties import harness
from parties.client import Client, JobHandle
from parties.client.local import LocalNetwork, stop_local
from parties.client.placement import Placement
from parties.client.prepare import prepare_job
from parties.client.requests import TrainRequest
from parties.storage.files import make_folder
from parties.worker.ahead import AHEAD_BYTES
from protocols.canonical import canonical_bytes
from protocols.model.layers import Convolution, Flatten, Linear, MaxPool, Relu
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_to_safetensors
from protocols.mpc.programs.names import ANSWER
from protocols.mpc.timing import WARM_UP_RUNS
from tests.support.delay_proxy import DelayProxy, move_apart

PARTIES = ("party-a", "party-b", "party-c", "party-d")
BATCH, CLASSES = 128, 10
BATCHES = 16  # of an epoch of images
COPIES = 4  # of the rows of the breast cancer data, each as large as a batch: a job has at most 1,000 epochs
HELD_BYTES = AHEAD_BYTES + (40 << 20)  # what may wait between dealer and engine (docs/protocols/corrections.md)
REACHED_WITHIN_S = 60.0
ONE_WAY_S = 0.02  # of the distant parties: a round trip of 40 ms
JOB_TIMEOUT_S = 3_600.0
NET_A = ModelSpec.chain(784, first=Linear(128), relu=Relu(), second=Linear(128), relu2=Relu(), last=Linear(CLASSES))
LENET = ModelSpec.chain(
    (1, 28, 28),
    conv1=Convolution(20, (5, 5), (1, 1), (0, 0)),
    pool1=MaxPool((2, 2), (2, 2), (0, 0)),
    relu1=Relu(),
    conv2=Convolution(50, (5, 5), (1, 1), (0, 0)),
    pool2=MaxPool((2, 2), (2, 2), (0, 0)),
    relu2=Relu(),
    flatten=Flatten(),
    fc1=Linear(500),
    relu3=Relu(),
    fc2=Linear(CLASSES),
)


@dataclass(frozen=True)
class Figures:
    """What one run of a task showed; seconds include the dealer's work on the same cores, and None is not measured.

    Attributes:
        seconds: of the task; of a step what it takes the slowest of all, the dealer included.
        online_seconds: the same without waits for the dealer.
        rounds: between the computing parties.
        sent_bytes_per_party: payload that a computing party sends to the others.
        dealer_bytes: payload that the dealer sends.
        processor_seconds: of a computing party's engine.
        dealer_seconds: processor time of the dealer's engine.
    """

    seconds: float
    online_seconds: float | None = None
    rounds: float | None = None
    sent_bytes_per_party: float | None = None
    dealer_bytes: float | None = None
    processor_seconds: float | None = None
    dealer_seconds: float | None = None


@dataclass
class Consortium:
    """A running local network of four parties whose rows are registered once."""

    client: Client
    network: LocalNetwork
    proxies: Sequence[DelayProxy]
    registered: set[str] = field(default_factory=set)

    def close(self) -> None:
        """Stops everything and removes it."""
        self.client.close()
        stop_local(self.network.folder)
        for proxy in self.proxies:
            proxy.stop()

    def rows(self, name: str, frame: Callable[[], pd.DataFrame], classes: int) -> str:
        """Registers rows at the first party, unless they are, and returns their label."""
        if name not in self.registered:
            made = frame()
            self.network.register("party-a", name, made, _schema(name, [str(column) for column in made.columns[:-1]], classes))
            self.registered.add(name)
        return f"party-a/{name}"

    def train(self, spec: ModelSpec, *, dataset: str, epochs: int, batch: int, parties: int, name: str, rate: str) -> JobHandle:
        """Trains in full batches."""
        folder = self.network.folder
        (folder / "model.json").write_bytes(canonical_bytes(spec.to_document()))
        (folder / "model.safetensors").write_bytes(weights_to_safetensors(initial_weights(spec), spec))
        request = TrainRequest.model_validate(
            {
                "api_version": "confide/v1",
                "type": "train",
                "computing_parties": list(PARTIES[:parties]),
                "dealer": PARTIES[parties],
                "datasets": [dataset],
                "model_name": name,
                "manifest": "model.json",
                "weights": "model.safetensors",
                "training": {"epochs": epochs, "batch_size": batch, "learning_rate": rate, "checkpoints": {"every_epochs": 10}},
            }
        )
        handle = self.client.submit(prepare_job(self.client, request, folder=folder, now=datetime.now(UTC)))
        handle.wait(timeout_s=JOB_TIMEOUT_S)
        return handle


def initial_weights(spec: ModelSpec) -> dict[str, np.ndarray]:
    """Returns weights of torch's usual size, from a fixed seed."""
    generator = np.random.default_rng(3)
    found = {}
    for parameter in spec.parameters:
        inputs = int(np.prod(parameter.shape[1:])) or 1
        found[parameter.name] = (generator.uniform(-1, 1, parameter.shape) / np.sqrt(inputs)).astype(np.float32)
    return found


def net_a_step(where: Consortium, *, steps: int, parties: int = 2) -> Figures:
    """784-128-128-10, SGD, cross-entropy, batch 128."""
    dataset = where.rows("images", _images, CLASSES)
    epochs = -(-steps // BATCHES)
    return _step(
        where.train(NET_A, dataset=dataset, epochs=epochs, batch=BATCH, parties=parties, name=f"net-a-{parties}", rate="0.1")
    )


def lenet_step(where: Consortium, *, steps: int) -> Figures:
    """20 and 50 channels, 500; SGD, cross-entropy, batch 128."""
    dataset = where.rows("images", _images, CLASSES)
    epochs = -(-steps // BATCHES)
    return _step(where.train(LENET, dataset=dataset, epochs=epochs, batch=BATCH, parties=2, name="lenet", rate="0.05"))


def lr_breast_cancer_10(where: Consortium, *, steps: int) -> Figures:
    """Ten full-batch steps of logistic regression on 569 x 30: ten times one of many."""
    dataset = where.rows("breast-cancer", _breast_cancer, 2)
    spec = ModelSpec.chain(30, linear=Linear(1))
    one = _step(where.train(spec, dataset=dataset, epochs=-(-steps // COPIES), batch=569, parties=2, name="logistic", rate="1.0"))
    return Figures(**{name: None if value is None else 10 * value for name, value in vars(one).items()})


def net_a_inference(where: Consortium, *, repeats: int) -> dict[str, Any]:
    """From the researcher's call to her result, batch 128, warm model, one query after the other; without the first two."""
    dataset = where.rows("images", _images, CLASSES)
    model = where.train(NET_A, dataset=dataset, epochs=1, batch=BATCH, parties=2, name="net-a-served", rate="0.01").model
    samples = _images().iloc[:BATCH, :-1].to_numpy(np.float64)
    found = []
    quota = {"max_queries": repeats + 2, "max_rows": BATCH * (repeats + 2)}
    # The scores are what the peers compute: the model's output as it is, one a class.
    with where.client.serve(model, output="score", block_rows=BATCH, timeout_s=JOB_TIMEOUT_S, **quota) as serving:
        for _ in range(repeats + 2):
            began = time.monotonic()
            serving.predict(samples)
            found.append(time.monotonic() - began)
        segment = where.client.plan(where.client.job(serving.id)).segment(ANSWER)
    return {
        "seconds": found[2:],
        "rounds": segment.rounds,
        "sent_bytes_per_party": segment.opened_bytes,
        "dealer_bytes": segment.correction_bytes,
    }


def steady_steps(dealer_bytes: float) -> int:
    """Returns how many steps are enough for medians in which every step has one step's dealing.

    A dealer that is ahead by all that the places between it and the engine hold does not wait in its first steps, and does not
    work during the last steps of the parties. Both are fewer than half of so many.

    Args:
        dealer_bytes: corrections of a step.
    """
    return 2 * -(-HELD_BYTES // max(int(dealer_bytes), 1)) + WARM_UP_RUNS + 1


def _step(handle: JobHandle) -> Figures:
    """Reads one step's figures from the records of the parties, after comparing the transport's counts with the plan's."""
    client, job = handle._client, handle._client.job(handle.id)
    plan = handle.plan()
    said = {party: client.progress(handle.id, party) for party in plan.participants}
    for party, progress in said.items():
        if progress.payload_bytes != plan.sent_bytes(party):
            raise RuntimeError(f"{party} sent {progress.payload_bytes} bytes, its plan says {plan.sent_bytes(party)}")
    rounds = {party: said[party].rounds for party in job.computing_parties}
    if set(rounds.values()) != {plan.rounds}:
        raise RuntimeError(f"rounds of the parties: {rounds}, the plan says {plan.rounds}")
    step = plan.segment("step")
    timed = {party: _timing(progress.timing, "step") for party, progress in said.items()}
    computing = [timed[party] for party in job.computing_parties]
    return Figures(
        # The dealer is as fast as the parties take what it deals, or slower: then they empty what it had dealt ahead.
        seconds=max(float(entry["seconds_median"]) for entry in timed.values()),
        online_seconds=max(float(entry["online_seconds_median"]) for entry in computing),
        rounds=step.rounds,
        sent_bytes_per_party=step.opened_bytes * (len(job.computing_parties) - 1),
        dealer_bytes=step.correction_bytes,
        processor_seconds=statistics.median(float(entry["processor_seconds"]) / int(entry["runs"]) for entry in computing),
        dealer_seconds=float(timed[plan.dealer]["dealer_seconds"]) / int(timed[plan.dealer]["runs"]),
    )


def _timing(entries: Any, segment: str) -> Mapping[str, Any]:
    for entry in entries:
        fields = entry if isinstance(entry, Mapping) else vars(entry)
        if fields["segment"] == segment:
            return fields
    raise RuntimeError(f"no times of the segment {segment!r} in the job's record")


def _images() -> pd.DataFrame:
    generator = np.random.default_rng(1)
    pixels = generator.integers(0, 256, (BATCHES * BATCH, 784))
    names = pd.Index([f"pixel_{number}" for number in range(784)])
    return pd.DataFrame(pixels, columns=names).assign(label=generator.integers(0, CLASSES, len(pixels)))


def _breast_cancer() -> pd.DataFrame:
    rows, labels = load_breast_cancer(return_X_y=True)
    scaled = np.clip(np.rint(((rows - rows.mean(0)) / rows.std(0) / 8 + 1) * 127.5), 0, 255).astype(int)
    once = pd.DataFrame(scaled, columns=pd.Index([f"f{number}" for number in range(30)])).assign(label=labels.astype(bool))
    return pd.concat([once] * COPIES, ignore_index=True)


def _schema(name: str, columns: list[str], classes: int) -> Mapping[str, Any]:
    label = {"type": "boolean"} if classes == 2 else {"type": "integer", "classes": classes}
    features = [{"name": column, "role": "feature", "type": "float", "range": [0, 255]} for column in columns]
    return {
        "api_version": "confide/v1",
        "kind": "TableSchema",
        "name": name,
        "columns": [*features, {"name": "label", "role": "label", **label}],
    }


def started() -> Consortium:
    """Starts four parties on this machine."""
    return _started(lambda _folder: ())


def far_apart() -> Consortium:
    """Starts four parties whose every message takes 20 ms to another one: a round trip of 40 ms."""
    return _started(lambda folder: tuple(move_apart(folder, PARTIES, one_way_s=ONE_WAY_S).values()))


def _await_reach(client: Client) -> None:
    """Waits until the researcher reaches every party, on whatever way there is to it."""
    deadline = time.monotonic() + REACHED_WITHIN_S
    while unheard := client.all_datasets().unheard:
        if time.monotonic() > deadline:
            raise RuntimeError(f"not reached: {', '.join(unheard)}")
        time.sleep(0.5)


def _started(between: Callable[[Path], Sequence[DelayProxy]]) -> Consortium:
    root = Path(tempfile.mkdtemp(prefix="confide-bench-"))
    folder = root / "network"
    make_folder(folder)
    harness.make_consortium(folder, PARTIES)
    proxies = between(folder)
    running = tuple(harness.start_party(folder / party / "party.yaml") for party in PARTIES)
    network = harness.replace(harness.Harness(folder, running), running[0])  # writes down what was started
    for party in running:
        harness.await_health(party)
    placement = Placement(PARTIES[:2], PARTIES[2])
    client = Client.open(network.researcher_config, now=datetime.now(UTC), placement=placement)
    _await_reach(client)
    return Consortium(client, LocalNetwork(root), proxies)
