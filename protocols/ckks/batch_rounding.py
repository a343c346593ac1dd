"""How many bits inputs and weights get in the batch lane, the whole numbers that weights become, and the error that is left.

Nothing is rescaled: scales multiply up, a square squares them, and the final scale times the largest answer must stay below half
the modulus. Within that, fewer bits for weights mean more for the inputs, whose encryption noise decides how coarsely answers
must be flooded and rounded. The choice is made between the two.

Rounding a weight moves the output most in the direction of the mean input, and that part is taken back by the constants, which
are exact: a map's constants become v - D mu, with D the rounding errors and mu the mean of what comes in (the middle of the
declared range, carried through the maps). For inputs in [0, 1] this halves the error at no cost.

Errors are predicted as five standard deviations of the worst output, with inputs as far from the middle of their range as it
allows: rounding errors are as good as independent of the data (the L2 norm counts), but the data are not uniform.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from protocols.ckks.affine_chains import AffineMap
from protocols.ckks.digits import rounded_up
from protocols.ckks.parameters import ParameterSet
from protocols.ckks.protection import FLOOD_STD_IN_STEPS
from protocols.ckks.publication import STEP_IN_DEVIATIONS, finest_precision
from protocols.ckks.residue_products import MAX_EXACT

Float64 = NDArray[np.float64]
_DEVIATIONS = 5.0  # one of 1.7 million normal values lies further out
_NOISE = 3.2  # standard deviation of a coefficient of SEAL's error
_ROUNDING = 1 / math.sqrt(12)
_MOST_HIDDEN = 1_024  # numbers between two maps, up to which a bound by eigenvalues takes a second or two
_LEAST_BITS, _MOST_WEIGHT_BITS, _MOST_INPUT_BITS = 5, 24, 40


@dataclass(frozen=True)
class Scales:
    """Scales of the batch lane; public. All are whole numbers, so that constants are exact.

    Attributes:
        of_inputs: inputs are encoded at it.
        weight_bits: of each map: its weights are rounded to multiples of 2^-bits.
    """

    of_inputs: int
    weight_bits: tuple[int, ...]

    def after(self, number: int) -> int:
        """Returns the scale after map `number`, at which its constants are added."""
        scale = self.of_inputs
        for index in range(number + 1):
            scale = (scale * scale if index else scale) << self.weight_bits[index]
        return scale

    @property
    def of_answers(self) -> int:
        """The scale of answers."""
        return self.after(len(self.weight_bits) - 1)


@dataclass(frozen=True)
class Statistics:
    """What comes into and out of the maps of a model for inputs in a declared range, per number: means, spreads, bounds.

    Attributes:
        means: of what each map takes, under inputs uniform in their range.
        deviations: of what each map takes, about that mean, root mean square at most (inputs at the ends of their range).
        sizes: of what each map gives, root mean square at most.
        typical_deviations: as `deviations`, for inputs uniform in their range.
        typical_sizes: as `sizes`, likewise.
        limit: no answer of inputs in the range is larger.
    """

    means: tuple[Float64, ...]
    deviations: tuple[Float64, ...]
    sizes: tuple[Float64, ...]
    typical_deviations: tuple[Float64, ...]
    typical_sizes: tuple[Float64, ...]
    limit: float


@dataclass(frozen=True)
class Errors:
    """Predicted errors of an answer: standard deviations of the worst output.

    Attributes:
        rounding: from weights that became whole numbers.
        noise: from encryption, which an answer's flooding hides; of the typical output, so that the stated bits hold for it.
        typical: of both, root mean square over the outputs, for inputs uniform in their range.
    """

    rounding: float
    noise: float
    typical: float

    @property
    def noise_bound(self) -> float:
        """The key-dependent error that an answer hardly ever exceeds."""
        return rounded_up(_DEVIATIONS * self.noise)

    @property
    def max_error(self) -> float:
        """The error that an answer hardly ever exceeds, before flooding."""
        return _DEVIATIONS * math.hypot(self.rounding, self.noise)


@dataclass(frozen=True)
class Choice:
    """Scales, the errors that they leave, and the step that opened outputs are rounded to."""

    scales: Scales
    errors: Errors
    precision: float

    @property
    def flooding_bits(self) -> float:
        """Log2 of the flooding over the noise that evaluation leaves in an answer."""
        return math.log2(self.precision * FLOOD_STD_IN_STEPS / self.errors.noise)

    @property
    def published_error(self) -> float:
        """The error that an opened output hardly ever exceeds, with flooding, the querier's noise and rounding to the step."""
        added = self.precision * math.hypot(FLOOD_STD_IN_STEPS, 1 / STEP_IN_DEVIATIONS)
        return _DEVIATIONS * math.sqrt(self.errors.rounding**2 + self.errors.noise**2 + added**2) + self.precision / 2


