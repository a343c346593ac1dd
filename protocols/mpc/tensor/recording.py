"""Puts operations on CrypTen's autograd tape: by descriptors, so that no attribute of a shared tensor is looked up in Python.

CrypTen looks every attribute of a tensor up in its table of functions; a step of a training reads thousands of them. Here only
an operation with a gradient asks whether autograd is on. What is recorded, CrypTen's `backward` plays back.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from types import MethodType
from typing import Any

from protocols.mpc.tensor.seal import AUTOGRAD

_Context: Any = importlib.import_module("crypten.gradients").AutogradContext
_ON: ContextVar[bool] = AUTOGRAD


class Recorded:
    """An operation with a gradient, as an attribute of the tensor class.

    Args:
        function: the operation; its first operand is the tensor, unless it is static.
        gradient: CrypTen's pair of forward and backward for it.
        is_static: whether the tensor that it is asked of takes no part, as with a join of tensors.
    """

    __slots__ = ("_function", "_gradient", "_is_static")

    def __init__(self, function: Callable[..., Any], gradient: Any, *, is_static: bool) -> None:
        self._function = function
        self._gradient = gradient
        self._is_static = is_static

    def __get__(self, tensor: Any, _owner: type | None = None) -> Callable[..., Any]:
        """Returns the operation itself where autograd is off, and otherwise what records it."""
        if tensor is None:
            return self._function
        if _ON.get():
            record = partial(self._record, type(tensor))
            return record if self._is_static else partial(record, tensor)
        return self._function if self._is_static else MethodType(self._function, tensor)

    def _record(self, kind: type, *operands: Any, **keywords: Any) -> Any:
        token = _ON.set(False)
        try:
            children = list(_tensors(kind, operands))
            if not any(child.requires_grad for child in children):
                return self._function(*operands, **keywords)
            context = _Context()
            result = self._gradient.forward(context, *operands, **keywords)
        finally:
            _ON.reset(token)
        for part in result if isinstance(result, tuple) else (result,):
            part.requires_grad = context.is_differentiable(part)
            if part.requires_grad:
                part.children, part.grad_fn, part.ctx = children, self._gradient, context
        return result


class InPlace:
    """An operation and an assignment of its result to the tensor; refused on the autograd tape.

    Args:
        name: of the operation.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, tensor: Any, owner: type | None = None) -> Callable[..., Any]:
        """Returns the operation, which returns the tensor."""
        if tensor is None:
            return partial(_assign, self._name)
        if tensor.requires_grad and _ON.get():
            raise RuntimeError("Autograd is not supported for in-place functions.")
        return partial(_assign, self._name, tensor)


def _assign(name: str, tensor: Any, *operands: Any, **keywords: Any) -> Any:
    return tensor.copy_(getattr(tensor, name)(*operands, **keywords))


def _tensors(kind: type, operands: Any) -> Iterator[Any]:
    for operand in operands:
        if isinstance(operand, kind):
            yield operand
        elif isinstance(operand, list | tuple):
            yield from _tensors(kind, operand)
