"""CrypTen's table of differentiable functions, cut down to what `SharedTensor` offers."""

from __future__ import annotations

import importlib
from typing import Any

from protocols.mpc.tensor.shared_tensor import SUPPORTED, SharedTensor, register

_gradients: Any = importlib.import_module("crypten.gradients")


class MatMul(_gradients.AutogradFunction):  # type: ignore[misc]
    """Matrix product whose backward pass leaves out gradients that nobody asked for.

    The shipped one also multiplies the gradient with the weights to get the gradient of the data, which has no use and would
    open the weights' mask against one more value.
    """

    @staticmethod
    def forward(ctx: Any, left: SharedTensor, right: SharedTensor) -> SharedTensor:
        """Returns left times right."""
        ctx.save_multiple_for_backward([left, right])
        return left.matmul(right)

    @staticmethod
    def backward(ctx: Any, gradient: SharedTensor) -> tuple[SharedTensor, SharedTensor]:
        """Returns the gradients; a placeholder for an operand that needs none."""
        left, right = ctx.saved_tensors
        return (
            gradient.matmul(right.t()) if left.requires_grad else gradient,
            left.t().matmul(gradient) if right.requires_grad else gradient,
        )


def install() -> None:
    """Registers the tensor type and its functions; every other differentiable function of CrypTen is removed."""
    register()
    table: dict[str, Any] = _gradients.FUNCTION_REGISTRY
    for name in [name for name in table if name not in SUPPORTED or name == "matmul"]:
        del table[name]
    _gradients.register_function("matmul")(MatMul)
