"""A whole session on one machine: every party a process, links over pipes, no encryption. For benchmarks."""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.queues import Queue

import numpy as np
import torch

from protocols.job import Job
from protocols.links import Array, TensorSpec
from protocols.mpc.checkpoint import Checkpoint
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.session import Progress, run_session
from protocols.mpc.timing import Stopwatch
from protocols.plan.plan import Plan
from tests.support.mpc_world import keys_for

TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Measured:
    """One party's session: when each phase was reported, in seconds since its start, and what it sent."""

    phases: tuple[tuple[str, float], ...]
    rounds: int
    sent_bytes: int

    @property
    def seconds(self) -> float:
        """From the first report, after all parties have started, to the last."""
        return self.phases[-1][1] - self.phases[0][1]

    def steps(self, segment: str) -> list[float]:
        """How long each run of a segment took."""
        moments = [moment for _, moment in self.phases]
        return [b - a for (phase, b), a in zip(self.phases[1:], moments, strict=False) if phase == segment]


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


def run_processes(job: Job, plan: Plan, inputs: Mapping[str, LocalInputs]) -> dict[str, Measured]:
    """Runs every party of a session as a process of its own and returns what each measured."""
    context = multiprocessing.get_context("spawn")
    answers: Queue[tuple[str, Measured]] = context.Queue()
    names = plan.participants
    together = context.Barrier(len(names))
    pipes: dict[str, dict[str, Connection]] = {name: {} for name in names}
    for i, one in enumerate(names):
        for two in names[i + 1 :]:
            pipes[one][two], pipes[two][one] = context.Pipe()
    parties = [
        context.Process(
            target=_party, args=(name, job, plan, inputs.get(name, LocalInputs()), pipes[name], together, answers), daemon=True
        )
        for name in names
    ]
    for process in parties:
        process.start()
    found = dict(answers.get(timeout=TIMEOUT_S) for _ in names)
    for process in parties:
        process.join(10)
        process.kill()
    return found


def _party(
    name: str,
    job: Job,
    plan: Plan,
    inputs: LocalInputs,
    pipes: Mapping[str, Connection],
    together: threading.Barrier,
    answers: Queue[tuple[str, Measured]],
) -> None:
    torch.set_num_threads(1)
    if name in plan.computing_parties:
        import protocols.mpc.programs.catalogue  # noqa: F401  (loading CrypTen takes seconds that are not the session's)
    phases: list[tuple[str, float]] = []

    def note(progress: Progress) -> None:
        phases.append((progress.phase, time.perf_counter()))

    def ignore(_checkpoint: Checkpoint) -> None:
        return

    links = {peer: PipeLink(peer, connection) for peer, connection in pipes.items()}
    together.wait()
    outputs = run_session(
        job=job,
        plan=plan,
        party=name,
        keys=keys_for(plan, job)[name],
        links=links,
        inputs=inputs,
        progress=note,
        checkpoint=ignore,
        now=time.monotonic,
        random=os.urandom,
        stopwatch=Stopwatch(wall=time.monotonic, processor=time.thread_time),
    )
    answers.put((name, Measured(tuple(phases), outputs.rounds, sum(outputs.sent_bytes.values()))))
    for link in links.values():
        link.close()
