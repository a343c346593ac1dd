"""Joint inference: predictions for the querier's samples with a model held as shares."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from protocols.fixed_point import VALUE_BITS
from protocols.job import Job, OutputKind, Task
from protocols.mpc.programs.constraints import constrained, opened_scale_bits
from protocols.mpc.programs.forward import OPEN_MODEL, Forward
from protocols.mpc.programs.predict import plain_term, predicted_classes
from protocols.mpc.programs.program import Program, Results
from protocols.mpc.tensor import SharedTensor, crypten, current_engine
from protocols.mpc.values import SharedValue
from protocols.ring import RingArray

_MAGNITUDE_BITS = VALUE_BITS + 20  # of what is opened: values stay below 2^20, and no number of decimals is finer than 16 bits


class InferProgram(Program):
    """Predicts for the querier's samples what the output's constraint lets out.

    Args:
        job: the agreed job.
        model_share: int64 share of every parameter at 24 fractional bits.
        query_share: (rows, features) int64 share at 16 fractional bits, from the querier.
    """

    def __init__(self, *, job: Job, model_share: Mapping[str, RingArray], query_share: RingArray) -> None:
        self._job = job
        self._output = job.outputs[0]
        self._forward = Forward(job=job, model_share=model_share, features=query_share)
        several = self._output.kind is OutputKind.PROBABILITY and job.task is Task.CLASSES
        self._predicted = np.zeros((len(query_share), job.label_width if several else 1), np.int64)

    def run_segment(self, name: str) -> None:
        """Predicts for the current block of samples."""
        if name == OPEN_MODEL:
            self._forward.open_model()
            return
        engine = current_engine()
        window = engine.window
        rows = slice(None) if window is None else slice(window.start, window.stop)
        match self._output.kind:
            case OutputKind.LABEL:
                logits = plain_term(self._forward.logits())
                self._predicted[rows] = engine.run(predicted_classes(engine, self._job.task, logits)).labels
            case OutputKind.VALUE:
                self._predicted[rows] = self._constrained(self._forward.outputs())
            case _:
                self._predicted[rows] = self._constrained(self._probabilities())

    def results(self) -> Results:
        """Returns labels (rows,) as whole numbers; probabilities or values at 16 bits: (rows,), several (rows, classes).

        Rounded ones are whole numbers, in units of the last decimal.
        """
        share = self._predicted[:, 0] if self._predicted.shape[1] == 1 else self._predicted
        value = SharedValue(share, scale_bits=opened_scale_bits(self._output), magnitude_bits=_MAGNITUDE_BITS)
        return Results(outputs={self._output.name: value})

    def _constrained(self, predicted: SharedTensor) -> RingArray:
        engine = current_engine()
        return engine.run(constrained(engine, predicted.settle(VALUE_BITS).share, self._output))

    def _probabilities(self) -> SharedTensor:
        logits = self._forward.logits()
        with crypten.no_grad():
            probabilities: SharedTensor = logits.softmax(1) if self._job.task is Task.CLASSES else logits.sigmoid()
        return probabilities