def statistics(maps: Sequence[AffineMap], low: Float64, high: Float64) -> Statistics:
    """Carries an input range through the maps.

    Args:
        maps: with a square between any two.
        low: (inputs,) least value of each input.
        high: (inputs,) greatest.
    """
    ends = (low, high)
    mean, uniform, widest = (low + high) / 2, (high - low) ** 2 / 12, (high - low) ** 2 / 4
    means, deviations, sizes = [], [], []
    typical_deviations, typical_sizes = [], []
    limits = np.empty(0)
    for each in maps:
        means.append(mean)
        deviations.append(np.sqrt(widest))
        typical_deviations.append(np.sqrt(uniform))
        positive, negative = np.maximum(each.weights, 0), np.minimum(each.weights, 0)
        ends = (
            positive @ ends[0] + negative @ ends[1] + each.constants,
            positive @ ends[1] + negative @ ends[0] + each.constants,
        )
        limits = np.maximum(abs(ends[0]), abs(ends[1]))
        squared = each.weights**2
        mean, uniform, widest = each.weights @ mean + each.constants, squared @ uniform, squared @ widest
        sizes.append(np.sqrt(mean**2 + widest))
        typical_sizes.append(np.sqrt(mean**2 + uniform))
        # Of the square of a normal value: mean m^2 + v, variance 2 v^2 + 4 m^2 v; about the mean that `uniform` gives.
        centre = mean**2 + uniform
        widest = 2 * widest**2 + 4 * mean**2 * widest + (widest - uniform) ** 2
        uniform = 2 * uniform**2 + 4 * mean**2 * uniform
        mean = centre
        lowest = np.where((ends[0] < 0) & (ends[1] > 0), 0.0, np.minimum(abs(ends[0]), abs(ends[1])))
        ends = (lowest**2, limits**2)
    if len(maps) == 2 and max(maps[1].weights.shape) <= _MOST_HIDDEN:
        limits = np.minimum(limits, _quadratic_limits(maps[0], maps[1], (low + high) / 2, (high - low) / 2))
    return Statistics(
        tuple(means), tuple(deviations), tuple(sizes), tuple(typical_deviations), tuple(typical_sizes), float(limits.max())
    )


def _quadratic_limits(first: AffineMap, second: AffineMap, middle: Float64, radius: Float64) -> Float64:
    """Bounds |y| for y = V (W x + b)^2 + c by what it can be on the ball around the range of inputs.

    With x = middle + radius * u, |u|_2 <= sqrt(n): the constant, plus sqrt(n) times the norm of the gradient at the middle, plus
    n times the largest eigenvalue of the quadratic form. Much less than intervals give where weights have both signs.
    """
    spread = first.weights * radius
    values, vectors = np.linalg.eigh(spread @ spread.T)
    root = vectors * np.sqrt(np.maximum(values, 0))  # root root^T = spread spread^T
    centre = first.weights @ middle + first.constants
    count = first.weights.shape[1]
    limits = np.empty(len(second.weights))
    for number, (weights, constant) in enumerate(zip(second.weights, second.constants, strict=True)):
        curvature = abs(np.linalg.eigvalsh((root.T * weights) @ root)).max()
        gradient = np.linalg.norm(2 * (weights * centre) @ spread)
        limits[number] = abs(weights @ centre**2 + constant) + math.sqrt(count) * gradient + count * curvature
    return limits


def predict(maps: Sequence[AffineMap], found: Statistics, scales: Scales, parameters: ParameterSet) -> Errors:
    """Predicts the errors of the answers at some scales."""
    rounding, noise = _variances(maps, found.deviations, found.sizes, scales, parameters)
    typical = _variances(maps, found.typical_deviations, found.typical_sizes, scales, parameters)
    both = float((typical[0] + typical[1]).mean())
    return Errors(math.sqrt(rounding.max()), math.sqrt(noise.max()), math.sqrt(both))


