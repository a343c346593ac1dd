"""What is known before a run of the limits of its numbers, for people and for the JSON formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parties.cli.output import Json, table

if TYPE_CHECKING:
    from protocols.model.ranges import RangeReport


def ranges_in_words(report: RangeReport) -> str:
    """Returns the bounds of every layer beside their limits, and what is not proven; bounds are bits, below 2^bits."""
    heads = ("layer or parameter", "quantity", "at start", "grown", "limit", "headroom", "")
    rows = [
        (b.where, b.quantity, str(b.start_bits), str(b.grown_bits), str(b.limit_bits), str(b.headroom_bits), b.standing.value)
        for b in report.bounds
    ]
    return "\n".join(("largest absolute values, as powers of two:", table(heads, rows), *report.in_words))


def describe_ranges(report: RangeReport) -> dict[str, Json]:
    """Returns the same for the JSON formats."""
    return {
        "bounds": [
            {
                "where": bound.where,
                "quantity": bound.quantity,
                "start_bits": bound.start_bits,
                "grown_bits": bound.grown_bits,
                "limit_bits": bound.limit_bits,
                "standing": bound.standing.value,
            }
            for bound in report.bounds
        ],
        "warnings": list(report.warnings),
    }
