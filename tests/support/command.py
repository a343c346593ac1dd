"""The command line as a person or a script runs it."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from parties.cli.main import app

_WITHIN_S = 90.0


@dataclass(frozen=True)
class Said:
    """What a command printed and its exit code."""

    exit_code: int
    out: str
    error: str

    @property
    def data(self) -> dict[str, Any]:
        """The data of a successful command in the format json."""
        envelope = json.loads(self.out)
        if envelope["status"] != "ok":
            raise AssertionError(f"the command failed: {envelope}")
        return dict(envelope["data"])

    @property
    def failure(self) -> dict[str, Any]:
        """The error of a failed command in the format json."""
        return dict(json.loads(self.out)["error"])

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of a command in the format jsonl."""
        return [json.loads(line) for line in self.out.splitlines()]


def confide(*arguments: str | Path) -> Said:
    """Runs a command in this process, which spares the seconds in which a new one loads its libraries."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError("".join(traceback.format_exception(result.exception)))
    return Said(result.exit_code, result.stdout, result.stderr)


def confide_alone(*arguments: str | Path, within_s: float = _WITHIN_S) -> Said:
    """Runs `confide` as a process of its own and waits for its end."""
    command = [sys.executable, "-I", "-m", "parties.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False)
    return Said(done.returncode, done.stdout, done.stderr)
