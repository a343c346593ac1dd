"""The Merkle tree of a log (RFC 6962 section 2.1; RFC 9162 section 2.1): hashes, root, proofs and their verification.

The tree is never held in memory. Every function reads hashes of complete subtrees through `Lookup`: `node(level, index)` is the
hash of the subtree over entries index * 2**level up to (index + 1) * 2**level, and is asked for only if the tree has them all;
level 0 are the leaf hashes. Leaves and inner nodes are hashed under different prefixes, so that neither passes as the other.
All values here are public to whoever may read the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
_LEAF, _NODE = b"\x00", b"\x01"

Lookup = Callable[[int, int], bytes]


def leaf_hash(body: bytes) -> bytes:
    """Returns the hash of an entry, 32 bytes."""
    return hashlib.sha256(_LEAF + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Returns the hash of a subtree from those of its halves, 32 bytes each."""
    return hashlib.sha256(_NODE + left + right).digest()


def completed_by(size: int, leaf: bytes, node: Lookup) -> Iterable[tuple[int, int, bytes]]:
    """Yields the inner subtrees that become complete when an entry is appended: at most log2 of the size, one on average.

    Args:
        size: entries before it.
        leaf: its leaf hash.
        node: see the module.

    Yields:
        Level, index and hash, upwards from level 1.
    """
    level, index, current = 0, size, leaf
    while index % 2 == 1:
        current = node_hash(node(level, index - 1), current)
        level, index = level + 1, index // 2
        yield level, index, current


def root(size: int, node: Lookup) -> bytes:
    """Returns the root of the tree over the first `size` entries."""
    return _subtree(0, size, node) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, node: Lookup) -> tuple[bytes, ...]:
    """Returns the proof that entry `index` is in the tree of `size` entries, from the leaf upwards (RFC 6962, 2.1.1).

    Raises:
        ValueError: there is no such entry in that tree.
    """
    if not 0 <= index < size:
        raise ValueError("the entry is not in the tree")
    start, end = 0, size
    path: list[bytes] = []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_subtree(middle, end, node))
            end = middle
        else:
            path.append(_subtree(start, middle, node))
            start = middle
    return tuple(reversed(path))


def consistency_proof(old: int, new: int, node: Lookup) -> tuple[bytes, ...]:
    """Returns the proof that the tree of `new` entries extends that of `old` entries (RFC 6962, 2.1.2).

    Nothing needs to be shown of an empty old tree or of the same tree: the proof is empty then.

    Raises:
        ValueError: the old tree is the larger one.
    """
    if not 0 <= old <= new:
        raise ValueError("the old tree is larger than the new one")
    if old in (0, new):
        return ()
    start, end = 0, new
    whole = True  # whether the old tree is, so far, a complete subtree whose hash the verifier knows
    path: list[bytes] = []
    while old < end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_subtree(middle, end, node))
            end = middle
        else:
            path.append(_subtree(start, middle, node))
            start, whole = middle, False
    if not whole:
        path.append(_subtree(start, end, node))
    return tuple(reversed(path))


def is_included(index: int, size: int, *, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Returns whether a proof shows that a leaf stands at `index` of the tree (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or any(len(part) != HASH_BYTES for part in proof):
        return False
    first, last, current = index, size - 1, leaf
    for part in proof:
        if last == 0:
            return False
        if first % 2 == 1 or first == last:
            current = node_hash(part, current)
            while first % 2 == 0 and first:
                first, last = first >> 1, last >> 1
        else:
            current = node_hash(current, part)
        first, last = first >> 1, last >> 1
    return last == 0 and current == root


def is_consistent(old: int, new: int, *, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Returns whether a proof shows that the new tree extends the old one (RFC 9162, 2.1.4.2)."""
    if not 0 <= old <= new or any(len(part) != HASH_BYTES for part in proof):
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    if not proof:
        return False
    # A complete old tree is itself the first hash; otherwise the proof brings it.
    parts = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    first, last = old - 1, new - 1
    while first % 2 == 1:
        first, last = first >> 1, last >> 1
    old_current = new_current = parts[0]
    for part in parts[1:]:
        if last == 0:
            return False
        if first % 2 == 1 or first == last:
            old_current = node_hash(part, old_current)
            new_current = node_hash(part, new_current)
            while first % 2 == 0 and first:
                first, last = first >> 1, last >> 1
        else:
            new_current = node_hash(new_current, part)
        first, last = first >> 1, last >> 1
    return last == 0 and old_current == old_root and new_current == new_root


def _split(count: int) -> int:
    # The largest power of two below the count; the count is at least two.
    return 1 << ((count - 1).bit_length() - 1)


def _subtree(start: int, end: int, node: Lookup) -> bytes:
    # Only called for ranges that the recursion of RFC 6962 makes: all but the rightmost are complete and aligned.
    count = end - start
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return node(level, start >> level)
    middle = start + _split(count)
    return node_hash(_subtree(start, middle, node), _subtree(middle, end, node))
