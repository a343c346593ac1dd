"""How well predicted probabilities are calibrated, in shares: rows, probabilities and right ones by tenths of the probability.

Of a binary task the probability is that of class 1, and a row is right if that is its label: the usual reliability diagram. Of
several classes it is the largest one, and a row is right if that class is its label: that of Guo et al. 2017. Either way the
expected calibration error is the sum over tenths of |right - sum of probabilities| over all rows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from protocols.fixed_point import VALUE_BITS, VALUE_LIMIT_BITS
from protocols.job import OutputKind, Task
from protocols.mpc.combination import Term
from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.primitives.maximum import maximum
from protocols.mpc.primitives.multiplication import multiply
from protocols.mpc.primitives.products import product
from protocols.mpc.primitives.sigmoid import sigmoid
from protocols.mpc.primitives.softmax import softmax
from protocols.mpc.primitives.staircase import threshold_bits
from protocols.mpc.programs.disclosure import guard_bins, keep_all_of_table, keep_exact_count
from protocols.mpc.programs.measures import Block, CountedMeasure, Finished, GuardedMeasure
from protocols.mpc.programs.noisy import within_range
from protocols.mpc.values import SharedValue, ValueView
from protocols.ring import RingArray

BINS = 10
_COLUMNS = 3  # rows, sum of probabilities, right rows


class Reliability(GuardedMeasure, CountedMeasure):
    """The reliability diagram: (10, 3) at 16 bits.

    A probability at an edge counts to the tenth above it, so that the upper half are the rows that class 1 is predicted for.

    Args:
        task: binary or classes.
        num_rows: in all; public.
        min_cell: public.
    """

    def __init__(self, *, task: Task, num_rows: int, min_cell: int) -> None:
        self._task = task
        self._num_rows = num_rows
        self._min_cell = min_cell
        self._table = np.zeros((BINS, _COLUMNS), np.int64)

    def add(self, engine: Engine, block: Block) -> Steps[None]:
        """See `Measure.add`."""
        bits, probabilities, right = yield from self._in_tenths(engine, block)
        all_rows = engine.public(np.ones((1, len(right)), np.int64))
        reached = np.vstack([all_rows, bits, np.zeros_like(all_rows)])
        bins = np.ascontiguousarray(reached[:-1] - reached[1:])
        left = SharedValue(bins, scale_bits=0, magnitude_bits=1)
        columns = SharedValue(np.stack([probabilities, right], axis=1), scale_bits=VALUE_BITS, magnitude_bits=VALUE_BITS + 1)
        sums = yield from product(engine, ValueView(left), ValueView(columns))
        self._table = self._table + np.hstack([bins.sum(axis=1, keepdims=True) << np.int64(VALUE_BITS), sums])

    def counted(self, engine: Engine) -> Steps[Finished]:
        """See `CountedMeasure.counted`."""
        del engine
        yield from ()
        return {OutputKind.RELIABILITY: self._table}

    def finish(self, engine: Engine) -> Steps[Finished]:
        """See `GuardedMeasure.finish`."""
        if self._min_cell == 1:
            return {OutputKind.RELIABILITY: self._table}
        right = self._table[:, 2]
        cells = np.concatenate([self._table[:, 0] - right, right])
        groups = _groups(self._task)
        sums = groups @ cells
        if self._task is Task.BINARY:
            gate = keep_all_of_table(engine, sums.reshape(2, 2), num_rows=self._num_rows, min_cell=self._min_cell)
        else:
            gate = keep_exact_count(engine, sums[1:], num_rows=self._num_rows, min_cell=self._min_cell)
        guarded = yield from guard_bins(engine, self._table, cells=cells, groups=groups, gate=gate, min_cell=self._min_cell)
        return {OutputKind.RELIABILITY: guarded}

    def _in_tenths(self, engine: Engine, block: Block) -> Steps[tuple[RingArray, RingArray, RingArray]]:
        """The bits [p >= edge] for the nine inner edges, p at 16 bits, and 1 at 16 bits for the rows that are right."""
        if self._task is Task.BINARY:
            bits, probabilities = yield from _of_positive(engine, block.scores)
            return bits, probabilities, np.ascontiguousarray(block.labels.reshape(-1))
        largest, right = yield from _largest(engine, block.scores, block.labels)
        return (yield from threshold_bits(engine, largest, _edges())), largest, right


class BoundedReliability(Reliability):
    """The same of probabilities that are clipped to [0, 1] exactly, and put into tenths after that.

    So whatever the model computes, a row is in one tenth and adds at most 1 to each of its three numbers, as noise on them needs.
    """

    def _in_tenths(self, engine: Engine, block: Block) -> Steps[tuple[RingArray, RingArray, RingArray]]:
        if self._task is Task.BINARY:
            share, scale_bits, magnitude_bits = _logits(block.scores)
            computed = yield from sigmoid(engine, share, scale_bits, magnitude_bits)
            right = np.ascontiguousarray(block.labels.reshape(-1))
        else:
            computed, right = yield from _largest(engine, block.scores, block.labels)
        probabilities = yield from within_range(engine, computed, Task.BINARY)
        return (yield from threshold_bits(engine, probabilities, _edges())), probabilities, right


def _groups(task: Task) -> NDArray[np.int64]:
    """Which of the cells (wrong ones by tenth, then right ones) add up to a number that another output may show.

    Of a binary task these are the four cells of the confusion table: true and false negatives, false and true positives.
    Of several classes they are the wrong and the right rows.
    """
    below = np.repeat([1, 0], BINS // 2)
    none = np.zeros(BINS, np.int64)
    if task is Task.BINARY:
        # In the order of the table, true class by predicted class: label 0 below a half, above it; then label 1.
        rows = [(below, none), (1 - below, none), (none, below), (none, 1 - below)]
    else:
        rows = [(none + 1, none), (none, none + 1)]
    return np.array([np.concatenate(row) for row in rows], np.int64)


def _of_positive(engine: Engine, scores: Term) -> Steps[tuple[RingArray, RingArray]]:
    """The bits [p >= edge] for the nine inner edges, and p at 16 bits, of the probability of class 1."""
    share, scale_bits, magnitude_bits = _logits(scores)
    # The sigmoid ascends, so logits are compared with the logits of the edges: that is exact where the sigmoid is not.
    edges = [math.ceil(math.log(k / (BINS - k)) * 2.0**scale_bits) for k in range(1, BINS)]
    bits, probabilities = yield from together(
        threshold_bits(engine, share, edges), sigmoid(engine, share, scale_bits, magnitude_bits)
    )
    return bits, probabilities


def _logits(scores: Term) -> tuple[RingArray, int, int]:
    """Logits of a binary task, their fractional bits, and the bits of their magnitude."""
    value = scores.view.value
    magnitude_bits = min(value.magnitude_bits, value.scale_bits + VALUE_LIMIT_BITS)
    return np.ascontiguousarray(scores.view.share.reshape(-1)), value.scale_bits, magnitude_bits


def _largest(engine: Engine, scores: Term, labels: RingArray) -> Steps[tuple[RingArray, RingArray]]:
    """The largest probability at 16 bits, and 1 at 16 bits for the rows whose label it is."""
    share = np.ascontiguousarray(scores.view.share)

    def one_hot_of_largest() -> Steps[RingArray]:
        _, one_hot = yield from maximum(engine, share)
        return one_hot

    one_hot, every = yield from together(one_hot_of_largest(), softmax(engine, share, scores.view.value.scale_bits))
    chosen = yield from multiply(engine, np.stack([one_hot, one_hot]), np.stack([every, labels]))
    largest, right = chosen.sum(axis=2)
    return np.ascontiguousarray(largest), right


def _edges() -> list[int]:
    """The edges of the tenths at 16 bits, rounded up."""
    return [math.ceil(k * 2.0**VALUE_BITS / BINS) for k in range(1, BINS)]
