"""Values scaled to mean 0 and variance 1 over groups of them, forward and gradient (docs/protocols/normalising.md).

With d = x - mean, v = mean of d^2 + epsilon, s = 1 / sqrt(v) and a factor k = s * weight for each group, the result is d k, and

    gradient of x = k (g - mean of g) - d (k s^2 mean of g d),    gradient of the weight = s * sum of g d.

d and g are opened once each; sums over a group cost one correction a group, not one an element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import VALUE_BITS
from protocols.mpc.combination import Combination, Term
from protocols.mpc.primitives.products import inner
from protocols.mpc.primitives.roots import inverse_sqrt
from protocols.mpc.tensor.arithmetic import fitted, product_of
from protocols.mpc.tensor.shapes import count_of
from protocols.mpc.tensor.shared_tensor import VALUE_LIMIT_BITS, SharedTensor, current_engine
from protocols.mpc.values import SharedValue, ValueView
from protocols.ring import RingArray

VARIANCE_BITS = 32
ROOT_BITS = 24  # fractional bits of 1 / sqrt(variance), and of factors made with it


@dataclass(frozen=True, repr=False)
class Statistics:
    """Of every group; secret.

    Attributes:
        mean: with a pending factor.
        variance: biased, without epsilon, at 32 fractional bits.
        count: how many values a group has; public.
    """

    mean: SharedTensor
    variance: SharedTensor
    count: int


@dataclass(frozen=True, repr=False)
class _Normal:
    """d, s, k and the statistics, as the module says."""

    deviation: SharedTensor
    inverse: SharedTensor
    factor: SharedTensor
    statistics: Statistics


def normalise(
    self: SharedTensor, weight: SharedTensor | None, axes: tuple[int, ...], epsilon: Fraction, seen: list[Statistics]
) -> SharedTensor:
    """Returns the values of every group scaled to mean 0 and variance 1, times its weight, at 40 fractional bits.

    Sixteen rounds for values at 16 fractional bits, eighteen with a weight, one less for groups of a power of two; 8 bytes an
    element and some for each group (docs/protocols/normalising.md). The factor of a group is within 2^-22 + 2^-14 of itself,
    the latter for a variance of 0 at the least epsilon; deviations are within two units of 2^-16.

    Args:
        self: secret.
        weight: one for every group, of the shape that sums over the axes have; None for 1.
        axes: over which a group runs.
        epsilon: what is added to the variance, at least 0.00001; public.
        seen: gets the statistics.
    """
    normal = _normal(self, weight, axes, epsilon)
    seen.append(normal.statistics)
    return _result(normal)


def normalise_forward(
    ctx: Any, value: SharedTensor, weight: SharedTensor | None, axes: tuple[int, ...], epsilon: Fraction, seen: list[Statistics]
) -> SharedTensor:
    """See `functions`."""
    normal = _normal(value, weight, axes, epsilon)
    ctx.save_multiple_for_backward([normal, value, weight, axes])
    seen.append(normal.statistics)
    return _result(normal)


def normalise_backward(ctx: Any, gradient: SharedTensor) -> Any:
    """See `functions`."""
    normal, value, weight, axes = ctx.saved_tensors
    count = normal.statistics.count
    # A gradient is small beside the ring's resolution; its pending factor waits until the end.
    term = gradient.coarse(VALUE_BITS)
    unit = SharedTensor(combination=Combination((Term(term.view),)))
    factors = (term.factor * term.rows, term.rows)
    products = _settled(_inner(unit, normal.deviation, axes))
    by_weight = products.mul(normal.inverse)
    of_value = None
    if value.requires_grad:
        push = _settled(_settled(by_weight).div(count).mul(normal.inverse))
        push = _settled(push.mul(normal.factor))
        mean = _settled(unit.sum(axes, True).div(count))
        pulled = unit.mul(normal.factor).sub(_settled(mean.mul(normal.factor)))
        of_value = _scaled(pulled.sub(normal.deviation.mul(push)), factors)
    if weight is None:
        return of_value
    return of_value, _scaled(by_weight, factors)


def inverse_deviation(variance: SharedTensor, epsilon: RingArray) -> SharedTensor:
    """Returns 1 / sqrt(variance + epsilon) at 24 fractional bits; eleven rounds, one more if the variance is not settled.

    Args:
        variance: secret; what is below 0 by rounding counts as 0.
        epsilon: int64 of its shape at 32 fractional bits, at least 0.00001; public.
    """
    engine, shape = current_engine(), tuple(variance.size())
    settled = variance.settle(VARIANCE_BITS)
    raised = settled.share + engine.public(epsilon)
    share = engine.run(inverse_sqrt(engine, raised.reshape(-1), VARIANCE_BITS, result_bits=ROOT_BITS))
    # 1 / sqrt(0.00001) is below 2^9.
    value = SharedValue(share.reshape(shape), scale_bits=ROOT_BITS, magnitude_bits=ROOT_BITS + 9)
    return SharedTensor.of(value)


@dataclass(frozen=True, repr=False)
class BatchNormTensors:
    """What a batch norm holds, (channels,) each: secret; weight 1 and bias 0 as constants if it has none; epsilon public."""

    weight: SharedTensor
    bias: SharedTensor
    mean: SharedTensor
    variance: SharedTensor
    epsilon: Fraction


def folded_norms(norms: Sequence[BatchNormTensors], *, for_session: bool) -> list[tuple[SharedTensor, SharedTensor]]:
    """Returns scale and shift of batch norms at inference: weight / sqrt(variance + epsilon), and bias - mean * scale.

    All of them in the same rounds.

    Args:
        norms: what they hold.
        for_session: whether the scales' masks serve all later segments.
    """
    epsilon = np.concatenate([_epsilon(norm.epsilon, tuple(norm.variance.size())) for norm in norms])
    weight, bias, mean, variance = (
        SharedTensor.cat([getattr(norm, name) for norm in norms]) for name in ("weight", "bias", "mean", "variance")
    )
    scale = _settled(inverse_deviation(variance, epsilon).mul(weight))
    shift = _settled(bias.sub(mean.mul(scale)))
    whole, moved = scale.operand().view, shift.operand().view
    ends = np.cumsum([int(norm.variance.size(0)) for norm in norms])[:-1]
    return [
        (_piece(whole, scales, for_session=for_session), _piece(moved, shifts, for_session=False))
        for scales, shifts in zip(np.split(whole.share, ends), np.split(moved.share, ends), strict=True)
    ]


def _piece(view: ValueView, share: RingArray, *, for_session: bool) -> SharedTensor:
    value = view.value
    piece = SharedValue(share, scale_bits=value.scale_bits, magnitude_bits=value.magnitude_bits, for_session=for_session)
    return SharedTensor.of(piece)


def _epsilon(epsilon: Fraction, shape: tuple[int, ...]) -> RingArray:
    return np.full(shape, round(epsilon * 2**VARIANCE_BITS), np.int64)


def _normal(value: SharedTensor, weight: SharedTensor | None, axes: tuple[int, ...], epsilon: Fraction) -> _Normal:
    count = count_of(value, axes)
    if count < 2:
        raise ConfideError(
            ErrorCode.INVALID_MODEL, "a normalisation over a single value", remedy="Use batches of at least two rows."
        )
    rounded = SharedTensor(combination=Combination((value.coarse(VALUE_BITS),)))
    mean = rounded.sum(axes, True).div(count)
    deviation = SharedTensor.of(rounded.sub(_settled(mean, VALUE_BITS)).settle(VALUE_BITS))
    variance = _inner(deviation, deviation, axes).div(count)
    inverse = inverse_deviation(variance, _epsilon(epsilon, tuple(variance.size())))
    factor = inverse if weight is None else _settled(inverse.mul(weight))
    return _Normal(deviation, inverse, factor, Statistics(mean, variance, count))


def _result(normal: _Normal) -> SharedTensor:
    result: SharedTensor = normal.deviation.mul(normal.factor)
    return result


def _inner(left: SharedTensor, right: SharedTensor, axes: tuple[int, ...]) -> SharedTensor:
    one, two, magnitude = fitted(left, right, inner=count_of(left, axes))
    share = current_engine().run(inner(current_engine(), one.view, two.view, axes))
    return product_of(one, two, share, magnitude)


def _settled(tensor: Any, scale_bits: int = ROOT_BITS) -> SharedTensor:
    """The tensor at one scale: that of factors of groups if no other is given."""
    engine = current_engine()
    return SharedTensor.of(
        engine.run(tensor.combination.settle(engine, scale_bits, magnitude_bits=scale_bits + VALUE_LIMIT_BITS))
    )


def _scaled(tensor: Any, factors: tuple[Fraction, int]) -> SharedTensor:
    """Multiplies the gradient's pending factor back in; the declared limits hold for the sum over the rows."""
    whole = tensor.combination.whole()
    combination = (tensor.combination if whole is None else Combination((whole,))).times(factors[0])
    return SharedTensor(combination=combination.mean_over(factors[1]) if factors[1] > 1 else combination)
