"""Which torch modules and functions a model may use, and what to say about the others.

The table is the whole policy: the exporter accepts what `LINEAR`, `SIGMOID` and `dropped` name and refuses everything else
with the verdict found here. A verdict has one of four kinds:

- never: the operator mixes rows of different institutions, reads a value, or carries code;
- not yet: it can be computed under secret sharing, and Confide does not do so yet;
- replace: an equivalent on the list exists;
- misconfigured: the operator is right, its settings are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import nn

from protocols.errors import Problem


class ProblemKind(Enum):
    """Why a module is refused."""

    NEVER = "never"
    NOT_YET = "not yet"
    REPLACE = "replace"
    MISCONFIGURED = "misconfigured"


@dataclass(frozen=True)
class Verdict:
    """What is wrong with an operator and what to do; public text."""

    kind: ProblemKind
    what: str
    remedy: str

    def at(self, where: str) -> Problem:
        """Returns the problem of the module with this qualified name."""
        return Problem(where or "model", f"{self.kind.value}: {self.what}", self.remedy)


LINEAR = nn.Linear
SIGMOID = nn.Sigmoid
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
SIGMOID_FUNCTIONS = frozenset({"sigmoid", "expit", "special_expit"})

_USE_SIGMOID = "use nn.Sigmoid between the layers"
_MIXES_ROWS = Verdict(
    ProblemKind.NEVER,
    "computes statistics over the rows of a batch, which would mix the rows of different institutions",
    "remove it: features are scaled by their public ranges already; or fold a trained one into the nn.Linear before it",
)
_RECURRENT = Verdict(ProblemKind.NOT_YET, "recurrent layers are not supported", "use nn.Linear layers on a fixed width")
_ACTIVATION = Verdict(ProblemKind.NOT_YET, "this activation is not supported", _USE_SIGMOID)
_CONVOLUTION = Verdict(ProblemKind.NOT_YET, "convolutions and pooling are not supported", "use nn.Linear on flat features")
_SOFTMAX = Verdict(
    ProblemKind.REPLACE,
    "softmax over two classes is one sigmoid with twice the exchange of messages",
    "end with nn.Linear(..., 1) and nn.Sigmoid",
)
_NORMALISATION = Verdict(ProblemKind.NOT_YET, "normalisation by a row's own mean is not supported", "remove it")
_EMBEDDING = Verdict(ProblemKind.NOT_YET, "looking up a secret index is not supported", "give one feature per category")
_LAZY = Verdict(ProblemKind.MISCONFIGURED, "its shape is not fixed yet", "use nn.Linear with both widths given")
_ATTENTION = Verdict(ProblemKind.NOT_YET, "attention is not supported", "use nn.Linear layers on a fixed width")
_SCRIPT = Verdict(ProblemKind.MISCONFIGURED, "a compiled module cannot be read back", "pass the nn.Module it was made from")
_PARALLEL = Verdict(ProblemKind.MISCONFIGURED, "a wrapper for several devices", "pass the module that it wraps")
_SUBCLASS = Verdict(ProblemKind.REPLACE, "a subclass of nn.Linear may compute something else", "use nn.Linear itself")
_DROPOUT = Verdict(
    ProblemKind.MISCONFIGURED,
    "dropout would need joint randomness in every step; it is exported only where it does nothing",
    "call model.eval() before the export, or remove it",
)
_FLATTEN = Verdict(ProblemKind.NEVER, "joins different rows into one", "flatten from dimension 1: nn.Flatten()")
_UNKNOWN = Verdict(ProblemKind.NOT_YET, "not on the list of operators", "use nn.Linear and nn.Sigmoid")

# The first match counts, so that a class stands before its bases.
_MODULES: tuple[tuple[tuple[type, ...], Verdict], ...] = (
    ((nn.LazyLinear, nn.modules.lazy.LazyModuleMixin), _LAZY),
    ((nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm), _MIXES_ROWS),
    ((nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm), _NORMALISATION),
    ((nn.RNNBase, nn.RNNCellBase), _RECURRENT),
    ((nn.MultiheadAttention, nn.Transformer, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer), _ATTENTION),
    ((nn.Softmax, nn.LogSoftmax, nn.Softmax2d, nn.Softmin), _SOFTMAX),
    ((nn.Embedding, nn.EmbeddingBag), _EMBEDDING),
    ((nn.modules.conv._ConvNd, nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool2d), _CONVOLUTION),
    ((nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Softplus, nn.Hardsigmoid), _ACTIVATION),
    ((torch.jit.ScriptModule,), _SCRIPT),
    ((nn.DataParallel,), _PARALLEL),
    ((nn.Linear,), _SUBCLASS),
)

_SHAPING = Verdict(
    ProblemKind.REPLACE,
    "changes the shape; a model keeps (batch, features) throughout",
    "remove it; a binary classifier ends with one output feature, (batch, 1)",
)
_ARITHMETIC = Verdict(
    ProblemKind.REPLACE, "arithmetic written out is not on the list of operators", "express it as one nn.Linear"
)
_READS = Verdict(
    ProblemKind.NEVER,
    "reads a value or a size of its input, which nobody knows while the model runs",
    "remove it: use the sizes of the layers",
)
_FUNCTIONS: tuple[tuple[frozenset[str], Verdict], ...] = (
    (frozenset({"relu", "relu_", "relu6", "leaky_relu", "elu", "gelu", "silu", "tanh", "softplus", "hardsigmoid"}), _ACTIVATION),
    (frozenset({"softmax", "log_softmax", "softmin"}), _SOFTMAX),
    (frozenset({"batch_norm", "instance_norm"}), _MIXES_ROWS),
    (frozenset({"layer_norm", "group_norm", "normalize"}), _NORMALISATION),
    (frozenset({"conv1d", "conv2d", "conv3d", "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"}), _CONVOLUTION),
    (frozenset({"squeeze", "unsqueeze", "view", "reshape", "permute", "transpose", "t", "flatten", "ravel"}), _SHAPING),
    (frozenset({"getitem", "narrow", "chunk", "split", "cat", "concat", "stack"}), _SHAPING),
    (frozenset({"add", "sub", "mul", "truediv", "matmul", "mm", "addmm", "linear", "neg", "iadd", "imul"}), _ARITHMETIC),
    (frozenset({"getattr", "size", "dim", "numel", "item", "tolist", "numpy", "max", "argmax", "gt", "lt", "where"}), _READS),
)


def dropped(module: nn.Module) -> bool:
    """Says whether a module computes the identity on (batch, features) rows, so that the export leaves it out.

    These are `nn.Identity`, `nn.Flatten` from dimension 1, and dropout that is switched off (`eval()` or p = 0).
    """
    if type(module) is nn.Flatten:
        return _keeps_rows(module.start_dim, module.end_dim)
    if type(module) in (nn.Dropout, nn.AlphaDropout):
        return not module.training or float(getattr(module, "p", 1.0)) == 0.0
    return type(module) is nn.Identity


def module_verdict(module: nn.Module) -> Verdict | None:
    """Returns the verdict on a leaf module, or None where it is accepted."""
    if type(module) in (LINEAR, SIGMOID) or dropped(module):
        return None
    if torch.nn.utils.parametrize.is_parametrized(module):
        return Verdict(ProblemKind.MISCONFIGURED, "its weights are computed by a parametrisation", "remove the parametrisation")
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return _DROPOUT
    if isinstance(module, nn.Flatten):
        return _FLATTEN
    name = type(module).__name__
    for classes, verdict in _MODULES:
        if isinstance(module, classes):
            return Verdict(verdict.kind, f"{name}: {verdict.what}", verdict.remedy)
    return Verdict(_UNKNOWN.kind, f"{name}: {_UNKNOWN.what}", _UNKNOWN.remedy)


def function_name(target: object) -> str:
    """Returns the name under which a function, or the name of a method, stands in the table."""
    return target if isinstance(target, str) else str(getattr(target, "__name__", "an unnamed function"))


def function_dropped(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Says whether a function call computes the identity on (batch, features) rows; `args` are those after the input."""
    if name == "flatten":
        start = args[0] if args else kwargs.get("start_dim", 0)
        end = args[1] if len(args) > 1 else kwargs.get("end_dim", -1)
        return _keeps_rows(start, end)
    if name == "dropout":
        rate = args[0] if args else kwargs.get("p", 0.5)
        training = args[1] if len(args) > 1 else kwargs.get("training", True)
        return training is False or rate == 0
    return name == "identity"


def function_verdict(name: str) -> Verdict:
    """Returns the verdict on a function or method that is not accepted."""
    if name == "dropout":
        return _DROPOUT
    for names, verdict in _FUNCTIONS:
        if name in names:
            return Verdict(verdict.kind, f"{name}: {verdict.what}", verdict.remedy)
    return Verdict(_UNKNOWN.kind, f"{name}: {_UNKNOWN.what}", _UNKNOWN.remedy)


def _keeps_rows(start: object, end: object) -> bool:
    return start in (1, -1) and end in (1, -1)
