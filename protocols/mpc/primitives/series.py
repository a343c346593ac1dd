"""A Fourier series of a shared value in one round (docs/protocols/series.md)."""

from __future__ import annotations

import numpy as np

from protocols.mpc.engine import Engine, Opening, Steps
from protocols.mpc.material.series import WaveMaterial
from protocols.mpc.waves import Series, series_weights
from protocols.ring import RingArray

WAVE_BITS = 31  # fractional bits of the dealt waves


def fourier_series(engine: Engine, share: RingArray, series: Series, *, period_bits: int, weight_bits: int) -> Steps[RingArray]:
    """Returns this party's share of the series of x at WAVE_BITS + weight_bits fractional bits.

    One round, 8 bytes an element; corrections 16 bytes an element and harmonic. Beside the series' own error, each harmonic adds
    at most (|a| + |b|) 2^-31 + 2^-weight_bits for its coefficients a and b, the rounding of dealt waves and of public weights.

    Args:
        engine: this party's engine.
        share: (count,) int64, secret.
        series: what to evaluate; public.
        period_bits: it repeats every 2^period_bits ring units; public.
        weight_bits: fractional bits of the public weights.

    Learns: nobody anything; the opened number is uniform.
    """
    material = engine.deal("waves", share.shape, period_bits, WAVE_BITS, series.harmonics, result=WaveMaterial)
    opened = yield Opening("series", (share + material.mask,))
    waves = weighted_waves(series, opened.numbers[0], material, period_bits=period_bits, weight_bits=weight_bits)
    return waves + engine.public(np.full(share.shape, constant_of(series, WAVE_BITS + weight_bits)))


def weighted_waves(series: Series, opened: RingArray, material: WaveMaterial, *, period_bits: int, weight_bits: int) -> RingArray:
    """Returns this party's share of the series without its constant, (count,), from the opened number."""
    for_cosines, for_sines = series_weights(series, opened.reshape(-1), period_bits=period_bits, weight_bits=weight_bits)
    share: RingArray = (for_cosines * material.cosines + for_sines * material.sines).sum(axis=0)
    return share


def constant_of(series: Series, scale_bits: int) -> int:
    """Returns the series' constant at a scale, rounded, as the ring number from -2^63 on that it is modulo 2^64."""
    constant = round(series.constant * 2.0 ** (scale_bits - series.coefficient_bits))
    return (constant + 2**63) % 2**64 - 2**63
