"""Logistic regression in plain float64: what joint training must agree with."""

from __future__ import annotations

import numpy as np
from scipy.special import expit
from sklearn.datasets import load_breast_cancer

from protocols.mpc.row_order import row_order
from protocols.training import Training


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    """The table with its features scaled to [-1, 1] by their ranges: (569, 30) and (569,)."""
    features, labels = load_breast_cancer(return_X_y=True)
    low, high = features.min(axis=0), features.max(axis=0)
    return 2 * (features - low) / (high - low) - 1, labels.astype(np.float64)


def logistic(values: np.ndarray) -> np.ndarray:
    return np.asarray(expit(values))


def train_plain(
    features: np.ndarray, labels: np.ndarray, training: Training, weight: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """SGD with momentum over the same batches; weight (1, features), bias (1,)."""
    order = row_order(training.shuffle_seed, len(features))
    features, labels = features[order], labels[order]
    rate, decay = float(training.optimiser.learning_rate), float(training.optimiser.momentum)
    weight, bias = weight.copy(), bias.copy()
    weight_momentum, bias_momentum = np.zeros_like(weight), np.zeros_like(bias)
    for _ in range(training.epochs):
        for start in range(0, len(features), training.batch_size):
            x, y = features[start : start + training.batch_size], labels[start : start + training.batch_size]
            difference = logistic(x @ weight.T + bias)[:, 0] - y
            weight_momentum = decay * weight_momentum + difference[None, :] @ x / len(x)
            bias_momentum = decay * bias_momentum + difference.mean()
            weight, bias = weight - rate * weight_momentum, bias - rate * bias_momentum
    return weight, bias


def accuracy(features: np.ndarray, labels: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> float:
    return float((((features @ weight.T + bias)[:, 0] >= 0) == (labels > 0.5)).mean())
