"""Export of a trained scikit-learn model into a `ModelSpec` and its weights, like that of a torch module.

Read are fitted attributes, as scikit-learn documents them; the object itself goes nowhere, and files of such objects are never
opened: they are pickles. Scalers before the model are worked into its first layer, so that samples stay in their own units.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.model.layers import Linear, Operator, Relu, Sigmoid, Softmax, Tanh
from protocols.model.spec import ModelSpec

Float64 = NDArray[np.float64]
_ACTIVATIONS: dict[str, Operator | None] = {
    "identity": None, "relu": Relu(), "logistic": Sigmoid(), "tanh": Tanh(), "softmax": Softmax(),
}  # fmt: skip
_SUPPORTED = "LogisticRegression, LinearRegression, Ridge, MLPClassifier and MLPRegressor, after StandardScaler or MinMaxScaler"


def export_sklearn(model: object) -> tuple[ModelSpec, dict[str, NDArray[np.float32]]]:
    """Returns the architecture of a fitted scikit-learn model and a copy of its weights.

    Args:
        model: LogisticRegression, LinearRegression, Ridge, MLPClassifier or MLPRegressor, or a Pipeline that ends in one of them
            after StandardScaler or MinMaxScaler.

    Returns:
        The specification, and by parameter name read-only float32 arrays, as secret as the model. The outputs are the decision
        values, and the probabilities after the last sigmoid or softmax; classes stand in the order of `classes_`.

    Raises:
        ConfideError: INVALID_MODEL (the author's fault): another kind of model, or one that is not fitted.
    """
    steps = _steps(model)
    scale: Float64 | None = None
    shift: Float64 | None = None
    for scaler in steps[:-1]:
        factor, offset = _scaler(scaler)
        scale = factor if scale is None else scale * factor
        shift = offset if shift is None else shift * factor + offset
    matrices, activations = _layers(steps[-1])
    if scale is not None and shift is not None:
        width = matrices[0][0].shape[1]
        if scale.shape != (width,):
            raise _invalid(f"the scaler was fitted to {scale.size} features, the model to {width}")
        weight, bias = matrices[0]
        matrices[0] = (weight * scale, bias + weight @ shift)
    operators: dict[str, Operator] = {}
    weights: dict[str, NDArray[np.float32]] = {}
    for number, ((weight, bias), activation) in enumerate(zip(matrices, activations, strict=True)):
        name = f"linear_{number}"
        operators[name] = Linear(len(weight))
        for suffix, values in (("weight", weight), ("bias", bias)):
            if not np.isfinite(values).all():
                raise _invalid("its weights are not finite")
            weights[f"{name}.{suffix}"] = np.ascontiguousarray(values, np.float32)
            weights[f"{name}.{suffix}"].setflags(write=False)
        if activation is not None:
            operators[f"{activation.kind}_{number}"] = activation
    spec = ModelSpec.chain(matrices[0][0].shape[1], **operators)
    return ModelSpec.from_document(spec.to_document()), weights  # checked as a whole


def _steps(model: object) -> list[object]:
    from sklearn.pipeline import Pipeline

    if not isinstance(model, Pipeline):
        return [model]
    found: list[object] = []
    for _, step in model.steps:
        if step is not None and step != "passthrough":
            found += _steps(step)
    return found or [model]


def _scaler(step: Any) -> tuple[Float64, Float64]:
    """Returns a and c of x -> a x + c."""
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    if type(step) is StandardScaler:
        width = _fitted(step, "n_features_in_")
        mean = step.mean_ if step.with_mean else None
        deviation = step.scale_ if step.with_std else None
        factor = np.ones(width) if deviation is None else 1 / np.asarray(deviation, np.float64)
        return factor, np.zeros(width) if mean is None else -np.asarray(mean, np.float64) * factor
    if type(step) is MinMaxScaler:
        _fitted(step, "scale_")
        if step.clip:
            raise _invalid("a MinMaxScaler that clips is not linear", remedy="Use clip=False.")
        return np.asarray(step.scale_, np.float64), np.asarray(step.min_, np.float64)
    raise _invalid(f"a {type(step).__name__} before the model is not exported")


def _layers(model: Any) -> tuple[list[tuple[Float64, Float64]], list[Operator | None]]:
    from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    if type(model) in (LogisticRegression, LinearRegression, Ridge):
        weight = np.atleast_2d(np.asarray(_fitted(model, "coef_"), np.float64))
        bias = np.broadcast_to(np.asarray(model.intercept_, np.float64).ravel(), (len(weight),))
        if type(model) is not LogisticRegression:
            return [(weight, bias)], [None]
        return [(weight, bias)], [Sigmoid() if len(weight) == 1 else Softmax()]
    if type(model) in (MLPClassifier, MLPRegressor):
        matrices = [
            (np.asarray(coefs, np.float64).T, np.asarray(intercepts, np.float64))
            for coefs, intercepts in zip(_fitted(model, "coefs_"), model.intercepts_, strict=True)
        ]
        return matrices, list(_activations(model, len(matrices)))
    raise _invalid(f"a {type(model).__name__} is not exported")


def _activations(model: Any, count: int) -> Iterator[Operator | None]:
    for kind in (*[model.activation] * (count - 1), model.out_activation_):
        if kind not in _ACTIVATIONS:
            raise _invalid(f"its activation {str(kind)[:32]!r} is not exported")
        yield _ACTIVATIONS[kind]


def _fitted(model: Any, attribute: str) -> Any:
    if not hasattr(model, attribute):
        raise _invalid(f"the {type(model).__name__} is not fitted", remedy="Fit it first.")
    return getattr(model, attribute)


def _invalid(what: str, *, remedy: str = "") -> ConfideError:
    return ConfideError(ErrorCode.INVALID_MODEL, what, remedy=remedy or f"Supported are {_SUPPORTED}.")
