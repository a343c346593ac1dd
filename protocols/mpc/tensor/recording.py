"""Autograd as CrypTen's, without its price: records operations by descriptors, and plays them back.

CrypTen looks every attribute of a tensor up in its table of functions; a step of a training reads thousands of them. Here only
an operation with a gradient asks whether autograd is on. Its `backward` switches autograd off and on at every node; ours does
so once. Order, gradients and what is kept of them are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import partial
from types import MethodType
from typing import Any

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.tensor.seal import AUTOGRAD

_ON: ContextVar[bool] = AUTOGRAD


class Context:
    """What an operation keeps for its gradient; stands in for CrypTen's `AutogradContext`.

    Attributes:
        saved_tensors: what was saved, in order.
    """

    __slots__ = ("_constants", "saved_tensors")

    def __init__(self) -> None:
        self.saved_tensors: list[Any] = []
        self._constants: list[Any] = []

    def save_for_backward(self, value: Any) -> None:
        """Keeps a value."""
        self.saved_tensors.append(value)

    def save_multiple_for_backward(self, values: Iterable[Any]) -> None:
        """Keeps several values."""
        self.saved_tensors.extend(values)

    def mark_non_differentiable(self, tensor: Any) -> None:
        """Says that a tensor, or a list of them, gets no gradient."""
        self._constants.extend(tensor if isinstance(tensor, list) else [tensor])

    def is_differentiable(self, tensor: Any) -> bool:
        """Whether a tensor gets a gradient."""
        return not any(tensor is constant for constant in self._constants)

    def differentiable(self, tensors: Sequence[Any]) -> Sequence[Any]:
        """Returns the tensors that get a gradient."""
        return [tensor for tensor in tensors if self.is_differentiable(tensor)] if self._constants else tensors


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
        if not _ON.get():
            return self._function if self._is_static else MethodType(self._function, tensor)
        return partial(self._record, type(tensor)) if self._is_static else partial(self._record, type(tensor), tensor)

    def _record(self, kind: type, *operands: Any, **keywords: Any) -> Any:
        token = _ON.set(False)
        try:
            children = _tensors(kind, operands)
            if not any(child.requires_grad for child in children):
                return self._function(*operands, **keywords)
            context = Context()
            result = self._gradient.forward(context, *operands, **keywords)
        finally:
            _ON.reset(token)
        for part in context.differentiable(result if isinstance(result, tuple) else (result,)):
            part.requires_grad = True
            part.children, part.grad_fn, part.ctx = children, self._gradient, context
        return result


def play_back(tensor: Any, grad_input: Any = None) -> None:
    """Computes the gradients of everything that a tensor was made from, and adds them to those that the leaves have.

    Args:
        tensor: a result; its operations are forgotten.
        grad_input: the gradient to start with, of the tensor's shape; 1 if it has one element.

    Raises:
        RuntimeError: (the program's author's fault) there is no such default.
        ValueError: likewise; a tensor that no operation made.
    """
    if not tensor.requires_grad:
        return
    token = _ON.set(False)
    try:
        if grad_input is None:
            if tensor.nelement() != 1:
                raise RuntimeError("a gradient to start with is only implied for one element")
            grad_input = type(tensor).ones(tensor.shape)
        _expect(tensor)
        # A leaf may keep what it receives as its gradient, and that may be changed in place.
        _receive(tensor, grad_input.clone())
    finally:
        _ON.reset(token)


def _expect(tensor: Any) -> None:
    """Counts for every tensor how many gradients it gets."""
    tensor.grad_expected += 1
    if tensor.grad_expected == 1:
        for child in tensor.children:
            _expect(child)


def _receive(tensor: Any, gradient: Any) -> None:
    tensor.grad_received += 1
    tensor.grad = gradient if tensor.grad is None else tensor.grad.add(gradient)
    if not tensor.children or tensor.grad_received < tensor.grad_expected:
        return
    if tensor.grad_fn is None:
        raise ValueError("a gradient of a tensor that no operation made")
    context = tensor.ctx
    found = tensor.grad_fn.backward(context, tensor.grad)
    asking = context.differentiable(tensor.children)
    # What it keeps goes at once.
    tensor.ctx = None
    parts = found if isinstance(found, list | tuple) else (found,)
    if len(asking) > len(parts):
        raise ConfideError(ErrorCode.INTERNAL, "an operation with fewer gradients than operands")
    for child, part in zip(asking, parts, strict=False):
        if child.requires_grad:
            _receive(child, part)
    if asking:
        tensor.grad = None
    tensor.children = ()
    tensor.grad_expected = tensor.grad_received = 0


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


def _tensors(kind: type, operands: Any) -> list[Any]:
    found = []
    for operand in operands:
        if isinstance(operand, kind):
            found.append(operand)
        elif isinstance(operand, list | tuple):
            found += _tensors(kind, operand)
    return found
