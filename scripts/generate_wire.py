"""Generates parties/wire/generated from proto/, or checks that the committed files are what proto/ gives.

The generated modules are committed (docs/adr/0003-committed-generated-code.md): nobody needs the compiler to run Confide, and
a review shows what changed on the wire. No gRPC stubs are generated; the services use generic method tables.

    scripts/generate_wire.py            writes the files
    scripts/generate_wire.py --check    exits with 1 and names the files that differ
"""

from __future__ import annotations

import argparse
import importlib.resources
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "parties.wire.generated"

INIT = '"""Generated from proto/ by `make proto`; not edited by hand."""\n'

# protoc names modules after the folders below proto/; in this tree they live inside parties.wire.generated.
_FROM_IMPORT = re.compile(r"^(\s*)from confide\b", flags=re.MULTILINE)
_PLAIN_IMPORT = re.compile(r"^(\s*)import confide\.(\S+)( as \w+)?$", flags=re.MULTILINE)


class GenerationError(Exception):
    """The compiler refused a file, or wrote something that this script does not know how to place."""


def generate(proto_root: Path, out: Path) -> None:
    """Compiles every .proto file below `proto_root` into an importable package at `out`.

    Raises:
        GenerationError: there is nothing to compile, or the compiler's message.
    """
    sources = sorted(proto_root.rglob("*.proto"))
    if not sources:
        raise GenerationError(f"no .proto file below {proto_root}")
    out.mkdir(parents=True, exist_ok=True)
    plugin = Path(sys.executable).parent / "protoc-gen-mypy"
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    command = [
        sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={proto_root}", f"--proto_path={well_known}",
        f"--plugin=protoc-gen-mypy={plugin}", f"--python_out={out}", f"--mypy_out={out}",
        *(str(source) for source in sources),
    ]  # fmt: skip
    # S603: the command is fixed but for the paths of our own .proto files.
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if result.returncode != 0:
        raise GenerationError(result.stderr.strip())
    for path in sorted([*out.rglob("*.py"), *out.rglob("*.pyi")]):
        path.write_text(_relocate(path.read_text(encoding="utf-8")), encoding="utf-8")
    for folder in [out, *(path for path in sorted(out.rglob("*")) if path.is_dir())]:
        (folder / "__init__.py").write_text(INIT, encoding="utf-8")


def _relocate(text: str) -> str:
    """Returns the module with its imports of other generated modules pointed at their place in this tree."""
    for match in _PLAIN_IMPORT.finditer(text):
        if match.group(3) is None:
            raise GenerationError(f"cannot place the import {match.group(0).strip()!r}")
    text = _PLAIN_IMPORT.sub(rf"\1import {PACKAGE}.confide.\2\3", text)
    return _FROM_IMPORT.sub(rf"\1from {PACKAGE}.confide", text)


def differences(expected: Path, actual: Path) -> list[str]:
    """Returns one sentence for every file that is missing, left over or different in `actual`; empty if equal."""

    def files(root: Path) -> dict[str, bytes]:
        paths = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}

    want, have = files(expected), files(actual)
    found = [f"{name} is missing" for name in sorted(want.keys() - have.keys())]
    found += [f"{name} has no .proto file any more" for name in sorted(have.keys() - want.keys())]
    return found + [f"{name} differs" for name in sorted(want.keys() & have.keys()) if want[name] != have[name]]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare with the tree instead of writing")
    parser.add_argument("--proto", type=Path, default=ROOT / "proto", help="folder of the .proto files")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "parties" / "wire" / "generated", help="folder of the generated package"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "generated"
        try:
            generate(options.proto, fresh)
        except GenerationError as error:
            print(f"proto: {error}", file=sys.stderr)
            return 1
        if options.check:
            found = differences(fresh, options.out)
            for sentence in found:
                print(f"proto: {options.out.name}/{sentence}; run `make proto`", file=sys.stderr)
            return 1 if found else 0
        shutil.rmtree(options.out, ignore_errors=True)
        shutil.copytree(fresh, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
