"""How long a forecast takes, from its sizes alone: what is told before it begins.

Measured part by part, in processor time of one core of the reference machine, on tables of 100 to 100,000 rows and of 3 to 60
columns. Trainings of few rows cost what their many calls cost; of many, what reading all of them costs.
"""

from __future__ import annotations

from privacy.forecasting import forecast

# Both simple models with all rows of a split and with half of them: in any case, for each column, row and value.
_LONE, _PER_COLUMN, _PER_ROW, _PER_VALUE = 0.36, 3.5e-3, 1.15e-5, 1e-6
# One joint training: in any case, and for each value.
_JOINT, _JOINT_PER_VALUE = 1.7e-3, 6e-8


def seconds_for(*, rows: int, features: int, budgets: int) -> float:
    """Returns about how many seconds of one core a forecast takes.

    How many steps an optimiser takes is the data's matter, and a machine may be faster or slower.

    Args:
        rows: own ones.
        features: of a row.
        budgets: for how many terms it is asked.
    """
    values = rows * features
    lone = _LONE + _PER_COLUMN * features + _PER_ROW * rows + _PER_VALUE * values
    joint = _JOINT + _JOINT_PER_VALUE * values
    return forecast.SPLITS * (lone + (2 + forecast.DRAWS * budgets) * joint)
