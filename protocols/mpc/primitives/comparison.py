"""The sign of a shared value, exactly, from digit tables and a two-level tree of shared ANDs (docs/protocols/comparison.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.mpc.engine import Engine, Opening, Steps
from protocols.mpc.material.comparison import (
    BatchMaterial,
    Level,
    MaskedSign,
    Node,
    SignMaterial,
    digits_of,
    levels_of,
)
from protocols.ring import BitArray, RingArray, pack_bits, packed_size, unpack_bits

_RING_BITS = 64
_BLOCK = 1 << 13  # results at once, a multiple of 8: what is computed of them stays in the processor's cache


def nonnegative(engine: Engine, share: RingArray) -> Steps[RingArray]:
    """Returns this party's share of [x >= 0] as 0 or 1, exactly, for every x of the ring read as a signed number.

    Four rounds, 12.25 bytes an element; corrections 52.125 bytes an element.

    Args:
        engine: this party's engine.
        share: int64, secret.

    Learns: nobody anything; everything opened is uniform.
    """
    return (yield from nonnegative_modulo(engine, share, _RING_BITS))


def nonnegative_modulo(engine: Engine, share: RingArray, number_bits: int) -> Steps[NDArray[Any]]:
    """Returns this party's share of [x >= 0] modulo 2^number_bits or more; as `nonnegative`, with fewer corrections.

    Corrections 45.125 bytes an element for up to 8 bits, 46.125 for up to 16.

    Args:
        engine: this party's engine.
        share: int64, secret.
        number_bits: 1 to 64, public.

    Returns:
        Of the narrowest type that holds so many bits.
    """
    material = engine.deal("sign", share.shape, 0, number_bits, result=MaskedSign)
    opened = yield Opening("comparison", (share + material.mask,))
    flipped = yield from hidden_nonnegative(engine, opened.numbers[0].reshape(1, -1), material.sign)
    number = material.sign.flip_number
    return unflip(engine, flipped.astype(number.dtype, copy=False), number).reshape(share.shape)


def hidden_nonnegative(engine: Engine, opened: RingArray, material: SignMaterial) -> Steps[RingArray]:
    """Returns [v >= 0] xor flip for v = opened - r, public and uniform because of the flip bits.

    Three rounds after the opening; two where at most four digits are compared.

    Args:
        engine: this party's engine.
        opened: (tests, count) int64, public: v + r for every test, all under the same mask r.
        material: for as many tests; says which low bits of v and r are left out.

    Returns:
        (tests, count) int64 of 0 and 1, public.
    """
    tests, count = opened.shape
    share = yield from shared_nonnegative(engine, opened, material)
    result = yield Opening("comparison result", (), (share ^ material.flip,))
    return unpack_bits(result.bits[0], tests * count).astype(np.int64).reshape(tests, count)


def shared_nonnegative(engine: Engine, opened: RingArray, material: SignMaterial) -> Steps[BitArray]:
    """Returns this party's exclusive-or share of [v >= 0] for v = opened - r; one round less than `hidden_nonnegative`.

    With one test the shares are uniform but for the result, so they may be opened: each contains a share of the masks' top bits,
    which is in nothing else. Results of several tests under one mask contain the same one.

    Args:
        engine: this party's engine.
        opened: as for `hidden_nonnegative`.
        material: likewise; its flip bits are not used.

    Returns:
        Packed bits of tests * count results; secret.
    """
    tests, count = opened.shape
    less, equal = _compare_digits(opened, material)
    for level, masks in zip(levels_of(material.low), material.levels, strict=True):
        less, equal = yield from _join(engine, level, masks, less, equal)
    top = material.top if tests == 1 else pack_bits(np.tile(unpack_bits(material.top, count), tests))
    share: BitArray = less[0] ^ top
    if engine.leads:
        # [v >= 0] is the complement of [c < 0] xor [r < 0] xor [c mod 2^63 < r mod 2^63].
        share = share ^ pack_bits((opened.reshape(-1) >= 0).view(np.uint8))
    return share


def unflip(engine: Engine, flipped: NDArray[Any], flip_number: NDArray[Any]) -> NDArray[Any]:
    """Returns the share of the bit that was hidden, of the type that both have: t + (1 - 2 t) flip."""
    share: NDArray[Any] = engine.public(flipped) + (1 - 2 * flipped) * flip_number
    return share


def _compare_digits(opened: RingArray, material: SignMaterial) -> tuple[BitArray, BitArray]:
    """Shares of [c_i < r_i] and [c_i = r_i] as (digits, bytes) of packed bits."""
    count, flat = opened.shape[1], opened.reshape(-1)
    less = np.empty((len(material.tables), packed_size(flat.size)), np.uint8)
    equal = np.empty_like(less)
    for start in range(0, flat.size, _BLOCK):
        stop = min(start + _BLOCK, flat.size)
        # All tests look into the same tables.
        first, last = start % count, start % count + stop - start
        some = slice(first, last) if last <= count else np.arange(first, last) % count
        digits = digits_of(flat[start:stop], material.low)
        # The lowest bits are now [c_i <= r_i], and above them [c_i < r_i].
        entries = np.right_shift(material.tables[:, some], digits, out=digits).astype(np.uint8)
        above = entries >> np.uint8(1)
        packed = slice(start // 8, packed_size(stop))
        entries ^= above
        above &= np.uint8(1)
        less[:, packed] = pack_bits(above)
        entries &= np.uint8(1)
        equal[:, packed] = pack_bits(entries)
    return less, equal


def _join(
    engine: Engine, level: Level, material: tuple[BatchMaterial, ...], less: BitArray, equal: BitArray
) -> Steps[tuple[BitArray, BitArray]]:
    """Joins the digits of every group; one round. Takes (digits, bytes) and returns (groups, bytes) for the next level."""
    planes = list(_planes(level, less, equal))
    masked = tuple(plane ^ masks.masks for (plane, _), masks in zip(planes, material, strict=True))
    opened = yield Opening("comparison tree", (), masked)
    joined, equality = [], []
    for batch, masks, (_, highest), differences in zip(level, material, planes, opened.bits, strict=True):
        is_less, is_equal = _joined(batch.node, masks, differences, engine.leads)
        is_less ^= highest
        joined.append(is_less)
        # Nobody asks for the equality of the lowest group; the next level has it in no term.
        equality.append(highest if is_equal is None else is_equal)
    return np.concatenate(joined), np.concatenate(equality)


def _planes(level: Level, less: BitArray, equal: BitArray) -> Iterator[tuple[BitArray, BitArray]]:
    """Yields for each batch its variables (variables, groups, bytes) and less-than of each group's highest digit."""
    start = 0
    for batch in level:
        arity, groups = batch.node.arity, batch.groups
        some = slice(start, start + groups * arity)
        start = some.stop
        both = np.stack((less[some], equal[some])).reshape(2, groups, arity, -1)
        kinds, digits = batch.node.planes
        yield both[kinds, :, digits], both[0, :, arity - 1]


