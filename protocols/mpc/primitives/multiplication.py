"""Products of shares that are used once (Beaver 1991; docs/protocols/products.md).

A value that occurs in several products is better held as a `SharedValue`, which opens it once (`primitives/products.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from protocols.mpc.engine import Engine, Opening, Steps
from protocols.mpc.material.multiplication import FanOut, ScalingMaterial, Triple
from protocols.mpc.primitives.truncation import mask_for_truncation, public_part, recombine
from protocols.ring import RingArray


def multiply(engine: Engine, left: RingArray, right: RingArray) -> Steps[RingArray]:
    """Returns this party's share of the elementwise product modulo 2^64; the shapes are broadcast as usual.

    One round, 8 bytes an element of each factor; corrections 8 bytes an element of the product.

    Args:
        engine: this party's engine.
        left: int64, secret.
        right: int64, secret.

    Learns: nobody anything; everything opened is uniform.
    """
    masks = engine.deal("triple", left.shape, right.shape, result=Triple)
    opened = yield Opening("product", (left - masks.left, right - masks.right))
    first, second = opened.numbers
    share: RingArray = first * right + masks.left * second + masks.product
    return share


def fan_out(engine: Engine, factor: RingArray, values: Sequence[RingArray]) -> Steps[list[RingArray]]:
    """Returns this party's shares of one factor times each of several values of its shape, modulo 2^64.

    One round, 8 bytes an element of the factor and of every value; corrections 8 bytes an element of every value.

    Args:
        engine: this party's engine.
        factor: int64, secret.
        values: int64, secret, at least one.

    Learns: nobody anything; everything opened is uniform.
    """
    masks = engine.deal("fan_out", factor.shape, len(values), result=FanOut)
    stacked = np.stack(values)
    opened = yield Opening("products", (factor - masks.factor, stacked - masks.values))
    first, others = opened.numbers
    return list(first[None] * stacked + masks.factor[None] * others + masks.products)


def truncate_and_multiply(engine: Engine, share: RingArray, shift: int, factor: RingArray) -> Steps[RingArray]:
    """Returns this party's share of (x / 2^shift) times a factor, the quotient with an error of 0 or +1 unit.

    One round, 8 bytes an element of both; corrections 8 bytes an element of the value and of the product, and for each
    of them 1, 2, 4 or 8 more, as `shift` bits need.

    Args:
        engine: this party's engine.
        share: int64, secret; the value lies in [-2^62, 2^62).
        shift: 1 to 62, public.
        factor: int64, secret; its shape and the value's are broadcast as usual.

    Learns: nobody anything; everything opened is uniform.
    """
    material = engine.deal("scaling", share.shape, shift, factor.shape, result=ScalingMaterial)
    masked = mask_for_truncation(engine, share, material.truncation)
    opened = yield Opening("scaling", (masked, factor - material.factor))
    cut, difference = public_part(opened.numbers[0], shift), opened.numbers[1]
    # With v = base + w and factor = d + b: base * factor + d w + b w.
    secret_part = recombine(cut, material.truncation.high, material.truncation.top)
    joint = recombine(cut, material.factor_high, material.factor_top)
    product: RingArray = cut.base * factor + difference * secret_part + joint
    return product
