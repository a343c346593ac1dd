"""Joint summaries: means and sizes of groups of rows of several owners, by label or by clusters that are found in shares.

Clusters are those of Lloyd (1982, "Least squares quantization in PCM"): every row goes to the nearest mean, every mean moves to
the middle of its rows. The first means are rows drawn by a public seed; which rows is public, their values are not. Nothing is
opened before the end, and then no group of fewer rows than the minimum (docs/protocols/summaries.md).

With noise, sums and sizes by label are opened in place of means, each with noise of every owner; clusters with noise are those of
`programs.noisy_clusters`.
"""

from __future__ import annotations

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import VALUE_BITS
from protocols.job import Job, OutputKind, Summary
from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.inputs import shared_rows
from protocols.mpc.primitives.maximum import equal_zero, maximum
from protocols.mpc.primitives.multiplication import multiply
from protocols.mpc.primitives.products import product
from protocols.mpc.primitives.reciprocal import reciprocal_of_positive
from protocols.mpc.primitives.truncation import truncate
from protocols.mpc.programs.disclosure import WITHHELD, keep_cells
from protocols.mpc.programs.measures import class_columns
from protocols.mpc.programs.noisy_counts import noisy_tables
from protocols.mpc.programs.program import Program, Results
from protocols.mpc.row_order import row_order
from protocols.mpc.tensor import current_engine
from protocols.mpc.values import SharedValue, ValueView
from protocols.plan.plan import Part, Stage
from protocols.ring import RingArray
from protocols.row_noise import adds_row_noise

START = "start"
GATHER = "gather"
LAST_GATHER = "last gather"
MOVE = "move"
FINISH = "finish"
_BLOCK_ELEMENTS = 1 << 18  # of the rows, or compared pairs of clusters, in a block of rows
_MAX_BLOCK_ROWS = 4096
_RECIPROCAL_BITS = 40


def summarise_schedule(job: Job) -> tuple[Stage, ...]:
    """Returns the schedule: all rows once for groups by label; once for each time that the means of clusters move."""
    summary = summary_of(job)
    rows = gathering(job)
    last = Stage(1, (Part(FINISH, 1, 0),))
    if not summary.iterations:
        return Stage(1, (*rows, Part(MOVE, 1, 0))), last
    return Stage(1, (Part(START, 1, 0),)), Stage(summary.iterations, (*rows, Part(MOVE, 1, 0))), last


def gathering(job: Job) -> tuple[Part, ...]:
    """Returns the parts of a stage that take in all rows once."""
    block = _block_rows(job)
    whole, rest = divmod(job.num_rows, block)
    return (*([Part(GATHER, whole, block)] if whole else []), *([Part(LAST_GATHER, 1, rest)] if rest else []))


