"""How many rows of either class have a probability between public edges, in shares: an area under the ROC curve follows.

Opened with noise alone. An area over all pairs of rows moves with each row by what the others are; these counts move by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from protocols.fixed_point import VALUE_BITS
from protocols.job import OutputKind
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.products import product
from protocols.mpc.primitives.staircase import threshold_bits
from protocols.mpc.programs.measures import Block, CountedMeasure, Finished, class_columns
from protocols.mpc.programs.noisy import small
from protocols.mpc.values import SharedValue, ValueView


def logit_thresholds(edges: Sequence[str]) -> list[int]:
    """Returns the least logit at 16 fractional bits that is on the upper side of each edge of a probability; public.

    Args:
        edges: decimals between 0 and 1, ascending.
    """
    found = []
    for edge in edges:
        probability = Fraction(edge)
        odds = math.log(probability.numerator) - math.log(probability.denominator - probability.numerator)
        found.append(math.ceil(odds * (1 << VALUE_BITS)))
    return found


class ScoreHistogram(CountedMeasure):
    """Rows of class 0 and of class 1 in each range of the probability of class 1: (bins, 2) at 16 bits.

    The logit is compared, cut to 16 bits and at most one unit more, so edges near 0 and 1 tell apart what a probability at 16
    bits would not. A logit at an edge counts to the range above it. A row is in one range for every number of the ring.

    Args:
        edges: decimals between 0 and 1, ascending; public.
    """

    def __init__(self, edges: Sequence[str]) -> None:
        self._thresholds = logit_thresholds(edges)
        self._table = np.zeros((len(edges) + 1, 2), np.int64)

    def add(self, engine: Engine, block: Block) -> Steps[None]:
        """See `Measure.add`."""
        logits = block.scores.view.share.reshape(-1)
        logits = yield from small(engine, np.ascontiguousarray(logits), block.scores.view.value.scale_bits)
        bits = yield from threshold_bits(engine, logits, self._thresholds)
        all_rows = engine.public(np.ones((1, len(logits)), np.int64))
        reached = np.vstack([all_rows, bits, np.zeros_like(all_rows)])
        bins = SharedValue(np.ascontiguousarray(reached[:-1] - reached[1:]), scale_bits=0, magnitude_bits=1)
        columns = np.ascontiguousarray(class_columns(engine, block.labels))
        truth = SharedValue(columns, scale_bits=VALUE_BITS, magnitude_bits=VALUE_BITS)
        self._table = self._table + (yield from product(engine, ValueView(bins), ValueView(truth)))

    def counted(self, engine: Engine) -> Steps[Finished]:
        """See `CountedMeasure.counted`."""
        del engine
        yield from ()
        return {OutputKind.SCORE_HISTOGRAM: self._table}
