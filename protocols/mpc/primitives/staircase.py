"""Functions of a shared value that are constant, or linear, between public thresholds (docs/protocols/staircase.md).

All thresholds are tested under one opened number, and the value's products with the results cost no further round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protocols.mpc.engine import Engine, Opening, Steps
from protocols.mpc.material.comparison import MaskedSign
from protocols.mpc.material.staircase import StaircaseMaterial
from protocols.mpc.primitives.comparison import hidden_nonnegative, unflip
from protocols.ring import RingArray


@dataclass(frozen=True)
class Staircase:
    """This party's shares of a value's position among thresholds; secret.

    Attributes:
        share: (count,), the value itself.
        bits: (tests, count), [x >= threshold] as 0 or 1.
        products: (tests, count), x times each bit.
        leads: whether this party adds public numbers.
    """

    share: RingArray
    bits: RingArray
    products: RingArray
    leads: bool

    def piecewise(self, constants: Sequence[int]) -> RingArray:
        """Returns the share of constants[j] where j thresholds are reached; local.

        Args:
            constants: one more than thresholds, public, below 2^63 in absolute value.
        """
        result = _steps(constants) @ self.bits
        if self.leads:
            result = result + np.int64(constants[0])
        return np.asarray(result)

    def piecewise_linear(self, factors: Sequence[int]) -> RingArray:
        """Returns the share of factors[j] times x where j thresholds are reached, modulo 2^64; local.

        Args:
            factors: as the constants of `piecewise`.
        """
        return np.asarray(_steps(factors) @ self.products + np.int64(factors[0]) * self.share)


def staircase(engine: Engine, share: RingArray, thresholds: Sequence[int]) -> Steps[Staircase]:
    """Tests a value against public thresholds, exactly.

    Four rounds; 8 bytes an element and 4.25 bytes an element and threshold; corrections 32.125 bytes an element and 28
    bytes an element and threshold.

    Args:
        engine: this party's engine.
        share: (count,) int64, secret; x minus any threshold stays in [-2^63, 2^63).
        thresholds: ascending ring numbers, public, at least one.

    Learns: nobody anything; everything opened is uniform.
    """
    material = engine.deal("staircase", share.shape, len(thresholds), result=StaircaseMaterial)
    opened = yield Opening("thresholds", (share + material.mask,))
    masked = opened.numbers[0].reshape(1, -1)
    flipped = yield from hidden_nonnegative(engine, _below(masked, thresholds), material.sign)
    sign = 1 - 2 * flipped
    bits = engine.public(flipped) + sign * material.sign.flip_number
    # x b = c b - r b, and r b = t r + (1 - 2 t) r flip.
    products = masked * bits - flipped * material.mask.reshape(1, -1) - sign * material.flip_mask
    return Staircase(share, bits, products, engine.leads)


def threshold_bits(engine: Engine, share: RingArray, thresholds: Sequence[int]) -> Steps[RingArray]:
    """Returns this party's share of [x >= threshold] for every threshold, as 0 or 1, (tests, *shape), exactly.

    Four rounds; 8 bytes an element and 4.25 bytes an element and threshold; corrections 32.125 bytes an element and 20
    bytes an element and threshold.

    Args:
        engine: this party's engine.
        share: int64, secret, any shape; x minus any threshold stays in [-2^63, 2^63).
        thresholds: ring numbers, public, at least one.

    Learns: nobody anything; everything opened is uniform.
    """
    material = engine.deal("signs", share.shape, len(thresholds), result=MaskedSign)
    opened = yield Opening("thresholds", (share + material.mask,))
    masked = opened.numbers[0].reshape(1, -1)
    flipped = yield from hidden_nonnegative(engine, _below(masked, thresholds), material.sign)
    return unflip(engine, flipped, material.sign.flip_number).reshape(len(thresholds), *share.shape)


def _below(masked: RingArray, thresholds: Sequence[int]) -> RingArray:
    return masked - np.array(thresholds, np.int64)[:, None]


def _steps(constants: Sequence[int]) -> RingArray:
    levels = np.array(constants, np.int64)
    return levels[1:] - levels[:-1]
