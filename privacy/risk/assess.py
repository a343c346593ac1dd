"""The whole assessment of a model by one owner, in the clear, where its rows are: every attack, one report (docs/risk.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from privacy.figures import Figure
from privacy.risk.attributes import attribute_inference, reconstruction
from privacy.risk.canaries import canary_figures
from privacy.risk.capacity import capacity_figures
from privacy.risk.membership import train_attack
from privacy.risk.report import ATTACKED_IN_THE_CLEAR, RiskReport
from privacy.risk.shadows import Schedule, ShadowRows
from privacy.risk.target import Answers, AttackedRows

SHADOWS = 64


@dataclass(frozen=True)
class Plan:
    """What is attacked, and how; public.

    Attributes:
        classes: how many labels there are.
        schedule: how shadows are trained: like the model.
        sensitive: the column that attribute inference guesses.
        hidden: columns that reconstruction guesses, one at a time; at least one.
        shadows: how many, from 4.
        seed: of all random choices; whoever knows it and the rows finds the same figures.
    """

    classes: int
    schedule: Schedule
    sensitive: int
    hidden: Sequence[int]
    shadows: int = SHADOWS
    seed: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class Canaries:
    """Rows that were planted among the members, and rows drawn likewise that were not; secret until the model is assessed."""

    planted: ShadowRows
    references: ShadowRows


def assess_model(answers: Answers, rows: AttackedRows, plan: Plan, *, canaries: Canaries | None = None) -> RiskReport:
    """Returns what all attacks on a model found.

    Args:
        answers: the model under attack.
        rows: members and others, secret; as many of both give the shortest intervals.
        plan: what is attacked, and how.
        canaries: if any were planted.

    Raises:
        ConfideError: INVALID_DATA or INVALID_ARGUMENT (the owner's fault): rows that no attack can be measured on.

    Learns: the owner, who has all rows, everything; only figures are for others.
    """
    attack = train_attack(rows, classes=plan.classes, schedule=plan.schedule, shadows=plan.shadows, seed=plan.seed)
    found: dict[str, Figure] = attack.figures(answers)
    found["attribute_inference.gain"] = attribute_inference(answers, rows, column=plan.sensitive, classes=plan.classes)
    found["reconstruction.gain"] = reconstruction(answers, rows, columns=plan.hidden, classes=plan.classes)
    found |= capacity_figures(
        answers, rows, classes=plan.classes, schedule=plan.schedule, auc=found["membership.lira.auc"], seed=plan.seed + 1
    )
    if canaries is not None:
        found |= canary_figures(answers, attack.shadows, canaries.planted, canaries.references)
    return RiskReport(
        figures=found,
        members=len(rows.members.labels),
        others=len(rows.others.labels),
        shadows=plan.shadows,
        seeds=(plan.seed,),
        method=ATTACKED_IN_THE_CLEAR,
    )
