"""Log loss and squared error of which no row counts for more than a public bound, so that noise on their sum hides a row.

Rows are clipped exactly, whatever the model computes: before that their numbers are made small enough for the comparison by a
truncation, which is so for every number of the ring. The sum is scaled by a public factor and cut; a row moves the result by no
more than 1, since cutting is with the same mask or share of the lead in both worlds (docs/protocols/evaluation.md).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from protocols.fixed_point import VALUE_BITS
from protocols.job import OutputKind
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.multiplication import multiply
from protocols.mpc.primitives.softmax import log_softmax
from protocols.mpc.primitives.staircase import staircase
from protocols.mpc.primitives.truncation import truncate
from protocols.mpc.programs.measures import Block, CountedMeasure, Finished, class_columns
from protocols.mpc.programs.noisy import small
from protocols.ring import RingArray
from protocols.row_losses import LossScale


class _BoundedLoss(CountedMeasure):
    """A sum of clipped losses, in units of the most that a row may count.

    Args:
        scale: of the output; public.
    """

    kind: ClassVar[OutputKind]

    def __init__(self, scale: LossScale) -> None:
        self._scale = scale
        self._total = np.zeros(1, np.int64)

    def counted(self, engine: Engine) -> Steps[Finished]:
        """See `CountedMeasure.counted`."""
        return {self.kind: (yield from _in_units(engine, self._total, self._scale))}


class BoundedLogLoss(_BoundedLoss):
    """The sum of the rows' log losses, each clipped to [0, bound], in units of the bound."""

    kind = OutputKind.LOG_LOSS

    def add(self, engine: Engine, block: Block) -> Steps[None]:
        """See `Measure.add`."""
        share = block.scores.view.share
        # The sigmoid is the softmax of 0 and the logit.
        columns = share if share.shape[1] > 1 else np.hstack([np.zeros_like(share), share])
        logs = yield from log_softmax(engine, np.ascontiguousarray(columns), block.scores.view.value.scale_bits)
        of_truth = yield from multiply(engine, logs, class_columns(engine, block.labels))
        losses = yield from truncate(engine, -of_truth.sum(axis=1), VALUE_BITS)
        inside = yield from _within(engine, losses, 0, self._scale.limit)
        self._total = self._total + inside.sum().reshape(1)


class BoundedSquaredError(_BoundedLoss):
    """The sum of the rows' squared errors, each error clipped to the bound, in units of the bound's square."""

    kind = OutputKind.SQUARED_ERROR

    def add(self, engine: Engine, block: Block) -> Steps[None]:
        """See `Measure.add`."""
        errors = yield from small(engine, (block.scores.view.share - block.labels).reshape(-1), VALUE_BITS)
        inside = yield from _within(engine, errors, -self._scale.limit, self._scale.limit)
        self._total = self._total + (yield from multiply(engine, inside, inside)).sum().reshape(1)


def _within(engine: Engine, share: RingArray, low: int, high: int) -> Steps[RingArray]:
    """The share of numbers that are brought into a range, exactly, if they are far from the ring's ends; four rounds."""
    steps = yield from staircase(engine, share, (low, high))
    return steps.piecewise_linear((0, 1, 0)) + steps.piecewise((low, 0, high))


def _in_units(engine: Engine, total: RingArray, scale: LossScale) -> Steps[RingArray]:
    return (yield from truncate(engine, total * np.int64(scale.factor), scale.shift))
