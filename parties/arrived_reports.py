"""What owners have told about a version since its last bundle of evidence: what a renewed bundle would have, and what waits.

A newer report takes the place of its owner's older one if it is about the same of its rows and has all its figures that the gate
asks about, and stands beside it if it lacks one. It is taken only if it has a figure that the holder's policy limits; and one
that goes further, only in its owner's turn (`governance.evidence.turns`). What comes when a later report of its owner is known
already takes the place of nothing; a bundle carries it all the same if it has anything that people have not decided on. So what
is asked does not depend on the order in which reports arrive.
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
from governance.evidence.overtaken import Questions
from governance.evidence.standing import least_age_days, limited_figures, shadows_asked
from governance.evidence.turns import put_off, turn_length, turn_of
from governance.identity.directory import Directory
from governance.policy.release import OF_SHADOWS, ReleaseTerms
from governance.policy.rules import Policy
from governance.risk_report import StatedRisk, verify_risk_report
from parties.evidence_records import must_carry_more, questions_here, still_asked
from parties.storage.database import Tables
from parties.storage.evidence import EvidenceRecord
from parties.told_reports import ToldReport, told_reports
from protocols.errors import ConfideError
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
    if {report.signed.body for report in found} == known and not must_carry_more(tables, last, policy, late, now=now):
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
    asked = {signed.body for signed in still_asked(told, kept, questions, party=last.issuer)}
    of_late = [
        (each.kept, shown_by(EvidenceBundle.from_bytes(each.signed.body), questions)) for each in kept[max(recent[0] - 1, 0) :]
    ]
    shown = {signed.body for signed in (*last.risk_reports, *last.overtaken.risk_reports)}
    for owner in last.owners:
        turn = turn_of(of_late, owner, length=length, now=now)
        if turn is None:
            continue
        fresh = {each.stated: each for each in told if each.stated.owner == owner and each.signed.body not in shown}
        answered = frozenset(stated for stated, each in fresh.items() if each.signed.body not in asked)
        for stated in put_off(tuple(fresh), turn, last, answered=answered, questions=questions, terms=terms):
            yield PutOff(fresh[stated], turn.until)


def _asked(stated: StatedRisk, questions: Questions) -> StatedRisk:
    """A report with what the gate asks about alone: one with ever new figures beside does not stand in a bundle for ever."""
    figures = {name: each for name, each in stated.figures.items() if questions.are_about(stated.owner, name)}
    return replace(stated, report=replace(stated.report, figures=figures))


def _is_about(older: StatedRisk, newer: StatedRisk, used: frozenset[str]) -> bool:
    """Whether a report is of the owner of another one, about no more of its rows: only owners in the evidence renew it."""
    same = older.owner == newer.owner and older.ref == newer.ref
    return same and own_rows(older, used) <= own_rows(newer, used)


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


def is_behind(tables: Tables, ref: ModelRef, *, party: str, policy: Policy, directory: Directory, now: datetime) -> bool:
    """Returns whether owners have told something that the last bundle about a version would carry on if it were made now.

    What waits for its owner's turn is nothing of that.

    Args:
        tables: of the transaction; nothing is written.
        ref: the version; there is a bundle about it.
        party: this party.
        policy: in force.
        directory: whose keys are believed.
        now: the time, UTC.
    """
    waiting = newer_reports(tables, ref, party=party, policy=policy, directory=directory, now=now).put_off
    last = EvidenceBundle.from_bytes(tables.evidence.latest(ref).signed.body)
    return must_carry_more(tables, last, policy, {each.told.signed.body for each in waiting}, now=now)
