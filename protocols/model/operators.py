"""Which torch modules and functions a model may use, and which operator of `protocols.model.layers` each of them is.

The tables are the whole policy: the exporter accepts what `module_operator` and `function_operator` return, and refuses
everything else with the verdict found in `protocols.model.verdicts`. A function is read as the module of the same name with
the same settings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import torch
from torch import fx, nn

from protocols.model.layers import (
    MAX_PLACES,
    AdaptiveAveragePool,
    AveragePool,
    BatchNorm,
    Convolution,
    Dropout,
    Embedding,
    Flatten,
    Gelu,
    LayerNorm,
    LeakyRelu,
    Linear,
    MaxPool,
    Operator,
    Relu,
    Shape,
    Sigmoid,
    Softmax,
    Square,
    Tanh,
    is_rate,
)
from protocols.model.verdicts import ProblemKind, Verdict, refused_function, refused_module

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
# The layers that hold tensors, with the names of theirs; a batch norm's counter of batches is dropped.
_AFFINE = frozenset({"weight", "bias"})
_STATISTICS = _AFFINE | {"running_mean", "running_var", "num_batches_tracked"}
TENSORS: dict[type[nn.Module], frozenset[str]] = {
    nn.Linear: _AFFINE,
    nn.Conv1d: _AFFINE,
    nn.Conv2d: _AFFINE,
    nn.BatchNorm1d: _STATISTICS,
    nn.BatchNorm2d: _STATISTICS,
    nn.LayerNorm: _AFFINE,
    nn.Embedding: frozenset({"weight"}),
}
LAYERS = tuple(TENSORS)
_READ_WITH_SHAPE = (nn.Flatten, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
_PLAIN_FUNCTIONS: dict[str, Operator] = {
    **dict.fromkeys(("relu", "relu_"), Relu()),
    **dict.fromkeys(("sigmoid", "sigmoid_", "expit", "special_expit"), Sigmoid()),
    **dict.fromkeys(("tanh", "tanh_"), Tanh()),
    **dict.fromkeys(("square", "square_"), Square()),
}
# Functions with settings: the module that they are, and the names of their arguments after the input, in order.
_POOL_ARGUMENTS = ("kernel_size", "stride", "padding")
_MODULE_FUNCTIONS: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    "leaky_relu": (nn.LeakyReLU, ("negative_slope", "inplace")),
    "gelu": (nn.GELU, ("approximate",)),
    "max_pool1d": (nn.MaxPool1d, (*_POOL_ARGUMENTS, "dilation", "ceil_mode", "return_indices")),
    "max_pool2d": (nn.MaxPool2d, (*_POOL_ARGUMENTS, "dilation", "ceil_mode", "return_indices")),
    "avg_pool1d": (nn.AvgPool1d, (*_POOL_ARGUMENTS, "ceil_mode", "count_include_pad")),
    "avg_pool2d": (nn.AvgPool2d, (*_POOL_ARGUMENTS, "ceil_mode", "count_include_pad", "divisor_override")),
    "adaptive_avg_pool1d": (nn.AdaptiveAvgPool1d, ("output_size",)),
    "adaptive_avg_pool2d": (nn.AdaptiveAvgPool2d, ("output_size",)),
}
_OVER_FEATURES = (1, -1)


class _Refused(Exception):
    """Settings that no operator of the list has; carries what is wrong and what to do."""


def dropped(module: nn.Module) -> bool:
    """Says whether a module computes the identity, so that the export leaves it out: `nn.Identity`, and dropout with p = 0.

    Whether the module is in training mode does not matter: a job says whether a model is trained, and dropout works in
    training alone.
    """
    if type(module) in (nn.Dropout, nn.AlphaDropout):
        return float(getattr(module, "p", 1.0)) == 0.0
    return type(module) is nn.Identity


def module_operator(module: nn.Module, shape: Shape | None = None) -> Operator | Verdict:
    """Returns the operator that a torch module is, or why it is none.

    Args:
        module: one that is not `dropped`.
        shape: of a row of its input, where it is known; an adaptive pool may take sizes from it.
    """
    if nn.utils.parametrize.is_parametrized(module):
        return Verdict(ProblemKind.MISCONFIGURED, "its weights are computed by a parametrisation", "remove the parametrisation")
    read = _MODULES.get(type(module))
    if read is None:
        return refused_module(module)
    try:
        operator = read(module, shape)
    except _Refused as refused:
        what, remedy = refused.args
        return Verdict(ProblemKind.MISCONFIGURED, what, remedy).named(type(module).__name__)
    return refused_module(module) if operator is None else operator


def module_verdict(module: nn.Module) -> Verdict | None:
    """Returns what is wrong with a torch module wherever it stands; None if nothing is, or if that depends on its input."""
    if dropped(module) or type(module) in _READ_WITH_SHAPE:
        return None
    read = module_operator(module)
    return read if isinstance(read, Verdict) else None


def function_name(target: object) -> str:
    """Returns the name under which a function, or the name of a method, stands in the tables."""
    return target if isinstance(target, str) else str(getattr(target, "__name__", "an unnamed function"))


def function_dropped(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Says whether a function call computes the identity; `args` are those after the input."""
    if name == "dropout":
        rate, training = _dropout_arguments(args, kwargs)
        return training is False or rate == 0
    return name in ("identity", "contiguous")


