"""The assessment of a released table by the owner of the rows behind it: what is refused, the three attacks, one report."""

from __future__ import annotations

import numpy as np

from privacy.risk.report import ATTACKED_IN_THE_CLEAR, RiskReport
from privacy.risk.rows_in_both import problem_of_rows_in_both
from privacy.risk.tables import ASKED_COLUMNS, MAX_ATTEMPTS, ReleasedTable, table_figures
from protocols.errors import ConfideError, ErrorCode, Problem

LEAST_ROWS = 20  # of each table; with so few, intervals reach nearly everywhere
# Of one core of the reference machine, measured on 100 to 50,000 rows: a released cell beside an asked one, and a guessed cell
# beside one of a row that it may fit.
_PER_CELL_S, _PER_GUESS_S = 1.4e-8, 3e-9


def assess_table(table: ReleasedTable, *, secret: int, seed: int) -> RiskReport:
    """Returns what the three attacks on a released table found.

    Args:
        table: the table, the rows that it was made from, and others, secret.
        secret: the column that inference guesses.
        seed: of all random choices; whoever knows it and the rows finds the same figures.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault), with every reason: too few rows or columns, cells that are not finite,
            or others that are rows behind the table.

    Learns: the owner, who has all rows, everything; only figures are for others.
    """
    problems = [
        Problem(name, f"{len(rows)} rows; an attack is measured on {LEAST_ROWS} of each at least", "bring more rows")
        for name, rows in (("the released table", table.released), ("rows behind it", table.behind), ("others", table.control))
        if len(rows) < LEAST_ROWS
    ]
    if len(table.is_category) < ASKED_COLUMNS:
        what = f"{len(table.is_category)} columns; a guess is made of {ASKED_COLUMNS}"
        problems.append(Problem("columns", what, "describe more of the released columns in the schema"))
    mixed = problem_of_rows_in_both(
        table.behind,
        table.control,
        where="others",
        what="among the rows behind the table too",
        remedy="bring rows of the same kind that the table was not made from",
    )
    problems += [] if mixed is None else [mixed]
    if problems:
        raise ConfideError(ErrorCode.INVALID_DATA, "the table cannot be attacked with these rows", problems=problems)
    return RiskReport(
        figures=table_figures(table, secret=secret, generator=np.random.default_rng(seed)),
        members=len(table.behind),
        others=len(table.control),
        shadows=0,
        seeds=(seed,),
        method=ATTACKED_IN_THE_CLEAR,
    )


def seconds_for(table: ReleasedTable) -> float:
    """Returns about how many seconds of one core `assess_table` takes, from the sizes alone; machines differ."""
    rows = min(len(table.behind), len(table.control))
    compared = min(rows, MAX_ATTEMPTS) * len(table.released) * len(table.is_category)
    guessed = 2 * min(len(table.released), MAX_ATTEMPTS) * rows * ASKED_COLUMNS
    return _PER_CELL_S * compared + _PER_GUESS_S * guessed
