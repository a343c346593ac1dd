"""GELU and leaky ReLU of shared tensors, forward and gradient."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from protocols.mpc.combination import Combination
from protocols.mpc.engine import together
from protocols.mpc.primitives import gelu as gelus
from protocols.mpc.primitives.clamping import MAX_SCALE_BITS
from protocols.mpc.tensor import comparisons
from protocols.mpc.tensor.shared_tensor import VALUE_LIMIT_BITS, SharedTensor, Whole, current_engine, run
from protocols.mpc.values import SharedValue, ValueView

SLOPE_BITS = 20  # of a leaky ReLU's public slope


def gelu(self: SharedTensor) -> Any:
    """Returns x times the normal distribution function of x, within 3e-5; five rounds."""
    taken = _taken(self)
    protocol = gelus.distribution(current_engine(), taken.share, taken.scale_bits)
    return _at_hand(self, taken).mul(run(protocol, self.shape, gelus.DISTRIBUTION_BITS, gelus.DISTRIBUTION_BITS + 1))


def gelu_forward(ctx: Any, value: SharedTensor) -> Any:
    """See `functions`; the slope comes in the same rounds."""
    engine, taken, shape = current_engine(), _taken(value), value.shape
    protocols = (gelus.distribution, gelus.slope)
    shares = engine.run(together(*(protocol(engine, taken.share, taken.scale_bits) for protocol in protocols)))
    bits = (gelus.DISTRIBUTION_BITS, gelus.SLOPE_BITS)
    distribution, slope = (
        # The slope is below 1.13.
        SharedTensor.of(SharedValue(share.reshape(shape), scale_bits=scale, magnitude_bits=scale + 1))
        for share, scale in zip(shares, bits, strict=True)
    )
    ctx.save_for_backward(slope)
    return _at_hand(value, taken).mul(distribution)


def gelu_backward(ctx: Any, gradient: SharedTensor) -> Any:
    """See `functions`."""
    (slope,) = ctx.saved_tensors
    return gradient.mul(slope)


def leaky_relu(self: SharedTensor, slope: Fraction) -> SharedTensor:
    """Returns the value, times a public slope from 0 to 1 (to 20 bits) where it is negative; four rounds."""
    rectified = comparisons.rectify(self)
    return _leaking(rectified.kept, rectified.whole, slope)


def leaky_relu_forward(ctx: Any, value: SharedTensor, slope: Fraction) -> SharedTensor:
    """See `functions`."""
    rectified = comparisons.rectify(value)
    ctx.save_multiple_for_backward([rectified.bit, slope])
    return _leaking(rectified.kept, rectified.whole, slope)


def leaky_relu_backward(ctx: Any, gradient: SharedTensor) -> SharedTensor:
    """See `functions`; one round."""
    bit, slope = ctx.saved_tensors
    gated = comparisons.gate(gradient, bit)
    return _leaking(gated.kept, gated.whole, slope)


def _leaking(kept: SharedTensor, whole: SharedTensor, slope: Fraction) -> SharedTensor:
    """Returns slope * whole + (1 - slope) * kept, exactly, at 20 fractional bits more than both."""
    (one,), (two,) = kept.combination.terms, whole.combination.terms
    value = two.view.value
    below = round(slope * 2**SLOPE_BITS)
    share = np.asarray(two.view.share * np.int64(below) + one.view.share * np.int64((1 << SLOPE_BITS) - below))
    scale = value.scale_bits + SLOPE_BITS
    magnitude = two.bounded(value.magnitude_bits + SLOPE_BITS, scale_bits=scale, limit_bits=VALUE_LIMIT_BITS)
    leaking = SharedValue(share, scale_bits=scale, magnitude_bits=magnitude)
    return SharedTensor(combination=Combination((two.seen(ValueView(leaking)),)))


def _taken(tensor: SharedTensor) -> Whole:
    return tensor.whole(MAX_SCALE_BITS)


def _at_hand(tensor: SharedTensor, taken: Whole) -> SharedTensor:
    """The tensor as the protocol took it: if that was rounded, the product need not round once more."""
    term = tensor.operand()
    if term.factor == 1 and term.view.value.scale_bits == taken.scale_bits:
        return tensor
    share = taken.share.reshape(tensor.shape)
    return SharedTensor.of(SharedValue(share, scale_bits=taken.scale_bits, magnitude_bits=taken.magnitude_bits))
