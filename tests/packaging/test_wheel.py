"""The wheel: exactly our four packages, all of their modules, the command, the type marker."""

import configparser
import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("governance", "parties", "privacy", "protocols")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    # Built from a copy: the build writes beside the sources.
    copy = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in (*PACKAGES, "proto", "scripts", "examples", "benchmarks", "docker"):
        (copy / name).mkdir()
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "tests").mkdir()
    (copy / "tests" / "__init__.py").touch()
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(copy / "dist"), str(copy)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    (path,) = (copy / "dist").glob("confide-*.whl")
    return zipfile.ZipFile(path)


def test_wheel_top_level_names_are_the_four_packages(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == set(PACKAGES)
    assert len(top) == len(PACKAGES) + 1


def test_wheel_holds_every_module_of_the_tree(wheel: zipfile.ZipFile) -> None:
    modules = {path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert {name for name in wheel.namelist() if name.endswith(".py")} == modules


def test_wheel_holds_type_markers_and_licence(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_wheel_entry_point_is_the_command(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    points = configparser.ConfigParser()
    points.read_file(io.StringIO(wheel.read(name).decode()))
    assert dict(points["console_scripts"]) == {
        "confide": "parties.cli.main:main",
        "confide-audit": "parties.auditing.standalone:main",
    }


def test_wheel_requirements_leave_crypten_out(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    required = [line.split()[1].lower() for line in wheel.read(name).decode().splitlines() if line.startswith("Requires-Dist:")]
    assert "torch" in " ".join(required)
    assert not any(line.startswith("crypten") for line in required)
