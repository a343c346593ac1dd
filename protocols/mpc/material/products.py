"""Masks of values, and the products of masks that products of values need (Beaver 1991, one mask for all uses of a value)."""

from __future__ import annotations

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.material.context import Material, Shape
from protocols.ring import RingArray, matmul

View = tuple[int, int, int]  # mask id, 1 if only the rows of the current batch, 1 if transposed


def mask(material: Material, mask_id: int, for_session: int, shape: Shape) -> RingArray:
    """A uniform mask for one value; `for_session` is 1 if later segments use it too."""
    value = material.uniform(shape)
    material.remember(mask_id, value, for_session=bool(for_session))
    return value


def product(material: Material, left: View, right: View, shape: Shape) -> RingArray:
    """The matrix product of two masks, seen through linear views that the masked values are seen through too."""
    return material.derived(lambda: matmul(_seen(material, left), _seen(material, right)), shape)


def elementwise(material: Material, left: View, right: View, shape: Shape) -> RingArray:
    """The elementwise product of two masks of equal shape."""
    return material.derived(lambda: _seen(material, left) * _seen(material, right), shape)


def _seen(material: Material, view: View) -> RingArray:
    mask_id, batch_rows, transposed = view
    value = material.recall(mask_id)
    if batch_rows:
        if material.window is None:
            raise ConfideError(ErrorCode.INTERNAL, "the plan uses rows of a batch outside a batch")
        value = value[material.window.start : material.window.stop]
    return value.T if transposed else value
