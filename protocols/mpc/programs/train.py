"""Joint training: mini-batch gradient descent with momentum on rows of several owners.

The order of the rows is public and the data matrix is opened masked once; every step reuses slices of that mask. Nothing
about loss or gradients is ever opened.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import PARAMETER_BITS
from protocols.job import Job, Training
from protocols.mpc.combination import settle_all
from protocols.mpc.inputs import shared_rows
from protocols.mpc.programs.program import Program, Results
from protocols.mpc.row_order import row_order
from protocols.mpc.tensor import SharedTensor, build_module, crypten, current_engine
from protocols.mpc.tensor.shared_tensor import PARAMETER_LIMIT_BITS
from protocols.mpc.values import SharedValue, ValueView
from protocols.plan.plan import Part, Stage
from protocols.ring import RingArray

OPEN = "open data"
STEP = "step"
LAST_STEP = "last step"


def training_schedule(num_rows: int, training: Training) -> tuple[Stage, ...]:
    """Returns the schedule: the data once, then every epoch's batches; a smaller last batch is kept."""
    batch = min(training.batch_size, num_rows)
    whole, rest = divmod(num_rows, batch)
    parts = (Part(STEP, whole, batch), *([Part(LAST_STEP, 1, rest)] if rest else []))
    return Stage(1, (Part(OPEN, 1, 0),)), Stage(training.epochs, parts)


class TrainProgram(Program):
    """One party's side of a training.

    Args:
        job: the agreed job.
        features: (rows, features) int64 share, in the order of the data sets.
        labels: (rows, 1) int64 share.
        initial_weights: public start of every parameter.
    """

    def __init__(
        self, *, job: Job, features: RingArray, labels: RingArray, initial_weights: Mapping[str, NDArray[np.floating]]
    ) -> None:
        training = _training(job)
        order = row_order(training.shuffle_seed, job.num_rows)
        self._features = shared_rows(features[order], for_session=True)
        self._labels = shared_rows(labels[order], for_session=False)
        parameters = {
            spec.name: SharedTensor.from_public(initial_weights[spec.name].astype(np.float64), PARAMETER_BITS)
            for spec in job.model.parameters
        }
        self._module = build_module(job.model, parameters, trains=True)
        self._loss = crypten.nn.BCEWithLogitsLoss(skip_forward=True)
        self._optimiser = crypten.optim.SGD(
            list(parameters.values()),
            lr=float(training.learning_rate),
            momentum=float(training.momentum),
            grad_threshold=None,
        )
        self._momenta: list[SharedTensor] = []
        if float(training.momentum) > 0:
            # Public zeros instead of a first step that makes them: then every step has the same operations.
            for tensor in parameters.values():
                momentum = SharedTensor.from_public(np.zeros(tuple(tensor.size())), PARAMETER_BITS)
                self._optimiser.state[id(tensor)]["momentum_buffer"] = momentum
                self._momenta.append(momentum)

    def run_segment(self, name: str) -> None:
        """Opens the data matrix masked, or makes one step on the current batch."""
        if name == OPEN:
            engine = current_engine()
            engine.run(SharedValue.open_masked(engine, [self._features]))
        else:
            self._step()

    def results(self) -> Results:
        """Returns the trained parameters at 24 fractional bits."""
        return Results(model={name: tensor.settle(PARAMETER_BITS) for name, tensor in self._module.parameters.items()})

    def _step(self) -> None:
        window = current_engine().window
        features = SharedTensor.of(ValueView(self._features, window=window))
        labels = SharedTensor.of(ValueView(self._labels, window=window))
        self._optimiser.zero_grad()
        self._loss(self._module(features), labels).backward()
        self._optimiser.step()
        self._settle()

    def _settle(self) -> None:
        """Truncates all parameters and momenta in one round."""
        engine = current_engine()
        tensors = [*self._module.parameters.values(), *self._momenta]
        magnitude = PARAMETER_BITS + PARAMETER_LIMIT_BITS
        pending = settle_all(engine, [t.combination for t in tensors], PARAMETER_BITS, magnitude_bits=magnitude)
        for tensor, value in zip(tensors, engine.run(pending), strict=True):
            tensor.assign(value)


def _training(job: Job) -> Training:
    if job.training is None:
        raise ConfideError(ErrorCode.INVALID_JOB, "a training without hyper-parameters")
    return job.training
