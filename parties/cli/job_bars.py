"""Progress bars of a job on a terminal: one a participant, each as that participant itself says."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from protocols.errors import ConfideError

if TYPE_CHECKING:
    from parties.client.client import Progress as Said
    from protocols.session.messages import Ending

Ask = Callable[[str], "Said"]
Pause = Callable[[float], None]
EVERY_S = 0.4
LAST_WORD_S = 3.0  # how long the others may take to show the ending that one of them has shown


def follow_with_bars(ask: Ask, parties: Sequence[str], *, console: Console, pause: Pause = time.sleep) -> Ending:
    """Shows how every participant stands until one of them shows the job's ending.

    A participant that does not answer holds up nobody else's bar.

    Args:
        ask: asks one participant how the job stands; raises ConfideError if it cannot be asked.
        parties: the job's participants.
        console: where the bars go.
        pause: waits so many seconds, between two questions to a participant.

    Raises:
        ConfideError: what the last of them failed with, once none can be asked.
    """
    pool = ThreadPoolExecutor(len(parties), thread_name_prefix="ask")
    try:
        with _bars(console) as bars:
            rows = {party: bars.add_task(party, total=None, state="", steps="", sent="") for party in parties}
            return _follow(ask, pool, bars, rows, pause)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # a silent participant must not hold up the command's end


def _follow(ask: Ask, pool: ThreadPoolExecutor, bars: Progress, rows: Mapping[str, TaskID], pause: Pause) -> Ending:
    asked: dict[str, Future[Said]] = {}
    latest: dict[str, Said | ConfideError] = {}
    ending: Ending | None = None
    ended_at = 0.0
    while True:
        asked |= {party: pool.submit(ask, party) for party in rows if party not in asked}
        wait(asked.values(), return_when=FIRST_COMPLETED)
        for party in [party for party, future in asked.items() if future.done()]:
            latest[party] = said = _answer(asked.pop(party))
            _show(bars, rows[party], said)
            if ending is None and not isinstance(said, ConfideError) and said.ending is not None:
                ending, ended_at = said.ending, time.monotonic()
        lost = [said for said in latest.values() if isinstance(said, ConfideError)]
        still_open = [said for said in latest.values() if not isinstance(said, ConfideError) and said.ending is None]
        if ending is not None and (not still_open or time.monotonic() - ended_at > LAST_WORD_S):
            for row in rows.values():
                bars.stop_task(row)
            return ending
        if len(lost) == len(rows):
            raise lost[-1]
        pause(EVERY_S)


def _answer(future: Future[Said]) -> Said | ConfideError:
    try:
        return future.result()
    except ConfideError as error:
        return error


def _show(bars: Progress, row: TaskID, said: Said | ConfideError) -> None:
    if isinstance(said, ConfideError):
        bars.update(row, state=said.code.name.lower().replace("_", " "))
        return
    steps = f"{said.step:,}/{said.steps:,}" if said.steps else ""
    # Without a number of steps the bar pulses: the job waits for countersignatures or for its turn.
    bars.update(row, state=said.state, total=said.steps or None, completed=said.step, steps=steps, sent=_amount(said))
    if said.ending is not None:
        bars.update(row, total=max(1, said.steps), completed=max(1, said.step) if said.steps else 0)


def _amount(said: Said) -> str:
    return f"{said.payload_bytes / 1e6:,.1f} MB" if said.payload_bytes else ""


class _Left(ProgressColumn):
    """The time that is left, by the speed so far; nothing for a participant that has ended."""

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        if task.stop_time is not None or task.finished or left is None:
            return Text("")
        return Text(f"{int(left) // 60}:{int(left) % 60:02d} left")


def _bars(console: Console) -> Progress:
    # The colours are among the first eight, so that full and empty differ on every terminal.
    return Progress(
        TextColumn("{task.description}", table_column=Column(max_width=24, no_wrap=True)),
        TextColumn("{task.fields[state]}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=None, complete_style="cyan", finished_style="green", pulse_style="cyan"),
        TextColumn("{task.fields[steps]}", justify="right", table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[sent]}", justify="right", table_column=Column(no_wrap=True)),
        TimeElapsedColumn(),
        _Left(table_column=Column(no_wrap=True)),
        console=console,
        expand=True,
    )
