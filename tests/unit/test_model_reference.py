"""What the plaintext oracle predicts agrees with torch and scikit-learn, which are independent implementations of the rules."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, roc_auc_score
from torch import nn

from protocols.errors import ConfideError
from protocols.job import Task
from protocols.model import reference
from protocols.model.layers import Dropout, Linear, Operator, Relu, Sigmoid, Softmax, Tanh
from protocols.model.spec import ModelSpec
from protocols.training import Loss

LOGISTIC = ModelSpec.chain(4, linear=Linear(1), sigmoid=Sigmoid())
LINEAR = {"linear.weight": np.array([[1.0, -2.0, 0.5, 0.0]]), "linear.bias": np.array([0.25])}
ENDINGS = {Softmax(): torch.nn.Softmax(dim=1), Sigmoid(): torch.nn.Sigmoid(), Tanh(): torch.nn.Tanh()}


def network(ending: Operator, width: int) -> tuple[ModelSpec, dict[str, np.ndarray], nn.Sequential]:
    """A network with every activation, and the same in torch and float64; dropout does nothing in it."""
    generator = torch.Generator().manual_seed(1)
    module = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5, bias=False), nn.Sigmoid())
    module = nn.Sequential(*module, nn.Linear(5, width), ENDINGS[ending]).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.7, generator=generator)
    spec = ModelSpec.chain(
        4,
        layer_0=Linear(5),
        layer_1=Relu(),
        drop=Dropout("0.4"),
        layer_2=Linear(5),
        layer_3=Tanh(),
        layer_4=Linear(5, bias=False),
        layer_5=Sigmoid(),
        layer_6=Linear(width),
        layer_7=ending,
    )
    weights = {f"layer_{name}": parameter.detach().numpy() for name, parameter in module.named_parameters()}
    return spec, weights, module


@pytest.mark.parametrize("ending", ENDINGS)
def test_forward_matches_torch_in_float64(ending: Operator) -> None:
    spec, weights, module = network(ending, 3)
    rows = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    whole, before_last = module(rows).detach().numpy(), module[:-1](rows).detach().numpy()
    # the same sums in float64, at most a few roundings of 2^-53 apart
    assert np.allclose(reference.outputs(spec, weights, rows.numpy()), whole, rtol=0, atol=1e-14)
    expected = whole if ending == Tanh() else before_last
    assert np.allclose(reference.logits(spec, weights, rows.numpy()), expected, rtol=0, atol=1e-14)


def test_probabilities_and_predictions_follow_the_task() -> None:
    spec, weights, module = network(Softmax(), 3)
    rows = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    expected = module(rows).detach().numpy()
    assert np.allclose(reference.probabilities(spec, weights, rows.numpy(), task=Task.CLASSES), expected, rtol=0, atol=1e-14)
    found = reference.predicted(spec, weights, rows.numpy(), task=Task.CLASSES)
    assert np.array_equal(found, expected.argmax(axis=1))
    assert reference.accuracy(spec, weights, rows.numpy(), found, task=Task.CLASSES) == 1.0
    assert reference.predicted(LOGISTIC, LINEAR, np.eye(4)).tolist() == [1, 0, 1, 1]
    bare = ModelSpec(LOGISTIC.input_shape, LOGISTIC.layers[:1])
    assert reference.predicted(bare, LINEAR, np.eye(4), task=Task.REAL).tolist() == [1.25, -1.75, 0.75, 0.25]


def test_forward_without_last_sigmoid_has_the_same_logits() -> None:
    rows = np.eye(4)
    bare = ModelSpec(LOGISTIC.input_shape, LOGISTIC.layers[:1])
    assert np.array_equal(reference.logits(LOGISTIC, LINEAR, rows), reference.logits(bare, LINEAR, rows))
    assert np.array_equal(reference.probabilities(LOGISTIC, LINEAR, rows), reference.probabilities(bare, LINEAR, rows))


def test_label_of_logit_zero_is_one() -> None:
    weights = {"linear.weight": np.zeros((1, 4)), "linear.bias": np.zeros(1)}
    assert reference.predicted(LOGISTIC, weights, np.zeros((1, 4)))[0] == 1


def test_forward_of_rows_of_another_width_is_refused() -> None:
    with pytest.raises(ConfideError, match=r"\(rows, 4\)"):
        reference.logits(LOGISTIC, LINEAR, np.zeros((2, 3)))


def test_sigmoid_and_softmax_at_extremes_neither_overflow_nor_leave_their_range() -> None:
    values = reference.sigmoid(np.array([-1e308, -745.0, 0.0, 745.0, 1e308]))
    assert values[0] == 0.0
    assert values[2] == 0.5
    assert values[-1] == 1.0
    assert reference.softmax(np.array([[1e307, 0.0, -1e307], [-700.0, -700.0, -1e307]])).tolist() == [[1, 0, 0], [0.5, 0.5, 0]]


@pytest.mark.parametrize("task", Task)
def test_mean_loss_matches_torch(task: Task) -> None:
    width = 3 if task is Task.CLASSES else 1
    ending = {Task.BINARY: Sigmoid(), Task.CLASSES: Softmax(), Task.REAL: Tanh()}[task]
    spec, weights, module = network(ending, width)
    generator = torch.Generator().manual_seed(4)
    rows = torch.randn(9, 4, dtype=torch.float64, generator=generator)
    classes = torch.randint(0, max(width, 2), (9,), generator=generator)
    whole, before_last = module(rows), module[:-1](rows)
    match task:
        case Task.BINARY:
            loss, expected = Loss.BINARY_CROSS_ENTROPY, nn.functional.binary_cross_entropy(whole[:, 0], classes.double())
        case Task.CLASSES:
            loss, expected = Loss.CROSS_ENTROPY, nn.functional.cross_entropy(before_last, classes)
        case Task.REAL:
            loss, expected = Loss.MEAN_SQUARED_ERROR, nn.functional.mse_loss(whole[:, 0], classes.double())
    found = reference.mean_loss(spec, weights, rows.numpy(), classes.numpy(), loss=loss, task=task)
    # nine rows, each a few roundings of 2^-53 of numbers below 10
    assert found == pytest.approx(expected.item(), rel=0, abs=1e-13)


def test_confusion_and_auc_match_scikit_learn_also_with_ties() -> None:
    generator = np.random.default_rng(5)
    truth, guessed = generator.integers(0, 4, 200), generator.integers(0, 4, 200)
    assert np.array_equal(reference.confusion_counts(truth, guessed, 4), confusion_matrix(truth, guessed, labels=range(4)))
    scores = generator.integers(-5, 5, 200) / 4
    # both are whole numbers of halves divided by the same number of pairs
    assert reference.roc_auc(truth > 1, scores) == pytest.approx(roc_auc_score(truth > 1, scores), rel=0, abs=1e-15)
    assert np.isnan(reference.roc_auc(np.ones(3), np.zeros(3)))