def _joined(node: Node, material: BatchMaterial, differences: BitArray, leads: bool) -> tuple[BitArray, BitArray | None]:
    """Shares of less-than but for the highest digit's own, and of equality where it is kept; (groups, bytes) each.

    With every variable v = d xor a, d public, what is shared at first are the products of masks. Opening one variable of them,
    v rest = d rest xor a rest, turns the products with its mask into products with the variable itself. From the lowest digit up,
    for every product m of the masks of higher equalities: L_j m = l_j m xor e_j L_(j-1) m, and equality likewise; the last
    has m = 1, of which the lead's share is 1 and every other zero.
    """
    one = np.full((1, *differences.shape[1:]), 255 if leads else 0, np.uint8)
    order, steps = _opening_steps(node)
    known = np.concatenate((one, material.masks, material.products))[order]
    state = np.empty((2 if node.keeps_equal else 1, steps[0].products, *differences.shape[1:]), np.uint8)
    for digit, step in enumerate(steps):
        if digit > 0:
            half = step.products
            with_equal = state[:, half:]
            state = state[:, :half]
            state &= differences[step.equal]
            state ^= with_equal
        for kind, (variable, start) in enumerate(step.started):
            begun = np.bitwise_and(known[: step.products], differences[variable], out=None if digit else state[kind])
            begun ^= known[start : start + step.products]
            if digit > 0:
                state[kind] ^= begun
    return state[0, 0], state[1, 0] if node.keeps_equal else None


@dataclass(frozen=True)
class _OpeningStep:
    """One digit of `_joined`; public.

    Attributes:
        equal: index of the equality that is opened; unused in the first step.
        products: how many products of masks of the equalities above the digit there are; they come first in the order.
        started: of what is opened directly, less-than first: its index, and where the same products with its mask begin.
    """

    equal: int
    products: int
    started: tuple[tuple[int, int], ...]


@lru_cache(maxsize=64)
def _opening_steps(node: Node) -> tuple[NDArray[np.intp], tuple[_OpeningStep, ...]]:
    """Returns in which order a node's products of masks are used, and its digits from the lowest up.

    The products of equalities alone stand first. The next equality is the highest bit of their number, so that those without it
    are the first half, and every digit needs the first of those that the digit below it needs.
    """
    index = {name: place for place, name in enumerate(node.variables)}
    order = _places(node, 0)
    steps = []
    for digit in range(node.arity):
        names = [f"l{digit}"] if digit < node.arity - 1 else []
        names += ["e0"] if digit == 0 and node.keeps_equal else []
        started = []
        for name in names:
            started.append((index[name], len(order)))
            order += _places(node, digit, name)
        steps.append(_OpeningStep(index.get(f"e{digit}", 0), 1 << (node.arity - 1 - digit), tuple(started)))
    return np.array(order, np.intp), tuple(steps)


def _places(node: Node, digit: int, *more: str) -> list[int]:
    """Places of all products of masks of the equalities above a digit, alone or with one more mask."""
    above = [f"e{place}" for place in range(node.arity - 1, digit, -1)]
    products = [tuple(name for bit, name in enumerate(above) if number >> bit & 1) for number in range(1 << len(above))]
    return [node.places[*product, *more] for product in products]
