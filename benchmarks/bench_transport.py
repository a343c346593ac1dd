"""A worker-to-worker exchange through the real path beside plain gRPC and plain gloo, same sizes, same run, taking turns.

Ours: worker - local socket - party process - gRPC stream with mutual TLS 1.3 - party process - local socket - worker; four
processes, confined workers, every frame checked and authenticated. gRPC alone: two processes with the same credentials,
channel settings and frame size, but no workers: what the real path cannot fall below. Gloo: two processes that send and receive
tensors over loopback without encryption or authentication.

A round trip is one message there and one of the same size back: "each way" is then the speed of one direction at a time. In an
exchange both sides send, then both receive, as in a round of the engine: "each way" is then the speed of either direction while
both run, so twice that passes through the machine. Both are shown beside the target.

Processor time is summed over all processes of a system. A system that takes t ms for one MB and keeps c cores busy all the time
moves c * 1000 / t MB/s, both directions together: a bound that no overlap lifts.

    python benchmarks/bench_transport.py --rounds 5
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SIZES = {"64 B": 64, "80 KB": 80_000, "1 MB": 1_000_000, "16 MB": 16_000_000}
REPEATS = {"64 B": 400, "80 KB": 200, "1 MB": 40, "16 MB": 6}
WARM_UP = 2
MAX_ROUND_TRIP_RATIO = 3.0
MIN_BYTES_PER_S = 300e6
PARTICIPANTS = ("hospital-a", "hospital-b")
SESSION, ATTEMPT = "0f" * 16, 1

Measured = dict[tuple[str, str, str], tuple[list[float], list[float]]]


class Part:
    """A process of the benchmark that answers one line of JSON with one line of JSON."""

    def __init__(self, role: str, *arguments: str, descriptors: Sequence[int] = ()) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--role", role, *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=descriptors, cwd=ROOT, env=environment
        )

    def tell(self, **message: Any) -> None:
        """Sends one message."""
        _write(self._file(self._process.stdin), message)

    def hear(self) -> dict[str, Any]:
        """Waits for one message."""
        return _read(self._file(self._process.stdout))

    def cpu_s(self) -> float:
        """Returns the processor time of all its threads so far, ended ones included."""
        return time.clock_gettime((~self._process.pid << 3) | 2)  # how Linux numbers the processor clock of a process

    def stop(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()

    @staticmethod
    def _file(file: IO[bytes] | None) -> IO[bytes]:
        if file is None:
            raise RuntimeError("the process has no such pipe")
        return file


def _write(file: IO[bytes], message: object) -> None:
    file.write(json.dumps(message).encode() + b"\n")
    file.flush()


def _read(file: IO[bytes]) -> dict[str, Any]:
    line = file.readline()
    if not line:
        raise RuntimeError("a process of the benchmark has ended; its words are above")
    message: dict[str, Any] = json.loads(line)
    return message


# What the processes do.


def run_accepting_party(descriptor: int) -> None:
    """Holds the public port; tells the dialling party where it is and which identity to show."""
    from parties.transport.streams import LinkTable
    from tests.support.tls_world import PEER, SERVER, a_tls_world, serving

    links, world = LinkTable(), a_tls_world()
    links.expect(SESSION, ATTEMPT, PEER, socket.socket(fileno=descriptor))
    with serving(world, links) as endpoint:
        shown = (world.peer.private_key, world.peer.certificate, world.peer.ca_certificate)
        listed = world.directory.party(SERVER).certificate
        _write(sys.stdout.buffer, {"endpoint": endpoint, "identity": [pem.decode() for pem in shown], "listed": listed})
        sys.stdin.read()


def run_dialling_party(descriptor: int) -> None:
    """Opens the stream to the accepting party."""
    from parties.transport.dialling import Route
    from parties.transport.streams import dial
    from parties.transport.tls import TlsIdentity
    from tests.support.tls_world import SERVER

    _write(sys.stdout.buffer, {"loaded": "dial"})
    said = _read(sys.stdin.buffer)
    identity = TlsIdentity(*(pem.encode() for pem in said["identity"]))
    route = Route(identity, said["endpoint"], SERVER, said["listed"])
    dial(route, session=SESSION, attempt=ATTEMPT, endpoint=socket.socket(fileno=descriptor))
    sys.stdin.read()


def run_worker(descriptor: int, number: int) -> None:
    """Takes turns over a link, confined as a real worker is."""
    from parties.worker.confinement import confine
    from parties.worker.handshake import shake_hands
    from parties.worker.link import WorkerLink
    from protocols.links import TensorSpec

    confine()
    _write(sys.stdout.buffer, {"loaded": "worker"})
    _read(sys.stdin.buffer)
    peer = PARTICIPANTS[1 - number]
    link = WorkerLink(socket.socket(fileno=descriptor), peer=peer, session=bytes.fromhex(SESSION), attempt=ATTEMPT)
    digest = "0" * 64
    shake_hands(party=PARTICIPANTS[number], participants=PARTICIPANTS, links={peer: link}, job_digest=digest, plan_digest=digest)
    operations = [0, 0]

    def send(array: np.ndarray) -> None:
        operations[0] += 1
        link.send(operations[0], [array])

    def receive(size: int) -> np.ndarray:
        operations[1] += 1
        return link.receive(operations[1], [TensorSpec("uint8", (size,))])[0]

    _take_turns(number, send, receive)


def run_plain(*, accepts: bool) -> None:
    """Takes turns over gRPC alone; the accepting side tells the other where it is and which identity to show."""
    importlib.import_module("parties")  # before gRPC, which the next line brings
    from plain_grpc import PlainStream, accepting, dialling

    stream = PlainStream()
    if accepts:
        with accepting(stream) as said:
            _write(sys.stdout.buffer, said)
            _take_turns(1, stream.send, stream.receive)
    else:
        with dialling(stream, _read(sys.stdin.buffer)):
            _take_turns(0, stream.send, stream.receive)


def run_gloo(number: int, port: int) -> None:
    """Takes turns over gloo."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=number, world_size=2)
    pending: list[Any] = []

    def send(array: np.ndarray) -> None:
        pending.append(dist.isend(torch.from_numpy(array), 1 - number))

    def receive(size: int) -> np.ndarray:
        tensor = torch.empty(size, dtype=torch.uint8)
        dist.recv(tensor, 1 - number)
        while pending:
            pending.pop().wait()
        return tensor.numpy()

    _take_turns(number, send, receive)


