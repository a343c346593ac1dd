"""Tiles: the layout in which a log is handed out as files (C2SP tlog-tiles).

A tile of level L holds 256 hashes of complete subtrees of height 8 * L, side by side; the rightmost may be partial. An entry
bundle holds the 256 entries under one tile of level 0, each after its length. A log of the same size is always the same files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from governance.audit.merkle import Lookup

WIDTH = 256
_HEIGHT = 8
_LENGTH_BYTES = 2
_GROUP = 1000


@dataclass(frozen=True)
class Tile:
    """One tile of a tree; public to whoever may read the log.

    Attributes:
        level: 0 for leaf hashes; each level above covers 256 times as many entries per hash.
        index: its place in its level, from 0.
        width: how many hashes it holds, 1 to 256.
    """

    level: int
    index: int
    width: int

    @property
    def path(self) -> str:
        """Where it lies, relative to the log."""
        return f"tile/{self.level}/{_path(self.index, self.width)}"

    @property
    def entries_path(self) -> str:
        """Where the entries under a tile of level 0 lie, relative to the log."""
        return f"tile/entries/{_path(self.index, self.width)}"

    @property
    def start(self) -> int:
        """The first subtree of this level that it holds; for level 0, the first entry."""
        return self.index * WIDTH


def tiles(size: int) -> Iterable[Tile]:
    """Yields all tiles of a tree of `size` entries, upwards and from the left."""
    level, count = 0, size
    while count:
        full, rest = divmod(count, WIDTH)
        yield from (Tile(level, index, WIDTH) for index in range(full))
        if rest:
            yield Tile(level, full, rest)
        level, count = level + 1, full


def tile_bytes(tile: Tile, node: Lookup) -> bytes:
    """Returns the hashes of a tile, 32 bytes each; `node` as in `governance.audit.merkle`."""
    return b"".join(node(tile.level * _HEIGHT, index) for index in range(tile.start, tile.start + tile.width))


def bundle_bytes(bodies: Sequence[bytes]) -> bytes:
    """Returns the entries of a bundle, each after its length (2 bytes, big-endian)."""
    return b"".join(len(body).to_bytes(_LENGTH_BYTES, "big") + body for body in bodies)


def _path(index: int, width: int) -> str:
    parts = [f"{index % _GROUP:03d}"]
    while index >= _GROUP:
        index //= _GROUP
        parts.insert(0, f"x{index % _GROUP:03d}")
    return "/".join(parts) + (f".p/{width}" if width < WIDTH else "")
