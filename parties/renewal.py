"""Evidence renewed without a command: a holder makes a new bundle of its last one and of newer risk reports that have arrived.

Owners tell each other what they state about a version. What of that a bundle takes up, and when, is said in
`parties.arrived_reports`. What was replaced is not forgotten: the new bundle carries it until people decide.
"""

from __future__ import annotations

from datetime import datetime

import structlog

from governance.evidence.bundle import EvidenceBundle
from governance.evidence.gate import CLOCK_SKEW, Decision, Reason, ReasonCode, Verdict
from governance.identity.directory import Directory
from governance.policy.rules import Policy
from governance.risk_report import StatedRisk
from parties.agreements import load_member
from parties.arrived_reports import PutOff, newer_reports
from parties.config import PartyConfig
from parties.evidence import note_decision
from parties.evidence_records import keep_evidence
from parties.model_registry import Holder, fall_from_release, require_usable
from parties.policy_file import load_policy
from parties.standing_releases import review_release, standing_releases
from parties.storage.database import Tables, one_transaction
from parties.told_reports import told_reports
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef

_log = structlog.get_logger()


def last_stated(
    tables: Tables,
    ref: ModelRef,
    *,
    party: str,
    used: frozenset[str],
    figures: frozenset[str],
    shadows: int,
    now: datetime,
) -> StatedRisk | None:
    """Returns what a party itself has stated last about a version, so that evidence may rest on it, or None.

    Args:
        tables: of the transaction; nothing is written.
        ref: the version.
        party: this party.
        used: `party/name/version` of its rows behind the version; the report is about them all.
        figures: that the report must have.
        shadows: of how many shadow models it must be.
        now: the time, UTC; what a clock that was ahead has dated later does not count.
    """
    known = [report.stated for report in told_reports(tables, ref, party=party, used=used, now=now)]
    bundles = [record for record in tables.evidence.of_model(ref.name) if record.ref == ref]
    if bundles:
        known += EvidenceBundle.from_bytes(bundles[-1].signed.body).assessed
    useful = (
        report
        for report in known
        if (report.ref, report.owner) == (ref, party)
        and report.made <= now + CLOCK_SKEW
        and used <= set(report.datasets)
        and figures <= set(report.figures)
        and report.report.shadows >= shadows
    )
    return max(useful, key=lambda report: report.order, default=None)


def reports_put_off(config: PartyConfig, ref: ModelRef, *, now: datetime) -> tuple[PutOff, ...]:
    """Returns what owners have told about a version and waits for their turn.

    Args:
        config: the party's.
        ref: the version.
        now: the time, UTC.
    """
    member, policy = load_member(config, now), load_policy(config.policy)
    with one_transaction(config.folder.database_file) as tables:
        found = newer_reports(tables, ref, party=config.party, policy=policy, directory=member.directory, now=now)
    return found.put_off


def renew_release(
    tables: Tables,
    holder: Holder,
    ref: ModelRef,
    *,
    policy: Policy,
    directory: Directory,
    authorisation: str,
    now: datetime,
) -> Decision | None:
    """Makes a new bundle about a version that `released` stands for, if newer reports have arrived, and asks the gate by it.

    If the gate passes it, it carries the version from now on; if people must approve, the bundle waits for them, and the version
    stands by the one before; if it is blocked, or no bundle holds all that was found, the alias falls.

    Args:
        tables: of the transaction.
        holder: this party.
        ref: the version.
        policy: in force.
        directory: whose keys are believed.
        authorisation: digest of that of the standing assessment.
        now: the time, UTC.

    Returns:
        The decision; None if nothing is to be renewed.

    Raises:
        ConfideError: MODEL_REVOKED or UNKNOWN_MODEL: the version is not used any more.
    """
    if ref not in {each.ref for each in standing_releases(tables, policy)}:
        return None
    arrived = newer_reports(tables, ref, party=holder.party, policy=policy, directory=directory, now=now)
    if arrived.reports is None:
        return None
    require_usable(tables, ref, party=holder.party)
    last = EvidenceBundle.from_bytes(tables.evidence.latest(ref).signed.body)
    try:
        keep_evidence(
            tables,
            holder,
            ref,
            directory=directory,
            policy=policy,
            risk_reports=arrived.reports,
            utility=last.utility,
            left_out=frozenset(each.told.signed.body for each in arrived.put_off),
            authorisation=authorisation,
            now=now.replace(microsecond=0),
        )
    except ConfideError as error:
        if error.code is not ErrorCode.TOO_LARGE:
            raise
        # Whoever states so much that no bundle holds it must not keep the version standing by what was found before.
        return _fall(tables, holder, ref, error, policy=policy, now=now)
    found = review_release(tables, holder, ref, policy=policy, directory=directory, now=now)
    if found.verdict is not Verdict.BLOCKED:  # a fall is written down where it happens
        note_decision(tables, ref, found, policy=policy, now=now)
    return found


def _fall(tables: Tables, holder: Holder, ref: ModelRef, error: ConfideError, *, policy: Policy, now: datetime) -> Decision:
    what = "; ".join([error.what, *(problem.what for problem in error.problems)])
    found = Decision(ref, "", Verdict.BLOCKED, (Reason(ReasonCode.TOO_MUCH, Verdict.BLOCKED, what),))
    note_decision(tables, ref, found, policy=policy, now=now)
    fall_from_release(tables, holder, ref, now=now)
    _log.warning("release_ended", model=ref.label, reason=found.reasons[0].code.value, what=what, reasons=1)
    return found
