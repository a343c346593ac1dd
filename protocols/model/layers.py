"""The operators that a model may use: their settings, the shapes they give, the tensors they hold.

Shapes are those of one row, without the batch: (features,), (channels, length) or (channels, height, width), as in torch.
Settings are public. Decimal numbers are texts, since documents hold no floats.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import cache
from typing import Any, ClassVar, get_type_hints

from protocols.model.operator_base import MAX_DEGREE as MAX_DEGREE
from protocols.model.operator_base import MAX_ELEMENTS as MAX_ELEMENTS
from protocols.model.operator_base import MAX_KERNEL as MAX_KERNEL
from protocols.model.operator_base import MAX_PLACES as MAX_PLACES
from protocols.model.operator_base import MAX_WIDTH as MAX_WIDTH
from protocols.model.operator_base import SIGNED_DECIMAL, decimal_between, in_range, slid, spatial
from protocols.model.operator_base import Elementwise as Elementwise
from protocols.model.operator_base import Misfit as Misfit
from protocols.model.operator_base import Operator as Operator
from protocols.model.operator_base import Shape as Shape
from protocols.model.operator_base import Tensor as Tensor


@dataclass(frozen=True)
class Linear(Operator):
    """A matrix product over the last dimension; weight (out_features, in_features), bias (out_features,)."""

    kind: ClassVar[str] = "linear"
    out_features: int
    bias: bool = True

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """See `Operator`."""
        in_range("out_features", self.out_features, 1, MAX_WIDTH)
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
        in_range("out_channels", self.out_channels, 1, MAX_WIDTH)
        in_range("groups", self.groups, 1, MAX_WIDTH)
        channels = inputs[0][0]
        if channels % self.groups or self.out_channels % self.groups:
            raise Misfit(f"{channels} and {self.out_channels} channels do not divide into {self.groups} groups")
        return (self.out_channels, *slid(inputs[0], self.kernel, self.stride, self.padding, max_padding=MAX_KERNEL))

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
        return (inputs[0][0], *slid(inputs[0], self.kernel, self.stride, self.padding, max_padding=min(self.kernel) // 2))


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
        lengths = spatial(inputs[0], len(self.size))
        for place, length in zip(self.size, lengths, strict=True):
            in_range("size", place, 1, length)
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
        decimal_between("epsilon", self.epsilon, "0.00001", "1")
        decimal_between("momentum", self.momentum, "0", "1")
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
        decimal_between("epsilon", self.epsilon, "0.00001", "1")
        in_range("dims", self.dims, 1, len(inputs[0]))
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
        in_range("width", self.width, 1, MAX_WIDTH)
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
        decimal_between("slope", self.slope, "0", "1")
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
class Square(Elementwise):
    """x times x: an activation for encrypted inference, not computed on shares."""

    kind: ClassVar[str] = "square"


@dataclass(frozen=True)
class Polynomial(Elementwise):
    """c0 + c1 x + c2 x^2 + ...: an activation for encrypted inference, not computed on shares.

    Attributes:
        coefficients: c0, c1, ... as decimals with a sign, at most `MAX_DEGREE` + 1 of them, the last one not zero.
    """

    kind: ClassVar[str] = "polynomial"
    coefficients: tuple[str, ...]

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """See `Operator`."""
        if not 3 <= len(self.coefficients) <= MAX_DEGREE + 1:
            raise Misfit(f"a polynomial activation has degree 2 to {MAX_DEGREE}")
        if any(not SIGNED_DECIMAL.fullmatch(text) for text in self.coefficients):
            raise Misfit("coefficients are decimals of at most four digits before the point and twelve after it")
        if not any(digit in "123456789" for digit in self.coefficients[-1]):
            raise Misfit("the last coefficient of a polynomial is not zero")
        return inputs[0]


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
        Tanh, Gelu, Square, Polynomial, Softmax, Dropout, Flatten, Add,
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
    kinds = _settings_of(operator)
    if not isinstance(settings, dict) or set(settings) != set(kinds):
        raise Misfit(f"the settings of {kind} are exactly: {', '.join(kinds) or 'none'}")
    return operator(**{name: _read(name, settings[name], wanted) for name, wanted in kinds.items()})


@cache
def _settings_of(operator: type[Operator]) -> dict[str, Any]:
    """Names and types of an operator's settings."""
    hints = get_type_hints(operator)
    return {field.name: hints[field.name] for field in fields(operator)}


def is_rate(text: str) -> bool:
    """Says whether a text is the rate of a dropout as manifests write it: a decimal from 0.01 to 0.99, at most six places."""
    return bool(re.fullmatch(r"0\.[0-9]{1,6}", text)) and Decimal("0.01") <= Decimal(text) <= Decimal("0.99")


def _read(name: str, value: object, kind: object) -> object:
    if kind == Shape:
        if not isinstance(value, list) or not 1 <= len(value) <= 2 or any(type(item) is not int for item in value):
            raise Misfit(f"{name} is a list of one or two whole numbers")
        return tuple(value)
    if kind == tuple[str, ...]:
        if not isinstance(value, list) or len(value) > MAX_DEGREE + 1 or any(type(item) is not str for item in value):
            raise Misfit(f"{name} is a list of at most {MAX_DEGREE + 1} decimals")
        return tuple(value)
    if type(value) is not kind:
        raise Misfit(f"{name} has the wrong type")
    return value
