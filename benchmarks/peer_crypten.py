"""CrypTen 0.4.1 as shipped, on the tasks of bench_mpc.py: gloo without encryption, its own generators, its own provider.

    python benchmarks/peer_crypten.py --provider ttp --task net-a-step --runs 3

TTP: a server of its own makes the correlated randomness. TFP: the first computing party makes it and so can read every operand;
it stands in the table to show what the insecure default costs, and as nothing else. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from peer_crypten_ttp import load
from peer_spu import first_answer

_WARM_UP = 1
PARTIES = {"net-a-step-3-parties": 3}


def _network(crypten: Any, torch: Any, layers: Callable[[Any], list[Any]]) -> Any:
    torch.manual_seed(0)
    model = crypten.nn.Sequential(*layers(crypten.nn)).encrypt()
    model.train()
    return model


def _net_a(nn: Any) -> list[Any]:
    return [nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)]


def _lenet(nn: Any) -> list[Any]:
    return [
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    ]  # fmt: skip


def _training_step(crypten: Any, torch: Any, layers: Callable[[Any], list[Any]], shape: tuple[int, ...]) -> Callable[[], object]:
    model, loss = _network(crypten, torch, layers), crypten.nn.CrossEntropyLoss()
    rows = crypten.cryptensor(torch.rand(128, *shape) * 2 - 1)
    labels = crypten.cryptensor(torch.nn.functional.one_hot(torch.randint(0, 10, (128,)), 10).float())

    def step() -> None:
        value = loss(model(rows), labels)
        model.zero_grad()
        value.backward()
        model.update_parameters(0.1)

    return step


def _inference(crypten: Any, torch: Any) -> Callable[[], object]:
    model = _network(crypten, torch, _net_a)
    model.eval()
    rows = crypten.cryptensor(torch.rand(128, 784) * 2 - 1)

    def forward() -> object:
        with crypten.no_grad():
            return model(rows).get_plain_text()

    return forward


def _logistic(crypten: Any, torch: Any) -> Callable[[], object]:
    from sklearn.datasets import load_breast_cancer

    rows, labels = load_breast_cancer(return_X_y=True)
    x = crypten.cryptensor(torch.tensor((rows - rows.mean(0)) / rows.std(0), dtype=torch.float32))
    y = crypten.cryptensor(torch.tensor(labels[:, None], dtype=torch.float32))

    def ten_steps() -> None:
        weights = crypten.cryptensor(torch.zeros(30, 1))
        for _ in range(10):
            weights = weights - x.t().matmul(x.matmul(weights).sigmoid() - y) * (1.0 / 569)

    return ten_steps


def work_of(task: str, crypten: Any, torch: Any) -> Callable[[], object]:
    """Prepares a task's inputs and returns one run of it."""
    if task.startswith("net-a-step"):
        return _training_step(crypten, torch, _net_a, (784,))
    if task == "lenet-step":
        return _training_step(crypten, torch, _lenet, (1, 28, 28))
    if task == "net-a-inference":
        return _inference(crypten, torch)
    if task == "lr-breast-cancer-10":
        return _logistic(crypten, torch)
    shape = (100_000,) if task == "relu-100k" else (32, 20, 24, 24)
    values = crypten.cryptensor(torch.rand(shape) * 16 - 8)
    return values.relu if task == "relu-100k" else lambda: values.max_pool2d(2, stride=2)


def party(rank: int, port: int, provider: str, task: str, runs: int, answers: Any) -> None:
    """One party; the one past the computing parties is the third-party server."""
    parties = PARTIES.get(task, 2)
    os.environ.update(
        WORLD_SIZE=str(parties),
        RANK=str(rank),
        RENDEZVOUS=f"tcp://127.0.0.1:{port}",
        DISTRIBUTED_BACKEND="gloo",
        GLOO_SOCKET_IFNAME="lo",
        OMP_NUM_THREADS="1",
    )
    torch, crypten = load()
    torch.set_num_threads(1)
    crypten.cfg.mpc.provider = provider.upper()
    if rank == parties:
        importlib.import_module("crypten.mpc.provider.ttp_provider").TTPServer()
        return
    crypten.init()
    crypten.cfg.communicator.verbose = True
    torch.manual_seed(1)
    run = work_of(task, crypten, torch)
    times = []
    for number in range(_WARM_UP + runs):
        if number == _WARM_UP:
            crypten.reset_communication_stats()
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    if rank == 0:
        communicator = crypten.communicator.get()
        counted = {"rounds": communicator.comm_rounds / runs, "sent_bytes_per_party": communicator.comm_bytes / runs}
        answers.put({"seconds": times[_WARM_UP:], **counted})


def main() -> None:
    """Measures one task and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--provider", choices=("ttp", "tfp"), required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    count = PARTIES.get(options.task, 2) + (options.provider == "ttp")
    arguments = (port, options.provider, options.task, options.runs, answers)
    processes = [context.Process(target=party, args=(rank, *arguments), daemon=True) for rank in range(count)]
    for process in processes:
        process.start()
    print(json.dumps(first_answer(answers, processes)), flush=True)
    for process in processes:
        process.join(5)
        process.kill()


if __name__ == "__main__":
    main()
