"""What the batch lane takes on a machine: products of whole-number matrices, passes over residues, protection."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from protocols.ckks.batch_arithmetic import answer_parts, evaluate_maps
from protocols.ckks.engine import Engine
from protocols.ckks.key_manifest import KeyManifest
from protocols.ckks.parameters import ParameterSet
from protocols.ckks.planning import Lane
from protocols.ckks.protection import AnswerForm, ReRandomisers, protect
from protocols.ckks.residue_products import IntegerMap
from protocols.ckks.uniform_residues import SEED_BYTES, expand
from protocols.ckks.wire import WireShape, encode_answer
from protocols.ckks.word_packing import packed_words, unpack_words

_ANSWER_SCALE = 2.0**56  # takes two layers of flooding, as the scales of this lane do
_FLOOD_STD = 2.0**-3
Shapes = Sequence[tuple[int, int, int]]  # per map: rows, columns, and how many weights the architecture has


@dataclass(frozen=True)
class BatchCosts:
    """Seconds of one thread.

    Attributes:
        product: of one weight times one residue, in a matrix product.
        taken: of one residue of a query, from its packed form into the product.
        mapped: of one residue that a map gives, its reduction included.
        squared: of one residue that a square gives.
        answered: of one residue of an answer, from the last map to its bytes, with encryptions of zero made ahead.
    """

    product: float
    taken: float
    mapped: float
    squared: float
    answered: float

    def seconds(self, shapes: Shapes, parameters: ParameterSet) -> float:
        """Returns what one batch takes, from the bytes of the query to those of the answer."""
        places = parameters.ring_degree * parameters.levels
        total = 2 * shapes[0][1] * self.taken
        for squares, (rows, columns, weights) in enumerate(shapes):
            parts = answer_parts(squares)
            total += parts * (weights * self.product + rows * self.mapped)
            if squares:
                total += parts * columns * self.squared
        total += answer_parts(len(shapes) - 1) * shapes[-1][0] * self.answered
        return total * places


REFERENCE = BatchCosts(product=4.6e-11, taken=4.0e-9, mapped=4.0e-9, squared=6.0e-9, answered=1.2e-7)
"""Of the reference machine: what plans state that were made without measuring."""


def measure_batch_costs(parameters: ParameterSet, clock: Callable[[], float], *, repetitions: int = 3) -> BatchCosts:
    """Measures the costs at small shapes that separate them.

    Args:
        parameters: a set of the batch lane.
        clock: seconds of this thread, as `time.thread_time`.
        repetitions: of which the median counts.
    """
    places = parameters.ring_degree * parameters.levels
    rng = np.random.default_rng(0)
    primes = parameters.primes

    def seconds(*widths: int) -> float:
        maps = [
            IntegerMap(rng.integers(-9, 9, shape), [0] * shape[0], support=np.ones(shape, np.bool_), primes=primes)
            for shape in zip(widths[1:], widths, strict=False)
        ]
        parts = [np.zeros((widths[0], parameters.levels, parameters.ring_degree), np.uint32) for _ in range(2)]
        times = []
        for _ in range(repetitions + 1):
            started = clock()
            evaluate_maps(maps, parts[0], parts[1], primes)
            times.append(clock() - started)
        return statistics.median(times[1:])

    narrow, tall, wide, large, deep = seconds(8, 8), seconds(8, 136), seconds(264, 8), seconds(264, 136), seconds(8, 136, 8)
    per_weight = max((large - tall - wide + narrow) / (2 * places * (256 * 128)), 1e-12)
    mapped = max((tall - narrow) / (2 * places * 128) - 8 * per_weight, 1e-11)
    taken = max((wide - narrow) / (2 * places * 256) - 8 * per_weight, 1e-11)
    squared = max((deep - tall) / (3 * places * 136) - 8 * per_weight, 1e-11)
    taken += _parsing(parameters, clock, repetitions)
    return BatchCosts(per_weight, taken, mapped, squared, _answering(parameters, clock, repetitions))


def _parsing(parameters: ParameterSet, clock: Callable[[], float], repetitions: int) -> float:
    """Seconds per residue of the two parts: one is unpacked, the other expanded."""
    count, degree, bits = 64, parameters.ring_degree, parameters.primes[0].bit_length()
    words = np.zeros((count, parameters.levels, packed_words(degree, bits)), np.uint32)
    times = []
    for _ in range(repetitions + 1):
        started = clock()
        unpack_words(words, degree, bits).max()
        expand(bytes(SEED_BYTES), count=count, primes=parameters.primes, ring_degree=degree)
        times.append(clock() - started)
    return statistics.median(times[1:]) / (2 * count * parameters.levels * degree)


def _answering(parameters: ParameterSet, clock: Callable[[], float], repetitions: int) -> float:
    """Seconds per residue of an answer of three parts: loaded, protected, packed."""
    engine, top, parts = Engine(parameters), parameters.top_level, 3
    public_key = engine.make_public_key(engine.make_secret_key(), top)
    form = AnswerForm(top, _ANSWER_SCALE, parts, period=parameters.slots, replicas=1, flood_std=_FLOOD_STD)
    shape = WireShape(
        lane=Lane.BATCH,
        parameters=parameters,
        plan_digest=bytes(32),
        keys=KeyManifest((), None, True, top),
        query_ciphertexts=1,
        query_level=top,
        query_scale=1.0,
        answer_ciphertexts=1,
        answer_parts=parts,
        answer_scale=_ANSWER_SCALE,
    )
    pool = ReRandomisers(engine, public_key, level=top, parts=parts)
    pool.fill(repetitions + 1)
    residues = np.full((parts, parameters.levels, parameters.ring_degree), 12_345, np.uint64)
    times = []
    for _ in range(repetitions + 1):
        started = clock()
        result = engine.from_residues(residues, _ANSWER_SCALE)
        # Zeros for randomness: nobody gets these answers.
        encode_answer(shape, [engine.residues(protect(engine, result, public_key, bytes, form=form, pool=pool))])
        times.append(clock() - started)
    return statistics.median(times[1:]) / residues.size
