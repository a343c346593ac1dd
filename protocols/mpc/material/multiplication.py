"""Material of products of values that are used once (Beaver 1991): of two, of one with many, of a truncated one with another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.mpc.material.context import Material, Shape
from protocols.mpc.material.truncation import TruncationMaterial, times_parts, truncation
from protocols.ring import RingArray


@dataclass(frozen=True)
class Triple:
    """Two masks and their elementwise product, of the shape they broadcast to."""

    left: RingArray
    right: RingArray
    product: RingArray


@dataclass(frozen=True)
class FanOut:
    """A mask for one factor, masks for what it is multiplied with, and their products.

    Attributes:
        factor: of the factor's shape.
        values: (number of values, *shape).
        products: of the same shape.
    """

    factor: RingArray
    values: RingArray
    products: RingArray


@dataclass(frozen=True)
class ScalingMaterial:
    """A truncation, a mask b for a factor, and both parts of the truncation's mask times b.

    The products have the shape that value and factor broadcast to.
    """

    truncation: TruncationMaterial
    factor: RingArray
    factor_high: RingArray
    factor_top: NDArray[Any]


def triple(material: Material, left: Shape, right: Shape) -> Triple:
    """Two fresh masks and their product; the shapes are broadcast as usual."""
    first, second = material.uniform(left), material.uniform(right)
    product = material.derived(lambda: first * second, np.broadcast_shapes(left, right))
    return Triple(first, second, product)


def fan_out(material: Material, shape: Shape, values: int) -> FanOut:
    """Fresh masks for a factor and for `values` values of its shape."""
    factor, others = material.uniform(shape), material.uniform((values, *shape))
    return FanOut(factor, others, material.derived(lambda: factor[None] * others, (values, *shape)))


def scaling(material: Material, shape: Shape, shift: int, factor_shape: Shape) -> ScalingMaterial:
    """Everything to truncate a value by `shift` bits and multiply the result with a factor."""
    cut = truncation(material, shape, shift, ())
    factor = material.uniform(factor_shape)
    high, top = times_parts(material, cut, shift, lambda: factor, np.broadcast_shapes(shape, factor_shape))
    return ScalingMaterial(cut, factor, high, top)
