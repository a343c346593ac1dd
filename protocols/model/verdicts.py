"""What is said of modules and functions that a model may not use.

A verdict has one of four kinds:

- never: the operator mixes rows of different institutions, reads a value, or carries code;
- not yet: it can be computed under secret sharing, and Confide does not do so yet;
- replace: an equivalent on the list exists;
- misconfigured: the operator is right, its settings are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

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

    def named(self, name: str) -> Verdict:
        """Returns the verdict with the name of what it is about before it."""
        return Verdict(self.kind, f"{name}: {self.what}", self.remedy)


_RECURRENT = Verdict(ProblemKind.NOT_YET, "recurrent layers are not supported", "use nn.Linear or nn.Conv1d on a fixed length")
_ACTIVATION = Verdict(
    ProblemKind.NOT_YET, "this activation is not supported", "use nn.ReLU, nn.LeakyReLU, nn.GELU, nn.Tanh or nn.Sigmoid"
)
_GELU = Verdict(ProblemKind.MISCONFIGURED, "only the exact GELU is computed", "say so: nn.GELU(approximate='none')")
_CONVOLUTION = Verdict(
    ProblemKind.NOT_YET, "transposed and three-dimensional convolutions are not supported", "use nn.Conv1d or nn.Conv2d"
)
_POOL = Verdict(ProblemKind.NOT_YET, "this pool is not supported", "use a max, average or adaptive average pool of 1 or 2 dims")
_SOFTMAX_DIM = Verdict(
    ProblemKind.MISCONFIGURED, "softmax runs over the features of a row", "say so with dim=1: nn.Softmax(dim=1)"
)
_LOG_SOFTMAX = Verdict(
    ProblemKind.REPLACE,
    "the cross-entropy takes the logarithm itself",
    "end with nn.Softmax(dim=1), or with the logits of the last nn.Linear",
)
_NORMALISATION = Verdict(
    ProblemKind.NOT_YET, "this normalisation is not supported", "use nn.BatchNorm1d, nn.BatchNorm2d or nn.LayerNorm"
)
_SYNCHRONISED = Verdict(
    ProblemKind.REPLACE, "a batch norm for several devices, or for three dimensions", "use nn.BatchNorm1d or nn.BatchNorm2d"
)
_EMBEDDING_BAG = Verdict(ProblemKind.NOT_YET, "bags of indices are not supported", "use nn.Embedding on a one-hot input")
_LAZY = Verdict(ProblemKind.MISCONFIGURED, "its shape is not fixed yet", "give all its sizes")
_ATTENTION = Verdict(ProblemKind.NOT_YET, "attention is not supported", "use nn.Linear layers on a fixed width")
_SCRIPT = Verdict(ProblemKind.MISCONFIGURED, "a compiled module cannot be read back", "pass the nn.Module it was made from")
_PARALLEL = Verdict(ProblemKind.MISCONFIGURED, "a wrapper for several devices", "pass the module that it wraps")
_SUBCLASS = Verdict(ProblemKind.REPLACE, "a subclass of a torch layer may compute something else", "use the torch layer itself")
_DROPOUT_RATE = Verdict(
    ProblemKind.MISCONFIGURED,
    "the rate of a dropout is 0, or 0.01 to 0.99 with at most six places",
    "choose one, or remove the dropout",
)
_DROPOUT = Verdict(ProblemKind.REPLACE, "drops whole groups of values, or shifts what it keeps", "use nn.Dropout")
_FLATTEN = Verdict(
    ProblemKind.NEVER, "joins different rows into one, or keeps some dimensions", "flatten from dimension 1: nn.Flatten()"
)
_UNKNOWN = Verdict(ProblemKind.NOT_YET, "not on the list of operators", "use the operators of docs/models.md")

# The first match counts, so that a class stands before its bases.
_MODULES: tuple[tuple[tuple[type, ...], Verdict], ...] = (
    ((nn.LazyLinear, nn.modules.lazy.LazyModuleMixin), _LAZY),
    ((nn.SyncBatchNorm, nn.BatchNorm3d), _SYNCHRONISED),
    ((nn.modules.instancenorm._InstanceNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm), _NORMALISATION),
    ((nn.RNNBase, nn.RNNCellBase), _RECURRENT),
    ((nn.MultiheadAttention, nn.Transformer, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer), _ATTENTION),
    ((nn.Softmax,), _SOFTMAX_DIM),
    ((nn.LogSoftmax, nn.Softmax2d, nn.Softmin), _LOG_SOFTMAX),
    ((nn.Dropout,), _DROPOUT_RATE),
    ((nn.modules.dropout._DropoutNd,), _DROPOUT),
    ((nn.Flatten,), _FLATTEN),
    ((nn.EmbeddingBag,), _EMBEDDING_BAG),
    ((nn.modules.conv._ConvTransposeNd, nn.Conv3d), _CONVOLUTION),
    ((nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd), _POOL),
    ((nn.modules.pooling._AdaptiveMaxPoolNd, nn.modules.pooling._LPPoolNd, nn.FractionalMaxPool2d), _POOL),
    ((nn.GELU,), _GELU),
    ((nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SiLU, nn.Tanh, nn.Softplus), _ACTIVATION),
    ((torch.jit.ScriptModule,), _SCRIPT),
    ((nn.DataParallel,), _PARALLEL),
    ((nn.Linear, nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.Embedding), _SUBCLASS),
)

_SHAPING = Verdict(
    ProblemKind.REPLACE,
    "changes the shape; all that may do so is flattening every row",
    "use nn.Flatten(), or remove it; a binary classifier ends with one output feature, (batch, 1)",
)
_ARITHMETIC = Verdict(
    ProblemKind.REPLACE, "arithmetic written out is not on the list of operators", "express it as one nn.Linear"
)
_ADDITION = Verdict(
    ProblemKind.REPLACE, "adds something else than two results of layers", "express it as the bias of an nn.Linear"
)
_READS = Verdict(
    ProblemKind.NEVER,
    "reads a value or a size of its input, which nobody knows while the model runs",
    "remove it: use the sizes of the layers",
)
_AS_MODULE = Verdict(ProblemKind.REPLACE, "takes its weights as arguments", "use the torch layer of that name")
_FUNCTIONS: tuple[tuple[frozenset[str], Verdict], ...] = (
    (frozenset({"relu6", "leaky_relu", "elu", "silu", "softplus", "hardsigmoid", "hardtanh", "prelu"}), _ACTIVATION),
    (frozenset({"gelu"}), _GELU),
    (frozenset({"softmax"}), _SOFTMAX_DIM),
    (frozenset({"log_softmax", "softmin"}), _LOG_SOFTMAX),
    (frozenset({"dropout"}), _DROPOUT_RATE),
    (frozenset({"alpha_dropout", "feature_alpha_dropout", "dropout1d", "dropout2d", "dropout3d"}), _DROPOUT),
    (frozenset({"batch_norm", "layer_norm", "conv1d", "conv2d", "linear", "embedding"}), _AS_MODULE),
    (frozenset({"instance_norm", "group_norm", "normalize", "rms_norm"}), _NORMALISATION),
    (frozenset({"conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}), _CONVOLUTION),
    (frozenset({"max_pool3d", "avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "lp_pool2d"}), _POOL),
    (
        frozenset({"squeeze", "unsqueeze", "view", "reshape", "permute", "transpose", "t", "flatten", "ravel", "unflatten"}),
        _SHAPING,
    ),
    (frozenset({"getitem", "narrow", "chunk", "split", "cat", "concat", "stack"}), _SHAPING),
    (frozenset({"add", "add_", "iadd"}), _ADDITION),
    (frozenset({"sub", "mul", "truediv", "matmul", "mm", "addmm", "neg", "imul", "isub", "radd", "mean", "sum"}), _ARITHMETIC),
    (frozenset({"getattr", "size", "dim", "numel", "item", "tolist", "numpy", "max", "argmax", "gt", "lt", "where"}), _READS),
)


def refused_module(module: nn.Module) -> Verdict:
    """Returns the verdict on a torch module that is no operator of the list."""
    name = type(module).__name__
    return next((verdict for classes, verdict in _MODULES if isinstance(module, classes)), _UNKNOWN).named(name)


def refused_function(name: str) -> Verdict:
    """Returns the verdict on a function or method that is no operator of the list."""
    return next((verdict for names, verdict in _FUNCTIONS if name in names), _UNKNOWN).named(name)
