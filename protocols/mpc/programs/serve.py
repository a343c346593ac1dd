"""Serving a model held as shares: its weights are opened masked once, then blocks of queries' rows are answered as they come.

A block has a fixed number of rows, so that every run of "answer" is the same segment of the plan, whoever asks and however
much; rows that nobody asked for are zeros and their answers are thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, Serving
from protocols.mpc.programs.forward import HeldModel
from protocols.mpc.programs.infer import predicted_columns, predicted_share, predicted_value
from protocols.mpc.programs.names import ANSWER, OPEN_MODEL
from protocols.mpc.programs.noisy import Draw
from protocols.mpc.programs.program import Program, Results
from protocols.mpc.serving_supply import AHEAD_BYTES
from protocols.plan.operations import Segment
from protocols.plan.plan import Part, Stage
from protocols.ring import RingArray


def serve_schedule(job: Job) -> tuple[Stage, ...]:
    """Returns how often the weights are opened and blocks answered at most; a session may do less, as queries come."""
    serving = serving_of(job)
    epochs = -(-serving.lifetime_s // serving.rekey_s)
    # Every run has a row of some query; whole blocks, and one that is not full for each query.
    blocks = min(serving.max_rows, serving.max_queries + serving.max_rows // serving.block_rows)
    return Stage(epochs, (Part(OPEN_MODEL, 1, 0),)), Stage(1, (Part(ANSWER, blocks, 0),))


def serving_of(job: Job) -> Serving:
    """Returns how a job serves.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) if it does not.
    """
    if job.serving is None:
        raise ConfideError(ErrorCode.INVALID_JOB, "a job that serves says how long and how much")
    return job.serving


def check_block(segment: Segment) -> None:
    """Checks that the material of one block can be dealt ahead of need.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) if it is more than may wait unused.
    """
    if segment.correction_bytes > AHEAD_BYTES:
        what = f"a block takes {segment.correction_bytes >> 20} MiB of dealt material, and {AHEAD_BYTES >> 20} MiB may wait"
        raise ConfideError(ErrorCode.INVALID_JOB, what, remedy="Use a smaller serving.block_rows.")


class ServeProgram(Program):
    """One party's side of serving, for as long as one set of keys is in force.

    Args:
        job: the agreed job.
        model_share: int64 share of every parameter at 24 fractional bits.
        draw: gives this party's noise, for an output that has some.
    """

    def __init__(self, *, job: Job, model_share: Mapping[str, RingArray], draw: Draw | None = None) -> None:
        self._job = job
        self._draw = draw
        self._model = HeldModel(job=job, model_share=model_share, for_session=True)
        shape = (serving_of(job).block_rows, job.model.input_features)
        self._block: RingArray | None = np.broadcast_to(np.int64(0), shape)
        self._predicted: RingArray = np.zeros((shape[0], predicted_columns(job)), np.int64)

    def put(self, rows: RingArray) -> None:
        """Takes the rows of the next block: a share (n, features) int64 at 16 bits, n from 1 to the block's rows."""
        self._block = np.zeros((serving_of(self._job).block_rows, self._job.model.input_features), np.int64)
        self._block[: len(rows)] = rows

    def run_segment(self, name: str) -> None:
        """Opens the weights masked, or answers the block that was put in.

        Raises:
            ConfideError: INTERNAL (ours) if no block was put in since the last answer: no row is ever masked twice.
        """
        if name == OPEN_MODEL:
            self._model.open()
            return
        block, self._block = self._block, None
        if block is None:
            raise ConfideError(ErrorCode.INTERNAL, "a block of rows is answered once")
        self._predicted = predicted_share(self._job, self._model.block(block), draw=self._draw)

    def results(self) -> Results:
        """Returns the predictions of the last block, in the form of an inference's."""
        output = self._job.outputs[0]
        return Results(outputs={output.name: predicted_value(self._predicted, output)})
