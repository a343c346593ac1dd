"""`ModelSpec`: the architecture of a model as data, with a closed list of operators (`protocols.model.layers`).

The manifest (a document, see `protocols.canonical`) and the weights (safetensors, `protocols.model.weights`) together are a
model; neither can carry code. The same `ModelSpec` feeds the MPC engine and, later, the CKKS planner.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocols.canonical import Document
from protocols.errors import ConfideError, ErrorCode
from protocols.model.layers import MAX_ELEMENTS, MAX_WIDTH, Misfit, Operator, Shape, read_operator

FORMAT = "confide.model/3"
INPUT = "input"  # what layers call the rows
MAX_LAYERS = 256
MAX_PARAMETERS = 1 << 26  # numbers of a whole model
_MAX_INPUTS = 2  # of an operator
_KEYS = ("name", "kind", "inputs", "settings")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}")


@dataclass(frozen=True)
class Layer:
    """One step of a model.

    Attributes:
        name: the module's name in the torch model it came from; `[A-Za-z0-9_.]`, at most 64 characters.
        operator: what it computes.
        inputs: names of the layers whose results it takes, or `INPUT` for the rows.
    """

    name: str
    operator: Operator
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class ParameterSpec:
    """Name and shape of one tensor of a model, as in torch.

    Attributes:
        name: the layer's name, a dot and the tensor's.
        shape: as in torch.
        is_trained: whether an optimiser changes it; a batch norm's running statistics follow the batches instead.
    """

    name: str
    shape: Shape
    is_trained: bool = True


@dataclass(frozen=True)
class ModelSpec:
    """An architecture: layers in an order in which each takes results of earlier ones; the last one's is the model's.

    Attributes:
        input_shape: of a row as the first layers see it: (features,), (channels, length) or (channels, height, width). Rows
            are flat wherever they are stored and shared; the model folds them.
        layers: the steps.
    """

    input_shape: Shape
    layers: tuple[Layer, ...]

    @staticmethod
    def chain(input_shape: int | Shape, /, **operators: Operator) -> ModelSpec:
        """Returns a model of layers that each take the result of the one before, by their names."""
        names = (INPUT, *operators)
        layers = [Layer(name, operator, (before,)) for before, (name, operator) in zip(names, operators.items(), strict=False)]
        return ModelSpec((input_shape,) if isinstance(input_shape, int) else input_shape, tuple(layers))

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of a row of every layer's result, and of the input; by name.

        Raises:
            ConfideError: INVALID_MODEL (the author's fault): layers do not fit together.
        """
        found = {INPUT: self.input_shape}
        for layer in self.layers:
            try:
                if len(layer.inputs) != layer.operator.num_inputs or any(name not in found for name in layer.inputs):
                    raise Misfit(f"takes {layer.operator.num_inputs} result(s) of layers before it")
                found[layer.name] = layer.operator.output_shape([found[name] for name in layer.inputs])
                if math.prod(found[layer.name]) > MAX_ELEMENTS:
                    raise Misfit(f"gives more than {MAX_ELEMENTS} numbers for a row")
            except Misfit as error:
                raise _invalid(f"layer {layer.name!r}: {error}") from error
        return found

    @property
    def input_features(self) -> int:
        """Width of a flat row of the model's input."""
        return math.prod(self.input_shape)

    @property
    def output_features(self) -> int:
        """Width of the model's output."""
        return math.prod(self.shapes[self.layers[-1].name])

    def shapes_into(self, layer: Layer) -> tuple[Shape, ...]:
        """Returns the shapes of what a layer takes."""
        return tuple(self.shapes[name] for name in layer.inputs)

    @cached_property
    def parameters(self) -> tuple[ParameterSpec, ...]:
        """All tensors of the model, in layer order, within a layer as in torch."""
        return tuple(
            ParameterSpec(f"{layer.name}.{tensor.suffix}", tensor.shape, tensor.is_trained)
            for layer in self.layers
            for tensor in layer.operator.tensors(self.shapes_into(layer))
        )

    @property
    def trained(self) -> tuple[ParameterSpec, ...]:
        """The tensors that an optimiser changes."""
        return tuple(parameter for parameter in self.parameters if parameter.is_trained)

    def to_document(self) -> dict[str, Any]:
        """Returns the manifest."""
        layers = [
            {
                "name": layer.name,
                "kind": layer.operator.kind,
                "inputs": list(layer.inputs),
                "settings": layer.operator.to_document(),
            }
            for layer in self.layers
        ]
        return {"format": FORMAT, "input_shape": list(self.input_shape), "layers": layers}

    @staticmethod
    def from_document(document: Document) -> ModelSpec:
        """Reads a manifest; refuses unknown keys, operators, names, and layers that do not fit together.

        Raises:
            ConfideError: INVALID_MODEL (the author's fault).
        """
        try:
            if set(document) != {"format", "input_shape", "layers"} or document["format"] != FORMAT:
                raise _invalid(f"the manifest must have exactly the keys format, input_shape and layers, with format {FORMAT!r}")
            entries = document["layers"]
            if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_LAYERS:
                raise _invalid(f"a model has 1 to {MAX_LAYERS} layers")
            spec = ModelSpec(_input_shape(document["input_shape"]), tuple(_layer(entry) for entry in entries))
        except (KeyError, TypeError, AttributeError) as error:
            raise _invalid("the manifest has not the shape of a model") from error
        for problem in itertools.islice(_problems(spec), 1):
            raise _invalid(problem)
        return spec


