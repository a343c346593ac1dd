"""Programs written for CrypTen run on shared tensors: losses, modules, optimiser; and our own modules from a `ModelSpec`."""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from protocols.errors import ConfideError
from protocols.fixed_point import PARAMETER_BITS
from protocols.model.layers import Dropout, Linear, Operator, Relu, Sigmoid, Softmax, Tanh
from protocols.model.spec import ModelSpec
from protocols.mpc.primitives import sigmoid, softmax
from protocols.mpc.tensor import SharedTensor, build_module, crypten, public_mask, use_coin
from tests.support.tensor_world import UNIT, run_tensors

SEED = "cd" * 16
# torch draws a module's first weights from one generator, which the parties of a test share.
_ONE_AT_A_TIME = threading.Lock()


def grid(seed: int, *shape: int, low: float = -3, high: float = 3) -> np.ndarray:
    """Multiples of 2^-8 in a range."""
    return np.random.default_rng(seed).integers(int(low * 256), int(high * 256) + 1, shape) / 256


def seeded(build: Any) -> Any:
    """Builds modules with the same first weights at every party."""
    with _ONE_AT_A_TIME:
        torch.manual_seed(5)
        return build()


X, Y = grid(1, 4, 3), grid(2, 4, 3)
BITS = (grid(3, 4, 3) > 0).astype(np.float64)
PROBABILITIES = grid(4, 4, 3, low=0.0625, high=0.9375)
ONE_HOT = np.eye(3)[[2, 0, 1, 1]]

# Losses: inputs, target, bound on the value, bound on the gradient (which is that of one row, a mean over 4 or 12 of them).
LOSSES: dict[str, tuple[np.ndarray, np.ndarray, float, float]] = {
    # One truncated operand in the square of at most 36, and the rounded factor 1 / 12 of the mean.
    "MSELoss": (X, Y, 72 * UNIT, 2 * UNIT),
    "L1Loss": (X, Y, 6 * UNIT, UNIT),
    # The logarithms' error is below a unit; the gradient divides by p (1 - p), at least 1/17, after rounding 1 / 12.
    "BCELoss": (PROBABILITIES, BITS, 4 * UNIT, 4 * UNIT),
    "BCEWithLogitsLoss": (2 * X, BITS, softmax.MAX_LOG_ERROR + 10 * UNIT, sigmoid.MAX_ERROR / 12 + UNIT),
    "CrossEntropyLoss": (X, ONE_HOT, 3 * softmax.MAX_LOG_ERROR, softmax.MAX_ERROR / 4 + UNIT),
}


