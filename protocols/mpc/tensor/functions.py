"""What CrypTen's autograd calls for each differentiable operation: forward keeps what backward needs.

CrypTen's own functions are kept where they are sound (clone, neg, t, cumsum). The others are ours, because the shipped ones
compute gradients that nobody asked for (which would open a value once more), compare or draw randomness where we need not,
or are wrong (norm, squeeze, pow of 0, cross_entropy of a single row).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np

from protocols.mpc.tensor import activations, arithmetic, comparisons, convolution, losses, normalising, pooling
from protocols.mpc.tensor.shapes import axes_of, concatenate, gather_back, spread, sum_to
from protocols.mpc.tensor.shared_tensor import SharedTensor

_gradients: Any = importlib.import_module("crypten.gradients")

OF_CRYPTEN = ("clone", "cumsum", "neg", "t")
Forward = Callable[..., Any]
Backward = Callable[[Any, Any], Any]


def _shape(value: Any) -> tuple[int, ...]:
    return value.shape if isinstance(value, SharedTensor) else tuple(getattr(value, "shape", ()))


def _pair(left: Any, right: Any, gradients: tuple[Any, Any]) -> Any:
    """Returns one gradient for every shared operand, each summed to its operand's shape."""
    first = gradients[0] if gradients[0] is None else sum_to(gradients[0], _shape(left))
    if not isinstance(right, SharedTensor):
        return (first,)
    return first, gradients[1] if gradients[1] is None else sum_to(gradients[1], _shape(right))


def _wants(value: Any) -> bool:
    return isinstance(value, SharedTensor) and bool(value.requires_grad)


def _add_forward(ctx: Any, left: Any, right: Any) -> Any:
    ctx.save_multiple_for_backward([left, right])
    return arithmetic.add(left, right)


def _add_backward(ctx: Any, gradient: Any) -> Any:
    left, right = ctx.saved_tensors
    # No two leaves have the same tensor for their gradient: it may be changed in place.
    return _pair(left, right, (gradient, gradient.clone()))


def _sub_forward(ctx: Any, left: Any, right: Any) -> Any:
    ctx.save_multiple_for_backward([left, right])
    return left.sub(right)


def _sub_backward(ctx: Any, gradient: Any) -> Any:
    left, right = ctx.saved_tensors
    return _pair(left, right, (gradient, gradient.neg()))


def _mul_forward(ctx: Any, left: Any, right: Any) -> Any:
    ctx.save_multiple_for_backward([left, right])
    return left.mul(right)


def _mul_backward(ctx: Any, gradient: Any) -> Any:
    left, right = ctx.saved_tensors
    first = gradient.mul(right) if _wants(left) else None
    second = gradient.mul(left) if _wants(right) else None
    return _pair(left, right, (first, second))


def _matrix_forward(ctx: Any, left: Any, right: Any) -> Any:
    ctx.save_multiple_for_backward([left, right])
    return arithmetic.multiply_matrices(left, right)


def _matrix_backward(ctx: Any, gradient: Any) -> Any:
    left, right = ctx.saved_tensors
    first = None
    if _wants(left):
        turned = right.transpose(-1, -2) if isinstance(right, SharedTensor) else np.swapaxes(np.asarray(right), -1, -2)
        first = gradient.multiply_matrices(turned)
    return _pair(left, right, (first, _right_gradient(left, right, gradient) if _wants(right) else None))


def _right_gradient(left: Any, right: SharedTensor, gradient: SharedTensor) -> Any:
    if right.dim() == 2 and right.is_turned and isinstance(left, SharedTensor) and left.dim() == 2 == gradient.dim():
        # What the transpose of a weight gets is turned back next: its elements then lie in the weight's order.
        return gradient.t().multiply_matrices(left).t()
    return left.transpose(-1, -2).multiply_matrices(gradient)


def _affine_forward(ctx: Any, rows: SharedTensor, weight: SharedTensor, bias: SharedTensor | None = None) -> Any:
    # What is rounded for the product forward serves those of the gradients, so this very transpose is kept.
    turned = weight.turned()
    ctx.save_multiple_for_backward([rows, weight, turned, bias])
    product = arithmetic.multiply_matrices(rows, turned)
    return product if bias is None else arithmetic.add(product, bias)


def _affine_backward(ctx: Any, gradient: SharedTensor) -> Any:
    rows, weight, turned, bias = ctx.saved_tensors
    # First, as a sum needs what the gradient lacks of its share, which the products then need not ask the dealer for.
    of_bias = None if bias is None else sum_to(gradient, bias.shape)
    of_rows = arithmetic.multiply_matrices(gradient, turned.turned()) if rows.requires_grad else None
    # The elements of a product with the gradient's transpose lie in the weight's order.
    of_weight = arithmetic.multiply_matrices(gradient.turned(), rows) if weight.requires_grad else None
    return of_rows, of_weight, of_bias


def _square_forward(ctx: Any, value: Any) -> Any:
    ctx.save_for_backward(value)
    return value.square()


