"""Material of a Fourier series: a mask, and the sines and cosines of its multiples (docs/protocols/series.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.mpc.material.context import Material, Shape
from protocols.mpc.waves import waves_of
from protocols.ring import RingArray


@dataclass(frozen=True)
class WaveMaterial:
    """Shares (or plaintexts) of the waves of one mask.

    Attributes:
        mask: of the input, of its shape.
        sines: (harmonics, count), sin(2 pi h r / 2^period_bits) at 2^wave_bits.
        cosines: (harmonics, count), the same of the cosine.
    """

    mask: RingArray
    sines: RingArray
    cosines: RingArray


def waves(material: Material, shape: Shape, period_bits: int, wave_bits: int, harmonics: tuple[int, ...]) -> WaveMaterial:
    """A fresh mask and its waves, which repeat every 2^period_bits ring units."""
    mask = material.uniform(shape)
    waves_shape = (len(harmonics), mask.size)

    plain: list[RingArray] = []

    def sine() -> RingArray:
        plain.extend(_quantised(wave, wave_bits) for wave in waves_of(mask.reshape(-1), period_bits, harmonics))
        return plain[0]

    return WaveMaterial(mask, material.derived(sine, waves_shape), material.derived(lambda: plain[1], waves_shape))


def _quantised(values: NDArray[np.float64], wave_bits: int) -> RingArray:
    return np.asarray(np.rint(values * 2.0**wave_bits), dtype=np.int64)
