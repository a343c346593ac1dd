"""Public hyper-parameters of a joint training: loss, optimiser, learning-rate schedule, checkpoints.

Decimals are texts as the querier wrote them, so that every party computes with the same digits and derives the same plan.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

from protocols.errors import Problem
from protocols.job_fields import check_decimal, check_hex, read_object, read_text, read_whole
from protocols.private_training import MAX_PRIVATE_STEPS, PrivateTraining, check_private_training, read_private_training

MAX_EPOCHS = 1_000
MAX_BATCH = 65_536
MAX_STEPS = 10_000_000


class Loss(Enum):
    """What a training makes small."""

    BINARY_CROSS_ENTROPY = "binary_cross_entropy"
    CROSS_ENTROPY = "cross_entropy"
    MEAN_SQUARED_ERROR = "mean_squared_error"


class OptimiserKind(Enum):
    """How a gradient becomes a step."""

    SGD = "sgd"
    ADAM = "adam"


class ScheduleKind(Enum):
    """How the learning rate changes from epoch to epoch."""

    CONSTANT = "constant"
    STEP = "step"  # times `factor` after every `every_epochs` epochs
    LINEAR = "linear"  # from 1 in the first epoch to `factor` in the last


@dataclass(frozen=True)
class Optimiser:
    """SGD with momentum as in torch, or Adam (Kingma and Ba 2015); fields of the other kind are "0".

    Attributes:
        kind: which.
        learning_rate: decimal, before the schedule.
        weight_decay: decimal, added to the gradient as torch does.
        momentum: SGD.
        beta1: Adam: decay of the mean of gradients.
        beta2: Adam: decay of the mean of squared gradients.
        epsilon: Adam: added to the root of the mean of squared gradients.
    """

    kind: OptimiserKind
    learning_rate: str
    weight_decay: str = "0"
    momentum: str = "0"
    beta1: str = "0"
    beta2: str = "0"
    epsilon: str = "0"


@dataclass(frozen=True)
class Schedule:
    """A public learning-rate schedule; `every_epochs` is 0 and `factor` "1" where the kind has no use for them."""

    kind: ScheduleKind = ScheduleKind.CONSTANT
    every_epochs: int = 0
    factor: str = "1"

    def multiplier(self, epoch: int, epochs: int) -> Fraction:
        """Returns what the learning rate is multiplied with in an epoch, exactly.

        Args:
            epoch: counted from 0.
            epochs: of the training in all.
        """
        match self.kind:
            case ScheduleKind.CONSTANT:
                return Fraction(1)
            case ScheduleKind.STEP:
                return Fraction(self.factor) ** (epoch // self.every_epochs)
            case ScheduleKind.LINEAR:
                return Fraction(1) if epochs == 1 else 1 + (Fraction(self.factor) - 1) * Fraction(epoch, epochs - 1)


@dataclass(frozen=True)
class CheckpointRule:
    """When sealed checkpoints are made: after every so many epochs, and every so many minutes by the lead's clock; 0 is never."""

    every_epochs: int = 1
    every_minutes: int = 0


@dataclass(frozen=True)
class Training:
    """All hyper-parameters of a mini-batch training; public.

    Attributes:
        epochs: passes over the rows.
        batch_size: rows of a step; a smaller last batch is kept.
        loss: what is made small.
        optimiser: how.
        schedule: of the learning rate.
        checkpoints: when the shares are sealed, so that a later job can go on from there.
        shuffle_seed: 32 hexadecimal digits, public: the order of the rows and the masks of dropout are no secret.
        steps_before: steps that the shares this training starts from have behind them; 0 from public weights.
        privacy: the terms of differential privacy; None for a training without any formal guarantee.
    """

    epochs: int
    batch_size: int
    loss: Loss
    optimiser: Optimiser
    schedule: Schedule
    checkpoints: CheckpointRule
    shuffle_seed: str
    steps_before: int = 0
    privacy: PrivateTraining | None = None

    def to_document(self) -> dict[str, Any]:
        """Returns the hyper-parameters as a document."""
        return {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "loss": self.loss.value,
            "optimiser": {**vars(self.optimiser), "kind": self.optimiser.kind.value},
            "schedule": {**vars(self.schedule), "kind": self.schedule.kind.value},
            "checkpoints": dict(vars(self.checkpoints)),
            "shuffle_seed": self.shuffle_seed,
            "steps_before": self.steps_before,
            "privacy": None if self.privacy is None else self.privacy.to_document(),
        }


