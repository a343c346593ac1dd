"""Joint means and deviations of every feature over all rows: two noisy sums of each (docs/protocols/summaries.md).

Opened are, with noise of the rows' owners, the sum of x and that of x^2 - 1. A row of features within [-1, 1] adds at most
x^2 + (x^2 - 1)^2 <= 1 of each to the square of the sensitivity, so the second sum costs nothing beside the first. Nothing is
rounded: products of shared numbers stay as they are, at 32 fractional bits, and so does the noise.
"""

from __future__ import annotations

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import VALUE_BITS
from protocols.job import Job
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.multiplication import multiply
from protocols.mpc.programs.program import Program, Results
from protocols.mpc.tensor import current_engine
from protocols.mpc.values import SharedValue
from protocols.plan.plan import Part, Stage
from protocols.ring import RingArray
from protocols.row_noise import MOMENT_BITS

SQUARE = "square"
LAST_SQUARE = "last square"
_BLOCK_ELEMENTS = 1 << 18  # of the rows in a block
_MAGNITUDE_BITS = 60  # 2^20 rows at 32 bits, and noise of a thousand there


def moments_schedule(job: Job) -> tuple[Stage, ...]:
    """Returns the schedule: all rows once, in blocks."""
    block = max(1, _BLOCK_ELEMENTS // job.model.input_features)
    whole, rest = divmod(job.num_rows, block)
    return (Stage(1, (*([Part(SQUARE, whole, block)] if whole else []), *([Part(LAST_SQUARE, 1, rest)] if rest else []))),)


class MomentsProgram(Program):
    """One party's side of the sums.

    Args:
        job: the agreed job.
        features: (rows, features) int64 share at 16 fractional bits, of values within [-1, 1].
        noise: (1, 2 features) int64 in units of 2^-32: share of all owners' noise.
    """

    def __init__(self, *, job: Job, features: RingArray, noise: RingArray | None) -> None:
        self._job, self._features, self._noise = job, features, noise
        self._sums = np.zeros((2, features.shape[1]), np.int64)

    def run_segment(self, name: str) -> None:
        """Takes in a block of rows."""
        engine = current_engine()
        rows = slice(None) if engine.window is None else slice(engine.window.start, engine.window.stop)
        engine.run(self._add(engine, np.ascontiguousarray(self._features[rows])))

    def results(self) -> Results:
        """Returns (2, features) at 32 fractional bits: sums of x, and of x^2 - 1, both with noise.

        Raises:
            ConfideError: INTERNAL (ours) if the noise is missing, or is of other numbers.
        """
        if self._noise is None or self._noise.shape != (1, self._sums.size):
            raise ConfideError(ErrorCode.INTERNAL, "outputs with noise, and not that noise")
        noisy = self._sums + self._noise.reshape(self._sums.shape)
        name = self._job.outputs[0].name
        return Results(outputs={name: SharedValue(noisy, scale_bits=MOMENT_BITS, magnitude_bits=_MAGNITUDE_BITS)})

    def _add(self, engine: Engine, block: RingArray) -> Steps[None]:
        """Adds up a block; one round."""
        squares = yield from multiply(engine, block, block)
        ones = engine.public(np.full(block.shape[1], len(block) << MOMENT_BITS, np.int64))
        self._sums += np.stack([block.sum(axis=0) << np.int64(VALUE_BITS), squares.sum(axis=0) - ones])
