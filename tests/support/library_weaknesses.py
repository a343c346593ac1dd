"""What the tensor library does as shipped, where ours must do better; run in a process of its own, since our adapter seals it.

Only tests import this module.
"""

from __future__ import annotations

import numpy as np

from protocols.ring import RingArray

# One party, no network: the generator's seeds, the domains of the approximations, and what encoding makes of NaN.
AS_SHIPPED = """
import importlib, json, sys, types, warnings
warnings.filterwarnings("ignore")
import torch, torch.onnx
name = "torch.onnx.symbolic_registry"
sys.modules.setdefault(name, types.ModuleType(name))
moved = "torch.onnx._internal.torchscript_exporter.registration"
sys.modules["torch.onnx._internal.registration"] = importlib.import_module(moved)
import logging
logging.disable(logging.CRITICAL)
import crypten
crypten.init()
draw = importlib.import_module("crypten.common.rng").generate_random_ring_element

def drawn(seed):
    return draw((4,), generator=torch.Generator().manual_seed(seed)).tolist()

def of(function, values):
    return getattr(crypten.cryptensor(torch.tensor(values)), function)().get_plain_text().tolist()

print(json.dumps({
    "drawn": drawn((0x0123_4567 << 32) | 0x5AC3_0B7E),
    "drawn from the low half of the seed": drawn(0x5AC3_0B7E),
    "reciprocal": of("reciprocal", [300.0, 1000.0]),
    "log": of("log", [300.0, 1000.0]),
    "exp": of("exp", [8.0, 10.0]),
    "softmax": crypten.cryptensor(torch.zeros(1, 256)).softmax(1).get_plain_text()[0, :2].tolist(),
    "encoded": [int(crypten.cryptensor(torch.tensor([v]))._tensor.share) for v in (float("nan"), float("inf"))],
}))
"""


def truncate_locally(shares: list[RingArray], shift: int) -> list[RingArray]:
    """The library's rule for two parties: each divides its own share, so that a wrap becomes an error of 2^(64 - shift)."""
    return [_divided(share, shift) for share in shares]


def _divided(share: RingArray, shift: int) -> RingArray:
    # Rounds towards zero, as the library does.
    return np.sign(share) * (np.abs(share) >> np.int64(shift))
