"""Answers with noise, without an answer, and means, for people."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parties.client.client import Values
    from privacy.preparation.columns import Column
    from protocols.job import Output

NO_ANSWER = "no answer"


def answer_constraints(output: Output) -> Iterable[str]:
    """Yields what noise and abstention do to an output before it is opened."""
    if output.noise != "0":
        yield f"noise of deviation {output.noise} on each number, against {output.noise_colluders} who pool"
    if output.abstain_below != "0":
        yield f"no answer below {output.abstain_below}"


def number_in_words(item: float, places: str) -> str:
    """Returns a probability or score of a sample; it may have no answer."""
    return NO_ANSWER if math.isnan(item) else f"{item:{places}}"


def mean_in_words(label: Column, output: Output, value: Values) -> str:
    """Returns the mean of a query's predictions: in the label's own unit, or a probability for each class."""
    means = [float(item) for item in value]
    if label.class_names:
        names = label.class_names[-len(means) :]
        told = ", ".join(f"{name} {mean:.4f}" for name, mean in zip(names, means, strict=True))
        return f"{output.name} of the probabilities of {output.min_cell} or more samples: {told}"
    low, high = label.bounds
    own = low + (means[0] + 1) / 2 * (high - low)
    return f"{output.name} of the predictions of {output.min_cell} or more samples: {own:.6g}"
