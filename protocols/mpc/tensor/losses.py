"""Losses whose gradient is known in closed form; the value is computed only where a program asks for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from protocols.mpc.tensor.arithmetic import mean_over
from protocols.mpc.tensor.reductions import stack
from protocols.mpc.tensor.shared_tensor import SharedTensor, refused


def binary_cross_entropy_with_logits(self: SharedTensor, target: Any, skip_forward: Any = False) -> Any:
    """Returns the mean of log(1 + e^x) - x y; 0 if the value is skipped."""
    return SharedTensor(0.0) if skip_forward else logit_loss(self, target)


def binary_cross_entropy(self: SharedTensor, target: Any, skip_forward: Any = False) -> Any:
    """Returns the mean of -y log p - (1 - y) log(1 - p); a logarithm of less than 2^-16 counts as that of 2^-16."""
    if skip_forward:
        return SharedTensor(0.0)
    logs = stack([self, self.rsub(1.0)]).log()
    on, off = logs.unbind(0)
    return on.sub(off).mul(target).add(off).mean().neg()


def cross_entropy(self: SharedTensor, target: Any, skip_forward: Any = False) -> Any:
    """Returns the mean over rows of -sum(y log softmax(x)) for one-hot y; 0 if the value is skipped."""
    logits, rows = as_rows(self, target)
    if skip_forward:
        return SharedTensor(0.0)
    return logits.log_softmax_of_rows().mul(target.reshape(logits.shape)).sum().div(-rows)


def logit_loss(logits: SharedTensor, target: Any) -> Any:
    """Returns the value of the binary cross-entropy of logits, safe for large ones."""
    flat = logits.reshape(-1, 1)
    pairs = SharedTensor.cat([SharedTensor(np.zeros(flat.shape)), flat], 1)
    # log(1 + e^x) is minus the first of the two log-probabilities of the logits (0, x).
    softplus = pairs.log_softmax_of_rows().narrow(1, 0, 1).neg()
    return softplus.reshape(logits.shape).sub(logits.mul(target)).mean()


def cross_entropy_gradient(logits: SharedTensor, target: SharedTensor) -> SharedTensor:
    """Returns the gradient of `cross_entropy` for (rows, classes) and one-hot targets of that shape; the rounds of a softmax."""
    rows, count = as_rows(logits, target)
    return mean_over(rows.softmax_of_rows().sub(target), count)


def logit_gradient(logits: SharedTensor, target: SharedTensor) -> SharedTensor:
    """Returns the gradient of `binary_cross_entropy_with_logits`; the rounds of a sigmoid."""
    return mean_over(logits.sigmoid().sub(target), logits.nelement())


def squares_gradient(predicted: SharedTensor, target: SharedTensor) -> SharedTensor:
    """Returns the gradient of the mean of squared differences; no communication."""
    gradient: SharedTensor = predicted.sub(target).mul(2).div(predicted.nelement())
    return gradient


def as_rows(logits: SharedTensor, target: Any) -> tuple[Any, int]:
    """Returns logits as a matrix, and its number of rows; a vector, what a squeezed batch of one row is, counts as one row."""
    if logits.shape != target.shape or not 1 <= logits.dim() <= 2:
        raise refused(f"cross_entropy of shapes {logits.shape} and {target.shape}")
    rows = logits if logits.dim() == 2 else logits.reshape(1, -1)
    return rows, rows.shape[0]
