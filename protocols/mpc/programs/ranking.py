"""The area under the ROC curve in shares, exactly over all pairs of a positive and a negative row; ties count a half.

With D(i) the rows that row i is not below, less those that are not below i, twice the number of pairs that are ordered rightly
less all pairs is the sum of D over the positive rows: pairs of two positive rows cancel. So the n^2 comparisons are only ever
added up, locally, and one product of n elements remains (Mann and Whitney 1947).
"""

from __future__ import annotations

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import VALUE_BITS
from protocols.job import OutputKind
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.comparison import nonnegative
from protocols.mpc.primitives.multiplication import multiply
from protocols.mpc.primitives.reciprocal import reciprocal
from protocols.mpc.primitives.truncation import truncate
from protocols.mpc.programs.disclosure import guard_rate
from protocols.mpc.programs.measures import Block, Finished, GuardedMeasure
from protocols.plan.plan import Part, Stage

MAX_RANKED_ROWS = 2048
PAIRS = "pairs"
LAST_PAIRS = "last pairs"
_BLOCK_PAIRS = 1 << 17
_RECIPROCAL_BITS = 40


def ranking_stage(num_rows: int) -> Stage:
    """Returns the stage that compares all pairs of rows, in blocks of bounded memory.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) for too many rows.
    """
    if num_rows > MAX_RANKED_ROWS:
        raise ConfideError(
            ErrorCode.INVALID_JOB,
            f"the area under the ROC curve compares all pairs of rows; {num_rows} rows are more than {MAX_RANKED_ROWS}",
            remedy="Evaluate fewer or smaller data sets, or leave out roc_auc.",
        )
    block = max(1, min(num_rows, _BLOCK_PAIRS // num_rows))
    whole, rest = divmod(num_rows, block)
    return Stage(1, (Part(PAIRS, whole, block), *([Part(LAST_PAIRS, 1, rest)] if rest else [])))


def rate_bits(num_rows: int, min_cell: int) -> int:
    """Returns to how many fractional bits the rate is opened.

    A rate over p positive rows is a multiple of 1 / (2 p (n - p)). To 16 bits only one p may fit, and beside a table with cells
    withheld p gives them away. The step is therefore no smaller than that fraction is for p = c, where it is largest: then
    every p from c to n - c has a multiple as close as the step.
    """
    if min_cell == 1:
        return VALUE_BITS
    return min(VALUE_BITS, (2 * min_cell * max(1, num_rows - min_cell)).bit_length() - 1)


class Ranking(GuardedMeasure):
    """Collects scores and labels of all rows, compares them pair by pair, and gives the rate.

    Args:
        num_rows: in all; public.
        min_cell: the rate is withheld if either class has fewer rows; public.
    """

    def __init__(self, *, num_rows: int, min_cell: int) -> None:
        self._min_cell = min_cell
        self._scores = np.zeros(num_rows, np.int64)
        self._labels = np.zeros(num_rows, np.int64)
        self._balance = np.zeros(num_rows, np.int64)

    def add(self, engine: Engine, block: Block) -> Steps[None]:
        """Keeps the rows' logits and labels; no communication."""
        self._scores[block.rows] = block.scores.view.share[:, 0]
        self._labels[block.rows] = block.labels[:, 0]
        yield from ()

    def compare(self, engine: Engine, rows: slice) -> Steps[None]:
        """Compares a block of rows with all rows; four rounds."""
        bits = yield from nonnegative(engine, self._scores[rows, None] - self._scores[None, :])
        self._balance[rows] += bits.sum(axis=1)
        self._balance -= bits.sum(axis=0)

    def finish(self, engine: Engine) -> Steps[Finished]:
        """See `GuardedMeasure.finish`."""
        num_rows = len(self._labels)
        positive = self._labels.sum().reshape(1)
        negative = engine.public(np.full(1, num_rows << VALUE_BITS, np.int64)) - positive
        # Whole numbers at 16 bits: cutting them is exact.
        count = yield from truncate(engine, positive, VALUE_BITS)
        pairs = yield from multiply(engine, count, engine.public(np.full(1, num_rows, np.int64)) - count)
        inverse = yield from reciprocal(engine, pairs, 0, result_bits=_RECIPROCAL_BITS)
        balance = (yield from multiply(engine, self._labels, self._balance)).sum().reshape(1)
        scaled = yield from multiply(engine, balance, inverse)
        # Half of balance / pairs, at 16 bits, of which the last may not be shown; the balance itself has 16 already.
        unseen = VALUE_BITS - rate_bits(num_rows, self._min_cell)
        half = (yield from truncate(engine, scaled, _RECIPROCAL_BITS + 1 + unseen)) << np.int64(unseen)
        rate = half + engine.public(np.full(1, 1 << (VALUE_BITS - 1), np.int64))
        groups = np.concatenate([positive, negative])
        return {OutputKind.ROC_AUC: (yield from guard_rate(engine, rate, groups=groups, min_cell=self._min_cell))}
