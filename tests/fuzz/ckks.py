"""Targets of encrypted inference: the messages of both sides, altered where their structure is, loaded into SEAL and used.

Random bytes are refused at the header, so an input here is a list of alterations of a sound message: each of eight bytes, an
operation, a place, and an argument. What is taken is computed with to the end: a query is evaluated, protected and answered, keys
rotate and relinearise, an answer is decrypted. Whatever comes out must be a declared refusal or a result in the plan's form.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from protocols.canonical import canonical_bytes, parse_canonical
from protocols.ckks.batch_wire import decode_batch_query, encode_batch_query
from protocols.ckks.engine import Engine, EvaluationKeys
from protocols.ckks.key_manifest import KeyManifest
from protocols.ckks.key_owner import KeyOwner
from protocols.ckks.parameters import PARAMETER_SETS
from protocols.ckks.planning import EncryptedPlan, Lane
from protocols.ckks.protection import answer_form, protect
from protocols.ckks.wire import WireShape, decode_answer, decode_keys, decode_query, encode_answer
from protocols.ckks.wire_header import HEADER_BYTES
from tests.fuzz.target import Target
from tests.support.ckks import FEATURES, evaluate_linear, linear_plan, stream

PLAN = linear_plan()
SHAPE = WireShape.of(PLAN)
WEIGHTS = np.linspace(-1, 1, FEATURES)
ALTERATION_BYTES = 8
_MAX_ALTERATIONS = 64


@dataclass(frozen=True)
class Sound:
    """One exchange of an honest querier with an honest evaluator, and what both of them hold."""

    engine: Engine
    owner: KeyOwner
    keys: EvaluationKeys
    query: bytes
    key_message: bytes
    answer: bytes


@cache
def sound() -> Sound:
    """Returns the exchange that all alterations start from."""
    engine = Engine(PLAN.parameters)
    owner = KeyOwner(engine, engine.make_secret_key(), stream("fuzz"))
    key_message = owner.evaluation_keys(PLAN)
    keys = engine.load_key_material(decode_keys(SHAPE, key_message))
    query = owner.encrypt_query(PLAN, np.linspace(-1, 1, FEATURES)[np.newaxis])
    return Sound(engine, owner, keys, query, key_message, _answered(engine, keys, query))


def altered(message: bytes, recipe: bytes, others: Sequence[bytes]) -> bytes:
    """Returns the message after the alterations of a recipe; all of them are possible at every place.

    Args:
        message: a sound message.
        recipe: alterations of eight bytes each: operation, argument, length (2), place (4, modulo the length of the message).
        others: messages that parts can be taken from.
    """
    data = bytearray(message)
    for start in range(0, min(len(recipe), _MAX_ALTERATIONS * ALTERATION_BYTES) - ALTERATION_BYTES + 1, ALTERATION_BYTES):
        step = recipe[start : start + ALTERATION_BYTES]
        argument, length = step[1], int.from_bytes(step[2:4], "little")
        place = int.from_bytes(step[4:], "little") % (len(data) + 1)
        match step[0] % 9:
            case 0:  # one bit
                if place < len(data):
                    data[place] ^= 1 << argument % 8
            case 1:  # the same byte all over: zero residues, and those beyond every prime
                stop = min(place + length, len(data))
                data[place:stop] = bytes([argument]) * (stop - place)
            case 2:
                del data[place : place + length]
            case 3:
                data[place:place] = bytes([argument]) * length
            case 4:
                del data[place:]
            case 5:  # a byte of the header
                data[: HEADER_BYTES + 1] = _with_byte(bytes(data[: HEADER_BYTES + 1]), place, argument)
            case 6:  # a stretch of another message in the same place
                other = others[argument % len(others)]
                data[place : place + length] = other[place : place + length]
            case 7:  # all of another message, under this one's header
                other = others[argument % len(others)]
                data[HEADER_BYTES:] = other[HEADER_BYTES:]
            case _:  # two stretches change places: seeds, residues, digits
                other_place = (place * 31 + argument) % (len(data) + 1)
                one, two = bytes(data[place : place + length]), bytes(data[other_place : other_place + length])
                if len(one) == len(two):
                    data[place : place + length], data[other_place : other_place + length] = two, one
    return bytes(data)


def _with_byte(head: bytes, place: int, value: int) -> bytes:
    if not head:
        return head
    place %= len(head)
    return head[:place] + bytes([value]) + head[place + 1 :]


def _answered(engine: Engine, keys: EvaluationKeys, query: bytes) -> bytes:
    (seeded,) = decode_query(SHAPE, query)
    assert keys.public_key is not None
    result = evaluate_linear(engine, engine.load(seeded), keys, WEIGHTS)
    protected = protect(engine, result, keys.public_key, os.urandom, form=answer_form(PLAN))
    message = encode_answer(SHAPE, [engine.residues(protected)])
    assert len(message) == SHAPE.answer_bytes
    return message


def _ask(data: bytes) -> object:
    """What the evaluator does with a query."""
    return _answered(sound().engine, sound().keys, data)


def _take_keys(data: bytes) -> object:
    """What the evaluator does with evaluation keys, and with a sound query under them."""
    return _answered(sound().engine, sound().engine.load_key_material(decode_keys(SHAPE, data)), sound().query)


def _open(data: bytes) -> object:
    """What the querier does with an answer: as many numbers as the plan declares, each a finite one."""
    opened = sound().owner.open_answer(PLAN, data, 1)
    assert opened.shape == (1, 1)
    assert np.isfinite(opened).all()
    return opened


def _altering(message: Callable[[], bytes], use: Callable[[bytes], object]) -> Callable[[bytes], object]:
    def decode(recipe: bytes) -> object:
        exchange = sound()
        return use(altered(message(), recipe, (exchange.query, exchange.key_message, exchange.answer)))

    return decode


def alteration(operation: int, *, argument: int = 0, length: int = 0, place: int = 0) -> bytes:
    """Returns one alteration of a recipe."""
    return bytes([operation, argument]) + length.to_bytes(2, "little") + place.to_bytes(4, "little")


def _recipes() -> Sequence[bytes]:
    """Alterations after which a message is still one: none, zero residues, and two bits that are two residues'."""
    behind = HEADER_BYTES + 200
    return [
        b"",
        alteration(1, length=1000, place=behind),
        alteration(0, argument=3, place=behind) + alteration(0, argument=1, place=behind + 5000),
    ]


