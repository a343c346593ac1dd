"""The set-up script: says what is missing, does nothing twice, redoes what was interrupted. No test here installs anything."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INPUTS = ("pyproject.toml", "constraints.txt", "scripts/setup.sh", "scripts/check_setup.py")

# Stands in for Python 3.11: notes what it is asked to do, and makes an environment whose Python is itself.
PYTHON = """#!/bin/bash
echo "$*" >>"$CALLS"
case "$*" in
    *"version_info"*) exit "${WRONG_VERSION:-0}" ;;
    *"import venv"*) exit "${NO_VENV:-0}" ;;
    *"hashlib"*) exec sha256sum ;;
    *"-m venv"*) mkdir -p "${!#}/bin" && cp "$0" "${!#}/bin/python" ;;
    *"install"*) [ -z "${FAIL_AT:-}" ] || [[ "$*" != *"$FAIL_AT"* ]] ;;
esac
"""


class Clone:
    """A clone of the set-up's inputs in a folder of its own, with a stand-in for Python."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in INPUTS:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        (folder / "bin").mkdir()
        (folder / "bin" / "python3.11").write_text(PYTHON)
        (folder / "bin" / "python3.11").chmod(0o755)
        self.calls = folder / "calls.txt"

    def setup(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs the script; `calls.txt` then holds what this run asked of Python."""
        self.calls.write_text("")
        # Only the stand-in is called python3.11; the other names of Python do not exist here.
        for name in ("python3", "python"):
            (self.folder / "bin" / name).write_text("#!/bin/sh\nexit 1\n")
            (self.folder / "bin" / name).chmod(0o755)
        path = f"{self.folder / 'bin'}:{os.defpath}"
        env = {"PATH": path, "CALLS": str(self.calls), "PYTHON": "python3.11", **environment}
        command = ["/bin/bash", str(self.folder / "scripts" / "setup.sh")]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    def asked(self, words: str) -> bool:
        """Whether the last run asked Python for something that contains `words`."""
        return words in self.calls.read_text()


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_setup_without_python_says_so(clone: Clone) -> None:
    result = clone.setup(WRONG_VERSION="1")
    assert result.returncode == 1
    assert "Python 3.11 is missing" in result.stderr


def test_setup_without_venv_module_says_so(clone: Clone) -> None:
    result = clone.setup(NO_VENV="1")
    assert result.returncode == 1
    assert "the venv module of python3.11 is missing" in result.stderr


def test_setup_installs_crypten_alone_without_its_dependencies(clone: Clone) -> None:
    assert clone.setup().returncode == 0
    installs = [line for line in clone.calls.read_text().splitlines() if " install " in line]
    assert [("--no-deps" in line, line.split()[-1]) for line in installs] == [
        (False, "setuptools"),
        (False, ".[dev,text]"),
        (True, "crypten"),
    ]
    assert all("--constraint constraints.txt" in line for line in installs)


def test_setup_twice_does_nothing(clone: Clone) -> None:
    assert clone.setup().returncode == 0
    result = clone.setup()
    assert (result.returncode, result.stdout) == (0, "")
    assert not clone.asked("install")


def test_setup_after_changed_constraints_installs_again_in_place(clone: Clone) -> None:
    clone.setup()
    with (clone.folder / "constraints.txt").open("a") as file:
        file.write("extra==1\n")
    assert clone.setup().returncode == 0
    assert clone.asked("install")
    assert not clone.asked("-m venv")


def test_setup_after_interruption_starts_from_nothing(clone: Clone) -> None:
    failed = clone.setup(FAIL_AT="crypten")
    assert failed.returncode == 1
    assert "pip could not install" in failed.stderr
    assert clone.setup().returncode == 0
    assert clone.asked("-m venv --clear")
