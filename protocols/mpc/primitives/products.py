"""Products of shared values from masks that are opened once and reused (Beaver 1991; docs/protocols/products.md).

With e = x - a and d = y - b opened and c = a b dealt, x y = e y + a d + c: local, once both operands are open. A value that
occurs in many products (the data matrix over all epochs, weights forward and backward) is opened once.
"""

from __future__ import annotations

import numpy as np

from protocols.mpc.engine import Engine, Steps
from protocols.mpc.values import Lacking, PartialShare, SharedValue, ValueView
from protocols.ring import RingArray, matmul


def product(engine: Engine, left: ValueView, right: ValueView) -> Steps[RingArray]:
    """Returns this party's share of the matrix product modulo 2^64; see `partial_product`.

    Corrections 8 bytes an element of the result.
    """
    partial = yield from partial_product(engine, left, right)
    return partial.whole()


def partial_product(engine: Engine, left: ValueView, right: ValueView) -> Steps[PartialShare]:
    """Returns this party's share of the matrix product modulo 2^64, which lacks the product of the masks.

    One round for the operands that are not open yet, 8 bytes an element of them; none if both are.

    Args:
        engine: this party's engine.
        left: (..., rows, inner), secret.
        right: (..., inner, columns), secret; leading dimensions are broadcast.

    Learns: nobody anything but shapes.
    """
    yield from SharedValue.open_masked(engine, (left.value, right.value))
    kept = engine.new_mask(for_session=False)
    engine.deal("kept_product", kept, left.reference(engine), right.reference(engine), result=type(None))
    share = matmul(left.opened(), right.share)
    share += matmul(left.mask_share(), right.opened())
    return PartialShare(share, (Lacking(kept, 1, False, engine, engine.segments),))


def inner(engine: Engine, left: ValueView, right: ValueView, axes: tuple[int, ...]) -> Steps[RingArray]:
    """Returns this party's share of the elementwise product of two tensors of one shape, added up over axes that stay.

    Rounds, bytes and leakage as `product`; corrections 8 bytes an element of the result.
    """
    yield from SharedValue.open_masked(engine, (left.value, right.value))
    shape = tuple(1 if axis in axes else length for axis, length in enumerate(left.shape))
    masks = engine.deal("inner", left.reference(engine), right.reference(engine), axes, shape, result=np.ndarray)
    products = left.opened() * right.share + left.mask_share() * right.opened()
    share: RingArray = products.sum(axis=axes, keepdims=True) + masks
    return share


def elementwise(engine: Engine, left: ValueView, right: ValueView) -> Steps[RingArray]:
    """Returns this party's share of the elementwise product of two tensors, shapes broadcast as usual, modulo 2^64.

    Rounds, bytes and leakage as `product`.
    """
    yield from SharedValue.open_masked(engine, (left.value, right.value))
    shape = np.broadcast_shapes(left.shape, right.shape)
    masks = engine.deal("elementwise", left.reference(engine), right.reference(engine), shape, result=np.ndarray)
    share: RingArray = left.opened() * right.share + left.mask_share() * right.opened() + masks
    return share
