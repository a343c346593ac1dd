"""A model as affine maps and polynomials: everything linear between two activations is one map.

Nodes stand in the order in which they are computed. An affine node may take several earlier ones (a residual sum is such a
node); a polynomial takes one. A polynomial of degree two becomes a square: a x^2 + b x + c = a (x + b/2a)^2 + c - b^2/4a, with
the shift in the map before and the rest in the map after. A last sigmoid or softmax is left to whoever asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]

from protocols.ckks.linear_operators import LINEAR, Float64, Sparse, linear_operator
from protocols.errors import ConfideError, ErrorCode
from protocols.model.intervals import polynomial_interval
from protocols.model.layers import Add, Dropout, Flatten, Operator, Polynomial, Shape, Sigmoid, Softmax, Square
from protocols.model.spec import INPUT, Layer, ModelSpec

SQUARE = (0.0, 0.0, 1.0)
_INPUT_NODE = 0


@dataclass(frozen=True)
class Affine:
    """y = the sum of matrix x over some earlier nodes x, plus constants.

    Attributes:
        name: the last layer that is part of it.
        shape: of a row of the result.
        terms: node number and matrix `(outputs, inputs)`, in ascending order of the nodes.
        constants: `(outputs,)`.
    """

    name: str
    shape: Shape
    terms: tuple[tuple[int, Sparse], ...]
    constants: Float64


@dataclass(frozen=True)
class Power:
    """A polynomial of every number of an earlier node: c0 + c1 x + c2 x^2 + ...; `SQUARE` for a square."""

    name: str
    shape: Shape
    source: int
    coefficients: tuple[float, ...]


@dataclass(frozen=True)
class Network:
    """A model's nodes; node 0 is the row itself, so that `nodes[i]` has the number i + 1. The last one is the result.

    Attributes:
        input_shape: of a row.
        nodes: see the module; with a model's weights as secret as these.
        client_activation: kind of the last sigmoid or softmax, which is not part of it; empty for none.
    """

    input_shape: Shape
    nodes: tuple[Affine | Power, ...]
    client_activation: str

    def run(self, rows: Float64) -> list[Float64]:
        """Returns the values of every node, the row's first, `(rows, numbers) float64`."""
        values = [rows]
        for node in self.nodes:
            if isinstance(node, Power):
                values.append(np.asarray(np.polynomial.polynomial.polyval(values[node.source], node.coefficients), np.float64))
            else:
                values.append(sum((matrix @ values[source].T).T for source, matrix in node.terms) + node.constants)
        return values

    def intervals(self, low: float, high: float) -> list[tuple[Float64, Float64]]:
        """Returns bounds of every number of every node for rows within a range (Moore 1966), the row's first."""
        size = int(np.prod(self.input_shape))
        found = [(np.full(size, low), np.full(size, high))]
        for node in self.nodes:
            if isinstance(node, Power):
                found.append(polynomial_interval(node.coefficients, *found[node.source]))
                continue
            ends = [node.constants.copy(), node.constants.copy()]
            for source, matrix in node.terms:
                least, most = found[source]
                positive, negative = matrix.maximum(0), matrix.minimum(0)
                ends[0] += positive @ least + negative @ most
                ends[1] += positive @ most + negative @ least
            found.append((ends[0], ends[1]))
        return found


def support(spec: ModelSpec) -> Network:
    """Returns the network of a model with weights of one: its matrices are zero exactly where the architecture has no weight."""
    zeros = (".bias", ".running_mean")
    ones = {each.name: (np.zeros if each.name.endswith(zeros) else np.ones)(each.shape) for each in spec.parameters}
    return network(spec, ones, strict=False)


def network(spec: ModelSpec, weights: Mapping[str, NDArray[Any]], *, strict: bool = True) -> Network:
    """Returns a model as a network.

    Args:
        spec: the architecture.
        weights: by parameter name.
        strict: whether factors of polynomials are their own, and not their absolute values, so that nothing cancels.

    Raises:
        ConfideError: INVALID_MODEL (the author's fault): an operator that is neither linear nor a polynomial; all at once.
    """
    builder = _Builder(spec, weights, strict)
    return builder.build()


