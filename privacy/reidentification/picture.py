"""The report as a picture (SVG): how large the classes are, before and after, and which columns make rows unique.

Drawn by a few lines of our own, since all that is needed are bars and words. The second panel names columns: the picture is for
the owner's eyes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from privacy.reidentification.masking import LEAST
from privacy.reidentification.report import ReidentificationReport
from privacy.reidentification.report_document import size_names

MAX_BARS = 15
_WIDTH = 900
_LEFT = 220
_RIGHT = 150
_ROW = 22
_TOP = 56
# Told apart without colour vision too: a dark blue and a light orange (Okabe and Ito).
_COLOURS = ("#0072B2", "#E69F00")
_INK = "#222222"
_PALE = "#dddddd"


@dataclass(frozen=True)
class _Bar:
    """How long it is, from 0 to 1, what stands at its end, and whether it is of few rows."""

    share: float
    words: str
    few: bool = False


def picture(before: ReidentificationReport, after: ReidentificationReport | None = None) -> str:
    """Draws one report, or two beside each other.

    Args:
        before: the report.
        after: of the same people's table after its preparation, if there is one.

    Returns:
        The picture as SVG. A bar that stands for fewer than `LEAST` rows is drawn as long as one for `LEAST`, and pale.
    """
    reports = [before] if after is None else [before, after]
    names = ["table"] if after is None else ["before", "after"]
    sizes = [[_bar(rows, one.num_rows) for rows in one.classes.rows_by_size] for one in reports]
    height, parts = _TOP, [_legend(names)]
    drawn, height = _panel(
        "Rows by the size of their class", ["alone", *(f"{name} rows alike" for name in size_names()[1:])], sizes, height
    )
    parts.append(drawn)
    columns = _riskiest(before)
    labels = [f"{column} *" if column in before.flagged else column for column in columns]
    unique = [[_unique_share(one, column) for column in columns] for one in reports]
    drawn, height = _panel("Rows that a column alone makes unique", labels, unique, height + _ROW)
    parts.append(drawn)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="13" fill="{_INK}">'
    )
    title = "<title>Re-identification report</title>"
    return "\n".join([head, title, f'<rect width="{_WIDTH}" height="{height}" fill="white"/>', *parts, "</svg>\n"])


def _panel(title: str, labels: Sequence[str], series: Sequence[Sequence[_Bar]], top: int) -> tuple[str, int]:
    """One panel of bars from a height down, and the height at its end."""
    parts = [f'<text x="16" y="{top + 14}" font-weight="bold">{escape(title)}</text>']
    room = _WIDTH - _LEFT - _RIGHT
    thick = (_ROW - 6) / len(series)
    for position, label in enumerate(labels):
        y = top + _ROW * (position + 1) + 4
        shown = label if len(label) <= 28 else f"{label[:27]}\u2026"
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(shown)}</text>')
        for order, values in enumerate(series):
            bar = values[position]
            opacity = ' fill-opacity="0.45"' if bar.few else ""
            parts.append(
                f'<rect x="{_LEFT}" y="{y + order * thick:.1f}" width="{bar.share * room:.1f}" height="{thick - 1:.1f}" '
                f'fill="{_COLOURS[order]}"{opacity}/>'
            )
        words = " / ".join(values[position].words for values in series)
        longest = max(values[position].share for values in series)
        parts.append(f'<text x="{_LEFT + longest * room + 6:.1f}" y="{y + 12}" font-size="11">{escape(words)}</text>')
    end = top + _ROW * (len(labels) + 1) + 12
    parts.append(f'<line x1="{_LEFT}" y1="{top + _ROW}" x2="{_LEFT}" y2="{end - 6}" stroke="{_PALE}"/>')
    return "\n".join(parts), end


def _legend(names: Sequence[str]) -> str:
    parts = []
    for order, name in enumerate(names):
        x = _LEFT + 110 * order
        parts.append(f'<rect x="{x}" y="20" width="14" height="14" fill="{_COLOURS[order]}"/>')
        parts.append(f'<text x="{x + 20}" y="32">{escape(name)}</text>')
    parts.append(f'<text x="{_LEFT + 240}" y="32" font-size="11">pale: fewer than {LEAST} rows; *: seems to name people</text>')
    return "\n".join(parts)


def _riskiest(report: ReidentificationReport) -> list[str]:
    ranked = sorted(report.columns, key=lambda column: (-column.unique, column.name))
    return [column.name for column in ranked[:MAX_BARS]]


def _unique_share(report: ReidentificationReport, name: str) -> _Bar:
    unique = next((column.unique for column in report.columns if column.name == name), None)
    return _Bar(0.0, "dropped") if unique is None else _bar(unique, report.num_rows)


def _bar(rows: int, total: int) -> _Bar:
    few = 0 < rows < LEAST
    value = min(1.0, max(rows, LEAST) / total) if rows else 0.0
    digits = 1 if value == 0 or value >= 0.001 else 3
    return _Bar(value, f"{'<' if few else ''}{100 * value:.{digits}f} %", few)
