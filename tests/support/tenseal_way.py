"""TenSEAL used as its tutorials use it: what the attacks of `tests/attacks` must succeed against, or they could not fail."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tenseal
from numpy.typing import NDArray

from protocols.ckks.parameters import ParameterSet
from protocols.ckks.seal_format import CiphertextForm, read_ciphertext

_SIZES, _CIPHERTEXTS = 1, 2


def context(parameters: ParameterSet, scale: float) -> tenseal.Context:
    """Returns a private context with the primes of a parameter set and all keys that TenSEAL makes."""
    bits = [*parameters.data_bits, parameters.special_bits]
    made = tenseal.context(tenseal.SCHEME_TYPE.CKKS, parameters.ring_degree, coeff_mod_bit_sizes=bits, n_threads=1)
    made.global_scale = scale
    made.generate_galois_keys()
    return made


def served(private: tenseal.Context) -> tenseal.Context:
    """Returns the context as the server has it."""
    return tenseal.context_from(private.serialize(), n_threads=1)


def sent(server: tenseal.Context, vector: tenseal.CKKSVector) -> tenseal.CKKSVector:
    """Returns a vector as the other side loads it."""
    return tenseal.ckks_vector_from(server, vector.serialize())


def ciphertext_form(vector: tenseal.CKKSVector) -> CiphertextForm:
    """Returns the residues, scale and parameters' id of a vector's only ciphertext."""
    (data,) = (value for number, value in _fields(vector.serialize()) if number == _CIPHERTEXTS)
    assert isinstance(data, bytes)
    return read_ciphertext(data)


def all_slots(private: tenseal.Context, vector: tenseal.CKKSVector, slots: int) -> NDArray[np.float64]:
    """Returns every slot that the holder of the key can decrypt: the message's own count of values is not binding."""
    pieces = [_field(_SIZES, _varint(slots))]
    pieces += [_field(number, value) for number, value in _fields(vector.serialize()) if number == _CIPHERTEXTS]
    scale = vector.serialize()[-9:]  # field 3, a double, stands last
    return np.array(tenseal.ckks_vector_from(private, b"".join(pieces) + scale).decrypt())


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        if key & 7 == 0:
            value, at = _read_varint(data, at)
            yield key >> 3, value
        elif key & 7 == 1:
            yield key >> 3, data[at : at + 8]
            at += 8
        else:
            size, at = _read_varint(data, at)
            yield key >> 3, data[at : at + size]
            at += size


def _field(number: int, value: bytes | int) -> bytes:
    assert isinstance(value, bytes)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
