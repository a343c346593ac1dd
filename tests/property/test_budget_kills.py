"""The ledger on disk: processes that spend from it at the same time are killed at their writes, and it never stands too high."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATABASES = 6  # of 6 killed processes each; `python -m tests.support.ledger_kills FOLDER 40` tries 240


@pytest.mark.outside_world  # a process can only be killed in a process of its own
def test_ledger_on_disk_processes_killed_at_their_writes_never_overspend(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.ledger_kills", str(tmp_path), str(DATABASES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["overspent"] == []
    assert found["killed"] > 3 * DATABASES
    assert found["opened"] > 0
