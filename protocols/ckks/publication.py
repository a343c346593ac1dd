"""What makes decrypted values fit to be seen by others, the evaluator included.

A decrypted CKKS value carries an error that depends on the secret key. Whoever sees two full vectors of such values together with
their ciphertexts solves for the key (Li and Micciancio, "On the Security of Homomorphic Encryption on Approximate Numbers",
Eurocrypt 2021). The evaluator has the ciphertexts, so whatever the researcher publishes must not carry that error: Gaussian noise
of the researcher's own is added, 2^s times the bound of the error, and the sum is rounded to a step of four standard deviations.
That is hygiene, with s stated, and not a proof; publications are counted per key, and keys should be short-lived.

The bound stands in the plan, and the plan is the evaluator's. A bound below the error that every answer has, whatever the
weights, is refused: with it, what is rounded would be the error itself. An evaluator that sends what is no answer learns of the
key what is published of it; against that there is nothing but publishing nothing (`docs/protocols/ckks.md`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.ckks.digits import rounded_up
from protocols.ckks.gaussian import KEY_BYTES, complex_gaussian
from protocols.ckks.planning import EncryptedPlan
from protocols.errors import ConfideError, ErrorCode

MIN_PUBLICATION_BITS = 3.0
USUAL_PUBLICATION_BITS = 4.0  # where keys are large, for 256 answers of a key and not 64
_SMALL_KEYS = 3.2  # in queries with answers: over 64 answers a twentieth of what they take themselves
STEP_IN_DEVIATIONS = 4.0
MAX_ERROR_IN_STEPS = 4.0
_BOUND_IN_DEVIATIONS = 4.0


@dataclass(frozen=True)
class Publication:
    """How decrypted values are made fit to be seen by others; public, part of the plan.

    Attributes:
        noise_bound: bound of the key-dependent error of a value.
        precision: the step that values are rounded to.
    """

    noise_bound: float
    precision: float

    def __post_init__(self) -> None:
        # Steps are decimals: the finest one may be less than it should by the last bit of a float.
        least = MIN_PUBLICATION_BITS - 2.0**-30
        if not (0 < self.noise_bound < math.inf and 0 < self.precision < math.inf) or self.bits < least:
            raise ValueError(
                f"a precision of {self.precision:.3g} does not hide a noise of {self.noise_bound:.3g}: "
                f"it must be at least {STEP_IN_DEVIATIONS * 2**MIN_PUBLICATION_BITS * self.noise_bound:.3g}"
            )

    @property
    def noise_std(self) -> float:
        """Standard deviation of the Gaussian that is added before rounding."""
        return self.precision / STEP_IN_DEVIATIONS

    @property
    def bits(self) -> float:
        """s: log2 of the added noise over the bound of the key-dependent error."""
        return math.log2(self.noise_std / self.noise_bound)


def finest_precision(noise_bound: float, max_error: float) -> float:
    """Returns the smallest step of two digits that hides the noise at all, and which the error does not belie.

    Args:
        noise_bound: bound of the key-dependent error.
        max_error: of an answer, with the rounding of weights: a step of less than a quarter of it would promise what is not kept.
    """
    return _precision(noise_bound, max_error, MIN_PUBLICATION_BITS)


def usual_precision(noise_bound: float, max_error: float, *, key_bytes: int, asked_bytes: int) -> float:
    """Returns the step of two digits that plans have without being told: half as fine as can be where keys are large.

    That is worth four times the answers that a key opens, and a bit of flooding.

    Args:
        noise_bound: as for `finest_precision`.
        max_error: likewise.
        key_bytes: of the evaluation keys, uploaded for each key.
        asked_bytes: of a query and its answer.
    """
    are_small = key_bytes <= _SMALL_KEYS * asked_bytes
    return _precision(noise_bound, max_error, MIN_PUBLICATION_BITS if are_small else USUAL_PUBLICATION_BITS)


def _precision(noise_bound: float, max_error: float, bits: float) -> float:
    return rounded_up(max(STEP_IN_DEVIATIONS * 2.0**bits * noise_bound, max_error / MAX_ERROR_IN_STEPS))


def least_noise(plan: EncryptedPlan) -> float:
    """Returns the standard deviation of the key-dependent error that every opened value has, whatever the weights.

    It is that of the encryption of zero in each answer, which is made one prime higher and then divided by that prime: both parts
    are rounded, and one of them meets the ternary key. The variance of a coefficient is (1 + 2N/3) / 12; see `errors_model`.
    """
    parameters = plan.parameters
    in_slot = (1 + 2 * parameters.ring_degree / 3) / 12 * parameters.slots
    return math.sqrt(in_slot * parameters.slots / plan.period) / plan.answer_replicas / plan.answer_scale


def publication(plan: EncryptedPlan) -> Publication:
    """Returns how a plan's answers are made fit to be seen by others.

    Raises:
        ConfideError: INVALID_DOCUMENT (its author's fault): a precision that does not hide the noise of answers, or a bound of
            that noise that no answer keeps.
    """
    least = _BOUND_IN_DEVIATIONS * least_noise(plan)
    if plan.predictions.noise_bound < least:
        what = f"a bound of {plan.predictions.noise_bound:.3g} for a noise of {least:.3g} and more"
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"the plan for encrypted inference: {what}")
    try:
        return Publication(plan.predictions.noise_bound, plan.precision)
    except ValueError as error:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"the plan for encrypted inference: {error}") from error


def publishable(values: NDArray[np.float64], how: Publication, randomness: Callable[[int], bytes]) -> NDArray[np.float64]:
    """Returns decrypted values with noise of the researcher's own, rounded: fit to be seen by others.

    Args:
        values: decrypted values, of any shape; secret.
        how: noise and step.
        randomness: gives fresh secret bytes.
    """
    noise = complex_gaussian(randomness(KEY_BYTES), -(-values.size // 2)).view(np.float64)[: values.size]
    noisy = values + how.noise_std * noise.reshape(values.shape)
    return np.asarray(np.rint(noisy / how.precision) * how.precision, np.float64)