@pytest.mark.parametrize("skip_forward", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_its_gradient_equal_torch(name: str, skip_forward: bool) -> None:
    values, target, bound, gradient_bound = LOSSES[name]
    theirs = torch.tensor(values, requires_grad=True)
    expected = getattr(torch.nn, name)()(theirs, torch.tensor(target))
    expected.backward()

    def program(tensors: Any) -> Any:
        loss = getattr(crypten.nn, name)(skip_forward=skip_forward)(tensors["x"], tensors["y"])
        loss.backward()
        return {"loss": loss.detach(), "gradient": tensors["x"].grad}

    run = run_tensors(program, {"x": values, "y": target}, grad=("x",))
    assert theirs.grad is not None
    assert np.abs(run.values["gradient"] - theirs.grad.numpy()).max() <= gradient_bound
    if skip_forward and name not in ("MSELoss", "L1Loss"):
        assert run.values["loss"] == 0.0
    else:
        assert abs(run.values["loss"] - expected.item()) <= bound


def test_probabilities_at_the_border_have_a_finite_loss_and_gradient() -> None:
    values, target = np.array([0.0, 1.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0, 1.0])

    def program(tensors: Any) -> Any:
        loss = crypten.nn.BCELoss()(tensors["x"], tensors["y"])
        loss.backward()
        return {"loss": loss.detach(), "gradient": tensors["x"].grad}

    run = run_tensors(program, {"x": values, "y": target}, grad=("x",))
    # Two of four values are wrong for certain: each costs the logarithm of 2^-16, and p (1 - p) = 0 counts as 2^-20.
    assert abs(run.values["loss"] - 16 * np.log(2) / 2) <= 4 * UNIT
    assert run.values["gradient"] == pytest.approx([-(2.0**18), 2.0**18, 0.0, 0.0], rel=2.0**-16)


def test_cross_entropy_of_a_single_row_equals_torch() -> None:
    theirs = torch.tensor(X[:1], requires_grad=True)
    torch.nn.CrossEntropyLoss()(theirs, torch.tensor(ONE_HOT[:1])).backward()

    def program(tensors: Any) -> Any:
        crypten.nn.CrossEntropyLoss(skip_forward=True)(tensors["x"], tensors["y"]).backward()
        return {"gradient": tensors["x"].grad}

    run = run_tensors(program, {"x": X[:1], "y": ONE_HOT[:1]}, grad=("x",))
    assert theirs.grad is not None
    assert np.abs(run.values["gradient"] - theirs.grad.numpy()).max() <= softmax.MAX_ERROR + UNIT


class PlainSgd:
    """SGD with momentum and weight decay as torch defines it; torch's own takes ten seconds to import its compiler."""

    def __init__(self, parameters: Any, lr: float, momentum: float, weight_decay: float) -> None:
        self._parameters = list(parameters)
        self._numbers = (lr, momentum, weight_decay)
        self._buffers = [torch.zeros_like(parameter) for parameter in self._parameters]

    def zero_grad(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def step(self) -> None:
        rate, momentum, decay = self._numbers
        with torch.no_grad():
            for parameter, buffer in zip(self._parameters, self._buffers, strict=True):
                buffer.mul_(momentum).add_(parameter.grad + decay * parameter)
                parameter.sub_(rate * buffer)


def test_program_written_for_crypten_trains_as_its_torch_twin_does() -> None:
    features = np.tanh(grid(6, 12, 4, low=-1, high=1)).round(2)
    labels = np.eye(3)[np.random.default_rng(7).integers(0, 3, 12)]

    def build(nn: Any) -> Any:
        return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))

    def train(nn: Any, sgd: Any, model: Any, x: Any, y: Any) -> Any:
        loss_function = nn.CrossEntropyLoss()
        optimizer = sgd(model.parameters(), lr=0.5, momentum=0.9, weight_decay=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            output = model(x)
            loss = loss_function(output, y)
            loss.backward()
            optimizer.step()
        return loss

    def program(tensors: Any) -> Any:
        model = seeded(lambda: build(crypten.nn))
        model.encrypt()
        model.train()
        loss = train(crypten.nn, crypten.optim.SGD, model, tensors["x"], tensors["y"])
        model.eval()
        return {"loss": loss, **{name.replace(".data", ""): value for name, value in model.named_parameters()}}

    run = run_tensors(program, {"x": features, "y": labels}, result_bits=PARAMETER_BITS)
    twin = seeded(lambda: build(torch.nn)).double()
    encoded = torch.tensor(np.rint(features * 2.0**16) / 2.0**16)
    loss = train(torch.nn, PlainSgd, twin, encoded, torch.tensor(labels))
    # Each gradient is off by the softmax's 2.3e-5 and a few units of rounded activations; three steps with momentum add at most
    # 3 + 2 + 1 of them, times the rate and the inputs' sum.
    bound = 6 * 0.5 * (softmax.MAX_ERROR + 4 * UNIT)
    assert abs(run.values["loss"] - loss.item()) <= 4 * bound
    start = dict(seeded(lambda: build(torch.nn)).named_parameters())
    for name, parameter in twin.named_parameters():
        assert np.abs(run.values[name] - parameter.detach().numpy()).max() <= bound, name
        assert (parameter - start[name]).abs().max() > 100 * bound, "the comparison shows nothing"


def test_modules_of_crypten_run_on_shared_tensors() -> None:
    nn = crypten.nn

    def program(tensors: Any) -> Any:
        x, y = tensors["x"], tensors["y"]
        return {
            "Add": _ready(nn.Add())([x, y]),
            "Sub": _ready(nn.Sub())([x, y]),
            "Mul": _ready(nn.Mul())([x, y]),
            "Gemm": _ready(nn.Gemm(alpha=2.0, beta=0.5, trans_b=True))([x, y, x.matmul(y.t())]),
            "Flatten": _ready(nn.Flatten())(x.unsqueeze(2)),
            "Reshape": _ready(nn.Reshape((2, 6)))(x),
            "Concat": _ready(nn.Concat(0))([x, y]),
            "Transpose": _ready(nn.Transpose((1, 0)))(x),
            "Mean": _ready(nn.Mean([1], keepdim=True))(x),
            "Sum": _ready(nn.Sum([0]))(x),
            "Slice": _ready(nn.Slice([1], [3], [0]))(x),
            "Hardtanh": _ready(nn.Hardtanh(-1.0, 1.0))(x),
            "Where": _ready(nn.Where())([x.ge(0), x, y]),
            "Equal": _ready(nn.Equal())([x, y]),
            "Pow": _ready(nn.Pow())([x, 2]),
            "Tanh": _ready(nn.Tanh())(x),
            "Identity": _ready(nn.Identity())(x),
            "Softmax": _ready(nn.Softmax(1))(x),
            "LogSoftmax": _ready(nn.LogSoftmax(1))(x),
            "Sigmoid": _ready(nn.Sigmoid())(x),
            "Dropout": _ready(nn.Dropout(0.5)).eval()(x),
        }

    y = Y.copy()
    y[0] = X[0]
    run = run_tensors(program, {"x": X, "y": y})
    exp = np.exp(X - X.max(1, keepdims=True))
    probabilities = exp / exp.sum(1, keepdims=True)
    expected = {
        "Add": X + y,
        "Sub": X - y,
        "Mul": X * y,
        "Gemm": 2.5 * X @ y.T,
        "Flatten": X,
        "Reshape": X.reshape(2, 6),
        "Concat": np.concatenate([X, y]),
        "Transpose": X.T,
        "Mean": X.mean(1, keepdims=True),
        "Sum": X.sum(0),
        "Slice": X[1:3],
        "Hardtanh": np.clip(X, -1, 1),
        "Where": np.where(X >= 0, X, y),
        "Equal": (y == X).astype(float),
        "Pow": X**2,
        "Tanh": np.tanh(X),
        "Identity": X,
        "Softmax": probabilities,
        "LogSoftmax": np.log(probabilities),
        "Sigmoid": 1 / (1 + np.exp(-X)),
        "Dropout": X,
    }
    for name, values in expected.items():
        # The largest error among them is that of tanh.
        assert np.abs(run.values[name] - values).max() <= 2 * sigmoid.MAX_ERROR, name


def test_dropout_of_crypten_uses_the_public_coin_forward_and_backward() -> None:
    def program(tensors: Any) -> Any:
        module = _ready(crypten.nn.Dropout(0.25))
        with use_coin(SEED, 4):
            first, second = module(tensors["x"]), module(tensors["x"])
        first.sum().backward()
        return {"first": first.detach(), "second": second.detach(), "gradient": tensors["x"].grad}

    run = run_tensors(program, {"x": X}, grad=("x",))
    masks = [public_mask(SEED, 4, f"dropout {index}", X.shape, rate=Fraction(1, 4)) for index in (1, 2)]
    assert (masks[0] != masks[1]).any()
    assert np.abs(run.values["first"] - X * masks[0] / 0.75).max() <= 4 * UNIT
    assert np.abs(run.values["second"] - X * masks[1] / 0.75).max() <= 4 * UNIT
    assert np.abs(run.values["gradient"] - masks[0] / 0.75).max() <= 2 * UNIT


def test_dropout_without_a_coin_is_refused() -> None:
    with pytest.raises(ConfideError, match="dropout needs a public coin"):
        run_tensors(lambda tensors: {"x": tensors["x"].dropout(0.5)}, {"x": X})


def test_public_mask_depends_on_seed_step_and_layer_and_keeps_its_rate() -> None:
    base = public_mask(SEED, 1, "drop", (100, 100), rate=Fraction(3, 10))
    assert set(np.unique(base)) == {0, 1}
    # 10 000 draws: four standard deviations of the share that is kept are 4 sqrt(0.21 / 10000) = 0.0184.
    assert abs(base.mean() - 0.7) < 0.0184
    assert (base == public_mask(SEED, 1, "drop", (100, 100), rate=Fraction(3, 10))).all()
    for seed, step, layer in (("ef" * 16, 1, "drop"), (SEED, 2, "drop"), (SEED, 1, "other")):
        other = public_mask(seed, step, layer, (100, 100), rate=Fraction(3, 10))
        assert abs((other == base).mean() - 0.58) < 0.02  # 0.7^2 + 0.3^2, as independent masks agree


def a_network(final: Operator) -> ModelSpec:
    width = 3 if final == Softmax() else 1
    return ModelSpec.chain(
        3,
        hidden=Linear(4),
        relu=Relu(),
        drop=Dropout("0.25"),
        middle=Linear(4, bias=False),
        tanh=Tanh(),
        last=Linear(width),
        final=final,
    )


@pytest.mark.parametrize("final", [Sigmoid(), Softmax()])
def test_module_of_a_model_spec_gives_logits_outputs_and_gradients(final: Operator) -> None:
    model = a_network(final)
    random = np.random.default_rng(8)
    weights = {spec.name: random.integers(-256, 257, spec.shape) / 256 for spec in model.parameters}

    def coin(layer: str, shape: tuple[int, ...]) -> np.ndarray:
        return public_mask(SEED, 9, layer, shape, rate=Fraction(1, 4))

    def program(tensors: Any) -> Any:
        parameters = {name: SharedTensor.from_public(values, PARAMETER_BITS) for name, values in weights.items()}
        logits = build_module(model, parameters, trains=True, coin=coin)(tensors["x"])
        logits.sum().backward()
        gradients = {name: tensor.grad for name, tensor in parameters.items()}
        still = build_module(model, parameters, trains=False)
        with crypten.no_grad():
            return {"logits": logits.detach(), "outputs": still.outputs(tensors["x"]), **gradients}

    run = run_tensors(program, {"x": X})
    theirs = {name: torch.tensor(values, requires_grad=True) for name, values in weights.items()}
    mask = torch.tensor(coin("drop", (4, 4))) / 0.75
    hidden = torch.relu(torch.tensor(X) @ theirs["hidden.weight"].t() + theirs["hidden.bias"])

    def rest(hidden: torch.Tensor) -> torch.Tensor:
        return torch.tanh(hidden @ theirs["middle.weight"].t()) @ theirs["last.weight"].t() + theirs["last.bias"]

    logits = rest(hidden * mask)
    logits.sum().backward()
    outputs = torch.sigmoid(rest(hidden)) if final == Sigmoid() else torch.softmax(rest(hidden), 1)
    # tanh is off by 2e-4 in each of four units, whose weights are at most 1; its derivative by 4e-4, times sums over four rows,
    # up to 3 outputs and 4 units, and inputs of at most 10.
    assert np.abs(run.values["logits"] - logits.detach().numpy()).max() <= 4 * 2 * sigmoid.MAX_ERROR + 16 * UNIT
    assert np.abs(run.values["outputs"] - outputs.detach().numpy()).max() <= 4 * 2 * sigmoid.MAX_ERROR + 16 * UNIT
    for name, tensor in theirs.items():
        assert tensor.grad is not None
        assert np.abs(run.values[name] - tensor.grad.numpy()).max() <= 4 * 3 * 10 * 4 * sigmoid.MAX_ERROR, name


def test_dropout_layer_that_trains_without_a_coin_is_an_error_of_ours() -> None:
    model = a_network(Sigmoid())

    def program(tensors: Any) -> Any:
        parameters = {spec.name: SharedTensor.from_public(np.zeros(spec.shape), 24) for spec in model.parameters}
        return {"logits": build_module(model, parameters, trains=True)(tensors["x"])}

    with pytest.raises(ConfideError, match="without a coin"):
        run_tensors(program, {"x": X})


def _ready(module: Any) -> Any:
    """Tells a module without parameters that it gets shared tensors, as encrypt() would."""
    return module.encrypt()
