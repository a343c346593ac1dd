"""Which columns a task needs: utility lost without each one, and the smallest set that loses next to none.

The owner's own rows decide, in the owner's process; nothing leaves. A linear model is trained again and again on fewer columns:
each time the column goes whose values matter least to the model's ranking (its permutation importance; Breiman, Random Forests,
2001), down to one. Of these sets the smallest is proposed whose cross-validated utility is within the margin of the full set's.
A fifth of the rows takes no part in the choice and shows what it is worth.

Utility is the area under the ROC curve of a label of classes (one against the rest, all classes weighing the same), and the
coefficient of determination of a label of numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from privacy.preparation.contract import PreparedRows
from protocols.errors import ConfideError, ErrorCode
from protocols.job_parts import Task

MARGIN = 0.005
MAX_ROWS = 20_000  # of which the choice is made, drawn at random: more would only narrow the error of the ranking
_FOLDS = 5
_LEAST_OF_A_CLASS = 2 * _FOLDS
_HELD_OUT = 0.2
_ITERATIONS = 300


@dataclass(frozen=True)
class ColumnWorth:
    """What a column is worth to the task; for the owner's eyes.

    Attributes:
        name: the column.
        lost: cross-validated utility lost when the full set misses it; about zero if others say the same.
        last: the number of columns that were left when it went, itself included; the last one to go has 1.
    """

    name: str
    lost: float
    last: int


@dataclass(frozen=True)
class Minimisation:
    """A proposal; for the owner's eyes.

    Attributes:
        measure: `AUC` or `R2`.
        ranked: all columns, by utility lost, most first.
        proposed: names of the smallest set, in the order of the columns.
        full, kept: cross-validated utility of all columns and of the proposed.
        full_held_out, kept_held_out: the same on rows that took no part in the choice.
        held_out_error: standard error of the difference of these two, by bootstrap.
        num_rows: rows of which the choice was made, held-out ones included.
    """

    measure: str
    ranked: tuple[ColumnWorth, ...]
    proposed: tuple[str, ...]
    full: float
    kept: float
    full_held_out: float
    kept_held_out: float
    held_out_error: float
    num_rows: int


def minimise(rows: PreparedRows, names: Sequence[str], task: Task, *, seed: int, margin: float = MARGIN) -> Minimisation:
    """Ranks columns and proposes the smallest set.

    Args:
        rows: prepared, with labels; secret.
        names: of the features, in their order.
        task: what the label is.
        seed: of everything drawn; the same rows and seed give the same proposal.
        margin: how much less utility is still enough, cross-validated; in [0, 1).

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): the margin; INVALID_DATA (the owner's): a single class, or too few
            rows of a class to be told apart from chance.
    """
    if not 0 <= margin < 1:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the margin of a minimisation is from 0 to below 1")
    generator = np.random.default_rng(seed)
    features, labels = _sample(rows, generator)
    _check(labels, task)
    stratify = None if task is Task.REAL else labels
    chosen, held_out = train_test_split(np.arange(len(labels)), test_size=_HELD_OUT, random_state=seed, stratify=stratify)
    judge = _Judge(features[chosen], labels[chosen], task, seed)
    path = list(_eliminate(judge, features.shape[1], generator))
    full = path[0][1]
    columns, kept = min((step for step in path if step[1] >= full - margin), key=lambda step: len(step[0]))
    everything = path[0][0]
    ranked = []
    for position, name in enumerate(names):
        others = [column for column in everything if column != position]
        lost = full - judge.utility(others) if others else full - judge.chance
        last = min(len(known) for known, _ in path if position in known)
        ranked.append(ColumnWorth(name, lost, last))
    full_held_out, kept_held_out, error = _held_out(features, labels, task, chosen, held_out, columns, generator)
    return Minimisation(
        measure="R2" if task is Task.REAL else "AUC",
        ranked=tuple(sorted(ranked, key=lambda worth: (-worth.lost, worth.last, worth.name))),
        proposed=tuple(names[position] for position in sorted(columns)),
        full=full,
        kept=kept,
        full_held_out=full_held_out,
        kept_held_out=kept_held_out,
        held_out_error=error,
        num_rows=len(labels),
    )


class _Judge:
    """Cross-validated utility of sets of columns, over the same folds for all of them."""

    def __init__(self, features: NDArray[np.float64], labels: NDArray[np.float64], task: Task, seed: int) -> None:
        self.features, self.labels, self._task = features, labels, task
        splitter = KFold if task is Task.REAL else StratifiedKFold
        self.folds = list(splitter(_FOLDS, shuffle=True, random_state=seed).split(features, labels))

    @property
    def chance(self) -> float:
        """The utility of no column."""
        return 0.0 if self._task is Task.REAL else 0.5

    def utility(self, columns: Sequence[int]) -> float:
        """Returns the mean over the folds."""
        return float(np.mean([_scored(self.labels[test], scores, self._task) for test, scores, _ in self.fitted(columns)]))

    def fitted(
        self, columns: Sequence[int]
    ) -> Iterable[tuple[NDArray[np.intp], NDArray[np.float64], LogisticRegression | Ridge]]:
        """Yields test rows, their scores and the model, fold by fold."""
        for train, test in self.folds:
            model = _fit(self.features[train][:, columns], self.labels[train], self._task)
            yield test, _scores(model, self.features[test][:, columns]), model

    def importance(self, columns: Sequence[int], generator: np.random.Generator) -> tuple[float, NDArray[np.float64]]:
        """Returns the utility of a set, and for each column how much of it goes when its values are shuffled."""
        utilities, lost = [], np.zeros(len(columns))
        for test, scores, model in self.fitted(columns):
            utilities.append(_scored(self.labels[test], scores, self._task))
            values = self.features[test][:, columns]
            for position in range(len(columns)):
                shuffled = values.copy()
                shuffled[:, position] = generator.permutation(shuffled[:, position])
                lost[position] += utilities[-1] - _scored(self.labels[test], _scores(model, shuffled), self._task)
        return float(np.mean(utilities)), lost / len(self.folds)


def _eliminate(judge: _Judge, width: int, generator: np.random.Generator) -> Iterable[tuple[list[int], float]]:
    columns = list(range(width))
    while True:
        utility, lost = judge.importance(columns, generator)
        yield list(columns), utility
        if len(columns) == 1:
            return
        columns.pop(int(np.argmin(lost)))


def _held_out(
    features: NDArray[np.float64],
    labels: NDArray[np.float64],
    task: Task,
    chosen: NDArray[np.intp],
    held_out: NDArray[np.intp],
    columns: Sequence[int],
    generator: np.random.Generator,
) -> tuple[float, float, float]:
    everything = list(range(features.shape[1]))
    truth = labels[held_out]
    scores = [
        _scores(_fit(features[chosen][:, some], labels[chosen], task), features[held_out][:, some])
        for some in (everything, sorted(columns))
    ]
    differences = []
    for _ in range(200):
        drawn = generator.integers(0, len(truth), len(truth))
        if task is Task.REAL or len(np.unique(truth[drawn])) == len(np.unique(truth)):
            full, kept = (_scored(truth[drawn], one[drawn], task) for one in scores)
            differences.append(full - kept)
    full, kept = (_scored(truth, one, task) for one in scores)
    return full, kept, float(np.std(differences))


def _fit(features: NDArray[np.float64], labels: NDArray[np.float64], task: Task) -> LogisticRegression | Ridge:
    model = Ridge(alpha=1.0) if task is Task.REAL else LogisticRegression(max_iter=_ITERATIONS, tol=1e-3)
    return model.fit(features, labels)


def _scores(model: LogisticRegression | Ridge, features: NDArray[np.float64]) -> NDArray[np.float64]:
    if isinstance(model, Ridge):
        predicted: NDArray[np.float64] = model.predict(features)
        return predicted
    probabilities: NDArray[np.float64] = model.predict_proba(features)
    return probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities


def _scored(labels: NDArray[np.float64], scores: NDArray[np.float64], task: Task) -> float:
    if task is Task.REAL:
        return float(r2_score(labels, scores))
    return float(roc_auc_score(labels, scores, multi_class="ovr", average="macro"))


def _sample(rows: PreparedRows, generator: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if rows.num_rows <= MAX_ROWS:
        return rows.features, rows.labels
    drawn = np.sort(generator.choice(rows.num_rows, MAX_ROWS, replace=False))
    return rows.features[drawn], rows.labels[drawn]


def _check(labels: NDArray[np.float64], task: Task) -> None:
    remedy = "Use more rows; this choice cannot be made of so few."
    if task is Task.REAL:
        if len(labels) < _LEAST_OF_A_CLASS or labels.std() == 0:
            raise ConfideError(ErrorCode.INVALID_DATA, f"{len(labels)} rows, or one label for all of them", remedy=remedy)
        return
    _, counts = np.unique(labels, return_counts=True)
    if len(counts) < 2:
        raise ConfideError(ErrorCode.INVALID_DATA, "all rows have the same label", remedy="Use rows of every class.")
    if counts.min() < _LEAST_OF_A_CLASS:
        what = f"a class has fewer than {_LEAST_OF_A_CLASS} rows"
        raise ConfideError(ErrorCode.INVALID_DATA, what, remedy=remedy)
