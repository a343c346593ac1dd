"""Which torch modules and functions a model may use, and what to say about the others.

The table is the whole policy: the exporter accepts `LINEAR` and what `module_operator`, `function_operator` and `dropped` name,
and refuses everything else with the verdict found here. A verdict has one of four kinds:

- never: the operator mixes rows of different institutions, reads a value, or carries code;
- not yet: it can be computed under secret sharing, and Confide does not do so yet;
- replace: an equivalent on the list exists;
- misconfigured: the operator is right, its settings are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

import torch
from torch import nn

from protocols.errors import Problem
from protocols.model.spec import LayerKind, is_rate


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


@dataclass(frozen=True)
class Operator:
    """A layer without weights; `rate` is that of a dropout, as the manifest writes it, else empty."""

    kind: LayerKind
    rate: str = ""


LINEAR = nn.Linear
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_PLAIN_MODULES = {nn.ReLU: LayerKind.RELU, nn.Sigmoid: LayerKind.SIGMOID, nn.Tanh: LayerKind.TANH}
_PLAIN_FUNCTIONS = {
    **dict.fromkeys(("relu", "relu_"), LayerKind.RELU),
    **dict.fromkeys(("sigmoid", "sigmoid_", "expit", "special_expit"), LayerKind.SIGMOID),
    **dict.fromkeys(("tanh", "tanh_"), LayerKind.TANH),
}
_OVER_FEATURES = (1, -1)

_MIXES_ROWS = Verdict(
    ProblemKind.NEVER,
    "computes statistics over the rows of a batch, which would mix the rows of different institutions",
    "remove it: features are scaled by their public ranges already; or fold a trained one into the nn.Linear before it",
)
_RECURRENT = Verdict(ProblemKind.NOT_YET, "recurrent layers are not supported", "use nn.Linear layers on a fixed width")
_ACTIVATION = Verdict(ProblemKind.NOT_YET, "this activation is not supported", "use nn.ReLU, nn.Tanh or nn.Sigmoid")
_CONVOLUTION = Verdict(ProblemKind.NOT_YET, "convolutions and pooling are not supported", "use nn.Linear on flat features")
_SOFTMAX_DIM = Verdict(
    ProblemKind.MISCONFIGURED, "softmax runs over the features of a row", "say so with dim=1: nn.Softmax(dim=1)"
)
_LOG_SOFTMAX = Verdict(
    ProblemKind.REPLACE,
    "the cross-entropy takes the logarithm itself",
    "end with nn.Softmax(dim=1), or with the logits of the last nn.Linear",
)
_NORMALISATION = Verdict(ProblemKind.NOT_YET, "normalisation by a row's own mean is not supported", "remove it")
_EMBEDDING = Verdict(ProblemKind.NOT_YET, "looking up a secret index is not supported", "give one feature per category")
_LAZY = Verdict(ProblemKind.MISCONFIGURED, "its shape is not fixed yet", "use nn.Linear with both widths given")
_ATTENTION = Verdict(ProblemKind.NOT_YET, "attention is not supported", "use nn.Linear layers on a fixed width")
_SCRIPT = Verdict(ProblemKind.MISCONFIGURED, "a compiled module cannot be read back", "pass the nn.Module it was made from")
_PARALLEL = Verdict(ProblemKind.MISCONFIGURED, "a wrapper for several devices", "pass the module that it wraps")
_SUBCLASS = Verdict(ProblemKind.REPLACE, "a subclass of nn.Linear may compute something else", "use nn.Linear itself")
_DROPOUT_RATE = Verdict(
    ProblemKind.MISCONFIGURED,
    "the rate of a dropout is 0, or 0.01 to 0.99 with at most six places",
    "choose one, or remove the dropout",
)
_DROPOUT = Verdict(ProblemKind.REPLACE, "drops whole groups of values, or shifts what it keeps", "use nn.Dropout")
_FLATTEN = Verdict(ProblemKind.NEVER, "joins different rows into one", "flatten from dimension 1: nn.Flatten()")
_UNKNOWN = Verdict(ProblemKind.NOT_YET, "not on the list of operators", "use nn.Linear with nn.ReLU, nn.Tanh or nn.Sigmoid")

# The first match counts, so that a class stands before its bases.
_MODULES: tuple[tuple[tuple[type, ...], Verdict], ...] = (
    ((nn.LazyLinear, nn.modules.lazy.LazyModuleMixin), _LAZY),
    ((nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm), _MIXES_ROWS),
    ((nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm), _NORMALISATION),
    ((nn.RNNBase, nn.RNNCellBase), _RECURRENT),
    ((nn.MultiheadAttention, nn.Transformer, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer), _ATTENTION),
    ((nn.Softmax,), _SOFTMAX_DIM),
    ((nn.LogSoftmax, nn.Softmax2d, nn.Softmin), _LOG_SOFTMAX),
    ((nn.Dropout,), _DROPOUT_RATE),
    ((nn.modules.dropout._DropoutNd,), _DROPOUT),
    ((nn.Flatten,), _FLATTEN),
    ((nn.Embedding, nn.EmbeddingBag), _EMBEDDING),
    ((nn.modules.conv._ConvNd, nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool2d), _CONVOLUTION),
    ((nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Softplus), _ACTIVATION),
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
    (frozenset({"relu6", "leaky_relu", "elu", "gelu", "silu", "softplus", "hardsigmoid", "hardtanh"}), _ACTIVATION),
    (frozenset({"softmax"}), _SOFTMAX_DIM),
    (frozenset({"log_softmax", "softmin"}), _LOG_SOFTMAX),
    (frozenset({"dropout"}), _DROPOUT_RATE),
    (frozenset({"alpha_dropout", "feature_alpha_dropout", "dropout1d", "dropout2d", "dropout3d"}), _DROPOUT),
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

    These are `nn.Identity`, `nn.Flatten` from dimension 1, and dropout with p = 0. Whether the module is in training mode does
    not matter: a job says whether a model is trained, and dropout works in training alone.
    """
    if type(module) is nn.Flatten:
        return _keeps_rows(module.start_dim, module.end_dim)
    if type(module) in (nn.Dropout, nn.AlphaDropout):
        return float(getattr(module, "p", 1.0)) == 0.0
    return type(module) is nn.Identity


