"""Noise of the rows' owners on sums and counts about rows, before anything is withheld (docs/protocols/evaluation.md).

Which numbers are withheld follows from noisy numbers alone, so it tells no more than they do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import VALUE_BITS
from protocols.job import Job, Output, OutputKind
from protocols.loss_bounds import LOSSES
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.comparison import nonnegative
from protocols.mpc.primitives.multiplication import multiply
from protocols.mpc.programs.disclosure import WITHHELD
from protocols.ring import RingArray
from protocols.row_noise import output_shape

# Which column of a line says how many rows it is of; in other tables every cell is a count of its own.
_SIZE_COLUMNS = {OutputKind.RELIABILITY: 0, OutputKind.GROUP_MEANS: -1}
_TOLD = -1


def noisy_tables(
    engine: Engine, job: Job, tables: Mapping[OutputKind, RingArray], noise: RingArray | None
) -> Steps[dict[OutputKind, RingArray]]:
    """Adds noise to all numbers that a job opens, and withholds what then tells of fewer rows than the minimum; five rounds.

    A count below the minimum becomes -1; in a line of a diagram or of groups, the rest of the line becomes 0 with it. With a
    minimum of 1 nothing is withheld and nothing is sent: counts may be negative. A loss is over all rows, and never withheld.

    Args:
        engine: this party's engine.
        job: whose outputs all have noise; public.
        tables: by kind, int64 at 16 fractional bits, in the shape of the output; secret.
        noise: (1, numbers) int64 in units of 2^-16, of all outputs in their order: this party's share of all owners' noise.

    Raises:
        ConfideError: INTERNAL (ours) if the noise is missing, or is of other numbers.

    Learns: nobody anything; everything opened is uniform.
    """
    flat = np.concatenate([tables[output.kind].reshape(-1) for output in job.outputs])
    if noise is None or noise.shape != (1, flat.size):
        raise ConfideError(ErrorCode.INTERNAL, "outputs with noise, and not that noise")
    flat = flat + noise[0]
    min_cell = max(output.min_cell for output in job.outputs)
    if min_cell > 1:
        deciding = _deciding(job)
        judged = deciding != _TOLD
        if judged.any():
            places = np.flatnonzero(judged)
            flat[judged] = yield from _withheld(engine, flat[judged], np.searchsorted(places, deciding[judged]), min_cell)
    return _apart(job.outputs, [output_shape(job, output) for output in job.outputs], flat)


def _withheld(engine: Engine, flat: RingArray, deciding: NDArray[np.intp], min_cell: int) -> Steps[RingArray]:
    sizes, which = np.unique(deciding, return_inverse=True)
    least = engine.public(np.full(len(sizes), min_cell << VALUE_BITS, np.int64))
    kept = yield from nonnegative(engine, flat[sizes] - least)
    opened: RingArray = (yield from multiply(engine, kept[which], flat)).copy()
    opened[sizes] += np.int64(WITHHELD << VALUE_BITS) * (engine.public(np.ones_like(kept)) - kept)
    return opened


def _deciding(job: Job) -> NDArray[np.intp]:
    """For each number the position of the one that says how many rows it tells of; `_TOLD` for what is of all rows."""
    found, start = [], 0
    for output in job.outputs:
        positions = start + np.arange(int(np.prod(output_shape(job, output)))).reshape(output_shape(job, output))
        column = _SIZE_COLUMNS.get(output.kind)
        if output.kind in LOSSES:
            positions = np.full_like(positions, _TOLD)
        of_line = positions if column is None else np.broadcast_to(positions[:, [column]], positions.shape)
        found.append(of_line.reshape(-1))
        start += of_line.size
    return np.concatenate(found)


def _apart(outputs: Sequence[Output], shapes: Sequence[tuple[int, ...]], flat: RingArray) -> dict[OutputKind, RingArray]:
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    parts = np.split(flat, ends[:-1])
    return {output.kind: part.reshape(shape) for output, shape, part in zip(outputs, shapes, parts, strict=True)}
