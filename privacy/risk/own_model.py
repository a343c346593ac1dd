"""The assessment of a model whose weights its owner has in the clear: every attack, and how useful it is, in one call.

The attack is that of `privacy.risk.assess`, on the model as it answers. Features are standardised for the shadows, which would
not learn from columns of a very different size; the model under attack is asked in its own units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.figures import Figure
from privacy.risk.assess import SHADOWS, Plan, assess_model
from privacy.risk.report import RiskReport
from privacy.risk.shadow_numbers import schedule_for
from privacy.risk.shadows import ShadowRows
from privacy.risk.target import Answers, AttackedRows
from privacy.utility.in_the_clear import clear_figures
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.model.reference import logits
from protocols.model.spec import ModelSpec

LEAST_ROWS = 20  # members, and others; with so few, intervals reach nearly everywhere, and the gate asks people
MOST_ROWS = 2_000  # of each that are attacked; of more, so many are drawn
_LEAST_DEVIATION = 1e-9
_MOST_SHARED = 0.5  # of the others beyond what values in common explain; of 20 that lies over four deviations off

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False, repr=False)
class OwnRows:
    """Rows of the owner's, as the model takes them; secret.

    Attributes:
        members: that the model was trained on.
        others: of the same kind, that it was not trained on.
        groups: (others,), the group of each other row from 0; None for no groups.
    """

    members: ShadowRows
    others: ShadowRows
    groups: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class OwnAttack:
    """What is attacked; public.

    Attributes:
        sensitive: the feature that attribute inference guesses.
        hidden: features that reconstruction guesses, one at a time; at least one.
        shadows: shadow models, from 4.
        seed: of all random choices.
    """

    sensitive: int
    hidden: Sequence[int]
    shadows: int = SHADOWS
    seed: int = 0


@dataclass(frozen=True, eq=False)
class OwnFindings:
    """What was found; for the owner, who signs it.

    Attributes:
        report: of all attacks.
        usefulness: on the rows that the model was not trained on.
    """

    report: RiskReport
    usefulness: Mapping[str, Figure]


def classes_of(spec: ModelSpec) -> int:
    """Returns how many classes a model tells apart: two by one output, else one an output."""
    return max(2, spec.output_features)


def answers_of(spec: ModelSpec, weights: Weights) -> Answers:
    """Returns the model as attacks ask it: logits of all classes, of one output 0 and the logit."""

    def ask(features: NDArray[np.float64]) -> NDArray[np.float64]:
        found = logits(spec, weights, features)
        return np.column_stack([np.zeros(len(found)), found[:, 0]]) if spec.output_features == 1 else found

    return ask


def assess_own_model(spec: ModelSpec, weights: Weights, rows: OwnRows, attack: OwnAttack) -> OwnFindings:
    """Attacks a model with rows of its owner, and measures how useful it is on those that it was not trained on.

    Args:
        spec: the architecture, as it answers.
        weights: by parameter name; secret.
        rows: secret; of more than 2,000 members or others, so many are drawn.
        attack: what is attacked.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): too few rows, labels that are no classes of the model, one class
            alone, others that are members, or a column without two values.

    Learns: the owner, who has rows and weights, everything; only figures are for others.
    """
    _require_rows(rows, spec)
    draw = np.random.default_rng(attack.seed)
    members, others = (_drawn(part, draw) for part in (rows.members, rows.others))
    together = np.concatenate([members.features, others.features])
    centre, spread = together.mean(axis=0), np.maximum(together.std(axis=0), _LEAST_DEVIATION)
    ask = answers_of(spec, weights)

    def standardised(part: ShadowRows) -> ShadowRows:
        return ShadowRows((part.features - centre) / spread, part.labels)

    report = assess_model(
        lambda features: ask(features * spread + centre),
        AttackedRows(standardised(members), standardised(others)),
        Plan(
            classes=classes_of(spec),
            schedule=schedule_for(spec),
            sensitive=attack.sensitive,
            hidden=attack.hidden,
            shadows=attack.shadows,
            seed=attack.seed,
        ),
    )
    return OwnFindings(report, clear_figures(ask(rows.others.features), rows.others.labels, groups=rows.groups))


def _require_rows(rows: OwnRows, spec: ModelSpec) -> None:
    problems = []
    for name, part in (("members", rows.members), ("others", rows.others)):
        if len(part.labels) < LEAST_ROWS:
            what = f"{len(part.labels)} rows; an attack is measured on {LEAST_ROWS} of each at least"
            problems.append(Problem(name, what, "bring more rows"))
        elif len(np.unique(part.labels)) < 2:
            problems.append(Problem(name, "all rows have one label", "bring rows of every class"))
        wrong = int(((part.labels < 0) | (part.labels >= classes_of(spec))).sum())
        if wrong:
            what = f"{wrong} label(s) are none of the model's classes 0 to {classes_of(spec) - 1}"
            problems.append(Problem(name, what, "write labels as 0, 1, ... in the order of the model's outputs"))
    alike, twins = _shared(rows)
    if alike > twins + _MOST_SHARED:
        what = f"{alike:.0%} of the rows are among the members too, so nothing could tell them apart"
        problems.append(Problem("others", what, "bring rows that the model was not trained on"))
    if problems:
        raise ConfideError(ErrorCode.INVALID_DATA, "the model cannot be attacked with these rows", problems=problems)


def _shared(rows: OwnRows) -> tuple[float, float]:
    """Of the others, how many are members too; and of the members, how many there are twice, as others then may be as well."""
    members, others = (
        [row.tobytes() for row in np.column_stack([part.features, part.labels])] for part in (rows.members, rows.others)
    )
    known = Counter(members)
    alike, twice = sum(row in known for row in others), sum(known[row] > 1 for row in members)
    return alike / max(1, len(others)), twice / max(1, len(members))


def _drawn(rows: ShadowRows, draw: np.random.Generator) -> ShadowRows:
    if len(rows.labels) <= MOST_ROWS:
        return rows
    chosen = draw.permutation(len(rows.labels))[:MOST_ROWS]
    return ShadowRows(rows.features[chosen], rows.labels[chosen])
