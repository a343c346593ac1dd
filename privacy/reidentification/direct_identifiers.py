"""Finds columns that name people by themselves, by their cells and by their structure; what a column is called is a hint only.

A column's name never makes a finding. It raises one that the cells make, because "id" over serial numbers says more than either.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import pyarrow as pa
import pyarrow.compute as pc

from privacy.reidentification.entities import Entity, EntityKind
from privacy.reidentification.masking import LEAST
from privacy.reidentification.value_kinds import DATE, kind_of

MAX_EXAMINED = 2_000  # distinct cells of a column whose form is looked at
MAX_READ = 100  # texts of a column that the detector for free text reads
MAX_TEXT_READ = 5_000  # characters of each
_MOST = 0.8
_SOME = 0.05
_FEW_ROWS = 20
_WORDS_OF_A_TEXT = 5
_LIFE_YEARS = 50
_DATES = ("date", "date of birth")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORDS_OF_A_NAME = re.compile(r"[^\W\d_]{2,}(?:[ '\u2019.-]{1,2}[^\W\d_]+){0,3}\.?(?:, [^\W\d_]+)?")
_TOKENS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ID_HINTS = _words(
    "id ids identifier mrn ssn nhs nino number no nr num uid guid uuid account acct iban passport licence license policy member "
    "subject patient client customer case record chart pesel dni nir"
)
_PERSON_HINTS = _words("first last sur given family middle maiden full patient client customer person nick fore")
_NAME_HINTS = _words("name names surname firstname lastname forename fullname givenname familyname fname lname")
_BIRTH_HINTS = _words("birth born dob birthday birthdate")


class Sure(IntEnum):
    """How sure a finding is."""

    POSSIBLE = 1  # look at it
    LIKELY = 2  # treat it as one unless you know better
    CERTAIN = 3  # check digits fit, or structure and name agree

    @property
    def text(self) -> str:
        """The level in words."""
        return self.name.lower()


@dataclass(frozen=True)
class Finding:
    """One reason to take a column for an identifier; for the owner's eyes.

    Attributes:
        column: its name.
        what: what it seems to hold.
        sure: how sure that is.
        why: what was seen, without any cell.
    """

    column: str
    what: str
    sure: Sure
    why: str

    @property
    def flagged(self) -> bool:
        """Whether the column is to be treated as an identifier."""
        return self.sure >= Sure.LIKELY


Detector = Callable[[str], Sequence[Entity]]


def examine(column: str, texts: pa.Array, *, distinct_share: float, num_rows: int, detect: Detector) -> tuple[Finding, ...]:
    """Looks at one column.

    Args:
        column: its name, a hint only.
        texts: sampled cells as they are written, null where missing, in the order of the rows; secret.
        distinct_share: distinct values in the whole table, divided by the rows where something stands.
        num_rows: rows where something stands, in the whole table.
        detect: finds entities in free text.

    Returns:
        What was found, the surest first; at most one finding of each sort.
    """
    present = texts.drop_null()
    cells: list[str] = pc.unique(present).slice(0, MAX_EXAMINED).to_pylist()
    if not cells:
        return ()
    hints = frozenset(token.lower() for token in _TOKENS.findall(column))
    found = [*_by_form(column, cells, hints), *_by_text(column, cells, detect)]
    if not any(finding.flagged for finding in found):
        found += _by_names(column, cells, hints, detect)
    # What has a name already needs no reason from its structure, and dates are unique in their own way.
    if not any(finding.flagged or finding.what in _DATES for finding in found):
        found += _by_structure(column, present, cells, hints, distinct_share, num_rows)
    return tuple(sorted(found, key=lambda finding: -finding.sure))


def _by_form(column: str, cells: Sequence[str], hints: frozenset[str]) -> list[Finding]:
    fitting = [kind for cell in cells if (kind := kind_of(cell)) is not None]
    kinds = Counter(kind.name for kind in fitting)
    by_name = {kind.name: kind for kind in fitting}
    found = []
    for name, count in kinds.items():
        kind, share = by_name[name], count / len(cells)
        # A check that a tenth of all numbers pass says something only where far more pass it.
        if share < max(_SOME, 3 * kind.by_chance if kind.check is not None and kind.by_chance < 1 else 0.0):
            continue
        why = f"{_percent(share)} of the distinct cells have its form" + (" and its check digits" if kind.by_chance < 1 else "")
        if kind is DATE:
            found.append(_of_dates(column, cells, hints, share, why))
        elif not kind.direct:
            found.append(Finding(column, name, Sure.POSSIBLE, why))
        elif share < _MOST:
            found.append(Finding(column, name, Sure.LIKELY if share >= 0.5 else Sure.POSSIBLE, why))
        else:
            found.append(Finding(column, name, Sure.CERTAIN if kind.by_chance < 1 and len(cells) >= 10 else Sure.LIKELY, why))
    return found


def _of_dates(column: str, cells: Sequence[str], hints: frozenset[str], share: float, why: str) -> Finding:
    years = [int(year) for cell in cells for year in re.findall(r"(?:18|19|20)\d\d", cell)[:1]]
    lifetime = bool(years) and max(years) - min(years) >= _LIFE_YEARS
    if share >= _MOST and hints & _BIRTH_HINTS:
        return Finding(column, "date of birth", Sure.LIKELY, f"{why}, and its name says so")
    if share >= _MOST and lifetime:
        return Finding(column, "date of birth", Sure.POSSIBLE, f"{why}, and they span a lifetime")
    return Finding(column, "date", Sure.POSSIBLE, why)


def _by_text(column: str, cells: Sequence[str], detect: Detector) -> list[Finding]:
    texts = [cell for cell in cells if cell.count(" ") >= _WORDS_OF_A_TEXT - 1]
    if len(texts) < 0.2 * len(cells):
        return []
    read = texts[:MAX_READ]
    kinds: Counter[EntityKind] = Counter()
    for text in read:
        kinds.update(
            {entity.kind for entity in detect(text[:MAX_TEXT_READ]) if entity.kind not in (EntityKind.DATE, EntityKind.PLACE)}
        )
    if not kinds:
        return [Finding(column, "free text", Sure.POSSIBLE, "nothing was found in a sample of the texts, which proves little")]
    words = ", ".join(
        f"{kind.value} in {_percent(count / len(read)) if count >= LEAST else 'a few'}" for kind, count in kinds.most_common()
    )
    sure = Sure.LIKELY if max(kinds.values()) >= _SOME * len(read) else Sure.POSSIBLE
    return [Finding(column, "free text with identifiers", sure, f"of {len(read)} texts read: {words}")]


def _by_structure(
    column: str, present: pa.Array, cells: Sequence[str], hints: frozenset[str], distinct_share: float, num_rows: int
) -> list[Finding]:
    if distinct_share < 0.5 or num_rows < _FEW_ROWS:
        return []
    hinted = bool(hints & _ID_HINTS)
    seen = f"distinct values in {_percent(distinct_share)} of the rows"
    if all(cell.isdecimal() for cell in cells):
        numbers = [int(cell) for cell in present.to_pylist()]
        if distinct_share > 0.99 and all(one < other for one, other in itertools.pairwise(numbers)):
            return [Finding(column, "serial number", Sure.CERTAIN if hinted else Sure.LIKELY, f"{seen}, rising from row to row")]
        # Of a sample only the share of rows can be compared with the range, not the distinct values themselves.
        dense = distinct_share * num_rows >= 0.3 * (max(numbers) - min(numbers) + 1)
        longest = max(len(cell) for cell in cells)
        same_length = min(len(cell) for cell in cells) == longest and longest >= 5
        if hinted and (dense or same_length or distinct_share >= 0.9):
            return [Finding(column, "identifying number", Sure.CERTAIN, f"{seen}, whole numbers, and its name says so")]
        if distinct_share >= 0.95 and (dense or same_length):
            return [Finding(column, "identifying number", Sure.LIKELY, f"{seen}, whole numbers of one length or close together")]
        return [Finding(column, "identifying number", Sure.POSSIBLE, f"{seen}, whole numbers; it may as well be a measurement")]
    shapes = Counter(re.sub(r"[^\W\d_]", "A", re.sub(r"\d", "9", cell)) for cell in cells)
    shape, count = shapes.most_common(1)[0]
    if count >= _MOST * len(cells) and shape.count("9") >= 3 and "A" in shape:
        return [
            Finding(column, "code", Sure.CERTAIN if hinted else Sure.LIKELY, f"{seen}, all of one form of letters and digits")
        ]
    if all(re.fullmatch(r"[+-]?\d*\.?\d+(?:[eE][+-]?\d+)?", cell) for cell in cells):
        return []  # measurements with a fraction: unique, and a matter for quasi-identifiers
    if distinct_share >= 0.9:
        return [Finding(column, "nearly unique text", Sure.LIKELY, f"{seen}, and they are no numbers")]
    return []


def _by_names(column: str, cells: Sequence[str], hints: frozenset[str], detect: Detector) -> list[Finding]:
    words = [cell for cell in cells if _WORDS_OF_A_NAME.fullmatch(cell)]
    if len(cells) < 5 or len(words) < _MOST * len(cells):
        return []
    others = hints - _NAME_HINTS - _PERSON_HINTS - {"fake", "the", "of", "legal"}
    of_persons = bool(hints & _NAME_HINTS) and (not others or bool(hints & _PERSON_HINTS) or "surname" in hints)
    if of_persons:
        return [
            Finding(
                column, "name", Sure.LIKELY, f"{_percent(len(words) / len(cells))} are words as of a name, and its name says so"
            )
        ]
    several = [cell for cell in words if " " in cell][:MAX_READ]
    if len(several) >= 0.5 * min(len(words), MAX_READ):
        # The detector tells persons from things by their capitals; a full name is enough for it, a single word is not.
        persons = sum(any(entity.kind is EntityKind.PERSON for entity in detect(cell.title())) for cell in several)
        if persons >= 0.6 * len(several):
            return [
                Finding(column, "name", Sure.LIKELY, f"{_percent(persons / len(several))} of the cells read are persons' names")
            ]
    if len(cells) >= 50:
        return [Finding(column, "name", Sure.POSSIBLE, "many different cells of words alone, as of names")]
    return []


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
