"""The tables of digits and the tree that joins them: every pair of digits, every node, against plain comparisons."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from protocols.mpc.material.comparison import BatchMaterial, Node, SignMaterial, digits_of, num_digits, sign_parts
from protocols.mpc.material.context import DealerMaterial, ShareMaterial
from protocols.mpc.primitives.comparison import _compare_digits, _joined
from protocols.ring import pack_bits, unpack_bits
from tests.support.mpc_world import stream


class Corrections:
    """What the dealer sends to the last party, kept in memory."""

    def __init__(self) -> None:
        self._sent: list[np.ndarray] = []

    def room(self, count: int) -> np.ndarray:
        self._sent.append(np.empty(count, np.uint8))
        return self._sent[-1]

    def take(self, count: int) -> np.ndarray:
        data = self._sent.pop(0)
        assert data.size == count
        return data


def dealt(mask: np.ndarray, low: int) -> list[SignMaterial]:
    """Both parties' shares of one test of values under a mask, which the dealer alone knows."""
    sink = Corrections()
    sign_parts(DealerMaterial([stream("one"), stream("two")], sink), mask, tests=1, low=low)
    parties = ShareMaterial(stream("one"), None), ShareMaterial(stream("two"), sink)
    return [sign_parts(party, np.zeros_like(mask), tests=1, low=low) for party in parties]


def bits(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("low", [0, 24, 37, 58])
def test_tables_tell_every_pair_of_digits_apart(low: int) -> None:
    # Any two numbers from 0 to 15, in all digits of the mask and of what is opened at once; more than one block of them.
    mask_digit, opened_digit = np.tile(np.divmod(np.arange(256), 16), 40).astype(np.uint64)
    every_digit = np.uint64(0x1111_1111_1111_1111)
    mask, opened = (mask_digit * every_digit).view(np.int64), (opened_digit * every_digit).view(np.int64)
    shares = [_compare_digits(opened.reshape(1, -1), material) for material in dealt(mask, low)]
    less, equal = (unpack_bits(one ^ two, mask.size) for one, two in zip(*shares, strict=True))
    masks, openings = digits_of(mask, low), digits_of(opened, low)
    assert len(less) == num_digits(low)
    assert np.array_equal(less, openings < masks)
    assert np.array_equal(equal, openings == masks)


@pytest.mark.parametrize(("arity", "keeps_equal"), [*itertools.product((2, 3, 4), (False, True))])
def test_node_joins_digits_as_a_comparison_of_numbers_does(arity: int, keeps_equal: bool) -> None:
    # A digit is less, equal or greater: all combinations of the digits, in two groups of different order.
    found = np.array(list(itertools.product((0, 1, 2), repeat=arity)))
    groups = np.stack([found, found[::-1]])
    values = {f"l{digit}": pack_bits((groups[:, :, digit] == 0).astype(np.uint8)) for digit in range(arity)}
    values |= {f"e{digit}": pack_bits((groups[:, :, digit] == 1).astype(np.uint8)) for digit in range(arity)}
    node, rng = Node(arity, keeps_equal), np.random.default_rng(arity)
    width = values["l0"].shape[1]
    masks = dict(zip(node.variables, bits(rng, len(node.variables), 2, width), strict=True))
    products = np.array([np.bitwise_and.reduce([masks[name] for name in names]) for names in node.products])
    plain = BatchMaterial(np.array(list(masks.values())), products)
    mine = BatchMaterial(bits(rng, *plain.masks.shape), bits(rng, *plain.products.shape))
    other = BatchMaterial(plain.masks ^ mine.masks, plain.products ^ mine.products)
    differences = np.array([values[name] ^ masks[name] for name in node.variables])
    joined = [_joined(node, material, differences, leads) for material, leads in ((mine, True), (other, False))]

    less = unpack_bits(joined[0][0] ^ joined[1][0] ^ values[f"l{arity - 1}"], len(found))
    highest_unequal = arity - 1 - np.argmax(groups[:, :, ::-1] != 1, axis=2)
    is_less = np.take_along_axis(groups, highest_unequal[:, :, None], axis=2)[:, :, 0] == 0
    assert np.array_equal(less, is_less)
    if not keeps_equal:
        assert joined[0][1] is joined[1][1] is None
        return
    equal = [share for _, share in joined if share is not None]
    assert np.array_equal(unpack_bits(equal[0] ^ equal[1], len(found)), (groups == 1).all(axis=2))
