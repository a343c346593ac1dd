"""The operators of a model that CrypTen has no module for, or none that opens as little as ours; see `protocols.model.layers`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from protocols.errors import ConfideError, ErrorCode
from protocols.model.layers import AdaptiveAveragePool, AveragePool, Convolution, MaxPool, Shape
from protocols.mpc.combination import Combination
from protocols.mpc.convolutions import Geometry
from protocols.mpc.tensor import pooling
from protocols.mpc.tensor.coin import Coin
from protocols.mpc.tensor.loader import crypten
from protocols.mpc.tensor.normalising import Statistics
from protocols.mpc.tensor.shared_tensor import SharedTensor

Parameters = Mapping[str, SharedTensor]


class _Module(crypten.nn.Module):  # type: ignore[misc]
    """CrypTen's module without what it does at every call: its `forward` looks at all operands and the module first."""

    __getattribute__ = object.__getattribute__

    def __call__(self, *rows: SharedTensor) -> Any:
        return self.forward(*rows)


class HyperbolicTangent(_Module):
    """The hyperbolic tangent, which CrypTen has as a function but not as a module."""

    def forward(self, rows: SharedTensor) -> Any:
        """Returns tanh of every element."""
        return rows.tanh()


class Identity(_Module):
    """Gives back what it gets."""

    def forward(self, rows: SharedTensor) -> SharedTensor:
        """Returns the tensor."""
        return rows


class Applied(_Module):
    """A function of what it gets."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *rows: SharedTensor) -> Any:
        """Returns the function's result."""
        return self.function(*rows)


class InTurn(_Module):
    """Runs one module after another."""

    def __init__(self, first: Any, second: Any) -> None:
        super().__init__()
        self.first = first
        self.second = second
        for step in (first, second):
            step.encrypted = True

    def forward(self, rows: SharedTensor) -> Any:
        """Returns the second one's result."""
        return self.second.forward(self.first.forward(rows))


class CoinDropout(_Module):
    """Drops values in training as the public coin of a layer says, and divides the others by 1 - rate, exactly.

    Args:
        name: the layer's.
        rate: how likely a value is dropped.
        coin: gives the current step's mask.
    """

    def __init__(self, name: str, rate: Fraction, coin: Coin | None) -> None:
        super().__init__()
        self.name = name
        self.rate = rate
        self.coin = coin

    def forward(self, rows: SharedTensor) -> Any:
        """Returns what is kept; everything when the module does not train.

        Raises:
            ConfideError: INTERNAL (ours) for a training without a coin.
        """
        if not self.training:
            return rows
        if self.coin is None:
            raise ConfideError(ErrorCode.INTERNAL, "a dropout layer trains without a coin")
        mask = self.coin(self.name, rows.shape)
        return rows.keep(mask, 1 / (1 - self.rate))


class Weighted(_Module):
    """A layer with parameters of its own.

    Args:
        parameters: by the names within the layer.
    """

    def __init__(self, **parameters: SharedTensor) -> None:
        super().__init__()
        for name, parameter in parameters.items():
            self.register_parameter(name, parameter)
        # As attributes, too: CrypTen searches three tables for them at every use.
        self.__dict__.update(parameters)


class Affine(Weighted):
    """A matrix product over the last dimension and a bias; weight (out_features, in_features)."""

    def forward(self, rows: SharedTensor) -> Any:
        """Returns (..., out_features)."""
        shape = rows.shape
        flat = rows if len(shape) == 2 else rows.reshape(-1, shape[-1])
        result = flat.affine(self.weight, self.bias) if hasattr(self, "bias") else flat.affine(self.weight)
        return result if len(shape) == 2 else result.reshape(*shape[:-1], -1)


class OneHotEmbedding(Weighted):
    """The rows of a table that one-hot vectors name; weight (categories, width)."""

    def forward(self, rows: SharedTensor) -> Any:
        """Returns (batch, places, width) of (batch, places, categories)."""
        batch, places, categories = rows.size()
        return rows.reshape(-1, categories).matmul(self.weight).reshape(batch, places, -1)


class SharedConvolution(Weighted):
    """A convolution over one or two dimensions.

    Args:
        operator: its settings.
        shape: of a row that it takes.
        parameters: weight, and bias if there is one.
    """

    def __init__(self, operator: Convolution, shape: Shape, **parameters: SharedTensor) -> None:
        super().__init__(**parameters)
        self.operator = operator
        self.geometry = plane_of(shape, operator.kernel, operator.stride, operator.padding, operator.groups)

    def forward(self, rows: SharedTensor) -> Any:
        """Returns (batch, out channels, ...)."""
        weight = self.weight.reshape(*tuple(self.weight.size())[:2], *self.geometry.kernel)
        result = as_planes(rows).convolve(weight, self.geometry)
        result = result.add(self.bias.reshape(-1, 1, 1)) if hasattr(self, "bias") else result
        return as_rows(result, rows)


class SharedMaxPool(_Module):
    """The largest value of every window."""

    def __init__(self, operator: MaxPool, shape: Shape) -> None:
        super().__init__()
        self.geometry = plane_of(shape, operator.kernel, operator.stride, operator.padding, 1)

    def forward(self, rows: SharedTensor) -> Any:
        """Returns (batch, channels, ...)."""
        return as_rows(as_planes(rows).max_pool(self.geometry), rows)


