"""Writes docs/errors from the catalogue of failures, or checks that the pages are what the catalogue gives.

One page a code: what it means, whose fault it is, what to do, the exit code and the gRPC status, and which parts of Confide
raise it. The catalogue (protocols/error_codes.py) is the only source; what must be said beyond it stands in `NOTES`.

    scripts/generate_error_pages.py            writes the pages
    scripts/generate_error_pages.py --check    exits with 1 and names the pages that differ
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

import parties  # noqa: F401  (before gRPC, which the translation of failures imports)
from parties.cli.output import exit_code
from parties.client.failures import class_of
from parties.wire.status import grpc_status
from protocols.error_pages import FOLDER
from protocols.errors import ConfideError, ErrorCode, Fault

ROOT = Path(__file__).resolve().parent.parent
INDEX = "README.md"
MARK = "Generated from the catalogue in `protocols/error_codes.py` by `make error-pages`; not edited by hand."

FAULTS = {
    Fault.REQUEST: "whoever asked: the person, or the author of the document",
    Fault.PEER: "another party, or the network to it",
    Fault.POLICY: "nobody: it is not permitted",
    Fault.OPERATOR: "the operator of this institution",
    Fault.OURS: "Confide",
}
# Where a failure can arise, by the longest matching beginning of a module's name.
PLACES = {
    "parties.cli": "a command",
    "parties.client": "a researcher's program",
    "parties.server": "a party's process",
    "parties.storage": "a party's files and database",
    "parties.transport": "the connections between parties",
    "parties.wire": "the connections between parties",
    "parties.worker": "a session's worker",
    "parties.operating": "an operator's command",
    "parties": "set-up and enrolment",
    "governance.admission": "a party's check of a job",
    "governance": "signed documents and identities",
    "privacy": "the preparation of rows and samples",
    "protocols.mpc": "the joint computation",
    "protocols.session": "the agreement of a session's parties",
    "protocols.model": "the check of a model",
    "protocols": "the check of a job or document",
}
# What a person needs beyond summary and remedy.
NOTES = {
    "BAD_FRAME": "The message never took effect: the session ended first. One altered bit is enough.",
    "FILE_MODE": "A file that was readable by others may have been read: consider its key known, and make new ones.",
    "FINGERPRINT_DIFFERS": "Either somebody misread a digit, or somebody stands between you and the founder.",
    "GRANT_USED": "The same program may fetch a lost answer again; another request for the same output is refused for good.",
    "INTERNAL": "The place in the code stands in the log of the party named, without any value.",
    "PARTY_UNREACHABLE": "`confide net diagnose` tells which part of the connection fails, in both directions.",
    "PEER_LOST": "`confide net diagnose` shows whether a proxy between the parties cuts idle connections.",
    "PEER_SILENT": "`confide net diagnose` shows round trip, bandwidth and idle limit in both directions.",
    "SETUP_INCOMPLETE": "`confide doctor` names what is missing.",
    "STALE_DIRECTORY": "`confide status` shows which version each party holds.",
    "STATE_SCHEMA": "No version changes a database that another version wrote without being told to.",
}


def pages() -> dict[str, str]:
    """Returns every page by its file name."""
    places = _places(ROOT)
    found = {f"{code.name}.md": _page(code, places.get(code.name, ())) for code in ErrorCode}
    return {INDEX: _index(), **found}


def differences(expected: dict[str, str], folder: Path) -> list[str]:
    """Returns one sentence for every page that is missing, left over or different; empty if the folder is right."""
    have = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    found = [f"{name} is missing" for name in sorted(expected.keys() - have.keys())]
    found += [f"{name} has no code any more" for name in sorted(have.keys() - expected.keys())]
    return found + [f"{name} differs" for name in sorted(expected.keys() & have.keys()) if expected[name] != have[name]]


def _page(code: ErrorCode, places: tuple[str, ...]) -> str:
    error = ConfideError(code)
    lines = [
        f"# {code.name}",
        "",
        code.entry.summary,
        "",
        f"**What to do.** {code.entry.remedy}",
        "",
        *([NOTES[code.name], ""] if code.name in NOTES else []),
        "| | |",
        "|---|---|",
        f"| at fault | {FAULTS[code.fault]} |",
        f"| exit code of a command | {exit_code(error)} |",
        f"| gRPC status | {grpc_status(code)} |",
        f"| exception of the client library | `{class_of(code).__name__}` |",
        f"| arises in | {'; '.join(places) or 'reserved: raised nowhere at present'} |",
        "",
        "A failure also names every problem found, and the party at fault where that is provable. [All codes](README.md).",
        "",
        f"<!-- {MARK} -->",
    ]
    return "\n".join(lines) + "\n"


def _index() -> str:
    rows = [f"| [{code.name}]({code.name}.md) | {code.entry.summary} | {exit_code(ConfideError(code))} |" for code in ErrorCode]
    lines = [
        "# Failures",
        "",
        "Every failure that a person, a program or another party sees has one of these codes. A code is never renamed, reused or",
        "given another meaning. It travels in `google.rpc.ErrorInfo.reason`, stands first in what a command prints and in",
        "`error.code` of its JSON, and is `.code` of the client library's exceptions.",
        "",
        "| code | meaning | exit code |",
        "|---|---|---|",
        *rows,
        "",
        f"<!-- {MARK} -->",
    ]
    return "\n".join(lines) + "\n"


def _places(root: Path) -> dict[str, tuple[str, ...]]:
    """Returns by code where it is raised or named in the code, in words."""
    found: dict[str, set[str]] = {}
    for package in ("governance", "parties", "privacy", "protocols"):
        for path in sorted((root / package).rglob("*.py")):
            module = ".".join(path.relative_to(root).with_suffix("").parts)
            place = next(PLACES[name] for name in _beginnings(module) if name in PLACES)
            for name in _raised(ast.parse(path.read_text(encoding="utf-8"))):
                found.setdefault(name, set()).add(place)
    order = list(dict.fromkeys(PLACES.values()))
    return {name: tuple(sorted(places, key=order.index)) for name, places in found.items()}


def _raised(tree: ast.AST) -> set[str]:
    """Returns the codes that are arguments of a call, as in `ConfideError(ErrorCode.X, ...)`; not those compared with."""
    return {
        argument.attr
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        for argument in call.args
        if isinstance(argument, ast.Attribute) and isinstance(argument.value, ast.Name) and argument.value.id == "ErrorCode"
    }


def _beginnings(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare with the tree instead of writing")
    parser.add_argument("--out", type=Path, default=ROOT / FOLDER, help="folder of the pages")
    options = parser.parse_args(arguments)
    expected = pages()
    if options.check:
        found = differences(expected, options.out)
        for sentence in found:
            print(f"errors: {sentence}; run `make error-pages`", file=sys.stderr)
        return 1 if found else 0
    options.out.mkdir(parents=True, exist_ok=True)
    for path in options.out.glob("*.md"):
        if path.name not in expected:
            path.unlink()
    for name, text in expected.items():
        (options.out / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
