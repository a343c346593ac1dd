"""The reliability diagram, as text and as a picture (SVG): what share was right, by the probability that the model gave."""

from __future__ import annotations

import math

import numpy as np

from privacy.risk.intervals import wilson
from privacy.utility.opened import BINS, FloatTable

_BAR = 40  # characters for a share of 1
_SIZE, _MARGIN = 320, 48  # of the picture, in pixels


def diagram_text(table: FloatTable) -> str:
    """Returns a line for each tenth: its rows, the mean probability, and a bar of the share that was right; `|` is the mean.

    Args:
        table: (10, 3): rows, sum of probabilities, right rows; NaN is withheld. With noise they are brought into their ranges.
    """
    lines = []
    for number, (rows, total, right) in enumerate(_in_range(table).tolist()):
        span = f"{number / BINS:.1f}-{(number + 1) / BINS:.1f}"
        if math.isnan(rows):
            lines.append(f"{span}  withheld")
        elif not rows:
            lines.append(f"{span}  no rows")
        else:
            bar = list(("#" * round(_BAR * right / rows)).ljust(_BAR + 1))
            bar[min(_BAR, round(_BAR * total / rows))] = "|"
            lines.append(f"{span}  {''.join(bar)} {right / rows:.3f} right, {total / rows:.3f} predicted, {rows:.0f} rows")
    return "\n".join(lines)


def diagram_svg(table: FloatTable) -> str:
    """Returns the diagram as a picture: the share that was right by mean probability, with intervals, over the diagonal.

    The intervals are those of the choice of rows; noise in the counts is not in them.
    """
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_SIZE + 2 * _MARGIN}" height="{_SIZE + 2 * _MARGIN}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect x="{_MARGIN}" y="{_MARGIN}" width="{_SIZE}" height="{_SIZE}" fill="none" stroke="black"/>',
        f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="grey" stroke-dasharray="4"/>',
        f'<text x="{_x(0.5)}" y="{_y(0) + 36}" text-anchor="middle">mean predicted probability</text>',
        f'<text x="16" y="{_y(0.5)}" text-anchor="middle" transform="rotate(-90 16 {_y(0.5)})">share that was right</text>',
    ]
    for tick in (0.0, 0.5, 1.0):
        parts.append(f'<text x="{_x(tick)}" y="{_y(0) + 18}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="{_x(0) - 8}" y="{_y(tick) + 4}" text-anchor="end">{tick:g}</text>')
    for rows, total, right in _in_range(table).tolist():
        if math.isnan(rows) or not rows:
            continue
        x, share = _x(min(1.0, total / rows)), wilson(int(right), int(rows))
        parts.append(f'<line x1="{x}" y1="{_y(share.low)}" x2="{x}" y2="{_y(share.high)}" stroke="steelblue"/>')
        parts.append(f'<circle cx="{x}" cy="{_y(share.value)}" r="4" fill="steelblue"><title>{rows:.0f} rows</title></circle>')
    return "\n".join([*parts, "</svg>", ""])


def _in_range(table: FloatTable) -> FloatTable:
    """Noisy numbers can be no counts: rows become whole and none negative, and no more are right than there are."""
    rows = np.maximum(np.rint(table[:, :1]), 0.0)
    return np.concatenate([rows, np.clip(table[:, 1:], 0.0, rows)], axis=1)


def _x(value: float) -> float:
    return round(_MARGIN + _SIZE * value, 2)


def _y(value: float) -> float:
    return round(_MARGIN + _SIZE * (1 - value), 2)