def read_training(entry: Any) -> Training:
    """Reads a document; refuses unknown and missing fields and other types.

    Raises:
        ValueError: it is no training.
    """
    document = _fields(entry, Training)
    optimiser = _fields(document["optimiser"], Optimiser)
    schedule = _fields(document["schedule"], Schedule)
    checkpoints = _fields(document["checkpoints"], CheckpointRule)
    decimals = {name: read_text(value) for name, value in optimiser.items() if name != "kind"}
    return Training(
        epochs=read_whole(document["epochs"]),
        batch_size=read_whole(document["batch_size"]),
        loss=Loss(document["loss"]),
        optimiser=Optimiser(kind=OptimiserKind(optimiser["kind"]), **decimals),
        schedule=Schedule(ScheduleKind(schedule["kind"]), read_whole(schedule["every_epochs"]), read_text(schedule["factor"])),
        checkpoints=CheckpointRule(read_whole(checkpoints["every_epochs"]), read_whole(checkpoints["every_minutes"])),
        shuffle_seed=read_text(document["shuffle_seed"]),
        steps_before=read_whole(document["steps_before"]),
        privacy=None if document["privacy"] is None else read_private_training(document["privacy"]),
    )


def check_training(training: Training) -> Iterable[Problem]:
    """Yields everything wrong with hyper-parameters that were read."""
    for where, value, least, most in (
        ("epochs", training.epochs, 1, MAX_EPOCHS if training.privacy is None else MAX_PRIVATE_STEPS),
        ("batch_size", training.batch_size, 1, MAX_BATCH if training.privacy is None else MAX_STEPS),
        ("steps_before", training.steps_before, 0, MAX_STEPS),
        ("checkpoints.every_epochs", training.checkpoints.every_epochs, 0, MAX_EPOCHS),
        ("checkpoints.every_minutes", training.checkpoints.every_minutes, 0, 24 * 60),
    ):
        if not least <= value <= most:
            yield Problem(f"training.{where}", f"{value} is outside {least} to {most}", "choose a value inside")
    yield from check_hex("training.shuffle_seed", training.shuffle_seed, 32)
    yield from _check_optimiser(training.optimiser)
    yield from _check_schedule(training.schedule)
    if training.privacy is not None:
        yield from check_private_training(training.privacy)


def _check_optimiser(optimiser: Optimiser) -> Iterable[Problem]:
    where = "training.optimiser."
    yield from check_decimal(f"{where}learning_rate", optimiser.learning_rate, Decimal("0.000001"), Decimal(16))
    yield from check_decimal(f"{where}weight_decay", optimiser.weight_decay, Decimal(0), Decimal(1))
    match optimiser.kind:
        case OptimiserKind.SGD:
            yield from check_decimal(f"{where}momentum", optimiser.momentum, Decimal(0), Decimal("0.999"))
            unused = ["beta1", "beta2", "epsilon"]
        case OptimiserKind.ADAM:
            unsound = [
                *check_decimal(f"{where}beta1", optimiser.beta1, Decimal("0.5"), Decimal("0.999")),
                *check_decimal(f"{where}beta2", optimiser.beta2, Decimal("0.9"), Decimal("0.9999")),
            ]
            yield from unsound
            yield from check_decimal(f"{where}epsilon", optimiser.epsilon, Decimal("0.0001"), Decimal(1))
            unused = ["momentum"]
            if not unsound and Decimal(optimiser.beta1) ** 2 >= Decimal(optimiser.beta2):
                # Else the mean may outlive the root of the squares and their quotient leave every bound.
                yield Problem(f"{where}beta2", "the square of beta1 must be below it", "write for example 0.9 and 0.999")
    for name in unused:
        if getattr(optimiser, name) != "0":
            yield Problem(f"{where}{name}", f"{optimiser.kind.value} has no use for it", 'write "0"')


def _check_schedule(schedule: Schedule) -> Iterable[Problem]:
    where = "training.schedule."
    if schedule.kind is not ScheduleKind.CONSTANT:
        yield from check_decimal(f"{where}factor", schedule.factor, Decimal("0.001"), Decimal(1))
    elif schedule.factor != "1":
        yield Problem(f"{where}factor", "a constant schedule has no factor", 'write "1"')
    if (schedule.kind is ScheduleKind.STEP) != (1 <= schedule.every_epochs <= MAX_EPOCHS) or schedule.every_epochs < 0:
        yield Problem(f"{where}every_epochs", "only a step schedule has it, from 1", "write 0, or choose the kind step")


def _fields(entry: Any, kind: type) -> dict[str, Any]:
    document = read_object(entry)
    if set(document) != set(kind.__annotations__):
        raise ValueError(f"{kind.__name__} has the fields {', '.join(kind.__annotations__)}")
    return dict(document)
