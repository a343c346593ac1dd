"""What a researcher asks to be opened of predictions, of one inference or of a serving.

output: probability                 # label | probability | score | value | mean, of all samples of one inference
decimals: 2                         # probability, score, value: rounded to so many decimals before it is opened
top_k: 3                            # probabilities of classes: only the three largest of a sample, the others as 0
clip: "0.01"                        # probability: from 0.01 to 0.99
noise: "0.1"                        # label, probability, value, mean: standard deviation of noise on each number
noise_colluders: 1                  # computing parties that may pool what they know of it; else all but one
abstain_below: "0.7"                # label, probability: no answer for samples of which the model is less sure
abstain_beyond: "0.5"               # label, probability, score, value: none for samples that lie farther from the middle
min_cell: 20                        # mean: of at least so many samples
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from parties.client.training_request import Strict
from protocols.job import Output, OutputKind, Task

_PREDICTED = {Task.BINARY: OutputKind.LABEL, Task.CLASSES: OutputKind.LABEL, Task.REAL: OutputKind.VALUE}
DEFAULT_MEAN_CELL = 20


class AnswerFields(Strict):
    """The fields of a request that say what is opened of each prediction; the checks of the job bound them."""

    output: Literal["label", "probability", "score", "value", "mean"] | None = None
    decimals: int | None = None
    top_k: int = 0
    clip: str = "0"
    noise: str = "0"
    noise_colluders: int | None = None
    abstain_below: str = "0"
    abstain_beyond: str = "0"
    min_cell: int | None = None


def answer_output(asked: AnswerFields, *, task: Task, names: Mapping[OutputKind, str], recipient: str, computing: int) -> Output:
    """Returns the output of predictions as it stands in a job.

    Args:
        asked: what the researcher wrote; without an output the label, or the value if it is a number.
        task: of the model.
        names: how outputs are called, by kind.
        recipient: the researcher.
        computing: how many parties compute.
    """
    kind = _PREDICTED[task] if asked.output is None else OutputKind(asked.output)
    least = DEFAULT_MEAN_CELL if kind is OutputKind.MEAN else 0
    return Output(
        names[kind],
        kind,
        recipient,
        min_cell=least if asked.min_cell is None else asked.min_cell,
        top_k=asked.top_k,
        decimals=asked.decimals,
        clip=asked.clip,
        noise=asked.noise,
        noise_colluders=colluders(asked.noise, asked.noise_colluders, computing=computing),
        abstain_below=asked.abstain_below,
        abstain_beyond=asked.abstain_beyond,
    )


def colluders(noise: str, asked: int | None, *, computing: int) -> int:
    """Returns against how many computing parties noise holds: as many as are asked for, else all but one."""
    if asked is None:
        return 0 if noise == "0" else computing - 1
    return asked
