"""What the model owner does to every answer before it leaves: one form, fresh randomness in all parts, flooding, and a mask.

What an evaluated ciphertext would tell its owner, who holds the secret key, beyond the declared outputs:

1. Level and scale depend on what was computed. Every answer leaves at the level, scale and number of parts of its plan.
2. Slots. Whoever asks chooses what is in the slots, and need not lay them out as the plan says: other values in the copies of a
   sample, or in the imaginary halves, come back as that many more equations in the weights. A uniform polynomial of trace zero is
   added (`protocols.ckks.orbits`): what is left is one real number per declared output, whatever was sent.
3. Its parts are a function of the weights: c1'/c1 is a weight polynomial, exactly. A fresh encryption of zero is added. It has
   two parts, so an answer of three gets Enc(0) x Enc(0) + Enc(0); otherwise its third part would stay an exact quadratic form in
   the weights.
4. Its noise depends on the weights. A rounded Gaussian is added to all N coefficients. A slot holds a complex number, and the map
   from slots to coefficients is a multiple of an orthogonal one, so independent Gaussians in both halves of every slot are
   independent Gaussians in the coefficients, which the encoder rounds to integers.

How much flooding that is: `flooding_bits`. It is hygiene under a query budget and not a proof: circuit privacy for CKKS needs
noise exponential in the security parameter (Kluczniak and Santato, eprint 2023/301). It holds for inputs within the declared
range, which the owner cannot check. The mask holds for all inputs. For keys that are not well formed, which it cannot check
either, the masked parts still carry no more than one number modulo the answer's primes per declared output.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.ckks.engine import Ciphertext, Engine, PublicKey, SecretKey
from protocols.ckks.gaussian import KEY_BYTES, MAX_DEVIATIONS, complex_gaussian
from protocols.ckks.orbits import mask, means
from protocols.ckks.planning import EncryptedPlan
from protocols.errors import ConfideError, ErrorCode

FLOOD_STD_IN_STEPS = 1 / 4
"""Standard deviation of the flooding of an output, in steps of the plan's precision."""
_SCALE_TOLERANCE = 2.0**-20
_FINE_ENOUGH = 2.0**48  # encoded, in a slot; a coefficient has a thirtieth of it and less, and is exact to a unit
_NEXT_LAYER = 2.0**-36  # 2^16 times the last bit of a float64 of the layer before


@dataclass(frozen=True)
class AnswerForm:
    """The form that every answer of a plan has; public.

    Attributes:
        level: its level.
        scale: its scale.
        parts: 2, or 3.
        period: how many real numbers it holds: slots that are equal modulo the period are summed up by whoever opens it.
        replicas: how many times that sum holds the value: all slots if each holds it whole, 1 if they hold the parts of one sum.
        flood_std: standard deviation of the flooding of an opened value.
    """

    level: int
    scale: float
    parts: int
    period: int
    replicas: int
    flood_std: float

    def __post_init__(self) -> None:
        if self.parts not in (2, 3) or self.level < 0 or not 0 < self.flood_std < math.inf or not 1 <= self.scale < math.inf:
            raise ValueError("an answer has 2 or 3 parts, a level, a scale of 1 or more and flooding")
        if self.period < 1 or self.period & (self.period - 1) or self.replicas < 1:
            raise ValueError("a period is a power of two, and flooding hides one value at least")
        if self.flood_std * self.scale < 1:
            raise ValueError("flooding of less than one unit of the scale would be rounded away")

    @property
    def flood_error(self) -> float:
        """How far flooding moves a value, but for a chance of 2^-50."""
        return MAX_DEVIATIONS * self.flood_std

    def slot_std(self, slots: int) -> float:
        """Standard deviation of the flooding in each half of a slot, of which `slots / period` are summed up twice."""
        return self.flood_std * self.replicas / math.sqrt(slots / self.period)

    def coefficient_std(self, slots: int) -> float:
        """Standard deviation of the flooding of each of the 2 x `slots` coefficients before it is rounded to whole numbers."""
        return self.slot_std(slots) * self.scale / math.sqrt(slots)


def answer_form(plan: EncryptedPlan) -> AnswerForm:
    """Returns the form of a plan's answers. Flooding moves no output by more than 2.2 times the plan's precision.

    Raises:
        ConfideError: INVALID_DOCUMENT (its author's fault): a plan whose answers could not be flooded.
    """
    try:
        form = AnswerForm(
            level=plan.keys.answer_level,
            scale=plan.answer_scale,
            parts=plan.answer_parts,
            period=plan.period,
            replicas=plan.answer_replicas,
            flood_std=plan.precision * FLOOD_STD_IN_STEPS,
        )
        if form.coefficient_std(plan.parameters.slots) < 1:
            raise ValueError("flooding of less than one unit in a coefficient would be rounded away")
        return form
    except ValueError as error:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"the plan for encrypted inference: {error}") from error


