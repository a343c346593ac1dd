"""Answers with noise, without an answer, and means, for people."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from protocols.job_parts import OutputKind

if TYPE_CHECKING:
    from parties.client.client import Values
    from privacy.preparation.columns import Column
    from protocols.job import Job, Output

NO_ANSWER = "no answer"


def answer_constraints(output: Output) -> Iterable[str]:
    """Yields what noise and abstention do to an output before it is opened."""
    if output.noise != "0":
        yield f"noise of deviation {output.noise} on each number, against {output.noise_colluders} who pool"
    if output.abstain_below != "0":
        yield f"no answer below {output.abstain_below}"
    if output.abstain_beyond != "0":
        yield f"no answer beyond {output.abstain_beyond}"


def number_in_words(item: float, places: str) -> str:
    """Returns a probability, score or value of a sample; it may have no answer."""
    return NO_ANSWER if math.isnan(item) else f"{item:{places}}"


def answer_noise_note(job: Job, output: Output) -> str:
    """Returns a line about the noise in the numbers of predictions, and what was done with them for it; empty without."""
    if output.noise == "0":
        return ""
    from protocols.answer_noise import own_deviation  # loads numpy
    from protocols.fixed_point import VALUE_BITS

    drawers = len(job.computing_parties)
    deviation = own_deviation(output, drawers=drawers) * math.sqrt(drawers) / 2**VALUE_BITS
    note = f"\nevery number had noise of deviation {deviation:.3g} added"
    if output.kind is OutputKind.LABEL:
        return f"{note}, from which the class follows"
    return f"{note}; probabilities are brought back to 0 to 1" if output.kind is OutputKind.PROBABILITY else note


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
