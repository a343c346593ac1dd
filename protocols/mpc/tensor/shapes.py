"""Linear operations that move or add elements: no communication, the same on every party's share.

Every operation that only moves, repeats or drops elements is one call of `rearrange` with a function on arrays; run on the
positions of the elements, that same function says where each one goes, which is all that the gradient needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protocols.fixed_point import VALUE_BITS
from protocols.mpc.combination import Combination, settle_all
from protocols.mpc.tensor.arithmetic import linear
from protocols.mpc.tensor.shared_tensor import VALUE_LIMIT_BITS, SharedTensor, current_engine, refused, tensor_of, wrapped
from protocols.mpc.values import MAX_MAGNITUDE_BITS, SharedValue
from protocols.ring import RingArray

Move = Callable[[NDArray[Any]], NDArray[Any]]
Axes = int | Sequence[int] | None


def rearrange(self: SharedTensor, move: Move) -> SharedTensor:
    """Returns the elements moved, repeated or dropped as `move` does with any array."""
    moved = linear(self, lambda share: np.array(move(share)), growth_bits=0)
    return moved if self.constant is None else tensor_of(moved.combination, np.array(move(self.constant)))


def gather_back(gradient: SharedTensor, move: Move, shape: tuple[int, ...]) -> SharedTensor:
    """Returns the gradient of `rearrange`: every element's gradient is added where the element came from.

    Args:
        gradient: of the result, secret.
        move: as given to `rearrange`.
        shape: of what was rearranged.
    """
    size = int(np.prod(shape, dtype=np.int64))
    source = np.asarray(move(np.arange(size).reshape(shape))).reshape(-1)
    most = int(np.bincount(source, minlength=1).max(initial=1))

    def add_back(share: RingArray) -> RingArray:
        result = np.zeros(size, np.int64)
        np.add.at(result, source, share.reshape(-1))
        return result.reshape(shape)

    return linear(gradient, add_back, growth_bits=(most - 1).bit_length())


def t(self: SharedTensor) -> SharedTensor:
    """Returns the transpose of a matrix, which shares the mask; a tensor of fewer dimensions as it is."""
    dims = len(self.shape)
    if dims > 2:
        raise refused("t of more than two dimensions")
    result: SharedTensor = self.turned() if dims == 2 else self.clone()
    return result


def transpose(self: SharedTensor, first: int, second: int) -> SharedTensor:
    """Returns the tensor with two dimensions swapped."""
    one, two = _axis(self, first), _axis(self, second)
    if self.dim() == 2 and one != two:
        result: SharedTensor = self.t()
        return result
    return _moved(self, lambda array: np.swapaxes(array, one, two))


def permute(self: SharedTensor, *dims: Any) -> SharedTensor:
    """Returns the tensor with its dimensions in another order."""
    order = _numbers(dims)
    return _moved(self, lambda array: np.transpose(array, order))


def fold(self: SharedTensor, shape: tuple[int, ...]) -> SharedTensor:
    """Returns the same elements in another shape of at least one dimension; it shares masks with this tensor."""
    constant = None if self.constant is None else self.constant.reshape(shape)
    return tensor_of(self.combination.folded(shape), constant)


def reshape(self: SharedTensor, *shape: Any) -> SharedTensor:
    """Returns the same elements in another shape; one dimension may be -1."""
    wanted = _numbers(shape)
    if not wanted or not self.dim():
        return _moved(self, lambda array: array.reshape(wanted))
    result: SharedTensor = self.fold(_reshaped(self.shape, wanted))
    return result


@lru_cache(maxsize=4096)
def _reshaped(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    # Where -1 stands, and whether the elements fit, follows from an array that takes no memory.
    return np.broadcast_to(np.int8(0), shape).reshape(wanted).shape


def flatten(self: SharedTensor, start_dim: int = 0, end_dim: int = -1) -> SharedTensor:
    """Returns the tensor with a range of dimensions made one."""
    size = self.shape or (1,)
    first, last = start_dim % len(size), end_dim % len(size)
    merged = int(np.prod(size[first : last + 1], dtype=np.int64))
    return reshape(self, (*size[:first], merged, *size[last + 1 :]))


def squeeze(self: SharedTensor, dim: int | None = None) -> SharedTensor:
    """Returns the tensor without its dimensions of size 1, or without one of them."""
    size = self.shape
    drop = set(range(len(size))) if dim is None else {_axis(self, dim)}
    return reshape(self, tuple(length for axis, length in enumerate(size) if axis not in drop or length != 1))


def unsqueeze(self: SharedTensor, dim: int) -> SharedTensor:
    """Returns the tensor with a new dimension of size 1."""
    size = list(self.shape)
    size.insert(dim if dim >= 0 else dim + len(size) + 1, 1)
    return reshape(self, size)


def expand(self: SharedTensor, *shape: Any) -> SharedTensor:
    """Returns the tensor repeated along dimensions of size 1; -1 keeps a dimension."""
    wanted = _numbers(shape)
    own = (1,) * (len(wanted) - self.dim()) + self.shape
    target = tuple(mine if length == -1 else length for length, mine in zip(wanted, own, strict=True))
    return _moved(self, lambda array: np.broadcast_to(array, target))


def repeat(self: SharedTensor, *counts: Any) -> SharedTensor:
    """Returns the tensor repeated so many times along each dimension."""
    wanted = _numbers(counts)
    if len(wanted) < self.dim():
        raise refused(f"repeat with {len(wanted)} counts of {self.dim()} dimensions")
    return _moved(self, lambda array: np.tile(array, wanted))


def flip(self: SharedTensor, *dims: Any) -> SharedTensor:
    """Returns the tensor with the order of elements reversed along dimensions."""
    axes = _numbers(dims)
    return _moved(self, lambda array: np.flip(array, axes))


def roll(self: SharedTensor, shifts: Any, dims: Any = None) -> SharedTensor:
    """Returns the tensor with its elements rotated along dimensions."""
    return _moved(self, lambda array: np.roll(array, shifts, dims))


def narrow(self: SharedTensor, dim: int, start: int, length: int) -> SharedTensor:
    """Returns a range of one dimension."""
    if not (start >= 0 and length >= 0 and start + length <= self.shape[dim]):
        raise refused(f"narrow to {start} + {length} of {self.shape[dim]}")
    index = (slice(None),) * _axis(self, dim) + (slice(start, start + length),)
    return _moved(self, lambda array: array[index])


def split(self: SharedTensor, split_size: Any, dim: int = 0) -> tuple[SharedTensor, ...]:
    """Returns the tensor cut along a dimension, into pieces of one size or of the sizes given."""
    total = self.shape[dim]
    sizes = [min(split_size, total - at) for at in range(0, total, split_size)] if isinstance(split_size, int) else split_size
    starts = np.cumsum([0, *sizes])
    return tuple(narrow(self, dim, int(start), int(size)) for start, size in zip(starts, sizes, strict=False))


def unbind(self: SharedTensor, dim: int = 0) -> tuple[SharedTensor, ...]:
    """Returns the slices of a dimension."""
    return tuple(squeeze(narrow(self, dim, at, 1), dim) for at in range(self.shape[dim]))


def index_select(self: SharedTensor, dim: int, index: Any) -> SharedTensor:
    """Returns entries of a dimension by their public positions."""
    positions = _positions(index)
    return _moved(self, lambda array: np.take(array, positions, axis=dim))


def take_item(self: SharedTensor, index: Any) -> SharedTensor:
    """Returns what public numbers, slices and position lists select, as in torch."""
    parts = tuple(_index(part) for part in index) if isinstance(index, tuple) else _index(index)
    return _moved(self, lambda array: np.asarray(array[parts]))


def diagonal(self: SharedTensor) -> SharedTensor:
    """Returns the diagonal of a matrix."""
    return _moved(self, lambda array: np.diagonal(array))


def trace(self: SharedTensor) -> SharedTensor:
    """Returns the sum of a matrix's diagonal."""
    result: SharedTensor = diagonal(self).sum()
    return result