class SharedMeans(_Module):
    """The mean of every window, of fixed or adaptive windows."""

    def __init__(self, operator: AveragePool | AdaptiveAveragePool, shape: Shape) -> None:
        super().__init__()
        if isinstance(operator, AdaptiveAveragePool):
            along = [pooling.adaptive_means(*pair) for pair in zip(shape[1:], operator.size, strict=True)]
        else:
            settings = zip(shape[1:], operator.kernel, operator.stride, operator.padding, strict=True)
            along = [(pooling.window_sums(*numbers), numbers[1]) for numbers in settings]
        self.divisor = math.prod(divisor for _, divisor in along)
        maps = [coefficients for coefficients, _ in along]
        self.maps = maps if len(maps) == 2 else [pooling.window_sums(1, 1, 1, 0), *maps]

    def forward(self, rows: SharedTensor) -> Any:
        """Returns (batch, channels, ...)."""
        return as_rows(as_planes(rows).map_planes(*self.maps), rows).div(self.divisor)


class SharedLayerNorm(Weighted):
    """Every row scaled by the mean and variance over its last dimensions; weight and bias of their shape, if there are any."""

    def __init__(self, dims: int, epsilon: Fraction, **parameters: SharedTensor) -> None:
        super().__init__(**parameters)
        self.dims = dims
        self.epsilon = epsilon

    def forward(self, rows: SharedTensor) -> Any:
        """Returns the same shape."""
        axes = tuple(range(rows.dim() - self.dims, rows.dim()))
        result: Any = rows.normalise(None, axes, self.epsilon, [])
        result = result.mul(self.weight) if hasattr(self, "weight") else result
        return result.add(self.bias) if hasattr(self, "bias") else result


class SharedBatchNorm(Weighted):
    """Every channel scaled by its mean and variance: of the batch in training, else by one scale and one shift.

    Args:
        epsilon: what is added to the variance.
        parameters: weight and bias, if there are any.
    """

    def __init__(self, epsilon: Fraction, **parameters: SharedTensor) -> None:
        super().__init__(**parameters)
        self.epsilon = epsilon
        self.statistics: Statistics | None = None
        self.folded: tuple[SharedTensor, SharedTensor] | None = None

    def forward(self, rows: SharedTensor) -> Any:
        """Returns the same shape.

        Raises:
            ConfideError: INTERNAL (ours) for an inference whose scales were not made before.
        """
        shape = (1, rows.shape[1], *(1 for _ in range(rows.dim() - 2)))
        if not self.training:
            if self.folded is None:
                raise ConfideError(ErrorCode.INTERNAL, "a batch norm without its scale")
            scale, shift = (part.reshape(shape) for part in self.folded)
            return rows.mul(scale).add(shift)
        axes = tuple(axis for axis in range(rows.dim()) if axis != 1)
        seen: list[Statistics] = []
        weight = self.weight.reshape(shape) if hasattr(self, "weight") else None
        result: Any = rows.normalise(weight, axes, self.epsilon, seen)
        (self.statistics,) = seen
        return result.add(self.bias.reshape(shape)) if hasattr(self, "bias") else result

    def moved(self, momentum: Fraction, mean: SharedTensor, variance: SharedTensor) -> tuple[Combination, Combination]:
        """Returns running statistics moved towards the batch's, as torch does: the variance unbiased. Secret; pending factors.

        Raises:
            ConfideError: INTERNAL (ours) before the first batch.
        """
        if self.statistics is None:
            raise ConfideError(ErrorCode.INTERNAL, "running statistics without a batch")
        of_batch, count = self.statistics, self.statistics.count
        pairs = ((mean, of_batch.mean, Fraction(1)), (variance, of_batch.variance, Fraction(count, count - 1)))
        # As old + momentum * (new - old), so that rounding the momentum does not move the fixed point.
        mean_moved, variance_moved = (
            old.combination.plus(old.combination.times(-momentum)).plus(
                new.combination.folded(old.shape).times(momentum * correction)
            )
            for old, new, correction in pairs
        )
        return mean_moved, variance_moved


def plane_of(shape: Shape, kernel: Shape, stride: Shape, padding: Shape, groups: int) -> Geometry:
    """Returns how windows lie in rows of (channels, length) or (channels, height, width); a line is a plane of height 1."""
    if len(kernel) == 2:
        return Geometry(_two(shape[1:]), _two(kernel), _two(stride), _two(padding), groups)
    return Geometry((1, shape[1]), (1, kernel[0]), (1, stride[0]), (0, padding[0]), groups)


def as_planes(rows: SharedTensor) -> Any:
    """Returns (batch, channels, height, width) of lines or planes."""
    return rows if rows.dim() == 4 else rows.reshape(rows.shape[0], rows.shape[1], 1, -1)


def as_rows(planes: Any, rows: SharedTensor) -> Any:
    """Returns planes as lines if the rows were."""
    return planes if rows.dim() == 4 else planes.reshape(planes.shape[0], planes.shape[1], -1)


def _two(numbers: Shape) -> tuple[int, int]:
    height, width = numbers
    return height, width
