"""The release gate: the one place from which output shares may be opened, through single-use permissions that it alone makes.

An `OpeningGrant` names one output of one job and its one recipient. Nothing else in the system makes one, and a party hands an
output share to nobody without using one up (`parties/storage`, `OpeningStore.use_once`). Each party has a gate of its own and
passes a job's outputs all or none, by these rules:

    plan-agreed           every participant has countersigned this job with the plan that this party ran
    consent-in-force      the party's agreement and grants still cover the job, and no other participant's consent has ended
    constraint-satisfied  every output is opened as its grants demand (kind, group size, rounding, clipping, the k largest), and
                          the share has the shape that the plan gives it, no number more
    debit-committed       what the job spends has been taken from the party's budgets
    commitments-complete  the ending shows the commitments of all computing parties to their shares of all outputs

It asks twice. Before the party votes, the first three: an output that fails is withheld from everybody. Then, with the ending
accepted, all of them, when the permissions are made and again whenever a share is asked for: the other shares may still leave,
but without this one they say nothing. Pure: what is known arrives as `Evidence`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from governance.consent.limits import OutputRule
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job


class GateRule(Enum):
    """A rule of the gate; the value is shown to people and stands in the audit log."""

    PLAN_AGREED = "plan-agreed"
    CONSENT_IN_FORCE = "consent-in-force"
    EVIDENCE_IN_FORCE = "evidence-in-force"
    CONSTRAINT_SATISFIED = "constraint-satisfied"
    DEBIT_COMMITTED = "debit-committed"
    COMMITMENTS_COMPLETE = "commitments-complete"


@dataclass(frozen=True)
class Evidence:
    """What a party knows about a job when its gate decides; all of it public in the consortium.

    Attributes:
        plan_digest: the plan that this party ran, 64 hexadecimal digits; empty if none.
        planned: shapes that this plan gives the outputs, by name.
        sealed: shapes of this party's sealed shares of the outputs, by name; None if it holds none, because it computes nothing.
        countersignatures: for each participant, the plan digest in its verified countersignature.
        missing_consent: every reason for which the party's consent, or another participant's as far as is known here, does not
            cover the job now; empty if it does.
        missing_evidence: every reason for which the gate on evidence blocks the release of weights now; empty for other jobs.
        output_rules: what each grant permits to be opened, by the grant's id.
    """

    plan_digest: str
    planned: Mapping[str, tuple[int, ...]]
    sealed: Mapping[str, tuple[int, ...]] | None
    countersignatures: Mapping[str, str]
    missing_consent: Sequence[Problem]
    missing_evidence: Sequence[Problem]
    output_rules: Mapping[str, Sequence[OutputRule]]


@dataclass(frozen=True)
class Settlement:
    """What a party knows besides, once it has accepted the ending.

    Attributes:
        debited: whether the job's charges are committed in this party's ledger.
        commitments: those of the ending, by party and output; empty unless it is completed.
    """

    debited: bool
    commitments: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Withheld:
    """Why nothing of a job is opened."""

    rule: GateRule
    reason: str
    remedy: str = "ask the party whose rule it is"

    def __str__(self) -> str:
        """Returns the sentence for people."""
        return f"rule {self.rule.value}: {self.reason}"


@dataclass(frozen=True)
class OpeningGrant:
    """Permission to hand this party's share of one output to one recipient, once; public.

    Attributes:
        opening_id: 64 hexadecimal digits, the same at every party.
        job_id: the job.
        output: name of the output.
        recipient: who receives it.
    """

    opening_id: str
    job_id: str
    output: str
    recipient: str


def withheld_before_vote(job: Job, evidence: Evidence) -> tuple[Withheld, ...]:
    """Returns every reason for which a party votes to withhold a job's outputs; empty if it may vote that it is done."""
    return withheld_answers(job, evidence) if job.closing_outputs else ()