def _variances(
    maps: Sequence[AffineMap],
    deviations: Sequence[Float64],
    sizes: Sequence[Float64],
    scales: Scales,
    parameters: ParameterSet,
) -> tuple[Float64, Float64]:
    """Variances of every output's error: from the rounding of weights, and from encryption."""
    per_slot = math.sqrt(parameters.slots * (_NOISE**2 + _ROUNDING**2)) / scales.of_inputs
    rounding, noise = np.zeros(maps[0].weights.shape[1]), np.full(maps[0].weights.shape[1], per_slot**2)
    for number, each in enumerate(maps):
        if number:
            factor = (2 * sizes[number - 1]) ** 2
            rounding, noise = factor * rounding, factor * noise
        squared = each.weights**2
        step = (_ROUNDING / 2.0 ** scales.weight_bits[number]) ** 2
        spread = each.support @ deviations[number] ** 2
        rounding, noise = squared @ rounding + step * spread, squared @ noise
    return rounding, noise


def largest_input_scale(parameters: ParameterSet, limit: float, weight_bits: Sequence[int]) -> int:
    """Returns the largest scale of inputs with which answers up to `limit` do not wrap around the modulus; 0 if there is none."""
    # Half the modulus for the sign, half for the sum of both conjugates that is opened, one percent for noise and flooding.
    room = math.prod(parameters.primes) // (4 * math.ceil(1.01 * limit))
    root = room // Scales(1, tuple(weight_bits)).of_answers
    for _ in weight_bits[1:]:
        root = math.isqrt(root)
    return min(root, 1 << _MOST_INPUT_BITS)


def choose(
    maps: Sequence[AffineMap],
    found: Statistics,
    parameters: ParameterSet,
    *,
    limit: float,
    precision: float | None,
    min_flooding_bits: float,
) -> Choice | None:
    """Chooses the bits with which opened outputs are nearest to the plain model's.

    Args:
        maps: with a square between any two.
        found: their statistics.
        parameters: the set to use.
        limit: of the answers, in absolute value.
        precision: the step that opened outputs are rounded to; None for the finest that hides the noise and fits the error.
        min_flooding_bits: log2 of the flooding over the noise of an answer is at least this.

    Returns:
        None if no scales give that.
    """
    best: Choice | None = None
    for weight_bits in _choices([_most_bits(each, parameters) for each in maps]):
        scales = Scales(largest_input_scale(parameters, limit, weight_bits), weight_bits)
        if scales.of_inputs < 1 << _LEAST_BITS:
            continue
        errors = predict(maps, found, scales, parameters)
        finest = finest_precision(errors.noise_bound, errors.max_error)
        choice = Choice(scales, errors, finest if precision is None else precision)
        fits = choice.precision >= finest and choice.flooding_bits >= min_flooding_bits
        if fits and (best is None or choice.published_error < best.published_error):
            best = choice
    return best


def whole_weights(maps: Sequence[AffineMap], found: Statistics, scales: Scales) -> list[tuple[NDArray[np.int64], list[int]]]:
    """Returns weights and constants of each map as whole numbers; secret."""
    rounded = []
    for number, each in enumerate(maps):
        scale = 2.0 ** scales.weight_bits[number]
        weights = np.rint(each.weights * scale)
        constants = each.constants - (weights / scale - each.weights) @ found.means[number]
        after = scales.after(number)
        # Beyond float64 where the scale is: a float is a fraction, and so exact here.
        rounded.append((weights.astype(np.int64), [round(Fraction(value) * after) for value in constants.tolist()]))
    return rounded


def _most_bits(each: AffineMap, parameters: ParameterSet) -> int:
    """The bits with which the products of a map's weights and residues are still exact; see `residue_products`."""
    rows, columns = each.weights.shape
    largest = float(abs(each.weights).sum(axis=1).max()) if rows else 0.0
    room = MAX_EXACT // max(parameters.primes) - 2 - columns
    return max(math.floor(math.log2(room / max(largest, 1.0))), 0)


def _choices(most: Sequence[int]) -> list[tuple[int, ...]]:
    """Bits of the weights of each map, at most so many."""
    return list(itertools.product(*(range(_LEAST_BITS, min(bits, _MOST_WEIGHT_BITS) + 1) for bits in most)))
