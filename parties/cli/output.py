"""How commands speak: results on stdout, everything else on stderr, in one of three formats, with stable exit codes.

text    for people
json    one envelope {schema_version, status, data | error}
jsonl   one line per record; the last one is the envelope, with terminal: true
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Annotated, ParamSpec

import typer

from parties import defect
from protocols.error_pages import page_of
from protocols.errors import ConfideError, ErrorCode, Kind

SCHEMA_VERSION = 1
P = ParamSpec("P")

Json = str | int | float | bool | None | Sequence["Json"] | Mapping[str, "Json"]

EXIT_CODES: Mapping[Kind, int] = {
    Kind.INVALID: 2,
    Kind.NOT_FOUND: 2,  # a wrong name; 1 would say that a job ended badly
    Kind.UNAUTHENTICATED: 3,
    Kind.UNAVAILABLE: 3,
    Kind.TIMEOUT: 4,
    Kind.DENIED: 5,
    Kind.EXHAUSTED: 6,
    Kind.INTEGRITY: 7,
    # It cannot be done as things stand: not ready yet, taken, too late. 1 would say that a job ended badly.
    Kind.CONFLICT: 8,
    Kind.NOT_READY: 8,
}
OTHER_FAILURES = 1  # an interrupted command exits with 130, by typer
READER_GONE = 141  # as a shell reports a process that SIGPIPE ended


class OutputFormat(Enum):
    """In which form a command prints."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"


FormatOption = Annotated[OutputFormat, typer.Option("--format", help="How results are printed.")]


class Output:
    """What one command prints."""

    def __init__(self, output_format: OutputFormat) -> None:
        self.format = output_format

    def record(self, data: Mapping[str, Json], text: str) -> None:
        """Prints one record of a stream: a line of text or of JSON; nothing in the format `json`, which prints one object.

        Args:
            data: the record.
            text: the same for people.
        """
        match self.format:
            case OutputFormat.TEXT:
                _print(text)
            case OutputFormat.JSONL:
                _print(_compact({"schema_version": SCHEMA_VERSION, "data": data, "terminal": False}))
            case OutputFormat.JSON:
                pass

    def result(self, data: Mapping[str, Json], text: str) -> None:
        """Prints the result of the command; once, last.

        Args:
            data: the result.
            text: the same for people.
        """
        envelope: dict[str, Json] = {"schema_version": SCHEMA_VERSION, "status": "ok", "data": data}
        match self.format:
            case OutputFormat.TEXT:
                _print(text)
            case OutputFormat.JSON:
                _print(json.dumps(envelope, indent=2, ensure_ascii=False))
            case OutputFormat.JSONL:
                _print(_compact(envelope | {"terminal": True}))

    def note(self, text: str) -> None:
        """Tells people something that is no result."""
        _print_error(text)

    def error(self, error: ConfideError, *, data: Mapping[str, Json] | None = None) -> None:
        """Prints a failure: text on stderr, and in the JSON formats the envelope on stdout.

        Args:
            error: the failure.
            data: what is known all the same, for the JSON formats.
        """
        _print_error(f"{error}\n  more: {page_of(error.code)}")
        if self.format is OutputFormat.TEXT:
            return
        envelope: dict[str, Json] = {
            "schema_version": SCHEMA_VERSION,
            "status": "error",
            "error": {
                "code": error.code.name,
                "fault": error.code.fault.value,
                "what": error.what,
                "problems": [{"where": p.where, "what": p.what, "remedy": p.remedy} for p in error.problems],
                "remedy": error.remedy,
                "page": page_of(error.code),
                "party": error.party,
            },
        }
        if data is not None:
            envelope["data"] = data
        if self.format is OutputFormat.JSON:
            _print(json.dumps(envelope, indent=2, ensure_ascii=False))
        else:
            _print(_compact(envelope | {"terminal": True}))


def exit_code(error: ConfideError) -> int:
    """Returns the exit code of a failure."""
    return EXIT_CODES.get(error.code.kind, OTHER_FAILURES)


def reported(command: Callable[P, None]) -> Callable[P, None]:
    """Makes a command print its failures in the format it was asked for, and exit with their code.

    The command's parameter `output_format` says which format that is.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        chosen = kwargs.get("output_format")
        output = Output(chosen if isinstance(chosen, OutputFormat) else OutputFormat.TEXT)
        try:
            command(*args, **kwargs)
        except ConfideError as error:
            output.error(error)
            raise typer.Exit(exit_code(error)) from None
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:
            output.error(ConfideError(ErrorCode.INTERNAL, defect.place(error)))
            raise typer.Exit(OTHER_FAILURES) from None

    return run


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns aligned columns; plain text, so that it reads the same on a terminal and in a file."""
    widths = [max(len(line[column]) for line in (heads, *rows)) for column in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (heads, *rows)]
    return "\n".join(line.rstrip() for line in lines)


def _compact(value: Mapping[str, Json]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def shown(text: str) -> str:
    """Returns a text as it may be printed: what steers a terminal is written as in JSON; lines stay lines.

    Purposes, reasons and names come from other parties and researchers: none of them writes over what a command says.
    """
    return "".join(letter if letter.isprintable() or letter == "\n" else json.dumps(letter)[1:-1] for letter in text)


def _print(text: str) -> None:
    try:
        print(shown(text), file=sys.stdout, flush=True)
    except BrokenPipeError:  # whoever read, for example `head`, has gone; at exit nothing must be written there again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(READER_GONE) from None


def _print_error(text: str) -> None:
    print(shown(text), file=sys.stderr, flush=True)
