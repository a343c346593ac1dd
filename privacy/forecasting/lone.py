"""What an institution can train alone, without privacy: simple models, tuned on its own rows as somebody who stays alone would.

Of each kind one setting is chosen among a few fixed ones, by cross-validation on the rows that it is trained on and on no others:
whoever then judges the model on rows that were held out judges what was chosen without them. The same holds for the kind, whose
quality by that cross-validation is returned beside the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

LINEAR, TREES = "logistic regression", "boosted trees"
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)  # inverse weights of the squared coefficients
STEPS = (5, 10, 20, 40)  # trees
_FOLDS = {LINEAR: 5, TREES: 3}  # trees take longer, and their numbers of steps are further apart
_RATE, _LEAVES, _LEAST_IN_A_LEAF = 0.2, 4, 10
_MAX_ITERATIONS = 1_000

FloatRows = NDArray[np.float64]
Labels = NDArray[np.int64]
Scores = Callable[[FloatRows], FloatRows]  # (rows, features) to (rows,), larger for class 1
_Each = Callable[[FloatRows, Labels, FloatRows], Sequence[FloatRows]]  # of each setting: trained on rows, scores of other rows


@dataclass(frozen=True, eq=False)
class Tuned:
    """A model with the setting that was chosen for it; secret, as its rows are.

    Attributes:
        scores: of rows.
        setting: that was chosen: one of `STRENGTHS` or `STEPS`.
        judged: its area under the ROC curve by cross-validation, on the rows that it was trained on.
    """

    scores: Scores
    setting: float
    judged: float


def train_linear(features: FloatRows, labels: Labels, seed: int) -> Tuned:
    """Trains a logistic regression on standardised features, with the strength of regularisation that does best.

    Args:
        features: (rows, features) float64, secret.
        labels: (rows,) 0 or 1, secret; five rows of either at least.
        seed: of the folds.
    """

    def each(own: FloatRows, own_labels: Labels, asked: FloatRows) -> Sequence[FloatRows]:
        return [_regression(own, own_labels, strength)(asked) for strength in STRENGTHS]

    place, judged = _best(LINEAR, each, features, labels, seed)
    return Tuned(_regression(features, labels, STRENGTHS[place]), STRENGTHS[place], judged)


def train_trees(features: FloatRows, labels: Labels, seed: int) -> Tuned:
    """Trains boosted trees of four leaves, as many as do best; arguments as for `train_linear`."""

    def each(own: FloatRows, own_labels: Labels, asked: FloatRows) -> Sequence[FloatRows]:
        staged = _boosted(own, own_labels, STEPS[-1], seed).staged_decision_function(asked)
        return [scores for number, scores in enumerate(staged, start=1) if number in STEPS]

    # On few rows threads mostly wait for one another; on a busy machine for long.
    with threadpool_limits(limits=1, user_api="openmp"):
        place, judged = _best(TREES, each, features, labels, seed)
        return Tuned(_boosted(features, labels, STEPS[place], seed).decision_function, STEPS[place], judged)


SIMPLE_MODELS: Mapping[str, Callable[[FloatRows, Labels, int], Tuned]] = {LINEAR: train_linear, TREES: train_trees}


def rank_quality(labels: Labels, scores: FloatRows) -> float:
    """Returns the area under the ROC curve."""
    return float(roc_auc_score(labels, scores))


def _best(kind: str, each: _Each, features: FloatRows, labels: Labels, seed: int) -> tuple[int, float]:
    """Which setting does best on the folds that a model is not trained on, and how it does there."""
    folds = StratifiedKFold(_FOLDS[kind], shuffle=True, random_state=seed).split(features, labels)
    found = [
        [rank_quality(labels[out], scores) for scores in each(features[own], labels[own], features[out])] for own, out in folds
    ]
    qualities = np.mean(found, axis=0)
    place = int(np.argmax(qualities))
    return place, float(qualities[place])


def _regression(features: FloatRows, labels: Labels, strength: float) -> Scores:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS)).fit(features, labels)
    return lambda rows: np.asarray(model.decision_function(rows), np.float64)


def _boosted(features: FloatRows, labels: Labels, steps: int, seed: int) -> HistGradientBoostingClassifier:
    trees = HistGradientBoostingClassifier(
        learning_rate=_RATE,
        max_iter=steps,
        max_leaf_nodes=_LEAVES,
        min_samples_leaf=_LEAST_IN_A_LEAF,
        early_stopping=False,
        random_state=seed,
    )
    return trees.fit(features, labels)
