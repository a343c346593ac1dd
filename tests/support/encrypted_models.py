"""Models for encrypted inference with random weights, and their evaluation in the clear with the errors predicted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from protocols.ckks.diagonal_vectors import constant_vector, diagonal_vectors
from protocols.ckks.errors_model import ErrorArithmetic
from protocols.ckks.latency import run_program
from protocols.ckks.network import Affine, network, support
from protocols.ckks.planning import EncryptedPlan
from protocols.ckks.program import LinearStep, build
from protocols.ckks.recorded_choices import choices_of
from protocols.model.layers import (
    AdaptiveAveragePool,
    Add,
    AveragePool,
    BatchNorm,
    Convolution,
    Flatten,
    Linear,
    Polynomial,
    Sigmoid,
    Softmax,
    Square,
)
from protocols.model.spec import INPUT, Layer, ModelSpec

Float64 = NDArray[np.float64]
Weights = Mapping[str, NDArray[np.float32]]

LOGISTIC = ModelSpec.chain(30, linear=Linear(1), sigmoid=Sigmoid())
PERCEPTRON = ModelSpec.chain(50, first=Linear(20), act=Square(), last=Linear(3), end=Softmax())
STRIDED = ModelSpec.chain((1, 14, 14), conv=Convolution(3, (5, 5), (3, 3), (0, 0)), act=Square(), flat=Flatten(), out=Linear(5))
DEEP = ModelSpec.chain(
    (2, 8, 8),
    first=Convolution(4, (3, 3), (1, 1), (1, 1), groups=2),
    norm=BatchNorm(),
    pool=AveragePool((2, 2), (2, 2), (0, 0)),
    act=Square(),
    second=Convolution(6, (3, 3), (1, 1), (1, 1), bias=False),
    mean=AdaptiveAveragePool((2, 2)),
    again=Polynomial(("0.1", "-0.5", "-0.25")),
    flat=Flatten(),
    out=Linear(3),
)
RESIDUAL = ModelSpec(
    (2, 4, 4),
    (
        Layer("stem", Convolution(4, (3, 3), (1, 1), (1, 1)), (INPUT,)),
        Layer("act", Square(), ("stem",)),
        Layer("inner", Convolution(4, (3, 3), (1, 1), (1, 1)), ("act",)),
        Layer("deep", Square(), ("inner",)),
        Layer("sum", Add(), ("deep", "act")),
        Layer("flat", Flatten(), ("sum",)),
        Layer("out", Linear(3), ("flat",)),
    ),
)
SIGNAL = ModelSpec.chain((3, 20), conv=Convolution(4, (4,), (2,), (1,)), act=Square(), flat=Flatten(), out=Linear(2))
WIDENING = ModelSpec.chain(7, first=Linear(40), act=Square(), middle=Linear(3), again=Square(), out=Linear(33))
ENDS_IN_SQUARE = ModelSpec.chain(9, first=Linear(5), act=Square())


def with_polynomial(*coefficients: str) -> ModelSpec:
    """A model whose activation is a polynomial of the argument in [-1, 1]."""
    return ModelSpec.chain(12, first=Linear(6), act=Polynomial(coefficients), out=Linear(2))


def random_weights(spec: ModelSpec, seed: int = 5) -> dict[str, NDArray[np.float32]]:
    """Weights of torch's usual size."""
    rng = np.random.default_rng(seed)
    found = {}
    for parameter in spec.parameters:
        if parameter.name.endswith("running_var"):
            values = rng.uniform(0.5, 1.5, parameter.shape)
        else:
            values = rng.uniform(-1, 1, parameter.shape) / np.sqrt(max(1, np.prod(parameter.shape[1:])))
        found[parameter.name] = values.astype(np.float32)
    return found


def declared_numbers(plan: EncryptedPlan, outputs: Float64) -> Float64:
    """Every number that can be opened of an answer, by the outputs `(samples, outputs)` that the plan declares there."""
    return np.append(outputs.ravel(), 0.0)[np.array(plan.output_slots[0][: plan.period])]


def opened_numbers(plan: EncryptedPlan, slots: Float64) -> Float64:
    """Every number that can be opened of an answer's slots: the sums of those that are equal modulo the period."""
    return slots.reshape(-1, plan.period).sum(axis=0) / plan.answer_replicas


def evaluated_in_the_clear(plan: EncryptedPlan, spec: ModelSpec, weights: Weights, rows: Float64) -> Float64:
    """Every number that can be opened of the answer to one query, by the evaluator's own steps and no encryption."""
    known, own = support(spec), network(spec, weights)
    program = build(known, choices_of(plan, known))
    arithmetic = ErrorArithmetic(plan.parameters)
    vectors, constants = {}, {}
    for index, (step, node, shape) in enumerate(zip(program.steps, own.nodes, known.nodes, strict=True)):
        if isinstance(step, LinearStep) and isinstance(node, Affine) and isinstance(shape, Affine):
            vectors |= {(index, term, number): vector for term, number, vector in diagonal_vectors(program, step, node, shape)}
            constants[index] = constant_vector(program, step, node)

    answer = run_program(
        program, arithmetic, arithmetic.fresh(plan.lay_out(rows), plan.fresh_level, plan.fresh_scale), None,
        diagonals=lambda *key: arithmetic.encode(vectors[key], *program.diagonal_form(*key[:2])),
        constants=lambda step: arithmetic.encode(constants[step], *program.constants_form(step)),
        constant=arithmetic.encode_constant,
    )  # fmt: skip
    return opened_numbers(plan, answer.values[0])