def _square_backward(ctx: Any, gradient: Any) -> Any:
    (value,) = ctx.saved_tensors
    return gradient.mul(value).mul(2)


def _rearrange_forward(ctx: Any, value: Any, move: Any) -> Any:
    ctx.save_multiple_for_backward([tuple(value.size()), move])
    return value.rearrange(move)


def _rearrange_backward(ctx: Any, gradient: Any) -> Any:
    shape, move = ctx.saved_tensors
    return gather_back(gradient, move, shape)


def _fold_forward(ctx: Any, value: Any, shape: Any) -> Any:
    ctx.save_multiple_for_backward([tuple(value.size())])
    return value.fold(shape)


def _fold_backward(ctx: Any, gradient: Any) -> Any:
    return gradient.reshape(*ctx.saved_tensors)


def _sum_forward(ctx: Any, value: Any, dim: Any = None, keepdim: Any = False) -> Any:
    ctx.save_multiple_for_backward([tuple(value.size()), axes_of(value, dim)])
    return value.sum(dim, keepdim)


def _sum_backward(ctx: Any, gradient: Any) -> Any:
    shape, axes = ctx.saved_tensors
    return spread(gradient, shape, axes)


def _cat_forward(ctx: Any, tensors: Any, dim: Any = 0) -> Any:
    sizes = [int(tensor.shape[dim]) for tensor in tensors]
    ctx.save_multiple_for_backward([sizes, dim, [isinstance(tensor, SharedTensor) for tensor in tensors]])
    return concatenate(tensors, dim)


def _cat_backward(ctx: Any, gradient: Any) -> Any:
    sizes, dim, shared = ctx.saved_tensors
    return tuple(part for part, is_shared in zip(gradient.split(sizes, dim), shared, strict=True) if is_shared)


def _keep_forward(ctx: Any, value: Any, mask: Any, factor: Fraction) -> Any:
    ctx.save_multiple_for_backward([mask, factor])
    return value.keep(mask, factor)


def _keep_backward(ctx: Any, gradient: Any) -> Any:
    return gradient.keep(*ctx.saved_tensors)


def _relu_forward(ctx: Any, value: Any) -> Any:
    rectified = comparisons.rectify(value)
    ctx.save_for_backward(rectified.bit)
    return rectified.kept


def _relu_backward(ctx: Any, gradient: Any) -> Any:
    (bit,) = ctx.saved_tensors
    return comparisons.gate(gradient, bit).kept


def _abs_forward(ctx: Any, value: Any) -> Any:
    rectified = comparisons.rectify(value)
    ctx.save_for_backward(rectified.bit)
    return rectified.kept.mul(2).sub(rectified.whole)


def _abs_backward(ctx: Any, gradient: Any) -> Any:
    (bit,) = ctx.saved_tensors
    gated = comparisons.gate(gradient, bit)
    return gated.kept.mul(2).sub(gated.whole)


def _of_result(name: str) -> Forward:
    """A forward pass whose backward pass needs the result."""

    def forward(ctx: Any, value: Any, *_hints: Any, **_more_hints: Any) -> Any:
        result = getattr(value, name)()
        ctx.save_for_backward(result)
        return result

    return forward


def _of_input(name: str) -> Forward:
    """A forward pass whose backward pass needs the operand."""

    def forward(ctx: Any, value: Any, *_hints: Any, **_more_hints: Any) -> Any:
        ctx.save_for_backward(value)
        return getattr(value, name)()

    return forward


def _sigmoid_backward(ctx: Any, gradient: Any) -> Any:
    (result,) = ctx.saved_tensors
    return gradient.mul(result.sub(result.square()))


def _tanh_backward(ctx: Any, gradient: Any) -> Any:
    (result,) = ctx.saved_tensors
    return gradient.sub(gradient.mul(result.square()))


def _exp_backward(ctx: Any, gradient: Any) -> Any:
    (result,) = ctx.saved_tensors
    return gradient.mul(result)


def _log_backward(ctx: Any, gradient: Any) -> Any:
    (value,) = ctx.saved_tensors
    return gradient.mul(value.reciprocal())


def _reciprocal_backward(ctx: Any, gradient: Any) -> Any:
    (result,) = ctx.saved_tensors
    return gradient.mul(result).mul(result).neg()


def _sqrt_backward(ctx: Any, gradient: Any) -> Any:
    (value,) = ctx.saved_tensors
    return gradient.mul(value.inv_sqrt()).div(2)


def _inv_sqrt_backward(ctx: Any, gradient: Any) -> Any:
    (result,) = ctx.saved_tensors
    return gradient.mul(result).mul(result.square()).div(-2)


def _softmax_backward(ctx: Any, gradient: Any) -> Any:
    (result,) = ctx.saved_tensors
    weighted = gradient.mul(result)
    return weighted.sub(result.mul(weighted.sum(1, True)))


def _log_softmax_backward(ctx: Any, gradient: Any) -> Any:
    (result,) = ctx.saved_tensors
    return gradient.sub(result.exp().mul(gradient.sum(1, True)))


