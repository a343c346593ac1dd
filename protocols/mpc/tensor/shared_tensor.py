"""`SharedTensor`: a CrypTen tensor type whose values are shares of our engine.

It implements the operations that training and evaluating a `ModelSpec` need; every other one is refused by its name. It can
not be opened: only the output step of a session lets a refreshed share out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import PARAMETER_BITS, VALUE_BITS, encode
from protocols.mpc.combination import Combination, Term
from protocols.mpc.engine import Engine
from protocols.mpc.primitives.comparison import nonnegative
from protocols.mpc.primitives.products import elementwise, product
from protocols.mpc.primitives.sigmoid import MAX_SCALE_BITS, RESULT_BITS, sigmoid
from protocols.mpc.tensor.loader import crypten
from protocols.mpc.values import SharedValue, ValueView
from protocols.ring import RingArray

TYPE_NAME = "confide"
PARAMETER_LIMIT_BITS = 10  # declared: parameters and momenta stay below 2^10
VALUE_LIMIT_BITS = 20  # declared: values between layers stay below 2^20
CONSTANT_LIMIT = 1024.0

# One engine is current in a worker process. The tests run several parties as threads, each with its own.
_ENGINE: ContextVar[Engine] = ContextVar("engine")


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
        tensor: a public constant (number, list or torch tensor), which every party knows.
        requires_grad: whether autograd computes its gradient.
        src: accepted because CrypTen passes it; a constant has no source.
        combination: the secret value instead of a constant.
    """

    def __init__(
        self, tensor: Any = None, *, requires_grad: bool = False, src: int = 0, combination: Combination | None = None
    ) -> None:
        super().__init__(requires_grad=requires_grad)
        self._constant: NDArray[np.float64] | None = None
        if combination is None:
            self._constant = _constant(tensor)
            combination = _public(self._constant, PARAMETER_BITS if requires_grad else VALUE_BITS)
        self._combination = combination

    def __getattribute__(self, name: str) -> Any:
        # CrypTen looks every attribute up in its table of functions; what cannot be in there skips that.
        if name in _DIRECT:
            return object.__getattribute__(self, name)
        return super().__getattribute__(name)

    def __repr__(self) -> str:
        return f"SharedTensor(shape={tuple(self.size())})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("shares are not pickled")

    @staticmethod
    def of(value: SharedValue | ValueView) -> SharedTensor:
        """Returns the tensor of a shared value; its mask, if it is opened, is shared with all tensors of the value."""
        return SharedTensor(combination=Combination.of(value))

    @staticmethod
    def from_public(values: NDArray[np.float64], scale_bits: int) -> SharedTensor:
        """Returns a tensor that starts as a public constant (initial weights, zero momenta)."""
        return SharedTensor(combination=_public(values, scale_bits))

    @property
    def combination(self) -> Combination:
        """What the tensor holds; secret."""
        result: Combination = self._combination
        return result

    @property
    def data(self) -> torch.Tensor:
        """Zeros of the tensor's shape; autograd looks at shapes only."""
        return torch.zeros(self.size())

    def size(self, dim: int | None = None) -> Any:
        """Returns the shape, or one of its dimensions; public."""
        shape = torch.Size(self._combination.shape)
        return shape if dim is None else shape[dim]

    def dim(self) -> int:
        """Returns the number of dimensions; public."""
        return len(self._combination.shape)

    def nelement(self) -> int:
        """Returns the number of elements; public."""
        return int(np.prod(self._combination.shape, dtype=np.int64))

    def clone(self) -> SharedTensor:
        """Returns a tensor of the same value."""
        return _tensor(self._combination)

    shallow_copy = clone

    def copy_(self, other: SharedTensor) -> SharedTensor:
        """Takes the other tensor's value."""
        self._combination = other._combination
        self._constant = other._constant
        return self

    def add(self, other: Any) -> SharedTensor:
        """Returns the sum with a tensor or a public constant; no communication."""
        return _tensor(self._combination.plus(_wrapped(other)._combination))

    def sub(self, other: Any) -> SharedTensor:
        """Returns the difference with a tensor or a public constant; no communication."""
        return _tensor(self._combination.plus(_wrapped(other)._combination.times(Fraction(-1))))

    def neg(self) -> SharedTensor:
        """Returns the negative; no communication."""
        return _tensor(self._combination.times(Fraction(-1)))

    def mul(self, other: Any) -> SharedTensor:
        """Returns the elementwise product: with a public number for free, with a tensor of the same shape in one round."""
        if isinstance(other, int | float):
            return _tensor(self._combination.times(Fraction(other)))
        other = _wrapped(other)
        for one, two in ((self, other), (other, self)):
            if two._constant is not None and _is_uniform(two._constant):
                scaled = one._combination.times(Fraction(float(two._constant.flat[0])))
                return _tensor(scaled.broadcast(np.broadcast_shapes(scaled.shape, two._combination.shape)))
        if self.size() != other.size():
            raise _refused("mul of two shared tensors of different shapes")
        left, right = self.operand(), other.operand()
        share = current_engine().run(elementwise(current_engine(), left.view, right.view))
        return _product_of(left, right, share, inner=1)

    def div(self, other: Any) -> SharedTensor:
        """Returns the quotient by a public number, exact until the value is settled; no communication."""
        if not isinstance(other, int | float) or other == 0:
            raise _refused("div by anything but a public number")
        return _tensor(self._combination.times(1 / Fraction(other)))

    def matmul(self, other: Any) -> SharedTensor:
        """Returns the matrix product of two matrices; one round for the operands that have not been opened masked."""
        if not isinstance(other, SharedTensor) or self.dim() != 2 or other.dim() != 2:
            raise _refused("matmul of anything but two shared matrices")
        left, right = self.operand(), other.operand()
        share = current_engine().run(product(current_engine(), left.view, right.view))
        return _product_of(left, right, share, inner=int(self.size(1)))

    def t(self) -> SharedTensor:
        """Returns the transpose; shares the mask."""
        return _tensor(self._combination.transpose())

    def transpose(self, first: int, second: int) -> SharedTensor:
        """Returns the transpose of a matrix; shares the mask."""
        if self.dim() != 2 or first % 2 == second % 2:
            raise _refused("transpose of anything but the two dimensions of a matrix")
        return self.t()

    def sum(self, dim: int | None = None, keepdim: bool = False) -> SharedTensor:
        """Returns the sum over a dimension or over everything; no communication."""
        count = self.nelement() if dim is None else int(self.size(dim))

        def add_up(share: RingArray) -> RingArray:
            return np.asarray(share.sum(axis=dim, keepdims=keepdim))

        return _tensor(self._combination.mapped(add_up, growth_bits=(count - 1).bit_length()))

    def sigmoid(self) -> SharedTensor:
        """Returns the sigmoid, within 1e-4; four rounds."""
        term = self.operand()
        if term.factor != 1 or not 1 <= term.view.value.scale_bits <= MAX_SCALE_BITS:
            term = Term(ValueView(self.settle(VALUE_BITS)), Fraction(1))
        engine = current_engine()
        share = engine.run(sigmoid(engine, np.ascontiguousarray(term.view.share), term.view.value.scale_bits))
        return SharedTensor.of(SharedValue(share, scale_bits=RESULT_BITS, magnitude_bits=RESULT_BITS + 1))

    def ge(self, other: Any) -> SharedTensor:
        """Returns [self >= 0] as 0 or 1, exactly; four rounds. Other thresholds are subtracted first by the caller."""
        if other != 0:
            raise _refused("ge with anything but zero")
        term = self.operand()
        share = term.view.share if term.factor > 0 else -term.view.share
        engine = current_engine()
        bit = engine.run(nonnegative(engine, np.ascontiguousarray(share)))
        return SharedTensor.of(SharedValue(bit, scale_bits=0, magnitude_bits=0))

    def operand(self) -> Term:
        """Returns the tensor as one term, settled if it cannot be exact."""
        term = self._combination.single()
        if term is None:
            term = Term(ValueView(self.settle(VALUE_BITS)), Fraction(1))
        elif len(self._combination.terms) > 1:
            # Later uses must see this very value, or they would open it under another mask.
            self._combination = Combination((term,))
        return term

    def settle(self, scale_bits: int) -> SharedValue:
        """Brings the tensor to one scale, with one round if a term needs truncation, and returns its value."""
        if not (self._combination.is_settled(scale_bits) and self._combination.terms[0].view.is_whole):
            engine = current_engine()
            magnitude = scale_bits + VALUE_LIMIT_BITS
            settled = engine.run(self._combination.settle(engine, scale_bits, magnitude_bits=magnitude))
            self._combination = Combination.of(settled)
        result: SharedValue = self._combination.terms[0].view.value
        return result

    def assign(self, value: SharedValue) -> None:
        """Replaces the tensor's pending terms by the value that they were settled to."""
        self._combination = Combination.of(value)


