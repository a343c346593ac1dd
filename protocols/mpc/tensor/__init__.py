"""The one door to CrypTen: its modules, losses, autograd and optimiser run on our shares; everything else of it is sealed.

Importing this package imports CrypTen, registers `SharedTensor` as its default tensor type, replaces the functions that would
compute what nobody needs, freezes its configuration and makes its communicator, providers, generators, serialisation and
debug switches raise. No other package imports crypten.
"""

from protocols.mpc.tensor import functions as _functions
from protocols.mpc.tensor.loader import crypten
from protocols.mpc.tensor.modules import SharedModule, build_module
from protocols.mpc.tensor.seal import seal
from protocols.mpc.tensor.shared_tensor import SharedTensor, current_engine, use_engine

_functions.install()
seal()

__all__ = ["SharedModule", "SharedTensor", "build_module", "crypten", "current_engine", "use_engine"]
