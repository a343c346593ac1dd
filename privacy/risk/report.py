"""What an assessment of a model or a table found: figures with intervals, and what they were measured with; public."""

from __future__ import annotations

from dataclasses import dataclass

from privacy.figures import Figures

ATTACKED_IN_THE_CLEAR = "own"  # by an owner that has the model's answers to all of its rows in the clear
ATTACKED_IN_SHARES = "joint"  # by a job over the rows of several owners, of which counts were opened
# Of a membership attack, by the end of the figure's name: at which share of false alarms.
FALSE_ALARMS = {"tpr_at_1_percent": 0.01, "tpr_at_0_1_percent": 0.001}
# What the attacks of this package measure. An owner may state figures by other names too, which mean what it says they mean.
MEASURED = frozenset(
    (
        *(f"membership.{attack}.{name}" for attack in ("lira", "rmia") for name in ("auc", *FALSE_ALARMS)),
        *(f"{attack}.gain" for attack in ("attribute_inference", "reconstruction")),
        *(f"table.{attack}.gain" for attack in ("singling_out", "linkability", "inference")),
        *(f"canaries.{name}" for name in ("exposed", "exposure")),
        *(f"capacity.{name}" for name in ("gap", "excess", "smaller.accuracy", "smaller.gap", "smaller.auc")),
    )
)


@dataclass(frozen=True, eq=False)
class RiskReport:
    """One assessment; what its figures are named is said in docs/risk.md.

    Attributes:
        figures: by name.
        members: how many rows that the model was trained on took part.
        others: how many other rows.
        shadows: shadow models in all, or of each owner where several trained their own; 0 if none were needed.
        seeds: of every random choice, in the order of the runs; empty where they are secret, as shadows' in a joint job are.
        method: `own` or `joint`.
    """

    figures: Figures
    members: int
    others: int
    shadows: int
    seeds: tuple[int, ...]
    method: str
