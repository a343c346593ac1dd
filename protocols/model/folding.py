"""Batch norms worked into the layers before them: y = (W x + b - mean) * s + shift with s = weight / sqrt(variance + epsilon)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from protocols.model.layers import BatchNorm, Convolution, Linear
from protocols.model.spec import Layer, ModelSpec

Arrays = dict[str, NDArray[np.float32]]


def fold_batch_norms(spec: ModelSpec, weights: Mapping[str, NDArray[np.float32]]) -> tuple[ModelSpec, Arrays]:
    """Returns a model that computes the same as one with its batch norms by running statistics, up to float32 rounding.

    A batch norm is folded if it alone takes the result of a convolution, or of a linear layer on flat rows; others stay.

    Args:
        spec: the architecture.
        weights: by parameter name.

    Returns:
        The specification without the folded batch norms, and its weights: read-only float32 arrays.
    """
    before = {layer.name: layer for layer in spec.layers}
    takers = [name for layer in spec.layers for name in layer.inputs]
    folded = {
        layer.name: before[layer.inputs[0]]
        for layer in spec.layers
        if isinstance(layer.operator, BatchNorm) and takers.count(layer.inputs[0]) == 1 and _can_take(spec, layer, before)
    }
    found = dict(weights)
    layers = []
    for layer in spec.layers:
        if layer.name in folded:
            _fold(layer, folded[layer.name], found)
        else:
            inputs = tuple(folded[name].name if name in folded else name for name in layer.inputs)
            operator = layer.operator
            if layer in folded.values() and isinstance(operator, Linear | Convolution):
                operator = replace(operator, bias=True)
            layers.append(replace(layer, operator=operator, inputs=inputs))
    result = ModelSpec(spec.input_shape, tuple(layers))
    return result, {parameter.name: found[parameter.name] for parameter in result.parameters}


def _can_take(spec: ModelSpec, norm: Layer, layers: Mapping[str, Layer]) -> bool:
    source = layers.get(norm.inputs[0])
    if source is None:
        return False
    flat = len(spec.shapes[source.name]) == 1
    return isinstance(source.operator, Convolution) or (isinstance(source.operator, Linear) and flat)


def _fold(norm: Layer, into: Layer, weights: dict[str, NDArray[np.float32]]) -> None:
    """Works a batch norm into the weights of the layer before it, in float64, and rounds once."""
    tensors = {name.rpartition(".")[2]: values.astype(np.float64) for name, values in weights.items() if _is_of(name, norm)}
    epsilon = float(norm.operator.epsilon) if isinstance(norm.operator, BatchNorm) else 0.0
    scale = tensors.get("weight", np.float64(1)) / np.sqrt(tensors["running_var"] + epsilon)
    kernel = weights[f"{into.name}.weight"].astype(np.float64)
    bias = weights[f"{into.name}.bias"].astype(np.float64) if f"{into.name}.bias" in weights else np.zeros(len(kernel))
    folded = {
        "weight": kernel * scale.reshape(-1, *(1 for _ in kernel.shape[1:])),
        "bias": (bias - tensors["running_mean"]) * scale + tensors.get("bias", np.float64(0)),
    }
    for suffix, values in folded.items():
        single = values.astype(np.float32)
        single.setflags(write=False)
        weights[f"{into.name}.{suffix}"] = single


def _is_of(name: str, layer: Layer) -> bool:
    return name.rpartition(".")[0] == layer.name
