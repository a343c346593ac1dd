"""The tree's own checks: that they pass here, and that they can fail."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.scripts import ROOT, load_script

check_tree = load_script("check_tree")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for package in check_tree.PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "Makefile").write_text("demo: setup\n\ttrue\nsetup:\n\ttrue\n")
    return tmp_path


def test_readme_has_the_two_commands_and_every_make_target_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in text
    assert "make test" in text
    assert list(check_tree.unknown_make_targets(ROOT)) == []


def test_unknown_make_target_in_readme_is_named(tree: Path) -> None:
    (tree / "README.md").write_text("Run `make demo`.\n\n```sh\nmake fly\n```\n")
    assert list(check_tree.unknown_make_targets(tree)) == ["README.md names `make fly`, which is no target"]


def test_broken_link_is_named(tree: Path) -> None:
    (tree / "README.md").write_text("[a](docs/a.md) [b](Makefile) [c](https://example.org/x)\n")
    assert list(check_tree.broken_links(tree)) == ["README.md links to docs/a.md, which does not exist"]


def test_long_module_is_named_unless_generated(tree: Path) -> None:
    generated = tree / "parties" / "wire" / "generated"
    generated.mkdir(parents=True)
    for path in (generated / "x_pb2.py", tree / "protocols" / "long.py"):
        path.write_text("x = 1\n" * (check_tree.MAX_LINES + 1))
    assert [sentence.split()[0] for sentence in check_tree.oversized(tree)] == ["protocols/long.py"]


def test_folder_without_init_is_named(tree: Path) -> None:
    (tree / "privacy" / "dp").mkdir()
    (tree / "privacy" / "dp" / "noise.py").touch()
    assert [sentence.split()[0] for sentence in check_tree.folders_without_init(tree)] == ["privacy/dp"]


def test_constraints_pin_every_declared_requirement() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["dev"], "crypten", "setuptools"]
    lines = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines), "every line is one exact pin"
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines}
    assert {canonicalize_name(Requirement(text).name) for text in declared} <= pinned


def test_command_starts_without_the_tensor_libraries() -> None:
    code = (
        "import sys, parties.cli.main\n"
        "print([name for name in ('torch', 'crypten', 'sklearn', 'grpc', 'pandas') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (result.returncode, result.stdout.strip()) == (0, "[]"), result.stderr


def test_command_version_is_the_projects() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    command = [sys.executable, "-c", "from parties.cli.main import main; main()", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "NO_COLOR": "1"})
    assert result.returncode == 0, result.stderr
    assert version in result.stdout
