"""Every `confide ...` in the documents names a command and options that exist; those in code blocks parse as they stand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from parties.cli.main import app
from tests.support.scripts import ROOT

_BLOCK = re.compile(r"^[ ]*```(?:sh|bash|console)?\n(.*?)^[ ]*```$", flags=re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`(confide [^`\n]+)`(?!`)")
_PLACEHOLDER = "..."  # `confide ...` stands for any command


def _documents() -> list[Path]:
    return [*ROOT.glob("*.md"), *(path for folder in ("docs", "docker") for path in (ROOT / folder).rglob("*.md"))]


def _in_blocks(text: str) -> Iterator[str]:
    for block in _BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip().startswith("confide "):
                yield line.strip()


def _found() -> list[tuple[str, str]]:
    return [(path.relative_to(ROOT).as_posix(), line) for path in _documents() for line in _in_blocks(path.read_text())]


def _named() -> list[tuple[str, str]]:
    return [(path.relative_to(ROOT).as_posix(), line) for path in _documents() for line in _INLINE.findall(path.read_text())]


@cache
def _confide() -> Any:
    """All commands, which take some time to put together."""
    return typer.main.get_command(app)


def _resolve(words: list[str]) -> tuple[Any, list[str]]:
    """Returns the command that the words name, and the words after its name; raises KeyError if there is none."""
    command = _confide()
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        if words[0] in command.commands:
            command, words = command.commands[words[0]], words[1:]
        else:  # a group may have a command that needs no name
            command = command.commands[getattr(command, "default_command", words[0])]
    return command, words


def _unknown_options(command: Any, words: list[str]) -> set[str]:
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    return {word for word in words if word.startswith("--")} - known


def test_documents_show_commands() -> None:
    assert {"docs/enrolment.md", "docs/datasets.md", "docs/jobs.md"} <= {name for name, _ in _found()}


@pytest.mark.parametrize(("document", "line"), _found())
def test_command_in_a_code_block_parses(document: str, line: str) -> None:
    command, words = _resolve(shlex.split(line, comments=True)[1:])
    command.make_context(command.name, words).close()


@pytest.mark.parametrize(("document", "line"), _named())
def test_command_named_in_prose_exists_with_its_options(document: str, line: str) -> None:
    words = line.split()[1:]
    if words == [_PLACEHOLDER]:
        return
    command, rest = _resolve(words)
    assert _unknown_options(command, rest) == set()


def test_unknown_command_and_unknown_option_are_found() -> None:
    with pytest.raises(KeyError):
        _resolve(["job", "fly"])
    command, rest = _resolve(["job", "plan", "REQUEST", "--fast"])
    assert _unknown_options(command, rest) == {"--fast"}
