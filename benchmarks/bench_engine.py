"""One step of logistic regression: our engine against CrypTen's third-party mode, in the same run, taking turns.

Both run two computing parties and a dealer as processes of one machine. Ours speaks over pipes, the peer over gloo; neither
encrypts. The dealer works on the same cores, so its time is in the figures. Times are medians over all steps but the first two.

    python benchmarks/bench_engine.py --rounds 3 --batch 64 --features 30
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from protocols.job import JobType, Training
from protocols.links import Array, TensorSpec
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.mpc.session import Progress, run_session
from protocols.plan.plan import Plan
from tests.support.mpc_world import a_job, keys_for


class PipeLink:
    """A link over a pipe between two processes; a thread sends, so that nobody blocks."""

    def __init__(self, peer: str, connection: Connection) -> None:
        self._peer = peer
        self._connection = connection
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._send_all, daemon=True)
        self._sender.start()

    @property
    def peer(self) -> str:
        """The other end."""
        return self._peer

    def send(self, operation: int, arrays: Sequence[Array]) -> None:
        """Queues a message."""
        self._outgoing.put(b"".join(array.tobytes() for array in arrays))

    def receive(self, operation: int, layout: Sequence[TensorSpec]) -> list[Array]:
        """Waits for a message."""
        data = self._connection.recv_bytes()
        arrays, start = [], 0
        for spec in layout:
            arrays.append(np.frombuffer(data, spec.dtype, spec.num_bytes // np.dtype(spec.dtype).itemsize, start))
            start += spec.num_bytes
        return [array.reshape(spec.shape) for array, spec in zip(arrays, layout, strict=True)]

    def _send_all(self) -> None:
        while (data := self._outgoing.get()) is not None:
            self._connection.send_bytes(data)

    def close(self) -> None:
        """Waits until everything is sent."""
        self._outgoing.put(None)
        self._sender.join()


def job_of(batch: int, features: int, steps: int):
    """A training of as many full batches."""
    return a_job(
        JobType.TRAIN, features=features, rows={"alpha": batch}, training=Training(steps, batch, "0.5", "0.9", "ab" * 16)
    )


def party(name: str, shape: tuple[int, int, int], pipes: dict[str, Connection], answers: multiprocessing.Queue) -> None:
    """One party of ours."""
    torch.set_num_threads(1)
    job = job_of(*shape)
    plan = derive_plan(job)
    generator = np.random.default_rng(0)
    rows = {0: (generator.uniform(-1, 1, shape[:2]), generator.integers(0, 2, shape[0]).astype(float))}
    weights = {spec.name: np.zeros(spec.shape) for spec in job.model.parameters}
    inputs = LocalInputs(rows if name == "alpha" else {}, None if name == plan.dealer else weights)
    moments: list[float] = []

    def note(progress: Progress) -> None:
        moments.append(time.perf_counter())

    links = {peer: PipeLink(peer, connection) for peer, connection in pipes.items()}
    run_session(job=job, plan=plan, party=name, keys=keys_for(plan, job)[name], links=links, inputs=inputs, progress=note)
    if name == "alpha":
        # Reports: inputs, open data, every step, outputs.
        answers.put(list(np.diff(moments)[3:-1]))
    for link in links.values():
        link.close()


def ours(shape: tuple[int, int, int], plan: Plan) -> list[float]:
    """Seconds of every step at the first computing party."""
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue = context.Queue()
    names = plan.participants
    pipes: dict[str, dict[str, Connection]] = {name: {} for name in names}
    for i, one in enumerate(names):
        for two in names[i + 1 :]:
            pipes[one][two], pipes[two][one] = context.Pipe()
    parties = [context.Process(target=party, args=(name, shape, pipes[name], answers), daemon=True) for name in names]
    for process in parties:
        process.start()
    found: list[float] = answers.get(timeout=100)
    for process in parties:
        process.join(10)
        process.kill()
    return found


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