def _tensor(combination: Combination) -> SharedTensor:
    return SharedTensor(combination=combination)


def _product_of(left: Term, right: Term, share: RingArray, *, inner: int) -> SharedTensor:
    one, two = left.view.value, right.view.value
    value = SharedValue(
        share,
        scale_bits=one.scale_bits + two.scale_bits,
        magnitude_bits=one.magnitude_bits + two.magnitude_bits + (inner - 1).bit_length(),
    )
    return _tensor(Combination.of(value, left.factor * right.factor))


def _wrapped(other: Any) -> SharedTensor:
    return other if isinstance(other, SharedTensor) else SharedTensor(other)


def _constant(tensor: Any) -> NDArray[np.float64]:
    if torch.is_tensor(tensor):
        return np.asarray(tensor.detach().numpy(), dtype=np.float64)
    if isinstance(tensor, int | float | list | np.ndarray):
        return np.asarray(tensor, dtype=np.float64)
    raise _refused(f"a tensor from {type(tensor).__name__}")


def _public(values: NDArray[np.float64], scale_bits: int) -> Combination:
    elements = encode(values, scale_bits=scale_bits, limit=CONSTANT_LIMIT)
    magnitude = scale_bits + PARAMETER_LIMIT_BITS
    share = current_engine().public(elements)
    return Combination.of(SharedValue(share, scale_bits=scale_bits, magnitude_bits=magnitude))


