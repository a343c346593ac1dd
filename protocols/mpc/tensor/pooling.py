"""Maxima and means over windows of shared tensors, (batch, channels, height, width)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from protocols.fixed_point import VALUE_BITS
from protocols.mpc.combination import Combination, Term
from protocols.mpc.convolutions import Geometry
from protocols.mpc.primitives.max_pool import Won, to_winners, tournament
from protocols.mpc.tensor.arithmetic import linear
from protocols.mpc.tensor.comparisons import positive
from protocols.mpc.tensor.shared_tensor import VALUE_LIMIT_BITS, SharedTensor, current_engine
from protocols.mpc.values import MAX_MAGNITUDE_BITS, SharedValue, ValueView
from protocols.ring import RingArray, matmul

_LEAST = -(1 << 61)  # of what stands at the borders; nothing is smaller


def max_pool(self: SharedTensor, geometry: Geometry) -> SharedTensor:
    """Returns the largest value of every window, exact; four rounds for every doubling of the window's size."""
    return _largest(self, geometry)[0]


def max_pool_forward(ctx: Any, value: SharedTensor, geometry: Geometry) -> SharedTensor:
    """See `functions`."""
    largest, won = _largest(value, geometry)
    ctx.save_multiple_for_backward([won, geometry, tuple(value.size())])
    return largest


def max_pool_backward(ctx: Any, gradient: SharedTensor) -> SharedTensor:
    """See `functions`: the gradient goes where the first largest value of the window is; one round a doubling."""
    won, geometry, shape = ctx.saved_tensors
    overlap = math.prod(-(-window // step) for window, step in zip(geometry.kernel, geometry.stride, strict=True))
    raw = _raw(gradient, (overlap - 1).bit_length())
    parts = current_engine().run(to_winners(current_engine(), _share(raw).reshape(-1), won))
    (height, width), (top, left) = geometry.size, geometry.padding
    padded = np.zeros((*shape[:2], height + 2 * top, width + 2 * left), np.int64)
    for at, (_, _, seen) in enumerate(geometry.windows(padded[..., None])):
        seen += parts[at].reshape(seen.shape)
    return _tensor(raw, np.ascontiguousarray(padded[:, :, top : top + height, left : left + width]), (overlap - 1).bit_length())


def map_planes(self: SharedTensor, down: RingArray, across: RingArray) -> SharedTensor:
    """Returns down @ plane @ across^T for every plane, the last two dimensions; no round.

    Args:
        self: secret.
        down: (rows, height) int64, public whole coefficients.
        across: (columns, width) int64, public whole coefficients.
    """
    growth = (int(np.abs(down).sum(axis=1).max() * np.abs(across).sum(axis=1).max()) - 1).bit_length()
    across_turned = np.ascontiguousarray(across.T)
    return linear(self, lambda share: matmul(down, matmul(share, across_turned)), growth_bits=growth)


def map_planes_forward(ctx: Any, value: SharedTensor, down: RingArray, across: RingArray) -> SharedTensor:
    """See `functions`."""
    ctx.save_multiple_for_backward([down, across])
    return map_planes(value, down, across)


def map_planes_backward(ctx: Any, gradient: SharedTensor) -> SharedTensor:
    """See `functions`."""
    down, across = ctx.saved_tensors
    return map_planes(gradient, np.ascontiguousarray(down.T), np.ascontiguousarray(across.T))


def window_sums(length: int, window: int, step: int, border: int) -> RingArray:
    """Returns the 0 and 1 with which a line's windows add up, (windows, length)."""
    starts = np.arange((length + 2 * border - window) // step + 1)[:, None] * step - border
    places = np.arange(length)[None, :]
    return ((places >= starts) & (places < starts + window)).astype(np.int64)


def adaptive_means(length: int, windows: int) -> tuple[RingArray, int]:
    """Returns whole coefficients (windows, length) and what they are divided by, for means over torch's adaptive windows."""
    starts = [at * length // windows for at in range(windows)]
    stops = [-(-(at + 1) * length // windows) for at in range(windows)]
    divisor = math.lcm(*(stop - start for start, stop in zip(starts, stops, strict=True)))
    result = np.zeros((windows, length), np.int64)
    for at, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        result[at, start:stop] = divisor // (stop - start)
    return result, divisor


def _largest(value: SharedTensor, geometry: Geometry) -> tuple[SharedTensor, Won]:
    raw = _raw(value, 0)
    (height, width), (top, left) = geometry.size, geometry.padding
    padded = share = _share(raw)
    if top or left:
        border = _LEAST if current_engine().leads else 0
        padded = np.full((*share.shape[:2], height + 2 * top, width + 2 * left), border, np.int64)
        padded[:, :, top : top + height, left : left + width] = share
    entrants = np.stack([seen[..., 0] for _, _, seen in geometry.windows(padded[..., None])])
    # A message carries at most four dimensions.
    won = current_engine().run(tournament(current_engine(), entrants.reshape(len(entrants), -1)))
    return _tensor(raw, won.largest.reshape(entrants.shape[1:]), 0), won


def _raw(tensor: SharedTensor, growth_bits: int) -> Term:
    """Returns a tensor as it is, untruncated, with a factor that is not negative, or cut if it has no room to grow."""
    term = tensor.operand()
    if _grown(term, growth_bits) >= MAX_MAGNITUDE_BITS:
        term = tensor.coarse(VALUE_BITS)
    return positive(term)


def _share(term: Term) -> RingArray:
    return np.ascontiguousarray(term.view.share)


def _tensor(raw: Term, share: RingArray, growth_bits: int) -> SharedTensor:
    value = SharedValue(share, scale_bits=raw.view.value.scale_bits, magnitude_bits=_grown(raw, growth_bits))
    return SharedTensor(combination=Combination((raw.seen(ValueView(value)),)))


def _grown(term: Term, growth_bits: int) -> int:
    value = term.view.value
    return term.bounded(value.magnitude_bits + growth_bits, scale_bits=value.scale_bits, limit_bits=VALUE_LIMIT_BITS)
