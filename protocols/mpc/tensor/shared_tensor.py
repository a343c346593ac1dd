"""`SharedTensor`: a CrypTen tensor type whose values are shares of our engine.

This module is what a tensor holds and how its value is brought to a product or a protocol; the operations are functions in
the modules beside it, and `operations` is the table that gives them their names. A tensor can not be opened: only the output
step of a session lets a refreshed share out.

Declared, since no bound on values can be proven through several layers: every tensor, and every gradient, stays below
2^VALUE_LIMIT_BITS in absolute value, every parameter below 2^PARAMETER_LIMIT_BITS. Under this nothing wraps: a value that
could leave the domain of truncation is brought to fewer fractional bits first, or refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import PARAMETER_BITS, VALUE_BITS, encode
from protocols.fixed_point import PARAMETER_LIMIT_BITS as PARAMETER_LIMIT_BITS
from protocols.fixed_point import VALUE_LIMIT_BITS as VALUE_LIMIT_BITS
from protocols.mpc.combination import Combination, Term
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.tensor.loader import crypten
from protocols.mpc.values import MAX_MAGNITUDE_BITS, SharedValue, ValueView
from protocols.ring import RingArray

TYPE_NAME = "confide"
MAX_TERMS = 8  # more pending terms than this are settled, so that sums in a loop stay small

# One engine is current in a worker process. The tests run several parties as threads, each with its own.
_ENGINE: ContextVar[Engine] = ContextVar("engine")


@dataclass(frozen=True, repr=False)
class Whole:
    """What a protocol takes of a tensor.

    Attributes:
        share: int64 of at least one dimension, secret.
        scale_bits: its fractional bits; public.
        magnitude_bits: log2 of the bound on the ring element; public.
    """

    share: RingArray
    scale_bits: int
    magnitude_bits: int


@contextmanager
def use_engine(engine: Engine) -> Iterator[None]:
    """Makes an engine current for the tensors of this thread."""
    token = _ENGINE.set(engine)
    try:
        yield
    finally:
        _ENGINE.reset(token)


def current_engine() -> Engine:
    """Returns the engine of this thread.

    Raises:
        ConfideError: INTERNAL (ours) outside a session.
    """
    engine = _ENGINE.get(None)
    if engine is None:
        raise ConfideError(ErrorCode.INTERNAL, "a shared tensor is used outside a session")
    return engine


class SharedTensor(crypten.CrypTensor):  # type: ignore[misc]
    """A secret tensor of the current session, or a public constant in its place.

    Args:
        tensor: a public constant (number, list, array or torch tensor), which every party knows; it is part of the program.
        requires_grad: whether autograd computes its gradient; such a tensor is a parameter and no constant any more.
        src: accepted because CrypTen passes it; a constant has no source.
        combination: the secret value instead of a constant.

    Attributes:
        combination: what the tensor holds; secret.
        constant: the public numbers that the tensor stands for, if it is a constant; else None.
    """

    # What CrypTen gives every tensor when it makes one; most tensors never change them.
    requires_grad: bool = False
    grad: Any = None
    grad_fn: Any = None
    ctx: Any = None
    grad_expected: int = 0
    grad_received: int = 0
    children: Sequence[SharedTensor] = ()

    # numpy leaves `array * tensor` to us instead of multiplying element by element.
    __array_ufunc__ = None
    # Not CrypTen's, which looks every name up in its table: operations with a gradient are descriptors (`recording`).
    __getattribute__ = object.__getattribute__

    def __init__(
        self, tensor: Any = None, *, requires_grad: bool = False, src: int = 0, combination: Combination | None = None
    ) -> None:
        if requires_grad:
            self.requires_grad = True
        constant = None
        if combination is None:
            values = public_array(tensor)
            combination = _public_parameter(values, PARAMETER_BITS) if requires_grad else _public_constant(values)
            constant = None if requires_grad else values
        self._hold(combination, constant)

    def __repr__(self) -> str:
        return f"SharedTensor(shape={tuple(self.size())})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("shares are not pickled")

    @staticmethod
    def of(value: SharedValue | ValueView) -> SharedTensor:
        """Returns the tensor of a shared value; its mask, if it is opened, is shared with all tensors of the value."""
        return _holding(Combination.of(value), None)

    @staticmethod
    def ones(shape: tuple[int, ...]) -> SharedTensor:
        """Returns the constant 1 in a shape."""
        return SharedTensor(np.ones(shape)) if shape else SharedTensor(1.0)

    @staticmethod
    def from_public(values: NDArray[np.float64], scale_bits: int) -> SharedTensor:
        """Returns a parameter that starts as public numbers below 2^10 (initial weights, zero momenta)."""
        return SharedTensor(combination=_public_parameter(values, scale_bits))

    @property
    def data(self) -> torch.Tensor:
        """Zeros of the tensor's shape; autograd looks at shapes only."""
        return torch.zeros(self.size())

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape; public."""
        return self.combination.shape

    def size(self, dim: int | None = None) -> Any:
        """Returns the shape as torch has it, or one of its dimensions; public."""
        return torch.Size(self.combination.shape) if dim is None else self.combination.shape[dim]

    def dim(self) -> int:
        """Returns the number of dimensions; public."""
        return len(self.combination.shape)

    def nelement(self) -> int:
        """Returns the number of elements; public."""
        return math.prod(self.combination.shape)

    @property
    def is_turned(self) -> bool:
        """Whether the tensor is the transpose of a value that is held; public."""
        terms = self.combination.terms
        return len(terms) == 1 and terms[0].view.is_transposed

    numel = nelement

    def clone(self) -> SharedTensor:
        """Returns a tensor of the same value."""
        copy = _holding(self.combination, self.constant)
        # The same value: what one of both rounds and opens serves the other.
        copy._rounds = self._rounds
        return copy

    shallow_copy = clone

    def copy_(self, other: Any) -> SharedTensor:
        """Takes the other tensor's value."""
        source = wrapped(other)
        self._hold(source.combination, None if self.requires_grad else source.constant)
        return self

    def turned(self) -> SharedTensor:
        """Returns the transpose of a matrix; it shares masks, and what is rounded already, with this tensor."""
        turned = _holding(self.combination.transpose(), None if self.constant is None else self.constant.T)
        if self._rounds:
            turned._rounds = {key: term.seen(term.view.transpose) for key, term in self._rounds.items()}
        return turned

    def operand(self) -> Term:
        """Returns the tensor as one term, at 16 fractional bits if it cannot be exact; one round in that case."""
        terms = self.combination.terms
        if len(terms) == 1:
            return terms[0]
        self._settle_parameter()
        term = self.combination.single()
        if term is None:
            return self._rounded(VALUE_BITS)
        if len(self.combination.terms) > 1:
            # Later uses must see this very value, or they would open it under another mask.
            self._hold(Combination((term,)), None)
        return term

    def coarse(self, scale_bits: int) -> Term:
        """Returns the tensor as one term with at most so many fractional bits; it keeps what it holds. One round if needed."""
        term = self.operand()
        return term if term.view.value.scale_bits <= scale_bits else self._rounded(scale_bits)

    def folded(self) -> Term:
        """Returns the tensor as one term at 16 fractional bits without a pending factor; one round."""
        if (VALUE_BITS, True) not in self._rounds:
            self._rounds[VALUE_BITS, True] = Term(ValueView(self._settled(VALUE_BITS)))
        return self._rounds[VALUE_BITS, True]

    def whole(self, highest: int, lowest: int = 2) -> Whole:
        """Returns what a protocol takes; one round if factors are pending or the scale is outside lowest to highest bits."""
        self._settle_parameter()
        term = self.combination.whole()
        if term is None or not _fits_protocol(term, lowest, highest):
            term = self.folded()
        elif len(self.combination.terms) > 1:
            self._hold(Combination((term,)), None)
        value = term.view.value
        return Whole(np.ascontiguousarray(term.view.share), value.scale_bits, value.magnitude_bits)

    def settle(self, scale_bits: int) -> SharedValue:
        """Brings the tensor to one scale, with one round if a term needs truncation, and returns its value."""
        if not (self.combination.is_settled(scale_bits) and self.combination.terms[0].view.is_whole):
            self._hold(Combination.of(self._settled(scale_bits)), None)
        result: SharedValue = self.combination.terms[0].view.value
        return result

    def assign(self, value: SharedValue) -> None:
        """Replaces the tensor's pending terms by the value that they were settled to."""
        self._hold(Combination.of(value), None)

    def _hold(self, combination: Combination, constant: NDArray[np.float64] | None) -> None:
        self.combination: Combination = combination
        self.constant: NDArray[np.float64] | None = constant
        # Rounded copies of this very combination, by fractional bits and whether the factor is multiplied in.
        self._rounds: dict[tuple[int, bool], Term] = {}

    def _settled(self, scale_bits: int) -> SharedValue:
        limit = PARAMETER_LIMIT_BITS if self._is_parameter() else VALUE_LIMIT_BITS
        engine = current_engine()
        return engine.run(self.combination.settle(engine, scale_bits, magnitude_bits=scale_bits + limit))

    def _rounded(self, scale_bits: int) -> Term:
        """Returns one term at a scale; a single term keeps its factor, which costs no precision."""
        if (scale_bits, False) not in self._rounds:
            terms = self.combination.terms
            if len(terms) == 1:
                engine = current_engine()
                unscaled = Combination.of(terms[0].view)
                value = engine.run(unscaled.settle(engine, scale_bits, magnitude_bits=MAX_MAGNITUDE_BITS))
                self._rounds[scale_bits, False] = terms[0].seen(ValueView(value))
            else:
                self._rounds[scale_bits, False] = Term(ValueView(self._settled(scale_bits)))
        return self._rounds[scale_bits, False]

    def _settle_parameter(self) -> None:
        """Settles an updated parameter before its next use, so that it keeps its 24 fractional bits."""
        if self._is_parameter() and self.combination.single() is None:
            self.settle(PARAMETER_BITS)

    def _is_parameter(self) -> bool:
        return bool(self.requires_grad) and not self.children


