"""Joint clusters whose means are moved by noisy sums and sizes alone (docs/protocols/summaries.md).

Lloyd's algorithm with noise in every move (Blum, Dwork, McSherry and Nissim, "Practical privacy: the SuLQ framework", 2005; Su,
Cao, Li, Bertino and Jin, "Differentially private k-means clustering", 2016). The first means are public points, so that nothing
of the rows is in them. After each gathering the noise of the rows' owners is added to all sums and sizes; everything after that
is computed from noisy numbers, in shares: a cluster whose noisy size is below the minimum keeps its mean, the others' means are
noisy sums over noisy sizes, brought back to [-1, 1].
"""

from __future__ import annotations

import hashlib
from math import ceil, log2

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import VALUE_BITS
from protocols.job import Job, Task
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.inputs import shared_rows
from protocols.mpc.primitives.comparison import nonnegative
from protocols.mpc.primitives.maximum import maximum
from protocols.mpc.primitives.multiplication import multiply
from protocols.mpc.primitives.products import product
from protocols.mpc.primitives.reciprocal import MAX_SCALE_BITS, reciprocal_of_positive
from protocols.mpc.primitives.truncation import truncate
from protocols.mpc.programs.disclosure import WITHHELD
from protocols.mpc.programs.noisy import within_range
from protocols.mpc.programs.program import Program, Results
from protocols.mpc.programs.summarise import FINISH, MOVE, gathering, summary_of
from protocols.mpc.tensor import current_engine
from protocols.mpc.values import SharedValue, ValueView
from protocols.plan.plan import Part, Stage
from protocols.prg import AesCtrStream
from protocols.private_job_checks import contributors
from protocols.ring import RingArray
from protocols.row_noise import noise_steps, num_noisy, opened_deviation
from protocols.secrets import SecretBytes

_DOMAIN = b"confide.first_means/1:"
_UNIT = 1 << VALUE_BITS
_ROOM_BITS = 61  # of a product that is truncated
_TAIL = 10  # deviations of noise that there is room for; beyond it means would be spoilt, and no promise
_RANGE = _UNIT // 2  # first means lie within half of a feature's range around its middle


def first_means(seed: str, clusters: int, features: int) -> NDArray[np.int64]:
    """Returns the public points with which clusters begin: (clusters, features) integers at 16 fractional bits, in [-1/2, 1/2).

    Args:
        seed: of the job, hexadecimal.
        clusters: how many.
        features: of a row.
    """
    stream = AesCtrStream(SecretBytes(hashlib.sha256(_DOMAIN + seed.encode()).digest()))
    numbers = stream.take(8 * clusters * features).view("<u8") % np.uint64(2 * _RANGE)
    return numbers.astype(np.int64).reshape(clusters, features) - _RANGE


def noisy_clusters_schedule(job: Job) -> tuple[Stage, ...]:
    """Returns the schedule: all rows once for each time that the means move."""
    return Stage(summary_of(job).iterations, (*gathering(job), Part(MOVE, 1, 0))), Stage(1, (Part(FINISH, 1, 0),))


