"""The batch lane: samples in slots, one ciphertext per feature, plain-matrix products on residues; for requests of many samples.

    plan_batch -> EncryptedPlan            the owner, once per model; public
    compile_batch -> CompiledBatch         the owner, at load; secret
    KeyOwner.encrypt_query -> bytes        the querier, see `batch_query`
    decode_batch_query, evaluate_batch, protect_batch -> bytes    the owner, per request

The querier uploads a public key and no evaluation key. Answers have three parts after a square; `protection` re-randomises all of
them. An answer debits all slots of its batch, whatever the number of samples: a server cannot see how many slots are used.

Learns: the owner that somebody asked; the querier the declared outputs, within the flooding.

Follows nGraph-HE2 (Boemer et al., 2019: plain weights, samples in slots) with products on residues as in `residue_products`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from protocols.canonical import canonical_bytes, sha256_hex
from protocols.ckks.affine_chains import AffineMap, affine_chain
from protocols.ckks.batch_arithmetic import answer_parts, evaluate_maps
from protocols.ckks.batch_costs import REFERENCE, BatchCosts, Shapes
from protocols.ckks.batch_rounding import Choice, Scales, Statistics, choose, statistics, whole_weights
from protocols.ckks.batch_wire import BatchQuery
from protocols.ckks.digits import rounded_up
from protocols.ckks.engine import Engine, PublicKey
from protocols.ckks.key_manifest import KeyManifest
from protocols.ckks.latency_planning import Declared
from protocols.ckks.parameters import PARAMETER_SETS, ParameterSet
from protocols.ckks.planning import EncryptedPlan, Lane, PlannedStep, Predictions
from protocols.ckks.protection import ReRandomisers, answer_form, protect
from protocols.ckks.residue_products import IntegerMap
from protocols.ckks.uniform_residues import SEED_BYTES
from protocols.ckks.wire import WireShape, encode_answer
from protocols.errors import ConfideError, ErrorCode
from protocols.model.layers import Sigmoid, Softmax
from protocols.model.spec import ModelSpec

SETS: Mapping[int, tuple[str, ...]] = {1: ("batch-1",), 2: ("batch-2", "batch-2-fine")}
"""By the number of maps the parameter sets to choose from, the cheapest first."""
DEFAULT_MIN_FLOODING_BITS = 4.0


@dataclass(frozen=True, eq=False)
class CompiledBatch:
    """A model in whole numbers; secret of its owner. It has no text form and is not pickled."""

    plan: EncryptedPlan
    maps: tuple[IntegerMap, ...]

    def __repr__(self) -> str:
        """Says nothing: weights are secret."""
        return "<secret>"

    def __reduce__(self) -> NoReturn:
        """Refuses."""
        raise TypeError("secrets are not pickled")


def plan_batch(
    spec: ModelSpec,
    weights: Mapping[str, NDArray[Any]],
    declared: Declared,
    *,
    precision: float | None = None,
    min_flooding_bits: float = DEFAULT_MIN_FLOODING_BITS,
    costs: Callable[[ParameterSet], BatchCosts] = lambda _: REFERENCE,
) -> EncryptedPlan:
    """Returns how a model answers many samples at once.

    Args:
        spec: the architecture: affine layers with squares or polynomials of degree two between, at most one of these.
        weights: by parameter name; secret. What of them shows in the plan is said in `planning`.
        declared: of samples and outputs.
        precision: the step that opened outputs are rounded to; None for the finest that the cheapest set allows.
        min_flooding_bits: log2 of the flooding of an answer over its noise; see `protection` for what that is worth.
        costs: of one thread of the machine that will answer, by parameter set.

    Raises:
        ConfideError: INVALID_MODEL (the owner's fault): not a model for this lane, or nothing gives that precision;
            INVALID_ARGUMENT: a range that is none.
    """
    if not (math.isfinite(declared.input_low) and declared.input_low < declared.input_high < math.inf):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the input's range must be two finite numbers, the lower one first")
    maps = affine_chain(spec, weights)
    inputs = maps[0].weights.shape[1]
    found = statistics(maps, np.full(inputs, declared.input_low), np.full(inputs, declared.input_high))
    limit = rounded_up(found.limit if declared.output_limit is None else declared.output_limit)
    parameters, choice = _chosen(maps, found, limit, precision, min_flooding_bits)
    top, parts = parameters.top_level, answer_parts(len(maps) - 1)
    last = spec.layers[-1].operator
    keys = KeyManifest(rotations=(), relinearise_level=None, public_key=True, answer_level=top)
    shapes = [(*each.weights.shape, int(each.support.sum())) for each in maps]
    plan = EncryptedPlan(
        lane=Lane.BATCH,
        parameters=parameters,
        model_sha256=_digest(spec),
        num_features=inputs,
        num_outputs=len(maps[-1].weights),
        samples=parameters.slots,
        input_low=float(declared.input_low),
        input_high=float(declared.input_high),
        fresh_level=top,
        fresh_scale=float(choice.scales.of_inputs),
        input_slots=(),
        answer_scale=float(choice.scales.of_answers),
        answer_replicas=1,
        answer_parts=parts,
        precision=choice.precision,
        output_slots=(),
        keys=keys,
        client_activation=last.kind if isinstance(last, Sigmoid | Softmax) else "",
        steps=_steps(maps, choice.scales, top),
        predictions=_predictions(choice, shapes, limit, parameters, keys, parts, costs(parameters)),
    )
    WireShape.of(plan)  # refuses what no message can hold
    return plan


def compile_batch(plan: EncryptedPlan, spec: ModelSpec, weights: Mapping[str, NDArray[Any]]) -> CompiledBatch:
    """Returns a model in the whole numbers of a plan.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): a plan of another lane or architecture; INVALID_MODEL (the owner's):
            weights that are too large for the plan.
    """
    if plan.lane is not Lane.BATCH or plan.model_sha256 != _digest(spec):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the plan is of another lane, or was made for another architecture")
    maps = affine_chain(spec, weights)
    inputs = maps[0].weights.shape[1]
    found = statistics(maps, np.full(inputs, plan.input_low), np.full(inputs, plan.input_high))
    rounded = whole_weights(maps, found, _scales(plan))
    return CompiledBatch(
        plan,
        tuple(
            IntegerMap(whole, constants, support=each.support, primes=plan.parameters.primes)
            for each, (whole, constants) in zip(maps, rounded, strict=True)
        ),
    )


def evaluate_batch(compiled: CompiledBatch, query: BatchQuery) -> NDArray[np.uint64]:
    """Returns the answer's residues `(outputs, parts, primes, N)`, which may not leave before `protect_batch`."""
    primes = compiled.plan.parameters.primes
    return evaluate_maps(compiled.maps, query.first_parts, query.second_parts, primes)


def protect_batch(
    engine: Engine,
    plan: EncryptedPlan,
    residues: NDArray[np.uint64],
    public_key: PublicKey,
    randomness: Callable[[int], bytes],
    *,
    pool: ReRandomisers | None = None,
) -> bytes:
    """Returns the message of an answer, re-randomised in all parts and flooded.

    Args:
        engine: of the plan's parameter set.
        plan: the model's.
        residues: from `evaluate_batch`.
        public_key: the querier's.
        randomness: gives fresh secret bytes.
        pool: encryptions of zero made ahead, for this key.
    """
    form = answer_form(plan)
    answers = []
    for each in residues:
        ciphertext = engine.from_residues(each, plan.answer_scale)
        answers.append(engine.residues(protect(engine, ciphertext, public_key, randomness, form=form, pool=pool)))
    return encode_answer(WireShape.of(plan), answers)


def _chosen(
    maps: Sequence[AffineMap], found: Statistics, limit: float, precision: float | None, min_flooding_bits: float
) -> tuple[ParameterSet, Choice]:
    if len(maps) not in SETS:
        raise ConfideError(
            ErrorCode.INVALID_MODEL,
            f"samples in slots compute at most {max(SETS) - 1} square between layers, and the model has {len(maps) - 1}",
            remedy="Ask one sample at a time, or use fewer activations.",
        )
    for name in SETS[len(maps)]:
        parameters = PARAMETER_SETS[name]
        choice = choose(maps, found, parameters, limit=limit, precision=precision, min_flooding_bits=min_flooding_bits)
        if choice is not None:
            return parameters, choice
    raise ConfideError(
        ErrorCode.INVALID_MODEL,
        f"samples in slots cannot answer with that precision and {min_flooding_bits:g} bits of flooding, outputs up to {limit:g}",
        remedy="Allow a coarser precision or fewer bits, declare a smaller limit of the outputs, or ask one sample at a time.",
    )


def _steps(maps: Sequence[AffineMap], scales: Scales, level: int) -> tuple[PlannedStep, ...]:
    """Maps and squares with their scales; layouts are those of the lane, a sample per slot."""
    steps: list[PlannedStep] = []
    for number, each in enumerate(maps):
        if number:
            squared = float(scales.after(number - 1) ** 2)
            steps.append(PlannedStep(f"{maps[number - 1].name}^2", "polynomial", level, squared, "", 1, 1, (), ""))
        bits = scales.weight_bits[number]
        steps.append(PlannedStep(each.name, "linear", level, float(scales.after(number)), "", 1, 1, (bits,), ""))
    return tuple(steps)


def _scales(plan: EncryptedPlan) -> Scales:
    bits = tuple(step.splits[0] for step in plan.steps if step.kind == "linear")
    return Scales(int(plan.fresh_scale), bits)


def _predictions(
    choice: Choice, shapes: Shapes, limit: float, parameters: ParameterSet, keys: KeyManifest, parts: int, costs: BatchCosts
) -> Predictions:
    polynomial = parameters.ring_degree * sum(prime.bit_length() for prime in parameters.primes) // 8
    return Predictions(
        server_seconds=float(f"{costs.seconds(shapes, parameters):.3g}"),
        upload_bytes=shapes[0][1] * polynomial + SEED_BYTES,
        key_bytes=keys.bytes(parameters),
        answer_bytes=shapes[-1][0] * parts * polynomial,
        max_error=rounded_up(choice.errors.max_error),
        typical_error=float(f"{choice.errors.typical:.2g}"),
        noise_bound=choice.errors.noise_bound,
        output_limit=limit,
    )


def _digest(spec: ModelSpec) -> str:
    return sha256_hex(canonical_bytes(spec.to_document()))