def module_operator(module: nn.Module) -> Operator | None:
    """Returns the operator that a module without weights is, or None if it is none on the list."""
    if type(module) is nn.Softmax:
        return Operator(LayerKind.SOFTMAX) if module.dim in _OVER_FEATURES else None
    if type(module) is nn.Dropout:
        return _dropout(module.p)
    kind = _PLAIN_MODULES.get(type(module))
    return None if kind is None else Operator(kind)


def module_verdict(module: nn.Module) -> Verdict | None:
    """Returns the verdict on a leaf module, or None where it is accepted."""
    if type(module) is LINEAR or dropped(module) or module_operator(module) is not None:
        return None
    if torch.nn.utils.parametrize.is_parametrized(module):
        return Verdict(ProblemKind.MISCONFIGURED, "its weights are computed by a parametrisation", "remove the parametrisation")
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
        rate, training = _dropout_arguments(args, kwargs)
        return training is False or rate == 0
    return name == "identity"


def function_operator(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Operator | None:
    """Returns the operator that a function call is, or None if it is none on the list; `args` are those after the input."""
    if name == "softmax":
        over = args[0] if args else kwargs.get("dim")
        return Operator(LayerKind.SOFTMAX) if over in _OVER_FEATURES and kwargs.get("dtype") is None else None
    if name == "dropout":
        return _dropout(_dropout_arguments(args, kwargs)[0])
    kind = _PLAIN_FUNCTIONS.get(name)
    return None if kind is None else Operator(kind)


def function_verdict(name: str) -> Verdict:
    """Returns the verdict on a function or method that is not accepted."""
    for names, verdict in _FUNCTIONS:
        if name in names:
            return Verdict(verdict.kind, f"{name}: {verdict.what}", verdict.remedy)
    return Verdict(_UNKNOWN.kind, f"{name}: {_UNKNOWN.what}", _UNKNOWN.remedy)


def _keeps_rows(start: object, end: object) -> bool:
    return start in (1, -1) and end in (1, -1)


def _dropout_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[object, object]:
    rate = args[0] if args else kwargs.get("p", 0.5)
    return rate, args[1] if len(args) > 1 else kwargs.get("training", True)


def _dropout(rate: object) -> Operator | None:
    if not isinstance(rate, int | float) or not math.isfinite(rate):
        return None
    text = format(Decimal(repr(float(rate))), "f")
    return Operator(LayerKind.DROPOUT, text) if is_rate(text) else None
