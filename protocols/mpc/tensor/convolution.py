"""Convolutions of shared tensors, forward and gradient; one round each for what is not open yet."""

from __future__ import annotations

from typing import Any

from protocols.mpc.convolutions import Bilinear, Geometry, inner_length
from protocols.mpc.primitives.convolution import convolution_product
from protocols.mpc.tensor.arithmetic import fitted, product_of
from protocols.mpc.tensor.shared_tensor import SharedTensor, current_engine


def convolve(self: SharedTensor, weight: SharedTensor, geometry: Geometry) -> SharedTensor:
    """Returns (batch, out channels, rows, columns) of (batch, channels, height, width); one round.

    Args:
        self: secret.
        weight: (out channels, channels / groups, kernel height, kernel width), secret.
        geometry: public.
    """
    return _product(Bilinear.CONVOLVE, self, weight, geometry)


def convolve_forward(ctx: Any, value: SharedTensor, weight: SharedTensor, geometry: Geometry) -> SharedTensor:
    """See `functions`."""
    ctx.save_multiple_for_backward([value, weight, geometry])
    return convolve(value, weight, geometry)


def convolve_backward(ctx: Any, gradient: SharedTensor) -> Any:
    """See `functions`; the gradient is opened once for both."""
    value, weight, geometry = ctx.saved_tensors
    of_value = _product(Bilinear.INPUT_GRADIENT, gradient, weight, geometry) if value.requires_grad else None
    of_weight = _product(Bilinear.WEIGHT_GRADIENT, value, gradient, geometry) if weight.requires_grad else None
    return of_value, of_weight


def _product(operation: Bilinear, left: SharedTensor, right: SharedTensor, geometry: Geometry) -> SharedTensor:
    inner = inner_length(operation, tuple(left.size()), tuple(right.size()), geometry)
    one, two, magnitude = fitted(left, right, inner=inner)
    share = current_engine().run(convolution_product(current_engine(), operation, one.view, two.view, geometry))
    return product_of(one, two, share, magnitude)
