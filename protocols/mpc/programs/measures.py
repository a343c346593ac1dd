"""What an evaluation measures, in shares: counts, log loss, squared error. Each adds up over blocks of rows, then is guarded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from protocols.fixed_point import VALUE_BITS
from protocols.job import OutputKind, Task
from protocols.mpc.combination import Term
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.multiplication import multiply
from protocols.mpc.primitives.products import product
from protocols.mpc.primitives.softmax import log_softmax
from protocols.mpc.primitives.staircase import staircase
from protocols.mpc.primitives.truncation import truncate
from protocols.mpc.programs.disclosure import guard_count, guard_mean, guard_table
from protocols.mpc.programs.factors import scale_share
from protocols.mpc.programs.predict import predicted_classes
from protocols.mpc.programs.rates import Factor
from protocols.mpc.values import SharedValue, ValueView
from protocols.ring import RingArray

ERROR_LIMIT = 256  # a prediction further off than this counts as off by this much
_MEAN_LIMIT_BITS = 10  # declared: a mean loss stays below 1024; the mean of squares is guarded by ERROR_LIMIT

Finished = Mapping[OutputKind, RingArray]


@dataclass(frozen=True, repr=False)
class Block:
    """The current rows.

    Attributes:
        rows: which.
        scores: (block, outputs), one term with factor 1: logits, or the model's output at 16 bits for real labels; secret.
        labels: (block, label_width) int64 share at 16 bits; secret.
    """

    rows: slice
    scores: Term
    labels: RingArray


class Measure(ABC):
    """One or several outputs of an evaluation that are computed together."""

    @abstractmethod
    def add(self, engine: Engine, block: Block) -> Steps[None]:
        """Takes in a block of rows; the same operations for every block of one size."""


class GuardedMeasure(Measure):
    """A measure that can be opened without noise."""

    @abstractmethod
    def finish(self, engine: Engine) -> Steps[Finished]:
        """Returns the guarded outputs as shares at 16 fractional bits."""


class CountedMeasure(Measure):
    """A measure to which noise can be added: a row adds to its numbers no more than `protocols.row_noise` says."""

    @abstractmethod
    def counted(self, engine: Engine) -> Steps[Finished]:
        """Returns its outputs as shares at 16 fractional bits before anything is withheld; never opened as it is."""


class Counts(GuardedMeasure, CountedMeasure):
    """The table of true by predicted class, and the number of correct rows, which is its diagonal's sum.

    Args:
        task: binary or classes.
        classes: how many; 2 of a binary task.
        num_rows: in all; public.
        min_cell: public.
        wants_table: whether the table is an output.
    """

    def __init__(self, *, task: Task, classes: int, num_rows: int, min_cell: int, wants_table: bool) -> None:
        self._task = task
        self._num_rows = num_rows
        self._min_cell = min_cell
        self._wants_table = wants_table
        self._table = np.zeros((classes, classes), np.int64)

    def add(self, engine: Engine, block: Block) -> Steps[None]:
        """See `Measure.add`."""
        predicted = yield from predicted_classes(engine, self._task, block.scores)
        truth = SharedValue(class_columns(engine, block.labels), scale_bits=VALUE_BITS, magnitude_bits=VALUE_BITS)
        guesses = SharedValue(predicted.one_hot, scale_bits=0, magnitude_bits=1)
        self._table = self._table + (yield from product(engine, ValueView(truth).transpose, ValueView(guesses)))

    def counted(self, engine: Engine) -> Steps[Finished]:
        """See `CountedMeasure.counted`."""
        del engine
        yield from ()
        return {OutputKind.CORRECT_COUNT: np.trace(self._table).reshape(1), OutputKind.CONFUSION: self._table}

    def finish(self, engine: Engine) -> Steps[Finished]:
        """See `GuardedMeasure.finish`."""
        correct = np.trace(self._table).reshape(1)
        count = yield from guard_count(engine, correct, num_rows=self._num_rows, min_cell=self._min_cell)
        found = {OutputKind.CORRECT_COUNT: count.count}
        if self._wants_table:
            found[OutputKind.CONFUSION] = yield from guard_table(
                engine, self._table, is_exact=count.is_exact, min_cell=self._min_cell
            )
        return found


class LogLoss(GuardedMeasure):
    """The mean cross-entropy, from logits: within 2^-14 plus 2^-12 of itself of the mean for these logits.

    Args:
        num_rows: in all; public.
        min_cell: the mean is withheld if a class has fewer rows, but some; public.
    """

    def __init__(self, *, num_rows: int, min_cell: int) -> None:
        self._num_rows = num_rows
        self._min_cell = min_cell
        self._total = np.zeros(1, np.int64)
        self._classes = np.zeros(1, np.int64)

    def add(self, engine: Engine, block: Block) -> Steps[None]:
        """See `Measure.add`."""
        share = block.scores.view.share
        truth = class_columns(engine, block.labels)
        # The sigmoid is the softmax of 0 and the logit.
        columns = share if share.shape[1] > 1 else np.hstack([np.zeros_like(share), share])
        logs = yield from log_softmax(engine, np.ascontiguousarray(columns), block.scores.view.value.scale_bits)
        of_truth = yield from multiply(engine, logs, truth)
        self._total = self._total - (yield from truncate(engine, of_truth.sum().reshape(1), VALUE_BITS))
        self._classes = self._classes + truth.sum(axis=0)

    def finish(self, engine: Engine) -> Steps[Finished]:
        """See `GuardedMeasure.finish`."""
        mean = yield from _mean(engine, self._total, self._num_rows, _MEAN_LIMIT_BITS)
        guarded = yield from guard_mean(engine, mean, groups=self._classes, min_cell=self._min_cell)
        return {OutputKind.LOG_LOSS: guarded}


class SquaredError(GuardedMeasure):
    """The mean of squared errors; an error beyond 256 counts as 256.

    Args:
        num_rows: in all; public.
    """

    def __init__(self, *, num_rows: int) -> None:
        self._num_rows = num_rows
        self._total = np.zeros(1, np.int64)

    def add(self, engine: Engine, block: Block) -> Steps[None]:
        """See `Measure.add`."""
        limit = ERROR_LIMIT << VALUE_BITS
        steps = yield from staircase(engine, (block.scores.view.share - block.labels).reshape(-1), (-limit, limit))
        clamped = steps.piecewise_linear((0, 1, 0)) + steps.piecewise((-limit, 0, limit))
        squares = yield from multiply(engine, clamped, clamped)
        self._total = self._total + (yield from truncate(engine, squares.sum().reshape(1), VALUE_BITS))

    def finish(self, engine: Engine) -> Steps[Finished]:
        """See `GuardedMeasure.finish`."""
        bits = 2 * (ERROR_LIMIT.bit_length() - 1)
        return {OutputKind.SQUARED_ERROR: (yield from _mean(engine, self._total, self._num_rows, bits))}


def class_columns(engine: Engine, labels: RingArray) -> RingArray:
    """Returns one column for each class, with 1 at 16 bits in the label's; two columns of binary labels."""
    if labels.shape[1] > 1:
        return labels
    return np.hstack([engine.public(np.full_like(labels, 1 << VALUE_BITS)) - labels, labels])


def _mean(engine: Engine, total: RingArray, count: int, limit_bits: int) -> Steps[RingArray]:
    """A sum at 16 bits over a public count; one round."""
    part = Fraction(1, count)
    return (
        yield from scale_share(
            engine,
            total,
            magnitude_bits=VALUE_BITS + limit_bits + (count - 1).bit_length(),
            scale_bits=VALUE_BITS,
            factor=Factor(part, part),
            result_bits=VALUE_BITS,
        )
    )
