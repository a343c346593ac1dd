"""The public coin: what dropout keeps and which gradients are tested follows from a public seed, equal at every party.

Neither is a secret: both depend on nothing but seed, step, names and shapes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.prg import AesCtrStream
from protocols.secrets import SecretBytes

_DOMAIN = b"confide.public_mask/1:"
_DOMAIN_OF_PLACES = b"confide.public_places/1:"

# Returns the mask of 0 and 1 of a layer in the current step: (layer's name, shape) -> mask.
Coin = Callable[[str, tuple[int, ...]], NDArray[np.integer]]


def public_mask(seed: str, step: int, layer: str, shape: tuple[int, ...], *, rate: Fraction) -> NDArray[np.int64]:
    """Returns which elements are kept, equal at every party; public.

    An element is dropped if its 64-bit number from AES-256-CTR, under SHA-256 of seed, step and layer, is below rate times 2^64.

    Args:
        seed: the job's shuffle seed, hexadecimal.
        step: of the training, counted from its first.
        layer: the layer's name.
        shape: of the mask.
        rate: probability with which an element is dropped, from 0 to below 1.

    Returns:
        `shape` int64 of 1 (kept) and 0 (dropped).

    Raises:
        ConfideError: INVALID_MODEL (the author's fault) for another rate.
    """
    if not 0 <= rate < 1:
        raise ConfideError(ErrorCode.INVALID_MODEL, f"a dropout with the rate {float(rate):g}")
    key = hashlib.sha256(_DOMAIN + canonical_bytes({"layer": layer, "seed": seed, "step": step})).digest()
    numbers = AesCtrStream(SecretBytes(key)).take(8 * math.prod(shape)).view("<u8")
    threshold = np.uint64(rate.numerator * 2**64 // rate.denominator)
    return (numbers >= threshold).astype(np.int64).reshape(shape)


def public_places(seed: str, step: int, sizes: Mapping[str, int], *, count: int) -> Mapping[str, NDArray[np.intp]]:
    """Returns places in tensors, equal at every party; public.

    A place is a 64-bit number from AES-256-CTR, under SHA-256 of seed and step, modulo the tensor's size.

    Args:
        seed: the job's shuffle seed, hexadecimal.
        step: of the training, counted from its first.
        sizes: how many elements each tensor has, by name.
        count: how many places of each; one may be drawn twice. A tensor that is not larger is taken whole.
    """
    key = hashlib.sha256(_DOMAIN_OF_PLACES + canonical_bytes({"seed": seed, "step": step})).digest()
    drawn = AesCtrStream(SecretBytes(key)).take(8 * count * len(sizes)).view("<u8").reshape(len(sizes), count)
    return {
        name: np.arange(size) if size <= count else (numbers % np.uint64(size)).astype(np.intp)
        for (name, size), numbers in zip(sizes.items(), drawn, strict=True)
    }


@dataclass
class _Draws:
    """The coin of a program without layer names: its masks are numbered."""

    seed: str
    step: int
    count: int = field(default=0)


_CURRENT: ContextVar[_Draws | None] = ContextVar("coin", default=None)


@contextmanager
def use_coin(seed: str, step: int) -> Iterator[None]:
    """Gives CrypTen's own dropout its masks, in the order in which the program asks for them."""
    token = _CURRENT.set(_Draws(seed, step))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def next_mask(shape: tuple[int, ...], rate: Fraction) -> NDArray[np.int64]:
    """Returns the next mask of the current coin.

    Raises:
        ConfideError: INVALID_MODEL (the program's author's fault) without one.
    """
    draws = _CURRENT.get()
    if draws is None:
        raise ConfideError(
            ErrorCode.INVALID_MODEL, "the operation dropout needs a public coin", remedy="Train inside use_coin(seed, step)."
        )
    draws.count += 1
    return public_mask(draws.seed, draws.step, f"dropout {draws.count}", shape, rate=rate)
