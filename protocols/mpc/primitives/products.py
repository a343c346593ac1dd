"""Products of shared values from masks that are opened once and reused (Beaver 1991; docs/protocols/products.md).

With e = x - a and d = y - b opened and c = a b dealt, x y = e y + a d + c: local, once both operands are open. A value that
occurs in many products (the data matrix over all epochs, weights forward and backward) is opened once.
"""

from __future__ import annotations

import numpy as np

from protocols.mpc.engine import Engine, Steps
from protocols.mpc.values import SharedValue, ValueView
from protocols.ring import RingArray, matmul


def product(engine: Engine, left: ValueView, right: ValueView) -> Steps[RingArray]:
    """Returns this party's share of the matrix product modulo 2^64.

    One round for the operands that are not open yet, 8 bytes an element of them; none if both are.

    Args:
        engine: this party's engine.
        left: (..., rows, inner), secret.
        right: (..., inner, columns), secret; leading dimensions are broadcast.

    Learns: nobody anything but shapes.
    """
    yield from SharedValue.open_masked(engine, (left.value, right.value))
    shape = (*np.broadcast_shapes(left.shape[:-2], right.shape[:-2]), left.shape[-2], right.shape[-1])
    masks = engine.deal("product", left.reference(engine), right.reference(engine), shape, result=np.ndarray)
    return matmul(left.opened(), right.share) + matmul(left.mask_share(), right.opened()) + masks


def elementwise(engine: Engine, left: ValueView, right: ValueView) -> Steps[RingArray]:
    """Returns this party's share of the elementwise product of two tensors, shapes broadcast as usual, modulo 2^64.

    Rounds, bytes and leakage as `product`.
    """
    yield from SharedValue.open_masked(engine, (left.value, right.value))
    shape = np.broadcast_shapes(left.shape, right.shape)
    masks = engine.deal("elementwise", left.reference(engine), right.reference(engine), shape, result=np.ndarray)
    share: RingArray = left.opened() * right.share + left.mask_share() * right.opened() + masks
    return share
