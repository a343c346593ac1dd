"""What an institution can train alone, without privacy: simple models on its own rows, and how they do with fewer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

LINEAR, NETWORK = "logistic regression", "small network"
_HIDDEN = 16
_DECAY = 1e-2
_MAX_EPOCHS = 200
_LEAST_TO_STOP_EARLY = 200  # rows: with fewer, a tenth of them tells nothing


def train_linear(features: NDArray[np.float64], labels: NDArray[np.int64], seed: int) -> Callable[..., NDArray[np.float64]]:
    """Trains a logistic regression on standardised features; returns the function from features to scores."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000, random_state=seed))
    return _fitted(model, features, labels)


def train_network(features: NDArray[np.float64], labels: NDArray[np.int64], seed: int) -> Callable[..., NDArray[np.float64]]:
    """Trains a network of one hidden layer, likewise; stops where a tenth of the rows that it does not see says so."""
    network = MLPClassifier(
        (_HIDDEN,), alpha=_DECAY, max_iter=_MAX_EPOCHS, early_stopping=len(labels) >= _LEAST_TO_STOP_EARLY, random_state=seed
    )
    return _fitted(make_pipeline(StandardScaler(), network), features, labels)


SIMPLE_MODELS: Mapping[str, Callable[..., Callable[..., NDArray[np.float64]]]] = {LINEAR: train_linear, NETWORK: train_network}


def rank_quality(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """Returns the area under the ROC curve."""
    return float(roc_auc_score(labels, scores))


def _fitted(model: object, features: NDArray[np.float64], labels: NDArray[np.int64]) -> Callable[..., NDArray[np.float64]]:
    with warnings.catch_warnings():
        # A network that is stopped after its epochs is one of the simple models; nobody acts on the warning.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, labels)  # type: ignore[attr-defined]

    def scores(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(model.predict_proba(rows)[:, 1])  # type: ignore[attr-defined]

    return scores
