"""Progress bars of an encrypted request on a terminal: keys that are uploaded, queries, answers; nothing where there is none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

BYTES = "evaluation keys"  # the stage that is counted in bytes, not in queries


@contextmanager
def bars(console: Console | None = None) -> Iterator[Callable[[str, int, int], None]]:
    """Shows how far each stage of a request is, for the length of a `with` block.

    Args:
        console: where the bars go; else standard error, and nowhere if that is no terminal.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    shown = console or Console(file=sys.stderr)
    if not shown.is_terminal:
        yield lambda stage, done, total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None, complete_style="cyan", finished_style="green"),
        TextColumn("{task.fields[amount]}", justify="right"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=shown, expand=True) as progress:
        rows: dict[str, TaskID] = {}
        yield lambda stage, done, total: _show(progress, rows, stage, done, total)


def _show(progress: Progress, rows: dict[str, TaskID], stage: str, done: int, total: int) -> None:
    amount = f"{done / 1e6:,.1f}/{total / 1e6:,.1f} MB" if stage == BYTES else f"{done:,}/{total:,}"
    if stage not in rows:
        rows[stage] = progress.add_task(stage, total=total, amount=amount)
    progress.update(rows[stage], completed=done, total=total, amount=amount)
