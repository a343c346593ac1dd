"""The assessment of a model whose weights an owner has in the clear: every attack, and how useful it is, in one call.

The attack is that of `privacy.risk.assess`, on the model as it answers. Features are standardised for the shadows, which would
not learn from columns of a very different size; the model under attack is asked in its own units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from privacy.figures import Figure
from privacy.risk.assess import SHADOWS, Canaries, Plan, assess_model
from privacy.risk.canaries import LEAST_REFERENCES
from privacy.risk.capacity import MODELS
from privacy.risk.lira import half_memberships
from privacy.risk.report import RiskReport
from privacy.risk.rows_in_both import problem_of_rows_in_both
from privacy.risk.shadow_numbers import schedule_for
from privacy.risk.shadows import ShadowRows, train_shadows_on
from privacy.risk.target import Answers, AttackedRows
from privacy.utility.in_the_clear import clear_figures
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.model.reference import logits
from protocols.model.spec import ModelSpec

LEAST_ROWS = 20  # members, and others; with so few, intervals reach nearly everywhere, and the gate asks people
MOST_ROWS = 2_000  # of each that are attacked; of more, so many are drawn
_LEAST_DEVIATION = 1e-9
_PROBE_STEPS, _PROBES = 20, 3

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False, repr=False)
class OwnRows:
    """Rows of the owner's, as the model takes them; secret.

    Attributes:
        members: that the model was trained on.
        others: of the same kind, that it was not trained on.
        groups: (others,), the group of each other row from 0; None for no groups.
        canaries: that were planted among the members, and others drawn likewise; None for none.
    """

    members: ShadowRows
    others: ShadowRows
    groups: NDArray[np.int64] | None = None
    canaries: Canaries | None = None


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
            alone, others that are members, too few references of canaries or canaries among them, or a column without two values.

    Learns: the owner, who has rows and weights, everything; only figures are for others.
    """
    _require_rows(rows, spec)
    draw = np.random.default_rng(attack.seed)
    members, others = (_drawn(part, draw) for part in (rows.members, rows.others))
    together = np.concatenate([members.features, others.features])
    centre, deviation = together.mean(axis=0), together.std(axis=0)
    # A canary may differ where all rows are alike: in units of no deviation it would be further off than numbers reach.
    spread = np.where(deviation < _LEAST_DEVIATION, 1.0, deviation)
    ask = answers_of(spec, weights)

    def standardised(part: ShadowRows) -> ShadowRows:
        return ShadowRows((part.features - centre) / spread, part.labels)

    canaries = rows.canaries
    if canaries is not None:
        canaries = Canaries(standardised(canaries.planted), standardised(canaries.references))
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
        canaries=canaries,
    )
    return OwnFindings(report, clear_figures(ask(rows.others.features), rows.others.labels, groups=rows.groups))


def seconds_for(spec: ModelSpec, rows: OwnRows, attack: OwnAttack, clock: Callable[[], float]) -> float:
    """Returns about how many seconds of one core `assess_own_model` takes, measured by some steps of its shadows.

    Args:
        spec: the architecture.
        rows: that are attacked, secret.
        attack: what is attacked.
        clock: seconds of processor time, of all threads.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): rows that `assess_own_model` would refuse.
    """
    _require_rows(rows, spec)
    some = [ShadowRows(part.features[:MOST_ROWS], part.labels[:MOST_ROWS]) for part in (rows.members, rows.others)]
    everybody = AttackedRows(some[0], some[1]).all_rows
    inside = half_memberships(attack.shadows, len(everybody.labels), np.random.default_rng(attack.seed))
    schedule = schedule_for(spec)

    def spent(steps: int) -> float:
        began = clock()
        short = replace(schedule, steps=steps)
        train_shadows_on(everybody, inside, classes=classes_of(spec), schedule=short, seed=0).logits(everybody.features)
        return clock() - began

    spent(1)  # loads what is used for the first time
    # The least of several: whatever else runs on the machine only adds to it.
    once, more = (min(spent(steps) for _ in range(_PROBES)) for steps in (1, 1 + _PROBE_STEPS))
    step = max(0.0, more - once) / _PROBE_STEPS
    # The smaller alternatives are trained as long, each on no more than a shadow has.
    return (step * schedule.steps + once) * (1 + MODELS / attack.shadows)


def _require_rows(rows: OwnRows, spec: ModelSpec) -> None:
    problems = []
    for name, part in (("members", rows.members), ("others", rows.others)):
        if len(part.labels) < LEAST_ROWS:
            what = f"{len(part.labels)} rows; an attack is measured on {LEAST_ROWS} of each at least"
            problems.append(Problem(name, what, "bring more rows"))
        elif len(np.unique(part.labels)) < 2:
            problems.append(Problem(name, "all rows have one label", "bring rows of every class"))
        problems += _wrong_labels(name, part, classes_of(spec))
    if rows.canaries is not None:
        problems += _wrong_canaries(rows.canaries, classes_of(spec))
    mixed = problem_of_rows_in_both(
        _cells(rows.members),
        _cells(rows.others),
        where="others",
        what="among the members too",
        remedy="bring rows that the model was not trained on",
    )
    problems += [] if mixed is None else [mixed]
    if problems:
        raise ConfideError(ErrorCode.INVALID_DATA, "the model cannot be attacked with these rows", problems=problems)


def _wrong_labels(name: str, part: ShadowRows, classes: int) -> list[Problem]:
    wrong = int(((part.labels < 0) | (part.labels >= classes)).sum())
    what = f"{wrong} label(s) are none of the model's classes 0 to {classes - 1}"
    return [Problem(name, what, "write labels as 0, 1, ... in the order of the model's outputs")] if wrong else []


def _wrong_canaries(canaries: Canaries, classes: int) -> list[Problem]:
    problems = []
    if not len(canaries.planted.labels):
        problems.append(Problem("canaries", "no row", "bring the rows that were planted"))
    if len(canaries.references.labels) < LEAST_REFERENCES:
        what = f"{len(canaries.references.labels)} rows; a canary is ranked among {LEAST_REFERENCES} at least"
        problems.append(Problem("references", what, "draw more of them"))
    for name, part in (("canaries", canaries.planted), ("references", canaries.references)):
        problems += _wrong_labels(name, part, classes)
    planted = {row.tobytes() for row in _cells(canaries.planted)}
    both = sum(row.tobytes() in planted for row in _cells(canaries.references))
    if both:
        problems.append(Problem("references", f"{both} of them are canaries that were planted", "leave these out"))
    return problems


def _cells(rows: ShadowRows) -> NDArray[np.float64]:
    return np.column_stack([rows.features, rows.labels])


def _drawn(rows: ShadowRows, draw: np.random.Generator) -> ShadowRows:
    if len(rows.labels) <= MOST_ROWS:
        return rows
    chosen = draw.permutation(len(rows.labels))[:MOST_ROWS]
    return ShadowRows(rows.features[chosen], rows.labels[chosen])
