"""What the party's policy and its people say about a job, for the path from a checked job to a countersignature."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from governance.admission import Finding
from governance.identity.keys import VerifyingKey
from governance.policy.approval import Question, Tally, tally
from governance.policy.facts import facts_of
from governance.policy.rules import Decision, Kind, Policy, decide
from governance.preview import Preview, make_preview
from parties.server import consents
from parties.server.budgets import budgets_in_words
from parties.server.party import Party
from parties.server.policy import note_policy
from parties.storage.approvals import ApprovalRequest
from parties.storage.database import Tables
from protocols.canonical import parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job
from protocols.model.weights import weights_from_safetensors
from protocols.plan.estimate import LOOPBACK, estimate
from protocols.plan.plan import Plan
from protocols.plan.ranges import ranges_of


@dataclass(frozen=True)
class Standing:
    """Where a job stands with this party's policy and people.

    Attributes:
        decision: what the policy says.
        tally: how the answers of its people stand; empty unless the policy asks them.
        policy: that decided.
    """

    decision: Decision
    tally: Tally
    policy: Policy

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The reasons against the job: refused by a rule, or denied by a person; none while people may still approve."""
        if self.decision.kind is Kind.REFUSED:
            what = f"the policy's rule {self.decision.rule} refuses it" + _because(self.decision.reason)
            problem = Problem("policy", what, "change what the rule names, or ask this party")
            return (Finding(ErrorCode.REFUSED_BY_POLICY, problem),)
        if self.tally.is_denied:
            what = "an approver denied it" + _because(self.tally.comment)  # who it was stands in this party's log
            return (Finding(ErrorCode.APPROVAL_DENIED, Problem("policy", what, "submit a changed job, which is looked at anew")),)
        return ()

    @property
    def may_go_on(self) -> bool:
        """Whether nothing is against the job, and nobody is waited for."""
        return not self.findings and (self.decision.kind is Kind.AUTOMATIC or self.tally.is_approved)

    @property
    def waiting_for(self) -> str:
        """For what the job waits, in words for its querier; empty if for nothing."""
        if self.may_go_on or self.findings:
            return ""
        rule = f"rule {self.decision.rule}" + _because(self.decision.reason)
        return f"{self.tally.missing} more of {len(self.decision.approvers)} approvers ({rule})"

    @property
    def approvals(self) -> tuple[str, ...]:
        """Digests of the approvals that count, 64 hexadecimal digits each."""
        return self.tally.counted


def standing(party: Party, tables: Tables, job: Job, plan: bytes) -> Standing:
    """Says where a job stands with this party's policy, as it is now, and with what its people have signed so far.

    Args:
        party: this party.
        tables: of the transaction that goes on from here; nothing is written.
        job: the job.
        plan: canonical bytes of the plan that this party derived.
    """
    policy = party.policy
    derived = Plan.from_document(parse_canonical(plan))
    facts = facts_of(job, derived, directory=party.directory, agreement=_agreement_name(tables, job))
    decision = decide(policy, facts, querier_key=_key_of(party, job.querier))
    question = Question(party.id, job.digest, sha256_hex(plan), policy.digest)
    answers = tally(decision, tables.approvals.of_job(job.job_id), question=question, people=policy.persons)
    return Standing(decision, answers, policy)


def note_standing(party: Party, tables: Tables, job: Job, plan: bytes, found: Standing, *, now: datetime) -> bool:
    """Keeps what was decided, in the transaction of the decision: the policy, the preview, and what people are asked if anything.

    Args:
        party: this party.
        tables: of that transaction.
        job: known here.
        plan: as for `standing`.
        found: what `standing` returned in this transaction.
        now: the time, UTC.

    Returns:
        Whether people are asked something that they were not asked before.
    """
    note_policy(tables, found.policy, now=now)
    preview = preview_of(party, tables, job, plan, now=now, budgets=budgets_in_words(party, tables, job))
    tables.approvals.keep_preview(job.job_id, preview.to_bytes())
    if found.decision.kind is not Kind.APPROVAL:
        return False
    return tables.approvals.ask(
        ApprovalRequest(
            job_id=job.job_id,
            plan_digest=sha256_hex(plan),
            policy_digest=found.policy.digest,
            rule=found.decision.rule,
            needed=found.decision.needed,
            approvers=found.decision.approvers,
            asked=now,
        )
    )


def preview_of(party: Party, tables: Tables, job: Job, plan: bytes, *, now: datetime, budgets: Iterable[str] = ()) -> Preview:
    """Returns the preview of a job at this party, as of one transaction.

    Args:
        party: this party, a participant of the job.
        tables: of that transaction.
        job: the job.
        plan: canonical bytes of the plan that this party derived.
        now: the time, UTC.
        budgets: how the party's accounts would stand, in words, if none but its people read the preview.
    """
    derived = Plan.from_document(parse_canonical(plan))
    grants = dict.fromkeys(grant.grant_id for grant in consents.decide(party, tables, job, now).grants)
    return make_preview(
        job,
        derived,
        estimate(derived, LOOPBACK),
        party=party.id,
        directory=party.directory,
        agreement=_agreement_name(tables, job),
        grants=grants,
        ranges=_ranges(tables, job),
        budgets=budgets,
    )


def _ranges(tables: Tables, job: Job) -> Sequence[str]:
    """What is known of the limits of numbers, in words; the weights are here once the job has been submitted."""
    weights = None
    if job.initial_weights_sha256 is not None and job.resumes is None:
        record = tables.jobs.find(job.job_id)
        if record is None or record.initial_weights is None:
            return ("the initial weights are not here yet, so nothing is said of the ranges of what layers give",)
        weights = weights_from_safetensors(record.initial_weights, job.model)
    return ranges_of(job, weights).in_words


def _agreement_name(tables: Tables, job: Job) -> str:
    agreement = tables.agreements.find(job.agreement)
    return "" if agreement is None else agreement.agreement.name


def _key_of(party: Party, querier: str) -> VerifyingKey | None:
    try:
        return party.directory.researcher(querier).signing_key
    except ConfideError:  # not enrolled: the admission says so
        return None


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
