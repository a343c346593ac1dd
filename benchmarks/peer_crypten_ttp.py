"""The peer of bench_engine.py: one logistic regression step of CrypTen as shipped, two parties and its third-party server."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import socket
import sys
import time
import types
import warnings


def load() -> tuple:
    """Imports the library on a torch whose private modules it expects elsewhere."""
    warnings.filterwarnings("ignore")
    importlib.import_module("torch.onnx")
    name = "torch.onnx.symbolic_registry"
    sys.modules.setdefault(name, types.ModuleType(name))
    moved = importlib.import_module("torch.onnx._internal.torchscript_exporter.registration")
    sys.modules["torch.onnx._internal.registration"] = moved
    import logging

    logging.disable(logging.CRITICAL)
    return importlib.import_module("torch"), importlib.import_module("crypten")


def party(rank: int, port: int, shape: tuple, steps: int, answers: object) -> None:
    """One party; rank 2 is the third-party server."""
    os.environ.update(
        WORLD_SIZE="2",
        RANK=str(rank),
        RENDEZVOUS=f"tcp://127.0.0.1:{port}",
        DISTRIBUTED_BACKEND="gloo",
        GLOO_SOCKET_IFNAME="lo",
        OMP_NUM_THREADS="1",
    )
    torch, crypten = load()
    torch.set_num_threads(1)
    crypten.cfg.mpc.provider = "TTP"
    if rank == 2:
        importlib.import_module("crypten.mpc.provider.ttp_provider").TTPServer()
        return
    crypten.init()
    crypten.cfg.communicator.verbose = True
    batch, features = shape
    generator = torch.Generator().manual_seed(0)
    x = crypten.cryptensor(torch.rand(shape, generator=generator) * 2 - 1)
    y = crypten.cryptensor((torch.rand((batch, 1), generator=generator) > 0.5).float())
    model = crypten.nn.Linear(features, 1).encrypt()
    model.train()
    loss = crypten.nn.BCEWithLogitsLoss(skip_forward=True)
    optimiser = crypten.optim.SGD(list(model.parameters()), lr=0.5, momentum=0.9, grad_threshold=None)
    times = []
    for step in range(steps):
        if step == 2:
            crypten.reset_communication_stats()
        started = time.perf_counter()
        optimiser.zero_grad()
        loss(model(x), y).backward()
        optimiser.step()
        times.append(time.perf_counter() - started)
    if rank == 0:
        communicator = crypten.communicator.get()
        count = steps - 2
        answers.put({"times": times[2:], "rounds": communicator.comm_rounds / count, "bytes": communicator.comm_bytes / count})


def main() -> None:
    """Prints one line of JSON: seconds of every step, rounds and bytes of one."""
    batch, features, steps = (int(value) for value in sys.argv[1:4])
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    arguments = ((batch, features), steps, answers)
    parties = [context.Process(target=party, args=(rank, port, *arguments), daemon=True) for rank in range(3)]
    for process in parties:
        process.start()
    print(json.dumps(answers.get(timeout=300)), flush=True)
    for process in parties:
        process.join(5)
        process.kill()


if __name__ == "__main__":
    main()
