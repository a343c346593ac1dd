"""The plaintext oracle agrees with torch, which is an independent implementation of the same rules."""

import numpy as np
import pytest
import torch
from torch import nn

from protocols.errors import ConfideError
from protocols.job import Training
from protocols.model import reference
from protocols.model.export import export_model
from protocols.model.spec import Layer, LayerKind, ModelSpec

LOGISTIC = ModelSpec((Layer("linear", LayerKind.LINEAR, 4, 1, True), Layer("sigmoid", LayerKind.SIGMOID, 1, 1, False)))


def test_forward_matches_torch_in_float64() -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 2, bias=False), nn.Sigmoid())
    spec, weights = export_model(module, 4)
    rows = torch.randn(9, 4, dtype=torch.float64)
    before_last = nn.Sequential(*list(module.double())[:-1])(rows).detach().numpy()
    # the same sums in float64, at most a few roundings of 2^-53 apart
    assert np.allclose(reference.logits(spec, weights, rows.numpy()), before_last, rtol=0, atol=1e-14)
    expected = torch.sigmoid(torch.from_numpy(before_last)).numpy()
    assert np.allclose(reference.probabilities(spec, weights, rows.numpy()), expected, rtol=0, atol=1e-14)
    assert np.array_equal(reference.labels(spec, weights, rows.numpy()), before_last >= 0)


def test_forward_without_last_sigmoid_has_the_same_logits() -> None:
    weights = {"linear.weight": np.array([[1.0, -2.0, 0.5, 0.0]]), "linear.bias": np.array([0.25])}
    rows = np.eye(4)
    bare = ModelSpec(LOGISTIC.layers[:1])
    assert np.array_equal(reference.logits(LOGISTIC, weights, rows), reference.logits(bare, weights, rows))
    assert np.array_equal(reference.probabilities(LOGISTIC, weights, rows), reference.probabilities(bare, weights, rows))


def test_label_of_logit_zero_is_one() -> None:
    weights = {"linear.weight": np.zeros((1, 4)), "linear.bias": np.zeros(1)}
    assert reference.labels(LOGISTIC, weights, np.zeros((1, 4)))[0, 0] == 1


def test_sigmoid_at_extremes_neither_overflows_nor_leaves_its_range() -> None:
    values = reference.sigmoid(np.array([-1e308, -745.0, 0.0, 745.0, 1e308]))
    assert values[0] == 0.0
    assert values[2] == 0.5
    assert values[-1] == 1.0


@pytest.mark.parametrize("batch_size", [1, 7, 10, 50])
def test_training_matches_torch_sgd_with_the_last_smaller_batch(batch_size: int) -> None:
    generator = np.random.default_rng(2)
    features, truth = generator.uniform(-1, 1, (23, 4)), generator.integers(0, 2, 23).astype(np.float64)
    order = generator.permutation(23)
    module = nn.Linear(4, 1)
    _, initial = export_model(module, 4)
    module = module.double()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.5, momentum=0.9)
    for _ in range(4):
        for start in range(0, 23, batch_size):
            rows = torch.from_numpy(features[order[start : start + batch_size]])
            wanted = torch.from_numpy(truth[order[start : start + batch_size]])
            optimiser.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(module(rows)[:, 0], wanted).backward()
            optimiser.step()
    training = Training(epochs=4, batch_size=batch_size, learning_rate="0.5", momentum="0.9", shuffle_seed="00" * 16)
    trained = reference.train_logistic_regression(LOGISTIC, initial, features, truth, training=training, order=order)
    # at most 92 steps of float64, each adding a few roundings that momentum enlarges tenfold: 92 * 10 * 8 * 2^-53 < 1e-12
    assert np.allclose(trained["linear.weight"], module.weight.detach().numpy(), rtol=0, atol=1e-12)
    assert np.allclose(trained["linear.bias"], module.bias.detach().numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [[0, 1], [0, 1, 1], [1, 2, 3]])
def test_training_order_that_is_no_permutation_is_refused(order: list[int]) -> None:
    initial = {"linear.weight": np.zeros((1, 4)), "linear.bias": np.zeros(1)}
    training = Training(1, 2, "0.5", "0.9", "00" * 16)
    with pytest.raises(ConfideError, match="every row once"):
        reference.train_logistic_regression(
            LOGISTIC, initial, np.zeros((3, 4)), np.zeros(3), training=training, order=np.array(order, np.int64)
        )
