"""Writes the states table into docs/protocols/session.md: `python -m tests.simulation.write_states`."""

from __future__ import annotations

from pathlib import Path

from protocols.session.table import as_markdown

PAGE = Path(__file__).parents[2] / "docs" / "protocols" / "session.md"
BEGIN, END = "<!-- states: begin -->\n", "<!-- states: end -->"


def main() -> None:
    head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(head + BEGIN + as_markdown() + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
