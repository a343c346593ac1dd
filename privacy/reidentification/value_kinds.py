"""What a single cell may be, by its form and its check digits."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from privacy.reidentification import check_digits

MAX_CHARS = 256  # none of these is longer
_SEPARATORS = re.compile(r"[ .\-]")
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_STREETS = (
    r"(?:street|st|road|rd|avenue|ave|lane|ln|drive|dr|boulevard|blvd|court|ct|close|way|place|pl|square|terrace|gardens|"
    r"crescent)"
)


@dataclass(frozen=True)
class ValueKind:
    """One kind of cell.

    Attributes:
        name: what it is, for people.
        pattern: which the whole cell fits.
        check: of its digits, spaces and hyphens taken out; None if there is none.
        by_chance: the share of cells of this form that pass the check by chance.
        direct: whether such a cell names or reaches a person by itself.
    """

    name: str
    pattern: re.Pattern[str]
    check: Callable[[str], bool] | None = None
    by_chance: float = 1.0
    direct: bool = True

    def fits(self, cell: str) -> bool:
        """Says whether a cell, without spaces around it, is of this kind."""
        if self.pattern.fullmatch(cell) is None:
            return False
        return self.check is None or self.check(_SEPARATORS.sub("", cell).upper())


def _kind(
    name: str, pattern: str, check: Callable[[str], bool] | None = None, by_chance: float = 1.0, *, direct: bool = True
) -> ValueKind:
    return ValueKind(name, re.compile(pattern, re.IGNORECASE | re.ASCII), check, by_chance, direct)


DATE = _kind(
    "date",
    rf"\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}(?:[T ][\d:.+Z-]*)?|\d{{1,2}}[-/.]\d{{1,2}}[-/.](?:\d{{2}}|\d{{4}})|"
    rf"\d{{1,2}}[ -]{_MONTH}[ -]\d{{2,4}}|{_MONTH} \d{{1,2}},? \d{{4}}",
    direct=False,
)

# A cell is the first kind that it fits.
VALUE_KINDS: tuple[ValueKind, ...] = (
    _kind("e-mail address", r"[\w.+'-]+@[\w-]+(?:\.[\w-]+)+"),
    _kind("web address", r"(?:https?://|www\.)\S+"),
    _kind("network address", r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)"),
    _kind("network address", r"(?:[0-9a-f]{1,4}:){3,7}:?[0-9a-f]{1,4}|(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}"),
    _kind("universal identifier", r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"),
    _kind("bank account (IBAN)", r"[a-z]{2}\d{2}(?: ?[0-9a-z]{4}){2,7}(?: ?[0-9a-z]{1,4})?", check_digits.iban, 1 / 97),
    DATE,
    _kind("payment card", r"[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}|3\d{3}[ -]?\d{6}[ -]?\d{5}", check_digits.luhn, 0.1),
    _kind("social security number (US)", r"\d{3}([- ])\d{2}\1\d{4}", check_digits.social_security_number),
    _kind("NHS number", r"\d{3}([- ]?)\d{3}\1\d{4}", check_digits.nhs_number, 1 / 11),
    _kind("social security number (FR)", r"[12] ?\d\d ?\d\d ?(?:\d\d|2[ab]) ?\d{3} ?\d{3} ?\d\d", check_digits.nir, 1 / 97),
    _kind("identity number (ES)", r"[xyz\d]-?\d{7}-?[a-z]", check_digits.dni, 1 / 23),
    _kind("tax number (DE)", r"[1-9]\d(?: ?\d{3}){3}", check_digits.steuer_id, 0.1),
    _kind("identity number (PL)", r"\d{11}", check_digits.pesel, 0.06),
    _kind("social insurance number (CA)", r"[1-79]\d{2}([- ])\d{3}\1\d{3}", check_digits.luhn, 0.1),
    _kind("telephone number", r"\+\d[\d ().-]{6,18}\d|\(?0\d{1,4}\)?[ /.-]\d[\d ./-]{4,14}\d|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}"),
    _kind(
        "postal address",
        rf"\d{{1,5}}[a-z]? (?:[\w'.-]+ ){{1,5}}{_STREETS}\b.{{0,80}}|.{{2,40}}(?:stra.{{1,2}}e|str\.|weg|gasse|allee) \d.*",
    ),
    _kind("postcode (GB)", r"[a-z]{1,2}\d[a-z\d]? ?\d[a-z]{2}", direct=False),
    _kind("postcode (US)", r"\d{5}-\d{4}", direct=False),
)


def kind_of(cell: str) -> ValueKind | None:
    """Returns what a cell, without spaces around it, is; None if it is none of these."""
    if len(cell) > MAX_CHARS:
        return None
    return next((kind for kind in VALUE_KINDS if kind.fits(cell)), None)
