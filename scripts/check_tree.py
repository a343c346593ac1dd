"""Checks of the tree that no linter makes: file sizes, package folders, commands and links that documents name.

Reports every finding at once; the exit status is 0 when there is none.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("governance", "parties", "privacy", "protocols")
GENERATED = Path("parties/wire/generated")
MAX_LINES = 400
# An auditor gets the verifier as one file, with nothing of ours beside it.
SINGLE_FILES = {Path("parties/auditing/standalone.py"): 870}

_FENCE = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
_TARGET = re.compile(r"^([a-z][a-z-]*):", flags=re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def oversized(root: Path) -> Iterator[str]:
    """Yields a sentence for every module of our packages with more than `MAX_LINES` lines; generated ones are left out."""
    for path in _modules(root):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        most = SINGLE_FILES.get(path.relative_to(root), MAX_LINES)
        if lines > most:
            yield f"{path.relative_to(root)} has {lines} lines; at most {most}: split it by idea"


def folders_without_init(root: Path) -> Iterator[str]:
    """Yields a sentence for every folder with modules that the wheel would leave out because it is no package."""
    for folder in sorted({path.parent for path in _modules(root)}):
        if not (folder / "__init__.py").is_file():
            yield f"{folder.relative_to(root)} has no __init__.py, so the wheel would leave it out"


def unknown_make_targets(root: Path) -> Iterator[str]:
    """Yields a sentence for every `make NAME` in a document's commands that the Makefile does not have."""
    targets = set(_TARGET.findall((root / "Makefile").read_text(encoding="utf-8")))
    for document in _documents(root):
        text = document.read_text(encoding="utf-8")
        commands = [*_FENCE.findall(text), *re.findall(r"`(make [^`]*)`", text)]
        for name in sorted({name for command in commands for name in re.findall(r"\bmake ([a-z][a-z-]*)", command)} - targets):
            yield f"{document.relative_to(root)} names `make {name}`, which is no target"


def broken_links(root: Path) -> Iterator[str]:
    """Yields a sentence for every relative link of a document that leads nowhere."""
    for document in _documents(root):
        for target in sorted(set(_LINK.findall(document.read_text(encoding="utf-8")))):
            if not (document.parent / target).exists():
                yield f"{document.relative_to(root)} links to {target}, which does not exist"


def _modules(root: Path) -> Iterator[Path]:
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            if GENERATED not in path.relative_to(root).parents:
                yield path


def _documents(root: Path) -> Iterator[Path]:
    yield from sorted(root.glob("*.md"))
    for folder in ("docs", "docker", "examples", "benchmarks"):
        yield from sorted((root / folder).rglob("*.md"))


def main() -> int:
    """Prints every finding; returns the exit status."""
    found = [
        sentence for check in (oversized, folders_without_init, unknown_make_targets, broken_links) for sentence in check(ROOT)
    ]
    for sentence in found:
        print(f"tree: {sentence}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
