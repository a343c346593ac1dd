"""Where each failure is described: one page a code, generated from the catalogue (scripts/generate_error_pages.py)."""

from __future__ import annotations

from protocols.errors import ErrorCode

FOLDER = "docs/errors"


def page_of(code: ErrorCode) -> str:
    """Returns the path of a code's page in the source tree, for links and for people."""
    return f"{FOLDER}/{code.name}.md"
