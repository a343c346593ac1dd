"""Means, variances, norms and inner products, composed of operations that know their gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from protocols.mpc.tensor.shapes import Axes, axes_of, count_of
from protocols.mpc.tensor.shared_tensor import SharedTensor, refused


def mean(self: SharedTensor, dim: Axes = None, keepdim: Any = False) -> Any:
    """Returns the mean over dimensions or over everything; no communication."""
    return self.sum(dim, keepdim).div(max(count_of(self, axes_of(self, dim)), 1))


def var(self: SharedTensor, dim: Axes = None, correction: int = 1, keepdim: Any = False, **others: Any) -> Any:
    """Returns the variance; one round.

    Args:
        self: secret.
        dim: over what; None for everything.
        correction: the sum of squares is divided by the number of elements less this; 1 as in torch.
        keepdim: whether the dimensions stay, with size 1.
        others: only to refuse `unbiased` by name, which CrypTen and torch read in opposite ways.
    """
    if others or isinstance(correction, bool):
        raise refused("var with unbiased (give correction=1 or correction=0)")
    axes = axes_of(self, dim)
    divisor = count_of(self, axes) - correction
    if divisor <= 0:
        raise refused("var of too few elements")
    return self.sub(self.mean(axes, True)).square().sum(axes, keepdim).div(divisor)


def norm(self: SharedTensor, p: Any = "fro", dim: Axes = None, keepdim: Any = False) -> Any:
    """Returns the Euclidean norm; other norms are refused."""
    if p not in ("fro", 2, 2.0):
        raise refused(f"norm with p = {p}")
    return self.square().sum(dim, keepdim).sqrt()


def dot(self: SharedTensor, other: Any) -> Any:
    """Returns the inner product of two vectors; one round."""
    if self.dim() != 1:
        raise refused("dot of anything but vectors")
    return self.mul(other).sum()


def ger(self: SharedTensor, other: Any) -> Any:
    """Returns the outer product of two vectors; one round."""
    return self.reshape(-1, 1).mul(other.reshape(1, -1))


def matmul(self: SharedTensor, other: Any) -> Any:
    """Returns the matrix product as torch does: vectors, matrices, and stacks of them with leading dimensions broadcast."""
    left = self.unsqueeze(0) if self.dim() == 1 else self
    is_vector = len(other.shape) == 1
    right = other.reshape(-1, 1) if is_vector else other
    if left.dim() < 2 or len(right.shape) < 2 or left.shape[-1] != right.shape[-2]:
        raise refused(f"matmul of shapes {self.shape} and {tuple(other.shape)}")
    result = left.multiply_matrices(right)
    result = result.squeeze(-1) if is_vector else result
    return result.squeeze(-1 if is_vector else -2) if self.dim() == 1 else result


def hardtanh(self: SharedTensor, min_val: Any = -1, max_val: Any = 1) -> Any:
    """Returns the value clamped to a range; four rounds."""
    if not min_val < max_val:
        raise refused("hardtanh with an empty range")
    low, high = self.sub(min_val), self.sub(max_val)
    shape = tuple(self.size())
    both = SharedTensor.stack([low, high]).relu()
    return both.narrow(0, 0, 1).sub(both.narrow(0, 1, 1)).reshape(shape).add(min_val)


def relu6(self: SharedTensor) -> Any:
    """Returns min(max(self, 0), 6); four rounds."""
    return hardtanh(self, 0, 6)


def stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Returns tensors of one shape along a new dimension."""
    return SharedTensor.cat([tensor.unsqueeze(dim) for tensor in tensors], dim)
