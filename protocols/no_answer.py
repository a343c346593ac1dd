"""What is opened in place of the numbers of a sample that gets no answer (docs/protocols/outputs.md)."""

from __future__ import annotations

from protocols.fixed_point import VALUE_LIMIT_BITS
from protocols.job_parts import OutputKind

_NO_CLASS = -1
_NO_NUMBER = -(1 << VALUE_LIMIT_BITS)  # scores and values are declared to stay below it


def no_answer(kind: OutputKind) -> int:
    """Returns the mark that stands for each number of a sample without an answer; no answer has it.

    Args:
        kind: of output; public.

    Returns:
        -1 for a class or a probability, else a number that no score and no value reaches.
    """
    return _NO_NUMBER if kind in (OutputKind.SCORE, OutputKind.VALUE) else _NO_CLASS