def _largest_forward(ctx: Any, value: Any) -> Any:
    largest, places = value.largest_of_rows()
    ctx.save_for_backward(places)
    ctx.mark_non_differentiable(places)
    return largest, places


def _largest_backward(ctx: Any, gradient: Any) -> Any:
    (places,) = ctx.saved_tensors
    return places.mul(gradient.unsqueeze(1))


def _logit_loss_forward(ctx: Any, logits: Any, target: Any, skip_forward: Any = False) -> Any:
    ctx.mark_non_differentiable(target)
    ctx.save_multiple_for_backward([logits.sigmoid(), target])
    return logits.binary_cross_entropy_with_logits(target, skip_forward)


def _mean_difference(ctx: Any, gradient: Any) -> Any:
    predicted, target = ctx.saved_tensors
    return arithmetic.mean_over(predicted.sub(target), predicted.nelement()).mul(gradient)


def _probability_loss_forward(ctx: Any, predicted: Any, target: Any, skip_forward: Any = False) -> Any:
    ctx.mark_non_differentiable(target)
    ctx.save_multiple_for_backward([predicted, target])
    return predicted.binary_cross_entropy(target, skip_forward)


def _probability_loss_backward(ctx: Any, gradient: Any) -> Any:
    predicted, _ = ctx.saved_tensors
    # p (1 - p) below 2^-20 counts as 2^-20, where torch has 1e-12.
    spread_out = predicted.sub(predicted.square()).reciprocal()
    return _mean_difference(ctx, gradient).mul(spread_out)


def _cross_entropy_forward(ctx: Any, logits: Any, target: Any, skip_forward: Any = False) -> Any:
    ctx.mark_non_differentiable(target)
    rows, _ = losses.as_rows(logits, target)
    ctx.save_multiple_for_backward([rows.softmax_of_rows().reshape(logits.shape), target])
    return logits.cross_entropy(target, skip_forward)


def _cross_entropy_backward(ctx: Any, gradient: Any) -> Any:
    predicted, target = ctx.saved_tensors
    rows = predicted.shape[0] if predicted.dim() == 2 else 1
    return arithmetic.mean_over(predicted.sub(target), rows).mul(gradient)


FUNCTIONS: Mapping[str, tuple[Forward, Backward]] = MappingProxyType(
    {
        "abs": (_abs_forward, _abs_backward),
        "add": (_add_forward, _add_backward),
        "affine": (_affine_forward, _affine_backward),
        "binary_cross_entropy": (_probability_loss_forward, _probability_loss_backward),
        "binary_cross_entropy_with_logits": (_logit_loss_forward, _mean_difference),
        "cat": (_cat_forward, _cat_backward),
        "cross_entropy": (_cross_entropy_forward, _cross_entropy_backward),
        "exp": (_of_result("exp"), _exp_backward),
        "inv_sqrt": (_of_result("inv_sqrt"), _inv_sqrt_backward),
        "convolve": (convolution.convolve_forward, convolution.convolve_backward),
        "fold": (_fold_forward, _fold_backward),
        "gelu": (activations.gelu_forward, activations.gelu_backward),
        "leaky_relu": (activations.leaky_relu_forward, activations.leaky_relu_backward),
        "map_planes": (pooling.map_planes_forward, pooling.map_planes_backward),
        "max_pool": (pooling.max_pool_forward, pooling.max_pool_backward),
        "normalise": (normalising.normalise_forward, normalising.normalise_backward),
        "keep": (_keep_forward, _keep_backward),
        "largest_of_rows": (_largest_forward, _largest_backward),
        "log": (_of_input("log"), _log_backward),
        "log_softmax_of_rows": (_of_result("log_softmax_of_rows"), _log_softmax_backward),
        "mul": (_mul_forward, _mul_backward),
        "multiply_matrices": (_matrix_forward, _matrix_backward),
        "rearrange": (_rearrange_forward, _rearrange_backward),
        "reciprocal": (_of_result("reciprocal"), _reciprocal_backward),
        "relu": (_relu_forward, _relu_backward),
        "sigmoid": (_of_result("sigmoid"), _sigmoid_backward),
        "softmax_of_rows": (_of_result("softmax_of_rows"), _softmax_backward),
        "sqrt": (_of_input("sqrt"), _sqrt_backward),
        "square": (_square_forward, _square_backward),
        "sub": (_sub_forward, _sub_backward),
        "sum": (_sum_forward, _sum_backward),
        "tanh": (_of_result("tanh"), _tanh_backward),
    }
)


def install() -> tuple[str, ...]:
    """Replaces CrypTen's table of differentiable functions by ours; returns the names that it had."""
    table: dict[str, Any] = _gradients.FUNCTION_REGISTRY
    names = tuple(table)
    for name in [name for name in table if name not in OF_CRYPTEN]:
        del table[name]
    for name, (forward, backward) in FUNCTIONS.items():
        methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
        _gradients.register_function(name)(type(name, (_gradients.AutogradFunction,), methods))
    return names
