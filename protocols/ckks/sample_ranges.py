"""Ranges of features: samples are mapped to [-1, 1] where they are encrypted, and the model's first layer maps them back.

A plan has one range for all features, while ages and blood counts differ by orders of magnitude: planned for the widest of them,
there would be no room for the rest. The map is the owner's and public; worked into the first weights it costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.model.layers import Linear
from protocols.model.spec import INPUT, Layer, ModelSpec

Float64 = NDArray[np.float64]
Weights = Mapping[str, NDArray[np.float32]]
Ranges = Sequence[tuple[str, str]]
_SHOWN = 8
_SLACK = 1e-9  # of a range: decimals of a sample and of an end need not have the same binary rounding


def scaled(rows: Float64, ranges: Ranges) -> Float64:
    """Returns samples as they are encrypted: every feature mapped from its range to [-1, 1].

    Args:
        rows: `(rows, features) float64`; secret.
        ranges: by feature the least and largest value, decimals; empty for samples that are encrypted as they stand.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): another number of features, or values that are outside or no numbers.
    """
    if not ranges:
        return rows
    if rows.ndim != 2 or rows.shape[1] != len(ranges):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"samples have {len(ranges)} features, not the shape {rows.shape}")
    middle, half = _middle_and_half(ranges)
    found = (rows - middle) / half
    outside = np.argwhere(~(np.abs(found) <= 1 + _SLACK))
    if outside.size:
        problems = [
            Problem(f"row {row}, feature {feature}", f"outside {' to '.join(ranges[feature])}", "leave the sample out")
            for row, feature in outside[:_SHOWN].tolist()
        ]
        what = f"{len(outside)} value(s) are outside what the model's owner states"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, problems=problems)
    return np.clip(found, -1.0, 1.0)


def fold_ranges(spec: ModelSpec, weights: Weights, ranges: Ranges) -> tuple[ModelSpec, dict[str, NDArray[np.float32]]]:
    """Returns a model that computes of scaled samples what the given one computes of the samples themselves.

    Args:
        spec: the architecture; every layer that takes the rows is linear and flat.
        weights: by parameter name; secret.
        ranges: as for `scaled`, not empty.

    Returns:
        The specification and its weights: read-only float32 arrays, rounded once.

    Raises:
        ConfideError: INVALID_MODEL (the owner's fault): something other than a linear layer takes the rows;
            INVALID_ARGUMENT: not one range for each feature.
    """
    if len(ranges) != spec.input_features:
        what = f"{len(ranges)} ranges are stated for {spec.input_features} features"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="State one for each, or the same for all.")
    takers = [layer for layer in spec.layers if INPUT in layer.inputs]
    if len(spec.input_shape) != 1 or not all(isinstance(layer.operator, Linear) for layer in takers):
        raise ConfideError(
            ErrorCode.INVALID_MODEL,
            "ranges by feature are worked into linear layers, and other layers take this model's rows",
            remedy="Scale the rows yourself and state one range for all features.",
        )
    middle, half = _middle_and_half(ranges)
    found = dict(weights)
    layers = []
    for layer in spec.layers:
        layers.append(_folded(layer, found, middle, half) if layer in takers else layer)
    result = ModelSpec(spec.input_shape, tuple(layers))
    return result, {parameter.name: found[parameter.name] for parameter in result.parameters}


def _folded(layer: Layer, weights: dict[str, NDArray[np.float32]], middle: Float64, half: Float64) -> Layer:
    if not isinstance(layer.operator, Linear):
        raise TypeError("only linear layers are folded")
    name, bias_name = f"{layer.name}.weight", f"{layer.name}.bias"
    weight = np.asarray(weights[name], np.float64)
    bias = np.asarray(weights[bias_name], np.float64) if layer.operator.bias else np.zeros(layer.operator.out_features)
    for key, values in ((name, weight * half), (bias_name, bias + weight @ middle)):
        weights[key] = values.astype(np.float32)
        weights[key].setflags(write=False)
    return replace(layer, operator=replace(layer.operator, bias=True))


def _middle_and_half(ranges: Ranges) -> tuple[Float64, Float64]:
    ends = np.array([[float(low), float(high)] for low, high in ranges])
    middle, half = ends.mean(axis=1), (ends[:, 1] - ends[:, 0]) / 2
    if not (half > 0).all() or not math.isfinite(float(np.abs(ends).max())):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "a range must have two finite ends, the lower one first")
    return middle, half
