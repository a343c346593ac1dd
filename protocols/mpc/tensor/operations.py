"""The closed list of operations of shared tensors, and the refusal by name of every other one.

docs/tensors.md says what each does; a test compares the page with this table.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from protocols.mpc.tensor import (
    activations,
    arithmetic,
    comparisons,
    convolution,
    losses,
    nonlinear,
    normalising,
    pooling,
    reductions,
    shapes,
)
from protocols.mpc.tensor.loader import crypten
from protocols.mpc.tensor.recording import InPlace, Recorded, play_back
from protocols.mpc.tensor.shared_tensor import TYPE_NAME, SharedTensor, refused, wrapped

_gradients: Any = importlib.import_module("crypten.gradients")

METHODS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "abs": comparisons.absolute,
        "add": arithmetic.add,
        "affine": arithmetic.affine,
        "argmax": comparisons.argmax,
        "argmin": comparisons.argmin,
        "binary_cross_entropy": losses.binary_cross_entropy,
        "binary_cross_entropy_with_logits": losses.binary_cross_entropy_with_logits,
        "convolve": convolution.convolve,
        "cross_entropy": losses.cross_entropy,
        "cumsum": shapes.cumsum,
        "diagonal": shapes.diagonal,
        "div": arithmetic.div,
        "dot": reductions.dot,
        "dropout": nonlinear.dropout,
        "eq": comparisons.eq,
        "exp": nonlinear.exp,
        "expand": shapes.expand,
        "flatten": shapes.flatten,
        "flip": shapes.flip,
        "fold": shapes.fold,
        "ge": comparisons.ge,
        "gelu": activations.gelu,
        "ger": reductions.ger,
        "gt": comparisons.gt,
        "hardtanh": reductions.hardtanh,
        "index_select": shapes.index_select,
        "inv_sqrt": nonlinear.inv_sqrt,
        "keep": nonlinear.keep,
        "largest_of_rows": comparisons.largest_of_rows,
        "le": comparisons.le,
        "leaky_relu": activations.leaky_relu,
        "log": nonlinear.log,
        "log_softmax": nonlinear.log_softmax,
        "log_softmax_of_rows": nonlinear.log_softmax_of_rows,
        "lt": comparisons.lt,
        "map_planes": pooling.map_planes,
        "matmul": reductions.matmul,
        "max": comparisons.max_,
        "max_pool": pooling.max_pool,
        "mean": reductions.mean,
        "min": comparisons.min_,
        "mul": arithmetic.mul,
        "multiply_matrices": arithmetic.multiply_matrices,
        "narrow": shapes.narrow,
        "ne": comparisons.ne,
        "neg": arithmetic.neg,
        "norm": reductions.norm,
        "normalise": normalising.normalise,
        "permute": shapes.permute,
        "pow": arithmetic.power,
        "rearrange": shapes.rearrange,
        "reciprocal": nonlinear.reciprocal_,
        "relu": lambda self: comparisons.rectify(self).kept,
        "relu6": reductions.relu6,
        "repeat": shapes.repeat,
        "reshape": shapes.reshape,
        "roll": shapes.roll,
        "sigmoid": nonlinear.sigmoid,
        "sign": comparisons.sign,
        "softmax": nonlinear.softmax,
        "softmax_of_rows": nonlinear.softmax_of_rows,
        "split": shapes.split,
        "sqrt": nonlinear.sqrt,
        "square": arithmetic.square,
        "squeeze": shapes.squeeze,
        "sub": arithmetic.sub,
        "sum": shapes.add_up,
        "t": shapes.t,
        "tanh": nonlinear.tanh,
        "trace": shapes.trace,
        "transpose": shapes.transpose,
        "unbind": shapes.unbind,
        "unsqueeze": shapes.unsqueeze,
        "var": reductions.var,
        "view": shapes.reshape,
        "where": comparisons.where,
        # What Python's operators call.
        "rdiv": arithmetic.rdiv,
        "rsub": arithmetic.rsub,
        "take_item": shapes.take_item,
    }
)
STATIC: Mapping[str, Callable[..., Any]] = MappingProxyType({"cat": shapes.concatenate, "stack": reductions.stack})
OPERATORS: Mapping[str, str] = MappingProxyType(
    {
        "__abs__": "abs",
        "__add__": "add",
        "__radd__": "add",
        "__sub__": "sub",
        "__rsub__": "rsub",
        "__mul__": "mul",
        "__rmul__": "mul",
        "__truediv__": "div",
        "__rtruediv__": "rdiv",
        "__matmul__": "matmul",
        "__neg__": "neg",
        "__pow__": "pow",
        "__getitem__": "take_item",
        "__lt__": "lt",
        "__le__": "le",
        "__gt__": "gt",
        "__ge__": "ge",
        "__eq__": "eq",
        "__ne__": "ne",
    }
)
# What a public torch tensor to the left of an operator means, and torch's own joins: its name in torch, ours.
_FROM_TORCH: Mapping[str, str] = MappingProxyType(
    {"add": "add", "__add__": "add", "mul": "mul", "__mul__": "mul", "sub": "sub", "__sub__": "sub"}
    | {"div": "div", "__truediv__": "div", "true_divide": "div", "matmul": "matmul", "__matmul__": "matmul"}
)
# What CrypTen's autograd and its modules reach beside our own methods.
_KEPT = frozenset(
    {"backward", "detach", "detach_", "new", "no_grad", "enable_grad", "set_grad_enabled", "register_cryptensor", "shape", "set"}
    | {"AUTOGRAD_ENABLED", "FUNCTION_OVERRIDES", "PROTECTED_ATTRIBUTES", "PYTHON_BUILTIN", "REQUIRED_FUNCTIONS"}
)
# Openings, what would call them, and assignment in place.
_NEVER = ("get_plain_text", "plain_text", "decrypt", "reveal", "_ltz", "__setitem__", "_feature_dropout")


def refused_names() -> tuple[str, ...]:
    """Returns the names of CrypTen's operations that are refused, sorted."""
    return tuple(sorted(name for name in vars(SharedTensor) if getattr(vars(SharedTensor)[name], "is_refusal", False)))


