"""Counts and shares of rows as a report may show them: so that no figure speaks of a handful of people."""

from __future__ import annotations

from collections.abc import Sequence

LEAST = 5


def masked_count(count: int, total: int) -> int | str:
    """Returns a count of rows out of all, or `<5` and the like where it, or what is left of all, is one of a few rows."""
    if 0 < count < LEAST:
        return f"<{LEAST}"
    if 0 < total - count < LEAST:
        return f">{total - LEAST}"
    return count


def masked_share(count: int, total: int) -> str:
    """Returns a count as a share of all rows with four decimals, masked as `masked_count` masks the count."""
    shown = masked_count(count, total)
    if isinstance(shown, int):
        return share(shown / total if total else 0.0)
    return f"{shown[0]}{share(int(shown[1:]) / total)}"


def masked_parts(counts: Sequence[int]) -> list[int | str]:
    """Returns counts that add up to a total: if a single one is masked, the next smallest is too, or it could be subtracted."""
    total = sum(counts)
    shown = [masked_count(count, total) for count in counts]
    hidden = [position for position, value in enumerate(shown) if isinstance(value, str)]
    others = [position for position, count in enumerate(counts) if count >= LEAST and position not in hidden]
    if len(hidden) == 1 and others:
        shown[min(others, key=lambda position: counts[position])] = "masked"
    return shown


def share(value: float) -> str:
    """Returns a share, or another figure, with four decimals: documents hold no floats."""
    return f"{value:.4f}"
