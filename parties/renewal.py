"""Evidence renewed without a command: a holder makes a new bundle of its last one and of newer risk reports that have arrived.

Owners tell each other what they state about a version. A newer report takes the place of its owner's older one if it is about the
same of its rows and has every figure that the holder's policy limits; a report that has less replaces nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from governance.documents import DocumentKind, SignedDocument
from governance.evidence.bundle import EvidenceBundle
from governance.evidence.gate import CLOCK_SKEW, Decision, Verdict
from governance.evidence.standing import limited_figures, shadows_asked
from governance.identity.directory import Directory
from governance.policy.rules import Policy
from governance.risk_report import StatedRisk, read_risk_report, verify_risk_report
from parties.evidence import note_decision
from parties.evidence_records import keep_evidence
from parties.model_registry import Holder, require_usable
from parties.standing_releases import review_release, standing_releases
from parties.storage.database import Tables
from protocols.errors import ConfideError
from protocols.job import ModelRef

MAX_READ = 64  # of the last reports of one owner about a version: nobody keeps a holder busy by telling many


@dataclass(frozen=True)
class _Report:
    signed: SignedDocument
    stated: StatedRisk

    def own(self, used: frozenset[str]) -> frozenset[str]:
        """Of the owner's data sets, those that it is about and that the version was trained on."""
        return frozenset(name for name in self.stated.datasets if name.startswith(f"{self.stated.owner}/")) & used


def last_stated(
    tables: Tables, ref: ModelRef, *, party: str, used: frozenset[str], figures: frozenset[str], shadows: int
) -> StatedRisk | None:
    """Returns what a party itself has stated last about a version, so that evidence may rest on it, or None.

    Args:
        tables: of the transaction; nothing is written.
        ref: the version.
        party: this party.
        used: `party/name/version` of its rows behind the version; the report is about them all.
        figures: that the report must have.
        shadows: of how many shadow models it must be.
    """
    own = [read_risk_report(signed.document) for signed in tables.statements.own(DocumentKind.RISK_REPORT, party=party)]
    known = [report for report in own if report.ref == ref]
    bundles = [record for record in tables.evidence.of_model(ref.name) if record.ref == ref]
    if bundles:
        assessed = EvidenceBundle.from_bytes(bundles[-1].signed.body).assessed
        known += [report for report in assessed if report.ref == ref and report.owner == party]
    useful = (
        report
        for report in known
        if used <= set(report.datasets) and figures <= set(report.figures) and report.report.shadows >= shadows
    )
    return max(useful, key=lambda report: report.made, default=None)


def newer_reports(
    tables: Tables, ref: ModelRef, *, party: str, policy: Policy, directory: Directory, now: datetime
) -> tuple[SignedDocument, ...] | None:
    """Returns the risk reports of a renewed bundle about a version; None if the last bundle has them already, or there is none.

    Args:
        tables: of the transaction; nothing is written.
        ref: the version.
        party: this party.
        policy: in force; its limits say which figures a report must have, and of how many shadow models.
        directory: whose keys are believed.
        now: the time, UTC.
    """
    kept = [record for record in tables.evidence.of_model(ref.name) if record.ref == ref]
    if not kept or policy.release is None:
        return None
    last = EvidenceBundle.from_bytes(kept[-1].signed.body)
    used, limited = frozenset(last.datasets), limited_figures(policy.release, last.datasets)
    told = tables.statements.own(DocumentKind.RISK_REPORT, party=party)
    told += tables.statements.heard(DocumentKind.RISK_REPORT, by=last.owners)
    found = [_Report(signed, stated) for signed, stated in zip(last.risk_reports, last.assessed, strict=True)]
    known, shadows = {report.signed.body for report in found}, shadows_asked(policy.release, last.datasets)
    for report in sorted(_believed(told, ref, directory, now), key=lambda each: each.stated.made):
        if report.signed.body in known or not report.own(used) or not limited <= set(report.stated.figures):
            continue
        if report.stated.report.shadows < shadows:
            continue
        replaced = [each for each in found if _replaces(report, each, used)]
        if replaced:
            found = [each for each in found if each not in replaced] + [report]
    if {report.signed.body for report in found} == known:
        return None
    return tuple(report.signed for report in found)


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
    stands by the one before; if it is blocked, the alias falls.

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
    reports = newer_reports(tables, ref, party=holder.party, policy=policy, directory=directory, now=now)
    if reports is None:
        return None
    require_usable(tables, ref, party=holder.party)
    last = EvidenceBundle.from_bytes(tables.evidence.latest(ref).signed.body)
    keep_evidence(
        tables,
        holder,
        ref,
        directory=directory,
        risk_reports=reports,
        utility=last.utility,
        authorisation=authorisation,
        now=now.replace(microsecond=0),
    )
    found = review_release(tables, holder, ref, policy=policy, directory=directory, now=now)
    if found.verdict is not Verdict.BLOCKED:  # a fall is written down where it happens
        note_decision(tables, ref, found, policy=policy, now=now)
    return found


def _believed(told: Iterable[SignedDocument], ref: ModelRef, directory: Directory, now: datetime) -> Iterable[_Report]:
    version, by_signer = ref.version.encode(), dict[str, list[SignedDocument]]()
    for signed in told:  # one that is about this version names it
        if version in signed.body:
            by_signer.setdefault(signed.signer, []).append(signed)
    for signed in (each for found in by_signer.values() for each in found[-MAX_READ:]):
        if read_risk_report(signed.document).ref != ref:
            continue
        try:
            stated = verify_risk_report(signed, directory)
        except ConfideError:
            continue  # of somebody who is not listed any more, or with another key
        if stated.made <= now + CLOCK_SKEW:
            yield _Report(signed, stated)


def _replaces(newer: _Report, older: _Report, used: frozenset[str]) -> bool:
    same = newer.stated.owner == older.stated.owner and older.stated.ref == newer.stated.ref
    return same and newer.stated.made >= older.stated.made and older.own(used) <= newer.own(used)
