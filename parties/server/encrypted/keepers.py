"""Threads that wait for answers which are kept: few of them, shared fairly among researchers.

Whoever asks much waits behind herself: a thread that is free takes up what the researcher with the fewest under way has waited
for longest, and no researcher has more than half of the threads, so that one is left when another begins to ask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition, Thread

KEEPERS = 16


@dataclass(frozen=True, eq=False)
class _Task:
    owner: str
    work: Callable[[], None] = field(repr=False)


class Keepers:
    """Does what researchers have asked for without waiting; safe to use from several threads."""

    def __init__(self, *, most: int = KEEPERS) -> None:
        """Takes how many threads there are at most; they are started as they are needed."""
        self._most = most
        self._most_of_one = max(1, most // 2)
        self._changed = Condition()
        self._waiting: list[_Task] = []
        self._under_way: Counter[str] = Counter()
        self._threads: list[Thread] = []
        self._is_stopped = False

    def submit(self, owner: str, work: Callable[[], None]) -> None:
        """Has something done for a researcher; returns at once. What is to be told of it, `work` tells: it raises nothing."""
        with self._changed:
            self._waiting.append(_Task(owner, work))
            if len(self._threads) < min(self._most, len(self._waiting) + self._under_way.total()):
                thread = Thread(target=self._run, name=f"encrypted-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()

    @property
    def num_waiting(self) -> int:
        """How many wait for a thread."""
        with self._changed:
            return len(self._waiting)

    def stop(self) -> None:
        """Begins nothing more; what is under way ends by itself."""
        with self._changed:
            self._is_stopped = True
            self._waiting.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_stopped or self._next() is not None)
                task = self._next()
                if self._is_stopped or task is None:
                    return
                self._waiting.remove(task)
                self._under_way[task.owner] += 1
            try:
                task.work()
            finally:
                with self._changed:
                    self._under_way[task.owner] -= 1
                    self._under_way += Counter()  # drops whoever has nothing under way
                    self._changed.notify_all()

    def _next(self) -> _Task | None:
        able = [task for task in self._waiting if self._under_way[task.owner] < self._most_of_one]
        return min(able, key=lambda task: self._under_way[task.owner], default=None)
