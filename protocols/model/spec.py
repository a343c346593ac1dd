"""`ModelSpec`: the architecture of a model as data, with a closed list of operators.

The manifest (a document, see `protocols.canonical`) and the weights (safetensors, `protocols.model.weights`) together are a
model; neither can carry code. The same `ModelSpec` feeds the MPC engine and, later, the CKKS planner.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

from protocols.canonical import Document
from protocols.errors import ConfideError, ErrorCode

FORMAT = "confide.model/2"
MAX_LAYERS = 64
MAX_WIDTH = 65_536
_KEYS = ("name", "kind", "in_features", "out_features", "bias", "rate")
_RATE = re.compile(r"0\.[0-9]{1,6}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}")


class LayerKind(Enum):
    """The operators that a model may use."""

    LINEAR = "linear"
    RELU = "relu"
    SIGMOID = "sigmoid"
    TANH = "tanh"
    SOFTMAX = "softmax"  # over the features of a row; ends a model
    DROPOUT = "dropout"  # in training alone; which values are dropped is a public coin


@dataclass(frozen=True)
class Layer:
    """One operator of a model.

    Attributes:
        name: the module's name in the torch model it came from; `[A-Za-z0-9_.]`, at most 64 characters.
        kind: the operator.
        in_features: width of its input.
        out_features: width of its output.
        bias: whether a linear layer adds a bias; False for other operators.
        rate: dropout: the probability with which a value is dropped, a decimal from 0.01 to 0.99; empty for other operators.
    """

    name: str
    kind: LayerKind
    in_features: int
    out_features: int
    bias: bool
    rate: str = ""


@dataclass(frozen=True)
class ParameterSpec:
    """Name and shape of one trainable tensor; weights are (out_features, in_features), as in torch."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ModelSpec:
    """An architecture: layers applied one after the other to a (batch, input_features) tensor."""

    layers: tuple[Layer, ...]

    @property
    def input_features(self) -> int:
        """Width of the model's input."""
        return self.layers[0].in_features

    @property
    def output_features(self) -> int:
        """Width of the model's output."""
        return self.layers[-1].out_features

    @property
    def parameters(self) -> tuple[ParameterSpec, ...]:
        """All trainable tensors, in layer order, weight before bias."""
        found: list[ParameterSpec] = []
        for layer in self.layers:
            if layer.kind is LayerKind.LINEAR:
                found.append(ParameterSpec(f"{layer.name}.weight", (layer.out_features, layer.in_features)))
                if layer.bias:
                    found.append(ParameterSpec(f"{layer.name}.bias", (layer.out_features,)))
        return tuple(found)

    def to_document(self) -> dict[str, Any]:
        """Returns the manifest."""
        layers = [
            {
                "name": layer.name,
                "kind": layer.kind.value,
                "in_features": layer.in_features,
                "out_features": layer.out_features,
                "bias": layer.bias,
                "rate": layer.rate,
            }
            for layer in self.layers
        ]
        return {"format": FORMAT, "layers": layers}

    @staticmethod
    def from_document(document: Document) -> ModelSpec:
        """Reads a manifest; refuses unknown keys, operators, names, and widths that do not fit together.

        Raises:
            ConfideError: INVALID_MODEL (the author's fault).
        """
        try:
            if set(document) != {"format", "layers"} or document["format"] != FORMAT:
                raise _invalid(f"the manifest must have exactly the keys format and layers, with format {FORMAT!r}")
            entries = document["layers"]
            if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_LAYERS:
                raise _invalid(f"a model has 1 to {MAX_LAYERS} layers")
            layers = tuple(_layer(entry) for entry in entries)
        except (KeyError, TypeError, AttributeError) as error:
            raise _invalid("the manifest has not the shape of a model") from error
        if len({layer.name for layer in layers}) != len(layers):
            raise _invalid("two layers have the same name")
        for before, after in itertools.pairwise(layers):
            if before.out_features != after.in_features:
                raise _invalid(
                    f"layer {after.name!r} takes {after.in_features} features, {before.name!r} gives {before.out_features}"
                )
        return ModelSpec(layers)


def _layer(entry: dict[str, Any]) -> Layer:
    if set(entry) != set(_KEYS):
        raise _invalid(f"a layer has exactly the keys {', '.join(_KEYS)}")
    name, kind, wide_in, wide_out, bias, rate = (entry[key] for key in _KEYS)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _invalid("a layer's name is 1 to 64 letters, digits, dots and underscores")
    if kind not in {known.value for known in LayerKind}:
        raise _invalid(f"layer {name!r} uses an operator that is not on the list: {', '.join(k.value for k in LayerKind)}")
    for width in (wide_in, wide_out):
        if type(width) is not int or not 1 <= width <= MAX_WIDTH:
            raise _invalid(f"layer {name!r} has a width outside 1 to {MAX_WIDTH}")
    if type(bias) is not bool:
        raise _invalid(f"layer {name!r}: bias is true or false")
    if not isinstance(rate, str) or not (is_rate(rate) if kind == LayerKind.DROPOUT.value else rate == ""):
        raise _invalid(f"layer {name!r}: a dropout has a rate from 0.01 to 0.99 as a text, other layers have an empty one")
    layer = Layer(name, LayerKind(kind), wide_in, wide_out, bias, rate)
    if layer.kind is not LayerKind.LINEAR and (bias or wide_in != wide_out):
        raise _invalid(f"layer {name!r} keeps its width and has no bias")
    return layer


def is_rate(text: str) -> bool:
    """Says whether a text is the rate of a dropout as manifests write it: a decimal from 0.01 to 0.99, at most six places."""
    return bool(_RATE.fullmatch(text)) and Decimal("0.01") <= Decimal(text) <= Decimal("0.99")


def _invalid(what: str) -> ConfideError:
    return ConfideError(ErrorCode.INVALID_MODEL, what)
