"""Whether what people have approved is still good for a later bundle: it is while nothing in it is worse than what they saw.

A bundle is made anew whenever an owner states something. If each one voided the approvals before it, an owner that states a
figure every hour would keep a version from ever being released; so an approval binds to the figures, and not to the document. And
it binds to figures that mean something here: those that the gate asks about, and those of attacks that everybody knows. Whoever
states figures by ever new names of its own voids nothing by that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from governance.documents import SignedDocument
from governance.evidence.approvals import counted
from governance.evidence.bundle import EvidenceBundle
from governance.evidence.overtaken import Badness, Measured, Questions, bad_use, own_uses, risks_of, uses_of, worst_of
from governance.evidence.reasons import Reason, ReasonCode
from governance.evidence.records import are_same_claims, given_more
from governance.policy.rules import Policy
from privacy.risk.report import MEASURED

# Whatever is asked about a figure is one question: how bad it is. How bad it may be is said by what people saw. That it may be
# over a limit is another one, which answers the first, and not the other way round.
_ABOUT_A_FIGURE = frozenset({ReasonCode.RISEN, ReasonCode.INTERVAL, ReasonCode.OVERTAKEN, ReasonCode.LARGER_THAN_NEEDED})
_VALUE, _END = 0, 1  # of a figure's badness: as it was measured, and the end of its interval on the worse side


def is_no_worse(
    bundle: EvidenceBundle,
    approved: EvidenceBundle,
    *,
    asks: Iterable[Reason],
    asked: Iterable[Reason],
    questions: Questions | None,
) -> bool:
    """Returns whether people who approved one bundle have seen all that a later one of the same version asks them.

    Every figure must be one that they saw, and lie within the interval that they saw: two measurements differ by chance. So do
    the ends of their intervals; one that lies further off than the figure can have moved is something that they have not seen.

    Args:
        bundle: the later one.
        approved: what they approved.
        asks: the reasons for which the later one needs people.
        asked: the reasons for which the one that they approved would need them now.
        questions: of the gate; None where nobody but the issuer names figures, so that all of them count.
    """
    same = (bundle.ref, bundle.issuer, bundle.parameters, bundle.architecture)
    if same != (approved.ref, approved.issuer, approved.parameters, approved.architecture):
        return False
    if not are_same_claims(approved.trainings, bundle.trainings) or list(given_more(approved.trainings, bundle.trainings)):
        return False
    if bundle.previous not in (approved.digest, approved.previous):
        return False
    known = tuple(asked)
    told_them = {_question(reason) for reason in known} | {(reason.code, reason.about) for reason in known}
    if not {each for reason in asks for each in _answers(reason)} <= told_them:
        return False
    return not goes_beyond(shown_by(bundle, questions), shown_by(approved, questions))


def shown_by(bundle: EvidenceBundle, questions: Questions | None) -> Measured:
    """Returns how bad each figure is that a bundle shows people, at the worst.

    Args:
        bundle: its reports count, and those that it carries on.
        questions: of the gate; None where nobody but the issuer names figures, so that all of them count.
    """
    worst = worst_of(_all_of(bundle))
    return worst if questions is None else {key: bad for key, bad in worst.items() if counts(*key, questions)}


def counts(owner: str, name: str, questions: Questions) -> bool:
    """Returns whether people are to see a figure before it may be worse; `owner` is empty for one of utility."""
    return not owner or name in MEASURED or questions.are_about(owner, name)


def goes_beyond(told: Measured, saw: Measured) -> bool:
    """Returns whether a figure was not seen, or is not within the interval that was seen, as far as chance goes."""
    return any(key not in saw or not _is_within(bad, saw[key]) for key, bad in told.items())


def who_approved(
    signed: Iterable[SignedDocument],
    bundle: EvidenceBundle,
    earlier: Iterable[EvidenceBundle],
    *,
    party: str,
    policy: Policy,
    among: frozenset[str],
    now: datetime,
    max_age_days: int,
) -> tuple[frozenset[str], frozenset[str]]:
    """Returns who has approved a bundle itself, and who that or one of these earlier ones.

    Args:
        signed: authorisations of all kinds.
        bundle: that is judged.
        earlier: those than which it is no worse.
        party: the party that is to release.
        policy: its policy, whose people count.
        among: ids of those who may.
        now: the time, UTC.
        max_age_days: an approval of an earlier bundle counts as long as an assessment does.
    """
    documents = tuple(signed)
    own = counted(documents, bundle.digest, party=party, policy=policy, among=among)
    # What a clock that was ahead has dated later does not count the longer for it.
    between, both = (now - timedelta(days=max_age_days), now), own
    for before in earlier:
        both |= counted(documents, before.digest, party=party, policy=policy, among=among, between=between)
    return own, both


def _is_within(bad: Badness, saw: Badness) -> bool:
    """Whether a figure is within the interval that people saw, and its end no further beyond than the figure can have moved."""
    return bad[_VALUE] <= saw[_END] and bad[_END] <= saw[_END] + (saw[_END] - saw[_VALUE])


def _answers(reason: Reason) -> tuple[tuple[ReasonCode, str], ...]:
    """Which questions people must have been asked, for a reason to be none to them any more."""
    if reason.code is ReasonCode.INTERVAL:
        return (reason.code, reason.about), _question(reason)
    return (_question(reason),)


def _question(reason: Reason) -> tuple[ReasonCode, str]:
    return (ReasonCode.RISEN if reason.code in _ABOUT_A_FIGURE else reason.code), reason.about


def _all_of(bundle: EvidenceBundle) -> Iterator[Measured]:
    for signed in (*bundle.risk_reports, *bundle.overtaken.risk_reports):
        yield risks_of(signed)
    for signed in (*bundle.utility, *bundle.overtaken.utility):
        yield uses_of(signed)
    for figures in own_uses(bundle):
        yield {("", name): bad_use(name, figure) for name, figure in figures.items()}
