"""What holds for every test: the unit and property layers reach nothing outside their process."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest
import typer.testing
from hypothesis import HealthCheck, settings
from typer.main import get_command

import parties  # noqa: F401  (before any test imports gRPC, or there would be no credentials; see there)

# Time limits per example would fail on a busy machine and say nothing about the code; a failure prints how to repeat it.
settings.register_profile("confide", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("confide")

# A command in a test would otherwise build the tree of all commands first, which takes longer than most commands do.
vars(typer.testing)["_get_command"] = cache(get_command)

TESTS = Path(__file__).resolve().parent
PURE_LAYERS = (TESTS / "unit", TESTS / "property")

_PROCESS_EVENTS = frozenset({"subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"})


def refuse(what: str) -> NoReturn:
    """Fails the test. Pytest's failure is no `Exception`, so the code under test cannot swallow it."""
    pytest.fail(f"a unit or property test {what}; use a fake, or mark it outside_world and say why")


class _Fence:
    """Sees every audit event of the interpreter and refuses some of them while it is closed.

    An audit hook cannot be removed, so there is one for the whole run; it also sees calls made by C code and by libraries.
    """

    def __init__(self) -> None:
        self.closed = False

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.closed:
            return
        if event in _PROCESS_EVENTS:
            refuse(f"starts a process ({event})")
        elif event == "socket.__new__" and arguments[1] not in (socket.AF_UNIX, -1):
            refuse("opens a network socket")


_FENCE = _Fence()
sys.addaudithook(_FENCE)


def _sleep(seconds: float) -> None:
    # Yielding to other threads is no wait.
    if seconds > 0:
        refuse("sleeps")
    os.sched_yield()


@pytest.fixture(autouse=True)
def _nothing_outside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes the fence around the tests of the pure layers, except those marked `outside_world`."""
    pure = any(layer in request.path.parents for layer in PURE_LAYERS)
    if not pure or request.node.get_closest_marker("outside_world") is not None:
        yield
        return
    monkeypatch.setattr(time, "sleep", _sleep)
    _FENCE.closed = True
    yield
    _FENCE.closed = False
