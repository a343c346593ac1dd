"""Our wire format of CKKS messages: decoded, bounded and checked here before SEAL sees a byte.

    message := magic(8) version(2) kind(2) plan_digest(32) payload
    query   := per ciphertext: seed(64) c0                            residues modulo the primes 0..level
    keys    := per rotation: per digit 0..level: seed(64) b           residues modulo the primes 0..level and the special prime
               then the relinearisation key likewise, then the public key: seed(64) b    modulo the primes 0..answer level + 1
    answer  := per ciphertext: per part: residues                     modulo the primes 0..answer level

A residue modulo a b-bit prime takes b bits (`packing_bits`). Every length follows from the plan; there is not one count, length
or parameter in a payload that a sender could choose. The uniform half of everything that a querier sends is a seed: what is sent
cannot have a chosen uniform half. Only the residues remain, and each is checked against its prime.

Learns: the owner nothing about queries but their number; the querier from an answer what `protection` leaves in it.

What this cannot tell: whether the other half is well formed. A key or ciphertext that is not an encryption is accepted, as it is
in every scheme without proofs; see `docs/protocols/ckks.md` for what follows from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protocols.ckks.key_manifest import KeyManifest, key_primes_at, public_key_primes, residue_bytes
from protocols.ckks.key_material import KeyMaterial, SeededCiphertext, SeededHalf
from protocols.ckks.packing_bits import pack, packed_bytes, unpack
from protocols.ckks.parameters import ParameterSet
from protocols.ckks.planning import EncryptedPlan, Lane
from protocols.ckks.seal_format import SEED_BYTES, Residues
from protocols.ckks.uniform_residues import SEED_BYTES as BATCH_SEED_BYTES
from protocols.ckks.wire_header import HEADER_BYTES, MessageKind, header, payload
from protocols.ckks.word_packing import packed_words
from protocols.errors import ConfideError, ErrorCode

MAX_MESSAGE_BYTES = 512 * 1024 * 1024
"""No plan may need a larger message; a plan that does is refused when it is made."""


@dataclass(frozen=True)
class WireShape:
    """What the messages of one plan look like; all of it follows from the plan and is public.

    Attributes:
        lane: of the plan; queries of the batch lane have a form of their own (`batch_wire`).
        parameters: the named set.
        plan_digest: SHA-256 of the plan, which every message is bound to.
        keys: the evaluation keys.
        query_ciphertexts: ciphertexts of one query.
        query_level: their level.
        query_scale: their scale.
        answer_ciphertexts: ciphertexts of one answer.
        answer_parts: 2, or 3 where the last product is not relinearised.
        answer_scale: the scale of every answer; its level stands in `keys`.
    """

    lane: Lane
    parameters: ParameterSet
    plan_digest: bytes
    keys: KeyManifest
    query_ciphertexts: int
    query_level: int
    query_scale: float
    answer_ciphertexts: int
    answer_parts: int
    answer_scale: float

    def __post_init__(self) -> None:
        self.keys.check(self.parameters)
        if not 0 <= self.query_level <= self.parameters.top_level or self.answer_parts not in (2, 3):
            raise ValueError("a level or number of parts that the parameters do not have")
        if min(self.query_ciphertexts, self.answer_ciphertexts) < 1:
            raise ValueError("queries and answers have at least one ciphertext")
        if max(self.query_bytes, self.key_bytes, self.answer_bytes) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of this plan would exceed {MAX_MESSAGE_BYTES} bytes")

    @classmethod
    def of(cls, plan: EncryptedPlan) -> WireShape:
        """Returns what the messages of a plan look like.

        Raises:
            ConfideError: INVALID_DOCUMENT (its author's fault): a plan that no messages can have.
        """
        try:
            return cls(
                lane=plan.lane,
                parameters=plan.parameters,
                plan_digest=bytes.fromhex(plan.digest),
                keys=plan.keys,
                query_ciphertexts=plan.query_ciphertexts,
                query_level=plan.fresh_level,
                query_scale=plan.fresh_scale,
                answer_ciphertexts=plan.answer_ciphertexts,
                answer_parts=plan.answer_parts,
                answer_scale=plan.answer_scale,
            )
        except ValueError as error:
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"the plan for encrypted inference: {error}") from error

    @property
    def answer_level(self) -> int:
        """The level of every answer."""
        return self.keys.answer_level

    @property
    def query_bytes(self) -> int:
        """Exact bytes of a query."""
        if self.lane is Lane.BATCH:
            polynomials = self.query_ciphertexts * (self.query_level + 1)
            return HEADER_BYTES + BATCH_SEED_BYTES + 4 * polynomials * packed_words(self.parameters.ring_degree, self.word_bits)
        half = SEED_BYTES + residue_bytes(self.parameters, tuple(range(self.query_level + 1)))
        return HEADER_BYTES + self.query_ciphertexts * half

    @property
    def word_bits(self) -> int:
        """Bits of a residue of a query in the batch lane: the sets of this lane have primes of one size.

        Raises:
            ValueError: a set of another lane.
        """
        sizes = {prime.bit_length() for prime in self.parameters.primes[: self.query_level + 1]}
        if len(sizes) != 1:
            raise ValueError(f"{self.parameters.name} is no set of the batch lane")
        return sizes.pop()

    @property
    def key_bytes(self) -> int:
        """Exact bytes of the evaluation keys."""
        return self.keys.bytes(self.parameters)

    @property
    def answer_bytes(self) -> int:
        """Exact bytes of an answer."""
        part = residue_bytes(self.parameters, tuple(range(self.answer_level + 1)))
        return HEADER_BYTES + self.answer_ciphertexts * self.answer_parts * part


def encode_query(shape: WireShape, ciphertexts: Sequence[SeededCiphertext]) -> bytes:
    """Returns the message of a query."""
    if len(ciphertexts) != shape.query_ciphertexts:
        raise ValueError(f"{len(ciphertexts)} ciphertexts where the plan has {shape.query_ciphertexts}")
    primes = range(shape.query_level + 1)
    pieces = [header(MessageKind.QUERY, shape.plan_digest)]
    for each in ciphertexts:
        if (each.level, each.scale) != (shape.query_level, shape.query_scale):
            raise ValueError("a ciphertext at another level or scale than the plan's")
        pieces += _half_pieces(shape, each.half, primes)
    return b"".join(pieces)


def decode_query(shape: WireShape, data: bytes | memoryview) -> tuple[SeededCiphertext, ...]:
    """Reads a query from somebody else.

    Raises:
        ConfideError: INVALID_ARGUMENT (the querier's fault): see `wire_header.payload`; or a residue that is not below its prime.
    """
    code = ErrorCode.INVALID_ARGUMENT
    reader = _Reader(
        shape, payload(data, MessageKind.QUERY, shape.plan_digest, shape.query_bytes - HEADER_BYTES, code=code), code
    )
    primes = range(shape.query_level + 1)
    return tuple(
        SeededCiphertext(shape.query_level, shape.query_scale, reader.half(primes)) for _ in range(shape.query_ciphertexts)
    )


def encode_keys(shape: WireShape, material: KeyMaterial) -> bytes:
    """Returns the message of the evaluation keys."""
    if material.manifest != shape.keys:
        raise ValueError("keys of another manifest than the plan's")
    pieces = [header(MessageKind.EVALUATION_KEYS, shape.plan_digest)]
    for (_, level), digits in zip(shape.keys.rotations, material.rotations, strict=True):
        for half in digits:
            pieces += _half_pieces(shape, half, key_primes_at(shape.parameters, level))
    for half in material.relinearise:
        pieces += _half_pieces(shape, half, key_primes_at(shape.parameters, shape.keys.relinearise_level or 0))
    if material.public_key is not None:
        pieces += _half_pieces(shape, material.public_key, public_key_primes(shape.answer_level))
    message = b"".join(pieces)
    if len(message) != shape.key_bytes:
        raise ValueError("key material that is not complete")
    return message


def decode_keys(shape: WireShape, data: bytes | memoryview) -> KeyMaterial:
    """Reads evaluation keys from somebody else.

    Raises:
        ConfideError: INVALID_ARGUMENT (the querier's fault), as for `decode_query`.
    """
    code, manifest = ErrorCode.INVALID_ARGUMENT, shape.keys
    expected = shape.key_bytes - HEADER_BYTES
    reader = _Reader(shape, payload(data, MessageKind.EVALUATION_KEYS, shape.plan_digest, expected, code=code), code)

    def digits(level: int) -> tuple[SeededHalf, ...]:
        return tuple(reader.half(key_primes_at(shape.parameters, level)) for _ in range(level + 1))

    rotations = tuple(digits(level) for _, level in manifest.rotations)
    relinearise = () if manifest.relinearise_level is None else digits(manifest.relinearise_level)
    public = reader.half(public_key_primes(manifest.answer_level)) if manifest.public_key else None
    return KeyMaterial(manifest, rotations, relinearise, public)


def encode_answer(shape: WireShape, ciphertexts: Sequence[Residues]) -> bytes:
    """Returns the message of an answer: `(parts, primes, N)` residues per ciphertext, after protection."""
    if len(ciphertexts) != shape.answer_ciphertexts:
        raise ValueError(f"{len(ciphertexts)} ciphertexts where the plan has {shape.answer_ciphertexts}")
    pieces = [header(MessageKind.ANSWER, shape.plan_digest)]
    for residues in ciphertexts:
        if residues.shape != (shape.answer_parts, shape.answer_level + 1, shape.parameters.ring_degree):
            raise ValueError(f"an answer of shape {residues.shape} is not the plan's")
        for part in residues:
            pieces += _residue_pieces(shape, part, range(shape.answer_level + 1))
    return b"".join(pieces)


def decode_answer(shape: WireShape, data: bytes | memoryview) -> tuple[Residues, ...]:
    """Reads an answer from somebody else: `(parts, primes, N)` residues per ciphertext.

    Raises:
        ConfideError: BAD_FRAME (the evaluator's fault): as for `decode_query`.
    """
    code, primes = ErrorCode.BAD_FRAME, range(shape.answer_level + 1)
    expected = shape.answer_bytes - HEADER_BYTES
    reader = _Reader(shape, payload(data, MessageKind.ANSWER, shape.plan_digest, expected, code=code), code)
    return tuple(np.stack([reader.residues(primes) for _ in range(shape.answer_parts)]) for _ in range(shape.answer_ciphertexts))


class _Reader:
    """Takes seeds and residues off a payload whose length is known to be right."""

    def __init__(self, shape: WireShape, data: memoryview, code: ErrorCode) -> None:
        self._shape, self._data, self._code, self._at = shape, data, code, 0

    def half(self, primes: Sequence[int]) -> SeededHalf:
        return SeededHalf(bytes(self._take(SEED_BYTES)), self.residues(primes))

    def residues(self, primes: Sequence[int]) -> Residues:
        parameters = self._shape.parameters
        rows = np.empty((len(primes), parameters.ring_degree), np.uint64)
        for row, at in zip(rows, primes, strict=True):
            prime = parameters.key_primes[at]
            bits = prime.bit_length()
            row[:] = unpack(self._take(packed_bytes(parameters.ring_degree, bits)), parameters.ring_degree, bits)
            if int(row.max()) >= prime:
                raise ConfideError(self._code, "the CKKS message holds a residue that is not below its prime")
        return rows

    def _take(self, count: int) -> memoryview:
        start, self._at = self._at, self._at + count
        return self._data[start : self._at]


def _half_pieces(shape: WireShape, half: SeededHalf, primes: Sequence[int]) -> list[bytes]:
    return [half.seed, *_residue_pieces(shape, half.residues, primes)]


def _residue_pieces(shape: WireShape, residues: Residues, primes: Sequence[int]) -> list[bytes]:
    moduli = shape.parameters.key_primes
    return [pack(row, moduli[at].bit_length()) for row, at in zip(residues, primes, strict=True)]
