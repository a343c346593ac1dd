"""Bytes of objects of SEAL's bindings, as their own `save` writes them, and what an attacker reads out of ciphertexts."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import tenseal
from numpy.typing import NDArray
from tenseal import sealapi

from protocols.ckks.engine import Ciphertext, Engine, SecretKey
from protocols.ckks.parameters import ParameterSet
from protocols.ckks.seal_format import Residues, read_plaintext


def saved(thing: Any) -> bytes:
    """Returns what `save` writes; SEAL's bindings take a path, so it goes through a memory file."""
    file = os.memfd_create("saved")
    try:
        thing.save(f"/proc/self/fd/{file}")
        return os.pread(file, os.fstat(file).st_size, 0)
    finally:
        os.close(file)


def plaintext_slots(secret: SecretKey, engine: Engine, ciphertext: Ciphertext) -> NDArray[np.complex128]:
    """Returns both halves of every slot: all that the holder of the secret key can see of a ciphertext."""
    plaintext = sealapi.Plaintext()
    secret.decryptor.decrypt(ciphertext.raw, plaintext)
    return np.array(engine._encoder.decode_complex(plaintext))


def secret_of(private: tenseal.Context, parameters: ParameterSet) -> Residues:
    """Returns the secret key of a TenSEAL context as residues `(key primes, N)`."""
    return read_plaintext(saved(private.secret_key().data), parameters.levels + 1)
