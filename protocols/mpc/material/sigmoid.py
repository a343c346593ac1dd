"""Material of a sigmoid: a mask, sines and cosines of its multiples, two sign tests, and a truncation times their bits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.mpc.material.comparison import SignMaterial, sign_parts
from protocols.mpc.material.context import Material, Shape
from protocols.mpc.material.truncation import TruncationMaterial, truncation
from protocols.mpc.waves import HARMONICS, WAVE_BITS, cosines, sines
from protocols.ring import RingArray

TESTS = 2  # below and above the interval on which the series holds


@dataclass(frozen=True)
class SigmoidMaterial:
    """Shares (or plaintexts) of one sigmoid of `count` elements.

    Attributes:
        mask: of the input, of its shape.
        sines: (harmonics, count), sin(k w r) at 2^WAVE_BITS.
        cosines: (harmonics, count), cos(k w r) at 2^WAVE_BITS.
        sign: two sign tests of the input.
        truncation: of the series, (count,).
        flip_high: (2, count), the truncation's high part times each hidden result's flip bit.
        flip_top: (2, count), the truncation's top bit times the same.
    """

    mask: RingArray
    sines: RingArray
    cosines: RingArray
    sign: SignMaterial
    truncation: TruncationMaterial
    flip_high: RingArray
    flip_top: RingArray


def sigmoid(material: Material, shape: Shape, period_bits: int, shift: int) -> SigmoidMaterial:
    """Everything for a sigmoid whose series repeats every 2^period_bits ring units and is truncated by `shift` bits."""
    count = math.prod(shape)
    mask = material.uniform(shape)
    waves_shape = (len(HARMONICS), count)
    sine = material.derived(lambda: _quantised(sines(mask.reshape(-1), period_bits)), waves_shape)
    cosine = material.derived(lambda: _quantised(cosines(mask.reshape(-1), period_bits)), waves_shape)
    tests = sign_parts(material, mask, tests=TESTS)
    cut = truncation(material, (count,), shift)
    flip_high = material.derived(lambda: tests.flip_number * cut.high, (TESTS, count))
    flip_top = material.derived(lambda: tests.flip_number * cut.top, (TESTS, count))
    return SigmoidMaterial(mask, sine, cosine, tests, cut, flip_high, flip_top)


def _quantised(values: NDArray[np.float64]) -> RingArray:
    return np.asarray(np.rint(values * 2.0**WAVE_BITS), dtype=np.int64)
