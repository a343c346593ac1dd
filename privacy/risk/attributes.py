"""Attribute inference and reconstruction: a hidden column of a row, guessed with the model's answers and without them.

The attacker knows a row's other columns and its label, and other rows in full. Without the model it guesses by regression. With
it, it asks the model about the row with each candidate value in the hidden column, and weighs each by how probable the model then
finds the label (Fredrikson et al. 2015). Since a model also tells what holds of everybody, the gain is what is gained on members
beyond what is gained on rows that the model was not trained on: that is what it tells about its own rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from privacy.figures import Figure
from privacy.risk.guessing import known_columns, least_squares, logistic
from privacy.risk.intervals import difference_of_gains, difference_of_means
from privacy.risk.shadows import ShadowRows
from privacy.risk.target import Answers, AttackedRows, log_probabilities_of
from protocols.errors import ConfideError, ErrorCode

CANDIDATES = 9  # values that are tried in a hidden column of numbers
_LEAST_OTHERS = 8  # half of them teach the attacker, half are the control


def attribute_inference(answers: Answers, rows: AttackedRows, *, column: int, classes: int) -> Figure:
    """Returns how much more often a sensitive column of a member is guessed right than without the model, beyond others'.

    The column is guessed as above its median, or not; a column of two values as which of them it is.

    Args:
        answers: the model under attack.
        rows: members and others, secret; half of the others teach the attacker.
        column: which column is sensitive.
        classes: how many labels there are.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): too few other rows, or one value throughout.
    """
    taught, control = _halves(rows.others)
    values = taught.features[:, column]
    middle = (values.min() + values.max()) / 2 if len(np.unique(values)) == 2 else np.median(values)
    is_high = values > middle
    if is_high.all() or not is_high.any():
        raise ConfideError(ErrorCode.INVALID_DATA, f"column {column} has one value in the rows that teach the attacker")
    candidates = (float(values[~is_high].mean()), float(values[is_high].mean()))
    known = known_columns(taught.features, taught.labels, hidden=column, classes=classes)
    coefficients = logistic(known, is_high)

    def gained(asked: ShadowRows) -> NDArray[np.float64]:
        truth = asked.features[:, column] > middle
        alone = known_columns(asked.features, asked.labels, hidden=column, classes=classes) @ coefficients
        low, high = _answers_with(answers, asked, column, candidates)
        return np.asarray((alone + high - low > 0) == truth, np.float64) - np.asarray((alone > 0) == truth, np.float64)

    return difference_of_gains(gained(rows.members), gained(control))


def reconstruction(answers: Answers, rows: AttackedRows, *, columns: Sequence[int], classes: int) -> Figure:
    """Returns by which share the error of a member's hidden number shrinks with the model, beyond others'; mean over columns.

    Args:
        answers: the model under attack.
        rows: members and others, secret; half of the others teach the attacker.
        columns: which are hidden, one at a time; at least one.
        classes: how many labels there are.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): too few other rows.
    """
    taught, control = _halves(rows.others)
    of_members, of_control = (
        np.mean([_less_error(answers, asked, taught, column, classes) for column in columns], axis=0)
        for asked in (rows.members, control)
    )
    return difference_of_means(of_members, of_control)


def _less_error(answers: Answers, asked: ShadowRows, taught: ShadowRows, column: int, classes: int) -> NDArray[np.float64]:
    """Of each row, how much smaller its error is with the model, in units of the mean error without it."""
    known = known_columns(taught.features, taught.labels, hidden=column, classes=classes)
    coefficients = least_squares(known, taught.features[:, column])
    spread = max(float((taught.features[:, column] - known @ coefficients).std()), 1e-6)
    candidates = np.quantile(taught.features[:, column], np.linspace(0.05, 0.95, CANDIDATES))
    alone = known_columns(asked.features, asked.labels, hidden=column, classes=classes) @ coefficients
    # Both guesses have the same candidates: a coarse grid is no advantage of either.
    before = -(((candidates[:, None] - alone) / spread) ** 2) / 2
    after = before + _answers_with(answers, asked, column, candidates.tolist())
    truth = asked.features[:, column]
    without, with_it = (np.abs(_expected(logs, candidates) - truth) for logs in (before, after))
    less: NDArray[np.float64] = (without - with_it) / max(float(without.mean()), 1e-9)
    return less


def _expected(logs: NDArray[np.float64], candidates: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of candidates whose weights have these logarithms, (candidates, rows)."""
    weights = np.exp(logs - logs.max(axis=0))
    expected: NDArray[np.float64] = (weights * candidates[:, None]).sum(axis=0) / weights.sum(axis=0)
    return expected


def _answers_with(answers: Answers, rows: ShadowRows, column: int, candidates: Sequence[float]) -> NDArray[np.float64]:
    """(candidates, rows): the logarithm of the label's probability with each candidate in the column."""
    found = []
    for value in candidates:
        asked = rows.features.copy()
        asked[:, column] = value
        found.append(log_probabilities_of(answers, ShadowRows(asked, rows.labels)))
    return np.stack(found)


def _halves(rows: ShadowRows) -> tuple[ShadowRows, ShadowRows]:
    if len(rows.labels) < _LEAST_OTHERS:
        raise ConfideError(ErrorCode.INVALID_DATA, f"an attacker is taught by, and compared on, {_LEAST_OTHERS} other rows")
    return tuple(ShadowRows(rows.features[half::2], rows.labels[half::2]) for half in (0, 1))  # type: ignore[return-value]