def _take_turns(number: int, send: Callable[[np.ndarray], None], receive: Callable[[int], np.ndarray]) -> None:
    _write(sys.stdout.buffer, {"ready": number})
    while True:
        task = _read(sys.stdin.buffer)
        array = np.random.default_rng(number).integers(0, 256, task["size"], dtype=np.uint8)
        times = []
        for _ in range(task["repeats"]):
            started = time.perf_counter()
            if number == 0 or task["what"] == "exchange":
                send(array)
                found = receive(task["size"])
            else:
                found = receive(task["size"])
                send(found)
            times.append(time.perf_counter() - started)
            if len(found) != task["size"]:
                raise RuntimeError("another size arrived")
        if task["what"] == "round trip" and number == 1:
            send(array[:1])  # the last answer has been taken once this arrives
        elif task["what"] == "round trip":
            receive(1)
        _write(sys.stdout.buffer, {"times": times})


# The measurement.


def start_ours() -> tuple[list[Part], list[Part]]:
    """Starts the four processes; returns the workers, and everything that must be stopped."""
    near, near_party = socket.socketpair()
    far, far_party = socket.socketpair()
    accepting = Part("accept", "--descriptor", str(far_party.fileno()), descriptors=[far_party.fileno()])
    said = accepting.hear()
    dialling = Part("dial", "--descriptor", str(near_party.fileno()), descriptors=[near_party.fileno()])
    workers = [
        Part("worker", "--number", str(number), "--descriptor", str(end.fileno()), descriptors=[end.fileno()])
        for number, end in enumerate((near, far))
    ]
    for part in (dialling, *workers):
        part.hear()  # loading takes longer on a busy machine than a link waits for its peer
    for part in (dialling, *workers):
        part.tell(**said)
    for end in (near, near_party, far, far_party):
        end.close()
    return workers, [accepting, dialling, *workers]


def start_plain() -> list[Part]:
    """Starts the two processes of gRPC alone, the dialling one first."""
    accepting = Part("plain-accept")
    said = accepting.hear()
    dialling = Part("plain-dial")
    dialling.tell(**said)
    return [dialling, accepting]


