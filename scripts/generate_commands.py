"""Writes docs/commands.md from the commands themselves, or checks that the page is what they give.

One row a command: its arguments and required options, and the sentence of its help. The commands (parties/cli) are the source.

    scripts/generate_commands.py            writes the page
    scripts/generate_commands.py --check    exits with 1 if the page differs
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

import parties  # noqa: F401  (before gRPC, which the translation of failures imports)
from parties.cli.main import app
from parties.cli.output import EXIT_CODES, OTHER_FAILURES
from protocols.errors import Kind

PAGE = Path(__file__).resolve().parent.parent / "docs" / "commands.md"
MARK = "Generated from the commands in `parties/cli` by `make commands`; not edited by hand."
MEANINGS = {
    Kind.INVALID: "wrong use, or a wrong name",
    Kind.UNAUTHENTICATED: "no connection, or not authenticated",
    Kind.TIMEOUT: "timed out",
    Kind.DENIED: "refused by a policy, or for want of consent",
    Kind.EXHAUSTED: "a budget, or the uses of a grant, are spent",
    Kind.INTEGRITY: "a check of integrity failed",
    Kind.CONFLICT: "cannot be done as things stand",
}


def page() -> str:
    """Returns the page as the commands give it."""
    lines = [
        "# Commands",
        "",
        "Every command takes `--help`; those that print results take `--format text|json|jsonl`. Results go to standard output,",
        "everything else to standard error. No command takes a secret as an argument.",
        "",
    ]
    root: Any = typer.main.get_command(app)
    alone = [(name, command) for name, command in root.commands.items() if not hasattr(command, "commands")]
    groups = [(name, command) for name, command in root.commands.items() if hasattr(command, "commands")]
    for name, group in groups:
        lines += [f"## {name}", "", _first(group.help), "", "| command | |", "|---|---|", *_rows(f"confide {name}", group), ""]
    lines += ["## Others", "", "| command | |", "|---|---|"]
    lines += [f"| `{_usage(f'confide {name}', command)}` | {_first(command.help)} |" for name, command in alone]
    lines += ["", "## Exit codes", "", "| code | |", "|---|---|", "| 0 | done |"]
    lines += [f"| {OTHER_FAILURES} | a job ended badly, a check of an operator's command failed, or a defect of Confide |"]
    lines += [f"| {code} | {meaning} |" for code, meaning in sorted((EXIT_CODES[kind], text) for kind, text in MEANINGS.items())]
    lines += ["| 130 | interrupted |", "", "Each failure names its [page](errors/README.md).", "", f"<!-- {MARK} -->", ""]
    return "\n".join(lines)


def _rows(prefix: str, group: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _rows(f"{prefix} {name}", command)
        else:
            named = prefix if name == getattr(group, "default_command", None) else f"{prefix} {name}"
            yield f"| `{_usage(named, command)}` | {_first(command.help)} |"


def _usage(name: str, command: Any) -> str:
    words = [name]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            shown = parameter.make_metavar(typer.Context(command)) if parameter.metavar is None else parameter.metavar
            words.append(shown if parameter.required or shown.startswith("[") else f"[{shown}]")
    words += [parameter.opts[0] for parameter in command.params if parameter.param_type_name == "option" and parameter.required]
    return " ".join(words).replace("|", "\\|")


def _first(text: str | None) -> str:
    paragraph = (text or "").strip().split("\n\n")[0]
    return " ".join(paragraph.split()).replace("|", "\\|")


def main() -> int:
    """Writes or checks the page; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the page differs")
    expected = page()
    if not parser.parse_args().check:
        PAGE.write_text(expected, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == expected:
        return 0
    print("docs/commands.md is not what the commands give; run `make commands`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
