"""Every operator: exported from torch, computed and derived by the plaintext oracle as torch computes and derives it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from torch import nn
from torch.nn import functional

from protocols.errors import ConfideError
from protocols.job import Task
from protocols.model import reference
from protocols.model.export import export_model
from protocols.model.layers import (
    OPERATORS,
    AdaptiveAveragePool,
    Add,
    AveragePool,
    BatchNorm,
    Convolution,
    Dropout,
    Embedding,
    Flatten,
    Gelu,
    LayerNorm,
    LeakyRelu,
    Linear,
    MaxPool,
    Operator,
    Polynomial,
    Relu,
    Sigmoid,
    Softmax,
    Square,
    Tanh,
)
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_from_safetensors, weights_to_safetensors
from protocols.training import Loss
from tests.support.jobs import sgd

SIGNAL, IMAGE = (3, 11), (2, 9, 8)


@dataclass(frozen=True)
class Case:
    """A torch layer on rows of a shape, and the operator that it is."""

    module: nn.Module
    shape: tuple[int, ...]
    operator: Operator | None


CASES = [
    Case(nn.Linear(11, 4, bias=False), SIGNAL, Linear(4, bias=False)),
    Case(nn.Conv1d(3, 4, 3), SIGNAL, Convolution(4, (3,), (1,), (0,))),
    Case(nn.Conv1d(3, 6, 4, stride=2, padding=1, groups=3, bias=False), SIGNAL, Convolution(6, (4,), (2,), (1,), 3, bias=False)),
    Case(nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0)), IMAGE, Convolution(3, (3, 2), (2, 1), (1, 0))),
    Case(nn.Conv2d(2, 4, 3, padding="same", groups=2), IMAGE, Convolution(4, (3, 3), (1, 1), (1, 1), 2)),
    Case(nn.Conv2d(2, 4, (9, 8), padding="valid"), IMAGE, Convolution(4, (9, 8), (1, 1), (0, 0))),
    Case(nn.MaxPool1d(2), SIGNAL, MaxPool((2,), (2,), (0,))),
    Case(nn.MaxPool2d(3, stride=2, padding=1), IMAGE, MaxPool((3, 3), (2, 2), (1, 1))),
    Case(nn.AvgPool1d(3, 2, 1), SIGNAL, AveragePool((3,), (2,), (1,))),
    Case(nn.AvgPool2d((2, 3), count_include_pad=False), IMAGE, AveragePool((2, 3), (2, 3), (0, 0))),
    Case(nn.AdaptiveAvgPool1d(4), SIGNAL, AdaptiveAveragePool((4,))),
    Case(nn.AdaptiveAvgPool2d((2, None)), IMAGE, AdaptiveAveragePool((2, 8))),
    Case(nn.BatchNorm1d(7), (7,), BatchNorm()),
    Case(nn.BatchNorm1d(3, affine=False, momentum=0.25), SIGNAL, BatchNorm(momentum="0.25", affine=False)),
    Case(nn.BatchNorm2d(2, eps=0.001), IMAGE, BatchNorm(epsilon="0.001")),
    Case(nn.LayerNorm(11), SIGNAL, LayerNorm()),
    Case(nn.LayerNorm((9, 8), bias=False), IMAGE, LayerNorm(2, bias=False)),
    Case(nn.LayerNorm(SIGNAL, elementwise_affine=False), SIGNAL, LayerNorm(2, affine=False, bias=False)),
    Case(nn.ReLU(), IMAGE, Relu()),
    Case(nn.LeakyReLU(0.2), SIGNAL, LeakyRelu("0.2")),
    Case(nn.Sigmoid(), SIGNAL, Sigmoid()),
    Case(nn.Tanh(), SIGNAL, Tanh()),
    Case(nn.GELU(), SIGNAL, Gelu()),
    Case(nn.Flatten(1, 2), SIGNAL, Flatten()),
]


class Around(nn.Module):
    """A layer between a scaling of every value, so that its input needs a gradient, and a linear output."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        width = case.module(torch.zeros(2, *case.shape)).flatten(1).shape[1]
        self.before = nn.Linear(case.shape[-1], case.shape[-1])
        self.inner = case.module
        self.flat, self.out = nn.Flatten(), nn.Linear(width, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.out(self.flat(self.inner(self.before(rows))))


def randomised(module: nn.Module, seed: int = 3) -> nn.Module:
    """Gives every parameter and statistic a value of its own; the weights of norms would else be 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.6, generator=generator)
    for name, buffer in module.named_buffers():
        if buffer.dtype is torch.float32:
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + (0.5 if name.endswith("var") else -0.5))
    return module


def rows_of(shape: tuple[int, ...], count: int = 5) -> torch.Tensor:
    return torch.randn(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def flat(rows: torch.Tensor) -> np.ndarray:
    return rows.flatten(1).numpy()


@pytest.mark.parametrize("case", CASES, ids=lambda case: repr(case.operator))
def test_operator_of_torch_is_exported_and_computed_and_derived_as_torch_does(case: Case) -> None:
    module = randomised(Around(case))
    spec, weights = export_model(module, case.shape)
    named = {layer.name: layer.operator for layer in spec.layers}
    assert named["inner"] == case.operator
    assert ModelSpec.from_document(spec.to_document()) == spec

    exact, rows = module.double(), rows_of(case.shape)
    # Both compute in float64; sums of at most 216 products of numbers below 10, a few units of 2^-53 each.
    inferred = exact.eval()(rows).detach().numpy()
    assert np.allclose(reference.outputs(spec, weights, flat(rows)), inferred, rtol=0, atol=1e-11)

    truth = np.array([0.0, 1.0, 0.0, 0.0, 1.0])
    functional.cross_entropy(exact.train()(rows), torch.from_numpy(truth).long()).backward()
    found = reference.gradients(spec, weights, flat(rows), truth, loss=Loss.CROSS_ENTROPY, task=Task.CLASSES, coin=None)
    expected = {name: parameter.grad.numpy() for name, parameter in exact.named_parameters() if parameter.grad is not None}
    assert found.keys() == expected.keys() == {parameter.name for parameter in spec.trained}
    for name, gradient in expected.items():
        assert np.allclose(found[name], gradient, rtol=0, atol=1e-11), name


def test_every_operator_has_a_case() -> None:
    elsewhere = {Softmax, Dropout, Embedding, Add, Square, Polynomial}  # in the tests below, of gradients, and of polynomials
    assert {type(case.operator) for case in CASES} | elsewhere == set(OPERATORS.values())


class Residual(nn.Module):
    """Two convolutions with a skip connection and a batch norm, on images of 1 x 6 x 6; functions where modules could stand."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm, self.out = nn.BatchNorm2d(4), nn.Linear(16, 3)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        first = functional.leaky_relu(self.first(rows), 0.1)
        both = torch.relu(self.norm(self.second(first)).add(first))
        pooled = functional.avg_pool2d(functional.max_pool2d(both, 2), 2, stride=1, padding=1)
        small = functional.adaptive_avg_pool2d(functional.gelu(pooled), (2, 2))
        small = small + small
        return functional.softmax(self.out(small.view(small.size(0), -1).contiguous()), dim=1)


def test_residual_network_of_functions_is_exported_as_a_graph() -> None:
    spec, _ = export_model(Residual(), (1, 6, 6))
    found = [(layer.name, layer.operator.kind, layer.inputs) for layer in spec.layers]
    assert found == [
        ("first", "convolution", ("input",)),
        ("leaky_relu", "leaky_relu", ("first",)),
        ("second", "convolution", ("leaky_relu",)),
        ("norm", "batch_norm", ("second",)),
        ("add", "add", ("norm", "leaky_relu")),
        ("relu", "relu", ("add",)),
        ("max_pool", "max_pool", ("relu",)),
        ("average_pool", "average_pool", ("max_pool",)),
        ("gelu", "gelu", ("average_pool",)),
        ("adaptive_average_pool", "adaptive_average_pool", ("gelu",)),
        ("add_1", "add", ("adaptive_average_pool", "adaptive_average_pool")),
        ("flatten", "flatten", ("add_1",)),
        ("out", "linear", ("flatten",)),
        ("softmax", "softmax", ("out",)),
    ]


def test_training_of_a_residual_network_follows_torch_with_its_running_statistics() -> None:
    module = randomised(Residual())
    spec, initial = export_model(module, (1, 6, 6))
    exact = module.double().train()
    generator = np.random.default_rng(6)
    rows, truth = generator.uniform(-1, 1, (10, 36)), generator.integers(0, 3, 10).astype(np.float64)
    order = generator.permutation(10)
    steps = torch.optim.SGD(exact.parameters(), lr=0.1)
    for _ in range(2):
        for start in range(0, 10, 4):
            batch = order[start : start + 4]
            steps.zero_grad()
            given = exact(torch.from_numpy(rows[batch]).reshape(-1, 1, 6, 6))
            functional.nll_loss(given.log(), torch.from_numpy(truth[batch]).long()).backward()
            steps.step()
    training = sgd(2, 4, "0.1")
    training = replace(training, loss=Loss.CROSS_ENTROPY, optimiser=replace(training.optimiser, momentum="0"))
    trained = reference.train(spec, initial, rows, truth, training=training, order=order, task=Task.CLASSES)
    expected = {name: value.numpy() for name, value in exact.state_dict().items() if not name.endswith("tracked")}
    assert trained.keys() == expected.keys()
    for name, value in expected.items():
        # six steps of float64; the loss by torch's logarithm of a softmax loses a few digits more
        assert np.allclose(trained[name], value, rtol=0, atol=1e-10), name


def test_batch_norm_of_one_value_a_channel_has_variance_zero() -> None:
    spec = ModelSpec.chain(2, norm=BatchNorm(momentum="0.5", affine=False), out=Linear(1))
    start = {
        "norm.running_mean": np.zeros(2),
        "norm.running_var": np.ones(2),
        "out.weight": np.ones((1, 2)),
        "out.bias": np.ones(1),
    }
    training = sgd(1, 1, "0.5")
    trained = reference.train(spec, start, np.array([[1.0, -1.0]]), np.ones(1), training=training, order=np.zeros(1, np.int64))
    assert trained["norm.running_mean"].tolist() == [0.5, -0.5]
    assert trained["norm.running_var"].tolist() == [0.5, 0.5]


def test_weights_with_a_negative_variance_are_refused_in_both_directions() -> None:
    spec = ModelSpec.chain(2, norm=BatchNorm(affine=False), out=Linear(1))
    sound = {parameter.name: np.ones(parameter.shape, np.float32) for parameter in spec.parameters}
    data = weights_to_safetensors(sound, spec)
    assert weights_from_safetensors(data, spec).keys() == sound.keys()
    negative = sound | {"norm.running_var": np.array([1, -1], np.float32)}
    for turn in (lambda: weights_to_safetensors(negative, spec), lambda: weights_from_safetensors(save(negative), spec)):
        with pytest.raises(ConfideError) as caught:
            turn()
        assert [problem.where for problem in caught.value.problems] == ["norm.running_var"]


def test_embedding_takes_one_hot_rows_where_torch_takes_indices() -> None:
    module = randomised(nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(12, 2)))
    spec, weights = export_model(module, (4, 5))
    assert [layer.operator for layer in spec.layers] == [Embedding(3), Flatten(), Linear(2)]
    indices = torch.randint(0, 5, (6, 4), generator=torch.Generator().manual_seed(1))
    rows = functional.one_hot(indices, 5).flatten(1).double().numpy()
    truth = np.array([0.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    exact = module.double()
    assert np.allclose(reference.outputs(spec, weights, rows), exact(indices).detach().numpy(), rtol=0, atol=1e-14)
    functional.cross_entropy(exact(indices), torch.from_numpy(truth).long()).backward()
    found = reference.gradients(spec, weights, rows, truth, loss=Loss.CROSS_ENTROPY, task=Task.CLASSES, coin=None)
    assert np.allclose(found["layer_0.weight"], exact[0].weight.grad.numpy(), rtol=0, atol=1e-14)


def test_folding_works_batch_norms_into_the_layers_before_them() -> None:
    module = nn.Sequential(
        nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3, affine=False), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4),
        nn.Flatten(), nn.Linear(80, 5), nn.BatchNorm1d(5), nn.Linear(5, 2),
    )  # fmt: skip
    spec, weights = export_model(randomised(module), IMAGE, fold=True)
    kinds = [layer.operator.kind for layer in spec.layers]
    assert kinds == ["convolution", "relu", "convolution", "flatten", "linear", "linear"]
    assert weights.keys() == {parameter.name for parameter in spec.parameters}
    rows = rows_of(IMAGE)
    expected = module.double().eval()(rows).detach().numpy()
    # three layers whose weights were rounded once to 24 bits, sums of at most 80 products of numbers below 10
    assert np.allclose(reference.outputs(spec, weights, flat(rows)), expected, rtol=0, atol=3 * 80 * 100 * 2**-25)