class NoisyClusters(Program):
    """One party's side of the clusters.

    Args:
        job: the agreed job.
        features: (rows, features) int64 share at 16 fractional bits, of values within [-1, 1].
        noise: (moves, clusters (features + 1)) int64 in units of 2^-16: share of all owners' noise; of each cluster its sums,
            then its size.

    Raises:
        ConfideError: INTERNAL (ours) if the noise is missing, or is of other numbers.
    """

    def __init__(self, *, job: Job, features: RingArray, noise: RingArray | None) -> None:
        if noise is None or noise.shape != (noise_steps(job), num_noisy(job)):
            raise ConfideError(ErrorCode.INTERNAL, "outputs with noise, and not that noise")
        self._job, self._output, self._noise = job, job.outputs[0], noise
        self._features = features
        clusters = summary_of(job).groups
        start = first_means(summary_of(job).start_seed, clusters, features.shape[1])
        self._means = current_engine().public(start)
        self._norms = current_engine().public((start * start).sum(axis=1))
        self._moves = 0
        self._table = np.zeros((clusters, features.shape[1] + 1), np.int64)  # sums at 16 bits, sizes at 16
        self._kept = np.zeros(clusters, np.int64)
        self._told = np.zeros_like(self._table)

    def run_segment(self, name: str) -> None:
        """Takes in a block of rows, moves the means, or finishes."""
        engine = current_engine()
        rows = slice(None) if engine.window is None else slice(engine.window.start, engine.window.stop)
        match name:
            case "move":
                engine.run(self._move(engine))
            case "finish":
                engine.run(self._finish(engine))
            case _:
                engine.run(self._gather(engine, rows))

    def results(self) -> Results:
        """Returns (clusters, features + 1) at 16 fractional bits: means, and last the noisy size; 0 and -1 where withheld."""
        bits = VALUE_BITS + 20
        return Results(outputs={self._output.name: SharedValue(self._told, scale_bits=VALUE_BITS, magnitude_bits=bits)})

    def _gather(self, engine: Engine, rows: slice) -> Steps[None]:
        """Adds up the rows that are nearest to each mean; each is in one cluster, whatever the means are."""
        block = shared_rows(np.ascontiguousarray(self._features[rows]), for_session=False)
        means = SharedValue(self._means, scale_bits=VALUE_BITS, magnitude_bits=VALUE_BITS + 1)
        near = yield from product(engine, ValueView(block), ValueView(means).transpose)
        _, columns = yield from maximum(engine, near * np.int64(2) - self._norms[None, :])
        members = SharedValue(columns, scale_bits=0, magnitude_bits=1)
        self._table[:, :-1] += yield from product(engine, ValueView(members).transpose, ValueView(block))
        self._table[:, -1] += columns.sum(axis=0) << np.int64(VALUE_BITS)

    def _move(self, engine: Engine) -> Steps[None]:
        """Adds noise, makes means of noisy sums and sizes, and begins anew."""
        noisy = self._table + self._noise[self._moves].reshape(self._table.shape)
        sums, sizes = noisy[:, :-1], noisy[:, -1]
        least = engine.public(np.full(len(sizes), self._output.min_cell << VALUE_BITS, np.int64))
        self._kept = yield from nonnegative(engine, sizes - least)
        divisor = least + (yield from multiply(engine, self._kept, sizes - least))
        bits = _inverse_bits(self._job)
        inverse = yield from reciprocal_of_positive(engine, divisor, VALUE_BITS, result_bits=bits)
        quotients = yield from truncate(engine, (yield from multiply(engine, sums, inverse[:, None])), bits)
        inside = yield from within_range(engine, quotients, Task.REAL)
        self._means = self._means + (yield from multiply(engine, inside - self._means, self._kept[:, None]))
        squares = yield from multiply(engine, self._means, self._means)
        self._norms = squares.sum(axis=1)
        self._told = np.concatenate([self._means, sizes[:, None]], axis=1)
        self._table = np.zeros_like(self._table)
        self._moves += 1

    def _finish(self, engine: Engine) -> Steps[None]:
        """Withholds clusters whose noisy size after the last move is below the minimum."""
        opened = (yield from multiply(engine, self._kept[:, None], self._told)).copy()
        opened[:, -1] += np.int64(WITHHELD << VALUE_BITS) * (engine.public(np.ones_like(self._kept)) - self._kept)
        self._told = opened


def _inverse_bits(job: Job) -> int:
    """Returns the fractional bits of an inverse, so that a noisy sum times it has room.

    A noisy sum is at most the noisy size, or the minimum if that is more, and noise twice; all over the minimum at least.
    """
    noise = _TAIL * opened_deviation(job, owners=len(contributors(job)))
    largest = 1 + 2 * noise / job.outputs[0].min_cell
    return min(MAX_SCALE_BITS, _ROOM_BITS - VALUE_BITS - ceil(log2(largest)))
