"""What a caller may say of an answer besides its kind, in Python and on the command line: the fields of `answer_request`."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias, TypedDict

from protocols.job_parts import Output, OutputKind

DecimalLike: TypeAlias = "str | float | Decimal | None"


class AnswerOptions(TypedDict, total=False):
    """Each may be left out, or None for what a request says without it; all are applied in shares, before anything is opened.

    Attributes:
        decimals: probabilities, scores and values are rounded to so many, so that no finer digits are opened.
        top_k: only so many of a sample's probabilities are opened, the largest; the others are 0.
        clip: probabilities are opened from this to 1 less this.
        noise: of labels, probabilities, values and means: standard deviation of noise on each number.
        noise_colluders: how many computing parties may pool what they know of the noise; all but one if it is not said.
        abstain_below: labels of samples of which the model is less sure are -1, and probabilities NaN.
        abstain_beyond: likewise of samples that lie farther from the middle of their features' ranges, whatever the model is;
            also scores and values.
        min_cell: a mean is of at least so many samples.
    """

    decimals: int | None
    top_k: int | None
    clip: DecimalLike
    noise: DecimalLike
    noise_colluders: int | None
    abstain_below: DecimalLike
    abstain_beyond: DecimalLike
    min_cell: int | None


def wanted_output(kind: str, options: Mapping[str, Any], *, recipient: str) -> Output | None:
    """Returns the output that a serving must open to answer this; None if no serving can, and the job says why.

    Args:
        kind: of output.
        options: by the names of `AnswerOptions`, those that are not None. Without `noise_colluders` the output has 0 of them.
        recipient: researcher id.
    """
    kinds = {each.value: each for each in OutputKind}
    if kind not in kinds or kind == OutputKind.MEAN.value:
        return None
    clip, noise = _decimal_text(options.get("clip")), _decimal_text(options.get("noise"))
    below, beyond = _decimal_text(options.get("abstain_below")), _decimal_text(options.get("abstain_beyond"))
    if clip is None or noise is None or below is None or beyond is None:
        return None
    return Output(
        "",
        kinds[kind],
        recipient,
        top_k=options.get("top_k", 0),
        decimals=options.get("decimals"),
        clip=clip,
        noise=noise,
        noise_colluders=options.get("noise_colluders", 0),
        abstain_below=below,
        abstain_beyond=beyond,
    )


def _decimal_text(value: DecimalLike) -> str | None:
    try:
        found = Decimal(str(0 if value is None else value))
    except InvalidOperation:
        return None
    return format(found, "f") if found.is_finite() else None
