"""Threads for what waits: a few for each peer, so that one that does not answer holds up nothing said to the others."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock, Timer
from typing import ParamSpec

_SENDERS_PER_PEER = 4
_WORKERS = 32
P = ParamSpec("P")


class Lanes:
    """The thread pools of the sessions; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._peers: dict[str, ThreadPoolExecutor] = {}
        self._work = ThreadPoolExecutor(_WORKERS, thread_name_prefix="session")

    def send(self, peer: str, task: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Runs a call to a peer when the calls to it before have been answered, or nearly so."""
        with self._lock:
            if peer not in self._peers:
                self._peers[peer] = ThreadPoolExecutor(_SENDERS_PER_PEER, thread_name_prefix=f"to-{peer}")
            pool = self._peers[peer]
        pool.submit(task, *args, **kwargs)

    def work(self, task: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Runs something local that waits: for a worker, for a disk."""
        self._work.submit(task, *args, **kwargs)

    def later(self, delay_s: float, task: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Runs something local after a while, unless all has been stopped by then."""

        def begin() -> None:
            with suppress(RuntimeError):  # stopped meanwhile
                self._work.submit(task, *args, **kwargs)

        timer = Timer(delay_s, begin)
        timer.daemon = True
        timer.start()

    def stop(self) -> None:
        """Takes no more; what waits is dropped, what runs is not waited for."""
        with self._lock:
            for pool in (*self._peers.values(), self._work):
                pool.shutdown(wait=False, cancel_futures=True)
