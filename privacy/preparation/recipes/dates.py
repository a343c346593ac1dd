"""Dates in one stated form, read strictly: `%Y` four digits, `%m` and `%d` two, everything else as it stands."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

KNOWN_FORMS = ("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%Y%m%d", "%d %m %Y")
_PARTS = {"%Y": ("year", "[0-9]{4}"), "%m": ("month", "[0-9]{2}"), "%d": ("day", "[0-9]{2}")}
_FORM = re.compile(r"(%[Ymd]|[-./ ]|T)+")
_LONGEST = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def form_problem(form: str) -> str:
    """Returns what is wrong with a form, or an empty text."""
    if not _FORM.fullmatch(form) or sorted(re.findall("%.", form)) != ["%Y", "%d", "%m"]:
        return "must have %Y, %m and %d once each, and between them only - . / and spaces"
    return ""


def parse_dates(texts: pa.Array, form: str) -> tuple[pa.Array, NDArray[np.bool_]]:
    """Reads dates.

    Args:
        texts: (rows,) texts, null where there is none; secret.
        form: without `form_problem`.

    Returns:
        (rows,) dates (date32), null where there is none; and (rows,) which texts are no such date, secret.
    """
    found = pc.extract_regex(texts, _pattern(form))
    year, month, day = (_part(found, key) for key in ("year", "month", "day"))
    matched = pc.is_valid(found).to_numpy(zero_copy_only=False)
    sound = matched & (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
    month = np.where(sound, month, 1)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    sound &= (day <= _LONGEST[month]) & ~((month == 2) & (day == 29) & ~leap)
    months = (np.where(sound, year, 1970) - 1970) * 12 + (month - 1)
    days = months.astype("M8[M]").astype("M8[D]") + (np.where(sound, day, 1) - 1)
    wrong = ~sound & pc.is_valid(texts).to_numpy(zero_copy_only=False)
    return pa.array(days.astype("M8[D]").astype(np.int64).astype(np.int32), mask=~sound).cast(pa.date32()), wrong


def forms_of(text: str) -> tuple[str, ...]:
    """Returns in which of the known forms a text is a date."""
    return tuple(form for form in KNOWN_FORMS if not parse_dates(pa.array([text]), form)[1][0])


def _pattern(form: str) -> str:
    pieces = re.split("(%[Ymd])", form)
    return "^" + "".join(f"(?P<{_PARTS[p][0]}>{_PARTS[p][1]})" if p in _PARTS else re.escape(p) for p in pieces) + "$"


def _part(found: pa.StructArray, key: str) -> NDArray[np.int64]:
    values: NDArray[np.int64] = pc.fill_null(pc.struct_field(found, key).cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return values
