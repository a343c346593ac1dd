"""Material of an exponential: powers of e of a mask's fraction in a one-hot table, sign tests, a truncation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocols.mpc.material.clamping import ClampMaterial, clamp_parts
from protocols.mpc.material.context import Material, Shape
from protocols.ring import RingArray, unsigned

PERIOD_LOG2 = 5
PERIOD = 1 << PERIOD_LOG2


@dataclass(frozen=True)
class ExponentialMaterial:
    """Shares (or plaintexts) of one exponential of `count` elements.

    Attributes:
        mask: of the input, of its shape.
        table: (rows, count), e^-f at 2^table_bits in the row i, zero in the others; i * unit + f is the mask modulo 32, f below
            the unit 32 / rows.
        clamp: sign tests of the input and a truncation.
    """

    mask: RingArray
    table: RingArray
    clamp: ClampMaterial


def exponential(
    material: Material, shape: Shape, scale_bits: int, unit_log2: int, table_bits: int, tests: int, shift: int
) -> ExponentialMaterial:
    """Everything for an exponential of numbers with `scale_bits` fractional bits; a row of the table stands for 2^unit_log2."""
    mask = material.uniform(shape)
    rows = PERIOD >> unit_log2
    table = material.derived(lambda: _table(mask.reshape(-1), scale_bits + unit_log2, unit_log2, table_bits), (rows, mask.size))
    return ExponentialMaterial(mask, table, clamp_parts(material, mask, tests=tests, shift=shift))


def _table(mask: RingArray, unit_bits: int, unit_log2: int, table_bits: int) -> RingArray:
    rows = PERIOD >> unit_log2
    whole = (unsigned(mask) >> np.uint64(unit_bits)) & np.uint64(rows - 1)
    fraction = (unsigned(mask) & np.uint64((1 << unit_bits) - 1)).astype(np.float64) * 2.0 ** (unit_log2 - unit_bits)
    table = np.zeros((rows, mask.size), np.int64)
    table[whole.astype(np.intp), np.arange(mask.size)] = np.rint(np.exp(-fraction) * 2.0**table_bits)
    return table
