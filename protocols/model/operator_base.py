"""What every operator of a model is: its interface, and the checks of settings that several share.

The operators themselves stand in `protocols.model.layers`, from which all of this is taken.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, ClassVar

Shape = tuple[int, ...]

MAX_WIDTH = 65_536  # of one dimension
MAX_ELEMENTS = 1 << 20  # of one row, at any place of a model
MAX_KERNEL = 64
MAX_DEGREE = 7  # of a polynomial activation
MAX_PLACES = 12  # after the point of a decimal
DECIMAL = re.compile(rf"(0|[1-9][0-9]{{0,3}})(\.[0-9]{{1,{MAX_PLACES}}})?")
SIGNED_DECIMAL = re.compile(f"-?{DECIMAL.pattern}")


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


def in_range(name: str, value: int, low: int, high: int) -> None:
    """Raises Misfit for a whole number out of range."""
    if not low <= value <= high:
        raise Misfit(f"{name} is {value}, outside {low} to {high}")


def decimal_between(name: str, text: str, low: str, high: str) -> None:
    """Raises Misfit for a text that is no decimal of the range."""
    if not DECIMAL.fullmatch(text) or not Decimal(low) <= Decimal(text) <= Decimal(high):
        raise Misfit(f"{name} is a decimal from {low} to {high}")


def spatial(shape: Shape, dims: int) -> Shape:
    """Returns the places of a row of channels."""
    if len(shape) != dims + 1:
        raise Misfit(f"takes (channels, {'length' if dims == 1 else 'height, width'}), not a row of shape {shape}")
    return shape[1:]


def slid(shape: Shape, kernel: Shape, stride: Shape, padding: Shape, *, max_padding: int) -> Shape:
    """Returns how many windows fit in each spatial dimension."""
    if not len(kernel) == len(stride) == len(padding) or not 1 <= len(kernel) <= 2:
        raise Misfit("kernel, stride and padding have one or two numbers each")
    found = []
    for length, size, step, border in zip(spatial(shape, len(kernel)), kernel, stride, padding, strict=True):
        in_range("kernel", size, 1, MAX_KERNEL)
        in_range("stride", step, 1, MAX_KERNEL)
        in_range("padding", border, 0, max_padding)
        if length + 2 * border < size:
            raise Misfit(f"a kernel of {size} does not fit into {length} with a border of {border}")
        found.append((length + 2 * border - size) // step + 1)
    return tuple(found)
