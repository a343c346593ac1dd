"""What makes people look again although every limit is kept: what is worse than at the last decision, or has vanished."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from governance.evidence.assessed import latest_reports
from governance.evidence.bundle import EvidenceBundle
from governance.evidence.overtaken import gone_from
from governance.evidence.reasons import Reason, ReasonCode, officer
from governance.policy.release import ATTACKS, RISK_FIGURES, ReleaseClass, is_protected
from governance.risk_report import StatedRisk
from privacy.figures import Figure


def worse_than_decided(bundle: EvidenceBundle, before: EvidenceBundle | None) -> Iterator[Reason]:
    """Yields what has become worse, larger or invisible since people last decided.

    Args:
        bundle: what is judged.
        before: the bundle under which people last released a version of the model; None if they have released none.
    """
    for report in latest_reports(bundle):
        if _is_larger_than_needed(report):
            yield _larger(report, ReasonCode.LARGER_THAN_NEEDED)
    for report in _of_itself(bundle):
        if _is_larger_than_needed(report):
            yield _larger(report, ReasonCode.OVERTAKEN)
    yield from _risen(bundle, before)
    yield from _gone(bundle, before)
    if before is None:
        return
    yield from _less_protected(bundle, before)
    if bundle.parameters > before.parameters:
        yield officer(ReasonCode.GROWN, f"the model has {bundle.parameters} parameters; the last one had {before.parameters}")


def overtaken_limits(bundle: EvidenceBundle, asked: ReleaseClass, name: str) -> Iterator[Reason]:
    """Yields limits of a class that a report no longer in use did not keep to, on which nobody has decided.

    Args:
        bundle: what is judged.
        asked: the class.
        name: of the class.
    """
    risks = [(_by_owner(report, of=bundle), report.figures) for report in bundle.overtaken_risks]
    uses = [(_By("", f"evaluation {stated.report.job[:12]}"), stated.report.figures) for stated in bundle.overtaken_uses]
    if bundle.own is not None:
        uses.append((_By("", f"{bundle.issuer}'s rows"), bundle.own.overtaken))
    for figure, limit in asked.max_figures.items():
        for by, figures in risks if figure.startswith(RISK_FIGURES) else uses:
            found = figures.get(figure)
            if found is not None and found.high > limit:
                yield _overtaken(by, figure, f"{found.value:.4f}, at most {found.high:.4f}; the limit is {limit:f}", name)
    for figure, limit in asked.min_figures.items():
        for by, figures in uses:
            found = figures.get(figure)
            if found is not None and found.low < limit:
                yield _overtaken(by, figure, f"{found.value:.4f}, at least {found.low:.4f}; the limit is {limit:f}", name)


def overtaken_ceilings(bundle: EvidenceBundle, ceilings: Mapping[str, Decimal]) -> Iterator[Reason]:
    """Yields attacks that surely found more than a guarantee allows, in reports no longer in use.

    Args:
        bundle: what is judged.
        ceilings: by the end of the figure's name.
    """
    for report in _of_itself(bundle):
        for name, figure in report.figures.items():
            ceiling = ceilings.get(name.rpartition(".")[2]) if name.startswith("membership.") else None
            if ceiling is not None and figure.low > ceiling:
                yield _overtaken(_by_owner(report), name, f"{figure.low:.4f} or more; the guarantee allows at most {ceiling}", "")


def _risen(bundle: EvidenceBundle, before: EvidenceBundle | None) -> Iterator[Reason]:
    known: dict[tuple[str, str], Figure] = {}
    for report in () if before is None else latest_reports(before):
        for name, figure in report.figures.items():
            # Of several, that with the lowest upper end: a rise over any of them is one.
            if (report.owner, name) not in known or figure.high < known[report.owner, name].high:
                known[report.owner, name] = figure
    told = [(report, ReasonCode.RISEN) for report in latest_reports(bundle)]
    told += [(report, ReasonCode.OVERTAKEN) for report in _of_itself(bundle)]
    for report, code in told:
        for name, figure in report.figures.items():
            old = known.get((report.owner, name))
            # Over the end of the last interval: two measurements of one model differ by chance.
            if old is None or not name.startswith(ATTACKS) or figure.value <= old.high:
                continue
            said = f"{figure.value:.4f}; it was {old.value:.4f}, at most {old.high:.4f}"
            if code is ReasonCode.RISEN:
                yield officer(code, f"{report.owner}: {name} is {said}", f"{report.owner} {name}")
            else:
                yield _overtaken(_by_owner(report), name, said, "")


def _gone(bundle: EvidenceBundle, before: EvidenceBundle | None) -> Iterator[Reason]:
    """A figure that nobody measures any more asks what it asked when it was last seen."""
    had = [] if before is None else [(report.owner, name) for report in latest_reports(before) for name in report.figures]
    had += [(report.owner, name) for report in _of_itself(bundle) for name in report.figures]
    has = [(report.owner, name) for report in latest_reports(bundle) for name in report.figures]
    for owner, name in gone_from(had, has):
        if name.startswith(RISK_FIGURES) and owner in bundle.owners:
            what = f"{owner}: {name} was measured before, and is not in the evidence any more"
            yield officer(ReasonCode.GONE, what, f"{owner} {name}")
    used = [] if before is None else _uses(before)
    used += [name for stated in bundle.overtaken_uses for name in stated.report.figures]
    used += [] if bundle.own is None else [*bundle.own.overtaken]
    for name in gone_from(used, _uses(bundle)):
        what = f"usefulness: {name} was measured before, and is not in the evidence any more"
        yield officer(ReasonCode.GONE, what, f" {name}")


def _less_protected(bundle: EvidenceBundle, before: EvidenceBundle) -> Iterator[Reason]:
    old, new = before.spent, bundle.spent
    if old is None:
        return
    if new is None:
        yield officer(ReasonCode.LESS_PROTECTED, "the last version had a formal guarantee, and this one has none")
    elif new[0] > old[0] or new[1] > old[1]:
        what = f"epsilon {new[0]:f} and delta {new[1]:f}; they were {old[0]:f} and {old[1]:f}"
        yield officer(ReasonCode.LESS_PROTECTED, what)
    elif before.unit is not None and bundle.unit is not None and not is_protected(bundle.unit, before.unit):
        what = f"a {bundle.unit.value} is protected; it was a {before.unit.value}"
        yield officer(ReasonCode.LESS_PROTECTED, what)


def _uses(bundle: EvidenceBundle) -> list[str]:
    own = [] if bundle.own is None else [*bundle.own.usefulness]
    return [*own, *(name for stated in bundle.evaluated for name in stated.report.figures)]


def _is_larger_than_needed(report: StatedRisk) -> bool:
    excess = report.figures.get("capacity.excess")
    return excess is not None and excess.low > 0


def _larger(report: StatedRisk, code: ReasonCode) -> Reason:
    excess = report.figures["capacity.excess"]
    if code is ReasonCode.OVERTAKEN:
        return _overtaken(_by_owner(report), "capacity.excess", f"{excess.value:.4f}: a smaller model does as well", "")
    what = f"{report.owner}: a smaller model does as well and is attacked less ({excess.value:.4f})"
    return officer(code, what, f"{report.owner} capacity.excess")


@dataclass(frozen=True)
class _By:
    """Whose figure it is, empty for one of utility, in words who found it, and of which other model of the same rows, if so."""

    owner: str
    who: str
    model: str = ""


def _of_itself(bundle: EvidenceBundle) -> list[StatedRisk]:
    """Of other models only what is over a limit is a question: that they differ is what they are for."""
    return [report for report in bundle.overtaken_risks if bundle.is_about(report.ref)]


def _by_owner(report: StatedRisk, *, of: EvidenceBundle | None = None) -> _By:
    other = "" if of is None or of.is_about(report.ref) else report.ref.label
    return _By(report.owner, f"{report.owner} at {report.made:%Y-%m-%d}", other)


def _overtaken(by: _By, figure: str, said: str, of_class: str) -> Reason:
    of, since = (f" of {by.model}", "that is another model of these rows") if by.model else ("", "it was measured again")
    what = f"{by.who}: {figure}{of} was {said}" + (f" (class {of_class})" if of_class else "")
    about = f"{by.owner} {figure}{of}"
    return officer(ReasonCode.OVERTAKEN, f"{what}; {since}, and nobody has decided on it", about)
