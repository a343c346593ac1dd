"""A worker's confinement, tried from inside a process that has confined itself.

A filter cannot be taken off again, so each trial is a process of its own.
"""

from __future__ import annotations

import json
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.outside_world  # the filter is for a whole process and for good: it needs one of its own

_TRIALS = """
import ctypes, errno, json, os, resource, socket, sys, threading

inherited = socket.socket(fileno=os.dup(0))
before = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
started, go = threading.Event(), threading.Event()
found = {}

def attempt(name, work):
    try:
        work()
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
    else:
        found[name] = "worked"

def system_call(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")

def of_an_older_thread():
    started.set()
    go.wait()
    attempt("socket in an older thread", socket.socket)

older = threading.Thread(target=of_an_older_thread)
older.start()
started.wait()

from parties.worker.confinement import confine
confine()
go.set()
older.join()

attempt("inet socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
attempt("unix socket", lambda: socket.socket(socket.AF_UNIX))
attempt("socketpair", socket.socketpair)
attempt("connect of an older socket", lambda: before.connect(("127.0.0.1", 9)))
attempt("bind of an older socket", lambda: before.bind(("127.0.0.1", 0)))
attempt("exec", lambda: os.execv(sys.executable, [sys.executable, "-c", "pass"]))
attempt("posix_spawn", lambda: os.posix_spawn(sys.executable, [sys.executable, "-c", "pass"], {}))
if os.uname().machine == "x86_64":
    attempt("ptrace", lambda: system_call(101, 0, 0, 0, 0))
    attempt("io_uring_setup", lambda: system_call(425, 1, 0))
    attempt("pidfd_getfd", lambda: system_call(438, 0, 0, 0))
    attempt("socket under the x32 numbers", lambda: system_call(0x40000000 + 41, 2, 1, 0))
later = threading.Thread(target=lambda: attempt("socket in a later thread", socket.socket))
later.start()
later.join()
child = os.fork()
if child == 0:
    try:
        socket.socket()
    except PermissionError:
        os._exit(7)
    os._exit(0)
found["socket in a fork"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
found["core limit"] = list(resource.getrlimit(resource.RLIMIT_CORE))
found["dumpable"] = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
confine()  # again, as nothing
found["echo"] = inherited.recv(100).decode()
inherited.sendall(json.dumps(found).encode())
"""


@pytest.fixture(scope="module")
def found() -> dict[str, object]:
    ours, theirs = socket.socketpair()
    root = Path(__file__).parents[2]
    with ours:
        with theirs:
            child = subprocess.Popen([sys.executable, "-c", _TRIALS], stdin=theirs.fileno(), cwd=root, stderr=subprocess.PIPE)
        ours.settimeout(30)
        ours.sendall(b"an inherited socket")
        data = b"".join(iter(lambda: ours.recv(1 << 16), b""))
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 0, errors.decode()
    result: dict[str, object] = json.loads(data)
    return result


@pytest.mark.parametrize(
    "what",
    [
        "inet socket",
        "unix socket",
        "socketpair",
        "connect of an older socket",
        "bind of an older socket",
        "exec",
        "posix_spawn",
        "socket in an older thread",
        "socket in a later thread",
    ],
)
def test_confined_process_is_refused(what: str, found: dict[str, object]) -> None:
    assert found[what] == "EPERM"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="these are the numbers of x86-64")
@pytest.mark.parametrize("what", ["ptrace", "io_uring_setup", "pidfd_getfd", "socket under the x32 numbers"])
def test_confined_process_raw_system_call_is_refused(what: str, found: dict[str, object]) -> None:
    assert found[what] == "EPERM"


def test_confined_process_forks_are_confined_too(found: dict[str, object]) -> None:
    assert found["socket in a fork"] == 7


def test_confined_process_inherited_socket_works(found: dict[str, object]) -> None:
    assert found["echo"] == "an inherited socket"


def test_confined_process_leaves_no_core_and_cannot_be_read(found: dict[str, object]) -> None:
    assert found["core limit"] == [0, 0]
    assert found["dumpable"] == 0


def test_confine_unknown_machine_is_refused_with_a_remedy() -> None:
    code = (
        "import platform; platform.machine = lambda: 'riscv64'\n"
        "from parties.worker.confinement import confine\n"
        "from protocols.errors import ConfideError\n"
        "try:\n    confine()\nexcept ConfideError as error:\n    print(error.code.name, error.remedy)\n"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=30, check=True)
    assert run.stdout == "SETUP_INCOMPLETE use x86-64 or arm64 Linux\n"