def tensor_of(combination: Combination, constant: NDArray[np.float64] | None = None) -> SharedTensor:
    """Returns the tensor of a combination, settled if too many terms are pending.

    Args:
        combination: secret.
        constant: the public numbers that it stands for, if it does.
    """
    tensor = _holding(combination, constant)
    if constant is None and len(combination.terms) > MAX_TERMS:
        tensor.settle(PARAMETER_BITS)
    return tensor


def _holding(combination: Combination, constant: NDArray[np.float64] | None) -> SharedTensor:
    """A tensor, made without what Python, CrypTen and constants ask of its constructor."""
    tensor = object.__new__(SharedTensor)
    tensor.combination = combination
    tensor.constant = constant
    tensor._rounds = {}
    return tensor


def wrapped(other: Any) -> SharedTensor:
    """Returns a tensor as it is, and public numbers as a constant."""
    return other if isinstance(other, SharedTensor) else SharedTensor(other)


def constant_of(other: Any) -> NDArray[np.float64] | None:
    """Returns the public numbers behind an operand, or None if it is secret."""
    return other.constant if isinstance(other, SharedTensor) else public_array(other)


def public_array(values: Any) -> NDArray[np.float64]:
    """Returns public numbers as an array.

    Raises:
        ConfideError: INVALID_MODEL (the program's author's fault) for anything else.
    """
    if type(values) is float:
        return np.array(values)
    if torch.is_tensor(values):
        return np.asarray(values.detach().numpy(), dtype=np.float64)
    if isinstance(values, int | float | Fraction | list | tuple | np.ndarray | np.number):
        return np.asarray(values, dtype=np.float64)
    raise refused(f"a tensor from {type(values).__name__}")


