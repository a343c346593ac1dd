"""Joint training: mini-batch gradient descent on rows of several owners.

The order of the rows is public and the data matrix is opened masked once; every step reuses slices of that mask. Nothing
about loss or gradients is ever opened but one bit at the end of every epoch: whether the numbers are in range
(docs/protocols/range-check.md). A training that is taken up again does exactly what remains of its steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import PARAMETER_BITS, encode
from protocols.job import Job
from protocols.model.layers import Dropout
from protocols.mpc.combination import settle_all
from protocols.mpc.engine import Engine, alongside
from protocols.mpc.inputs import PARAMETER_LIMIT, shared_rows
from protocols.mpc.programs.adam import AdamSteps
from protocols.mpc.programs.optimisers import (
    PARAMETER_MAGNITUDE,
    OptimiserSteps,
    SgdSteps,
    State,
    kept_value,
    parameter_of,
    zero_state,
)
from protocols.mpc.programs.program import Program, Results
from protocols.mpc.programs.range_check import GradientSamples, LastStep, diverged, gradient_limits, is_out_of_range
from protocols.mpc.programs.rates import LearningRates
from protocols.mpc.tensor import SharedTensor, build_module, crypten, current_engine, losses
from protocols.mpc.tensor.coin import public_mask
from protocols.mpc.values import SharedValue, ValueView
from protocols.plan.plan import Part, Stage
from protocols.ring import RingArray
from protocols.training import Loss, OptimiserKind, Training

OPEN = "open data"
STEP = "step"
LAST_STEP = "last step"
RANGE_CHECK = "range check"
_GRADIENTS = MappingProxyType(
    {
        Loss.BINARY_CROSS_ENTROPY: losses.logit_gradient,
        Loss.CROSS_ENTROPY: losses.cross_entropy_gradient,
        Loss.MEAN_SQUARED_ERROR: losses.squares_gradient,
    }
)


@dataclass(frozen=True)
class Steps:
    """How the steps of a training lie in its epochs; public.

    Attributes:
        batch: rows of a step.
        whole: steps of an epoch with a whole batch.
        rest: rows of the smaller last step of an epoch; 0 if there is none.
        epochs: passes over the rows.
        before: steps that earlier attempts have done.
    """

    batch: int
    whole: int
    rest: int
    epochs: int
    before: int

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch."""
        return self.whole + bool(self.rest)

    @property
    def total(self) -> int:
        """Steps of the training over all attempts."""
        return self.epochs * self.per_epoch

    @staticmethod
    def of(job: Job) -> Steps:
        """Returns the steps of a training job.

        Raises:
            ConfideError: INVALID_JOB (the querier's fault) if it resumes a training where nothing is left to do.
        """
        training = training_of(job)
        batch = min(training.batch_size, job.num_rows)
        steps = Steps(batch, *divmod(job.num_rows, batch), training.epochs, before=0 if job.resumes is None else job.resumes.run)
        if steps.before >= steps.total:
            raise ConfideError(
                ErrorCode.INVALID_JOB, f"the training has {steps.total} steps, and {steps.before} lie behind the checkpoint"
            )
        return steps

    def schedule(self) -> tuple[Stage, ...]:
        """Returns the plan's schedule: the data once, what is left of an epoch that was begun, then whole epochs.

        Every epoch ends with a range check.
        """
        done, within = divmod(self.before, self.per_epoch)
        stages = [Stage(1, (Part(OPEN, 1, 0),))]
        if within:
            stages.append(Stage(1, self._parts(self.whole - within), first_row=within * self.batch))
            done += 1
        if done < self.epochs:
            stages.append(Stage(self.epochs - done, self._parts(self.whole)))
        return tuple(stages)

    def _parts(self, whole: int) -> tuple[Part, ...]:
        steps = [Part(STEP, whole, self.batch)] if whole else []
        return (*steps, *([Part(LAST_STEP, 1, self.rest)] if self.rest else []), Part(RANGE_CHECK, 1, 0))


