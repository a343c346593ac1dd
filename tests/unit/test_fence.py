"""The unit layer's fence: what it refuses, and what it lets through."""

import socket
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st


def test_fence_network_socket_is_refused() -> None:
    with pytest.raises(pytest.fail.Exception, match="network socket"):
        socket.socket(socket.AF_INET, socket.SOCK_STREAM)


def test_fence_socketpair_is_allowed() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"x")
        assert right.recv(1) == b"x"


def test_fence_process_is_refused() -> None:
    with pytest.raises(pytest.fail.Exception, match="starts a process"):
        subprocess.run([sys.executable, "-c", "pass"], check=True)


def test_fence_sleep_is_refused_and_yielding_is_allowed() -> None:
    time.sleep(0)
    with pytest.raises(pytest.fail.Exception, match="sleeps"):
        time.sleep(0.01)


@given(st.booleans())
def test_fence_property_test_runs_under_it(seconds: bool) -> None:
    with pytest.raises(pytest.fail.Exception, match="sleeps"):
        time.sleep(1 + seconds)


@pytest.mark.outside_world
def test_fence_marked_test_may_sleep() -> None:
    started = time.monotonic()
    time.sleep(0.001)
    assert time.monotonic() > started