@dataclass(frozen=True)
class _Sum:
    """A linear combination of nodes: what a layer gives before it is computed.

    `node` is the node that it is, whatever the weights; None for what has still to be computed.
    """

    terms: Mapping[int, Sparse]
    constants: Float64
    node: int | None = None

    def through(self, matrix: Sparse, constants: Float64) -> _Sum:
        return _Sum({node: matrix @ own for node, own in self.terms.items()}, matrix @ self.constants + constants)

    def plus(self, other: _Sum) -> _Sum:
        terms = dict(self.terms)
        for node, matrix in other.terms.items():
            terms[node] = terms[node] + matrix if node in terms else matrix
        return _Sum(terms, self.constants + other.constants)


class _Builder:
    def __init__(self, spec: ModelSpec, weights: Mapping[str, NDArray[Any]], strict: bool) -> None:
        self.spec, self.weights, self.strict = spec, weights, strict
        self.nodes: list[Affine | Power] = []

    def build(self) -> Network:
        spec = self.spec
        last = spec.layers[-1]
        ends = isinstance(last.operator, Sigmoid | Softmax)
        layers = spec.layers[:-1] if ends else spec.layers
        problems = [f"layer {layer.name!r} is a {layer.operator.kind}" for layer in layers if not _is_known(layer.operator)]
        if problems:
            raise ConfideError(
                ErrorCode.INVALID_MODEL,
                "the model cannot be computed under encryption: " + "; ".join(problems),
                remedy="Approximate these activations by polynomials, or train with square activations and average pools.",
            )
        size = spec.input_features
        sums = {INPUT: _Sum({_INPUT_NODE: sparse.identity(size, format="csr")}, np.zeros(size), _INPUT_NODE)}
        for layer in layers:
            sums[layer.name] = self._after(layer, sums)
        final = layers[-1].name if layers else INPUT
        # Everything is a sum of nodes: what the model ends with is computed, unless it is a node as it stands.
        if sums[final].node in (None, _INPUT_NODE):
            self._append_affine(final, sums[final])
        return Network(spec.input_shape, tuple(self.nodes), last.operator.kind if ends else "")

    def _after(self, layer: Layer, sums: Mapping[str, _Sum]) -> _Sum:
        before = sums[layer.inputs[0]]
        match layer.operator:
            case Add():
                return before.plus(sums[layer.inputs[1]])
            case Flatten() | Dropout():
                return before
            case Square():
                return self._power(layer, before, SQUARE)
            case Polynomial(coefficients=coefficients):
                return self._power(layer, before, tuple(map(float, coefficients)))
            case operator:
                tensors = {
                    tensor.suffix: np.asarray(self.weights[f"{layer.name}.{tensor.suffix}"], np.float64)
                    for tensor in operator.tensors(self.spec.shapes_into(layer))
                }
                return before.through(*linear_operator(operator, self.spec.shapes_into(layer)[0], tensors))

    def _power(self, layer: Layer, before: _Sum, coefficients: tuple[float, ...]) -> _Sum:
        factor, added = 1.0, 0.0
        if len(coefficients) == len(SQUARE):
            c, b, a = coefficients
            if b != 0:
                before = _Sum(before.terms, before.constants + b / (2 * a))
            factor, added = (a if self.strict else abs(a)), c - b * b / (4 * a)
            coefficients = SQUARE
        source = before.node if before.node is not None else self._append_affine(layer.inputs[0], before)
        shape = self.spec.shapes[layer.name]
        self.nodes.append(Power(layer.name, shape, source, coefficients))
        size = int(np.prod(shape))
        is_node = factor == 1 and added == 0
        own = {len(self.nodes): sparse.identity(size, format="csr") * factor}
        return _Sum(own, np.full(size, added), len(self.nodes) if is_node else None)

    def _append_affine(self, name: str, values: _Sum) -> int:
        terms = tuple((node, sparse.csr_matrix(values.terms[node])) for node in sorted(values.terms))
        self.nodes.append(Affine(name, self.spec.shapes[name], terms, values.constants))
        return len(self.nodes)


def _is_known(operator: Operator) -> bool:
    return isinstance(operator, (*LINEAR, Add, Dropout, Flatten, Polynomial, Square))
