"""SPU 0.9.5 on the tasks of bench_mpc.py: semi2k with two parties and ABY3 with three, as shipped, on loopback.

    build/peers-venv/bin/python benchmarks/peer_spu.py --protocol semi2k --task net-a-step --runs 3

Runs in an environment of its own (`make bench-mpc-peers`), which knows nothing of this repository. Its links are neither
encrypted nor authenticated, unless `--identities FOLDER` names certificates for its own mutual TLS: ca.pem, and of every party
RANK.pem and RANK.key. Semi2k makes its correlated randomness inside the first party, which could read everything: it stands
in the table for its speed. Prints one line of JSON, or one with what is missing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

TIMEOUT_S = 1800.0
_WARM_UP = 1
Task = tuple[Callable[..., Any], tuple[np.ndarray, ...]]


def _net_a() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Returns weights and biases of three layers, rows and labels."""
    generator = np.random.default_rng(1)
    shapes = [(784, 128), (128, 128), (128, 10)]
    weights = [(generator.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32) for shape in shapes]
    biases = [np.zeros(columns, np.float32) for _, columns in shapes]
    rows = generator.uniform(-1, 1, (128, 784)).astype(np.float32)
    return [*weights, *biases], rows, np.eye(10, dtype=np.float32)[generator.integers(0, 10, 128)]


def _scores(x: Any, one: Any, two: Any, three: Any, *biases: Any) -> Any:
    import jax

    hidden = jax.nn.relu(x @ one + biases[0])
    return jax.nn.relu(hidden @ two + biases[1]) @ three + biases[2]


def net_a_step() -> Task:
    """784-128-128-10, SGD, cross-entropy, batch 128."""
    import jax
    import jax.numpy as jnp

    layers, rows, labels = _net_a()

    def loss(params: Sequence[Any], x: Any, y: Any) -> Any:
        logits = _scores(x, *params)
        logits = logits - jax.lax.stop_gradient(logits.max(axis=1, keepdims=True))
        return jnp.mean(jnp.log(jnp.exp(logits).sum(axis=1)) - (logits * y).sum(axis=1))

    def step(x: Any, y: Any, *params: Any) -> list[Any]:
        return [value - 0.1 * slope for value, slope in zip(params, jax.grad(loss)(params, x, y), strict=True)]

    return step, (rows, labels, *layers)


def net_a_inference() -> Task:
    """Its forward pass."""
    layers, rows, _ = _net_a()
    return _scores, (rows, *layers)


def relu_100k() -> Task:
    """max(x, 0) of 100 000."""
    import jax.numpy as jnp

    values = np.random.default_rng(1).uniform(-8, 8, 100_000).astype(np.float32)
    return (lambda x: jnp.maximum(x, 0)), (values,)


def maxpool() -> Task:
    """The largest of each 2x2 square of 32 x 20 x 24 x 24."""
    import jax.numpy as jnp

    values = np.random.default_rng(1).uniform(-8, 8, (32, 20, 24, 24)).astype(np.float32)

    def pool(x: Any) -> Any:
        rows = jnp.maximum(x[:, :, 0::2], x[:, :, 1::2])
        return jnp.maximum(rows[..., 0::2], rows[..., 1::2])

    return pool, (values,)


def lr_breast_cancer_10() -> Task:
    """Ten full-batch steps of logistic regression on 569 x 30; what the numbers are changes no time."""
    import jax

    generator = np.random.default_rng(1)
    rows = generator.normal(size=(569, 30)).astype(np.float32)
    labels = (rows @ generator.normal(size=30) > 0).astype(np.float32)

    def steps(x: Any, y: Any, weights: Any) -> Any:
        for _ in range(10):
            weights = weights - x.T @ (jax.nn.sigmoid(x @ weights) - y) / 569
        return weights

    return steps, (rows, labels, np.zeros(30, np.float32))


TASKS: dict[str, Callable[[], Task]] = {
    "net-a-step": net_a_step,
    "net-a-inference": net_a_inference,
    "relu-100k": relu_100k,
    "maxpool": maxpool,
    "lr-breast-cancer-10": lr_breast_cancer_10,
}


