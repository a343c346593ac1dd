"""One published model in an evaluator's memory: queries in, protected answers out.

Everything that a researcher sent is decoded and bounded here, by our own decoder, before SEAL sees a byte of it.

Learns: this process sees the weights, public keys and ciphertexts. The querier gets the protected answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from protocols.ckks.batch import CompiledBatch, compile_batch, evaluate_batch, protect_batch
from protocols.ckks.batch_wire import decode_batch_query
from protocols.ckks.compiled import CompiledModel, compile_model, evaluate
from protocols.ckks.engine import Engine, EvaluationKeys, PublicKey
from protocols.ckks.planning import EncryptedPlan, Lane
from protocols.ckks.protection import ReRandomisers, answer_form, protect
from protocols.ckks.wire import WireShape, decode_keys, decode_query, encode_answer
from protocols.errors import ConfideError, ErrorCode
from protocols.model.spec import ModelSpec

ANSWERS_AHEAD = 2
"""For so many answers of one key encryptions of zero are made while there is nothing else to do."""


@dataclass(frozen=True, eq=False)
class LoadedKeys:
    """A researcher's evaluation keys in SEAL's memory, and encryptions of zero under them."""

    evaluation: EvaluationKeys
    public: PublicKey
    pool: ReRandomisers


class LoadedModel:
    """A compiled model with the plan of one lane; secret of its owner."""

    def __init__(self, plan: EncryptedPlan, spec: ModelSpec, weights: Mapping[str, NDArray[Any]]) -> None:
        """Compiles; takes up to some seconds.

        Raises:
            ConfideError: INVALID_ARGUMENT, INVALID_DOCUMENT or INVALID_MODEL (the owner's fault): they do not fit together.
        """
        self._plan, self._shape, self._engine = plan, WireShape.of(plan), Engine(plan.parameters)
        self._compiled: CompiledBatch | CompiledModel
        if plan.lane is Lane.BATCH:
            self._compiled = compile_batch(plan, spec, weights)
        else:
            self._compiled = compile_model(plan, spec, weights, self._engine)

    def load_keys(self, message: bytes) -> LoadedKeys:
        """Reads a message of evaluation keys.

        Raises:
            ConfideError: INVALID_ARGUMENT (the querier's fault): not the keys of this plan.
        """
        keys = self._engine.load_key_material(decode_keys(self._shape, message))
        if keys.public_key is None:
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, "the plan has no public key, so its answers cannot be protected")
        level, parts = self._plan.keys.answer_level, self._plan.answer_parts
        return LoadedKeys(keys, keys.public_key, ReRandomisers(self._engine, keys.public_key, level=level, parts=parts))

    def answer(self, query: bytes, keys: LoadedKeys, randomness: Callable[[int], bytes]) -> bytes:
        """Returns the message of the protected answer.

        Raises:
            ConfideError: INVALID_ARGUMENT (the querier's fault): not a query of this plan.
        """
        if isinstance(self._compiled, CompiledBatch):
            residues = evaluate_batch(self._compiled, decode_batch_query(self._shape, query))
            return protect_batch(self._engine, self._plan, residues, keys.public, randomness, pool=keys.pool)
        (seeded,) = decode_query(self._shape, query)
        result = evaluate(self._compiled, self._engine.load(seeded), keys.evaluation)
        safe = protect(self._engine, result, keys.public, randomness, form=answer_form(self._plan), pool=keys.pool)
        return encode_answer(self._shape, [self._engine.residues(safe)])

    def prepare(self, keys: LoadedKeys) -> bool:
        """Makes one encryption of zero ahead; returns whether one was missing."""
        if len(keys.pool) >= ANSWERS_AHEAD * self._plan.answer_ciphertexts:
            return False
        keys.pool.fill(1)
        return True
