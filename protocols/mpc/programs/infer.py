"""Joint inference: predictions for the querier's samples with a model held as shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from protocols.fixed_point import VALUE_BITS
from protocols.job import Job, Output, OutputKind, Task
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
        self._predicted = np.zeros((len(query_share), predicted_columns(job)), np.int64)

    def run_segment(self, name: str) -> None:
        """Predicts for the current block of samples."""
        if name == OPEN_MODEL:
            self._forward.open_model()
            return
        window = current_engine().window
        rows = slice(None) if window is None else slice(window.start, window.stop)
        self._predicted[rows] = predicted_share(self._job, logits=self._forward.logits, outputs=self._forward.outputs)

    def results(self) -> Results:
        """Returns labels (rows,) as whole numbers; probabilities, scores, values at 16 bits: (rows,), several (rows, classes).

        Rounded ones are whole numbers, in units of the last decimal.
        """
        return Results(outputs={self._output.name: predicted_value(self._predicted, self._output)})


def predicted_columns(job: Job) -> int:
    """Returns how many columns `predicted_share` has: one per class if there are several and not only the label is opened."""
    several = job.outputs[0].kind in (OutputKind.PROBABILITY, OutputKind.SCORE) and job.task is Task.CLASSES
    return job.label_width if several else 1


def predicted_share(job: Job, *, logits: Callable[[], SharedTensor], outputs: Callable[[], SharedTensor]) -> RingArray:
    """Returns this party's share of what the output's constraint lets out of predictions: (rows, columns) int64.

    Args:
        job: the agreed job; its one output says what is predicted.
        logits: gives the input of the model's final sigmoid or softmax.
        outputs: gives the output of the whole model.

    Learns: nobody anything; everything opened is uniform.
    """
    engine, output = current_engine(), job.outputs[0]
    match output.kind:
        case OutputKind.LABEL:
            return engine.run(predicted_classes(engine, job.task, plain_term(logits()))).labels
        case OutputKind.VALUE:
            return _constrained(outputs(), output)
        case OutputKind.SCORE:
            return _constrained(logits(), output)
        case _:
            return _constrained(_probabilities(job, logits()), output)


def predicted_value(share: RingArray, output: Output) -> SharedValue:
    """Returns predictions as a result: (rows, 1) becomes (rows,)."""
    flat = share[:, 0] if share.shape[1] == 1 else share
    return SharedValue(flat, scale_bits=opened_scale_bits(output), magnitude_bits=_MAGNITUDE_BITS)


def _constrained(predicted: SharedTensor, output: Output) -> RingArray:
    engine = current_engine()
    return engine.run(constrained(engine, predicted.settle(VALUE_BITS).share, output))


def _probabilities(job: Job, logits: SharedTensor) -> SharedTensor:
    with crypten.no_grad():
        probabilities: SharedTensor = logits.softmax(1) if job.task is Task.CLASSES else logits.sigmoid()
    return probabilities