def function_operator(
    name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], shape: Shape | None = None
) -> Operator | Verdict:
    """Returns the operator that a function of one result is, or why it is none; `args` are those after the input."""
    found: Operator | None = _PLAIN_FUNCTIONS.get(name)
    if any(isinstance(value, fx.Node) for value in (*args, *kwargs.values())):
        return refused_function(name)
    if name == "softmax":
        over = args[0] if args else kwargs.get("dim")
        converts = any(isinstance(value, torch.dtype) for value in (*args, *kwargs.values()))
        found = Softmax() if over in _OVER_FEATURES and not converts else None
    elif name == "pow":
        found = Square() if args == (2,) or dict(kwargs) == {"exponent": 2} else None
    elif name == "dropout":
        found = _dropout(_dropout_arguments(args, kwargs)[0])
    elif name == "flatten":
        start = args[0] if args else kwargs.get("start_dim", 0)
        end = args[1] if len(args) > 1 else kwargs.get("end_dim", -1)
        found = Flatten() if _joins_a_row(start, end, shape) else None
    elif name in _MODULE_FUNCTIONS:
        build, names = _MODULE_FUNCTIONS[name]
        settings = dict(zip(names, args, strict=False)) | dict(kwargs)
        try:
            return module_operator(build(**settings), shape)
        except TypeError:  # settings that torch does not take either
            return refused_function(name)
    return refused_function(name) if found is None else found


def keeps_rows(sizes: tuple[Any, ...], shape: Shape | None, *, is_batch: Callable[[Any], bool]) -> bool:
    """Says whether a `view` or `reshape` to these sizes joins all that a row holds, and leaves the rows apart.

    Args:
        sizes: the arguments.
        shape: of a row of the input; None if it is not known, and then the width is not compared.
        is_batch: whether an argument is the number of rows.
    """
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = tuple(sizes[0])
    if len(sizes) != 2:
        return False
    width = sizes[1] if shape is None else math.prod(shape)
    return (is_batch(sizes[0]) and sizes[1] in (-1, width)) or (sizes[0] == -1 and sizes[1] == width)


def _joins_a_row(start: object, end: object, shape: Shape | None) -> bool:
    last = -1 if shape is None else len(shape)
    return (start == 1 and end in (-1, last)) or (last == 1 and start in (1, -1) and end in (1, -1))


def _convolution(module: nn.Conv1d | nn.Conv2d, _shape: Shape | None) -> Operator:
    dims = len(module.kernel_size)
    if any(size != 1 for size in module.dilation):
        raise _Refused("spreads its kernel out", "leave dilation at 1")
    if module.padding_mode != "zeros":
        raise _Refused("pads with something else than zeros", "leave padding_mode at 'zeros'")
    kernel = _sizes(module.kernel_size, dims)
    if module.padding == "same" and any(size % 2 == 0 for size in kernel):
        raise _Refused("pads more on one side than on the other", "use odd kernel sizes with padding='same'")
    if isinstance(module.padding, str):
        padding = tuple(size // 2 if module.padding == "same" else 0 for size in kernel)
    else:
        padding = _sizes(module.padding, dims)
    return Convolution(module.out_channels, kernel, _sizes(module.stride, dims), padding, module.groups, module.bias is not None)


def _max_pool(module: nn.MaxPool1d | nn.MaxPool2d, _shape: Shape | None) -> Operator:
    dims = 1 if isinstance(module, nn.MaxPool1d) else 2
    if module.ceil_mode or module.return_indices or any(size != 1 for size in _sizes(module.dilation, dims)):
        raise _Refused("rounds up, gives indices or spreads its window out", "leave ceil_mode, return_indices and dilation")
    return MaxPool(*_pool(module, dims))


def _average_pool(module: nn.AvgPool1d | nn.AvgPool2d, _shape: Shape | None) -> Operator:
    dims = 1 if isinstance(module, nn.AvgPool1d) else 2
    kernel, stride, padding = _pool(module, dims)
    if module.ceil_mode or getattr(module, "divisor_override", None) is not None:
        raise _Refused("rounds up, or divides by a number of its own", "leave ceil_mode and divisor_override")
    if not module.count_include_pad and any(padding):
        raise _Refused("leaves the border out of its means", "leave count_include_pad at True")
    return AveragePool(kernel, stride, padding)


def _pool(module: Any, dims: int) -> tuple[Shape, Shape, Shape]:
    kernel = _sizes(module.kernel_size, dims)
    stride = kernel if module.stride is None else _sizes(module.stride, dims)
    return kernel, stride, _sizes(module.padding, dims)


def _adaptive(module: nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d, shape: Shape | None) -> Operator:
    dims = 1 if isinstance(module, nn.AdaptiveAvgPool1d) else 2
    size = module.output_size
    wanted = tuple(size) if isinstance(size, tuple | list) else (size,) * dims
    if None in wanted and (shape is None or len(shape) != dims + 1):
        raise _Refused("keeps a size that is not known here", "give all sizes of the result")
    known = shape[1:] if shape is not None and len(shape) == dims + 1 else (1,) * dims
    return AdaptiveAveragePool(tuple(own if place is None else int(place) for place, own in zip(wanted, known, strict=True)))


def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d, _shape: Shape | None) -> Operator:
    if not module.track_running_stats or module.running_mean is None or module.running_var is None:
        raise _Refused("keeps no running statistics, so that predictions would mix rows", "leave track_running_stats at True")
    if module.momentum is None:
        raise _Refused("averages over all batches so far", "give a momentum, as 0.1")
    # By the tensors, which is what torch computes with, and not by what was once asked for.
    if (module.weight is None) != (module.bias is None):
        raise _Refused("has a weight or a bias alone", "leave bias at True, or write affine=False")
    momentum = _setting("momentum", module.momentum, "0", "1")
    return BatchNorm(_epsilon(module.eps), momentum, module.weight is not None)


