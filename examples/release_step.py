"""The demo's step before a release: the model is attacked in shares, owners sign what was found, and a gate decides.

The attack is a job like any other: each owner trains shadow models on its own rows, and only counts are opened.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from governance.documents import SignedDocument
from governance.evidence.gate import Verdict
from governance.lineage.alias import AliasName
from governance.opened_assessment import opened_assessment
from governance.utility_report import StatedUtility
from parties import harness
from parties.cli.evidence import decision_text
from parties.cli.risk_words import figures_in_words
from parties.client.client import Values
from parties.client.opening import Opened
from parties.config import PartyConfig
from parties.evidence import approve_release, judge_evidence, make_evidence
from parties.models import move_alias_forward
from parties.risk_statements import state_risk, unsigned_risk
from privacy.accounting.statement import privacy_in_words
from privacy.risk.joint import risk_of
from privacy.risk.report import ATTACKED_IN_SHARES
from privacy.utility.report import utility_report
from protocols.canonical import canonical_bytes
from protocols.job import Job, ModelRef

AUC = "membership.lira.auc"
# What one holder asks before a model of these rows may leave its shares. With so few rows an interval may reach over the limit:
# then an officer has to look at it. Pictures of digits tell of nobody: a model of theirs needs no formal guarantee.
RELEASE = f"""
release:
  default_class: special
  datasets: {{hospital-a/digits: open}}
  classes:
    open:
      requires_guarantee: false
      max_figures: {{{AUC}: "0.9"}}
      min_shadows: 8
      max_age_days: 365
      approvals: null
    special:
      requires_guarantee: true
      max_epsilon: "3"
      max_delta: "0.00001"
      max_figures: {{{AUC}: "0.6"}}
      min_figures: {{accuracy: "0.8"}}
      max_age_days: 30
      approvals: {{needed: 1, of: [privacy-officers]}}
      more_approvals: {{needed: 1, of: [privacy-officers]}}
"""


@dataclass(frozen=True)
class Attacked:
    """An attack on a model: the assessment, and what it opened."""

    job: Job
    opened: Mapping[str, Opened]


@dataclass(frozen=True)
class Released:
    """What was claimed, found and decided about a model.

    Attributes:
        claim: of differential privacy, in words.
        attack_auc: the chance that the attack tells a member from another row, with its interval of 95 %.
        before: what the gate said before an officer had looked.
        after: and afterwards.
    """

    claim: str
    attack_auc: tuple[float, float, float]
    before: str
    after: str


def ask_for_evidence(config: PartyConfig) -> None:
    """Writes into a party's policy what a model must show before it is released."""
    config.policy.write_text(config.policy.read_text() + RELEASE)


def what_was_useful(evaluated: Job, opened: Mapping[str, Values]) -> StatedUtility:
    """Returns what an evaluation told of how useful a model is, for its researcher to sign."""
    return StatedUtility(evaluated.consortium, evaluated.querier, utility_report(evaluated, opened, groups=()))


def release(
    network: harness.Harness, trained: Job, attacked: Attacked, useful: SignedDocument, out: Path, console: Console
) -> Released:
    """Has every owner check and sign what the attack found, and the first party release the model if its gate lets it."""
    (counts,) = attacked.opened.values()
    now = datetime.now(UTC)
    ref = trained.produced_model
    if ref is None:
        sys.exit("The training left no model.")
    report = risk_of(attacked.job, counts.value)
    console.print(figures_in_words(report.figures))
    found = out / "evidence" / "risk.json"
    found.parent.mkdir()
    handed = opened_assessment(unsigned_risk(attacked.job, report, now=now), counts.shares)
    found.write_bytes(canonical_bytes(handed.to_document()))
    told = found.with_name("utility.json")
    told.write_bytes(useful.to_bytes())
    signed = [_stated(party.config, found) for party in network.parties]
    claim = privacy_in_words(trained)
    console.print(f"  claimed: epsilon {claim}")
    console.print(
        f"  every owner opens the counts again and signs; {network.parties[0].party} gathers the evidence, with what the"
    )
    console.print("  researcher signed of the evaluation:\n")
    before, after = _decided(network.parties[0].config, ref, signed, told, console)
    auc = report.figures[AUC]
    return Released(claim, (auc.value, auc.low, auc.high), before.value, after.value)


def _stated(config: PartyConfig, found: Path) -> Path:
    steward = harness.person_folder(config, harness.STEWARD)
    path = found.with_name(f"risk-{config.party}.json")
    signed = state_risk(config, steward, found, method=ATTACKED_IN_SHARES, now=datetime.now(UTC))
    path.write_bytes(signed.to_bytes())
    return path


def _decided(
    config: PartyConfig, ref: ModelRef, signed: Sequence[Path], useful: Path, console: Console
) -> tuple[Verdict, Verdict]:
    steward, officer = (harness.person_folder(config, person) for person in (harness.STEWARD, harness.OFFICER))
    made = make_evidence(config, steward, ref, risk_reports=signed, utility=(useful,), now=datetime.now(UTC))
    console.print(decision_text(made.decision))
    before = made.decision.verdict
    if before is Verdict.NEEDS_OFFICER:
        approve_release(config, officer, ref, now=datetime.now(UTC))
        console.print(f"\n  {config.party}'s officer has read the evidence and approves; the gate says now:")
    decision = judge_evidence(config, ref, now=datetime.now(UTC)).decision
    console.print(decision_text(decision))
    if decision.verdict is Verdict.PASS:
        moved = move_alias_forward(config, officer, ref, AliasName.RELEASED, now=datetime.now(UTC))
        console.print(f"  {moved.label} stands for {ref.label} at {config.party}")
    return before, decision.verdict
