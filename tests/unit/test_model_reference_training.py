"""Gradients and training of the plaintext oracle agree with torch's autograd and optimisers."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from protocols.errors import ConfideError
from protocols.job import Task
from protocols.model import reference
from protocols.model.layers import Dropout, Linear, Operator, Relu, Sigmoid, Softmax, Tanh
from protocols.model.spec import ModelSpec
from protocols.training import CheckpointRule, Loss, Optimiser, OptimiserKind, Schedule, ScheduleKind, Training
from tests.support.jobs import sgd

LOGISTIC = ModelSpec.chain(4, linear=Linear(1), sigmoid=Sigmoid())
SGD = Optimiser(OptimiserKind.SGD, "0.5", "0.01", momentum="0.9")
PLAIN_SGD = Optimiser(OptimiserKind.SGD, "0.5", "0.01")
ADAM = Optimiser(OptimiserKind.ADAM, "0.05", "0.01", beta1="0.9", beta2="0.99", epsilon="0.0001")
TORCH_OPTIMISERS: dict[Optimiser, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    SGD: lambda parameters: torch.optim.SGD(parameters, lr=0.5, weight_decay=0.01, momentum=0.9),
    PLAIN_SGD: lambda parameters: torch.optim.SGD(parameters, lr=0.5, weight_decay=0.01),
    ADAM: lambda parameters: torch.optim.Adam(parameters, lr=0.05, weight_decay=0.01, betas=(0.9, 0.99), eps=1e-4),
}
HIDDEN = (Relu(), Tanh(), Sigmoid())


class Masked(nn.Module):
    """Dropout whose masks are given."""

    def __init__(self, rate: float, coin: Callable[[tuple[int, ...]], np.ndarray]) -> None:
        super().__init__()
        self._rate, self._coin = rate, coin

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * torch.from_numpy(self._coin(tuple(values.shape))) / (1 - self._rate)


def mask(step: int, layer: str, shape: tuple[int, ...]) -> np.ndarray:
    """A public coin for tests."""
    return np.random.default_rng([step, len(layer)]).integers(0, 2, shape)


def network(
    kinds: tuple[Operator, ...], width: int, *, ending: Operator | None = None
) -> tuple[ModelSpec, dict[str, np.ndarray]]:
    """Linear layers with these activations and dropouts between, and weights in float64."""
    generator = np.random.default_rng(7)
    layers: dict[str, Operator] = {}
    for number, kind in enumerate(kinds):
        layers[f"linear_{number}"] = Linear(4, bias=number % 2 == 0)
        layers[f"act_{number}"] = kind
    layers["out"] = Linear(width)
    if ending is not None:
        layers["end"] = ending
    spec = ModelSpec.chain(4, **layers)
    return spec, {parameter.name: generator.normal(0, 0.7, parameter.shape) for parameter in spec.parameters}


def in_torch(spec: ModelSpec, weights: dict[str, np.ndarray], coin: Callable[[str, tuple[int, ...]], np.ndarray]) -> nn.Module:
    """The same network in torch, without its last sigmoid or softmax."""
    steps: list[nn.Module] = []
    activations = {Relu(): nn.ReLU, Tanh(): nn.Tanh, Sigmoid(): nn.Sigmoid}
    for layer in spec.layers:
        if isinstance(layer.operator, Linear):
            linear = nn.Linear(spec.shapes_into(layer)[0][0], layer.operator.out_features, layer.operator.bias).double()
            linear.weight.data = torch.from_numpy(weights[f"{layer.name}.weight"].copy())
            if layer.operator.bias:
                linear.bias.data = torch.from_numpy(weights[f"{layer.name}.bias"].copy())
            steps.append(linear)
        elif isinstance(layer.operator, Dropout):
            steps.append(Masked(float(layer.operator.rate), lambda shape, name=layer.name: coin(name, shape)))
        elif layer.name != "end":
            steps.append(activations[layer.operator]())
    return nn.Sequential(*steps)


def torch_loss(loss: Loss, values: torch.Tensor, labels: torch.Tensor, ending: Operator | None, width: int) -> torch.Tensor:
    match loss:
        case Loss.BINARY_CROSS_ENTROPY:
            return nn.functional.binary_cross_entropy_with_logits(values[:, 0], labels)
        case Loss.CROSS_ENTROPY:
            return nn.functional.cross_entropy(values, labels.long())
        case Loss.MEAN_SQUARED_ERROR:
            given = {None: values, Sigmoid(): values.sigmoid(), Softmax(): values.softmax(1)}[ending]
            wanted = nn.functional.one_hot(labels.long(), width).double() if width > 1 else labels[:, None]
            return nn.functional.mse_loss(given, wanted)


@pytest.mark.parametrize(
    ("loss", "task", "width", "ending"),
    [
        (Loss.BINARY_CROSS_ENTROPY, Task.BINARY, 1, Sigmoid()),
        (Loss.CROSS_ENTROPY, Task.CLASSES, 3, Softmax()),
        (Loss.CROSS_ENTROPY, Task.CLASSES, 3, None),
        (Loss.MEAN_SQUARED_ERROR, Task.BINARY, 1, Sigmoid()),
        (Loss.MEAN_SQUARED_ERROR, Task.CLASSES, 3, Softmax()),
        (Loss.MEAN_SQUARED_ERROR, Task.REAL, 1, None),
    ],
)
def test_gradients_of_every_loss_match_torch_autograd(loss: Loss, task: Task, width: int, ending: Operator | None) -> None:
    spec, weights = network((*HIDDEN, Dropout("0.4")), width, ending=ending)
    generator = np.random.default_rng(8)
    rows, labels = generator.normal(size=(11, 4)), generator.integers(0, max(2, width), 11).astype(np.float64)

    def coin(layer: str, shape: tuple[int, ...]) -> np.ndarray:
        return mask(0, layer, shape)

    module = in_torch(spec, weights, coin)
    torch_loss(loss, module(torch.from_numpy(rows)), torch.from_numpy(labels), ending, width).backward()
    found = reference.gradients(spec, weights, rows, labels, loss=loss, task=task, coin=coin)
    expected = [parameter.grad.numpy() for parameter in module.parameters() if parameter.grad is not None]
    assert len(found) == len(expected) == len(spec.parameters)
    for parameter, gradient in zip(spec.parameters, expected, strict=True):
        # five layers of sums of at most 11 products of numbers below 10, each rounded to 2^-53
        assert np.allclose(found[parameter.name], gradient, rtol=0, atol=1e-13), parameter.name


@pytest.mark.parametrize("batch_size", [1, 7, 10, 50])
@pytest.mark.parametrize("optimiser", TORCH_OPTIMISERS, ids=["momentum", "plain", "adam"])
def test_training_matches_torch_with_the_last_smaller_batch(optimiser: Optimiser, batch_size: int) -> None:
    generator = np.random.default_rng(2)
    features, truth = generator.uniform(-1, 1, (23, 4)), generator.integers(0, 2, 23).astype(np.float64)
    order = generator.permutation(23)
    spec, initial = network((), 1)
    module = in_torch(spec, initial, lambda layer, shape: mask(0, layer, shape))
    steps = TORCH_OPTIMISERS[optimiser](list(module.parameters()))
    for _ in range(4):
        for start in range(0, 23, batch_size):
            batch = order[start : start + batch_size]
            steps.zero_grad()
            values = module(torch.from_numpy(features[batch]))
            torch_loss(Loss.BINARY_CROSS_ENTROPY, values, torch.from_numpy(truth[batch]), None, 1).backward()
            steps.step()
    training = replace(sgd(4, batch_size, "0.5"), optimiser=optimiser)
    trained = reference.train(spec, initial, features, truth, training=training, order=order)
    for parameter, expected in zip(spec.parameters, module.parameters(), strict=True):
        # at most 92 steps of float64, each adding a few roundings that momentum enlarges tenfold: 92 * 10 * 8 * 2^-53 < 1e-12;
        # Adam divides by a root of at least 1e-4, which enlarges the rounding of a gradient by 1e4 at worst
        bound = 1e-8 if optimiser is ADAM else 1e-12
        assert np.allclose(trained[parameter.name], expected.detach().numpy(), rtol=0, atol=bound)


def test_training_with_dropout_and_schedule_matches_torch_step_by_step() -> None:
    generator = np.random.default_rng(3)
    features, truth = generator.uniform(-1, 1, (20, 4)), generator.integers(0, 3, 20).astype(np.float64)
    order = generator.permutation(20)
    spec, initial = network((Relu(), Dropout("0.4"), Tanh()), 3)
    counted = {"step": 0}
    module = in_torch(spec, initial, lambda layer, shape: mask(counted["step"], layer, shape))
    steps = TORCH_OPTIMISERS[SGD](list(module.parameters()))
    schedule = torch.optim.lr_scheduler.StepLR(steps, step_size=2, gamma=0.5)
    for _ in range(5):
        for start in range(0, 20, 8):
            batch = order[start : start + 8]
            steps.zero_grad()
            values = module(torch.from_numpy(features[batch]))
            torch_loss(Loss.CROSS_ENTROPY, values, torch.from_numpy(truth[batch]), None, 3).backward()
            steps.step()
            counted["step"] += 1
        schedule.step()
    training = Training(5, 8, Loss.CROSS_ENTROPY, SGD, Schedule(ScheduleKind.STEP, 2, "0.5"), CheckpointRule(), "ab" * 16)
    trained = reference.train(spec, initial, features, truth, training=training, order=order, task=Task.CLASSES, coin=mask)
    for parameter, expected in zip(spec.parameters, module.parameters(), strict=True):
        # 15 steps of four layers, enlarged tenfold by momentum and again by the layers: 15 * 10 * 10 * 32 * 2^-53 < 1e-11
        assert np.allclose(trained[parameter.name], expected.detach().numpy(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("optimiser", [SGD, ADAM], ids=["momentum", "adam"])
def test_training_that_goes_on_from_its_state_equals_the_uninterrupted_one(optimiser: Optimiser) -> None:
    generator = np.random.default_rng(4)
    features, truth = generator.uniform(-1, 1, (20, 4)), generator.integers(0, 2, 20).astype(np.float64)
    order = generator.permutation(20)
    spec, initial = network((Relu(), Dropout("0.4")), 1)
    whole = replace(sgd(4, 8, "0.5"), optimiser=optimiser)

    def run(state: dict[str, np.ndarray], training: Training) -> dict[str, np.ndarray]:
        return reference.train_on(spec, state, features, truth, training=training, order=order, coin=mask)

    half = run(initial, replace(whole, epochs=2))
    again = run(half, replace(whole, epochs=2, steps_before=6))
    once = run(initial, whole)
    assert set(again) == set(once)
    assert all(np.array_equal(again[name], value) for name, value in once.items())


@pytest.mark.parametrize("order", [[0, 1], [0, 1, 1], [1, 2, 3]])
def test_training_order_that_is_no_permutation_is_refused(order: list[int]) -> None:
    initial = {"linear.weight": np.zeros((1, 4)), "linear.bias": np.zeros(1)}
    with pytest.raises(ConfideError, match="every row once"):
        reference.train(
            LOGISTIC,
            initial,
            np.zeros((3, 4)),
            np.zeros(3),
            training=sgd(1, 2, "0.5", "0.9"),
            order=np.array(order, np.int64),
        )