def _is_uniform(values: NDArray[np.float64]) -> bool:
    return values.size > 0 and bool((values == values.flat[0]).all())


def _refused(name: str) -> ConfideError:
    return ConfideError(
        ErrorCode.INVALID_MODEL,
        f"the operation {name} is not available on shared tensors",
        remedy="Use the operations of the closed list: linear layers and sigmoid.",
    )


_DIRECT = frozenset(
    {"_combination", "_constant", "combination", "size", "dim", "nelement", "data", "shape", "operand", "settle", "assign"}
    | {"requires_grad", "grad", "grad_fn", "grad_expected", "grad_received", "children", "ctx"}
)
SUPPORTED = frozenset(
    {"add", "binary_cross_entropy_with_logits", "clone", "div", "matmul", "mul", "neg", "sigmoid", "sub", "sum", "t", "transpose"}
)
# What CrypTen's autograd and Python's operators reach, beside our own methods.
_KEPT = frozenset(
    {"backward", "detach", "detach_", "new", "no_grad", "enable_grad", "set_grad_enabled", "register_cryptensor", "shape"}
    | {"binary_cross_entropy_with_logits", "square", "set"}
    | {"AUTOGRAD_ENABLED", "FUNCTION_OVERRIDES", "PROTECTED_ATTRIBUTES", "PYTHON_BUILTIN", "REQUIRED_FUNCTIONS"}
)


def _refuse(name: str) -> Callable[..., NoReturn]:
    def refuse(*_args: object, **_kwargs: object) -> NoReturn:
        raise _refused(name)

    return refuse


def register() -> None:
    """Makes `SharedTensor` CrypTen's only tensor type and every operation that it lacks refuse by name."""
    for name in dir(crypten.CrypTensor):
        if not name.startswith("_") and name not in _KEPT and name not in vars(SharedTensor):
            setattr(SharedTensor, name, _refuse(name))
    # Openings, and what CrypTen's modules would call them.
    for name in ("get_plain_text", "plain_text", "decrypt", "reveal", "_ltz", "__getitem__", "__setitem__", "__pow__", "__abs__"):
        setattr(SharedTensor, name, _refuse(name))
    crypten.register_cryptensor(TYPE_NAME)(SharedTensor)
    crypten.set_default_cryptensor_type(TYPE_NAME)
    types = crypten.CrypTensor.__CRYPTENSOR_TYPES__
    for name in [name for name in types if name != TYPE_NAME]:
        del types[name]