def test_folding_leaves_batch_norms_that_do_not_follow_a_layer_alone() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm, self.after = nn.Linear(3, 3), nn.BatchNorm1d(3), nn.BatchNorm1d(3)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            inner = self.first(rows)
            return self.after(torch.relu(self.norm(inner) + inner))

    plain, folded = export_model(Twice(), 3), export_model(Twice(), 3, fold=True)
    assert folded[0] == plain[0]


@pytest.mark.parametrize(
    "flatten",
    [
        lambda rows: rows.view(rows.size(0), -1),
        lambda rows: rows.reshape(rows.shape[0], -1),
        lambda rows: rows.view(-1, 144),
        lambda rows: rows.view((rows.size()[0], 144)),
        lambda rows: torch.flatten(rows, 1),
        lambda rows: rows.flatten(start_dim=1),
        lambda rows: torch.reshape(rows, (-1, 144)),
    ],
)
def test_every_way_to_flatten_rows_is_the_same_operator(flatten: Callable[[torch.Tensor], torch.Tensor]) -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu, self.out = nn.ReLU(), nn.Linear(144, 1)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.out(flatten(self.relu(rows)))

    spec, _ = export_model(Flat(), IMAGE)
    assert [layer.operator for layer in spec.layers] == [Relu(), Flatten(), Linear(1)]
