"""Comparisons, choices and maxima of shared tensors; results are secret 0 or 1, or values chosen by them.

Comparisons are exact on ring elements. Where two values have to be brought to one scale first, they are compared after that
rounding, 2^-16. A comparison has no gradient.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from protocols.mpc.primitives.comparison import nonnegative
from protocols.mpc.primitives.maximum import equal_zero, maximum
from protocols.mpc.primitives.relu import relu
from protocols.mpc.tensor.shared_tensor import (
    SharedTensor,
    constant_of,
    current_engine,
    public_array,
    run,
    tensor_of,
    wrapped,
)
from protocols.mpc.values import MAX_MAGNITUDE_BITS, SharedValue
from protocols.ring import RingArray

_ANY_SCALE = (MAX_MAGNITUDE_BITS, -MAX_MAGNITUDE_BITS)
_ONE = Fraction(1)


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
    return run(equal_zero(current_engine(), share), tuple(difference.size()), 0, 0)


def ne(self: SharedTensor, other: Any) -> SharedTensor:
    """Returns [self != other] as 0 or 1; four rounds."""
    return _complement(eq(self, other))


def sign(self: SharedTensor) -> SharedTensor:
    """Returns 1 where the value is zero or more, else -1, as CrypTen does; four rounds, no gradient."""
    bit = ge(self, 0)
    return tensor_of(bit.combination.times(2 * _ONE).plus(SharedTensor(-1.0).combination))


def where(self: SharedTensor, condition: Any, other: Any) -> Any:
    """Returns self where the condition is 1, other where it is 0; one round, none for a public condition."""
    return choose(condition, self, other)


def choose(condition: Any, first: Any, second: Any) -> Any:
    """Returns `first` where a secret or public condition is 1, `second` where it is 0."""
    bits = condition if isinstance(condition, SharedTensor) else public_array(condition)
    return wrapped(first).sub(second).mul(bits).add(second)


def rectify(self: SharedTensor) -> tuple[SharedTensor, SharedTensor]:
    """Returns max(self, 0) and the bits [self >= 0], both exact; four rounds."""
    taken = self.whole(*_ANY_SCALE)
    shape = tuple(self.size())
    kept, bits = current_engine().run(relu(current_engine(), taken.share))
    value = SharedValue(kept.reshape(shape), scale_bits=taken.scale_bits, magnitude_bits=taken.magnitude_bits)
    return SharedTensor.of(value), SharedTensor.of(SharedValue(bits.reshape(shape), scale_bits=0, magnitude_bits=0))


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
        shaped: SharedTensor = found.reshape(tuple(self.size()))
        return shaped
    return found


def argmin(self: SharedTensor, dim: int | None = None, keepdim: Any = False, one_hot: Any = True) -> SharedTensor:
    """Returns where the first smallest element is, one-hot as CrypTen does, or as a secret position."""
    return argmax(self.neg(), dim, keepdim, one_hot)


def to_rows(tensor: SharedTensor, dim: int) -> tuple[Any, tuple[int, ...]]:
    """Returns a tensor as a matrix whose rows run along a dimension, and the shape that `from_rows` needs."""
    turned = tensor.transpose(dim, -1) if tensor.dim() > 1 and dim % tensor.dim() != tensor.dim() - 1 else tensor
    shape = tuple(turned.size())
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
    return run(protocol, tuple(difference.size()), 0, 0)


def _difference(tensor: SharedTensor, other: Any) -> SharedTensor:
    values = constant_of(other)
    if values is not None and not values.any():
        shape = np.broadcast_shapes(tensor.size(), values.shape)
        return tensor if shape == tuple(tensor.size()) else tensor_of(tensor.combination.broadcast(shape))
    return tensor_of(tensor.combination.plus(wrapped(other).combination.times(-_ONE)))


def _share_of(difference: SharedTensor) -> RingArray:
    """The share of a value with the sign of the tensor; a positive factor changes nothing about it."""
    term = difference.operand()
    share = np.ascontiguousarray(term.view.share)
    return share if term.factor > 0 else -share


def _complement(bit: SharedTensor) -> SharedTensor:
    return tensor_of(bit.combination.times(-_ONE).plus(SharedTensor(1.0).combination))
