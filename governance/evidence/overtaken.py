"""What was found about a version, is no longer in the last bundle, and nobody has decided on.

Two measurements of one model differ by chance. Whoever measures until a figure pleases would have every question forgotten that
an earlier figure asked; so a bundle carries on the reports that it, or a bundle before it, has replaced, until people decide.
Kept are those with the worst of a figure, by its value or an end of its interval: no reason of the gate looks at anything else.
A figure counts if the gate has a question about it: whoever states others, under ever new names, fills no bundle by that.

So would whoever trains until a figure pleases, if every model began anew. A bundle about an own model carries on what a policy
limits of what was found about any other own model of the same rows, until people have decided on that in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from governance.documents import SignedDocument
from governance.evidence.assessed import latest_reports
from governance.policy.release import RISK_FIGURES, ReleaseTerms, is_gap
from governance.risk_report import StatedRisk, read_risk_report
from governance.utility_report import read_stated_utility
from privacy.figures import Figure, Figures
from privacy.risk.report import FALSE_ALARMS

if TYPE_CHECKING:
    from governance.evidence.bundle import EvidenceBundle

Badness = tuple[float, float, float]
Measured = dict[tuple[str, str], Badness]  # by whose figure of which name
T = TypeVar("T")


@dataclass(frozen=True)
class Overtaken:
    """Reports that a bundle carries on.

    Attributes:
        risk_reports: as their owners signed them.
        utility: as their queriers signed them.
    """

    risk_reports: tuple[SignedDocument, ...]
    utility: tuple[SignedDocument, ...]


NOTHING = Overtaken((), ())
_EXCESS = "capacity.excess"


@dataclass(frozen=True)
class Questions:
    """Which figures of risk the gate asks about: those that a policy limits, and those that people have decided on.

    Attributes:
        limited: names that some class of the policy limits.
        decided: by owner, what stood in the bundles that a new one is compared with.
    """

    limited: frozenset[str]
    decided: frozenset[tuple[str, str]]

    def are_about(self, owner: str, name: str) -> bool:
        """Returns whether the gate would ask about a figure of an owner by its name."""
        return name in self.limited or name == _EXCESS or (owner, name) in self.decided

    def answered_by(self, signed: SignedDocument) -> Measured:
        """Returns how bad a report's figures are, as far as the gate asks; of attacks by other names, what a ceiling is for."""
        return self.answered_in(read_risk_report(signed.document))

    def answered_in(self, stated: StatedRisk) -> Measured:
        """Returns what `answered_by` does, of a report that was read."""
        found: Measured = {}
        for (owner, name), bad in risks_in(stated).items():
            end = name.rpartition(".")[2]
            if self.are_about(owner, name):
                found[owner, name] = bad
            elif name.startswith("membership.") and end in FALSE_ALARMS:
                key, low = (owner, f"membership.*.{end}"), bad[2]
                found[key] = max(found.get(key, (low, low, low)), (low, low, low))
        return found


def questions_of(terms: ReleaseTerms | None, decided: Iterable[EvidenceBundle]) -> Questions:
    """Returns what the gate asks about.

    Args:
        terms: of the policy; every class counts, since rows may come to be of another one.
        decided: the bundles that a new one is compared with.
    """
    limited = () if terms is None else (name for each in terms.classes.values() for name in each.max_figures)
    stated = (each for bundle in decided for each in (*bundle.assessed, *bundle.overtaken_risks))
    return Questions(frozenset(limited), frozenset((each.owner, name) for each in stated for name in each.figures))


def overtaken_of(
    bundle: EvidenceBundle,
    *,
    last: EvidenceBundle | None,
    told: Iterable[SignedDocument],
    decided: EvidenceBundle | None,
    questions: Questions | None,
) -> Overtaken:
    """Returns what a new bundle must carry on.

    Args:
        bundle: the new one, with its own reports.
        last: the issuer's last bundle about the version; None if there is none.
        told: the owners' risk reports that the issuer knows, verified ones.
        decided: the last bundle about the version on which people have decided; None if they never did.
        questions: of the gate about risks; None where nobody but the issuer names figures, so that all of them count.
    """
    # A report beside a later one of its own bundle that replaces it is judged by nothing else.
    standing = latest_reports(bundle)
    both = list(zip(bundle.risk_reports, bundle.assessed, strict=True))
    current = [signed for signed, stated in both if any(stated is each for each in standing)]
    risks = [*told, *bundle.risk_reports]
    risks += [] if last is None else [*last.overtaken.risk_reports, *last.risk_reports]
    uses = [] if last is None else [*last.overtaken.utility, *last.utility]
    answered = NOTHING
    if decided is not None:
        answered = Overtaken(
            (*decided.risk_reports, *decided.overtaken.risk_reports), (*decided.utility, *decided.overtaken.utility)
        )
    about = [signed for signed in risks if bundle.is_about(read_risk_report(signed.document).ref)]
    return Overtaken(
        risk_reports=_worst(about, (*current, *answered.risk_reports), risks_of if questions is None else questions.answered_by),
        utility=_worst(
            [signed for signed in uses if read_stated_utility(signed.document).report.model == bundle.ref.label],
            (*bundle.utility, *answered.utility),
            uses_of,
        ),
    )


