"""Documents with any value at any place, for readers of documents that nobody vouches for."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "kind", "party", "epochs"]), inner),
    max_leaves=6,
)


def at_paths(document: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths of everything inside a document."""
    found = [path] if path else []
    steps: list[tuple[str | int, Any]] = []
    if isinstance(document, dict):
        steps = list(document.items())
    elif isinstance(document, list):
        steps = list(enumerate(document))
    for key, value in steps:
        found += at_paths(value, (*path, key))
    return found


def replaced(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy of a document with another value at a path."""
    if not path:
        return value
    if isinstance(document, dict):
        return {key: replaced(inner, path[1:], value) if key == path[0] else inner for key, inner in document.items()}
    return [replaced(inner, path[1:], value) if at == path[0] else inner for at, inner in enumerate(document)]
