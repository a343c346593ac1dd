"""Which column of the shared rows a feature is, read from the public schema of a job."""

from __future__ import annotations

from protocols.canonical import Document

_FEATURE = "feature"


def feature_names(schema: Document) -> tuple[str, ...]:
    """Returns the names of the feature columns in the order in which rows hold them; public.

    What the whole schema must be is checked elsewhere; of one that is malformed this returns what can be read.
    """
    columns = schema.get("columns")
    entries = [entry for entry in columns if isinstance(entry, dict)] if isinstance(columns, list) else []
    names = [entry.get("name") for entry in entries if entry.get("role") == _FEATURE]
    return tuple(name for name in names if isinstance(name, str))
