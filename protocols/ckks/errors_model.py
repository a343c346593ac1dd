"""How far an answer may be off: encoding, encryption, rescaling and key switching, carried through a model.

The evaluation runs once more with another arithmetic: beside plain values of sample rows it carries errors of the size that each
operation has, drawn from a generator of fixed seed, so that what folds and copies add up is added up here too. With N the ring
degree, an error of variance v in each coefficient has the variance v N / 2 in the real part of a slot, since a slot is the
polynomial's value at a root of unity (Cheon et al., ASIACRYPT 2017):

- encoding rounds coefficients: 1/12, but that of real numbers leaves all of its error in the real parts: N / 12 in a slot and
  not N / 24 (see `encoding_errors`);
- fresh encryption: the square of SEAL's standard deviation 3.2;
- rescaling rounds both parts, one of which meets the ternary key: (1 + 2N/3) / 12;
- key switching multiplies the error of a key, of deviation 3.2, with digits, and divides by the special prime. SEAL's digits are
  uniform from 0 to the prime, not around zero: their mean is a polynomial of equal coefficients, which is large near the root 1.
  There, in slots 0, 1, 2 and a few more, the error is up to fifty times as large as elsewhere and the same in every query. A
  special prime some bits larger than the first prime is the remedy.

Rows are points spread evenly in the declared range, and rows whose features are all alike, which make sums large. The bound is
`DEVIATIONS` standard deviations of the worst output. Nothing in it is fitted to models. It is a statistical bound for samples
within the range and not a worst case: rows that make values inside a model larger than these rows do can exceed it. What is
typical is the root mean square over all outputs of rows that are uniform in the range, over several draws of the errors. There
the rounding of weights is not drawn but computed: a model's weights are rounded once, the same way for every query and key, and
what that does to ten outputs may well be twice or half of what rounding does on the mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from protocols.ckks.encoding_errors import constant_encoding_error, encoding_error
from protocols.ckks.latency import run_program
from protocols.ckks.linear_operators import Float64
from protocols.ckks.parameters import ParameterSet
from protocols.ckks.program import Program
from protocols.ckks.slots import slot_exponents

DEVIATIONS = 6.0
_SPREAD_ROWS = 6
_EVEN_ROWS = 2
_ENCRYPTION_DEVIATION = 3.2
_TYPICAL_ROWS = 4
_TYPICAL_DRAWS = range(8, 33)  # at least, and at most
_TYPICAL_NUMBERS = 320  # of which the root mean square is off by a twenty-fifth on the mean, were all independent
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
    """A plaintext: its values and what encoding adds to them, both `(slots,)` or one number for all slots; level and scale."""

    values: Float64
    errors: Float64
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
        self.encoding = ring_degree / 12
        self.encryption = _ENCRYPTION_DEVIATION**2 * ring_degree / 2 + self.encoding
        self.rounding = (1 + 2 * ring_degree / 3) / 12 * ring_degree / 2
        self._generator = np.random.default_rng(seed)
        self.switches = [self._key_switch(level) for level in range(parameters.levels)]

    def _key_switch(self, level: int) -> Float64:
        ring_degree = self.parameters.ring_degree
        digits = sum((prime / self.parameters.special_prime) ** 2 for prime in self.parameters.primes[: level + 1])
        sizes = ring_degree / 12 + 1 / (4 * np.sin(np.pi * slot_exponents(ring_degree) / (2 * ring_degree)) ** 2)
        return np.asarray(digits * sizes * _ENCRYPTION_DEVIATION**2 * ring_degree / 2 + self.rounding, np.float64)

    def fresh(self, values: Float64, level: int, scale: float) -> Uncertain:
        """Returns a query with values `(rows, slots)`."""
        found = Uncertain(values, np.zeros((2, *values.shape)), level, scale)
        self.add_noise(found, self.encryption)
        return found

    def multiply_plain(self, ciphertext: Uncertain, plaintext: Weighted, /) -> Uncertain:
        """See `Engine`."""
        errors = ciphertext.errors * plaintext.values
        errors[1] += ciphertext.values * plaintext.errors
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
        ciphertext.errors[1] += plaintext.errors

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
        return Weighted(np.array(value), np.array(constant_encoding_error(value, scale)), level, scale)

    def encode(self, values: Float64, level: int, scale: float) -> Weighted:
        """Returns a plaintext whose error is drawn, since it depends on digits of weights that may be any."""
        deviation = math.sqrt(self.encoding) / scale
        drawn = self._generator.standard_normal(self.parameters.slots) * deviation
        return Weighted(values, np.asarray(drawn, np.float64), level, scale)

    def add_noise(self, ciphertext: Uncertain, variance: float | Float64) -> None:
        """Adds an error of this variance in every slot, in units of the plaintext."""
        drawn = self._generator.standard_normal(ciphertext.values.shape)
        ciphertext.errors[0] += drawn * (np.sqrt(variance) / ciphertext.scale)


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
    arithmetic = ErrorArithmetic(program.parameters)
    opened = _opened_errors(
        program, arithmetic, rows,
        diagonals=lambda *key: arithmetic.encode(vectors[key], *program.diagonal_form(*key[:2])),
        constants=lambda step: arithmetic.encode(constants[step], *program.constants_form(step)),
    )  # fmt: skip
    variances = (opened**2).mean(axis=1)
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
    diagonals = {key: _rounded(vector, *program.diagonal_form(*key[:2])) for key, vector in vectors.items()}
    added = {step: _rounded(vector, *program.constants_form(step)) for step, vector in constants.items()}
    wanted = -(-_TYPICAL_NUMBERS // (_TYPICAL_ROWS * int(outputs.sum())))
    squares = []
    for draw in range(min(max(wanted, _TYPICAL_DRAWS[0]), _TYPICAL_DRAWS[-1])):
        seed = _SEED + 1 + draw
        rows = np.random.default_rng(seed).uniform(low, high, (_TYPICAL_ROWS, features))
        opened = _opened_errors(
            program, ErrorArithmetic(program.parameters, seed), rows,
            diagonals=lambda *key: diagonals[key], constants=added.__getitem__,
        )  # fmt: skip
        squares.append((opened.sum(axis=0)[:, outputs] ** 2).mean())
    return math.sqrt(float(np.mean(squares)))


def _rounded(values: Float64, level: int, scale: float) -> Weighted:
    return Weighted(values, encoding_error(values, scale), level, scale)


def _opened_errors(
    program: Program,
    arithmetic: ErrorArithmetic,
    rows: Float64,
    *,
    diagonals: Callable[[int, int, int], Weighted],
    constants: Callable[[int], Weighted],
) -> Float64:
    """Returns `(2, rows, period)`: how far off each number is that is opened, from keys and from the rounding of weights."""
    features = program.feature_slots()
    values = np.repeat(np.where(features < 0, 0.0, rows[:, np.maximum(features, 0)]), program.samples, axis=1)
    answer = run_program(
        program, arithmetic, arithmetic.fresh(values, program.fresh_level, program.fresh_scale), None,
        diagonals=diagonals, constants=constants, constant=arithmetic.encode_constant,
    )  # fmt: skip
    # The encryption of zero that re-randomises an answer is made one prime higher, and rounded as a rescale does.
    arithmetic.add_noise(answer, arithmetic.rounding)
    # Opened is the sum over slots that are equal modulo the period, and over both halves of each.
    period = program.steps[-1].layout.period * program.samples
    opened = answer.errors.reshape(2, len(rows), -1, period).sum(axis=2) / program.answer_replicas
    return np.asarray(opened, np.float64)
