"""The one door to CrypTen: its modules, losses, autograd and optimiser run on our shares; everything else of it is sealed.

Importing this package imports CrypTen, registers `SharedTensor` as its default tensor type, replaces the functions that would
compute what nobody needs, freezes its configuration and makes its communicator, providers, generators, serialisation and
debug switches raise. No other package imports crypten.
"""

from protocols.mpc.tensor import functions as _functions
from protocols.mpc.tensor import operations as _operations
from protocols.mpc.tensor.coin import Coin, public_mask, use_coin
from protocols.mpc.tensor.comparisons import choose as _choose
from protocols.mpc.tensor.layers import HyperbolicTangent, Identity
from protocols.mpc.tensor.loader import crypten
from protocols.mpc.tensor.modules import SharedModule, build_module
from protocols.mpc.tensor.seal import point_to_ours, seal
from protocols.mpc.tensor.shared_tensor import SharedTensor, current_engine, use_engine

_operations.register(_functions.install())
point_to_ours(
    {
        "cat": lambda tensors, dim=0: SharedTensor.cat(tensors, dim=dim),
        "stack": lambda tensors, dim=0: SharedTensor.stack(tensors, dim=dim),
        "where": _choose,
    }
)
crypten.nn.Identity = Identity
crypten.nn.Tanh = HyperbolicTangent
seal()

__all__ = [
    "Coin",
    "HyperbolicTangent",
    "Identity",
    "SharedModule",
    "SharedTensor",
    "build_module",
    "crypten",
    "current_engine",
    "public_mask",
    "use_coin",
    "use_engine",
]
