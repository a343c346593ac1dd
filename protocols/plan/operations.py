"""The operations of a plan: correlated randomness that is dealt, rounds of masked openings, and the bits that are revealed.

A plan is a list of segments, each run a number of times; equal steps of a training are one segment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from protocols.canonical import Document
from protocols.links import DTYPES, TensorSpec

Parameter = int | tuple[int, ...]
MAX_OPERATIONS = 10_000


@dataclass(frozen=True)
class Deal:
    """Correlated randomness of one kind; `parameters` are the kind's, public: shapes, shifts, which masks."""

    kind: str
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True)
class Open:
    """One round: every computing party sends these arrays, masked, to every other. What is opened is uniform, or in a training by
    noisy sums a sum that its noise protects.

    Attributes:
        name: what the round is for.
        arrays: what each party sends to each other one.
    """

    name: str
    arrays: tuple[TensorSpec, ...]

    @property
    def num_bytes(self) -> int:
        """Payload bytes that each party sends to each other one."""
        return sum(array.num_bytes for array in self.arrays)


@dataclass(frozen=True)
class Reveal:
    """One round that opens a single bit of the computation, unmasked: the only thing that computing parties learn from it.

    Attributes:
        name: what the bit says.
    """

    name: str

    @property
    def num_bytes(self) -> int:
        """Payload bytes that each party sends to each other one."""
        return 1


Operation = Deal | Open | Reveal


@dataclass(frozen=True)
class Segment:
    """A part of the plan that runs once or many times, alike each time.

    Attributes:
        name: what it does.
        operations: in order.
        correction_bytes: what the dealer sends the last computing party for one run.
    """

    name: str
    operations: tuple[Operation, ...]
    correction_bytes: int

    @property
    def rounds(self) -> int:
        """Rounds among the computing parties in one run."""
        return sum(isinstance(operation, Open | Reveal) for operation in self.operations)

    @property
    def opened_bytes(self) -> int:
        """Payload bytes that each computing party sends to each other one in one run."""
        return sum(operation.num_bytes for operation in self.operations if isinstance(operation, Open | Reveal))

    @property
    def revealed_bits(self) -> int:
        """Bits of the computation that the computing parties learn in one run."""
        return sum(isinstance(operation, Reveal) for operation in self.operations)


def operation_document(operation: Operation) -> dict[str, Any]:
    """Returns an operation as a document."""
    if isinstance(operation, Deal):
        parameters = [list(item) if isinstance(item, tuple) else item for item in operation.parameters]
        return {"deal": operation.kind, "parameters": parameters}
    if isinstance(operation, Reveal):
        return {"reveal": operation.name}
    return {"open": operation.name, "arrays": [[array.dtype, list(array.shape)] for array in operation.arrays]}


def read_operation(document: Document) -> Operation:
    """Reads an operation.

    Raises:
        ValueError: not the fields, types or values of an operation.
    """
    if set(document) == {"deal", "parameters"}:
        return Deal(read_text(document["deal"]), tuple(_parameter(item) for item in document["parameters"]))
    if set(document) == {"open", "arrays"}:
        return Open(read_text(document["open"]), tuple(_array(item) for item in document["arrays"]))
    if set(document) == {"reveal"}:
        return Reveal(read_text(document["reveal"]))
    raise ValueError("an operation deals, opens or reveals")


def read_text(value: Any) -> str:
    """Returns a short text or raises ValueError."""
    if not isinstance(value, str) or len(value) > 256:
        raise ValueError("a text of at most 256 characters is expected")
    return value


def read_count(value: Any) -> int:
    """Returns a number from 0 to 2^53 or raises ValueError."""
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError("a count is expected")
    return value


def _parameter(value: Any) -> Parameter:
    return tuple(read_count(item) for item in value) if isinstance(value, list) else read_count(value)


def _array(value: Any) -> TensorSpec:
    dtype, shape = value
    if dtype not in DTYPES or not isinstance(shape, list):
        raise ValueError(f"an array has a dtype of {', '.join(DTYPES)} and a shape")
    return TensorSpec(dtype, tuple(read_count(size) for size in shape))
