"""Functions of one shared tensor that need a protocol; domain and error are the protocol's.

Every function here is the value alone; `functions` gives it its gradient.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.mpc.primitives import exponential, logarithm, reciprocal, roots
from protocols.mpc.primitives import sigmoid as sigmoids
from protocols.mpc.primitives import softmax as softmaxes
from protocols.mpc.primitives import tanh as tanhs
from protocols.mpc.tensor.arithmetic import linear
from protocols.mpc.tensor.coin import next_mask
from protocols.mpc.tensor.comparisons import from_rows, to_rows
from protocols.mpc.tensor.shared_tensor import VALUE_LIMIT_BITS, SharedTensor, Whole, current_engine, refused, run

FINE_BITS = 24  # fractional bits of quotients, roots and logarithms
_EXP_BITS = exponential.RESULT_BITS + 16  # e^11 is below 2^16
_LOG_BITS = FINE_BITS + 6  # a logarithm of a ring number is below 44
_MAX_ROOT_BITS = 31  # a root of a ring number is below 2^31


def sigmoid(self: SharedTensor) -> SharedTensor:
    """Returns the sigmoid at 16 fractional bits, within 1e-4; two rounds."""
    taken = self.whole(sigmoids.MAX_SCALE_BITS)
    protocol = sigmoids.sigmoid(current_engine(), taken.share, taken.scale_bits, _declared(taken))
    return run(protocol, self.shape, sigmoids.RESULT_BITS, sigmoids.RESULT_BITS + 1)


def tanh(self: SharedTensor) -> SharedTensor:
    """Returns the hyperbolic tangent at 16 fractional bits, within 2e-4; two rounds."""
    taken = self.whole(sigmoids.MAX_SCALE_BITS)
    protocol = tanhs.tanh(current_engine(), taken.share, taken.scale_bits, _declared(taken))
    return run(protocol, self.shape, sigmoids.RESULT_BITS, sigmoids.RESULT_BITS + 1)


def exp(self: SharedTensor) -> SharedTensor:
    """Returns e^self at 16 fractional bits; above 11 it stays e^11. Four rounds."""
    taken = self.whole(exponential.MAX_SCALE_BITS)
    protocol = exponential.exp(current_engine(), taken.share, taken.scale_bits)
    return run(protocol, self.shape, exponential.RESULT_BITS, _EXP_BITS)


def log(self: SharedTensor, input_in_01: Any = False) -> SharedTensor:
    """Returns the natural logarithm at 24 fractional bits; numbers that are not positive count as the smallest one.

    `input_in_01` is accepted because CrypTen's code gives it; the protocol has no use for it.
    """
    taken = self.whole(logarithm.MAX_SCALE_BITS)
    protocol = logarithm.log(current_engine(), taken.share, taken.scale_bits, result_bits=FINE_BITS)
    return run(protocol, self.shape, FINE_BITS, _LOG_BITS)


def reciprocal_(self: SharedTensor, input_in_01: Any = False, all_pos: Any = False) -> SharedTensor:
    """Returns 1 / self at 24 fractional bits; zero counts as the smallest positive number. Eleven rounds.

    The hints `input_in_01` and `all_pos` are accepted because CrypTen's code gives them.
    """
    taken = self.whole(reciprocal.MAX_SCALE_BITS)
    protocol = reciprocal.reciprocal(current_engine(), taken.share, taken.scale_bits, result_bits=FINE_BITS)
    return run(protocol, self.shape, FINE_BITS, FINE_BITS + min(taken.scale_bits, reciprocal.OCTAVES // 2) + 1)


def sqrt(self: SharedTensor) -> SharedTensor:
    """Returns the square root at 24 fractional bits; 0 for numbers that are not positive. Eleven rounds."""
    taken = self.whole(roots.MAX_SCALE_BITS)
    protocol = roots.sqrt(current_engine(), taken.share, taken.scale_bits, result_bits=FINE_BITS)
    size = max(taken.magnitude_bits - taken.scale_bits, 0) // 2 + 2
    return run(protocol, self.shape, FINE_BITS, FINE_BITS + min(size, _MAX_ROOT_BITS))


def inv_sqrt(self: SharedTensor) -> SharedTensor:
    """Returns 1 / sqrt(self) at 24 fractional bits; numbers that are not positive count as the smallest one. Eleven rounds."""
    taken = self.whole(roots.MAX_SCALE_BITS)
    protocol = roots.inverse_sqrt(current_engine(), taken.share, taken.scale_bits, result_bits=FINE_BITS)
    return run(protocol, self.shape, FINE_BITS, FINE_BITS + taken.scale_bits // 2 + 2)


def softmax_of_rows(self: SharedTensor) -> SharedTensor:
    """Returns the softmax of every row of a matrix at 16 fractional bits."""
    taken = self.whole(softmaxes.MAX_SCALE_BITS)
    protocol = softmaxes.softmax(current_engine(), taken.share, taken.scale_bits)
    return run(protocol, self.shape, softmaxes.RESULT_BITS, softmaxes.RESULT_BITS + 1)


def log_softmax_of_rows(self: SharedTensor) -> SharedTensor:
    """Returns the logarithm of the softmax of every row of a matrix at 16 fractional bits."""
    taken = self.whole(softmaxes.MAX_SCALE_BITS)
    protocol = softmaxes.log_softmax(current_engine(), taken.share, taken.scale_bits)
    size = max(taken.magnitude_bits - taken.scale_bits, 0) + 3
    return run(protocol, self.shape, softmaxes.RESULT_BITS, softmaxes.RESULT_BITS + size)


def softmax(self: SharedTensor, dim: int) -> Any:
    """Returns the softmax along a dimension."""
    rows, shape = to_rows(self, dim)
    return from_rows(rows.softmax_of_rows(), shape, dim)


def log_softmax(self: SharedTensor, dim: int) -> Any:
    """Returns the logarithm of the softmax along a dimension."""
    rows, shape = to_rows(self, dim)
    return from_rows(rows.log_softmax_of_rows(), shape, dim)


def keep(self: SharedTensor, mask: NDArray[np.integer], factor: Fraction) -> SharedTensor:
    """Returns what a public mask of 0 and 1 keeps, times a public factor; no communication.

    Unlike `mul` it does the same operations whatever the mask is, so a plan does not depend on it.
    """
    bits = np.asarray(mask, np.int64)
    if bits.shape != self.shape or not np.isin(bits, (0, 1)).all():
        raise refused("a mask that is not 0 and 1 in the tensor's shape")
    kept = linear(self, lambda share: np.asarray(share * bits), growth_bits=0)
    return SharedTensor(combination=kept.combination.times(factor))


def dropout(self: SharedTensor, p: Any = 0.5, training: Any = True, inplace: Any = False) -> Any:
    """Returns the tensor with elements dropped by the next public coin, the others divided by 1 - p.

    Raises:
        ConfideError: INVALID_MODEL (the program's author's fault) without a coin (`use_coin`), or in place.
    """
    if inplace:
        raise refused("dropout in place")
    if not training or p == 0:
        return self.clone()
    rate = Fraction(p).limit_denominator(10**6)
    return self.keep(next_mask(self.shape, rate), 1 / (1 - rate))


def _declared(taken: Whole) -> int:
    """Returns the bits that bound a tensor's ring elements: proven, or declared of every tensor."""
    return min(taken.magnitude_bits, taken.scale_bits + VALUE_LIMIT_BITS)