def cumsum(self: SharedTensor, dim: int) -> SharedTensor:
    """Returns the running sums along a dimension."""
    axis = _axis(self, dim)
    growth = max(self.shape[axis] - 1, 0).bit_length()
    return linear(self, lambda share: np.cumsum(share, axis=axis, dtype=np.int64), growth_bits=growth)


def add_up(self: SharedTensor, dim: Axes = None, keepdim: Any = False) -> SharedTensor:
    """Returns the sum over dimensions or over everything."""
    axes = axes_of(self, dim)
    growth = max(count_of(self, axes) - 1, 0).bit_length()
    return linear(self, lambda share: np.asarray(share.sum(axis=axes, keepdims=bool(keepdim))), growth_bits=growth)


def spread(gradient: SharedTensor, shape: tuple[int, ...], axes: tuple[int, ...]) -> SharedTensor:
    """Returns the gradient of `add_up`: the same for every element of a sum."""
    kept = tuple(1 if axis in axes else length for axis, length in enumerate(shape))
    return expand(reshape(gradient, kept), shape)


def sum_to(gradient: SharedTensor, shape: tuple[int, ...]) -> SharedTensor:
    """Returns the gradient of a broadcast: sums over what was repeated."""
    size = gradient.shape
    if size == shape:
        return gradient
    lead = len(size) - len(shape)
    repeated = (lead + axis for axis, length in enumerate(shape) if length == 1 and size[lead + axis] != 1)
    summed = add_up(gradient, (*range(lead), *repeated))
    return summed if summed.shape == shape else reshape(summed, shape)


