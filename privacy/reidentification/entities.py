"""Finds what names or locates people in free text, and takes it out.

The detector is Presidio with spaCy's small English model (`privacy.reidentification.presidio`). It reads English;
numbers, network addresses and e-mail are found in any language. No detector finds everything: what it leaves is not thereby
anonymous.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from protocols.errors import ConfideError, ErrorCode

MAX_TEXT_CHARS = 100_000


class EntityKind(Enum):
    """What was found in a text."""

    PERSON = "PERSON"
    PLACE = "PLACE"
    ADDRESS = "ADDRESS"
    ORGANISATION = "ORGANISATION"  # hospitals, clinics and surgeries: where somebody was treated
    DATE = "DATE"
    AGE = "AGE"  # of 90 and more: there are few such people
    EMAIL = "EMAIL"
    PHONE = "PHONE"
    URL = "URL"
    NETWORK_ADDRESS = "NETWORK_ADDRESS"
    NATIONAL_ID = "NATIONAL_ID"
    CARD = "CARD"
    ACCOUNT = "ACCOUNT"
    RECORD_NUMBER = "RECORD_NUMBER"


@dataclass(frozen=True)
class Entity:
    """One find; public as a value, but where it stands says where the text is secret.

    Attributes:
        kind: what it is.
        start, end: where it stands, in characters; the end is exclusive.
        sure: how sure the detector is, from 0 to 1; 1 is a number whose check digits fit.
    """

    kind: EntityKind
    start: int
    end: int
    sure: float


def load_detector() -> None:
    """Reads the detector's model from its package, so that a process that may open no files later can find entities.

    Raises:
        ConfideError: SETUP_INCOMPLETE (the operator's fault): the detector is not installed, or its model is another one.
    """
    _analyse("")


def find_entities(text: str) -> tuple[Entity, ...]:
    """Finds what names or locates people.

    Args:
        text: secret, at most `MAX_TEXT_CHARS` characters.

    Returns:
        The finds in their order; none overlaps another.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): the text is too long; SETUP_INCOMPLETE: as for `load_detector`.
    """
    if len(text) > MAX_TEXT_CHARS:
        what = f"a text has more than {MAX_TEXT_CHARS} characters"
        raise ConfideError(ErrorCode.INVALID_DATA, what, remedy="Split it, or leave the column out.")
    return _without_overlaps(_analyse(text))


def redact(text: str) -> str:
    """Returns a text with every entity replaced by its kind, as in `[PERSON]`; arguments and errors as for `find_entities`."""
    parts, position = [], 0
    for entity in find_entities(text):
        parts += [text[position : entity.start], f"[{entity.kind.value}]"]
        position = entity.end
    return "".join([*parts, text[position:]])


def _analyse(text: str) -> list[Entity]:
    try:
        # Imported here: the detector takes seconds and 170 MiB to load, and only texts need it.
        from privacy.reidentification.presidio import analyse
    except ModuleNotFoundError:
        what = "the detector of identifiers in free text is not installed"
        raise ConfideError(ErrorCode.SETUP_INCOMPLETE, what, remedy="Install confide[text].") from None
    return analyse(text)


def _without_overlaps(found: list[Entity]) -> tuple[Entity, ...]:
    """Joins finds that overlap: the surest names the kind, and no character that any of them covers is left over."""
    joined: list[Entity] = []
    for entity in sorted(found, key=lambda one: (one.start, -one.end)):
        if not joined or entity.start >= joined[-1].end:
            joined.append(entity)
            continue
        last = joined[-1]
        best = max(last, entity, key=lambda one: (one.sure, one.end - one.start))
        joined[-1] = Entity(best.kind, last.start, max(last.end, entity.end), best.sure)
    return tuple(joined)
