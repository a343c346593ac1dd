"""What must never be in the product: the weak parts that the attack tests succeed against.

Only tests import this module. Each variant differs from the real thing in the one respect that its attack needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from protocols.prg import ByteSource
from protocols.ring import RingArray
from protocols.sharing import draw_ring


class MersenneStream:
    """A byte source on torch's generator, as the tensor library draws its shares: of a 64-bit seed it uses 32."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def take(self, count: int) -> np.ndarray:
        words = torch.randint(-(2**63), 2**63 - 1, ((count + 7) // 8,), generator=self._generator, dtype=torch.long)
        return words.numpy().view(np.uint8)[:count]


def search_seed(observed: RingArray, candidates: Iterable[int], make_stream: Callable[[int], ByteSource]) -> int | None:
    """Tries seeds until one gives the observed ring elements."""
    for seed in candidates:
        if np.array_equal(draw_ring(make_stream(seed), observed.shape), observed):
            return seed
    return None


def without_refresh(share: RingArray) -> RingArray:
    """An output step that hands out the raw share."""
    return share


# Run in a process of its own: the library's state is global, and our adapter seals what this shows. Rank 0 of the shipped
# default provider makes the triples of both parties, so the opened differences give it both operands.
FIRST_PARTY_PROVIDER = """
import importlib, multiprocessing, os, socket, sys, types, warnings
warnings.filterwarnings("ignore")

def load():
    import torch, torch.onnx
    name = "torch.onnx.symbolic_registry"
    sys.modules.setdefault(name, types.ModuleType(name))
    moved = "torch.onnx._internal.torchscript_exporter.registration"
    sys.modules["torch.onnx._internal.registration"] = importlib.import_module(moved)
    import crypten
    return torch, crypten

def party(rank, port, answers):
    os.environ.update(WORLD_SIZE="2", RANK=str(rank), RENDEZVOUS=f"tcp://127.0.0.1:{port}",
                      DISTRIBUTED_BACKEND="gloo", GLOO_SOCKET_IFNAME="lo")
    torch, crypten = load()
    torch.set_num_threads(1)
    crypten.init()
    x = crypten.cryptensor(torch.tensor([1.5, -2.25, 3.0]) if rank == 1 else torch.zeros(3), src=1)
    y = crypten.cryptensor(torch.tensor([4.0, 0.5, -7.5]) if rank == 1 else torch.zeros(3), src=1)
    provider = importlib.import_module("crypten.mpc.provider.tfp_provider")
    shared = importlib.import_module("crypten.mpc.primitives.arithmetic").ArithmeticSharedTensor
    masks, openings = [], []
    draw, reveal, reveal_batch = provider.generate_random_ring_element, shared.reveal, shared.reveal_batch
    def noted(*a, **k):
        masks.append(draw(*a, **k))
        return masks[-1]
    def seen(self, *a, **k):
        openings.append(reveal(self, *a, **k))
        return openings[-1]
    def seen_batch(value, *a, **k):
        found = reveal_batch(value, *a, **k)
        openings.extend(found if isinstance(found, (list, tuple)) else [found])
        return found
    provider.generate_random_ring_element, shared.reveal, shared.reveal_batch = noted, seen, staticmethod(seen_batch)
    x * y
    provider.generate_random_ring_element, shared.reveal, shared.reveal_batch = draw, reveal, staticmethod(reveal_batch)
    if rank == 0:
        answers.put([[float(v) / 65536 for v in opened + mask] for opened, mask in zip(openings[:2], masks[:2])])

if __name__ == "__main__":
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    parties = [context.Process(target=party, args=(r, port, answers), daemon=True) for r in (0, 1)]
    for p in parties:
        p.start()
    print(answers.get(timeout=60))
    for p in parties:
        p.join(10)
        p.kill()
"""
