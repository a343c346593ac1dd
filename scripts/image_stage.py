"""One stage of the image outside Docker: a root folder, its variables, and commands run in it."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

UID = 10001


class StepFailed(Exception):
    """A step of the image did not do what it says."""


class Stage:
    """One stage: its root folder and what ENV, ARG and WORKDIR have set so far."""

    def __init__(self, folder: Path, arguments: dict[str, str]) -> None:
        self.folder = folder
        self.env: dict[str, str] = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        self.arguments = dict(arguments)
        self.workdir = "/"
        self.commands: dict[str, list[str]] = {}

    def path(self, inside: str) -> Path:
        """Returns where a path of the stage lies on this machine."""
        return self.folder / os.path.normpath(os.path.join(self.workdir, inside)).lstrip("/")

    def run(self, command: Sequence[str], *, passed: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Runs a command as root inside the stage's root."""
        env = {**{name: os.environ[name] for name in passed if name in os.environ}, **self.env, **self.arguments}
        script = f"cd {shlex.quote(self.workdir)} && exec {shlex.join(command)}"
        return subprocess.run(  # noqa: S603
            ["/usr/sbin/chroot", self.folder, "/bin/sh", "-ec", script], env=env, capture_output=True, text=True, check=False
        )


def run_here(*words: str) -> None:
    """Runs a command on this machine.

    Raises:
        StepFailed: it ended badly, with what it said.
    """
    result = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    if result.returncode != 0:
        raise StepFailed(f"{shlex.join(words)}: {result.stderr.strip()}")
