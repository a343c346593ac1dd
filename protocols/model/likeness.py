"""Whether two models are one but for some digits: told by their answers to the same few made-up rows.

Parameters tell less: the same network with its hidden units in another order has others. Answers are compared up to what
decisions, ranks and attacks are blind to: a constant, and one factor. What is kept of them is eight numbers, random sums of
hundreds of answers (Johnson and Lindenstrauss), so that a table of such models gives none of them away that has more parameters.
Whoever changes a model by more than digits makes another one, and this does not say how much of it is the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.model.plain_layers import Weights
from protocols.model.reference import logits
from protocols.model.spec import ModelSpec

NUMBERS = 8
ALIKE = 0.01  # of the spread of the answers; eight sums tell a distance to about a quarter of it
_ROWS = 64
_SEED = 20_261

Sketch = NDArray[np.float64]


def sketch_of(spec: ModelSpec, weights: Weights) -> Sketch:
    """Returns what is kept of a model's answers, (8,) float64; secret.

    Args:
        spec: its architecture.
        weights: by parameter name; secret.
    """
    drawn = np.random.Generator(np.random.PCG64(_SEED))
    answers = logits(spec, weights, drawn.uniform(-1, 1, (_ROWS, spec.input_features)))
    if answers.shape[1] > 1:
        answers = answers - answers.mean(axis=1, keepdims=True)  # no softmax sees it
    centred = (answers - answers.mean(axis=0)).reshape(-1)
    spread = float(np.linalg.norm(centred))
    sums = drawn.normal(0, 1 / np.sqrt(NUMBERS), (NUMBERS, len(centred)))
    found: Sketch = sums @ (centred / spread) if 0 < spread < np.inf else np.zeros(NUMBERS)
    return found


def are_alike(one: Sketch, other: Sketch) -> bool:
    """Returns whether the answers of two models of as many inputs and outputs are within a hundredth of their spread."""
    return float(np.linalg.norm(one - other)) <= ALIKE