def party(rank: int, ports: Sequence[int], protocol: str, task: str, runs: int, identities: Path | None, answers: Any) -> None:
    """One party: takes its shares of every input, runs the compiled program, keeps its shares of the results."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import spu
    import spu.utils.frontend as frontend
    from spu import libspu

    description = libspu.link.Desc()
    description.recv_timeout_ms = int(TIMEOUT_S * 1000)
    for number, port in enumerate(ports):
        description.add_party(f"P{number}", f"127.0.0.1:{port}")
    if identities is not None:
        description.enable_ssl = True
        for options in (description.client_ssl_opts, description.server_ssl_opts):
            options.cert.certificate_path = str(identities / f"{rank}.pem")
            options.cert.private_key_path = str(identities / f"{rank}.key")
            options.verify.ca_file_path = str(identities / "ca.pem")
            options.verify.verify_depth = 1
    link = libspu.link.create_brpc(description, rank)
    kinds = {"semi2k": libspu.ProtocolKind.SEMI2K, "aby3": libspu.ProtocolKind.ABY3}
    config = libspu.RuntimeConfig(protocol=kinds[protocol], field=libspu.FieldType.FM64)
    config.fxp_fraction_bits = 18
    runtime, io = spu.Runtime(link, config), spu.Io(len(ports), config)
    secret = libspu.Visibility.VIS_SECRET
    function, inputs = TASKS[task]()
    names = [f"input{number}" for number in range(len(inputs))]
    program, _ = frontend.compile(
        frontend.Kind.JAX, function, list(inputs), {}, names, [secret] * len(inputs),
        lambda outputs: [f"output{number}" for number in range(len(outputs))],
    )  # fmt: skip
    # Inputs are the benchmark's own: every party makes the same sharing of them, from its own copy, before the clock starts.
    for name, values in zip(names, inputs, strict=True):
        runtime.set_var(name, _share_from_first(io.make_shares(np.asarray(values), secret), link, rank, len(ports)))
    link.barrier()
    times = []
    for number in range(_WARM_UP + runs):
        if number == _WARM_UP:
            carried = loopback_bytes()
        began = time.perf_counter()
        runtime.run(program)
        times.append(time.perf_counter() - began)
    if rank == 0:
        # It has no counter of its own. On a quiet machine nothing else goes over loopback; framing is in it.
        sent = (loopback_bytes() - carried) / runs / len(ports)
        answers.put({"seconds": times[_WARM_UP:], "sent_bytes_per_party": sent})
    link.barrier()
    time.sleep(1.5)  # the peers drain their barrier before sockets close
    os._exit(0)


def loopback_bytes() -> int:
    """Returns how many bytes this machine's loopback device has carried."""
    with open("/proc/net/dev", encoding="ascii") as devices:
        return next(int(line.split()[1]) for line in devices if line.strip().startswith("lo:"))


def _share_from_first(shares: Sequence[Any], link: Any, rank: int, parties: int) -> Any:
    import pickle

    # Only the first party's sharing counts. What travels is the benchmark's own, on loopback, within this program.
    if rank == 0:
        for other in range(1, parties):
            link.send(other, pickle.dumps(shares[other]).hex())
        return shares[0]
    raw = link.recv(0)
    return pickle.loads(bytes.fromhex(raw if isinstance(raw, str) else raw.decode()))  # noqa: S301  (see above)


def first_answer(answers: Any, processes: Sequence[Any]) -> Any:
    """Waits for the first party's figures, or for the first failure."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        with suppress(queue.Empty):
            return answers.get(timeout=1.0)
        if any(process.exitcode for process in processes):
            break
    for process in processes:
        process.kill()
    sys.exit("a party of the peer has failed; its words are above")


def main() -> None:
    """Measures one task and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", choices=("semi2k", "aby3"), required=True)
    parser.add_argument("--task", choices=list(TASKS), required=True)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--identities", type=Path, help="certificates for mutual TLS; without, links are plain")
    options = parser.parse_args()
    count = 3 if options.protocol == "aby3" else 2
    reserved = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in reserved]
    for one in reserved:
        one.close()
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    arguments = (ports, options.protocol, options.task, options.runs, options.identities, answers)
    processes = [context.Process(target=party, args=(rank, *arguments), daemon=True) for rank in range(count)]
    for process in processes:
        process.start()
    print(json.dumps(first_answer(answers, processes)), flush=True)
    for process in processes:
        process.join(10)
        process.kill()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
