"""Private training of linear and logistic regression on shares: noise on every sum, nothing opened.

See docs/protocols/shared-gradients.md.

A step takes all rows. The sum of residual times row is never rounded before the owners' noise is on it: both are added as
integers at 32 fractional bits. What follows, the weights of all steps and the model in the end, depends on the rows through these
noisy sums alone. Parties learn nothing of a step; not even whether its numbers were in range, which depends on the rows
(`shared_gradients_design.check_fits` has refused settings that could leave it).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import PARAMETER_BITS, VALUE_BITS
from protocols.job import Job, Task
from protocols.mpc.combination import Combination
from protocols.mpc.engine import Engine
from protocols.mpc.engine import Steps as Protocol
from protocols.mpc.inputs import shared_rows
from protocols.mpc.primitives.products import partial_product, product
from protocols.mpc.primitives.relu import relu
from protocols.mpc.primitives.sigmoid import sigmoid
from protocols.mpc.primitives.truncation import truncate
from protocols.mpc.programs.optimisers import SgdSteps, State, parameter_of, zero_state
from protocols.mpc.programs.program import Program, Results
from protocols.mpc.programs.rates import LearningRates
from protocols.mpc.programs.step_noise import StepNoise
from protocols.mpc.shared_gradients_design import (
    GRID_BITS,
    check_fits,
    design,
    gradient_bounds,
    gradient_factor,
    logit_bits,
    training_of,
)
from protocols.mpc.tensor import current_engine
from protocols.mpc.values import PartialShare, SharedValue, ValueView
from protocols.plan.plan import Part, Stage
from protocols.ring import RingArray

OPEN = "open data"
BLOCK = "block of rows"
STEP = "private step"
BLOCK_ROWS = 1 << 16  # a block's sigmoids take some 40 MB of material
_PRODUCT_BITS = VALUE_BITS + PARAMETER_BITS


def private_schedule(job: Job) -> tuple[Stage, ...]:
    """Returns the schedule: the data once; in every step all blocks of rows, the last one with noise and update.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) for settings whose numbers could leave their range.
    """
    check_fits(job)
    blocks = (job.num_rows - 1) // BLOCK_ROWS
    before = (Part(BLOCK, blocks, BLOCK_ROWS),) if blocks else ()
    step = Part(STEP, 1, job.num_rows - blocks * BLOCK_ROWS)
    return Stage(1, (Part(OPEN, 1, 0),)), Stage(training_of(job).epochs, (*before, step))


@dataclass(frozen=True)
class _Names:
    """The trained parameters; a model may have no bias."""

    weight: str
    bias: str | None


class PrivateTrainProgram(Program):
    """One party's side of a private training on shares.

    Args:
        job: the agreed job.
        features: (rows, features) int64 share of the rows as their owners shortened them.
        labels: (rows, 1) int64 share of their labels.
        start: parameters by name, as shares.
        noise: of (steps, parameters): share of the sum of all owners' noise at 32 fractional bits, in the order of the model's
            trained parameters. It is read towards the end of each step: in the first one it may still be filled.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) for settings whose numbers could leave their range; INTERNAL (ours) if
            the noise is of another shape, or not there when a step needs it.
    """

    def __init__(self, *, job: Job, features: RingArray, labels: RingArray, start: State, noise: StepNoise) -> None:
        check_fits(job)
        wanted = design(job, 0)
        if noise.shape != (wanted.steps, wanted.used):
            raise ConfideError(ErrorCode.INTERNAL, "the noise of a private training is not that of its steps")
        training = training_of(job)
        self._task = job.task
        self._features = shared_rows(features, for_session=True)
        self._labels = labels
        self._noise = noise
        self._names = _names(job)
        self._factor = gradient_factor(job)
        self._sum_bits = gradient_bounds(job).magnitude_bits
        self._logit_bits = logit_bits(job)
        self._optimiser = SgdSteps(training.optimiser, LearningRates(training, 1))
        shapes = {spec.name: spec.shape for spec in job.model.trained}
        self._values: State = {name: start[name] for name in shapes}
        self._state: State = zero_state(training.optimiser, shapes)
        self._step = 0
        self._so_far: RingArray | None = None  # the sum over the blocks of a step before the last

    @property
    def steps_done(self) -> int:
        """See `Program`."""
        return self._step

    def run_segment(self, name: str) -> None:
        """Opens the data matrix masked, adds up a block of rows, or does so with the last and makes the step."""
        engine = current_engine()
        if name == OPEN:
            engine.run(SharedValue.open_masked(engine, [self._features]))
        elif name == BLOCK:
            weights, bias = engine.run(self._gradients(engine))
            block = np.concatenate([weights.whole().reshape(-1), bias])
            self._so_far = block if self._so_far is None else self._so_far + block
        else:
            engine.run(self._make_step(engine))

    def state(self) -> State:
        """Returns parameters and momenta, by their kept names."""
        return {**self._values, **self._state}

    def results(self) -> Results:
        """Returns the trained parameters and the momenta, which are functions of the same noisy sums."""
        return Results(model=self.state())

    def _gradients(self, engine: Engine) -> Protocol[tuple[PartialShare, RingArray]]:
        """Returns this party's shares of the sums over the block at 32 fractional bits: weights (1, features), bias (1,) or (0,).

        Four rounds for a logistic regression, seven for a linear one.
        """
        rows = ValueView(self._features, window=engine.window)
        residual = yield from self._residuals(engine, rows)
        kept = SharedValue(residual, scale_bits=VALUE_BITS, magnitude_bits=VALUE_BITS + 1)
        weights = yield from partial_product(engine, rows.transpose, ValueView(kept))
        bias = residual.sum(axis=0) << np.int64(GRID_BITS - VALUE_BITS)
        return weights.transpose(), bias if self._names.bias is not None else bias[:0]

    def _residuals(self, engine: Engine, rows: ValueView) -> Protocol[RingArray]:
        window = engine.window
        labels = self._labels if window is None else self._labels[window.start : window.stop]
        # Every block of a step opens the weights anew, under a mask of its own.
        weight = parameter_of(self._values[self._names.weight].share)
        predicted = yield from product(engine, rows, ValueView(weight).transpose)
        if self._names.bias is not None:
            predicted = predicted + (self._values[self._names.bias].share << np.int64(VALUE_BITS))
        return (yield from residuals(engine, predicted, labels, task=self._task, logit_bits=self._logit_bits))

    def _make_step(self, engine: Engine) -> Protocol[None]:
        weights, bias = yield from self._gradients(engine)
        # Noise and earlier blocks are added before anything else is done with the sum.
        noise = self._noise.of_step(self._step)
        added = noise if self._so_far is None else noise + self._so_far
        weights = weights.plus(PartialShare(added[: weights.share.size].reshape(weights.shape)))
        sums = {self._names.weight: self._combination(weights)}
        if self._names.bias is not None:
            sums[self._names.bias] = self._combination(PartialShare(bias + added[weights.share.size :]))
        ordered = {name: sums[name] for name in self._values}
        stepped = yield from self._optimiser.step(engine, self._values, ordered, self._state, step=self._step)
        self._values, self._state = stepped.parameters, stepped.state
        self._so_far = None
        self._step += 1

    def _combination(self, noisy_sum: PartialShare) -> Combination:
        value = SharedValue(noisy_sum, scale_bits=GRID_BITS, magnitude_bits=self._sum_bits)
        return Combination.of(value).times(self._factor)


def residuals(engine: Engine, predicted: RingArray, labels: RingArray, *, task: Task, logit_bits: int) -> Protocol[RingArray]:
    """Returns this party's share of prediction less label, (rows, 1) at 16 fractional bits.

    Its absolute value is at most `residual_limit` for every number of the ring that a prediction may be: two rounds of a sigmoid,
    or five for a number, which is clamped.

    Args:
        engine: this party's engine.
        predicted: (rows, 1) int64 at 40 fractional bits, before a sigmoid; secret.
        labels: (rows, 1) int64 at 16 fractional bits, within [-1, 1]; secret.
        task: binary or real; public.
        logit_bits: log2 of the largest logit that is right, not only bounded; public.

    Learns: nobody anything; everything opened is uniform.
    """
    if task is not Task.REAL:
        probability = yield from sigmoid(engine, predicted, _PRODUCT_BITS, _PRODUCT_BITS + logit_bits)
        return probability - labels
    # What a truncation leaves is below 2^43 for every number of the ring, so nothing wraps before it is clamped.
    difference = (yield from truncate(engine, predicted, PARAMETER_BITS)) - labels
    return (yield from _clamp(engine, difference))


def _clamp(engine: Engine, share: RingArray) -> Protocol[RingArray]:
    """Returns this party's share of the value within [-1, 1], exactly; four rounds.

    Args:
        engine: this party's engine.
        share: (count, 1) int64 at 16 fractional bits, secret; absolute value below 2^62.
    """
    one = engine.public(np.full(share.shape, 1 << VALUE_BITS, np.int64))
    kept, _ = yield from relu(engine, np.concatenate([share + one, share - one]))
    clamped: RingArray = kept[: len(share)] - kept[len(share) :] - one
    return clamped


def _names(job: Job) -> _Names:
    weight, *bias = [spec.name for spec in job.model.trained]
    return _Names(weight, bias[0] if bias else None)
