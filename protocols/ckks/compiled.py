"""A plan and a model's weights, encoded once: what the evaluator of the latency lane holds in memory.

Secret of the model's owner. Every diagonal that the architecture has is encoded, whatever its values: a weight of zero neither
fails nor is told apart by time or by what is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from numpy.typing import NDArray

from protocols.canonical import canonical_bytes, sha256_hex
from protocols.ckks.diagonal_vectors import constant_vector, diagonal_vectors
from protocols.ckks.engine import Ciphertext, Engine, EvaluationKeys, Plaintext
from protocols.ckks.latency import run_program
from protocols.ckks.network import Affine, network, support
from protocols.ckks.planning import EncryptedPlan, Lane
from protocols.ckks.program import LinearStep, Program, build
from protocols.ckks.recorded_choices import choices_of
from protocols.errors import ConfideError, ErrorCode
from protocols.model.spec import ModelSpec


@dataclass(frozen=True, eq=False)
class CompiledModel:
    """An encoded model; secret of its owner. It has no text form and is not pickled.

    Attributes:
        plan: of which it is.
        program: what is done.
        engine: that encoded it.
        diagonals: by step, term and number.
        constants: by step.
        numbers: encoded numbers of polynomials, by value, level and scale; filled by the first query.
    """

    plan: EncryptedPlan
    program: Program
    engine: Engine
    diagonals: Mapping[tuple[int, int, int], Plaintext]
    constants: Mapping[int, Plaintext]
    numbers: dict[tuple[float, int, float], Plaintext] = field(default_factory=dict)

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not pickled")


def compile_model(plan: EncryptedPlan, spec: ModelSpec, weights: Mapping[str, NDArray[Any]], engine: Engine) -> CompiledModel:
    """Returns a model whose weights are encoded at the levels and scales of a plan.

    Args:
        plan: made by `plan_latency` for this architecture.
        spec: the architecture.
        weights: by parameter name; secret.
        engine: of the plan's parameter set.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): a plan of another lane, architecture or parameter set.
    """
    if plan.lane is not Lane.LATENCY or engine.parameters != plan.parameters:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the plan is of another lane, or the engine of another parameter set")
    if plan.model_sha256 != sha256_hex(canonical_bytes(spec.to_document())):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the plan was made for another architecture")
    known, own = support(spec), network(spec, weights)
    program = build(known, choices_of(plan, known))
    diagonals: dict[tuple[int, int, int], Plaintext] = {}
    constants: dict[int, Plaintext] = {}
    for index, step in enumerate(program.steps):
        shape, node = known.nodes[index], own.nodes[index]
        if not (isinstance(step, LinearStep) and isinstance(node, Affine) and isinstance(shape, Affine)):
            continue
        for term, number, vector in diagonal_vectors(program, step, node, shape):
            diagonals[index, term, number] = engine.encode(vector, *program.diagonal_form(index, term))
        constants[index] = engine.encode(constant_vector(program, step, node), *program.constants_form(index))
    return CompiledModel(plan, program, engine, diagonals, constants)


def evaluate(compiled: CompiledModel, query: Ciphertext, keys: EvaluationKeys) -> Ciphertext:
    """Returns the encrypted answer to a query, not yet protected (see `protocols.ckks.protection`).

    Args:
        compiled: the model.
        query: one ciphertext at the plan's fresh level and scale.
        keys: of the plan's manifest.

    Raises:
        ConfideError: INVALID_ARGUMENT (the asker's fault): a query at another level, or keys of another manifest.
    """
    engine, plan = compiled.engine, compiled.plan
    if engine.level_of(query) != plan.fresh_level or engine.parts_of(query) != 2 or keys.manifest != plan.keys:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the query or its keys are not those of the model's plan")
    engine.set_scale(query, plan.fresh_scale)

    def number(value: float, level: int, scale: float) -> Plaintext:
        found = compiled.numbers.get((value, level, scale))
        if found is None:
            found = compiled.numbers[value, level, scale] = engine.encode_constant(value, level, scale)
        return found

    return run_program(
        compiled.program, engine, query, keys,
        diagonals=lambda step, term, diagonal: compiled.diagonals[step, term, diagonal],
        constants=lambda step: compiled.constants[step],
        constant=number,
    )  # fmt: skip
