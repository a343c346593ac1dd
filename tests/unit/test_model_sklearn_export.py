"""A scikit-learn model and its export compute the same; what cannot be exported is refused with the reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler

from protocols.errors import ConfideError, ErrorCode
from protocols.model.export import export_sklearn
from protocols.model.reference import outputs
from protocols.model.weights import weights_from_safetensors, weights_to_safetensors

SOURCE = np.random.default_rng(3)
# Units that differ by orders of magnitude, as ages and blood counts do.
ROWS = SOURCE.normal(size=(120, 5)) * np.array([1.0, 100.0, 0.01, 10.0, 3000.0]) + np.array([0.0, 500.0, 1.0, -20.0, 9000.0])
SCORES = (ROWS - ROWS.mean(0)) / ROWS.std(0) @ SOURCE.normal(size=(5, 3))
CLASSES = SCORES.argmax(1)
ILL = (SCORES[:, 0] > 0).astype(int)
# Weights are rounded to float32 once: relative 2^-24 of sums that are about 50 here, and outputs of order one.
TOLERANCE = 1e-4


def small_mlp(kind: type[Any], activation: str) -> Any:
    return kind(hidden_layer_sizes=(6, 4), activation=activation, max_iter=30, random_state=0, solver="lbfgs")


@pytest.mark.parametrize(
    ("model", "labels"),
    [
        (LogisticRegression(), ILL),
        (LogisticRegression(), CLASSES),
        (LogisticRegression(fit_intercept=False), ILL),
        *(
            (small_mlp(MLPClassifier, kind), labels)
            for kind in ("identity", "relu", "logistic", "tanh")
            for labels in (ILL, CLASSES)
        ),
    ],
)
@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler((-1, 1)), StandardScaler(with_mean=False)], ids=repr)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_exported_classifier_gives_the_same_probabilities(model: Any, labels: Any, scaler: Any) -> None:
    fitted = make_pipeline(scaler, model).fit(ROWS, labels)
    found = outputs(*export_sklearn(fitted), ROWS)
    expected = fitted.predict_proba(ROWS)
    assert np.abs(found - (expected[:, 1:] if found.shape[1] == 1 else expected)).max() < TOLERANCE


@pytest.mark.parametrize(
    "model", [LinearRegression(), Ridge(), *(small_mlp(MLPRegressor, kind) for kind in ("relu", "tanh"))], ids=repr
)
@pytest.mark.parametrize("targets", [SCORES[:, 0], SCORES], ids=["one", "three"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_exported_regression_gives_the_same_values(model: Any, targets: Any) -> None:
    fitted = make_pipeline(StandardScaler(), MinMaxScaler(), model).fit(ROWS, targets)
    found = outputs(*export_sklearn(fitted), ROWS)
    assert np.abs(found - fitted.predict(ROWS).reshape(found.shape)).max() < TOLERANCE


def test_exported_weights_are_those_that_are_written_and_read() -> None:
    spec, weights = export_sklearn(LogisticRegression().fit(ROWS / 1e3, ILL))
    again = weights_from_safetensors(weights_to_safetensors(weights, spec), spec)
    assert all((again[name] == values).all() for name, values in weights.items())
    assert not any(values.flags.writeable for values in weights.values())


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (RandomForestClassifier(2).fit(ROWS, ILL), "RandomForestClassifier is not exported"),
        (LogisticRegression(), "not fitted"),
        (make_pipeline(Normalizer(), LogisticRegression()).fit(ROWS, ILL), "Normalizer"),
        (make_pipeline(MinMaxScaler(clip=True), LogisticRegression()).fit(ROWS, ILL), "clips"),
        (object(), "object is not exported"),
    ],
)
def test_model_that_is_not_exported_is_refused_with_the_reason(model: object, said: str) -> None:
    with pytest.raises(ConfideError) as error:
        export_sklearn(model)
    assert error.value.code is ErrorCode.INVALID_MODEL
    assert said in error.value.what


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_subclass_of_a_known_model_may_compute_something_else_and_is_refused() -> None:
    class Doubled(LogisticRegression):
        def decision_function(self, X: Any) -> Any:
            return 2 * super().decision_function(X)

    with pytest.raises(ConfideError):
        export_sklearn(Doubled().fit(ROWS, ILL))
