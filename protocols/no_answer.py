"""What is opened in place of the numbers of a sample that gets no answer (docs/protocols/outputs.md)."""

from __future__ import annotations

from protocols.fixed_point import VALUE_LIMIT_BITS
from protocols.job_parts import Output, OutputKind

_NO_CLASS = -1
_NO_NUMBER = -(1 << VALUE_LIMIT_BITS)  # scores and values are declared to stay below it, and no noise reaches it


def no_answer(output: Output) -> int:
    """Returns the mark that stands for each number of a sample without an answer; no answer has it.

    Args:
        output: of samples; public.

    Returns:
        -1 for a class, and for a probability without noise; else a number that no score, no value and no noise reaches.
    """
    is_number = output.kind in (OutputKind.SCORE, OutputKind.VALUE) or (
        output.kind is OutputKind.PROBABILITY and output.has_noise
    )
    return _NO_NUMBER if is_number else _NO_CLASS
