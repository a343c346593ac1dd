"""Party processes for tests: started as the real program or as a test-only variant, inspected through /proc, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path

from parties.config import load_party_config
from parties.harness import RunningParty, start_party
from parties.worker.confinement import EVALUATOR_NAME

_HERE = Path(__file__).parent
_END_WITHIN_S = 10.0


class Program(Enum):
    """What runs as a party's process. The variants exist in the tests alone; production code has no switch for them."""

    PARTY = "the real one"
    RECORDING = "recording_party.py"  # writes down what it handles in the clear
    ALTERED_PLAN = "altered_plan_party.py"  # derives another plan than the others
    CARELESS = "careless_party.py"  # countersigns every job, whatever its checks say
    SILENT_NOISE = "silent_noise_party.py"  # adds no noise to a private training
    DISTURBED = "disturbed_party.py"  # misbehaves when a test orders it to


def start(config_file: Path, program: Program) -> RunningParty:
    """Starts a party's process in the background."""
    if program is Program.PARTY:
        return start_party(config_file)
    config = load_party_config(config_file)
    command = [sys.executable, "-I", str(_HERE / program.value), "--config", str(config_file)]
    with (config_file.parent / "party.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    process.returncode = 0  # as the harness does it: the process outlives this object and is known by its id
    return RunningParty(config.party, config_file, config.listen, process.pid)


def end(*ended: RunningParty, politely: bool = True) -> None:
    """Ends parties' processes, also stopped ones, all at once, and waits until they are gone."""
    deadline = time.monotonic() + _END_WITHIN_S
    if politely:
        for running in ended:
            _signal(running, signal.SIGCONT)
            _signal(running, signal.SIGTERM)
        while any(is_running(running.pid) for running in ended) and time.monotonic() < deadline:
            time.sleep(0.02)
    for running in ended:
        _signal(running, signal.SIGKILL)
        while is_running(running.pid):
            time.sleep(0.02)


def _signal(running: RunningParty, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(running.pid, number)


def is_running(pid: int) -> bool:
    """Whether a process lives; one that has ended and is our child is reaped."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        return _stat(pid)[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """The processes that a process has started and that still live."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                state, parent = _stat(int(entry.name))
                if int(parent) == pid and state != "Z":
                    found.append(int(entry.name))
    return sorted(found)


def descendants(pid: int) -> list[int]:
    """Its children, their children, and so on."""
    return list(_below(pid))


def session_workers(party_pid: int) -> list[int]:
    """The workers of a party process' sessions: what its template has forked, but for evaluators, which outlast a request."""
    return [pid for pid in _forked(party_pid) if not _is_evaluator(pid)]


def evaluators(party_pid: int) -> list[int]:
    """The evaluators of a party process."""
    return [pid for pid in _forked(party_pid) if _is_evaluator(pid)]


def _forked(party_pid: int) -> list[int]:
    return [worker for template in children(party_pid) for worker in children(template)]


def _is_evaluator(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == EVALUATOR_NAME
    except OSError:  # it has ended meanwhile
        return False


def _below(pid: int) -> Iterator[int]:
    for child in children(pid):
        yield child
        yield from _below(child)


def _stat(pid: int) -> list[str]:
    # The program's name stands in brackets and may hold anything; the fields follow the last one.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[:2]
