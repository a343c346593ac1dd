"""The measured effect of a technique: models trained with and without it, on the same rows, and what they give away.

One run of one seed:

1. A quarter of the rows is set aside for the test. Of the rest, every row is in half of the shadow models, drawn by the seed.
2. Each shadow is one owner: its rows go through the technique alone, the original rows stay unless the technique replaces them,
   and a network is trained on all of it. Steps, batch and first weights are the same with and without.
3. On the test rows: accuracy, the mean of the classes' accuracies, calibration error, gap between groups; means over the shadows.
4. On the other rows: the likelihood-ratio attack, which asks each shadow about the original rows.

The attacker knows the technique and trains its shadows with it, but does not know which random numbers were drawn.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields, replace
from hashlib import sha256
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from privacy.augmentation.image_technique import ImageTechnique
from privacy.augmentation.table_rows import Start, TableRows, TableSurvey, TableTechnique
from privacy.augmentation.technique import Reads, Settings, Technique, Use
from privacy.preparation.recipes.row_randomness import RowRandomness
from privacy.risk.lira import attack_result, confidences, half_memberships, membership_scores
from privacy.risk.shadows import Schedule, ShadowRows, Shadows, train_shadows
from protocols.errors import ConfideError, ErrorCode
from protocols.secrets import SecretBytes

_TEST_SHARE = 0.25
_CALIBRATION_BINS = 10


@dataclass(frozen=True, eq=False, repr=False)
class LabelledSet:
    """A data set to measure on; secret like its rows.

    Attributes:
        name: as in records.
        features: (rows, features) float64 in [-1, 1]; of images the pixels, channel by channel.
        labels: (rows,) int64, classes from 0.
        groups: (rows,) int64, the group of each row, from 0; None if no column says one.
        grid: (features,) float64, the distance of the values that a column can take; 0 where it can take any.
        image_shape: channels, height, width; None for a table.
    """

    name: str
    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None
    grid: NDArray[np.float64]
    image_shape: tuple[int, int, int] | None = None

    def part(self, rows: NDArray[np.int64]) -> LabelledSet:
        """Returns some of the rows."""
        groups = None if self.groups is None else self.groups[rows]
        return replace(self, features=self.features[rows], labels=self.labels[rows], groups=groups)


@dataclass(frozen=True)
class Application:
    """A technique as it is measured."""

    technique: Technique
    settings: Settings
    copies: int


@dataclass(frozen=True)
class Figures:
    """What one run found; all are shares from 0 to 1.

    Attributes:
        accuracy: share of test rows with the right class.
        balanced_accuracy: mean over the classes of the share of their rows with the right class.
        calibration_error: mean distance of stated from actual certainty, over ten bins with as many rows each.
        group_gap: greatest difference of accuracy between groups; None without groups.
        attack_auc: area under the curve of the attack on membership; 0.5 is guessing.
        attack_tpr_1: members found at one false alarm in a hundred; 0.01 is guessing.
        attack_tpr_01: likewise one in a thousand; 0.001 is guessing.
    """

    accuracy: float
    balanced_accuracy: float
    calibration_error: float
    group_gap: float | None
    attack_auc: float
    attack_tpr_1: float
    attack_tpr_01: float


METRICS = tuple(field.name for field in fields(Figures))


def measure(
    data: LabelledSet, application: Application | None, *, schedule: Schedule, seed: int, num_shadows: int = 64
) -> Figures:
    """Returns the figures of one run.

    Args:
        data: the rows.
        application: of a technique; None for the run without.
        schedule: how the models are trained.
        seed: of the split, the members, the weights and the technique.
        num_shadows: how many models there are.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): a technique of another medium.
    """
    generator = np.random.default_rng([seed, 0])
    order = generator.permutation(len(data.labels))
    test, pool = np.split(order, [round(_TEST_SHARE * len(order))])
    asked, known = data.part(test), data.part(pool)
    members = half_memberships(num_shadows, len(pool), generator)
    rows = [
        training_rows(known.part(np.flatnonzero(own)), application, seed=seed, owner=shadow) for shadow, own in enumerate(members)
    ]
    classes = int(data.labels.max()) + 1
    shadows = train_shadows(rows, classes=classes, schedule=schedule, seed=seed)
    if application is not None and application.technique.use is Use.REPLACES:
        asked, known = _as_query(asked, application), _as_query(known, application)
    scores = membership_scores(confidences(shadows.logits(known.features), known.labels), members)
    attack = attack_result(scores, members)
    return Figures(*_utility(shadows, asked), *astuple(attack))


def training_rows(data: LabelledSet, application: Application | None, *, seed: int, owner: int) -> ShadowRows:
    """Returns what one owner's model is trained on: the rows, and what the technique makes of them.

    Args:
        data: the owner's rows.
        application: of a technique; None for the rows alone.
        seed: of the run.
        owner: the owner's number; another owner draws other numbers.
    """
    if application is None:
        return ShadowRows(data.features, data.labels)
    match application.technique:
        case TableTechnique() as technique if data.image_shape is None:
            made = _table_copies(data, technique, application, _seed(seed, owner))
        case ImageTechnique() as technique if data.image_shape is not None:
            made = _image_copies(data, technique, application, np.random.default_rng([seed, 1, owner]))
        case technique:
            what = f"{technique.name} is a technique for {technique.medium.value}s; {data.name} is none"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
    if technique.use is Use.REPLACES:
        return made
    return ShadowRows(np.concatenate([data.features, made.features]), np.concatenate([data.labels, made.labels]))


def _table_copies(data: LabelledSet, technique: TableTechnique, application: Application, seed: SecretBytes) -> ShadowRows:
    rows = TableRows(np.arange(1, len(data.labels) + 1), data.features, data.labels)
    survey = None
    if technique.statement.reads is Reads.WHOLE_TABLE:
        survey = TableSurvey(data.features.shape[1])
        survey.see(rows)
    draws = RowRandomness(seed, technique.name)
    maker = technique.begin(Start(application.settings, application.copies, draws, data.grid, survey))
    made = list(maker(rows))
    return ShadowRows(
        np.concatenate([copy.features[copy.kept] for copy in made]), np.concatenate([data.labels[copy.kept] for copy in made])
    )


def _image_copies(
    data: LabelledSet, technique: ImageTechnique, application: Application, generator: np.random.Generator
) -> ShadowRows:
    if data.image_shape is None:
        raise ConfideError(ErrorCode.INTERNAL, "images without a shape")
    images = data.features.reshape(-1, *data.image_shape)
    made = [technique.make(images, application.settings, generator) for _ in range(application.copies)]
    return ShadowRows(
        np.concatenate(made).reshape(len(made) * len(images), -1), np.concatenate([data.labels] * application.copies)
    )


def _as_query(data: LabelledSet, application: Application) -> LabelledSet:
    """Rows as a replacing technique makes them; such a technique draws nothing, so the seed is immaterial."""
    return replace(data, features=training_rows(data, application, seed=0, owner=0).features)


def _seed(seed: int, owner: int) -> SecretBytes:
    return SecretBytes(sha256(f"confide.augmentation-measurement/1 {seed} {owner}".encode()).digest())


def _utility(shadows: Shadows, asked: LabelledSet) -> tuple[float, float, float, float | None]:
    logits = shadows.logits(asked.features)
    right = logits.argmax(axis=2) == asked.labels
    by_class = [right[:, asked.labels == label].mean() for label in np.unique(asked.labels)]
    gap = None
    if asked.groups is not None:
        by_group = [right[:, asked.groups == group].mean() for group in np.unique(asked.groups)]
        gap = float(max(by_group) - min(by_group))
    return float(right.mean()), float(np.mean(by_class)), _calibration_error(logits, right), gap


def _calibration_error(logits: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The mean over models of the expected calibration error, in bins of equal numbers of rows."""
    stated = 1 / np.exp(logits - logits.max(axis=2, keepdims=True)).sum(axis=2)
    order = stated.argsort(axis=1)
    stated, actual = np.take_along_axis(stated, order, 1), np.take_along_axis(right, order, 1)
    edges = np.linspace(0, stated.shape[1], min(_CALIBRATION_BINS, stated.shape[1]) + 1).astype(int)
    errors = [
        abs(stated[:, low:high].mean(axis=1) - actual[:, low:high].mean(axis=1)) * (high - low) for low, high in pairwise(edges)
    ]
    return float((np.sum(errors, axis=0) / stated.shape[1]).mean())
