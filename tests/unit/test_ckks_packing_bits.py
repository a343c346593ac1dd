"""Residues take exactly their bits on the wire."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.ckks.packing_bits import pack, packed_bytes, unpack


@pytest.mark.parametrize("bits", [1, 7, 18, 28, 32, 33, 44, 52, 60, 63])
def test_packing_equals_shifting_whole_numbers_together(bits: int) -> None:
    numbers = np.random.default_rng(bits).integers(0, 1 << bits, 192, np.uint64)
    whole = sum(int(number) << at * bits for at, number in enumerate(numbers))
    data = pack(numbers, bits)
    assert data == whole.to_bytes(packed_bytes(192, bits), "little")
    assert (unpack(data, 192, bits) == numbers).all()


def test_residue_of_too_many_bits_is_not_packed() -> None:
    with pytest.raises(ValueError, match="more than 20 bits"):
        pack(np.full(64, 1 << 20, np.uint64), 20)


@pytest.mark.parametrize("length", [0, 159, 161])
def test_data_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="bytes where 160"):
        unpack(bytes(length), 64, 20)


@pytest.mark.parametrize(("count", "bits"), [(63, 20), (64, 0), (64, 64)])
def test_counts_and_bits_that_do_not_fill_words_are_refused(count: int, bits: int) -> None:
    with pytest.raises(ValueError, match="multiple of 64"):
        unpack(bytes(160), count, bits)
