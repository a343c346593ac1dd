"""The hyper-parameters of a request, as a researcher writes them; what she leaves out has a plain default.

training: {epochs: 10, batch_size: 32, learning_rate: "0.5", momentum: "0.9"}     # short: SGD

training:
  epochs: 10
  batch_size: 32
  loss: cross_entropy             # binary_cross_entropy | cross_entropy | mean_squared_error; else the task's own
  optimiser: {kind: adam, learning_rate: "0.01", weight_decay: "0.001"}      # or sgd, with momentum
  schedule: {kind: step, every_epochs: 5, factor: "0.5"}                     # or linear, with factor; else constant
  checkpoints: {every_epochs: 1, every_minutes: 10}
  privacy: {...}                  # terms of differential privacy: private_request.py; epochs are then steps
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from parties.client.private_request import DecimalText as DecimalText
from parties.client.private_request import PrivacyRequest
from protocols.job import Task
from protocols.training import CheckpointRule, Loss, Optimiser, OptimiserKind, Schedule, ScheduleKind, Training

_OWN_LOSS = {
    Task.BINARY: Loss.BINARY_CROSS_ENTROPY,
    Task.CLASSES: Loss.CROSS_ENTROPY,
    Task.REAL: Loss.MEAN_SQUARED_ERROR,
}


class Strict(BaseModel):
    """A part of a request: unknown fields and other types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SgdRequest(Strict):
    """Stochastic gradient descent."""

    kind: Literal["sgd"]
    learning_rate: DecimalText
    momentum: DecimalText = "0"
    weight_decay: DecimalText = "0"

    def optimiser(self) -> Optimiser:
        """Returns it as the job names it."""
        return Optimiser(OptimiserKind.SGD, self.learning_rate, self.weight_decay, momentum=self.momentum)


class AdamRequest(Strict):
    """Adam; epsilon is larger than torch's, whose 1e-8 is below what shares resolve."""

    kind: Literal["adam"]
    learning_rate: DecimalText = "0.001"
    beta1: DecimalText = "0.9"
    beta2: DecimalText = "0.999"
    epsilon: DecimalText = "0.0001"
    weight_decay: DecimalText = "0"

    def optimiser(self) -> Optimiser:
        """Returns it as the job names it."""
        return Optimiser(
            OptimiserKind.ADAM,
            self.learning_rate,
            self.weight_decay,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
        )


class ConstantRequest(Strict):
    """The learning rate stays."""

    kind: Literal["constant"]

    def schedule(self) -> Schedule:
        """Returns it as the job names it."""
        return Schedule()


class StepRequest(Strict):
    """The learning rate is multiplied after every so many epochs."""

    kind: Literal["step"]
    every_epochs: int
    factor: DecimalText

    def schedule(self) -> Schedule:
        """Returns it as the job names it."""
        return Schedule(ScheduleKind.STEP, self.every_epochs, self.factor)


class LinearRequest(Strict):
    """The learning rate goes in a line to `factor` of itself in the last epoch."""

    kind: Literal["linear"]
    factor: DecimalText

    def schedule(self) -> Schedule:
        """Returns it as the job names it."""
        return Schedule(ScheduleKind.LINEAR, 0, self.factor)


class CheckpointsRequest(Strict):
    """When the parties seal their shares, so that a training that ends early can go on; 0 is never."""

    every_epochs: int = 1
    every_minutes: int = 0


class TrainingRequest(Strict):
    """Hyper-parameters; decimals are quoted so that everybody reads the same digits."""

    epochs: int
    batch_size: int | None = None
    learning_rate: DecimalText | None = None
    momentum: DecimalText | None = None
    loss: Literal["binary_cross_entropy", "cross_entropy", "mean_squared_error"] | None = None
    optimiser: Annotated[SgdRequest | AdamRequest, Field(discriminator="kind")] | None = None
    schedule: Annotated[ConstantRequest | StepRequest | LinearRequest, Field(discriminator="kind")] | None = None
    checkpoints: CheckpointsRequest | None = None
    privacy: PrivacyRequest | None = None

    @model_validator(mode="after")
    def _one_optimiser(self) -> TrainingRequest:
        if self.optimiser is None and self.learning_rate is None:
            raise PydanticCustomError("no_learning_rate", "no learning_rate, and no optimiser that has one")
        if self.optimiser is not None and (self.learning_rate is not None or self.momentum is not None):
            raise PydanticCustomError("two_optimisers", "learning_rate and momentum stand beside an optimiser")
        return self

    @model_validator(mode="after")
    def _private_ones_make_no_checkpoints(self) -> TrainingRequest:
        asked = self.checkpoints is not None and (self.checkpoints.every_epochs or self.checkpoints.every_minutes)
        if self.privacy is not None and asked:
            raise PydanticCustomError("no_checkpoints", "a private training cannot go on from a checkpoint, so it makes none")
        return self

    @model_validator(mode="after")
    def _has_batch_size(self) -> TrainingRequest:
        uses_all_rows = self.privacy is not None and self.privacy.mechanism == "shared_gradients"
        if self.batch_size is None and not uses_all_rows:
            raise PydanticCustomError("no_batch_size", "no batch_size")
        return self

    def training(self, *, task: Task, shuffle_seed: str, steps_before: int) -> Training:
        """Returns the hyper-parameters as the job names them, without terms of differential privacy.

        Args:
            task: of the data sets; decides the loss unless the request does.
            shuffle_seed: 32 hexadecimal digits, fresh, public.
            steps_before: that the model to go on from has behind it; 0 from public weights.
        """
        # A private training cannot go on from a checkpoint, so it makes none.
        checkpoints = self.checkpoints or CheckpointsRequest(every_epochs=0 if self.privacy is not None else 1)
        all_rows = 0 if self.privacy is None else self.privacy.nominal_rows
        short = SgdRequest(kind="sgd", learning_rate=self.learning_rate or "0", momentum=self.momentum or "0")
        return Training(
            epochs=self.epochs,
            batch_size=all_rows if self.batch_size is None else self.batch_size,
            loss=_OWN_LOSS[task] if self.loss is None else Loss(self.loss),
            optimiser=(self.optimiser or short).optimiser(),
            schedule=Schedule() if self.schedule is None else self.schedule.schedule(),
            checkpoints=CheckpointRule(checkpoints.every_epochs, checkpoints.every_minutes),
            shuffle_seed=shuffle_seed,
            steps_before=steps_before,
        )
