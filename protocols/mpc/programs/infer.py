"""Joint inference: predictions for the querier's samples with a model held as shares."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from protocols.fixed_point import VALUE_BITS
from protocols.job import Job, Output, OutputKind, Task
from protocols.mpc.programs.constraints import constrained, noisy_labels, opened_scale_bits, plain_labels
from protocols.mpc.programs.forward import OPEN_MODEL, Block, Forward
from protocols.mpc.programs.noisy import Draw, with_noise, within_range
from protocols.mpc.programs.predict import plain_term
from protocols.mpc.programs.program import Program, Results
from protocols.mpc.tensor import SharedTensor, crypten, current_engine
from protocols.mpc.values import SharedValue
from protocols.ring import RingArray

_MAGNITUDE_BITS = VALUE_BITS + 20  # of what is opened: values stay below 2^20, and no number of decimals is finer than 16 bits
# A mean is the sum of up to 10^4 numbers of at most 1, times 2^28 over their number, rounded: within 2^-15 of it, at 44 bits.
_MEAN_BITS = 28


class InferProgram(Program):
    """Predicts for the querier's samples what the output's constraint lets out.

    Args:
        job: the agreed job.
        model_share: int64 share of every parameter at 24 fractional bits.
        query_share: (rows, features) int64 share at 16 fractional bits, from the querier.
        draw: gives this party's noise, for an output that has some.
    """

    def __init__(
        self, *, job: Job, model_share: Mapping[str, RingArray], query_share: RingArray, draw: Draw | None = None
    ) -> None:
        self._job = job
        self._draw = draw
        self._output = job.outputs[0]
        self._forward = Forward(job=job, model_share=model_share, features=query_share)
        self._predicted = np.zeros((len(query_share), predicted_columns(job)), np.int64)

    def run_segment(self, name: str) -> None:
        """Predicts for the current block of samples."""
        if name == OPEN_MODEL:
            self._forward.open_model()
            return
        window = current_engine().window
        rows = slice(None) if window is None else slice(window.start, window.stop)
        self._predicted[rows] = predicted_share(self._job, self._forward.block(), draw=self._draw)

    def results(self) -> Results:
        """Returns labels (rows,) as whole numbers; probabilities, scores, values at 16 bits: (rows,), several (rows, classes).

        Rounded ones are whole numbers, in units of the last decimal. A mean is (1,) or (classes,) at 44 bits.
        """
        if self._output.kind is OutputKind.MEAN:
            return Results(outputs={self._output.name: self._mean()})
        return Results(outputs={self._output.name: predicted_value(self._predicted, self._output)})

    def _mean(self) -> SharedValue:
        """Adds up this party's shares of all predictions, and one noise for the whole query; local."""
        total, rows = self._predicted.sum(axis=0), len(self._predicted)
        if self._output.has_noise:
            total = with_noise(self._job, self._output, total, self._draw, times=rows)
        factor = np.int64(((2 << _MEAN_BITS) // rows + 1) // 2)
        return SharedValue(total * factor, scale_bits=VALUE_BITS + _MEAN_BITS, magnitude_bits=62)


def predicted_columns(job: Job) -> int:
    """Returns how many columns `predicted_share` has: one per class if there are several and not only the label is opened."""
    kinds = (OutputKind.PROBABILITY, OutputKind.SCORE, OutputKind.MEAN)
    several = job.outputs[0].kind in kinds and job.task is Task.CLASSES
    return job.label_width if several else 1


def predicted_share(job: Job, block: Block, *, draw: Draw | None = None) -> RingArray:
    """Returns this party's share of what the output's constraint lets out of predictions: (rows, columns) int64.

    Args:
        job: the agreed job; its one output says what is predicted.
        block: samples, and what the model makes of them.
        draw: gives this party's noise, for an output that has some.

    Learns: nobody anything; everything opened is uniform.
    """
    engine, output, rows = current_engine(), job.outputs[0], block.rows
    if output.kind is OutputKind.LABEL and not output.has_noise and output.abstain_below == "0":
        return engine.run(plain_labels(engine, job.task, plain_term(block.logits()), output, rows))
    if output.kind is OutputKind.SCORE:
        return engine.run(constrained(engine, block.logits().settle(VALUE_BITS).share, output, rows))
    given = block.outputs() if job.task is Task.REAL else _probabilities(job, block.logits())
    predicted = given.settle(VALUE_BITS).share
    if output.has_noise or output.kind is OutputKind.MEAN:
        predicted = engine.run(within_range(engine, predicted, job.task))
    if output.kind is OutputKind.MEAN:
        return predicted
    if output.has_noise:
        predicted = with_noise(job, output, predicted, draw)
    chosen = noisy_labels if output.kind is OutputKind.LABEL else constrained
    return engine.run(chosen(engine, predicted, output, rows))


def predicted_value(share: RingArray, output: Output) -> SharedValue:
    """Returns predictions as a result: (rows, 1) becomes (rows,)."""
    flat = share[:, 0] if share.shape[1] == 1 else share
    return SharedValue(flat, scale_bits=opened_scale_bits(output), magnitude_bits=_MAGNITUDE_BITS)


def _probabilities(job: Job, logits: SharedTensor) -> SharedTensor:
    with crypten.no_grad():
        probabilities: SharedTensor = logits.softmax(1) if job.task is Task.CLASSES else logits.sigmoid()
    return probabilities