class TrainProgram(Program):
    """One party's side of a training.

    Args:
        job: the agreed job.
        features: (rows, features) int64 share, in the order of the steps.
        labels: (rows, label_width) int64 share, in the same order.
        start: parameters by name, and optimiser state where there is any; as shares.
    """

    def __init__(self, *, job: Job, features: RingArray, labels: RingArray, start: State) -> None:
        training = training_of(job)
        self._steps = Steps.of(job)
        self._step = self._checked = self._steps.before
        self._model = job.model
        self._training = training
        self._features = shared_rows(features, for_session=True)
        self._labels = shared_rows(labels, for_session=False)
        shapes = {spec.name: spec.shape for spec in job.model.parameters}
        zeros = zero_state(training.optimiser, {spec.name: spec.shape for spec in job.model.trained})
        self._state: State = {name: start.get(name, zero) for name, zero in zeros.items()}
        self._values: State = {name: start[name] for name in shapes}
        tensors = {name: SharedTensor.of(value) for name, value in self._values.items()}
        self._module = build_module(job.model, tensors, trains=True, coin=self._coin)
        self._rates = LearningRates(training, self._steps.per_epoch)
        self._optimiser = _optimiser(training, self._rates)
        self._last: LastStep | None = None
        sizes = {spec.name: math.prod(spec.shape) for spec in job.model.trained}
        self._samples = GradientSamples(seed=training.shuffle_seed, sizes=sizes, steps=self._steps.per_epoch - 1)

    @property
    def steps_done(self) -> int:
        """See `Program`; the last step of an epoch counts once the range check after it has passed."""
        return self._checked

    def run_segment(self, name: str) -> None:
        """Opens the data matrix masked, makes one step on the current batch, or checks what an epoch left.

        Raises:
            ConfideError: TRAINING_DIVERGED (the querier's settings) at all computing parties alike, if that is out of range.
        """
        engine = current_engine()
        if name == OPEN:
            engine.run(SharedValue.open_masked(engine, [self._features]))
        elif name == RANGE_CHECK:
            self._check_range(engine)
        else:
            self._make_step(engine)

    def _make_step(self, engine: Engine) -> None:
        self._backward(engine)
        moved = self._module.moved_statistics()
        parameters = {name: tensor for name, tensor in self._module.parameters.items() if name not in moved}
        gradients = {name: tensor.grad.combination for name, tensor in parameters.items()}
        trained = {name: self._values[name] for name in parameters}
        update = self._optimiser.step(engine, trained, gradients, self._state, step=self._step)
        statistics: list[SharedValue] = []
        if moved:
            # Running statistics are settled in the rounds of the update.
            settling = settle_all(engine, list(moved.values()), PARAMETER_BITS, magnitude_bits=PARAMETER_MAGNITUDE)
            stepped, statistics = engine.run(alongside(update, settling))
        else:
            stepped = engine.run(update)
        optimiser = self._training.optimiser
        rate = self._rates.at(self._step).value
        self._last = LastStep(optimiser, rate, trained, self._state, gradient_limits(optimiser, gradients))
        kept = {name: parameter_of(value.share) for name, value in zip(moved, statistics, strict=True)}
        stepped_to = {**stepped.parameters, **kept}
        self._values, self._state = {name: stepped_to[name] for name in self._values}, stepped.state
        for name, tensor in self._module.parameters.items():
            tensor.assign(self._values[name])
            tensor.grad = None
        within, step = self._step % self._steps.per_epoch, self._training.steps_before + self._step
        self._step += 1
        if self._step % self._steps.per_epoch:
            self._checked = self._step
            self._samples.take(within, step, self.state(), self._last)

    def _check_range(self, engine: Engine) -> None:
        if self._last is None:
            raise ConfideError(ErrorCode.INTERNAL, "a range check before the first step")
        if is_out_of_range(engine, self.state(), self._last, self._samples):
            raise diverged(self._step // self._steps.per_epoch)
        self._checked = self._step

    def state(self) -> State:
        """Returns parameters and optimiser state, by their kept names."""
        return {**self._values, **self._state}

    def results(self) -> Results:
        """Returns the trained parameters and the optimiser's state."""
        return Results(model=self.state())

    def _coin(self, layer: str, shape: tuple[int, ...]) -> NDArray[np.integer]:
        """Which values of a layer are kept in the current step; public, and the same when the training is resumed."""
        rate = next(
            Fraction(known.operator.rate)
            for known in self._model.layers
            if known.name == layer and isinstance(known.operator, Dropout)
        )
        step = self._training.steps_before + self._step
        return public_mask(self._training.shuffle_seed, step, layer, shape, rate=rate)

    def _backward(self, engine: Engine) -> None:
        window = engine.window
        features = SharedTensor.of(ValueView(self._features, window=window))
        labels = SharedTensor.of(ValueView(self._labels, window=window))
        loss = self._training.loss
        predicted = self._module.outputs(features) if loss is Loss.MEAN_SQUARED_ERROR else self._module(features)
        # The gradient alone: the loss has no use and would cost rounds.
        with crypten.no_grad():
            gradient = _GRADIENTS[loss](predicted, labels)
        predicted.backward(gradient)


def public_start(engine: Engine, weights: Mapping[str, NDArray[np.floating]]) -> State:
    """Returns this party's shares of public initial weights."""
    return {
        name: parameter_of(engine.public(encode(values.astype(np.float64), scale_bits=PARAMETER_BITS, limit=PARAMETER_LIMIT)))
        for name, values in weights.items()
    }


def shared_start(shares: Mapping[str, RingArray]) -> State:
    """Returns parameters and optimiser state from this party's kept shares."""
    return {name: kept_value(name, share) for name, share in shares.items()}


def training_of(job: Job) -> Training:
    """Returns the hyper-parameters of a training job.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) if it has none.
    """
    if job.training is None:
        raise ConfideError(ErrorCode.INVALID_JOB, "a training without hyper-parameters")
    return job.training


def _optimiser(training: Training, rates: LearningRates) -> OptimiserSteps:
    match training.optimiser.kind:
        case OptimiserKind.SGD:
            return SgdSteps(training.optimiser, rates)
        case OptimiserKind.ADAM:
            return AdamSteps(training.optimiser, rates, count_before=training.steps_before)
