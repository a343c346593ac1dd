"""Joint assessment: how well a membership attack tells the rows that a model held as shares was trained on from other rows.

The model stays in shares, the shadow models with which it is compared stay with the owners: each owner brings, beside a row,
what its shadows say of it (`protocols.attack_numbers`). The score of a row is computed in shares and compared with public
thresholds; opened are only, for each threshold, how many members and how many others reach it, and these only in steps of at
least the minimum cell (docs/protocols/assessment.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import ceil

import numpy as np
from numpy.typing import NDArray

from protocols.attack_numbers import LIRA
from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import VALUE_BITS
from protocols.job import Assessment, Job, Task
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.comparison import nonnegative
from protocols.mpc.primitives.maximum import maximum
from protocols.mpc.primitives.multiplication import multiply
from protocols.mpc.primitives.softmax import log_softmax
from protocols.mpc.primitives.staircase import staircase, threshold_bits
from protocols.mpc.primitives.truncation import truncate
from protocols.mpc.programs.disclosure import WITHHELD
from protocols.mpc.programs.forward import OPEN_MODEL, Forward, forward_stages
from protocols.mpc.programs.measures import class_columns
from protocols.mpc.programs.program import Program, Results
from protocols.mpc.tensor import current_engine
from protocols.mpc.values import SharedValue
from protocols.plan.plan import Part, Stage
from protocols.ring import RingArray

FINISH = "finish"
SCORE_BITS = 2 * VALUE_BITS  # of a score before it is compared: it is not cut
_ASIDE_BITS = 24  # the right class's logit is moved below all others by 2^24, beyond every declared value


def assess_schedule(job: Job) -> tuple[Stage, ...]:
    """Returns the schedule: all rows forward, then what is opened."""
    return (*forward_stages(job, job.num_rows), Stage(1, (Part(FINISH, 1, 0),)))


class AssessProgram(Program):
    """One party's side of an assessment.

    Args:
        job: the agreed job.
        model_share: int64 share of every parameter at 24 fractional bits.
        features: (rows, features) int64 share at 16 fractional bits.
        labels: (rows, label_width) int64 share at 16 fractional bits.
        numbers: (rows, numbers of the attack) int64 share at 16 fractional bits of what the owners' shadows say of the rows.
    """

    def __init__(
        self, *, job: Job, model_share: Mapping[str, RingArray], features: RingArray, labels: RingArray, numbers: RingArray
    ) -> None:
        self._job, self._assessment = job, assessment_of(job)
        self._output = job.outputs[0]
        self._forward = Forward(job=job, model_share=model_share, features=features)
        self._labels, self._numbers = labels, numbers
        self._thresholds = [ceil(Fraction(one) * (1 << SCORE_BITS)) for one in self._assessment.thresholds]
        self._sides = _sides(job)
        self._reached = np.zeros((len(self._thresholds), 2), np.int64)
        self._told = np.zeros_like(self._reached)

    def run_segment(self, name: str) -> None:
        """Takes in a block of rows, or finishes."""
        engine = current_engine()
        rows = slice(None) if engine.window is None else slice(engine.window.start, engine.window.stop)
        if name == OPEN_MODEL:
            self._forward.open_model()
        elif name == FINISH:
            engine.run(self._finish(engine))
        else:
            logits = self._forward.logits().settle(VALUE_BITS).share
            engine.run(self._count(engine, np.ascontiguousarray(logits), rows))

    def results(self) -> Results:
        """Returns (thresholds, 2) at 16 fractional bits: members, and others, that reach each threshold; -1 where withheld."""
        told = SharedValue(self._told, scale_bits=VALUE_BITS, magnitude_bits=VALUE_BITS + 20)
        return Results(outputs={self._output.name: told})

    def _count(self, engine: Engine, logits: RingArray, rows: slice) -> Steps[None]:
        """Scores a block of rows and adds up who reaches which threshold; which rows are members is public."""
        labels = np.ascontiguousarray(self._labels[rows])
        numbers = np.ascontiguousarray(self._numbers[rows])
        if self._assessment.attack == LIRA:
            margins = yield from _margins(engine, self._job.task, logits, labels)
            scores = (yield from multiply(engine, margins, numbers[:, 0])) + (numbers[:, 1] << np.int64(VALUE_BITS))
        else:
            columns = logits if logits.shape[1] > 1 else np.hstack([np.zeros_like(logits), logits])
            logs = yield from log_softmax(engine, np.ascontiguousarray(columns), VALUE_BITS)
            of_truth = yield from multiply(engine, logs, class_columns(engine, labels))
            scores = of_truth.sum(axis=1) + (numbers[:, 0] << np.int64(VALUE_BITS))
        bits = yield from threshold_bits(engine, scores, self._thresholds)
        self._reached = self._reached + bits @ self._sides[rows]

    def _finish(self, engine: Engine) -> Steps[None]:
        """Keeps, from the highest threshold down, the counts that are at least the minimum cell beyond the last one kept.

        A count that leaves fewer than the minimum cell to all rows of its side is not kept either. So every difference of two
        kept counts, none and all of the side among them, is at least the minimum; four rounds a threshold.
        """
        cell, sides = self._output.min_cell, self._sides.sum(axis=0)
        public = engine.public(np.broadcast_to(sides - cell, self._reached.shape).copy())
        leaves_enough = yield from nonnegative(engine, public - self._reached)
        # A count that may not be kept is moved below the minimum: one test then stands for both.
        far = np.int64(int(sides.sum()) + 1)
        moved = (engine.public(np.ones_like(leaves_enough)) - leaves_enough) * far
        last, kept = np.zeros(2, np.int64), np.zeros_like(self._reached)
        for threshold in reversed(range(len(self._thresholds))):
            beyond = self._reached[threshold] - last - moved[threshold]
            step = yield from staircase(engine, beyond, [cell])
            kept[threshold], last = step.bits[0], last + step.products[0]
        opened = yield from multiply(engine, kept, self._reached)
        withheld = engine.public(np.ones_like(kept)) - kept
        self._told = (opened + np.int64(WITHHELD) * withheld) << np.int64(VALUE_BITS)


def assessment_of(job: Job) -> Assessment:
    """Returns how the model of a job is attacked.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) if the job does not say it.
    """
    if job.assessment is None:
        raise ConfideError(ErrorCode.INVALID_JOB, "a job that assesses does not say how")
    return job.assessment


def _margins(engine: Engine, task: Task, logits: RingArray, labels: RingArray) -> Steps[RingArray]:
    """The logit of the right class less the largest of the others; of one logit, with its sign as the label says."""
    if task is Task.BINARY:
        sign = np.int64(2) * labels - engine.public(np.full_like(labels, 1 << VALUE_BITS))
        signed = yield from multiply(engine, logits, sign)
        return (yield from truncate(engine, signed.reshape(-1), VALUE_BITS))  # of whole multiples: exact
    of_truth = (yield from multiply(engine, logits, labels)).sum(axis=1)
    own = yield from truncate(engine, of_truth, VALUE_BITS)
    largest, _ = yield from maximum(engine, logits - (labels << np.int64(_ASIDE_BITS)))
    return own - largest


def _sides(job: Job) -> NDArray[np.int64]:
    """(rows, 2) of 0 and 1, public: whether a row is a member, or not."""
    members = set(assessment_of(job).members)
    is_member = np.repeat([index in members for index in range(len(job.datasets))], [one.num_rows for one in job.datasets])
    return np.stack([is_member, ~is_member], axis=1).astype(np.int64)
