"""A small linear model under encryption, evaluated step by step: what tests of formats, protection and attacks work on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from protocols.ckks.engine import Ciphertext, Engine, EvaluationKeys
from protocols.ckks.key_manifest import KeyManifest
from protocols.ckks.parameters import PARAMETER_SETS, ParameterSet
from protocols.ckks.planning import EncryptedPlan, Lane, Predictions

SMALL = PARAMETER_SETS["latency-1b"]
LARGE = ParameterSet("several-levels", 8192, (50, 36, 36), 60)
"""Three levels; not one of the named sets, so that tests do not depend on how those are tuned."""

FEATURES = 32
FRESH_SCALE, WEIGHT_SCALE = 2.0**24, 2.0**20
NOISE_BOUND = 2.0**-9
Float64 = NDArray[np.float64]


def stream(seed: str) -> Callable[[int], bytes]:
    """Returns bytes that follow from a seed."""
    state = hashlib.shake_256(seed.encode())
    at = 0

    def take(count: int) -> bytes:
        nonlocal at
        at += count
        return state.digest(at)[-count:]

    return take


def linear_plan(parameters: ParameterSet = SMALL, *, features: int = FEATURES, precision: float = 2.0**-3) -> EncryptedPlan:
    """Returns the plan of one output of a linear model: the sample repeats over the slots, and so does the output."""
    steps = [1 << at for at in range(features.bit_length() - 1)]
    return EncryptedPlan(
        lane=Lane.LATENCY,
        parameters=parameters,
        model_sha256="ab" * 32,
        num_features=features,
        num_outputs=1,
        samples=1,
        input_low=-8.0,
        input_high=8.0,
        fresh_level=0,
        fresh_scale=FRESH_SCALE,
        input_slots=(tuple(slot % features for slot in range(parameters.slots)),),
        answer_scale=FRESH_SCALE * WEIGHT_SCALE,
        answer_parts=2,
        answer_replicas=parameters.slots,
        precision=precision,
        output_slots=((0,) * parameters.slots,),
        keys=KeyManifest(tuple((step, 0) for step in steps), None, True),
        client_activation="",
        steps=(),
        predictions=Predictions(
            server_seconds=0.0,
            upload_bytes=0,
            key_bytes=0,
            answer_bytes=0,
            max_error=NOISE_BOUND,
            typical_error=NOISE_BOUND / 6,
            noise_bound=NOISE_BOUND,
            output_limit=16.0,
        ),
    )


def evaluate_linear(engine: Engine, ciphertext: Ciphertext, keys: EvaluationKeys, weights: Float64) -> Ciphertext:
    """Returns weights x sample in every slot, unprotected."""
    slots = engine.parameters.slots
    plaintext = engine.encode(np.resize(weights, slots), engine.level_of(ciphertext), WEIGHT_SCALE)
    total = engine.multiply_plain(ciphertext, plaintext)
    step = weights.size // 2
    while step:
        engine.add_inplace(total, engine.rotate(total, step, keys))
        step //= 2
    return total
