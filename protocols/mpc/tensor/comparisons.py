"""Comparisons, choices and maxima of shared tensors; results are secret 0 or 1, or values chosen by them.

Comparisons are exact on ring elements. Where two values have to be brought to one scale first, they are compared after that
rounding, 2^-16. A comparison has no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from protocols.fixed_point import VALUE_BITS
from protocols.mpc.combination import Combination, Term
from protocols.mpc.material.comparison import MAX_LOW_BITS
from protocols.mpc.multiples import MINUS_ONE, Multiple, floor_log2, times
from protocols.mpc.primitives import relu as primitives_relu
from protocols.mpc.primitives.comparison import nonnegative
from protocols.mpc.primitives.maximum import equal_zero, maximum
from protocols.mpc.primitives.relu import SavedBit
from protocols.mpc.tensor.shared_tensor import (
    VALUE_LIMIT_BITS,
    SharedTensor,
    constant_of,
    current_engine,
    public_array,
    run,
    tensor_of,
    wrapped,
)
from protocols.mpc.values import MAX_MAGNITUDE_BITS, PartialShare, SharedValue, ValueView
from protocols.ring import RingArray

_ANY_SCALE = (MAX_MAGNITUDE_BITS, -MAX_MAGNITUDE_BITS)


# Made for every rectifier of every step, hence not frozen; never changed.
@dataclass(slots=True, eq=False)
class _Cut:
    """A tensor as a protocol with a fused truncation takes it: one term and how many bits to cut off."""

    term: Term
    shape: tuple[int, ...]
    shift: int

    @staticmethod
    def of(tensor: SharedTensor) -> _Cut:
        term = positive(tensor.operand())
        return _Cut(term, tensor.shape, min(max(term.view.value.scale_bits - _kept_bits(term.multiple), 0), MAX_LOW_BITS))

    @property
    def share(self) -> PartialShare:
        return self.term.view.partial.contiguous()

    def tensor(self, share: RingArray) -> SharedTensor:
        value = self.term.view.value
        scale = value.scale_bits - self.shift
        # One bit more for the unit that rounding may add.
        magnitude = max(value.magnitude_bits - self.shift, 0) + 1 if self.shift else value.magnitude_bits
        magnitude = self.term.bounded(magnitude, scale_bits=scale, limit_bits=VALUE_LIMIT_BITS)
        cut = SharedValue(share.reshape(self.shape), scale_bits=scale, magnitude_bits=magnitude)
        return SharedTensor(combination=Combination((self.term.seen(ValueView(cut)),)))


@lru_cache(maxsize=4096)
def _kept_bits(multiple: Multiple) -> int:
    # A factor above 1 multiplies the unit of what is left; with so many bits more the product's is 2^-16 at most.
    return VALUE_BITS + max(-floor_log2(1 / multiple.factor), 0)


def positive(term: Term) -> Term:
    """Returns the same term with a factor above 0; local."""
    if term.multiple.numerator > 0:
        return term
    value, negative = term.view.value, term.view.partial.times(-1)
    turned = SharedValue(negative, scale_bits=value.scale_bits, magnitude_bits=value.magnitude_bits)
    return Term(ValueView(turned), times(term.multiple, MINUS_ONE))


def ge(self: SharedTensor, other: Any) -> SharedTensor:
    """Returns [self >= other] as 0 or 1; four rounds."""
    return _is_nonnegative(self, other, sign=1)


def le(self: SharedTensor, other: Any) -> SharedTensor:
    """Returns [self <= other] as 0 or 1; four rounds."""
    return _is_nonnegative(self, other, sign=-1)


def lt(self: SharedTensor, other: Any) -> SharedTensor:
    """Returns [self < other] as 0 or 1; four rounds."""
    return _complement(ge(self, other))


def gt(self: SharedTensor, other: Any) -> SharedTensor:
    """Returns [self > other] as 0 or 1; four rounds."""
    return _complement(le(self, other))


def eq(self: SharedTensor, other: Any) -> SharedTensor:
    """Returns [self = other] as 0 or 1; four rounds."""
    difference = _difference(self, other)
    share = _share_of(difference)
    return run(equal_zero(current_engine(), share), difference.shape, 0, 0)


def ne(self: SharedTensor, other: Any) -> SharedTensor:
    """Returns [self != other] as 0 or 1; four rounds."""
    return _complement(eq(self, other))


def sign(self: SharedTensor) -> SharedTensor:
    """Returns 1 where the value is zero or more, else -1, as CrypTen does; four rounds, no gradient."""
    bit = ge(self, 0)
    return tensor_of(bit.combination.times(Fraction(2)).plus(SharedTensor(-1.0).combination))


def where(self: SharedTensor, condition: Any, other: Any) -> Any:
    """Returns self where the condition is 1, other where it is 0; one round, none for a public condition."""
    return choose(condition, self, other)


def choose(condition: Any, first: Any, second: Any) -> Any:
    """Returns `first` where a secret or public condition is 1, `second` where it is 0."""
    bits = condition if isinstance(condition, SharedTensor) else public_array(condition)
    return wrapped(first).sub(second).mul(bits).add(second)


class GatedTensor:
    """A value v where a bit is 1 and 0 elsewhere, and v itself, at one scale.

    Args:
        cut: what the protocol took.
        gated: what it gave.
    """

    def __init__(self, cut: _Cut, gated: primitives_relu.Gated | primitives_relu.Rectified) -> None:
        self._cut = cut
        self._gated = gated
        self._kept: SharedTensor | None = None
        self._whole: SharedTensor | None = None

    # Made where they are asked for, once, as a tensor has one mask: most want one of both.
    @property
    def kept(self) -> SharedTensor:
        """The value where the bit is 1, and 0 elsewhere."""
        if self._kept is None:
            self._kept = self._cut.tensor(self._gated.kept)
        return self._kept

    @property
    def whole(self) -> SharedTensor:
        """The value."""
        if self._whole is None:
            self._whole = self._cut.tensor(self._gated.whole)
        return self._whole


class RectifiedTensor(GatedTensor):
    """max(v, 0) and v, at one scale, and the bit [v >= 0]; see `primitives.relu`.

    Args:
        cut: what the protocol took.
        rectified: what it gave.
    """

    def __init__(self, cut: _Cut, rectified: primitives_relu.Rectified) -> None:
        super().__init__(cut, rectified)
        self.bit: SavedBit = rectified.bit


def rectify(self: SharedTensor) -> RectifiedTensor:
    """Returns max(v, 0) for the tensor v rounded at 16 fractional bits or finer, error 0 to 2^-16 upwards; four rounds.

    What is pending of a product's truncation costs no further round.
    """
    cut, engine = _Cut.of(self), current_engine()
    return RectifiedTensor(cut, engine.run(primitives_relu.rectify(engine, cut.share, cut.shift)))


def gate(self: SharedTensor, bit: SavedBit) -> GatedTensor:
    """Returns the tensor, rounded at 16 fractional bits or finer, where a saved bit is 1; one round.

    Args:
        self: a gradient, or a value to choose from, of the bit's shape; secret.
        bit: of `rectify`.
    """
    cut, engine = _Cut.of(self), current_engine()
    return GatedTensor(cut, engine.run(primitives_relu.gate(engine, cut.share, bit, cut.shift)))


def absolute(self: SharedTensor) -> Any:
    """Returns the absolute value; four rounds."""
    rectified = rectify(self)
    return rectified.kept.mul(2).sub(rectified.whole)


def largest_of_rows(self: SharedTensor) -> tuple[SharedTensor, SharedTensor]:
    """Returns the largest value of every row, (rows,), and where the first of them is, (rows, columns) of 0 and 1, exact."""
    taken = self.whole(*_ANY_SCALE)
    largest, one_hot = current_engine().run(maximum(current_engine(), taken.share))
    value = SharedValue(largest, scale_bits=taken.scale_bits, magnitude_bits=taken.magnitude_bits)
    return SharedTensor.of(value), SharedTensor.of(SharedValue(one_hot, scale_bits=0, magnitude_bits=0))


def max_(self: SharedTensor, dim: int | None = None, keepdim: Any = False, one_hot: Any = True) -> Any:
    """Returns the largest element; along a dimension also where the first one is, one-hot or as a secret position."""
    return _extreme(self, dim, keepdim, one_hot)


def min_(self: SharedTensor, dim: int | None = None, keepdim: Any = False, one_hot: Any = True) -> Any:
    """Returns the smallest element; along a dimension also where the first one is, one-hot or as a secret position."""
    found = _extreme(self.neg(), dim, keepdim, one_hot)
    return (found[0].neg(), found[1]) if isinstance(found, tuple) else found.neg()


def argmax(self: SharedTensor, dim: int | None = None, keepdim: Any = False, one_hot: Any = True) -> SharedTensor:
    """Returns where the first largest element is, one-hot as CrypTen does, or as a secret position."""
    rows = self if dim is not None else self.flatten()
    found: SharedTensor = _extreme(rows, dim if dim is not None else 0, keepdim, one_hot)[1]
    if dim is None and one_hot:
        shaped: SharedTensor = found.reshape(self.shape)
        return shaped
    return found


def argmin(self: SharedTensor, dim: int | None = None, keepdim: Any = False, one_hot: Any = True) -> SharedTensor:
    """Returns where the first smallest element is, one-hot as CrypTen does, or as a secret position."""
    return argmax(self.neg(), dim, keepdim, one_hot)


def to_rows(tensor: SharedTensor, dim: int) -> tuple[Any, tuple[int, ...]]:
    """Returns a tensor as a matrix whose rows run along a dimension, and the shape that `from_rows` needs."""
    turned = tensor.transpose(dim, -1) if tensor.dim() > 1 and dim % tensor.dim() != tensor.dim() - 1 else tensor
    shape = turned.shape
    return (turned if len(shape) == 2 else turned.reshape(-1, shape[-1])), shape


def from_rows(rows: Any, shape: tuple[int, ...], dim: int) -> Any:
    """Undoes `to_rows` for a matrix of the same shape."""
    turned = rows if len(shape) == 2 else rows.reshape(shape)
    return turned.transpose(dim, -1) if len(shape) > 1 and dim % len(shape) != len(shape) - 1 else turned


def _extreme(self: SharedTensor, dim: int | None, keepdim: Any, one_hot: Any) -> Any:
    if dim is None:
        return self.flatten().reshape(1, -1).largest_of_rows()[0].reshape(())
    rows, shape = to_rows(self, dim)
    values, places = rows.largest_of_rows()
    columns = shape[-1]
    largest = from_rows(values.reshape(-1, 1), (*shape[:-1], 1), dim)
    if one_hot:
        where_largest = from_rows(places, shape, dim)
    else:
        positions = places.mul(np.arange(columns)).sum(1).reshape(-1, 1)
        where_largest = from_rows(positions, (*shape[:-1], 1), dim)
        where_largest = where_largest if keepdim else where_largest.squeeze(dim)
    return (largest if keepdim else largest.squeeze(dim)), where_largest


def _is_nonnegative(tensor: SharedTensor, other: Any, *, sign: int) -> SharedTensor:
    difference = _difference(tensor, other)
    share = _share_of(difference)
    protocol = nonnegative(current_engine(), share if sign > 0 else -share)
    return run(protocol, difference.shape, 0, 0)


def _difference(tensor: SharedTensor, other: Any) -> SharedTensor:
    values = constant_of(other)
    if values is not None and not values.any():
        shape = np.broadcast_shapes(tensor.size(), values.shape)
        return tensor if shape == tensor.shape else tensor_of(tensor.combination.broadcast(shape))
    return tensor_of(tensor.combination.plus(wrapped(other).combination.negated()))


def _share_of(difference: SharedTensor) -> RingArray:
    """The share of a value with the sign of the tensor; a positive factor changes nothing about it."""
    term = difference.operand()
    share = np.ascontiguousarray(term.view.share)
    return share if term.factor > 0 else -share


def _complement(bit: SharedTensor) -> SharedTensor:
    return tensor_of(bit.combination.negated().plus(SharedTensor(1.0).combination))