def concatenate(tensors: Sequence[Any], dim: int = 0) -> SharedTensor:
    """Returns tensors joined along a dimension; one round if their scales cannot be made the same exactly."""
    parts = [wrapped(tensor) for tensor in tensors]
    if not parts:
        raise refused("cat of nothing")
    wholes = [part.combination.whole() for part in parts]
    exact = [term.view.value for term in wholes if term is not None]
    scale = max((value.scale_bits for value in exact), default=0)
    magnitude = max((value.magnitude_bits + scale - value.scale_bits for value in exact), default=0)
    if len(exact) < len(parts) or magnitude > MAX_MAGNITUDE_BITS:
        engine = current_engine()
        combinations = [part.combination for part in parts]
        scale, magnitude = VALUE_BITS, VALUE_BITS + VALUE_LIMIT_BITS
        settled = engine.run(settle_all(engine, combinations, scale, magnitude_bits=magnitude))
        shares = [value.share for value in settled]
    else:
        views = [term.view for term in wholes if term is not None]
        shares = [view.share << np.int64(scale - view.value.scale_bits) for view in views]
    joined = SharedValue(np.concatenate(shares, axis=dim), scale_bits=scale, magnitude_bits=magnitude)
    return tensor_of(Combination.of(joined))


def axes_of(tensor: SharedTensor, dim: Axes) -> tuple[int, ...]:
    """Returns dimensions as whole numbers from 0; all of them for None."""
    if dim is None:
        return tuple(range(tensor.dim()))
    return tuple([_axis(tensor, axis) for axis in ([dim] if isinstance(dim, int) else dim)])


def count_of(tensor: SharedTensor, axes: tuple[int, ...]) -> int:
    """Returns how many elements each sum over these dimensions has."""
    return math.prod([tensor.shape[axis] for axis in axes])


def _moved(tensor: SharedTensor, move: Move) -> SharedTensor:
    """Rearranges through the tensor's attribute, which is where autograd looks on."""
    result: SharedTensor = tensor.rearrange(move)
    return result


def _axis(tensor: SharedTensor, dim: int) -> int:
    dims = len(tensor.shape) or 1
    if not -dims <= dim < dims:
        raise refused(f"dimension {dim} of {tensor.dim()} dimensions")
    return dim % dims


def _numbers(values: Any) -> tuple[int, ...]:
    """Accepts both `f(1, 2)` and `f((1, 2))`, as torch does."""
    nested = values[0] if len(values) == 1 and not isinstance(values[0], int) else values
    return tuple(int(value) for value in nested)


def _index(part: Any) -> Any:
    if part is None or part is Ellipsis or isinstance(part, int | slice):
        return part
    return _positions(part)


def _positions(index: Any) -> NDArray[np.int64]:
    if isinstance(index, SharedTensor):
        raise refused("indexing with a secret position")
    positions = np.asarray(index.numpy() if torch.is_tensor(index) else index)
    if positions.dtype.kind not in "iu":
        raise refused("indexing with anything but numbers, slices and lists of positions")
    return positions.astype(np.int64)