def run(protocol: Steps[RingArray], shape: tuple[int, ...], scale_bits: int, magnitude_bits: int) -> SharedTensor:
    """Runs a protocol and returns its result as a tensor.

    Args:
        protocol: gives this party's share.
        shape: of the result; a protocol does not know tensors without dimensions.
        scale_bits: fractional bits of the result.
        magnitude_bits: bound on the result as a ring element.
    """
    share = current_engine().run(protocol).reshape(shape)
    return SharedTensor.of(SharedValue(share, scale_bits=scale_bits, magnitude_bits=magnitude_bits))


def refused(name: str) -> ConfideError:
    """Returns the error for an operation that shared tensors do not have."""
    return ConfideError(
        ErrorCode.INVALID_MODEL,
        f"the operation {name} is not available on shared tensors",
        remedy="Use the operations that docs/tensors.md lists.",
    )


def _fits_protocol(term: Term, lowest: int, highest: int) -> bool:
    value = term.view.value
    # One bit below the domain: protocols add thresholds.
    return lowest <= value.scale_bits <= highest and value.magnitude_bits < MAX_MAGNITUDE_BITS


def _public_constant(values: NDArray[np.float64]) -> Combination:
    elements, magnitude_bits = _encoded(values) if values.ndim else _encoded_number(float(values))
    share = current_engine().public(elements)
    return Combination.of(SharedValue(share, scale_bits=VALUE_BITS, magnitude_bits=magnitude_bits))


def _encoded(values: NDArray[np.float64]) -> tuple[RingArray, int]:
    elements = encode(values, scale_bits=VALUE_BITS, limit=2.0**VALUE_LIMIT_BITS)
    largest = int(np.abs(elements).max(initial=1))
    return elements, (largest - 1).bit_length()


@lru_cache(maxsize=64)
def _encoded_number(value: float) -> tuple[RingArray, int]:
    elements, magnitude_bits = _encoded(np.array(value))
    elements.flags.writeable = False
    return elements, magnitude_bits


def _public_parameter(values: NDArray[np.float64], scale_bits: int) -> Combination:
    # The bound is declared, not looked up: a plan is derived without the weights.
    elements = encode(values, scale_bits=scale_bits, limit=2.0**PARAMETER_LIMIT_BITS)
    share = current_engine().public(elements)
    return Combination.of(SharedValue(share, scale_bits=scale_bits, magnitude_bits=scale_bits + PARAMETER_LIMIT_BITS))
