"""Secret powers of points of P-256, by the Diffie-Hellman primitive of `cryptography`: no field arithmetic of our own.

A point stands for itself and its negative: it is its x coordinate, 32 bytes, big-endian. Those of k*P and k*(-P) are the same, so
either y may be taken, and powers commute: k*(m*P) = m*(k*P). The group has prime order: there are no small subgroups, and every x
that is accepted belongs to a point of that order; one that would lie on the twist is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric import ec

from protocols.errors import ConfideError, ErrorCode
from protocols.secrets import SecretBytes

POINT_BYTES = 32
SECRET_BYTES = 48  # reduced modulo the order they give an exponent within 2^-127 of uniform
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
BASE_POINT = bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
_CURVE = ec.SECP256R1()
_ECDH = ec.ECDH()
_EVEN = b"\x02"
_POINT_DOMAIN = b"confide.point/1\x00"
_MAX_TRIES = 256  # each fails with probability 1/2


class Exponent:
    """A secret number from 1 to the order minus 1; it shows nothing, has no equality, and cannot be pickled."""

    __slots__ = ("_key", "_value")

    def __init__(self, value: int) -> None:
        self._value = value
        self._key = ec.derive_private_key(value, _CURVE)

    @staticmethod
    def from_secret(secret: SecretBytes) -> Exponent:
        """Makes one of `SECRET_BYTES` uniform bytes.

        Raises:
            ConfideError: INTERNAL (ours): another number of bytes.
        """
        value = secret.reveal()
        if len(value) != SECRET_BYTES:
            raise ConfideError(ErrorCode.INTERNAL, f"an exponent is made of {SECRET_BYTES} bytes")
        return Exponent(1 + int.from_bytes(value, "big") % (ORDER - 1))

    @staticmethod
    def from_secret_bytes(value: bytes) -> Exponent:
        """Reads what `export_secret_bytes` wrote.

        Raises:
            ConfideError: INTERNAL (ours): it is not from 1 to the order minus 1.
        """
        number = int.from_bytes(value, "big")
        if len(value) != POINT_BYTES or not 1 <= number < ORDER:
            raise ConfideError(ErrorCode.INTERNAL, "an exponent is a number from 1 to the order minus 1")
        return Exponent(number)

    def export_secret_bytes(self) -> bytes:
        """Returns the number, 32 bytes big-endian, for a sealed file or a process of one's own."""
        return self._value.to_bytes(POINT_BYTES, "big")

    def over(self, other: Exponent) -> Exponent:
        """Returns this one divided by another, modulo the order."""
        return Exponent(self._value * pow(other._value, -1, ORDER) % ORDER)

    def power(self, point: bytes) -> bytes:
        """Returns the power of a point.

        Args:
            point: 32 bytes, from anybody.

        Raises:
            ConfideError: BAD_FRAME (of whoever sent it): it is no point of the curve.
        """
        try:
            return self._key.exchange(_ECDH, _lift(point))
        except ValueError:
            raise ConfideError(ErrorCode.BAD_FRAME, "a value is no point of the curve") from None

    def power_of_hash(self, message: bytes) -> bytes:
        """Returns `power(hash_to_point(message))`, without finding the point twice."""
        return self._key.exchange(_ECDH, _hash(message)[1])

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not pickled")


def hash_to_point(message: bytes) -> bytes:
    """Returns a point of which nobody knows the logarithm, uniform over all points if SHA-256 is a random oracle.

    By try and increment: the first of SHA-256(domain | counter | message) that is an x coordinate. The number of tries, two on
    average, is visible in time to whoever can time this process for one single message: its owner. Peers see the time of a whole
    set at most, and of nothing that they can relate to one identifier.

    Args:
        message: secret; its domain must be part of it.
    """
    return _hash(message)[0]


def _hash(message: bytes) -> tuple[bytes, ec.EllipticCurvePublicKey]:
    for counter in range(_MAX_TRIES):
        found = hashlib.sha256(_POINT_DOMAIN + counter.to_bytes(1, "big") + message).digest()
        try:
            return found, _lift(found)
        except ValueError:
            continue
    raise ConfideError(ErrorCode.INTERNAL, "no point was found")  # with probability 2^-256


def _lift(point: bytes) -> ec.EllipticCurvePublicKey:
    if len(point) != POINT_BYTES:
        raise ValueError
    return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, _EVEN + point)


def check_points(points: Iterable[bytes]) -> None:
    """Checks that values are points of the curve, all different.

    Raises:
        ConfideError: BAD_FRAME (of whoever sent them).
    """
    seen: set[bytes] = set()
    for point in points:
        try:
            _lift(point)
        except ValueError:
            raise ConfideError(ErrorCode.BAD_FRAME, "a value is no point of the curve") from None
        if point in seen:
            raise ConfideError(ErrorCode.BAD_FRAME, "a point stands twice")
        seen.add(point)


def split_points(data: bytes) -> Iterator[bytes]:
    """Yields the points that stand one after the other in some bytes.

    Raises:
        ConfideError: BAD_FRAME (of whoever sent them): the last one is cut off.
    """
    if len(data) % POINT_BYTES:
        raise ConfideError(ErrorCode.BAD_FRAME, f"values of {POINT_BYTES} bytes each are expected")
    for start in range(0, len(data), POINT_BYTES):
        yield data[start : start + POINT_BYTES]


def field(data: bytes | str) -> bytes:
    """Returns bytes or a text in UTF-8 after their length (4 bytes, little-endian), so that a list of them has one reading."""
    raw = data.encode() if isinstance(data, str) else data
    return len(raw).to_bytes(4, "little") + raw
