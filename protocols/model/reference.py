"""The plaintext oracle: what a model computes, and what training must arrive at, in float64.

Joint results are compared with these functions. They see rows and weights in the clear, so they run only where one person may
see both: in tests, and in comparisons on public data. Layers, losses and optimisers stand in modules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.job_parts import Task
from protocols.model.layers import Sigmoid, Softmax
from protocols.model.plain_layers import Coin, Float64, Pass, Weights, layer_gradient, run_layers, statistics_after
from protocols.model.plain_layers import sigmoid as sigmoid
from protocols.model.plain_layers import softmax as softmax
from protocols.model.plain_losses import confusion_counts as confusion_counts
from protocols.model.plain_losses import loss_slope, loss_value, targets
from protocols.model.plain_losses import roc_auc as roc_auc
from protocols.model.plain_optimisers import State, make_step, state_suffixes
from protocols.model.spec import Layer, ModelSpec
from protocols.training import Loss, Training

_ENDINGS = (Sigmoid, Softmax)
StepCoin = Callable[[int, str, tuple[int, ...]], NDArray[Any]]  # as Coin, with the number of the step before it


def logits(spec: ModelSpec, weights: Weights, features: Float64) -> Float64:
    """Returns the model's output before its last sigmoid or softmax, if it ends in one; else its output.

    Args:
        spec: the architecture.
        weights: arrays by parameter name, computed with in float64.
        features: (rows, input_features) float64.

    Returns:
        (rows, output_features) float64.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): the width of the rows is not the model's.
    """
    return _last(run_layers(spec, weights, features, layers=_before_ending(spec), trains=False, coin=None), features)


def outputs(spec: ModelSpec, weights: Weights, features: Float64) -> Float64:
    """Returns what the model gives after its last layer, (rows, output_features) float64; arguments as for `logits`."""
    return run_layers(spec, weights, features, layers=spec.layers, trains=False, coin=None)[-1].output


def probabilities(spec: ModelSpec, weights: Weights, features: Float64, *, task: Task = Task.BINARY) -> Float64:
    """Returns the sigmoid of each logit, or for several classes the softmax of a row's; other arguments as for `logits`.

    Returns:
        (rows, output_features) float64.
    """
    values = logits(spec, weights, features)
    return softmax(values) if task is Task.CLASSES else sigmoid(values)


def predicted(spec: ModelSpec, weights: Weights, features: Float64, *, task: Task = Task.BINARY) -> Float64:
    """Returns what the model predicts for each row; arguments as for `probabilities`.

    Returns:
        (rows,) float64: 1 where the logit is at least 0, else 0; the first class of the greatest logit; or the real output.
    """
    match task:
        case Task.BINARY:
            return (logits(spec, weights, features)[:, 0] >= 0).astype(np.float64)
        case Task.CLASSES:
            classes: NDArray[np.int64] = logits(spec, weights, features).argmax(axis=1)
            return classes.astype(np.float64)
        case Task.REAL:
            return outputs(spec, weights, features)[:, 0]


def accuracy(spec: ModelSpec, weights: Weights, features: Float64, truth: Float64, *, task: Task = Task.BINARY) -> float:
    """Returns the share of rows whose predicted class is the true one; `truth` is (rows,)."""
    return float(np.mean(predicted(spec, weights, features, task=task) == truth))


def mean_loss(spec: ModelSpec, weights: Weights, features: Float64, truth: Float64, *, loss: Loss, task: Task) -> float:
    """Returns the mean loss over all rows, without dropout and by running statistics; `truth` is (rows,), as registered."""
    take = outputs if loss is Loss.MEAN_SQUARED_ERROR else logits
    return loss_value(loss, take(spec, weights, features), targets(truth, spec.output_features, task))


def gradients(
    spec: ModelSpec, weights: Weights, features: Float64, truth: Float64, *, loss: Loss, task: Task, coin: Coin | None
) -> dict[str, Float64]:
    """Returns the derivative of a batch's mean loss by every trained parameter, by name, float64.

    Args:
        spec: the architecture.
        weights: by parameter name.
        features: (rows, input_features) float64.
        truth: (rows,) float64, labels as registered.
        loss: what is derived.
        task: what the labels are.
        coin: the public masks of dropout by layer name and shape; None for a model without dropout.
    """
    return _learn(spec, weights, features, truth, loss=loss, task=task, coin=coin)[0]


def _learn(
    spec: ModelSpec, weights: Weights, features: Float64, truth: Float64, *, loss: Loss, task: Task, coin: Coin | None
) -> tuple[dict[str, Float64], dict[str, Float64]]:
    """Returns the gradients, and the running statistics after the batch; by name."""
    # The slope of a cross-entropy is known at the logits; that of the squared error at the model's output.
    layers = spec.layers if loss is Loss.MEAN_SQUARED_ERROR else _before_ending(spec)
    passes = run_layers(spec, weights, features, layers=layers, trains=True, coin=coin)
    found: dict[str, Float64] = {}
    if not passes:
        return found, {}
    slopes = {passes[-1].layer.name: loss_slope(loss, passes[-1].output, targets(truth, spec.output_features, task))}
    for done in reversed(passes):
        by_inputs, of_layer = layer_gradient(done, weights, slopes[done.layer.name])
        found |= of_layer
        for name, slope in zip(done.layer.inputs, by_inputs, strict=True):
            # A result that several layers take gets the sum of what comes back from them.
            slopes[name] = slopes[name] + slope if name in slopes else slope
    return found, statistics_after(passes)


def train(
    spec: ModelSpec,
    initial: Weights,
    features: Float64,
    labels: Float64,
    *,
    training: Training,
    order: NDArray[np.int64],
    task: Task = Task.BINARY,
    coin: StepCoin | None = None,
) -> dict[str, Float64]:
    """Trains a model in mini-batches and returns its weights alone; everything else as for `train_on`."""
    state = train_on(spec, initial, features, labels, training=training, order=order, task=task, coin=coin)
    return {parameter.name: state[parameter.name] for parameter in spec.parameters}


def train_on(
    spec: ModelSpec,
    state: Weights,
    features: Float64,
    labels: Float64,
    *,
    training: Training,
    order: NDArray[np.int64],
    task: Task = Task.BINARY,
    coin: StepCoin | None = None,
) -> State:
    """Goes on with a training in mini-batches, from weights and what the optimiser kept.

    The rows are put in one order and cut into batches once; every epoch runs over the same batches, the last of which may be
    smaller. Steps follow torch's rules for SGD and Adam.

    Args:
        spec: the architecture.
        state: the weights before the first step, by parameter name, and what the optimiser kept of an earlier training; what
            is missing of the latter is zero.
        features: (rows, input_features) float64.
        labels: (rows,) float64, as registered.
        training: hyper-parameters; the shuffle seed is not used, order and coin are.
        order: (rows,) int64, a permutation of the row numbers, as derived from the shuffle seed.
        task: what the labels are.
        coin: the public masks of dropout, by the number of the step (from `training.steps_before`), layer name and shape.

    Returns:
        Weights and optimiser state after the last step, float64, by the names under which they are kept.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): rows of another width, or an order that is no permutation.
    """
    if not np.array_equal(np.sort(order), np.arange(len(labels))) or len(features) != len(labels):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the order must name every row once")
    current = _start(spec, state, training)
    shuffled, wanted = np.asarray(features, np.float64)[order], np.asarray(labels, np.float64)[order]
    step = training.steps_before
    for epoch in range(training.epochs):
        multiplier = training.schedule.multiplier(epoch, training.epochs)
        rate = float(training.optimiser.learning_rate) * float(multiplier)
        for start in range(0, len(order), training.batch_size):
            batch = slice(start, start + training.batch_size)
            masks = None if coin is None else _at(coin, step)
            found, statistics = _learn(spec, current, shuffled[batch], wanted[batch], loss=training.loss, task=task, coin=masks)
            step += 1
            make_step(current, found, optimiser=training.optimiser, learning_rate=rate, step=step)
            current |= statistics
    return current


def _start(spec: ModelSpec, state: Mapping[str, NDArray[Any]], training: Training) -> State:
    current = {parameter.name: np.array(state[parameter.name], np.float64) for parameter in spec.parameters}
    for parameter in spec.trained:
        for suffix in state_suffixes(training.optimiser):
            name = parameter.name + suffix
            current[name] = np.array(state[name], np.float64) if name in state else np.zeros(parameter.shape)
    return current


def _at(coin: StepCoin, step: int) -> Coin:
    return lambda layer, shape: coin(step, layer, shape)


def _before_ending(spec: ModelSpec) -> tuple[Layer, ...]:
    return spec.layers[:-1] if isinstance(spec.layers[-1].operator, _ENDINGS) else spec.layers


def _last(passes: list[Pass], features: Float64) -> Float64:
    return passes[-1].output if passes else np.asarray(features, np.float64)
