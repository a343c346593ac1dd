"""Measures the primitives of an answer on the machine that will compute it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from protocols.ckks.costs import Primitive, PrimitiveCosts
from protocols.ckks.engine import Engine, EvaluationKeys, SecretKey
from protocols.ckks.key_manifest import KeyManifest
from protocols.ckks.parameters import ParameterSet
from protocols.ckks.planning import Lane
from protocols.ckks.protection import AnswerForm, ReRandomisers, protect
from protocols.ckks.wire import WireShape, decode_query, encode_answer, encode_query

Clock = Callable[[], float]
_OPERAND_BYTES = 24 << 20  # of the ciphertexts that are taken in turn
_MESSAGES = 25  # parsed and answered: they take a millisecond or two, in which something else often happens
_KEYS = 6
_SCALE = 2.0**20
_PERIOD = 16  # of the answer: sets how its mask is summed up, which hardly matters
_FLOOD_STD = 2.0**-10


def measure_costs(engine: Engine, clock: Clock, *, repetitions: int = 9) -> PrimitiveCosts:
    """Measures every primitive at every level.

    Operands are taken in turn from a set that no cache holds, as an evaluation takes the diagonals of a model.

    Args:
        engine: of the parameter set; throw-away keys are made with it.
        clock: seconds of this thread, as `time.thread_time`.
        repetitions: of which the median counts.
    """
    parameters = engine.parameters
    top = parameters.top_level
    _settle_allocator()
    secret = engine.make_secret_key()
    steps = tuple((step, top) for step in range(1, _KEYS + 1))
    keys = engine.make_evaluation_keys(secret, KeyManifest(rotations=steps, relinearise_level=top, public_key=True))
    seconds: dict[tuple[Primitive, int], float] = {}
    for level in range(parameters.levels):
        seconds |= _at_level(engine, secret, keys, clock, level=level, repetitions=repetitions)
        seconds[Primitive.TAKE, level] = _take(engine, secret, clock, level=level, repetitions=max(repetitions, _MESSAGES))
    seconds[Primitive.ANSWER, 0] = _answer(engine, secret, keys, clock, repetitions=max(repetitions, _MESSAGES))
    return PrimitiveCosts(parameters.name, seconds)


def _at_level(
    engine: Engine, secret: SecretKey, keys: EvaluationKeys, clock: Clock, *, level: int, repetitions: int
) -> dict[tuple[Primitive, int], float]:
    """Whatever computes with ciphertexts."""
    parameters = engine.parameters
    values = np.linspace(-1.0, 1.0, parameters.slots)
    count = max(repetitions, _OPERAND_BYTES // (2 * 8 * parameters.ring_degree * (level + 1)))
    fresh = engine.load(engine.encrypt(secret, engine.encode(values, level, _SCALE)))
    samples = [engine.copy(fresh) for _ in range(count)]
    factors = [engine.encode(values, level, _SCALE) for _ in range(count)]
    following = samples[1:] + samples[:1]
    steps = [1 + number % _KEYS for number in range(count)]
    few = max(repetitions, _KEYS)
    found = {
        Primitive.ADD: _median(clock, [partial(engine.add_inplace, *pair) for pair in zip(samples, following, strict=True)]),
        Primitive.ADD_PLAIN: _median(
            clock, [partial(engine.add_plain_inplace, *pair) for pair in zip(samples, factors, strict=True)]
        ),
        Primitive.MULTIPLY_PLAIN: _median(
            clock, [partial(engine.multiply_plain, *pair) for pair in zip(samples, factors, strict=True)]
        ),
        Primitive.SQUARE: _median(clock, [partial(engine.square, each, keys) for each in samples[:few]]),
        Primitive.MULTIPLY: _median(clock, [partial(engine.multiply, samples[at], following[at], keys) for at in range(few)]),
        Primitive.ROTATE: _median(clock, [partial(engine.rotate, samples[at], steps[at], keys) for at in range(few)]),
    }
    if level:
        found[Primitive.DROP] = _median(clock, [partial(engine.drop_to, each, level - 1) for each in samples[:few]])
        found[Primitive.RESCALE] = _median(clock, [partial(engine.rescale, each) for each in samples])
    return {(primitive, level): seconds for primitive, seconds in found.items()}


def _take(engine: Engine, secret: SecretKey, clock: Clock, *, level: int, repetitions: int) -> float:
    """From the bytes of a query of one ciphertext to what SEAL computes with."""
    shape = _shape(engine.parameters, level)
    values = np.linspace(-1.0, 1.0, engine.parameters.slots)
    message = encode_query(shape, [engine.encrypt(secret, engine.encode(values, level, _SCALE))])
    return _median(clock, [lambda: [engine.load(each) for each in decode_query(shape, message)]] * repetitions, _other_work())


def _answer(engine: Engine, secret: SecretKey, keys: EvaluationKeys, clock: Clock, *, repetitions: int) -> float:
    """From a result to the bytes of the answer, with encryptions of zero made ahead."""
    shape, public_key = _shape(engine.parameters, 0), keys.public_key
    if public_key is None:
        raise ValueError("keys without a public key")
    form = AnswerForm(level=0, scale=_SCALE, parts=2, period=_PERIOD, replicas=1, flood_std=_FLOOD_STD)
    values = np.linspace(-1.0, 1.0, engine.parameters.slots)
    result = engine.load(engine.encrypt(secret, engine.encode(values, 0, _SCALE)))
    pool = ReRandomisers(engine, public_key, level=0, parts=2)
    pool.fill(repetitions + 1)

    def answer() -> bytes:
        # Zeros for randomness: nobody gets these answers.
        return encode_answer(shape, [engine.residues(protect(engine, result, public_key, bytes, form=form, pool=pool))])

    answer()  # makes the tables of the mask
    return _median(clock, [answer] * repetitions, _other_work())


def _shape(parameters: ParameterSet, level: int) -> WireShape:
    return WireShape(
        lane=Lane.LATENCY,
        parameters=parameters,
        plan_digest=bytes(32),
        keys=KeyManifest((), None, True),
        query_ciphertexts=1,
        query_level=level,
        query_scale=_SCALE,
        answer_ciphertexts=1,
        answer_parts=2,
        answer_scale=_SCALE,
    )


def _settle_allocator() -> None:
    """Frees one large block, as whoever serves has done many times.

    Until then the C library hands freed memory back to the system as soon as it is 128 KiB, so that answers take page faults,
    a third more time for a small model; whether a measurement falls into that state is chance. Freeing a block that was mapped on
    its own raises the limit for the rest of the process (mallopt(3), M_MMAP_THRESHOLD).
    """
    np.empty(_OPERAND_BYTES, np.uint8)


def _other_work() -> Callable[[], object]:
    """What passes through the caches between two queries: a query is not parsed or answered where the last one has just been."""
    return np.ones(_OPERAND_BYTES // 8).sum


def _median(clock: Clock, actions: Sequence[Callable[[], object]], before: Callable[[], object] = tuple) -> float:
    found = []
    for action in actions:
        before()
        start = clock()
        action()
        found.append(clock() - start)
    return statistics.median(found)
