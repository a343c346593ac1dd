"""From logits to predicted classes, in shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocols.fixed_point import VALUE_BITS
from protocols.job import Task
from protocols.mpc.combination import Term
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.comparison import nonnegative
from protocols.mpc.primitives.maximum import maximum
from protocols.mpc.primitives.softmax import MAX_SCALE_BITS
from protocols.mpc.tensor import SharedTensor
from protocols.mpc.values import ValueView
from protocols.ring import RingArray

_COMPARABLE_BITS = 60


@dataclass(frozen=True, repr=False)
class Classes:
    """Predicted classes in shares, whole numbers.

    Attributes:
        labels: (rows, 1), the index of the class.
        one_hot: (rows, classes), 1 at the class; of two classes for a binary task.
    """

    labels: RingArray
    one_hot: RingArray


def predicted_classes(engine: Engine, task: Task, logits: Term) -> Steps[Classes]:
    """Returns the class of every row: [logit >= 0], or the first of the largest logits; exact, without rounding.

    Args:
        engine: this party's engine.
        task: binary or classes.
        logits: (rows, 1) or (rows, classes), one term with factor 1, of any scale; secret.

    Learns: nobody anything; everything opened is uniform.
    """
    share = np.ascontiguousarray(logits.view.share)
    if task is Task.CLASSES:
        _, one_hot = yield from maximum(engine, share)
        labels = one_hot @ np.arange(one_hot.shape[1], dtype=np.int64)
        return Classes(labels.reshape(-1, 1), one_hot)
    bit = yield from nonnegative(engine, share)
    return Classes(bit, np.hstack([engine.public(np.ones_like(bit)) - bit, bit]))


def plain_term(logits: SharedTensor) -> Term:
    """Returns logits as one value without a factor, small enough to be compared: as they are, or settled in one round."""
    term = logits.operand()
    value = term.view.value
    if term.multiple.is_unit and value.magnitude_bits <= _COMPARABLE_BITS and value.scale_bits <= MAX_SCALE_BITS:
        return term
    return Term(ValueView(logits.settle(VALUE_BITS)))