def _any_message(data: bytes) -> object:
    """Bytes as they come, at every decoder in turn: the first refusal passes through."""
    decoders: tuple[Callable[[WireShape, bytes], object], ...] = (decode_query, decode_keys, decode_answer)
    kind = data[10] if len(data) > HEADER_BYTES else 0
    return decoders[(kind - 1) % 3](SHAPE, data)


def _messages() -> Sequence[bytes]:
    return [sound().answer, sound().query]


_BATCH = replace(
    SHAPE,
    lane=Lane.BATCH,
    parameters=PARAMETER_SETS["batch-2"],
    keys=KeyManifest((), None, True, 2),
    query_level=2,
    answer_parts=3,
)


def _batch_query(recipe: bytes) -> object:
    first = np.full((1, _BATCH.query_level + 1, _BATCH.parameters.ring_degree), 12_345, np.uint32)
    message = altered(encode_batch_query(_BATCH, bytes(32), first), recipe, (sound().query, sound().answer))
    query = decode_batch_query(_BATCH, message)
    assert len(message) == _BATCH.query_bytes
    assert (query.first_parts.max(axis=2) < np.array(_BATCH.parameters.primes)).all()
    return query


def _plan(data: bytes) -> object:
    plan = EncryptedPlan.from_document(parse_canonical(data))
    shape = WireShape.of(plan)
    assert shape.parameters is PARAMETER_SETS[plan.parameters.name]
    return shape


def _plans() -> Sequence[bytes]:
    return [canonical_bytes(PLAN.to_document())]


TARGETS = (
    Target("ckks-message", _any_message, _messages),
    Target("ckks-query", _altering(lambda: sound().query, _ask), _recipes),
    Target("ckks-keys", _altering(lambda: sound().key_message, _take_keys), _recipes),
    Target("ckks-answer", _altering(lambda: sound().answer, _open), _recipes),
    Target("ckks-batch-query", _batch_query, _recipes),
    Target("ckks-plan", _plan, _plans),
)
