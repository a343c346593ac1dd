"""SEAL's serialised objects, read and written as arrays: pure, and applied only to what our own SEAL wrote or shall read.

Nothing that came from another party is ever read with this module: our wire format (`protocols.ckks.wire`) is decoded and
bounded first, and SEAL's form is then built from arrays of known shape. Residues are in NTT form, `(primes, N) uint64`.

The layout is that of SEAL 4 (native/src/seal/{serialization,ciphertext,dynarray,kswitchkeys,randomgen}.cpp):

    object      := header(16: magic, header size, version, compression, reserved, total size) body
    ciphertext  := parms_id(32) is_ntt(1) parts(8) N(8) primes(8) scale(8) correction(8) array [seed]
    array       := header count(8) count x 8 bytes
    seed        := header generator(1) seed(64)          half of the array is there then, the rest follows from the seed
    plaintext   := parms_id(32) coefficients(8) scale(8) array
    keys        := parms_id(32) count(8) { digits(8) { header ciphertext } }
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow
from numpy.typing import NDArray

Residues = NDArray[np.uint64]

SEED_BYTES = 64
"""Bytes of the seed that the uniform part of a ciphertext or key follows from."""

_HEADER = struct.Struct("<HBBBBHQ")
_MAGIC, _VERSION = 0xA15E, (4, 3)
_NO_COMPRESSION, _ZSTD = 0, 2
_CIPHERTEXT = struct.Struct("<32sBQQQdQ")
_PLAINTEXT = struct.Struct("<32sQd")
_COUNT = struct.Struct("<Q")
_KEYS = struct.Struct("<32sQ")
_BLAKE2XB = 1


class SealFormatError(ValueError):
    """SEAL wrote something that this module does not know: another version of SEAL, hence a defect of the set-up."""


@dataclass(frozen=True)
class CiphertextForm:
    """A ciphertext's parts: residues `(parts, primes, N)`, or `(1, primes, N)` with the seed of the second part."""

    parms_id: bytes
    scale: float
    residues: Residues
    seed: bytes | None = None


def open_object(data: bytes) -> bytes:
    """Returns the body of an object that our own SEAL saved, decompressed."""
    magic, header_bytes, major, minor, compression, _, size = _HEADER.unpack_from(data)
    if (magic, header_bytes, (major, minor), size) != (_MAGIC, _HEADER.size, _VERSION, len(data)):
        raise SealFormatError(f"not an object of SEAL {_VERSION[0]}.{_VERSION[1]}")
    if compression == _NO_COMPRESSION:
        return data[_HEADER.size :]
    if compression != _ZSTD:
        raise SealFormatError(f"compression {compression} is not known here")
    with pyarrow.input_stream(pyarrow.py_buffer(memoryview(data)[_HEADER.size :]), compression="zstd") as stream:
        body: bytes = stream.read()
    return body


def close_object(*pieces: bytes | memoryview) -> bytes:
    """Returns an uncompressed object with these pieces as its body."""
    size = _HEADER.size + sum(len(piece) for piece in pieces)
    return b"".join((_HEADER.pack(_MAGIC, _HEADER.size, *_VERSION, _NO_COMPRESSION, 0, size), *pieces))


def read_ciphertext(data: bytes) -> CiphertextForm:
    """Reads a saved ciphertext, public key or digit of a key."""
    return _read_ciphertext_body(open_object(data))


def write_ciphertext(form: CiphertextForm) -> bytes:
    """Writes a ciphertext, public key or digit of a key."""
    parts, primes, ring_degree = form.residues.shape
    parts = parts if form.seed is None else 2
    head = _CIPHERTEXT.pack(form.parms_id, 1, parts, ring_degree, primes, form.scale, 1)
    if form.seed is None:
        return close_object(head, _array(form.residues))
    return close_object(head, _array(form.residues), close_object(bytes([_BLAKE2XB]), form.seed))


def read_plaintext(data: bytes, num_primes: int) -> Residues:
    """Reads the residues `(primes, N)` of a saved plaintext or secret key."""
    body = open_object(data)
    return _read_array(body, _PLAINTEXT.size)[0].reshape(num_primes, -1)


def write_plaintext(parms_id: bytes, residues: Residues, scale: float) -> bytes:
    """Writes a plaintext, residues `(primes, N)`, or a secret key: modulo every key prime, its scale 1."""
    return close_object(_PLAINTEXT.pack(parms_id, residues.size, scale), _array(residues))


def read_keys(data: bytes) -> dict[int, list[CiphertextForm]]:
    """Reads saved rotation or relinearisation keys: index -> digits."""
    body = open_object(data)
    _, count = _KEYS.unpack_from(body)
    at, keys = _KEYS.size, {}
    for index in range(count):
        (digits,) = _COUNT.unpack_from(body, at)
        at += _COUNT.size
        forms = []
        for _ in range(digits):
            (size,) = _COUNT.unpack_from(body, at + 8)
            forms.append(read_ciphertext(body[at : at + size]))
            at += size
        if forms:
            keys[index] = forms
    if at != len(body):
        raise SealFormatError("bytes after the last key")
    return keys


def write_keys(parms_id: bytes, count: int, keys: Mapping[int, Sequence[CiphertextForm]]) -> bytes:
    """Writes rotation keys (count N) or relinearisation keys (count 1): index -> digits, all other indices empty."""
    pieces: list[bytes] = [_KEYS.pack(parms_id, count)]
    for index in range(count):
        digits = keys.get(index, ())
        pieces.append(_COUNT.pack(len(digits)))
        pieces.extend(write_ciphertext(digit) for digit in digits)
    return close_object(*pieces)


def _read_ciphertext_body(body: bytes) -> CiphertextForm:
    parms_id, is_ntt, parts, ring_degree, primes, scale, correction = _CIPHERTEXT.unpack_from(body)
    if (is_ntt, correction) != (1, 1):
        raise SealFormatError("a ciphertext that is not in the NTT form of CKKS")
    words, end = _read_array(body, _CIPHERTEXT.size)
    if end == len(body):
        return CiphertextForm(parms_id, scale, words.reshape(parts, primes, ring_degree))
    seed = open_object(body[end:])
    if parts != 2 or len(seed) != 1 + SEED_BYTES or seed[0] != _BLAKE2XB:
        raise SealFormatError("a seed of another generator")
    return CiphertextForm(parms_id, scale, words.reshape(1, primes, ring_degree), seed[1:])


def _array(words: Residues) -> bytes:
    return close_object(_COUNT.pack(words.size), np.ascontiguousarray(words, "<u8").tobytes())


def _read_array(body: bytes, at: int) -> tuple[Residues, int]:
    (size,) = _COUNT.unpack_from(body, at + 8)
    (count,) = _COUNT.unpack_from(body, at + _HEADER.size)
    if size != _HEADER.size + _COUNT.size + 8 * count or at + size > len(body):
        raise SealFormatError("an array whose size is not what it says")
    return np.frombuffer(body, "<u8", count, at + _HEADER.size + _COUNT.size), at + size