def flood_layers(slot_std: float, scale: float) -> tuple[float, ...]:
    """Returns the standard deviations of the Gaussians that flooding is the sum of.

    A Gaussian in float64 has 53 bits. At the scales of the batch lane, far beyond 2^53, its coefficients are multiples of a power
    of two: what evaluation left below that power would be seen without noise, an exact equation in the weights for every
    coefficient. So finer Gaussians are added until the last one, encoded, reaches the units.

    Args:
        slot_std: standard deviation in each half of a slot, in units of the answer's values.
        scale: of the answer.
    """
    layers = [slot_std]
    while layers[-1] * scale > _FINE_ENOUGH:
        layers.append(layers[-1] * _NEXT_LAYER)
    return tuple(layers)


def flooding_bits(form: AnswerForm, noise_std: float) -> float:
    """Returns log2 of the flooding over the standard deviation of the noise that evaluation leaves in an opened value."""
    return math.log2(form.flood_std / noise_std)


class ReRandomisers:
    """Encryptions of zero made ahead of time, for one public key and one form of answers. Each is used once.

    Secret: whoever knows one can take it off the answer that it was added to.
    """

    def __init__(self, engine: Engine, public_key: PublicKey, *, level: int, parts: int) -> None:
        self._engine, self._public_key, self._level, self._parts = engine, public_key, level, parts
        self._made: deque[Ciphertext] = deque()

    def __len__(self) -> int:
        return len(self._made)

    def fill(self, count: int) -> None:
        """Makes `count` more."""
        self._made.extend(self._make() for _ in range(count))

    def take(self, public_key: PublicKey, *, level: int, parts: int) -> Ciphertext:
        """Returns one that was never returned before, made now if none is left."""
        if (public_key, level, parts) != (self._public_key, self._level, self._parts):
            raise ValueError("these encryptions of zero are for another key or form of answers")
        return self._made.popleft() if self._made else self._make()

    def _make(self) -> Ciphertext:
        return fresh_zero(self._engine, self._public_key, level=self._level, parts=self._parts)


def fresh_zero(engine: Engine, public_key: PublicKey, *, level: int, parts: int) -> Ciphertext:
    """Returns an encryption of zero whose 2 or 3 parts are all fresh."""
    zero = engine.encrypt_zero(public_key, level)
    if parts == 2:
        return zero
    product = engine.multiply_raw(engine.encrypt_zero(public_key, level), engine.encrypt_zero(public_key, level))
    engine.set_scale(product, engine.scale_of(zero))
    engine.add_inplace(product, zero)
    return product


def protect(
    engine: Engine,
    ciphertext: Ciphertext,
    public_key: PublicKey,
    randomness: Callable[[int], bytes],
    *,
    form: AnswerForm,
    pool: ReRandomisers | None = None,
) -> Ciphertext:
    """Returns the answer that may leave; the argument is not changed.

    Args:
        engine: SEAL.
        ciphertext: what evaluation gave; at the answer's level or above, at its scale.
        public_key: the querier's.
        randomness: gives fresh secret bytes.
        form: what every answer of the plan looks like.
        pool: encryptions of zero made ahead, for this key and form.

    Raises:
        ConfideError: INTERNAL (ours): evaluation gave another form than the plan says, which would show in the answer.

    Learns: the querier one real number for each slot of a period, within the flooding.
    """
    scale, parts = engine.scale_of(ciphertext), engine.parts_of(ciphertext)
    if parts != form.parts or abs(scale / form.scale - 1) > _SCALE_TOLERANCE or engine.level_of(ciphertext) < form.level:
        raise ConfideError(
            ErrorCode.INTERNAL,
            f"an answer of {parts} parts, level {engine.level_of(ciphertext)} and scale {scale:.6g} where the plan says "
            f"{form.parts} parts, level {form.level} and scale {form.scale:.6g}",
        )
    answer = engine.drop_to(ciphertext, form.level)
    engine.set_scale(answer, form.scale)
    if pool is None:
        zero = fresh_zero(engine, public_key, level=form.level, parts=form.parts)
    else:
        zero = pool.take(public_key, level=form.level, parts=form.parts)
    engine.set_scale(zero, form.scale)
    engine.add_inplace(answer, zero)
    parameters = engine.parameters
    for deviation in flood_layers(form.slot_std(parameters.slots), form.scale):
        flood = complex_gaussian(randomness(KEY_BYTES), parameters.slots) * deviation
        engine.add_plain_inplace(answer, engine.encode_complex(flood, form.level, form.scale))
    primes = parameters.primes[: form.level + 1]
    hidden = mask(randomness(KEY_BYTES), primes, parameters.ring_degree, form.period)
    engine.add_plain_inplace(answer, engine.plaintext_from_residues(hidden, form.scale))
    return answer


def opened(engine: Engine, secret: SecretKey, ciphertext: Ciphertext, form: AnswerForm) -> NDArray[np.float64]:
    """Returns the slots of an answer `(slots,) float64`, each the value of all that are equal modulo the period; secret.

    The mask is as large as the primes, so it is taken off exactly, before anything is decoded.
    """
    residues = engine.phase(secret, ciphertext)
    parameters = engine.parameters
    found = means(residues, parameters.primes[: len(residues)], form.period)
    doubled = engine.decode(engine.plaintext_from_residues(found, form.scale))
    return doubled * (parameters.slots / form.period / form.replicas / 2)
