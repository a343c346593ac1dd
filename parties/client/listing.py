"""Lists for people and programs: iterable, indexable, a table in a notebook and in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Generic, Protocol, TypeVar, overload


class Listed(Protocol):
    """Something that a listing shows as one line."""

    def cells(self) -> tuple[str, ...]:
        """Returns its cells, one for each head of the listing."""


Item = TypeVar("Item", bound=Listed)


class Listing(Generic[Item], Sequence[Item]):
    """Found things in a fixed order, and who could not be asked.

    Attributes:
        heads: the columns' names.
        unheard: what was wrong with the parties that could not be asked, by party; their things are missing.
    """

    def __init__(self, heads: Sequence[str], items: Sequence[Item], *, unheard: dict[str, str] | None = None) -> None:
        self.heads = tuple(heads)
        self.unheard = unheard or {}
        self._items = tuple(items)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    @overload
    def __getitem__(self, position: int) -> Item: ...

    @overload
    def __getitem__(self, position: slice) -> Sequence[Item]: ...

    def __getitem__(self, position: int | slice) -> Item | Sequence[Item]:
        return self._items[position]

    def table(self) -> str:
        """Returns aligned columns for a terminal."""
        lines = [self.heads, *(item.cells() for item in self._items)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.heads))]
        shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
        return "\n".join(shown)

    def __repr__(self) -> str:
        return "\n".join([self.table(), *(f"({party} could not be asked: {what})" for party, what in self.unheard.items())])

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{escape(party)} could not be asked: {escape(what)}</p>" for party, what in self.unheard.items())
        return html_table(self.heads, [item.cells() for item in self._items]) + notes


def html_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table for a notebook; every text is escaped, since much of it comes from other parties."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
