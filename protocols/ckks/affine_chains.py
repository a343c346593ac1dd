"""A model as a chain of affine maps with a square between any two: what the batch lane computes.

Learns: nobody anything beyond what the owner of the weights knows. Where a map has weights (`support`) follows from the
architecture alone, never from values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.ckks.network import SQUARE, Affine, Network, Power, network, support
from protocols.errors import ConfideError, ErrorCode
from protocols.model.spec import ModelSpec

Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
MAX_MAP_NUMBERS = 1 << 24  # of one map written as a matrix: 128 MiB


@dataclass(frozen=True)
class AffineMap:
    """y = weights x + constants; secret of the model's owner, but for the support.

    Attributes:
        weights: (outputs, inputs).
        constants: (outputs,).
        support: (outputs, inputs): where the architecture has a weight; public.
        name: the last layer that is part of it.
    """

    weights: Float64
    constants: Float64
    support: Bools
    name: str


def affine_chain(spec: ModelSpec, weights: Mapping[str, NDArray[Any]]) -> tuple[AffineMap, ...]:
    """Returns the maps of a model; a square follows each but the last. A last sigmoid or softmax is left to the querier.

    Args:
        spec: the architecture.
        weights: arrays by parameter name; secret.

    Raises:
        ConfideError: INVALID_MODEL (the author's fault): a model that is no such chain, or maps that are too large.
    """
    maps, patterns = _links(network(spec, weights)), _links(support(spec))
    if [each.weights.shape for each in maps] != [each.weights.shape for each in patterns]:
        raise _refused("a layer leaves its input as it is, with these weights", "Remove that layer.")
    return tuple(
        AffineMap(each.weights, each.constants, pattern.weights != 0, each.name)
        for each, pattern in zip(maps, patterns, strict=True)
    )


def _links(found: Network) -> list[AffineMap]:
    maps: list[AffineMap] = []
    width = int(np.prod(found.input_shape))
    is_mapped = False  # whether the last node was an affine one
    for before, node in enumerate(found.nodes):
        match node:
            case Affine(terms=((source, matrix),)) if source == before and not is_mapped:
                if matrix.shape[0] * matrix.shape[1] > MAX_MAP_NUMBERS:
                    raise _refused(
                        f"{node.name!r} is a map of {matrix.shape[0]} x {matrix.shape[1]} numbers, more than {MAX_MAP_NUMBERS}",
                        "Use smaller layers or a larger stride.",
                    )
                maps.append(_link(matrix.toarray(), node.constants, node.name))
                width, is_mapped = matrix.shape[0], True
            case Power(source=source, coefficients=coefficients) if source == before and coefficients == SQUARE:
                if not is_mapped:
                    maps.append(_identity(width, node.name))
                is_mapped = False
            case Power(name=name, coefficients=coefficients) if coefficients != SQUARE:
                raise _refused(f"{name!r} is a polynomial of degree {len(coefficients) - 1}, and not 2", _REMEDY)
            case _:
                raise _refused(f"{node.name!r} takes results from before another activation, which have another scale", _REMEDY)
    if not is_mapped:
        maps.append(_identity(width, found.nodes[-1].name))
    return maps


_REMEDY = "Use square activations or polynomials of degree two in a chain of layers, or ask one sample at a time."


def _link(weights: Float64, constants: Float64, name: str) -> AffineMap:
    return AffineMap(weights, constants, weights != 0, name)


def _identity(width: int, name: str) -> AffineMap:
    return _link(np.eye(width), np.zeros(width), name)


def _refused(why: str, remedy: str) -> ConfideError:
    return ConfideError(ErrorCode.INVALID_MODEL, f"samples in slots cannot compute this model: {why}", remedy=remedy)
