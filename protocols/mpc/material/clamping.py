"""Material of a clamped series: sign tests of the input, a truncation of the series, and its products with the hidden bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from protocols.mpc.material.comparison import SignMaterial, sign_parts
from protocols.mpc.material.context import Material, Shape
from protocols.mpc.material.series import WaveMaterial, waves
from protocols.mpc.material.truncation import TruncationMaterial, times_parts, truncation
from protocols.ring import RingArray


@dataclass(frozen=True)
class ClampMaterial:
    """Shares (or plaintexts) for `tests` bounds on a series of `count` elements.

    Attributes:
        sign: sign tests of the input.
        truncation: of the series, (count,).
        flip_high: (tests, count), the truncation's high part times each hidden result's flip bit.
        flip_top: (tests, count), the truncation's top bit times the same.
    """

    sign: SignMaterial
    truncation: TruncationMaterial
    flip_high: RingArray
    flip_top: NDArray[Any]


@dataclass(frozen=True)
class ClampedWaveMaterial:
    """Shares (or plaintexts) of a series with a bound on either side."""

    waves: WaveMaterial
    clamp: ClampMaterial


def clamp_parts(material: Material, mask: RingArray, *, tests: int, shift: int) -> ClampMaterial:
    """Everything to test the value under a mask, and to truncate a series by `shift` bits and multiply it with the results."""
    count = mask.size
    sign = sign_parts(material, mask, tests=tests, low=0)
    cut = truncation(material, (count,), shift, ())
    high, top = times_parts(material, cut, shift, lambda: sign.flip_number, (tests, count))
    return ClampMaterial(sign, cut, high, top)


def clamped_waves(
    material: Material, shape: Shape, period_bits: int, wave_bits: int, harmonics: tuple[int, ...], shift: int
) -> ClampedWaveMaterial:
    """Everything for a series that repeats every 2^period_bits ring units and is truncated by `shift` bits."""
    dealt = waves(material, shape, period_bits, wave_bits, harmonics)
    return ClampedWaveMaterial(dealt, clamp_parts(material, dealt.mask, tests=2, shift=shift))
