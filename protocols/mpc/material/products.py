"""Masks of values, and the products of masks that products of values need (Beaver 1991, one mask for all uses of a value)."""

from __future__ import annotations

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc import convolutions
from protocols.mpc.convolutions import Bilinear, Geometry
from protocols.mpc.material.context import Material, Shape
from protocols.ring import RingArray, matmul

View = tuple[int, ...]  # mask id, 1 if only the rows of the current batch, 1 if transposed; then the shape if it is another


def mask(material: Material, mask_id: int, for_session: int, shape: Shape) -> RingArray:
    """A uniform mask for one value; `for_session` is 1 if later segments use it too."""
    value = material.uniform(shape)
    material.remember(mask_id, value, for_session=bool(for_session))
    return value


def product(material: Material, left: View, right: View, shape: Shape) -> RingArray:
    """The matrix product of two masks, seen through linear views that the masked values are seen through too."""
    return material.derived(lambda: matmul(_seen(material, left), _seen(material, right)), shape)


def kept_product(material: Material, kept_id: int, left: View, right: View) -> None:
    """The matrix product of two masks, kept by the dealer under an id until a protocol takes it in or asks for shares of it."""
    material.keep(kept_id, lambda: matmul(_seen(material, left), _seen(material, right)))


def shares_of_kept(material: Material, kept_id: int, shape: Shape) -> RingArray:
    """Shares of what the dealer keeps."""
    return material.derived(lambda: material.recall(kept_id), shape)


def elementwise(material: Material, left: View, right: View, shape: Shape) -> RingArray:
    """The elementwise product of two masks of equal shape."""
    return material.derived(lambda: _seen(material, left) * _seen(material, right), shape)


def inner(material: Material, left: View, right: View, axes: tuple[int, ...], shape: Shape) -> RingArray:
    """The elementwise product of two masks of equal shape, added up over axes, which stay with length 1."""
    return material.derived(lambda: (_seen(material, left) * _seen(material, right)).sum(axis=axes, keepdims=True), shape)


def kept_bilinear(material: Material, kept_id: int, operation: int, left: View, right: View, geometry: tuple[int, ...]) -> None:
    """One of a convolution's products of two masks (`protocols.mpc.convolutions`), kept like a matrix product."""

    def multiply() -> RingArray:
        pairs = [(_seen(material, left), _seen(material, right))]
        return convolutions.bilinear(Bilinear(operation), pairs, Geometry.from_numbers(geometry))

    material.keep(kept_id, multiply)


def _seen(material: Material, view: View) -> RingArray:
    mask_id, batch_rows, transposed, *fold = view
    value = material.recall(mask_id)
    if batch_rows:
        if material.window is None:
            raise ConfideError(ErrorCode.INTERNAL, "the plan uses rows of a batch outside a batch")
        value = value[material.window.start : material.window.stop]
    value = value.reshape(fold) if fold else value
    return value.T if transposed else value