def of_other_models(
    bundle: EvidenceBundle, *, others: Iterable[EvidenceBundle], decided: Iterable[EvidenceBundle], limited: Collection[str]
) -> Overtaken:
    """Returns what a bundle about an own model must carry on of itself and of other own models.

    Args:
        bundle: with what it carries on of itself.
        others: the last bundle of each other own model of the same rows.
        decided: the last bundle on which people have decided, of each own model of the same rows.
        limited: names of figures that some class of the policy limits: what else a model is attacked for is its own matter.
    """

    def measured(signed: SignedDocument) -> Measured:
        return {key: bad for key, bad in risks_of(signed).items() if key[1] in limited}

    found = [signed for other in others for signed in (*other.risk_reports, *other.overtaken.risk_reports)]
    found = [signed for signed in found if not bundle.is_about(read_risk_report(signed.document).ref)]
    known = [signed for each in (bundle, *decided) for signed in (*each.risk_reports, *each.overtaken.risk_reports)]
    carried = {signed.body: signed for signed in (*bundle.overtaken.risk_reports, *_worst(found, known, measured))}
    return Overtaken(tuple(carried[body] for body in sorted(carried)), bundle.overtaken.utility)


def risks_of(signed: SignedDocument) -> Measured:
    """Returns how bad each figure of risk in a report is; larger is worse in every place."""
    return risks_in(read_risk_report(signed.document))


def risks_in(stated: StatedRisk) -> Measured:
    """Returns how bad each figure of risk is that a report states; larger is worse in every place."""
    return {
        (stated.owner, name): (figure.value, figure.high, figure.low)
        for name, figure in stated.figures.items()
        if name.startswith(RISK_FIGURES)
    }


def uses_of(signed: SignedDocument) -> Measured:
    """Returns how bad each figure in a report on utility is; larger is worse in every place."""
    return {("", name): bad_use(name, figure) for name, figure in read_stated_utility(signed.document).report.figures.items()}


def worst_of(found: Iterable[Measured]) -> Measured:
    """Returns the worst of each figure, in each place by itself."""
    worst: Measured = {}
    for measured in found:
        for key, bad in measured.items():
            old = worst.get(key, bad)
            worst[key] = (max(old[0], bad[0]), max(old[1], bad[1]), max(old[2], bad[2]))
    return worst


def own_uses(bundle: EvidenceBundle | None) -> tuple[Figures, ...]:
    """Returns what a bundle about an own model has, and carries on, of its usefulness; nothing of other bundles."""
    return () if bundle is None or bundle.own is None else (bundle.own.usefulness, bundle.own.overtaken)


def worse_uses(has: Figures, *, had: Iterable[Figures], decided: Iterable[Figures]) -> Figures:
    """Returns what a bundle about an own model must carry on of what its owner has measured of its usefulness before.

    Args:
        has: what the new bundle has.
        had: what the issuer's last bundle about the model had and carried on.
        decided: likewise of the last bundle about it on which people have decided.
    """
    known = worst_uses([has, *decided])
    return {
        name: figure
        for name, figure in worst_uses(had).items()
        if name not in known or any(new > old for new, old in zip(bad_use(name, figure), bad_use(name, known[name]), strict=True))
    }


def worst_uses(found: Iterable[Figures]) -> dict[str, Figure]:
    """Returns of each figure of utility the worst value and the worst ends of its interval."""
    worst: dict[str, Figure] = {}
    for figures in found:
        for name, figure in figures.items():
            old, worse = worst.get(name, figure), max if is_gap(name) else min
            worst[name] = Figure(worse(old.value, figure.value), worse(old.low, figure.low), worse(old.high, figure.high))
    return worst


def bad_use(name: str, figure: Figure) -> Badness:
    """Returns how bad a figure of utility is: of a gap more is worse, of anything else less."""
    if is_gap(name):
        return figure.value, figure.high, figure.low
    return -figure.value, -figure.low, -figure.high


def _worst(
    found: Iterable[SignedDocument], known: Iterable[SignedDocument], measured: Callable[[SignedDocument], Measured]
) -> tuple[SignedDocument, ...]:
    """Of the reports found, one for each figure whose value, or an end of its interval, is worse than in those known."""
    worst: dict[tuple[tuple[str, str], int], float] = {}
    holders: dict[tuple[tuple[str, str], int], SignedDocument] = {}
    for signed in known:
        for place, bad in _places(measured(signed)):
            worst[place] = max(bad, worst.get(place, bad))
    # By their bytes, so that the same reports in any order are carried on alike.
    for signed in sorted(found, key=lambda each: each.body):
        for place, bad in _places(measured(signed)):
            if place not in worst or bad > worst[place]:
                worst[place], holders[place] = bad, signed
    kept = {signed.body: signed for signed in holders.values()}
    return tuple(kept[body] for body in sorted(kept))


def _places(measured: Measured) -> Iterator[tuple[tuple[tuple[str, str], int], float]]:
    return (((key, place), bad) for key, triple in measured.items() for place, bad in enumerate(triple))


def gone_from(had: Iterable[T], has: Iterable[T]) -> Iterator[T]:
    """Yields what was there and is not, each once, in its order."""
    left = set(has)
    return (each for each in dict.fromkeys(had) if each not in left)
