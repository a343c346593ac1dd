"""How much columns say about identifiers: mutual information, against what chance alone gives.

Of few rows and many values, mutual information is large even between columns that have nothing to do with each other, and if
every row has an identifier of its own it is the column's whole entropy. So each figure stands beside the same figure after the
identifier's rows were shuffled, and only what exceeds the largest of these is a finding. An identifier that differs in nearly
every row is first sorted and cut into groups of equal size: what then exceeds chance shows that its order means something, such
as the date on which numbers were given out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from privacy.reidentification.coding import numbers_of

SHUFFLES = 20
ORDER_GROUPS = 32
_NEARLY_UNIQUE = 0.5
_BITS = 1 / np.log(2)


@dataclass(frozen=True)
class Dependence:
    """Of one column and one identifier, on a sample of rows; for the owner's eyes.

    Attributes:
        identifier, column: their names.
        by_order: whether the identifier was cut into groups by its order.
        bits: their mutual information.
        chance: the mean of it after shuffling.
        largest_by_chance: the largest of it after shuffling `SHUFFLES` times.
        share: what exceeds chance, as a share of what could: 0 says nothing, 1 says all; never below 0.
    """

    identifier: str
    column: str
    by_order: bool
    bits: float
    chance: float
    largest_by_chance: float
    share: float

    @property
    def found(self) -> bool:
        """Whether it exceeds chance: by one shuffle in `SHUFFLES` + 1 it would by accident."""
        return self.bits > self.largest_by_chance and self.share >= 0.01


def dependence(identifier: str, id_texts: pa.Array, column: str, texts: pa.Array, generator: np.random.Generator) -> Dependence:
    """Measures what a column says about an identifier.

    Args:
        identifier: its name.
        id_texts: (rows,) its cells, null where missing, secret; at least one row.
        column: its name.
        texts: (rows,) its cells in the same rows, likewise.
        generator: of the shuffles.
    """
    ids = _codes(id_texts)
    by_order = bool(ids.max() + 1 > _NEARLY_UNIQUE * len(ids))
    if by_order:
        ids = _order_groups(id_texts)
    values = _grouped(texts, _codes(texts))
    bits = _mutual_information(ids, values)
    shuffled = [_mutual_information(generator.permutation(ids), values) for _ in range(SHUFFLES)]
    chance = float(np.mean(shuffled))
    most = min(_entropy(ids), _entropy(values))
    share = (bits - chance) / (most - chance) if most - chance > 1e-9 else 0.0
    return Dependence(identifier, column, by_order, bits, chance, max(shuffled), float(np.clip(share, 0.0, 1.0)))


def _codes(texts: pa.Array) -> NDArray[np.int64]:
    encoded = texts.dictionary_encode(null_encoding="encode")
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)


def _order_groups(texts: pa.Array) -> NDArray[np.int64]:
    """Cuts cells into groups of about equal size by their order: of numbers, or of texts as they are written."""
    numbers = numbers_of(texts)
    keys = np.array(texts.fill_null("").to_pylist(), object) if numbers is None else numbers
    _, ranks = np.unique(keys, return_inverse=True)
    groups = ranks.astype(np.int64) * min(ORDER_GROUPS, len(texts)) // (int(ranks.max()) + 1)
    return np.asarray(groups)


def _grouped(texts: pa.Array, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cuts a column with many values as the identifier is cut: values that stand once or twice each say nothing but chance."""
    return _order_groups(texts) if codes.max() + 1 > 4 * ORDER_GROUPS else codes


def _mutual_information(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    joint = first * (second.max() + 1) + second
    return max(0.0, _entropy(first) + _entropy(second) - _entropy(joint))


def _entropy(codes: NDArray[np.int64]) -> float:
    _, counts = np.unique(codes, return_counts=True)
    shares = counts / len(codes)
    return float(-(shares * np.log(shares)).sum() * _BITS)
