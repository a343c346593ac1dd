"""Evidence renewed without a command: a holder makes a new bundle of its last one and of newer risk reports that have arrived.

Owners tell each other what they state about a version. A newer report takes the place of its owner's older one if it is about the
same of its rows and has all its figures that the gate asks about, and stands beside it if it lacks one. It is taken only if it
has a figure that the holder's policy limits; and one that goes further, only in its owner's turn (`governance.evidence.turns`).
What was replaced is not forgotten: the new bundle carries it until people decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from governance.documents import SignedDocument
from governance.evidence.approved import shown_by
from governance.evidence.assessed import own_rows, replaces
from governance.evidence.bundle import EvidenceBundle
from governance.evidence.gate import CLOCK_SKEW, Decision, Reason, ReasonCode, Verdict
from governance.evidence.overtaken import Questions
from governance.evidence.standing import least_age_days, limited_figures, shadows_asked
from governance.evidence.turns import put_off, turn_length, turn_of
from governance.identity.directory import Directory
from governance.policy.release import OF_SHADOWS, ReleaseTerms
from governance.policy.rules import Policy
from governance.risk_report import StatedRisk, verify_risk_report
from parties.agreements import load_member
from parties.config import PartyConfig
from parties.evidence import note_decision
from parties.evidence_records import keep_evidence, questions_here
from parties.model_registry import Holder, fall_from_release, require_usable
from parties.policy_file import load_policy
from parties.standing_releases import review_release, standing_releases
from parties.storage.database import Tables, one_transaction
from parties.storage.evidence import EvidenceRecord
from parties.told_reports import ToldReport, told_reports
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef

MAX_READ = 64  # of the last reports of one owner about a version: nobody keeps a holder busy by telling many


@dataclass(frozen=True, eq=False)
class PutOff:
    """A report that was told and waits for its owner's turn.

    Attributes:
        told: the report.
        until: when it is taken up, UTC.
    """

    told: ToldReport
    until: datetime

    @property
    def in_words(self) -> str:
        """Which report waits, why, and until when."""
        stated = self.told.stated
        why = f"people were asked about a worse figure of {stated.owner} before, and no limit is crossed by this one"
        when = f"it is taken up at {self.until:%Y-%m-%d %H:%M} UTC"
        return f"{stated.owner}'s risk report of {stated.made:%Y-%m-%d %H:%M:%S} UTC on {stated.ref.label} waits: {why}; {when}"


@dataclass(frozen=True, eq=False)
class Arrived:
    """What owners have told about a version since its last bundle.

    Attributes:
        reports: the risk reports of a renewed bundle; None if the last one has them already, or there is none.
        put_off: what waits for its owner's turn, and is in no bundle before.
    """

    reports: tuple[SignedDocument, ...] | None
    put_off: tuple[PutOff, ...] = ()


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


def newer_reports(tables: Tables, ref: ModelRef, *, party: str, policy: Policy, directory: Directory, now: datetime) -> Arrived:
    """Returns what a renewed bundle about a version would have, and what waits.

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
        return Arrived(None)
    last = EvidenceBundle.from_bytes(kept[-1].signed.body)
    used, limited = frozenset(last.datasets), limited_figures(policy.release, last.datasets)
    questions = questions_here(tables, ref, policy)
    every = tuple(told_reports(tables, ref, party=party, used=used, now=now))
    waiting = tuple(_put_off(every, kept, last, questions=questions, terms=policy.release, now=now))
    late = {each.told.signed.body for each in waiting}
    told = _believed((report for report in every if report.signed.body not in late), directory)
    found = [ToldReport(signed, stated) for signed, stated in zip(last.risk_reports, last.assessed, strict=True)]
    known, shadows = {report.signed.body for report in found}, shadows_asked(policy.release, last.datasets)
    for report in sorted(told, key=lambda each: each.stated.order):
        older = [each.stated for each in found if _is_about(each.stated, report.stated, used)]
        if not older or not _brings(report.stated, older, limited, shadows):
            continue
        found = [each for each in found if not replaces(report.stated, _asked(each.stated, questions), used)] + [report]
    if {report.signed.body for report in found} == known:
        return Arrived(None, waiting)
    return Arrived(tuple(report.signed for report in found), waiting)


def _put_off(
    told: Sequence[ToldReport],
    kept: Sequence[EvidenceRecord],
    last: EvidenceBundle,
    *,
    questions: Questions,
    terms: ReleaseTerms,
    now: datetime,
) -> Iterator[PutOff]:
    """Yields the reports that wait, by the bundles about the version that were made of late."""
    length = turn_length(least_age_days(terms, last.datasets) or 0)
    recent = [place for place, record in enumerate(kept) if timedelta(0) <= now - record.kept < length]
    if not recent:
        return
    of_late = [
        (each.kept, shown_by(EvidenceBundle.from_bytes(each.signed.body), questions)) for each in kept[max(recent[0] - 1, 0) :]
    ]
    shown = {signed.body for signed in (*last.risk_reports, *last.overtaken.risk_reports)}
    for owner in last.owners:
        turn = turn_of(of_late, owner, length=length, now=now)
        if turn is None:
            continue
        fresh = {each.stated: each for each in told if each.stated.owner == owner and each.signed.body not in shown}
        for stated in put_off(tuple(fresh), turn, last, questions=questions, terms=terms):
            yield PutOff(fresh[stated], turn.until)


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
    later = (frozenset(each.figures) for each in older if each.order > report.order)
    return bool(served.difference(*later))
