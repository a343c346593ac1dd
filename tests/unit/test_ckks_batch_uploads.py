"""Packed residues and second parts that follow from a seed."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocols.ckks.engine import Engine
from protocols.ckks.parameters import PARAMETER_SETS
from protocols.ckks.uniform_residues import SEED_BYTES, expand, first_parts
from protocols.ckks.word_packing import pack_words, packed_words, unpack_words
from protocols.errors import ConfideError

SET = PARAMETER_SETS["batch-2"]
SEED = bytes(range(SEED_BYTES))


@pytest.mark.parametrize("bits", [24, 30, 31])
def test_packed_residues_come_back_and_waste_no_bit(bits: int) -> None:
    residues = np.random.default_rng(bits).integers(0, 1 << bits, (3, 2, 4096), dtype=np.uint32)
    residues[0, 0, :2] = 0, (1 << bits) - 1
    packed = pack_words(residues, bits)
    assert packed.shape == (3, 2, packed_words(4096, bits))
    assert packed.nbytes * 8 == residues.size * bits
    packed.setflags(write=False)
    assert np.array_equal(unpack_words(packed, 4096, bits), residues)


def test_unpacking_any_words_gives_residues_of_the_stated_bits() -> None:
    words = np.random.default_rng(0).integers(0, 1 << 32, packed_words(4096, 30), dtype=np.uint32)
    residues = unpack_words(words, 4096, 30)
    assert int(residues.max()) < 1 << 30
    assert np.array_equal(pack_words(residues, 30), words)


def test_packing_a_residue_with_more_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 30 bits"):
        pack_words(np.full(4096, 1 << 30, np.uint32), 30)


@pytest.mark.parametrize("bits", [16, 29, 32, 44])
def test_packing_into_words_with_other_bits_is_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="not packed into words"):
        packed_words(4096, bits)


def test_expanded_residues_follow_the_written_rule() -> None:
    """An independent generation, word by word, of what the docstring says; the prime of 24 bits rejects one word in four."""
    primes, count, degree = (12_582_917, SET.primes[0]), 2, 512
    found = expand(SEED, count=count, primes=primes, ring_degree=degree)
    key = hashlib.sha256(b"confide.ckks.uniform-residues/1" + SEED).digest()
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(1 << 16))
    words = iter(np.frombuffer(stream, "<u4").tolist())
    first = [next(words) for _ in range(count * len(primes) * degree)]
    expected = []
    for place, word in enumerate(first):
        prime = primes[place // degree % len(primes)]
        mask = (1 << prime.bit_length()) - 1
        value = word & mask
        while value >= prime:
            value = next(words) & mask
        expected.append(value)
    assert found.reshape(-1).tolist() == expected


def test_expanded_residues_are_uniform_below_each_prime() -> None:
    found = expand(SEED, count=64, primes=SET.primes, ring_degree=SET.ring_degree)
    for index, prime in enumerate(SET.primes):
        counts = np.bincount(found[:, index].reshape(-1).astype(np.int64) * 64 // prime, minlength=65)
        assert counts[64] == 0
        mean = found[:, index].size / 64
        # Chi-square with 63 degrees of freedom: mean 63, deviation 11.2; fixed seed, six deviations.
        assert ((counts[:64] - mean) ** 2 / mean).sum() < 63 + 6 * 11.3


def test_expansion_of_a_seed_of_another_length_is_refused() -> None:
    with pytest.raises(ConfideError, match="32 bytes"):
        expand(SEED[:-1], count=1, primes=SET.primes, ring_degree=4096)


def test_ciphertext_with_an_expanded_second_part_decrypts_to_its_values() -> None:
    engine = Engine(SET)
    secret = engine.make_secret_key()
    values = np.random.default_rng(5).uniform(-1, 1, SET.slots)
    phase = engine.fresh_phase(secret, engine.encode(values, SET.top_level, 2.0**22))
    second = expand(SEED, count=1, primes=SET.primes, ring_degree=SET.ring_degree)[0]
    first = first_parts(phase, engine.export_secret_key(secret)[: SET.levels], second, SET.primes)
    loaded = engine.from_residues(np.stack((first, second)).astype(np.uint64), 2.0**22)
    error = engine.decrypt(secret, loaded) - values
    # An error of deviation 3.2 on each coefficient is one of 3.2 sqrt(N/2) = 145 in a slot; rounding adds 13. Six deviations.
    assert abs(error).max() < 6 * 160 / 2.0**22
    assert error.std() > 100 / 2.0**22
