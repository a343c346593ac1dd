"""Joint evaluation and joint inference with a model held as shares."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from protocols.fixed_point import PARAMETER_BITS, VALUE_BITS
from protocols.job import Job, OutputKind
from protocols.mpc.inputs import shared_rows
from protocols.mpc.programs.program import Program, Results
from protocols.mpc.tensor import SharedModule, SharedTensor, build_module, crypten
from protocols.mpc.tensor.shared_tensor import PARAMETER_LIMIT_BITS
from protocols.mpc.values import SharedValue
from protocols.plan.plan import Part, Stage
from protocols.ring import RingArray

FORWARD = "forward"
SCHEDULE = (Stage(1, (Part(FORWARD, 1, 0),)),)


class EvaluateProgram(Program):
    """Counts correct predictions in shares; only the count is an output.

    Args:
        job: the agreed job.
        model_share: int64 share of every parameter at 24 fractional bits.
        features: (rows, features) int64 share.
        labels: (rows, 1) int64 share.
    """

    def __init__(self, *, job: Job, model_share: Mapping[str, RingArray], features: RingArray, labels: RingArray) -> None:
        self._output = job.outputs[0]
        self._module = _module(job, model_share)
        self._features = SharedTensor.of(shared_rows(features, for_session=False))
        self._labels = SharedTensor.of(shared_rows(labels, for_session=False))
        self._count: SharedValue | None = None

    def run_segment(self, name: str) -> None:
        """Predicts [logit >= 0] for every row and adds up how often that is the label."""
        with crypten.no_grad():
            predicted = self._module(self._features).ge(0)
            # For bits p and y: [p = y] = 1 - p - y + 2 p y.
            both = predicted.mul(self._labels).mul(2)
            correct = both.sub(predicted).sub(self._labels).add(np.ones(tuple(predicted.size()))).sum(0)
        self._count = correct.settle(VALUE_BITS)

    def results(self) -> Results:
        """Returns the count, (1,), exact at 16 fractional bits."""
        return Results(outputs={} if self._count is None else {self._output.name: self._count})


class InferProgram(Program):
    """Predicts for the querier's samples.

    Args:
        job: the agreed job.
        model_share: int64 share of every parameter at 24 fractional bits.
        query_share: (rows, features) int64 share at 16 fractional bits, from the querier.
    """

    def __init__(self, *, job: Job, model_share: Mapping[str, RingArray], query_share: RingArray) -> None:
        self._output = job.outputs[0]
        self._module = _module(job, model_share)
        samples = SharedValue(query_share, scale_bits=VALUE_BITS, magnitude_bits=VALUE_BITS, for_session=False)
        self._samples = SharedTensor.of(samples)
        self._predicted: SharedValue | None = None

    def run_segment(self, name: str) -> None:
        """Computes what the output's constraint lets out: a label or a probability for every sample."""
        with crypten.no_grad():
            logits = self._module(self._samples)
            is_label = self._output.kind is OutputKind.LABEL
            predicted = logits.ge(0).settle(0) if is_label else logits.sigmoid().settle(VALUE_BITS)
        self._predicted = SharedValue(
            predicted.share.reshape(-1), scale_bits=predicted.scale_bits, magnitude_bits=predicted.magnitude_bits
        )

    def results(self) -> Results:
        """Returns (rows,): labels as whole numbers, or probabilities at 16 fractional bits."""
        return Results(outputs={} if self._predicted is None else {self._output.name: self._predicted})


def _module(job: Job, model_share: Mapping[str, RingArray]) -> SharedModule:
    magnitude = PARAMETER_BITS + PARAMETER_LIMIT_BITS
    parameters = {
        spec.name: SharedTensor.of(SharedValue(model_share[spec.name], scale_bits=PARAMETER_BITS, magnitude_bits=magnitude))
        for spec in job.model.parameters
    }
    return build_module(job.model, parameters, trains=False)
