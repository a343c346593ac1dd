"""The researcher's side: keys, queries, answers. The secret key stays in this object and in the file that its owner keeps.

What the evaluator sees of it: evaluation keys, a public key and seeded ciphertexts. Nothing that was decrypted goes back to it,
not even whether an answer was plausible: that would be a decryption oracle (CKKS is not secure against chosen ciphertexts).

What is published of an answer can tell the evaluator the secret key; `open_answer` therefore gives values that are fit to be
published (`protocols.ckks.publication`), and counts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from protocols.ckks.batch_query import encrypt_batch_query
from protocols.ckks.engine import Engine, SecretKey
from protocols.ckks.packing_bits import pack, packed_bytes, unpack
from protocols.ckks.parameters import ParameterSet
from protocols.ckks.planning import EncryptedPlan, Lane
from protocols.ckks.protection import answer_form, opened
from protocols.ckks.publication import publication, publishable
from protocols.ckks.wire import WireShape, decode_answer, encode_keys, encode_query
from protocols.ckks.wire_header import HEADER_BYTES, MessageKind, header
from protocols.errors import ConfideError, ErrorCode
from protocols.secrets import SecretBytes


class KeyOwner:
    """A secret key and what is done with it.

    Attributes:
        answers_opened: how many answers were opened, which is how often something may have been published.
    """

    def __init__(self, engine: Engine, secret: SecretKey, randomness: Callable[[int], bytes], *, answers_opened: int = 0) -> None:
        """Takes a key.

        Args:
            engine: SEAL, at the parameters of the key.
            secret: the secret key.
            randomness: gives fresh secret bytes.
            answers_opened: how many answers were opened with this key before.
        """
        self._engine, self._secret, self._randomness = engine, secret, randomness
        self.answers_opened = answers_opened

    def evaluation_keys(self, plan: EncryptedPlan) -> bytes:
        """Returns the upload that holds exactly the keys of a plan; public."""
        self._check(plan.parameters)
        return encode_keys(WireShape.of(plan), self._engine.make_key_material(self._secret, plan.keys))

    def encrypt_query(self, plan: EncryptedPlan, rows: NDArray[np.float64]) -> bytes:
        """Returns the message that asks about samples.

        Args:
            plan: the model's plan.
            rows: `(rows, features) float64`, at most as many as the plan's samples; secret.

        Raises:
            ConfideError: INVALID_ARGUMENT (the caller's fault): samples of another shape or out of the declared range.
        """
        self._check(plan.parameters)
        if plan.lane is Lane.BATCH:
            return encrypt_batch_query(self._engine, self._secret, plan, rows, self._randomness)
        plaintexts = [self._engine.encode(values, plan.fresh_level, plan.fresh_scale) for values in plan.lay_out(rows)]
        return encode_query(WireShape.of(plan), [self._engine.encrypt(self._secret, plaintext) for plaintext in plaintexts])

    def open_answer(self, plan: EncryptedPlan, data: bytes, num_rows: int) -> NDArray[np.float64]:
        """Returns the declared outputs of an answer `(num_rows, outputs) float64`, rounded to the plan's precision.

        Raises:
            ConfideError: BAD_FRAME (the evaluator's fault): not an answer of this plan.
        """
        how = publication(plan)
        return publishable(self.unsafe_open_raw(plan, data, num_rows), how, self._randomness)

    def unsafe_open_raw(self, plan: EncryptedPlan, data: bytes, num_rows: int) -> NDArray[np.float64]:
        """Returns the declared outputs at full precision, with their key-dependent error.

        Two such vectors that others see can give the secret key away. Never publish, send or log them.

        Raises:
            ConfideError: BAD_FRAME (the evaluator's fault): not an answer of this plan.
        """
        self._check(plan.parameters)
        parts = decode_answer(WireShape.of(plan), data)
        self.answers_opened += 1
        form, engine = answer_form(plan), self._engine
        slots = [opened(engine, self._secret, engine.from_residues(each, form.scale), form) for each in parts]
        return plan.read_outputs(np.stack(slots), num_rows)

    def key_file(self) -> SecretBytes:
        """Returns the bytes of the key file, to be encrypted before they are stored."""
        parameters, residues = self._engine.parameters, self._engine.export_secret_key(self._secret)
        rows = [pack(row, prime.bit_length()) for row, prime in zip(residues, parameters.key_primes, strict=True)]
        start = header(MessageKind.SECRET_KEY, bytes.fromhex(parameters.digest))
        return SecretBytes(b"".join([start, self.answers_opened.to_bytes(8, "little"), *rows]))

    @classmethod
    def from_key_file(cls, engine: Engine, data: SecretBytes, randomness: Callable[[int], bytes]) -> KeyOwner:
        """Returns the owner of a key that `key_file` gave.

        Raises:
            ConfideError: STATE_DAMAGED (the operator's fault): not a key file for these parameters, or an altered one.
        """
        parameters, content = engine.parameters, memoryview(data.reveal())
        sizes = [packed_bytes(parameters.ring_degree, prime.bit_length()) for prime in parameters.key_primes]
        start = header(MessageKind.SECRET_KEY, bytes.fromhex(parameters.digest))
        if bytes(content[:HEADER_BYTES]) != start or len(content) != HEADER_BYTES + 8 + sum(sizes):
            raise _damaged(parameters)
        opened = int.from_bytes(content[HEADER_BYTES : HEADER_BYTES + 8], "little")
        at, rows = HEADER_BYTES + 8, []
        for size, prime in zip(sizes, parameters.key_primes, strict=True):
            rows.append(unpack(content[at : at + size], parameters.ring_degree, prime.bit_length()))
            at += size
        try:
            secret = engine.import_secret_key(np.stack(rows))
        except ValueError as error:
            raise _damaged(parameters) from error
        return cls(engine, secret, randomness, answers_opened=opened)

    def _check(self, parameters: ParameterSet) -> None:
        if parameters != self._engine.parameters:
            raise ConfideError(
                ErrorCode.INVALID_ARGUMENT,
                f"the plan needs a key for {parameters.name}; this one is for {self._engine.parameters.name}",
                remedy="Make a key for the plan with `confide infer keygen`.",
            )


def _damaged(parameters: ParameterSet) -> ConfideError:
    return ConfideError(ErrorCode.STATE_DAMAGED, f"this is no key file for {parameters.name}, or it was altered")
