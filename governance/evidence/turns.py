"""How often one owner may have people asked: a report that is worse, and crosses no limit, waits for its turn.

An owner states what it finds when it likes, and a holder renews its evidence by it. Were each report that is a little worse than
the last one taken up at once, the question to people would be another one before enough of them have answered, and one owner
would keep the release of all others waiting until it is too old. So once an owner's figures have gone beyond what was shown, its
next report that goes beyond them again is taken up when a share of the age is over, in which people can answer. Taken up at once
are reports that go no further, such as cross a limit, such as nobody could approve, and such as renew a figure whose last
measurement counts no longer than that. Nothing is forgotten: what is put off stays told, later reports of its owner wait with it,
so that none takes its place unseen, and the next bundle after that has it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from governance.evidence.approved import counts, goes_beyond
from governance.evidence.assessed import latest_reports, needed_of, own_rows
from governance.evidence.bundle import EvidenceBundle
from governance.evidence.overtaken import Badness, Measured, Questions, risks_in
from governance.evidence.own import asked_classes
from governance.policy.release import ReleaseTerms
from governance.risk_report import StatedRisk
from privacy.risk.report import FALSE_ALARMS

# Assessments are repeated at two thirds of the age: what is put off then is taken up before the last third is over.
_SHARE = 1 / 6
_MOST = timedelta(days=7)
_NEVER: Badness = (0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Turn:
    """Until when an owner's reports that go further are put off.

    Attributes:
        owner: whose.
        until: from then on they are taken up, UTC.
        shown: how bad its figures are in the bundle from which on they are put off.
    """

    owner: str
    until: datetime
    shown: Measured


def turn_length(max_age_days: int) -> timedelta:
    """Returns how long people have to answer, by the age that the strictest class takes."""
    return min(_MOST, timedelta(days=max_age_days) * _SHARE)


def turn_of(kept: Sequence[tuple[datetime, Measured]], owner: str, *, length: timedelta, now: datetime) -> Turn | None:
    """Returns the turn that an owner has had with the bundles about a version; None if its next report is taken up at once.

    Args:
        kept: what all bundles of the holder about the version show people that were made within `length`, with the time, UTC,
            and the one before them, if there is one; the oldest first.
        owner: of rows behind it.
        length: for how long reports are put off.
        now: the time, UTC. What a clock that was ahead has dated later puts nothing off.
    """
    saw: Measured | None = None
    found = None
    for made, every in kept:
        shown = {key: bad for key, bad in every.items() if key[0] == owner}
        if saw is None or goes_beyond(shown, saw):
            found = None if saw is None else Turn(owner, made + length, shown)
            saw = shown
    return found if found is not None and timedelta(0) < found.until - now <= length else None


def put_off(
    reports: Sequence[StatedRisk],
    turn: Turn,
    last: EvidenceBundle,
    *,
    answered: Collection[StatedRisk],
    questions: Questions,
    terms: ReleaseTerms,
) -> tuple[StatedRisk, ...]:
    """Returns which reports of an owner wait until its turn is over, in their order.

    Args:
        reports: about the version, of the owner of the turn, and in no bundle yet.
        turn: of the owner.
        last: the holder's last bundle about the version.
        answered: those of the reports that have nothing but what people have decided on; they wait for none but an earlier one.
        questions: of the gate.
        terms: of the policy.
    """
    waits = [report not in answered and is_put_off(report, turn, last, questions=questions, terms=terms) for report in reports]
    known = [each.order for each in last.assessed if each.owner == turn.owner]
    later = [not known or report.order > max(known) for report in reports]
    if any(one and new for one, new in zip(waits, later, strict=True)):
        # A later report that pleases would take the place of the worse one, and the bundle after the turn would not come.
        urgent = any(_is_urgent(report, turn, last, terms) for report, new in zip(reports, later, strict=True) if new)
        waits = [not urgent if new else one for one, new in zip(waits, later, strict=True)]
    return tuple(report for report, one in zip(reports, waits, strict=True) if one)


def is_put_off(report: StatedRisk, turn: Turn, last: EvidenceBundle, *, questions: Questions, terms: ReleaseTerms) -> bool:
    """Returns whether a report by itself waits; see `put_off`."""
    told = {key: bad for key, bad in risks_in(report).items() if counts(*key, questions)}
    return goes_beyond(told, turn.shown) and not _is_urgent(report, turn, last, terms)


def _is_urgent(report: StatedRisk, turn: Turn, last: EvidenceBundle, terms: ReleaseTerms) -> bool:
    # Where the class names nobody for a risk that has risen, there is nobody to wait for: the gate blocks at once.
    nobody = any(terms.classes[name].more_approvals is None for name in asked_classes(last, terms))
    return nobody or any(_crosses(risks_in(report), turn.shown, last, terms)) or any(_renews(report, turn, last, terms))


def _crosses(told: Measured, shown: Measured, last: EvidenceBundle, terms: ReleaseTerms) -> Iterator[bool]:
    """Whether a figure, or the end of its interval, is over a limit under which it was: that asks or blocks at once."""
    stands = [risks_in(stated) for stated in latest_reports(last)]
    for name in asked_classes(last, terms):
        for (owner, figure), bad in told.items():
            limit = terms.classes[name].max_figures.get(figure)
            if limit is not None:
                # The gate blocks by what stands: that a report which is out was over the limit too is no answer to that.
                yield bad[0] > limit >= max(each.get((owner, figure), _NEVER)[0] for each in (*stands, {}))
                yield bad[1] > limit >= shown.get((owner, figure), _NEVER)[1]
            # A figure that the class limits and that nobody has shown yet is waited for.
            yield limit is not None and (owner, figure) not in shown
    for key, bad in told.items():
        # A smaller model does as well: there is no worse answer to that question.
        yield key[1] == "capacity.excess" and bad[2] > 0 >= shown.get(key, _NEVER)[2]
    for guarantee in last.guarantees or ():
        for (_, figure), bad in told.items():
            end = figure.rpartition(".")[2]
            yield figure.startswith("membership.") and end in FALSE_ALARMS and bad[2] > float(getattr(guarantee, end))


def _renews(report: StatedRisk, turn: Turn, last: EvidenceBundle, terms: ReleaseTerms) -> Iterator[bool]:
    """Whether it has a figure whose last measurement is too old before the turn is over, and is not as old itself."""
    for name in asked_classes(last, terms):
        age = timedelta(days=terms.classes[name].max_age_days)
        for needed in _of_report(report, last, terms, name):
            yield needed.made + age <= turn.until < report.made + age


def _of_report(report: StatedRisk, last: EvidenceBundle, terms: ReleaseTerms, name: str) -> Iterable[StatedRisk]:
    rows = own_rows(report, last.datasets)
    for needed in needed_of(last, terms.classes[name]):
        if needed.report is not None and needed.dataset in rows and needed.figure in (None, *report.figures):
            yield needed.report
