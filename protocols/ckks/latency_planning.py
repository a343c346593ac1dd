"""The static planner of the latency lane: from a model to an `EncryptedPlan`, before anything is encrypted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.canonical import canonical_bytes, sha256_hex
from protocols.ckks.arithmetic import Rehearsal, Standing, Token
from protocols.ckks.costs import Counts, Primitive, PrimitiveCosts, reference_costs
from protocols.ckks.diagonal_vectors import constant_vector, diagonal_vectors
from protocols.ckks.errors_model import PredictedError, predicted_error, typical_error
from protocols.ckks.key_manifest import residue_bytes
from protocols.ckks.latency import run_program
from protocols.ckks.layout_search import Arrangement, arrange
from protocols.ckks.layouts import LayoutMisfit
from protocols.ckks.network import Affine, Network, Power, network, support
from protocols.ckks.parameters import PARAMETER_SETS, ParameterSet
from protocols.ckks.planning import EncryptedPlan, Lane, Predictions
from protocols.ckks.program import Choices, LinearStep, Program, build, node_levels
from protocols.ckks.publication import usual_precision
from protocols.ckks.recorded_choices import choices_of, recorded
from protocols.errors import ConfideError, ErrorCode
from protocols.model.spec import ModelSpec

MAX_DEPTH = 8
_SPARE = 2.0  # the bound of the outputs is exceeded by less than this, noise included
_SPLITS = range(-2, 11, 3)  # bits by which the last step's input may have more scale than its weights
_SEED_BYTES = 64


@dataclass(frozen=True)
class Declared:
    """What the owner declares of the samples, and may declare of the outputs.

    Attributes:
        input_low: no feature is smaller.
        input_high: nor larger.
        output_limit: no output is larger in absolute value, as far as the owner knows; None to go by interval arithmetic, which
            is certain but may be far too large. A sample that breaks a declared limit gets a wrong answer without a sign.
    """

    input_low: float
    input_high: float
    output_limit: float | None = None


def plan_latency(
    spec: ModelSpec,
    weights: Mapping[str, NDArray[Any]],
    declared: Declared,
    *,
    samples: int = 1,
    precision: float | None = None,
    costs: Callable[[ParameterSet], PrimitiveCosts] = reference_costs,
) -> EncryptedPlan:
    """Returns the plan of a model for one query of one ciphertext.

    Args:
        spec: the architecture.
        weights: by parameter name; secret. What of them shows in the plan is said in `planning`.
        declared: of samples and outputs.
        samples: how many share a ciphertext, a power of two.
        precision: the step that opened outputs are rounded to; None for the usual one, see `publication`.
        costs: of the machine that will answer, by parameter set.

    Raises:
        ConfideError: INVALID_MODEL (the author's fault): an operator that cannot be computed, too much depth, more numbers than
            a ciphertext's slots hold, or values beyond what the parameters have room for; INVALID_ARGUMENT: a range or number of
            samples that is none.
    """
    if not (math.isfinite(declared.input_low) and declared.input_low < declared.input_high < math.inf):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the input's range must be two finite numbers, the lower one first")
    if samples < 1 or samples & (samples - 1):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the number of samples in a ciphertext is a power of two")
    known, own = support(spec), network(spec, weights)
    parameters, arrangement = _arranged(known, samples)
    limit = declared.output_limit or _output_limit(own, declared)
    program, base_scale, error, typical = _scaled(known, own, parameters, arrangement, samples, declared, limit)
    rehearsal = rehearse(program)
    keys = rehearsal.keys()
    features, outputs = spec.input_features, spec.output_features
    query_primes = tuple(range(program.fresh_level + 1))
    last = program.steps[-1]
    upload_bytes = _SEED_BYTES + residue_bytes(parameters, query_primes)
    answer_bytes = 2 * residue_bytes(parameters, (0,))
    key_bytes = keys.bytes(parameters)
    if precision is None:
        bounds = (_two_digits(error.noise, up=True), _two_digits(error.total, up=True))
        precision = usual_precision(*bounds, key_bytes=key_bytes, asked_bytes=upload_bytes + answer_bytes)
    return EncryptedPlan(
        lane=Lane.LATENCY,
        parameters=parameters,
        model_sha256=sha256_hex(canonical_bytes(spec.to_document())),
        num_features=features,
        num_outputs=outputs,
        samples=samples,
        input_low=float(declared.input_low),
        input_high=float(declared.input_high),
        fresh_level=program.fresh_level,
        fresh_scale=program.fresh_scale,
        input_slots=(_with_samples(program.feature_slots(), samples, features),),
        answer_scale=last.scale,
        answer_parts=2,
        answer_replicas=program.answer_replicas,
        precision=precision,
        output_slots=(_with_samples(program.output_slots(), samples, outputs),),
        keys=keys,
        client_activation=known.client_activation,
        steps=recorded(program, base_scale),
        predictions=Predictions(
            server_seconds=_two_digits(costs(parameters).of(rehearsal.counts)),
            upload_bytes=upload_bytes,
            key_bytes=key_bytes,
            answer_bytes=answer_bytes,
            max_error=_two_digits(error.total, up=True),
            typical_error=_two_digits(typical),
            noise_bound=_two_digits(error.noise, up=True),
            output_limit=_two_digits(limit, up=True),
        ),
    )


def rehearse(program: Program) -> Rehearsal:
    """Answers a query without computing, and returns what was counted."""
    rehearsal = Rehearsal(program.parameters)
    answer = run_program(
        program, rehearsal, Standing(program.fresh_level, program.fresh_scale), None,
        diagonals=lambda step, term, _: Token(*program.diagonal_form(step, term)),
        constants=lambda step: Token(*program.constants_form(step)),
        constant=rehearsal.encode_constant,
    )  # fmt: skip
    if answer.level:
        raise ValueError("the answer is not at the last level")
    rehearsal.counts[Primitive.TAKE, program.fresh_level] += 1
    rehearsal.counts[Primitive.ANSWER, answer.level] += 1
    return rehearsal


def counts_of(plan: EncryptedPlan, spec: ModelSpec) -> Counts:
    """Returns the primitives of one answer by level, for a report: from the bytes of a query to those of its answer."""
    known = support(spec)
    return rehearse(build(known, choices_of(plan, known))).counts


def _arranged(known: Network, samples: int) -> tuple[ParameterSet, Arrangement]:
    fresh = node_levels(known)[0]
    sets = [each for each in PARAMETER_SETS.values() if each.name.startswith("latency-") and each.top_level >= fresh]
    if not sets:
        remedy = f"Use fewer activations, or ones of a lower degree: the depth may be {MAX_DEPTH}."
        raise ConfideError(ErrorCode.INVALID_MODEL, f"the model needs a multiplicative depth of {fresh + 1}", remedy=remedy)
    problem = ""
    tried: set[int] = set()
    for parameters in sorted(sets, key=lambda each: (each.ring_degree, each.levels)):
        # More primes of the same ring hold no more numbers.
        if parameters.ring_degree in tried or parameters.slots < samples:
            continue
        tried.add(parameters.ring_degree)
        try:
            return parameters, arrange(known, parameters, samples)
        except LayoutMisfit as error:
            problem = str(error)
    raise ConfideError(
        ErrorCode.INVALID_MODEL,
        f"one ciphertext does not hold the model: {problem or f'{samples} samples are more than its slots'}",
        remedy="Use fewer features or channels, a larger stride or a pool before, or ask many samples at once in the batch lane.",
    )


def _scaled(
    known: Network,
    own: Network,
    parameters: ParameterSet,
    arrangement: Arrangement,
    samples: int,
    declared: Declared,
    limit: float,
) -> tuple[Program, float, PredictedError, float]:
    """The program with the scales of the least error, s(0), that error, and the typical one."""
    trial = build(known, Choices(parameters, samples, arrangement.layouts, arrangement.splits, arrangement.rescales, 1.0, 1.0))
    # What is opened is twice the mean, both conjugates, of slots that hold parts of the output.
    part = trial.answer_replicas * trial.steps[-1].layout.period * samples / parameters.slots
    room = parameters.primes[0] / 2 / (limit * _SPARE * 2 * part)
    # SEAL takes no scale as large as the prime, however small the values.
    bits = min(math.floor(math.log2(room)) if room > 1 else 0, parameters.data_bits[0] - 3)
    ends_in_power = isinstance(known.nodes[-1], Power)
    best: tuple[Program, float, PredictedError] | None = None
    vectors: dict[tuple[int, int, int], NDArray[np.float64]] = {}
    constants: dict[int, NDArray[np.float64]] = {}
    for more in (0,) if ends_in_power else _SPLITS:
        base = 2.0 ** min(bits, 45) if ends_in_power else 2.0 ** ((bits + more) / 2)
        choices = Choices(parameters, samples, arrangement.layouts, arrangement.splits, arrangement.rescales, base, 2.0**bits)
        program = build(known, choices)
        if not _fits(program, own, declared):
            continue
        if not constants:  # the same at all scales
            for index, (step, node, shape) in enumerate(zip(program.steps, own.nodes, known.nodes, strict=True)):
                if isinstance(step, LinearStep) and isinstance(node, Affine) and isinstance(shape, Affine):
                    for term, number, vector in diagonal_vectors(program, step, node, shape):
                        vectors[index, term, number] = vector
                    constants[index] = constant_vector(program, step, node)
        error = predicted_error(program, vectors, constants, declared.input_low, declared.input_high)
        if best is None or error.total < best[2].total:
            best = (program, base, error)
    if best is None or bits < 24:
        raise ConfideError(
            ErrorCode.INVALID_MODEL,
            f"values of up to {limit:.3g} leave no room for precision in {parameters.name}",
            remedy="Scale the features and weights down, or declare the largest output that validation rows give.",
        )
    return (*best, typical_error(best[0], vectors, constants, declared.input_low, declared.input_high))


def _fits(program: Program, own: Network, declared: Declared) -> bool:
    """Whether every result stays below half the product of the primes that it has, at the worst."""
    for step, (low, high) in zip(program.steps[:-1], own.intervals(declared.input_low, declared.input_high)[1:], strict=False):
        room = math.prod(program.parameters.primes[: step.level + 1])
        if max(float(np.abs(low).max()), float(np.abs(high).max())) * step.scale * _SPARE > room / 2:
            return False
    return True


def _output_limit(own: Network, declared: Declared) -> float:
    low, high = own.intervals(declared.input_low, declared.input_high)[-1]
    return max(float(np.abs(low).max()), float(np.abs(high).max()), 2.0**-20)


def _with_samples(numbers: NDArray[np.int64], samples: int, width: int) -> tuple[int, ...]:
    """Slot by slot what stands there: sample and number."""
    spread = np.where(numbers[:, None] < 0, -1, np.arange(samples) * width + numbers[:, None])
    return tuple(int(each) for each in spread.ravel())


def _two_digits(value: float, *, up: bool = False) -> float:
    """Two significant digits: what a plan tells of weights is told coarsely."""
    if value == 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{(math.ceil if up else round)(value / step) * step:.2g}") if math.isfinite(value) else value