class SummariseProgram(Program):
    """One party's side of a summary.

    Args:
        job: the agreed job.
        features: (rows, features) int64 share at 16 fractional bits.
        labels: (rows, label_width) int64 share at 16 fractional bits; not used where clusters are found.
        noise: (1, numbers) int64 in units of 2^-16: share of all owners' noise, for an output that has some.
    """

    def __init__(self, *, job: Job, features: RingArray, labels: RingArray, noise: RingArray | None = None) -> None:
        self._job, self._noise = job, noise
        self._summary, self._output = summary_of(job), job.outputs[0]
        self._features, self._labels = features, labels
        groups = self._summary.groups
        self._by_label = self._output.kind is OutputKind.GROUP_MEANS
        # Of the groups as they are now: sums at 16 bits, or 32 by label; sizes at none, or 16 by label; means at 16 bits.
        self._sums = np.zeros((groups, features.shape[1]), np.int64)
        self._sizes = np.zeros(groups, np.int64)
        self._norms = np.zeros(groups, np.int64)
        if self._by_label:
            self._means = np.zeros_like(self._sums)
        else:
            first = row_order(self._summary.start_seed, len(features))[:groups]
            self._means = np.ascontiguousarray(features[first])
        self._counted = np.zeros(groups, np.int64)
        self._empty = np.zeros(groups, np.int64)
        self._told = np.zeros((groups, features.shape[1] + 1), np.int64)

    def run_segment(self, name: str) -> None:
        """Takes in a block of rows, moves the means, or finishes."""
        engine = current_engine()
        rows = slice(None) if engine.window is None else slice(engine.window.start, engine.window.stop)
        match name:
            case "start":
                engine.run(self._measure(engine))
            case "move":
                engine.run(self._move(engine))
            case "finish":
                engine.run(self._finish(engine))
            case _:
                engine.run(self._gather(engine, rows))

    def results(self) -> Results:
        """Returns (groups, features + 1) at 16 fractional bits: means in [-1, 1], and last how many rows; -1 where withheld.

        Means of a group that is withheld, or has no rows, are 0. With noise, sums stand in place of means.
        """
        bits = VALUE_BITS + 20
        return Results(outputs={self._output.name: SharedValue(self._told, scale_bits=VALUE_BITS, magnitude_bits=bits)})

    def _gather(self, engine: Engine, rows: slice) -> Steps[None]:
        """Adds up rows by group; by label one round, by nearest mean seven for up to 16 clusters."""
        block = shared_rows(np.ascontiguousarray(self._features[rows]), for_session=False)
        if self._by_label:
            columns = class_columns(engine, np.ascontiguousarray(self._labels[rows]))
            members = SharedValue(columns, scale_bits=VALUE_BITS, magnitude_bits=VALUE_BITS)
        else:
            means = SharedValue(self._means, scale_bits=VALUE_BITS, magnitude_bits=VALUE_BITS + 1)
            near = yield from product(engine, ValueView(block), ValueView(means).transpose)
            # |x - c|^2 is least where 2 x c - |c|^2 is largest.
            _, columns = yield from maximum(engine, near * np.int64(2) - self._norms[None, :])
            members = SharedValue(columns, scale_bits=0, magnitude_bits=1)
        self._sums = self._sums + (yield from product(engine, ValueView(members).transpose, ValueView(block)))
        self._sizes = self._sizes + columns.sum(axis=0)

    def _move(self, engine: Engine) -> Steps[None]:
        """Makes means of sums and begins anew; a cluster without rows keeps its mean."""
        sums, sizes = self._sums, self._sizes
        if self._by_label:
            # Whole numbers at 16 bits: cutting them is exact. Sums lose the bits of the label that they were multiplied with.
            cut = yield from truncate(engine, np.concatenate([sums.reshape(-1), sizes]), VALUE_BITS)
            sums, sizes = cut[: sums.size].reshape(sums.shape), cut[sums.size :]
        if adds_row_noise(self._job):
            self._told = np.concatenate([sums, (sizes << np.int64(VALUE_BITS))[:, None]], axis=1)
            return
        inverse, empty = yield from together(
            reciprocal_of_positive(engine, sizes, 0, result_bits=_RECIPROCAL_BITS), equal_zero(engine, sizes)
        )
        scaled, kept = yield from together(
            multiply(engine, sums, inverse[:, None]), multiply(engine, self._means, empty[:, None])
        )
        self._means = (yield from truncate(engine, scaled, _RECIPROCAL_BITS)) + kept
        self._counted, self._empty = sizes, empty
        if self._summary.iterations:
            yield from self._measure(engine)
        self._sums, self._sizes = np.zeros_like(self._sums), np.zeros_like(self._sizes)

    def _measure(self, engine: Engine) -> Steps[None]:
        """Squares the lengths of the means, at 32 bits; one round."""
        squares = yield from multiply(engine, self._means, self._means)
        self._norms = squares.sum(axis=1)

    def _finish(self, engine: Engine) -> Steps[None]:
        """Withholds groups that are too small; a group without rows has no mean to tell: it would be one of former rows."""
        if adds_row_noise(self._job):
            noisy = yield from noisy_tables(engine, self._job, {self._output.kind: self._told}, self._noise)
            self._told = noisy[self._output.kind]
            return
        sizes = self._counted << np.int64(VALUE_BITS)
        everything = np.ones((1, len(sizes)), np.int64)
        kept = yield from keep_cells(engine, sizes, groups=everything, min_cell=self._output.min_cell)
        told = yield from multiply(engine, kept, engine.public(np.ones_like(kept)) - self._empty)
        table = np.concatenate([self._means, sizes[:, None]], axis=1)
        factors = np.concatenate([np.repeat(told[:, None], self._means.shape[1], axis=1), kept[:, None]], axis=1)
        opened = yield from multiply(engine, factors, table)
        withheld = engine.public(np.ones_like(kept)) - kept
        opened[:, -1] += np.int64(WITHHELD << VALUE_BITS) * withheld
        self._told = opened


def _block_rows(job: Job) -> int:
    groups = summary_of(job).groups
    widest = max(job.model.input_features, groups * (groups - 1) // 2)
    return max(1, min(_MAX_BLOCK_ROWS, _BLOCK_ELEMENTS // widest))


def summary_of(job: Job) -> Summary:
    """Returns into which groups a job puts rows.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) if it does not say.
    """
    if job.summary is None:
        raise ConfideError(ErrorCode.INVALID_JOB, "a job that summarises does not say into which groups")
    return job.summary