def register(known_functions: Iterable[str]) -> None:
    """Gives `SharedTensor` its operations and makes it CrypTen's only tensor type.

    Args:
        known_functions: names that CrypTen's autograd knew; what we lack of them is refused by name.
    """
    for name, function in METHODS.items():
        setattr(SharedTensor, name, function)
    for name, function in STATIC.items():
        setattr(SharedTensor, name, staticmethod(function))
    for operator, name in OPERATORS.items():
        setattr(SharedTensor, operator, _calling(name))
    for name, gradient in _gradients.FUNCTION_REGISTRY.items():
        operation = vars(SharedTensor)[name]
        is_static = isinstance(operation, staticmethod)
        setattr(SharedTensor, name, Recorded(operation.__func__ if is_static else operation, gradient, is_static=is_static))
    for name in METHODS:
        setattr(SharedTensor, f"{name}_", InPlace(name))
    SharedTensor.backward = play_back
    SharedTensor.__torch_function__ = classmethod(_torch_function)
    SharedTensor.__len__ = lambda self: int(self.size(0))
    ours = {name for kind in SharedTensor.__mro__[:1] for name in vars(kind)} | _KEPT
    of_crypten = {name for kind in (crypten.CrypTensor, crypten.mpc.MPCTensor) for name in dir(kind) if not name.startswith("_")}
    for name in sorted((of_crypten | set(known_functions) | set(_NEVER)) - ours):
        # An operation in place ends in _, and is the operation and an assignment.
        if not (name.endswith("_") and name[:-1] in ours):
            setattr(SharedTensor, name, _refusing(name))
    _register_type()


def _torch_function(_cls: type, function: Any, _types: Any, operands: Any = (), keywords: Any = None) -> Any:
    """What torch calls when one of its functions meets a shared tensor."""
    name = getattr(function, "__name__", str(function))
    if name in STATIC:
        return getattr(SharedTensor, name)(list(operands[0]), *operands[1:], **(keywords or {}))
    if name not in _FROM_TORCH or keywords or len(operands) != 2:
        raise refused(f"torch.{name}")
    return getattr(wrapped(operands[0]), _FROM_TORCH[name])(operands[1])


def _register_type() -> None:
    crypten.register_cryptensor(TYPE_NAME)(SharedTensor)
    crypten.set_default_cryptensor_type(TYPE_NAME)
    types = crypten.CrypTensor.__CRYPTENSOR_TYPES__
    for name in [name for name in types if name != TYPE_NAME]:
        del types[name]


def _calling(name: str) -> Callable[..., Any]:
    def call(self: SharedTensor, *operands: Any) -> Any:
        # By attribute, which is where autograd looks on.
        return getattr(self, name)(*operands)

    return call


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refuse(*_args: object, **_kwargs: object) -> NoReturn:
        raise refused(name)

    refuse.is_refusal = True  # type: ignore[attr-defined]
    return refuse
