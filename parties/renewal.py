"""Evidence renewed without a command: a holder makes a new bundle of its last one and of newer risk reports that have arrived.

Owners tell each other what they state about a version. A newer report takes the place of its owner's older one if it is about the
same of its rows and has all its figures that the gate asks about, and stands beside it if it lacks one. It is taken only if it
has a figure that the holder's policy limits. What was replaced is not forgotten: the new bundle carries it until people decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from governance.documents import SignedDocument
from governance.evidence.assessed import own_rows, replaces
from governance.evidence.bundle import EvidenceBundle
from governance.evidence.gate import CLOCK_SKEW, Decision, Reason, ReasonCode, Verdict
from governance.evidence.overtaken import Questions
from governance.evidence.standing import limited_figures, shadows_asked
from governance.identity.directory import Directory
from governance.policy.release import OF_SHADOWS
from governance.policy.rules import Policy
from governance.risk_report import StatedRisk, verify_risk_report
from parties.evidence import note_decision
from parties.evidence_records import keep_evidence, questions_here
from parties.model_registry import Holder, fall_from_release, require_usable
from parties.standing_releases import review_release, standing_releases
from parties.storage.database import Tables
from parties.told_reports import ToldReport, told_reports
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef

MAX_READ = 64  # of the last reports of one owner about a version: nobody keeps a holder busy by telling many


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
    told = _believed(told_reports(tables, ref, party=party, used=used, now=now), directory)
    found = [ToldReport(signed, stated) for signed, stated in zip(last.risk_reports, last.assessed, strict=True)]
    known, shadows = {report.signed.body for report in found}, shadows_asked(policy.release, last.datasets)
    questions = questions_here(tables, ref, policy)
    for report in sorted(told, key=lambda each: each.stated.made):
        older = [each.stated for each in found if _is_about(each.stated, report.stated, used)]
        if not older or not _brings(report.stated, older, limited, shadows):
            continue
        found = [each for each in found if not replaces(report.stated, _asked(each.stated, questions), used)] + [report]
    if {report.signed.body for report in found} == known:
        return None
    return tuple(report.signed for report in found)


def _asked(stated: StatedRisk, questions: Questions) -> StatedRisk:
    """A report with what the gate asks about alone: one with ever new figures beside does not stand in a bundle for ever."""
    figures = {name: each for name, each in stated.figures.items() if questions.are_about(stated.owner, name)}
    return replace(stated, report=replace(stated.report, figures=figures))


def _is_about(older: StatedRisk, newer: StatedRisk, used: frozenset[str]) -> bool:
    """Whether a report is of the owner of another one, about no more of its rows: only owners in the evidence renew it."""
    same = older.owner == newer.owner and older.ref == newer.ref
    return same and own_rows(older, used) <= own_rows(newer, used)


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
    reports = newer_reports(tables, ref, party=holder.party, policy=policy, directory=directory, now=now)
    if reports is None:
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
            risk_reports=reports,
            utility=last.utility,
            authorisation=authorisation,
            now=now.replace(microsecond=0),
        )
    except ConfideError as error:
        if error.code is not ErrorCode.INVALID_DOCUMENT:
            raise
        # Whoever states so much that no bundle holds it must not keep the version standing by what was found before.
        return _fall(tables, holder, ref, error, policy=policy, now=now)
    found = review_release(tables, holder, ref, policy=policy, directory=directory, now=now)
    if found.verdict is not Verdict.BLOCKED:  # a fall is written down where it happens
        note_decision(tables, ref, found, policy=policy, now=now)
    return found


def _fall(tables: Tables, holder: Holder, ref: ModelRef, error: ConfideError, *, policy: Policy, now: datetime) -> Decision:
    what = "; ".join([error.what, *(problem.what for problem in error.problems)])
    found = Decision(ref, "", Verdict.BLOCKED, (Reason(ReasonCode.NOT_BELIEVED, Verdict.BLOCKED, what),))
    note_decision(tables, ref, found, policy=policy, now=now)
    fall_from_release(tables, holder, ref, now=now)
    return found


def _believed(told: Iterable[ToldReport], directory: Directory) -> Iterator[ToldReport]:
    by_owner = dict[str, list[ToldReport]]()
    for report in told:
        by_owner.setdefault(report.stated.owner, []).append(report)
    for report in (each for found in by_owner.values() for each in found[-MAX_READ:]):
        # Somebody who is not listed any more, or with another key, is not believed now.
        with suppress(ConfideError):
            verify_risk_report(report.signed, directory)
            yield report


def _brings(report: StatedRisk, older: Iterable[StatedRisk], limited: frozenset[str], shadows: int) -> bool:
    """Whether it is the last with a figure that the policy limits, if it limits any, by as many shadow models as that takes."""
    has = frozenset(report.figures)
    served = limited & has if limited else has
    if report.report.shadows < shadows and any(name.startswith(OF_SHADOWS) for name in served):
        return False
    later = (frozenset(each.figures) for each in older if each.made > report.made)
    return bool(served.difference(*later))
