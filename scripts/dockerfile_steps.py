"""Reads a Dockerfile into its steps; just what docker/Dockerfile uses, everything else is refused."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

KEYWORDS = frozenset(
    "ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL RUN USER VOLUME WORKDIR".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Step:
    """One instruction: its keyword and its text, with continued lines joined."""

    keyword: str
    text: str

    def command(self) -> list[str]:
        """Returns the words of an instruction in exec form; a health check's options are left out.

        Raises:
            ValueError: the instruction is in shell form, which would need a shell to run.
        """
        start = self.text.find("[")
        words = json.loads(self.text[start:]) if start >= 0 else None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{self.keyword} is not in exec form")
        return words


def parse(text: str) -> list[Step]:
    """Returns the steps of a Dockerfile in order.

    Raises:
        ValueError: an instruction that this reader does not know.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    steps = []
    for instruction in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        keyword, _, rest = instruction.strip().partition(" ")
        if keyword not in KEYWORDS:
            raise ValueError(f"unknown instruction {keyword!r}")
        steps.append(Step(keyword, re.sub(r"\s{2,}", " ", rest).strip()))
    return steps


def expand(value: str, variables: Mapping[str, str]) -> str:
    """Returns `value` with $NAME replaced from `variables`."""
    return re.sub(r"\$\{?(\w+)\}?", lambda match: variables.get(match.group(1), ""), value)


def ignored(rules: Path, root: Path) -> Callable[[str, list[str]], set[str]]:
    """Returns a filter for `shutil.copytree` that leaves out what the ignore file leaves out below the copied folders."""
    patterns = [line.removeprefix("**/") for line in rules.read_text(encoding="utf-8").splitlines() if line.startswith("**/")]

    def left_out(_folder: str, names: list[str]) -> set[str]:
        return {name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)}

    return left_out