def withheld_answers(job: Job, evidence: Evidence) -> tuple[Withheld, ...]:
    """Returns every reason for which no answer of a serving may leave now; empty if one may.

    The reservation of all that the serving may answer stands in the ledger, and the commitments of all computing parties come
    with each answer; what is left to ask is what can change while the session runs.
    """
    found = [*_plan_agreed(job, evidence)]
    found += [Withheld(GateRule.CONSENT_IN_FORCE, problem.what) for problem in evidence.missing_consent]
    found += [Withheld(GateRule.EVIDENCE_IN_FORCE, each.what, each.remedy) for each in evidence.missing_evidence]
    found += _constraints(job, evidence)
    return tuple(found)


def withheld(job: Job, evidence: Evidence, settlement: Settlement) -> tuple[Withheld, ...]:
    """Returns every reason for which nothing of a completed job may be opened here; empty if it may."""
    if not job.closing_outputs:
        return ()
    found = list(withheld_before_vote(job, evidence))
    if not settlement.debited:
        found.append(Withheld(GateRule.DEBIT_COMMITTED, "its charges are not committed in the ledger"))
    names = {output.name for output in job.outputs}
    for party in job.computing_parties:
        missing = sorted(names - set(settlement.commitments.get(party, {})))
        if missing:
            what = f"the ending has no commitment of {party} to {', '.join(missing)}"
            found.append(Withheld(GateRule.COMMITMENTS_COMPLETE, what))
    return tuple(found)


def openings(job: Job, evidence: Evidence, settlement: Settlement) -> tuple[OpeningGrant, ...]:
    """Makes the permissions to open a completed job's outputs: one for each, or none.

    Raises:
        ConfideError: RELEASE_WITHHELD, with every rule that is not kept.
    """
    reasons = withheld(job, evidence, settlement)
    if reasons:
        raise release_withheld(reasons)
    return tuple(
        OpeningGrant(_opening_id(job, evidence.plan_digest, output.name), job.job_id, output.name, output.recipient)
        for output in job.closing_outputs
    )


def release_withheld(reasons: Sequence[Withheld]) -> ConfideError:
    """Returns the error that says by which rules outputs are withheld."""
    problems = [Problem(reason.rule.value, reason.reason, reason.remedy) for reason in reasons]
    return ConfideError(ErrorCode.RELEASE_WITHHELD, "; ".join(str(reason) for reason in reasons), problems=problems)


def _plan_agreed(job: Job, evidence: Evidence) -> Iterable[Withheld]:
    for party in job.participants:
        if not evidence.plan_digest or evidence.countersignatures.get(party) != evidence.plan_digest:
            yield Withheld(GateRule.PLAN_AGREED, f"{party} has not countersigned this job with this plan")


def _constraints(job: Job, evidence: Evidence) -> Iterable[Withheld]:
    for output in job.outputs:
        if output.name not in evidence.planned:
            yield Withheld(GateRule.CONSTRAINT_SATISFIED, f"{output.name}: the plan opens nothing of that name")
        elif evidence.sealed is not None and evidence.sealed.get(output.name) != evidence.planned[output.name]:
            yield Withheld(GateRule.CONSTRAINT_SATISFIED, f"{output.name}: the share has not the shape that the plan gives it")
        for grant_id, rules in evidence.output_rules.items():
            rule = next((rule for rule in rules if rule.kind is output.kind), None)
            if rule is None:
                what = f"{output.name}: grant {grant_id[:12]} does not permit {output.kind.value} to be opened"
                yield Withheld(GateRule.CONSTRAINT_SATISFIED, what)
                continue
            for problem in rule.problems(output):
                yield Withheld(GateRule.CONSTRAINT_SATISFIED, f"{output.name}: grant {grant_id[:12]}: {problem.what}")


def _opening_id(job: Job, plan_digest: str, output: str) -> str:
    recipient = next(known.recipient for known in job.outputs if known.name == output)
    text = "\0".join(("confide.opening/1", job.digest, plan_digest, output, recipient))
    return hashlib.sha256(text.encode()).hexdigest()
