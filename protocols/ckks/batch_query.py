"""The querier's side of the batch lane: samples into ciphertexts, one per feature."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from protocols.ckks.batch_wire import encode_batch_query
from protocols.ckks.engine import Engine, SecretKey
from protocols.ckks.planning import EncryptedPlan
from protocols.ckks.uniform_residues import SEED_BYTES, expand, first_parts
from protocols.ckks.wire import WireShape


def encrypt_batch_query(
    engine: Engine, secret: SecretKey, plan: EncryptedPlan, rows: NDArray[np.float64], randomness: Callable[[int], bytes]
) -> bytes:
    """Returns the message that asks about samples: one ciphertext per feature; the querier's side.

    Args:
        engine: of the plan's parameter set.
        secret: the querier's key.
        plan: the model's.
        rows: `(rows, num_features) float64`, at most as many as there are slots, within the declared range; secret.
        randomness: gives fresh random bytes.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): samples of another shape or out of range.
    """
    columns, primes = plan.lay_out(rows), plan.parameters.primes
    seed = randomness(SEED_BYTES)
    second = expand(seed, count=len(columns), primes=primes, ring_degree=plan.parameters.ring_degree)
    key = engine.export_secret_key(secret)[: plan.parameters.levels]
    first = np.empty_like(second)
    for number, column in enumerate(columns):
        phase = engine.fresh_phase(secret, engine.encode(column, plan.fresh_level, plan.fresh_scale))
        first[number] = first_parts(phase, key, second[number], primes)
    return encode_batch_query(WireShape.of(plan), seed, first)
