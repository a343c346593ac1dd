"""How far an answer may be off: encoding, encryption, rescaling and key switching, carried through a model.

The evaluation runs once more with another arithmetic: beside plain values of sample rows it carries errors of the size that each
operation has, drawn from a generator of fixed seed, so that what folds and copies add up is added up here too. With N the ring
degree, an error of variance v in each coefficient has the variance v N / 2 in the real part of a slot, since a slot is the
polynomial's value at a root of unity (Cheon et al., ASIACRYPT 2017):

- encoding rounds coefficients: 1/12;
- fresh encryption: the square of SEAL's standard deviation 3.2;
- rescaling rounds both parts, one of which meets the ternary key: (1 + 2N/3) / 12;
- key switching multiplies the error of a key, of deviation 3.2, with digits, and divides by the special prime. SEAL's digits are
  uniform from 0 to the prime, not around zero: their mean is a polynomial of equal coefficients, which is large near the root 1.
  There, in slots 0, 1, 2 and a few more, the error is up to fifty times as large as elsewhere and the same in every query. A
  special prime some bits larger than the first prime is the remedy.

Rows are points spread evenly in the declared range, and rows whose features are all alike, which make sums large. The bound is
`DEVIATIONS` standard deviations of the worst output. Nothing in it is fitted to models. It is a statistical bound for samples
within the range and not a worst case: rows that make values inside a model larger than these rows do can exceed it. What is
typical is the root mean square over all outputs of rows that are uniform in the range, over several draws of the errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from protocols.ckks.latency import run_program
from protocols.ckks.linear_operators import Float64
from protocols.ckks.parameters import ParameterSet
from protocols.ckks.program import Program

DEVIATIONS = 6.0
_SPREAD_ROWS = 6
_EVEN_ROWS = 2
_ENCRYPTION_DEVIATION = 3.2
_TYPICAL_ROWS = 4
_TYPICAL_DRAWS = 8
_SEED = 20260101  # of what stands for errors: the same plan comes out everywhere


@dataclass(frozen=True)
class PredictedError:
    """Of an output, absolute, to be expected at most.

    Attributes:
        total: of everything.
        noise: without the rounding of weights: what depends on keys.
    """

    total: float
    noise: float


@dataclass(frozen=True)
class Weighted:
    """A plaintext: its values `(slots,)`, or one for all slots, level and scale."""

    values: Float64
    level: int
    scale: float


@dataclass
class Uncertain:
    """A ciphertext: what it holds for sample rows, and how far it is off.

    Attributes:
        values: `(rows, slots)`.
        errors: `(2, rows, slots)`: from what depends on keys, and from the rounding of weights.
        level: its level.
        scale: its scale.
    """

    values: Float64
    errors: Float64
    level: int
    scale: float


class ErrorArithmetic:
    """Computes in the clear, with the variances of errors beside."""

    def __init__(self, parameters: ParameterSet, seed: int = _SEED) -> None:
        self.parameters = parameters
        ring_degree = parameters.ring_degree
        self.encoding = ring_degree / 24
        self.encryption = _ENCRYPTION_DEVIATION**2 * ring_degree / 2 + self.encoding
        self.rounding = (1 + 2 * ring_degree / 3) / 12 * ring_degree / 2
        self._generator = np.random.default_rng(seed)
        self.switches = [self._key_switch(level) for level in range(parameters.levels)]

    def _key_switch(self, level: int) -> Float64:
        ring_degree = self.parameters.ring_degree
        powers, power = np.empty(self.parameters.slots), 1
        for slot in range(self.parameters.slots):
            powers[slot], power = power, power * 3 % (2 * ring_degree)
        digits = sum((prime / self.parameters.special_prime) ** 2 for prime in self.parameters.primes[: level + 1])
        sizes = ring_degree / 12 + 1 / (4 * np.sin(np.pi * powers / (2 * ring_degree)) ** 2)
        return np.asarray(digits * sizes * _ENCRYPTION_DEVIATION**2 * ring_degree / 2 + self.rounding, np.float64)

    def fresh(self, values: Float64, level: int, scale: float) -> Uncertain:
        """Returns a query with values `(rows, slots)`."""
        found = Uncertain(values, np.zeros((2, *values.shape)), level, scale)
        self.add_noise(found, self.encryption)
        return found

    def multiply_plain(self, ciphertext: Uncertain, plaintext: Weighted, /) -> Uncertain:
        """See `Engine`."""
        errors = ciphertext.errors * plaintext.values
        errors[1] += ciphertext.values * self._rounded(plaintext)
        scale = ciphertext.scale * plaintext.scale
        return Uncertain(ciphertext.values * plaintext.values, errors, ciphertext.level, scale)

    def add_inplace(self, left: Uncertain, right: Uncertain, /) -> None:
        """See `Engine`."""
        left.values = left.values + right.values
        left.errors = left.errors + right.errors

    def add_plain_inplace(self, ciphertext: Uncertain, plaintext: Weighted, /) -> None:
        """See `Engine`."""
        ciphertext.values = ciphertext.values + plaintext.values
        ciphertext.errors = ciphertext.errors.copy()
        ciphertext.errors[1] += self._rounded(plaintext)

    def rotate(self, ciphertext: Uncertain, step: int, _keys: None, /) -> Uncertain:
        """See `Engine`."""
        values, errors = (np.roll(each, -step, axis=-1) for each in (ciphertext.values, ciphertext.errors))
        found = Uncertain(values, errors, ciphertext.level, ciphertext.scale)
        self.add_noise(found, self.switches[found.level])
        return found

    def square(self, ciphertext: Uncertain, keys: None, /) -> Uncertain:
        """See `Engine`."""
        return self.multiply(ciphertext, ciphertext, keys)

    def multiply(self, left: Uncertain, right: Uncertain, _keys: None, /) -> Uncertain:
        """See `Engine`."""
        errors = left.values * right.errors + right.values * left.errors
        found = Uncertain(left.values * right.values, errors, left.level, left.scale * right.scale)
        self.add_noise(found, self.switches[found.level])
        return found

    def rescale(self, ciphertext: Uncertain, /) -> None:
        """See `Engine`."""
        ciphertext.scale /= self.parameters.primes[ciphertext.level]
        ciphertext.level -= 1
        ciphertext.errors = ciphertext.errors.copy()
        self.add_noise(ciphertext, self.rounding)

    def drop_to(self, ciphertext: Uncertain, level: int, /) -> Uncertain:
        """See `Engine`."""
        return Uncertain(ciphertext.values, ciphertext.errors, level, ciphertext.scale)

    def level_of(self, ciphertext: Uncertain, /) -> int:
        """See `Engine`."""
        return ciphertext.level

    def set_scale(self, ciphertext: Uncertain, scale: float, /) -> None:
        """See `Engine`."""
        ciphertext.scale = scale

    def encode_constant(self, value: float, level: int, scale: float, /) -> Weighted:
        """See `Engine`."""
        return Weighted(np.array(value), level, scale)

    def add_noise(self, ciphertext: Uncertain, variance: float | Float64) -> None:
        """Adds an error of this variance in every slot, in units of the plaintext."""
        drawn = self._generator.standard_normal(ciphertext.values.shape)
        ciphertext.errors[0] += drawn * (np.sqrt(variance) / ciphertext.scale)

    def _rounded(self, plaintext: Weighted) -> Float64:
        deviation = math.sqrt(self.encoding) / plaintext.scale
        return np.asarray(self._generator.standard_normal(self.parameters.slots) * deviation, np.float64)


def spread_rows(features: int, low: float, high: float) -> Float64:
    """Returns `(rows, features)` points spread evenly in a range (a Weyl sequence), and rows whose features are all alike."""
    steps = np.sqrt(np.arange(features) + 2.0) % 1.0 + (math.sqrt(5) - 1) / 2
    unit = np.outer(np.arange(1, _SPREAD_ROWS + 1), steps) % 1.0
    alike = np.repeat(np.linspace(0.0, 1.0, _EVEN_ROWS)[:, None], features, axis=1)
    return low + (high - low) * np.concatenate((unit, alike))


def predicted_error(
    program: Program,
    vectors: Mapping[tuple[int, int, int], Float64],
    constants: Mapping[int, Float64],
    low: float,
    high: float,
) -> PredictedError:
    """Returns the largest error of an output to be expected.

    Args:
        program: what is done.
        vectors: the diagonals, by step, term and number; secret.
        constants: by step; secret.
        low: of the samples' features.
        high: likewise.
    """
    rows = spread_rows(int(program.feature_slots().max()) + 1, low, high)
    variances = (_opened_errors(program, vectors, constants, rows, seed=_SEED) ** 2).mean(axis=1)
    total, own = float(variances.sum(axis=0).max()), float(variances[0].max())
    return PredictedError(DEVIATIONS * math.sqrt(total), DEVIATIONS * math.sqrt(own))


def typical_error(
    program: Program,
    vectors: Mapping[tuple[int, int, int], Float64],
    constants: Mapping[int, Float64],
    low: float,
    high: float,
) -> float:
    """Returns the root mean square error of the outputs of rows that are uniform in the range; arguments as `predicted_error`."""
    features = int(program.feature_slots().max()) + 1
    period = program.steps[-1].layout.period
    outputs = np.repeat(program.output_slots()[:period] >= 0, program.samples)
    squares = []
    for draw in range(_TYPICAL_DRAWS):
        seed = _SEED + 1 + draw
        rows = np.random.default_rng(seed).uniform(low, high, (_TYPICAL_ROWS, features))
        opened = _opened_errors(program, vectors, constants, rows, seed=seed)
        squares.append((opened.sum(axis=0)[:, outputs] ** 2).mean())
    return math.sqrt(float(np.mean(squares)))


def _opened_errors(
    program: Program,
    vectors: Mapping[tuple[int, int, int], Float64],
    constants: Mapping[int, Float64],
    rows: Float64,
    *,
    seed: int,
) -> Float64:
    """Returns `(2, rows, period)`: how far off each number is that is opened, from keys and from the rounding of weights."""
    arithmetic = ErrorArithmetic(program.parameters, seed)
    features = program.feature_slots()
    values = np.repeat(np.where(features < 0, 0.0, rows[:, np.maximum(features, 0)]), program.samples, axis=1)

    def diagonal(step: int, term: int, number: int) -> Weighted:
        where = program.steps[step].terms[term]  # type: ignore[union-attr]
        return Weighted(vectors[step, term, number], where.level, where.weight_scale)

    answer = run_program(
        program, arithmetic, arithmetic.fresh(values, program.fresh_level, program.fresh_scale), None,
        diagonals=diagonal,
        constants=lambda step: Weighted(constants[step], program.steps[step].level, program.steps[step].scale),
        constant=arithmetic.encode_constant,
    )  # fmt: skip
    # The encryption of zero that re-randomises an answer is made one prime higher, and rounded as a rescale does.
    arithmetic.add_noise(answer, arithmetic.rounding)
    # Opened is the sum over slots that are equal modulo the period, and over both halves of each.
    period = program.steps[-1].layout.period * program.samples
    opened = answer.errors.reshape(2, len(rows), -1, period).sum(axis=2) / program.answer_replicas
    return np.asarray(opened, np.float64)
