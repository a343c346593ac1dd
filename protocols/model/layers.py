"""The operators that a model may use: their settings, the shapes they give, the tensors they hold.

Shapes are those of one row, without the batch: (features,), (channels, length) or (channels, height, width), as in torch.
Settings are public. Decimal numbers are texts, since documents hold no floats.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, ClassVar, get_type_hints

Shape = tuple[int, ...]

MAX_WIDTH = 65_536  # of one dimension
MAX_ELEMENTS = 1 << 20  # of one row, at any place of a model
MAX_KERNEL = 64
_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,3})(\.[0-9]{1,12})?")


class Misfit(ValueError):
    """An operator that cannot take its input, or settings out of range; the text says why."""


@dataclass(frozen=True)
class Tensor:
    """A tensor that a layer holds.

    Attributes:
        suffix: its name within the layer, as in torch: `weight`, `bias`, `running_mean`, `running_var`.
        shape: as in torch.
        is_trained: whether an optimiser changes it; running statistics follow the batches instead.
    """

    suffix: str
    shape: Shape
    is_trained: bool = True


@dataclass(frozen=True)
class Operator(ABC):
    """One operator of a model; see the module."""

    kind: ClassVar[str]
    num_inputs: ClassVar[int] = 1

    @abstractmethod
    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """Returns the shape of a row of the result.

        Raises:
            Misfit: the operator cannot take these inputs, or a setting is out of range.
        """

    def tensors(self, inputs: Sequence[Shape]) -> tuple[Tensor, ...]:
        """Returns the tensors it holds for inputs that `output_shape` accepts, in torch's order."""
        return ()

    def to_document(self) -> dict[str, Any]:
        """Returns the settings as a document."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


class Elementwise(Operator):
    """An operator that keeps every shape."""

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """Returns the input's shape."""
        return inputs[0]


@dataclass(frozen=True)
class Linear(Operator):
    """A matrix product over the last dimension; weight (out_features, in_features), bias (out_features,)."""

    kind: ClassVar[str] = "linear"
    out_features: int
    bias: bool = True

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """See `Operator`."""
        _in_range("out_features", self.out_features, 1, MAX_WIDTH)
        return (*inputs[0][:-1], self.out_features)

    def tensors(self, inputs: Sequence[Shape]) -> tuple[Tensor, ...]:
        """See `Operator`."""
        bias = (Tensor("bias", (self.out_features,)),) if self.bias else ()
        return (Tensor("weight", (self.out_features, inputs[0][-1])), *bias)


