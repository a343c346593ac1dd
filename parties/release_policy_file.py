"""The block `release` of `policy.yaml`: the sensitivity of data sets, and what is asked before a model of them is released.

release:
  default_class: confidential
  datasets: {hospital-a/hearts: special, hospital-b/*: internal}
  classes:
    special:
      requires_guarantee: true
      max_epsilon: "3"
      max_delta: "0.00001"
      unit: person
      max_figures: {membership.lira.tpr_at_1_percent: "0.03", group.accuracy_gap: "0.1"}
      min_figures: {accuracy: "0.8"}
      min_canaries: 1000
      min_shadows: 128
      max_age_days: 30
      approvals: {needed: 1, of: [privacy-officers]}
      more_approvals: {needed: 2, of: [privacy-officers]}
      unassessed_own: {needed: 2, of: [privacy-officers]}
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from governance.policy.budgets import read_decimal
from governance.policy.release import (
    DEFAULT_MIN_SHADOWS,
    MAX_AGE_DAYS,
    MAX_CLASSES,
    MAX_LIMITS,
    Quorum,
    ReleaseClass,
    ReleaseTerms,
)
from parties.policy_values import DecimalText, Identifier
from protocols.job_parts import MAX_SHADOWS, MIN_SHADOWS
from protocols.private_training import MAX_CANARIES, Unit

_MAX_PEOPLE = 200
_MAX_DATASETS = 200


_Text = Annotated[str, Field(min_length=1, max_length=200)]
_Limits = Annotated[dict[_Text, DecimalText], Field(max_length=MAX_LIMITS)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class ReleaseQuorumFields(_Strict):
    """How many of whom must approve."""

    needed: Annotated[int, Field(ge=1, le=_MAX_PEOPLE)]
    of: Annotated[list[Identifier], Field(min_length=1, max_length=_MAX_PEOPLE)]


class ReleaseClassFields(_Strict):
    """What is asked of one class; nothing that protects people has a default but the strict one."""

    requires_guarantee: bool
    max_epsilon: DecimalText | None = None
    max_delta: DecimalText | None = None
    unit: Literal["row", "person", "person_everywhere"] = "row"
    max_figures: _Limits
    min_figures: _Limits = {}
    requires_utility: bool = True
    min_canaries: Annotated[int, Field(ge=0, le=MAX_CANARIES)] = 0
    min_shadows: Annotated[int, Field(ge=MIN_SHADOWS, le=MAX_SHADOWS)] = DEFAULT_MIN_SHADOWS
    max_age_days: Annotated[int, Field(ge=1, le=MAX_AGE_DAYS)]
    approvals: ReleaseQuorumFields | None
    more_approvals: ReleaseQuorumFields | None = None
    unassessed_own: ReleaseQuorumFields | None = None


class ReleaseFields(_Strict):
    """The whole block."""

    classes: Annotated[dict[Identifier, ReleaseClassFields], Field(min_length=1, max_length=MAX_CLASSES)]
    default_class: Identifier
    datasets: Annotated[dict[_Text, Identifier], Field(max_length=_MAX_DATASETS)] = {}


def release_terms(fields: ReleaseFields) -> ReleaseTerms:
    """Returns the terms as the gate reads them."""
    classes = {name: _class(found) for name, found in fields.classes.items()}
    return ReleaseTerms(classes, fields.default_class, dict(fields.datasets))


def _class(fields: ReleaseClassFields) -> ReleaseClass:
    return ReleaseClass(
        requires_guarantee=fields.requires_guarantee,
        max_epsilon=None if fields.max_epsilon is None else read_decimal(fields.max_epsilon),
        max_delta=None if fields.max_delta is None else read_decimal(fields.max_delta),
        unit=Unit(fields.unit),
        max_figures={name: read_decimal(limit) for name, limit in fields.max_figures.items()},
        min_figures={name: read_decimal(limit) for name, limit in fields.min_figures.items()},
        requires_utility=fields.requires_utility,
        min_canaries=fields.min_canaries,
        min_shadows=fields.min_shadows,
        max_age_days=fields.max_age_days,
        approvals=_quorum(fields.approvals),
        more_approvals=_quorum(fields.more_approvals),
        unassessed_own=_quorum(fields.unassessed_own),
    )


def _quorum(fields: ReleaseQuorumFields | None) -> Quorum | None:
    return None if fields is None else Quorum(fields.needed, tuple(fields.of))
