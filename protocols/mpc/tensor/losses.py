"""Losses whose gradient is known in closed form; the value is computed only where a program asks for it."""

from __future__ import annotations

from typing import Any

import numpy as np

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
    return logits.log_softmax_of_rows().mul(target.reshape(tuple(logits.size()))).sum().div(-rows)


def logit_loss(logits: SharedTensor, target: Any) -> Any:
    """Returns the value of the binary cross-entropy of logits, safe for large ones."""
    flat = logits.reshape(-1, 1)
    pairs = SharedTensor.cat([SharedTensor(np.zeros(tuple(flat.size()))), flat], 1)
    # log(1 + e^x) is minus the first of the two log-probabilities of the logits (0, x).
    softplus = pairs.log_softmax_of_rows().narrow(1, 0, 1).neg()
    return softplus.reshape(tuple(logits.size())).sub(logits.mul(target)).mean()


def as_rows(logits: SharedTensor, target: Any) -> tuple[Any, int]:
    """Returns logits as a matrix, and its number of rows; a vector, what a squeezed batch of one row is, counts as one row."""
    if tuple(logits.size()) != tuple(target.size()) or not 1 <= logits.dim() <= 2:
        raise refused(f"cross_entropy of shapes {tuple(logits.size())} and {tuple(target.size())}")
    rows = logits if logits.dim() == 2 else logits.reshape(1, -1)
    return rows, int(rows.size(0))