def _layer_norm(module: nn.LayerNorm, _shape: Shape | None) -> Operator:
    if module.weight is None and module.bias is not None:
        raise _Refused("has a bias alone", "leave elementwise_affine at True, or remove its bias")
    return LayerNorm(len(module.normalized_shape), _epsilon(module.eps), module.weight is not None, module.bias is not None)


def _embedding(module: nn.Embedding, _shape: Shape | None) -> Operator:
    if module.padding_idx is not None or module.max_norm is not None or module.scale_grad_by_freq:
        raise _Refused("treats some categories otherwise", "leave padding_idx, max_norm and scale_grad_by_freq")
    return Embedding(module.embedding_dim)


_MODULES: dict[type[nn.Module], Callable[[Any, Shape | None], Operator | None]] = {
    nn.Linear: lambda module, _: Linear(module.out_features, module.bias is not None),
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.MaxPool1d: _max_pool,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool1d: _average_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool1d: _adaptive,
    nn.AdaptiveAvgPool2d: _adaptive,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.Embedding: _embedding,
    nn.ReLU: lambda module, _: Relu(),
    nn.LeakyReLU: lambda module, _: LeakyRelu(_setting("negative_slope", module.negative_slope, "0", "1")),
    nn.Sigmoid: lambda module, _: Sigmoid(),
    nn.Tanh: lambda module, _: Tanh(),
    nn.GELU: lambda module, _: Gelu() if module.approximate == "none" else None,
    nn.Softmax: lambda module, _: Softmax() if module.dim in _OVER_FEATURES else None,
    nn.Dropout: lambda module, _: _dropout(module.p),
    nn.Flatten: lambda module, shape: Flatten() if _joins_a_row(module.start_dim, module.end_dim, shape) else None,
}


def _sizes(value: Any, dims: int) -> Shape:
    return tuple(int(size) for size in value) if isinstance(value, tuple | list) else (int(value),) * dims


def _epsilon(value: float) -> str:
    return _setting("eps", value, "0.00001", "1")


def _setting(name: str, value: float, low: str, high: str) -> str:
    """The number as a person would write it, with as many places as a manifest holds."""
    if not float(low) <= value <= float(high):  # false for NaN
        raise _Refused(f"has a number for {name} outside {low} to {high}", f"set {name} to {low} to {high}")
    text = _plain(value)
    if len(text.partition(".")[2]) > MAX_PLACES:
        remedy = f"round it: {name}={_plain(round(value, MAX_PLACES))}"
        raise _Refused(f"has a number for {name} with more than {MAX_PLACES} decimal places", remedy)
    return text


def _plain(value: float) -> str:
    text = format(Decimal(repr(float(value))), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _dropout_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[object, object]:
    rate = args[0] if args else kwargs.get("p", 0.5)
    return rate, args[1] if len(args) > 1 else kwargs.get("training", True)


def _dropout(rate: object) -> Operator | None:
    if not isinstance(rate, int | float) or not math.isfinite(rate):
        return None
    text = format(Decimal(repr(float(rate))), "f")
    return Dropout(text) if is_rate(text) else None
