"""Joint evaluation: how well a model held as shares predicts the rows of several owners.

All outputs of a job share one forward pass. What may not be opened is decided in shares, before anything is
(`programs.disclosure`, docs/protocols/evaluation.md). With noise of the rows' owners, that follows from noisy numbers alone
(`programs.noisy_counts`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from protocols.fixed_point import VALUE_BITS
from protocols.job import Job, OutputKind, Task
from protocols.mpc.combination import Term
from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.programs.forward import OPEN_MODEL, Forward, forward_stages
from protocols.mpc.programs.group_counts import GroupCounts
from protocols.mpc.programs.measures import Block, CountedMeasure, Counts, GuardedMeasure, LogLoss, Measure, SquaredError
from protocols.mpc.programs.noisy_counts import noisy_tables
from protocols.mpc.programs.noisy_losses import BoundedLogLoss, BoundedSquaredError
from protocols.mpc.programs.predict import plain_term
from protocols.mpc.programs.program import Program, Results
from protocols.mpc.programs.ranking import LAST_PAIRS, PAIRS, Ranking, ranking_stage
from protocols.mpc.programs.reliability import BoundedReliability, Reliability
from protocols.mpc.programs.score_histogram import ScoreHistogram
from protocols.mpc.tensor import current_engine
from protocols.mpc.values import SharedValue, ValueView
from protocols.plan.plan import Part, Stage
from protocols.ring import RingArray
from protocols.row_losses import loss_scale
from protocols.row_noise import adds_row_noise
from protocols.schema_features import feature_names

FINISH = "finish"


def evaluate_schedule(job: Job) -> tuple[Stage, ...]:
    """Returns the schedule: all rows forward, all pairs if they are ranked, then what follows from the sums.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) if there are too many rows to rank.
    """
    wanted = {output.kind for output in job.outputs}
    pairs = (ranking_stage(job.num_rows),) if OutputKind.ROC_AUC in wanted else ()
    return (*forward_stages(job, job.num_rows), *pairs, Stage(1, (Part(FINISH, 1, 0),)))


class EvaluateProgram(Program):
    """One party's side of an evaluation.

    Args:
        job: the agreed job.
        model_share: int64 share of every parameter at 24 fractional bits.
        features: (rows, features) int64 share at 16 fractional bits.
        labels: (rows, label_width) int64 share at 16 fractional bits.
        noise: (1, numbers) int64 in units of 2^-16: share of all owners' noise, for outputs that have some.
    """

    def __init__(
        self,
        *,
        job: Job,
        model_share: Mapping[str, RingArray],
        features: RingArray,
        labels: RingArray,
        noise: RingArray | None = None,
    ) -> None:
        self._job, self._noise = job, noise
        self._forward = Forward(job=job, model_share=model_share, features=features)
        self._labels = labels
        kinds = {output.kind for output in job.outputs}
        # The strictest minimum holds for all outputs, since each may help to explain another.
        min_cell = max(output.min_cell for output in job.outputs)
        self._ranking = Ranking(num_rows=job.num_rows, min_cell=min_cell) if OutputKind.ROC_AUC in kinds else None
        self._measures: list[Measure] = [] if self._ranking is None else [self._ranking]
        if kinds & {OutputKind.CORRECT_COUNT, OutputKind.CONFUSION}:
            counts = Counts(
                task=job.task,
                classes=max(2, job.label_width),
                num_rows=job.num_rows,
                min_cell=min_cell,
                wants_table=OutputKind.CONFUSION in kinds,
            )
            self._measures.append(counts)
        if OutputKind.RELIABILITY in kinds:
            diagram = BoundedReliability if adds_row_noise(job) else Reliability
            self._measures.append(diagram(task=job.task, num_rows=job.num_rows, min_cell=min_cell))
        for output in job.outputs:
            match output.kind:
                case OutputKind.LOG_LOSS if output.has_noise:
                    self._measures.append(BoundedLogLoss(loss_scale(output, job.num_rows)))
                case OutputKind.LOG_LOSS:
                    self._measures.append(LogLoss(num_rows=job.num_rows, min_cell=min_cell))
                case OutputKind.SQUARED_ERROR if output.has_noise:
                    self._measures.append(BoundedSquaredError(loss_scale(output, job.num_rows)))
                case OutputKind.SQUARED_ERROR:
                    self._measures.append(SquaredError(num_rows=job.num_rows))
                case OutputKind.GROUP_CONFUSION:
                    values = features[:, feature_names(job.schema).index(output.group_by)]
                    self._measures.append(GroupCounts(values=values, edges=output.group_edges, min_cell=min_cell))
                case OutputKind.SCORE_HISTOGRAM:
                    self._measures.append(ScoreHistogram(output.group_edges))
                case _:
                    pass  # made above: these share a measure, or come at once
        self._found: dict[OutputKind, RingArray] = {}

    def run_segment(self, name: str) -> None:
        """Takes in a block of rows, compares a block with all, or finishes."""
        engine = current_engine()
        rows = slice(None) if engine.window is None else slice(engine.window.start, engine.window.stop)
        if name == OPEN_MODEL:
            self._forward.open_model()
        elif name in (PAIRS, LAST_PAIRS) and self._ranking is not None:
            engine.run(self._ranking.compare(engine, rows))
        elif name == FINISH:
            self._found = engine.run(self._finish(engine))
        else:
            block = self._block(rows)
            engine.run(together(*(measure.add(engine, block) for measure in self._measures)))

    def results(self) -> Results:
        """Returns every output at 16 fractional bits.

        Counts (1,), a table (classes, classes), rates and means (1,), a reliability diagram (10, 3), groups' tables (groups, 4),
        a score histogram (bins, 2); a loss with noise is a sum in units of the most that a row counts (`protocols.row_losses`).
        """
        bits = VALUE_BITS + 20
        shares = {output.name: self._found[output.kind] for output in self._job.outputs if output.kind in self._found}
        return Results(outputs={n: SharedValue(share, scale_bits=VALUE_BITS, magnitude_bits=bits) for n, share in shares.items()})

    def _finish(self, engine: Engine) -> Steps[dict[OutputKind, RingArray]]:
        is_noisy = adds_row_noise(self._job)
        # The job's checks let nothing that takes no noise stand beside noise, and nothing that needs it stand without.
        if is_noisy:
            steps = [measure.counted(engine) for measure in self._measures if isinstance(measure, CountedMeasure)]
        else:
            steps = [measure.finish(engine) for measure in self._measures if isinstance(measure, GuardedMeasure)]
        found: dict[OutputKind, RingArray] = {}
        for part in (yield from together(*steps)):
            found |= part
        return (yield from noisy_tables(engine, self._job, found, self._noise)) if is_noisy else found

    def _block(self, rows: slice) -> Block:
        if self._job.task is Task.REAL:
            scores = Term(ValueView(self._forward.outputs().settle(VALUE_BITS)))
        else:
            scores = plain_term(self._forward.logits())
        return Block(rows, scores, np.ascontiguousarray(self._labels[rows]))
