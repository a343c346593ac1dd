"""Memorised canaries: planted rows without meaning, which a model can only know by heart (Carlini et al. 2019).

A canary is a row far from all others with a label drawn at random. After the training its rank is taken among references, rows
drawn in the same way that were not planted. Its exposure is log2 of the references and itself, less log2 of its rank. Ranked is
by how much surer the model is of a row than shadows are, none of which was trained on it: how sure a model is of a row far from
all others, by chance, then plays no part.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from privacy.figures import Figure
from privacy.risk.intervals import clopper_pearson, mean
from privacy.risk.shadow_numbers import margins
from privacy.risk.shadows import ShadowRows, Shadows
from privacy.risk.target import Answers, margins_of
from protocols.errors import ConfideError, ErrorCode

EXPOSED_SHARE = 0.1  # a canary in the best tenth of the references is exposed; by chance one in ten is
LEAST_REFERENCES = 100


def draw_canaries(count: int, *, features: int, classes: int, generator: np.random.Generator) -> ShadowRows:
    """Draws rows at the corners of [-1, 1] with labels at random.

    Args:
        count: how many.
        features: columns.
        classes: how many labels there are.
        generator: the randomness.
    """
    corners = generator.choice([-1.0, 1.0], (count, features))
    return ShadowRows(corners, generator.integers(0, classes, count))


def exposures(answers: Answers, shadows: Shadows, planted: ShadowRows, references: ShadowRows) -> NDArray[np.float64]:
    """Returns the exposure of each canary in bits, (canaries,) float64; 1.4 on average of canaries that are not known.

    Args:
        answers: the model under attack.
        shadows: trained on rows of neither kind.
        planted: the canaries.
        references: drawn likewise.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): no canary, or too few references.
    """
    if not len(planted.labels) or len(references.labels) < LEAST_REFERENCES:
        what = f"a canary is ranked among at least {LEAST_REFERENCES} references, and there must be one"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
    shown, others = _surprise(answers, shadows, planted), np.sort(_surprise(answers, shadows, references))
    ranks = 1 + len(others) - np.searchsorted(others, shown, side="left")
    found: NDArray[np.float64] = math.log2(1 + len(others)) - np.log2(ranks)
    return found


def canary_figures(answers: Answers, shadows: Shadows, planted: ShadowRows, references: ShadowRows) -> dict[str, Figure]:
    """Returns `canaries.exposed`, the share of canaries in the best tenth, and `canaries.exposure`, their mean in bits.

    Raises:
        ConfideError: as `exposures`.
    """
    found = exposures(answers, shadows, planted, references)
    exposed = int((found >= -math.log2(EXPOSED_SHARE)).sum())
    return {"canaries.exposed": clopper_pearson(exposed, len(found)), "canaries.exposure": mean(found)}


def _surprise(answers: Answers, shadows: Shadows, rows: ShadowRows) -> NDArray[np.float64]:
    """How much surer the model is of each row than shadows, in deviations among these."""
    expected = margins(shadows.logits(rows.features), rows.labels)
    found: NDArray[np.float64] = (margins_of(answers, rows) - expected.mean(axis=0)) / np.maximum(expected.std(axis=0), 1e-6)
    return found
