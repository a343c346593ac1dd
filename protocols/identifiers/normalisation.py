"""The one form of an identifier that all institutions compute with: what people write differently must still match.

    NFKC, then case folding, then NFKC again; white space at the ends is dropped, inside it becomes one space each

So `Müller  17`, `MÜLLER 17` and the same in decomposed or full-width letters are one identifier. Nothing else is changed: leading
zeros, hyphens and accents tell people apart somewhere, and stay.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from protocols.errors import ConfideError, ErrorCode, Problem

MAX_IDENTIFIER_BYTES = 1024
MAX_REPORTED = 20


def normalise(text: str) -> str:
    """Returns the form of an identifier that is computed with; secret as the identifier is. Idempotent; may be empty."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def normalise_all(texts: Sequence[str]) -> tuple[str, ...]:
    """Returns the form of every identifier, in order.

    Args:
        texts: identifiers as their owner writes them, secret.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): some are empty, too long or not text; by their numbers from 1, never by
            value.
    """
    found, problems = [], []
    for number, text in enumerate(texts, start=1):
        try:
            form = normalise(text)
            size = len(form.encode())
        except UnicodeEncodeError:  # a lone surrogate; its message would quote the identifier
            form, size = "", 0
        if not 1 <= size <= MAX_IDENTIFIER_BYTES:
            what = f"is no text of 1 to {MAX_IDENTIFIER_BYTES} bytes"
            problems.append(Problem(f"identifier {number}", what, "complete or correct it, or leave the row out"))
        found.append(form)
    if problems:
        what = f"{len(problems)} identifier(s) cannot be used"
        raise ConfideError(ErrorCode.INVALID_DATA, what, problems=problems[:MAX_REPORTED])
    return tuple(found)