@dataclass(frozen=True)
class Convolution(Operator):
    """A convolution over one or two dimensions, zeros at the borders; weight (out_channels, in_channels / groups, *kernel)."""

    kind: ClassVar[str] = "convolution"
    out_channels: int
    kernel: Shape
    stride: Shape
    padding: Shape
    groups: int = 1
    bias: bool = True

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """See `Operator`."""
        _in_range("out_channels", self.out_channels, 1, MAX_WIDTH)
        _in_range("groups", self.groups, 1, MAX_WIDTH)
        channels = inputs[0][0]
        if channels % self.groups or self.out_channels % self.groups:
            raise Misfit(f"{channels} and {self.out_channels} channels do not divide into {self.groups} groups")
        return (self.out_channels, *_slid(inputs[0], self.kernel, self.stride, self.padding, max_padding=MAX_KERNEL))

    def tensors(self, inputs: Sequence[Shape]) -> tuple[Tensor, ...]:
        """See `Operator`."""
        bias = (Tensor("bias", (self.out_channels,)),) if self.bias else ()
        return (Tensor("weight", (self.out_channels, inputs[0][0] // self.groups, *self.kernel)), *bias)


@dataclass(frozen=True)
class _Pool(Operator):
    kernel: Shape
    stride: Shape
    padding: Shape

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """See `Operator`."""
        return (inputs[0][0], *_slid(inputs[0], self.kernel, self.stride, self.padding, max_padding=min(self.kernel) // 2))


@dataclass(frozen=True)
class MaxPool(_Pool):
    """The largest value of every window; padding never wins."""

    kind: ClassVar[str] = "max_pool"


@dataclass(frozen=True)
class AveragePool(_Pool):
    """The mean of every window; zeros at the borders count."""

    kind: ClassVar[str] = "average_pool"


@dataclass(frozen=True)
class AdaptiveAveragePool(Operator):
    """The means of as many windows as the result has places, as torch cuts them."""

    kind: ClassVar[str] = "adaptive_average_pool"
    size: Shape

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """See `Operator`."""
        spatial = _spatial(inputs[0], len(self.size))
        for place, length in zip(self.size, spatial, strict=True):
            _in_range("size", place, 1, length)
        return (inputs[0][0], *self.size)


@dataclass(frozen=True)
class BatchNorm(Operator):
    """Every channel scaled by its mean and variance: of the batch in training, else of the running statistics.

    Attributes:
        epsilon: what is added to the variance, a decimal from 0.00001 to 1.
        momentum: how fast the running statistics follow, a decimal from 0 to 1.
        affine: whether a weight and a bias per channel follow.
    """

    kind: ClassVar[str] = "batch_norm"
    epsilon: str = "0.00001"
    momentum: str = "0.1"
    affine: bool = True

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """See `Operator`."""
        _decimal("epsilon", self.epsilon, "0.00001", "1")
        _decimal("momentum", self.momentum, "0", "1")
        return inputs[0]

    def tensors(self, inputs: Sequence[Shape]) -> tuple[Tensor, ...]:
        """See `Operator`."""
        shape = inputs[0][:1]
        affine = (Tensor("weight", shape), Tensor("bias", shape)) if self.affine else ()
        return (*affine, Tensor("running_mean", shape, is_trained=False), Tensor("running_var", shape, is_trained=False))


@dataclass(frozen=True)
class LayerNorm(Operator):
    """Every row scaled by the mean and variance over its last `dims` dimensions; weight and bias of their shape."""

    kind: ClassVar[str] = "layer_norm"
    dims: int = 1
    epsilon: str = "0.00001"
    affine: bool = True
    bias: bool = True

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """See `Operator`."""
        _decimal("epsilon", self.epsilon, "0.00001", "1")
        _in_range("dims", self.dims, 1, len(inputs[0]))
        if self.bias and not self.affine:
            raise Misfit("a bias comes with a weight")
        return inputs[0]

    def tensors(self, inputs: Sequence[Shape]) -> tuple[Tensor, ...]:
        """See `Operator`."""
        shape = inputs[0][-self.dims :]
        named = (("weight", self.affine), ("bias", self.bias))
        return tuple(Tensor(suffix, shape) for suffix, is_there in named if is_there)


@dataclass(frozen=True)
class Embedding(Operator):
    """A vector for every category; the input holds a one-hot row per place, (places, categories); weight (categories, width)."""

    kind: ClassVar[str] = "embedding"
    width: int

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """See `Operator`."""
        _in_range("width", self.width, 1, MAX_WIDTH)
        if len(inputs[0]) != 2:
            raise Misfit("an embedding takes (places, categories)")
        return (inputs[0][0], self.width)

    def tensors(self, inputs: Sequence[Shape]) -> tuple[Tensor, ...]:
        """See `Operator`."""
        return (Tensor("weight", (inputs[0][1], self.width)),)


@dataclass(frozen=True)
class Relu(Elementwise):
    """max(x, 0)."""

    kind: ClassVar[str] = "relu"


@dataclass(frozen=True)
class LeakyRelu(Elementwise):
    """x, and slope times x below 0; the slope is a decimal from 0 to 1."""

    kind: ClassVar[str] = "leaky_relu"
    slope: str = "0.01"

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """See `Operator`."""
        _decimal("slope", self.slope, "0", "1")
        return inputs[0]


@dataclass(frozen=True)
class Sigmoid(Elementwise):
    """1 / (1 + e^-x)."""

    kind: ClassVar[str] = "sigmoid"


@dataclass(frozen=True)
class Tanh(Elementwise):
    """The hyperbolic tangent."""

    kind: ClassVar[str] = "tanh"


@dataclass(frozen=True)
class Gelu(Elementwise):
    """x times the normal distribution function of x."""

    kind: ClassVar[str] = "gelu"


@dataclass(frozen=True)
class Softmax(Operator):
    """The softmax over the features of a row; ends a model."""

    kind: ClassVar[str] = "softmax"

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """See `Operator`."""
        if len(inputs[0]) != 1:
            raise Misfit("softmax runs over flat rows")
        return inputs[0]


@dataclass(frozen=True)
class Dropout(Elementwise):
    """In training alone: drops values; which ones is a public coin. The rate is a decimal from 0.01 to 0.99."""

    kind: ClassVar[str] = "dropout"
    rate: str = "0.5"

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """See `Operator`."""
        if not is_rate(self.rate):
            raise Misfit("the rate of a dropout is a decimal from 0.01 to 0.99 with at most six places")
        return inputs[0]


@dataclass(frozen=True)
class Flatten(Operator):
    """Joins all dimensions of a row into one, the last running fastest."""

    kind: ClassVar[str] = "flatten"

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """See `Operator`."""
        return (math.prod(inputs[0]),)


@dataclass(frozen=True)
class Add(Operator):
    """The sum of two results of one shape; what a residual connection ends in."""

    kind: ClassVar[str] = "add"
    num_inputs: ClassVar[int] = 2

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """See `Operator`."""
        if inputs[0] != inputs[1]:
            raise Misfit(f"adds shapes {inputs[0]} and {inputs[1]}")
        return inputs[0]


OPERATORS: dict[str, type[Operator]] = {
    operator.kind: operator
    for operator in (
        Linear, Convolution, MaxPool, AveragePool, AdaptiveAveragePool, BatchNorm, LayerNorm, Embedding, Relu, LeakyRelu, Sigmoid,
        Tanh, Gelu, Softmax, Dropout, Flatten, Add,
    )
}  # fmt: skip


def read_operator(kind: str, settings: object) -> Operator:
    """Reads an operator from a manifest.

    Raises:
        Misfit: not on the list, or its settings have not exactly the names and types of the operator's.
    """
    operator = OPERATORS.get(kind)
    if operator is None:
        raise Misfit(f"an operator that is not on the list: {', '.join(OPERATORS)}")
    hints = get_type_hints(operator)
    names = [field.name for field in fields(operator)]
    if not isinstance(settings, dict) or set(settings) != set(names):
        raise Misfit(f"the settings of {kind} are exactly: {', '.join(names) or 'none'}")
    return operator(**{name: _read(name, settings[name], hints[name]) for name in names})


def is_rate(text: str) -> bool:
    """Says whether a text is the rate of a dropout as manifests write it: a decimal from 0.01 to 0.99, at most six places."""
    return bool(re.fullmatch(r"0\.[0-9]{1,6}", text)) and Decimal("0.01") <= Decimal(text) <= Decimal("0.99")


def _read(name: str, value: object, kind: object) -> object:
    if kind == Shape:
        if not isinstance(value, list) or not 1 <= len(value) <= 2 or any(type(item) is not int for item in value):
            raise Misfit(f"{name} is a list of one or two whole numbers")
        return tuple(value)
    if type(value) is not kind:
        raise Misfit(f"{name} has the wrong type")
    return value


def _in_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise Misfit(f"{name} is {value}, outside {low} to {high}")


def _decimal(name: str, text: str, low: str, high: str) -> None:
    if not _DECIMAL.fullmatch(text) or not Decimal(low) <= Decimal(text) <= Decimal(high):
        raise Misfit(f"{name} is a decimal from {low} to {high}")


def _spatial(shape: Shape, dims: int) -> Shape:
    if len(shape) != dims + 1:
        raise Misfit(f"takes (channels, {'length' if dims == 1 else 'height, width'}), not a row of shape {shape}")
    return shape[1:]


def _slid(shape: Shape, kernel: Shape, stride: Shape, padding: Shape, *, max_padding: int) -> Shape:
    """How many windows fit in each spatial dimension."""
    if not len(kernel) == len(stride) == len(padding) or not 1 <= len(kernel) <= 2:
        raise Misfit("kernel, stride and padding have one or two numbers each")
    found = []
    for length, size, step, border in zip(_spatial(shape, len(kernel)), kernel, stride, padding, strict=True):
        _in_range("kernel", size, 1, MAX_KERNEL)
        _in_range("stride", step, 1, MAX_KERNEL)
        _in_range("padding", border, 0, max_padding)
        if length + 2 * border < size:
            raise Misfit(f"a kernel of {size} does not fit into {length} with a border of {border}")
        found.append((length + 2 * border - size) // step + 1)
    return tuple(found)