def _problems(spec: ModelSpec) -> Iterator[str]:
    names = [layer.name for layer in spec.layers]
    if len({INPUT, *names}) != len(names) + 1:
        yield "two layers have the same name"
        return
    given = {INPUT}
    for layer in spec.layers:
        if not given.issuperset(layer.inputs):
            yield "a layer takes a result that no layer before it gives"
            return
        given.add(layer.name)
    # Evaluates all shapes, and raises where they do not fit.
    if len(spec.shapes[names[-1]]) != 1:
        yield f"the last layer {names[-1]!r} gives rows of shape {spec.shapes[names[-1]]}; a model gives (features,)"
    unused = {INPUT, *names[:-1]} - {name for layer in spec.layers for name in layer.inputs}
    if unused:
        yield f"nothing takes the result of {sorted(unused)[0]!r}"
    if sum(math.prod(parameter.shape) for parameter in spec.parameters) > MAX_PARAMETERS:
        yield f"more than {MAX_PARAMETERS} parameters"


def _input_shape(value: object) -> Shape:
    if not isinstance(value, list) or not 1 <= len(value) <= 3 or any(type(item) is not int for item in value):
        raise _invalid("the input's shape is a list of one to three whole numbers")
    if any(not 1 <= item <= MAX_WIDTH for item in value) or math.prod(value) > MAX_WIDTH:
        raise _invalid(f"a row has 1 to {MAX_WIDTH} features")
    return tuple(value)


def _layer(entry: dict[str, Any]) -> Layer:
    if set(entry) != set(_KEYS):
        raise _invalid(f"a layer has exactly the keys {', '.join(_KEYS)}")
    name, kind, inputs, settings = (entry[key] for key in _KEYS)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _invalid("a layer's name is 1 to 64 letters, digits, dots and underscores")
    if not isinstance(kind, str) or not isinstance(inputs, list) or not 1 <= len(inputs) <= _MAX_INPUTS:
        raise _invalid(f"layer {name!r}: kind is a text, inputs are one to {_MAX_INPUTS} names")
    if any(not isinstance(item, str) for item in inputs):
        raise _invalid(f"layer {name!r}: inputs are names")
    try:
        return Layer(name, read_operator(kind, settings), tuple(inputs))
    except Misfit as error:
        raise _invalid(f"layer {name!r}: {error}") from error


def _invalid(what: str) -> ConfideError:
    return ConfideError(ErrorCode.INVALID_MODEL, what)