def start_gloo() -> list[Part]:
    """Starts the two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [Part("gloo", "--number", str(number), "--port", str(port)) for number in (0, 1)]


def take_times(parts: Sequence[Part], *, what: str, size: int, repeats: int) -> list[float]:
    """Returns the seconds of each repeat as the first process saw them, without the warm-up."""
    for part in parts:
        part.tell(what=what, size=size, repeats=repeats + WARM_UP)
    first, _ = [part.hear()["times"] for part in parts]
    return first[WARM_UP:]


def measure(rounds: int) -> Measured:
    """Returns (seconds of each repeat, seconds of processor time of each group of them) of (what, size, system), in turns."""
    ours, all_of_ours = start_ours()
    plain, gloo = start_plain(), start_gloo()
    systems = {"confide": (ours, all_of_ours), "gRPC alone": (plain, plain), "gloo": (gloo, gloo)}
    try:
        for parts, _ in systems.values():
            for part in parts:
                part.hear()
        found: Measured = {}
        for _ in range(rounds):
            for what in ("round trip", "exchange"):
                for label, size in SIZES.items():
                    for name, (parts, processes) in systems.items():
                        before = sum(process.cpu_s() for process in processes)
                        taken = take_times(parts, what=what, size=size, repeats=REPEATS[label])
                        spent = sum(process.cpu_s() for process in processes) - before
                        times, cpu = found.setdefault((what, label, name), ([], []))
                        times.extend(taken)
                        cpu.append(spent / (REPEATS[label] + WARM_UP))
        return found
    finally:
        for part in (*all_of_ours, *plain, *gloo):
            part.stop()


def summarise(measured: Measured) -> list[dict[str, object]]:
    """Returns the figures: medians, ratios to gloo, bytes a second each way, and processor time."""
    rows: list[dict[str, object]] = []

    def add(task: str, system: str, metric: str, value: float, unit: str) -> None:
        rows.append({"task": task, "system": system, "metric": metric, "value": value, "unit": unit})

    for (what, label, system), (times, cpu) in measured.items():
        task, median, megabytes = f"{what} of {label}", statistics.median(times), SIZES[label] / 1e6
        add(task, system, "median", median * 1e3, "ms")
        add(task, system, "each way", (2 if what == "round trip" else 1) * megabytes / median, "MB/s")
        add(task, system, "processor time", statistics.median(cpu) * 1e3, "ms")
        add(task, system, "processor time per MB", statistics.median(cpu) * 1e3 / (2 * megabytes), "ms/MB")
        if system == "confide":
            add(task, system, "ratio to gloo", median / statistics.median(measured[what, label, "gloo"][0]), "")
    return rows


def table(rows: Sequence[dict[str, object]]) -> str:
    """Returns the figures as text."""
    values = {(row["task"], row["system"], row["metric"]): float(str(row["value"])) for row in rows}
    systems = list(dict.fromkeys(str(row["system"]) for row in rows))
    lines = [f"{'':24}" + "".join(f"{system + ': median, each way, processor':>48}" for system in systems)]
    for task in dict.fromkeys(str(row["task"]) for row in rows):
        cells = [[values[task, system, metric] for metric in ("median", "each way", "processor time")] for system in systems]
        lines.append(f"{task:24}" + "".join(f"{ms:16.3f} ms {speed:10.1f} MB/s {cpu:9.2f} ms" for ms, speed, cpu in cells))
    ratio = values["round trip of 64 B", "confide", "ratio to gloo"]
    lines.append(f"64 B round trip: {ratio:.2f} times gloo's (target: at most {MAX_ROUND_TRIP_RATIO:.0f})")
    cores = len(os.sched_getaffinity(0))
    for what, meaning in (("round trip", "one direction at a time"), ("exchange", "both directions at once")):
        for system in ("confide", "gRPC alone"):
            speed, cost = (values[f"{what} of 16 MB", system, metric] for metric in ("each way", "processor time per MB"))
            bound = cores * 1e3 / cost / (1 if what == "round trip" else 2)
            lines.append(
                f"16 MB, {meaning}, {system}: {speed:.0f} MB/s each way; {cost:.2f} ms of processor time per MB,"
                f" so {cores} cores move at most about {bound:.0f} MB/s"
            )
    lines.append(f"Target at 16 MB: at least {MIN_BYTES_PER_S / 1e6:.0f} MB/s each way")
    return "\n".join(lines)


def main() -> None:
    """Measures, prints a table, writes the figures; or plays one process's part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "transport.json")
    parser.add_argument(
        "--role", choices=["accept", "dial", "worker", "plain-accept", "plain-dial", "gloo"], help=argparse.SUPPRESS
    )
    for name in ("--descriptor", "--number", "--port"):
        parser.add_argument(name, type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role == "accept":
        run_accepting_party(arguments.descriptor)
    elif arguments.role == "dial":
        run_dialling_party(arguments.descriptor)
    elif arguments.role == "worker":
        run_worker(arguments.descriptor, arguments.number)
    elif arguments.role in ("plain-accept", "plain-dial"):
        run_plain(accepts=arguments.role == "plain-accept")
    elif arguments.role == "gloo":
        run_gloo(arguments.number, arguments.port)
    else:
        rows = summarise(measure(arguments.rounds))
        print(table(rows))
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
