"""What the fuzzing of a decoder found, told so that the last lines of a campaign's output are enough to repeat it."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path

# Whoever reads a campaign's output may have its last lines only, so a finding takes no more than these.
MAX_LOG_LINES = 12
MAX_LINE_CHARACTERS = 240
MAX_INPUT_BYTES = 3000

_KEPT = re.compile(r"written to (\S+)")
_UNCAUGHT = re.compile(r"=== Uncaught Python exception: ===\s+(\S.*)")
_TRACEBACK = re.compile(r"^Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)", re.MULTILINE)
_LIBFUZZER = re.compile(r"ERROR: libFuzzer: (.+)")
# What libFuzzer and Atheris say in every run, and the input in other forms.
_NOISE = re.compile(r"INFO: |WARNING: Failed to find function|stat::|MS: \d|0x[0-9a-f]{1,2},|artifact_prefix=|Base64: |#")


@dataclass(frozen=True)
class Finding:
    """A decoder with a finding.

    Attributes:
        decoder: its name.
        kind: the exception, libFuzzer's word for it (a timeout, memory), or how the process ended.
        log: the last lines of its log that tell something.
        file: the input, if one was kept.
        data: what is in it.
    """

    decoder: str
    kind: str
    log: tuple[str, ...]
    file: Path | None
    data: bytes

    def to_text(self) -> str:
        """Everything about the finding, in a bounded number of lines and characters."""
        lines = [f"FOUND in {self.decoder}: {self.kind}", *(f"  | {line}" for line in self.log)]
        if self.file is None:
            return "\n".join([*lines, "  no input was kept: it is not an input that ended the process"])
        cut = f" (the first {MAX_INPUT_BYTES})" if len(self.data) > MAX_INPUT_BYTES else ""
        shown = base64.b64encode(self.data[:MAX_INPUT_BYTES]).decode()
        lines.append(f"  input, {len(self.data)} bytes{cut} in base64: {shown}")
        lines.append(f"  once more: python -m tests.fuzz.one {self.decoder} --replay {self.file}")
        return "\n".join(lines)


def read_finding(decoder: str, said: str, *, status: int) -> Finding:
    """Reads a finding from what a fuzzing process printed before it ended with a status other than 0."""
    kept = [file for name in _KEPT.findall(said) if (file := Path(name)).is_file()]
    telling = [line.rstrip() for line in said.splitlines() if line.strip() and not _NOISE.match(line)]
    return Finding(
        decoder,
        _shortened(_kind(said, status)),
        tuple(_shortened(line) for line in telling[-MAX_LOG_LINES:]),
        kept[-1] if kept else None,
        kept[-1].read_bytes() if kept else b"",
    )


def _kind(said: str, status: int) -> str:
    for pattern in (_UNCAUGHT, _TRACEBACK, _LIBFUZZER):
        if found := pattern.findall(said):
            return str(found[-1])
    return f"killed by signal {-status}" if status < 0 else f"ended with status {status}"


def _shortened(line: str) -> str:
    return line if len(line) <= MAX_LINE_CHARACTERS else line[: MAX_LINE_CHARACTERS - 3] + "..."
