"""The gate on evidence: whether a model version may be released, with every reason.

Three answers. Blocked: something is over a limit, missing, old, forged, or about something else; nobody can approve that away.
Needs an officer: nothing is over a limit, but people must approve, by the class of the rows, or because the risk has risen since
the last release, the model has grown or is larger than needed, or an interval reaches over a limit. Pass: nothing is against it,
and whoever had to approve has.

Pure: the documents, the policy, the approvals and the time are arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from governance.documents import SignedDocument
from governance.evidence.approvals import approvers_of
from governance.evidence.approved import is_no_worse, who_approved
from governance.evidence.assessed import latest_reports as latest_reports
from governance.evidence.assessed import needed_of
from governance.evidence.audited import above_the_claim, missing_audits, not_believed
from governance.evidence.bundle import EvidenceBundle, verify_evidence, with_changes
from governance.evidence.facts import TrainingEvidence
from governance.evidence.overtaken import questions_of
from governance.evidence.own import asked_classes, is_unassessed
from governance.evidence.reasons import Reason as Reason
from governance.evidence.reasons import ReasonCode as ReasonCode
from governance.evidence.reasons import Verdict as Verdict
from governance.evidence.reasons import blocked as _blocked
from governance.evidence.reasons import officer as _officer
from governance.evidence.records import are_same_claims, given_more
from governance.evidence.risen import overtaken_ceilings, overtaken_limits, worse_than_decided
from governance.identity.directory import Directory
from governance.policy.release import RISK_FIGURES, Quorum, ReleaseClass, ReleaseTerms, is_protected
from governance.policy.rules import Policy
from governance.risk_report import verify_risk_report
from governance.utility_report import verify_utility_report
from privacy.figures import Figure
from protocols.errors import ConfideError
from protocols.job import ModelRef

# Clocks of honest parties may differ by this much; a report from further ahead is not believed.
CLOCK_SKEW = timedelta(minutes=5)
PASSED = "passed"  # of a noise test


@dataclass(frozen=True)
class Decision:
    """What the gate says about a model version.

    Attributes:
        ref: the version; None if the bundle could not be read.
        bundle: digest of the bundle's canonical bytes; empty if it could not be read.
        verdict: in a word.
        reasons: all of them, those that block first; of a pass, what people have approved.
        classes: the sensitivity classes of the rows.
        by_people: of a pass, whether it took people, and one of them has approved this very bundle.
    """

    ref: ModelRef | None
    bundle: str
    verdict: Verdict
    reasons: tuple[Reason, ...]
    classes: tuple[str, ...] = ()
    by_people: bool = False


@dataclass(frozen=True)
class Asked:
    """What a bundle is judged against.

    Attributes:
        directory: whose keys are believed.
        policy: the party's.
        party: whose policy it is, and whose people approve.
        previous: the bundle under which people of the party last released a version of the model; None if it has released none.
            One that was only made does not count, nor one that passed by itself: step by step, a rise would be none any more.
        approvals: authorisations of people.
        now: the time, UTC.
        expected: the version that is to be released; None: whatever the bundle is about.
        records: of the trainings, as the party derives them now from its own records; None where there are none.
        earlier: bundles of the party about the version, made before this one, that somebody has approved.
    """

    directory: Directory
    policy: Policy
    party: str
    previous: EvidenceBundle | None
    approvals: Sequence[SignedDocument]
    now: datetime
    expected: ModelRef | None = None
    records: tuple[TrainingEvidence, ...] | None = None
    earlier: tuple[EvidenceBundle, ...] = ()


def decide_release(signed: SignedDocument, asked: Asked) -> Decision:
    """Judges a bundle; every reason is told at once."""
    try:
        bundle = verify_evidence(signed, asked.directory)
    except ConfideError as error:
        return _decision(None, "", [_blocked(ReasonCode.NOT_BELIEVED, f"the bundle is not believed: {error.what}")])
    terms = asked.policy.release
    if terms is None:
        what = f"{asked.party}'s policy has no block `release`, so nothing is released"
        return _decision(bundle.ref, bundle.digest, [_blocked(ReasonCode.NO_TERMS, what)])
    names = asked_classes(bundle, terms)
    reasons = [*_about_the_bundle(bundle, asked), *_reports(bundle, asked)]
    reasons += _of_figures(bundle, terms, names, before=asked.previous, now=asked.now)
    reasons = list(dict.fromkeys(reasons))
    if not any(reason.verdict is Verdict.BLOCKED for reason in reasons):
        missing, by_people = _approvals(bundle, terms, names, asked, reasons)
        if not missing:
            return Decision(bundle.ref, bundle.digest, Verdict.PASS, tuple(reasons), names, by_people=by_people)
        reasons += dict.fromkeys(missing)
    return _decision(bundle.ref, bundle.digest, reasons, names)


def _of_figures(
    bundle: EvidenceBundle, terms: ReleaseTerms, names: Sequence[str], *, before: EvidenceBundle | None, now: datetime
) -> list[Reason]:
    """What was measured, against the limits of the classes and against what people decided on last."""
    reasons = [*_above_ceiling(bundle)]
    for name in names:
        reasons += _class_reasons(bundle, terms.classes[name], name, now)
        reasons += overtaken_limits(bundle, terms.classes[name], name)
    return [*reasons, *worse_than_decided(bundle, before)]


def _decision(ref: ModelRef | None, digest: str, reasons: Sequence[Reason], names: tuple[str, ...] = ()) -> Decision:
    ordered = sorted(reasons, key=lambda reason: reason.verdict is not Verdict.BLOCKED)
    return Decision(ref, digest, ordered[0].verdict, tuple(ordered), names)


def _about_the_bundle(bundle: EvidenceBundle, asked: Asked) -> Iterator[Reason]:
    if asked.expected is not None and bundle.ref != asked.expected:
        yield _blocked(ReasonCode.OTHER_MODEL, f"the bundle is about {bundle.ref.label}, not about {asked.expected.label}")
    if bundle.time > asked.now + CLOCK_SKEW:
        yield _blocked(ReasonCode.FROM_THE_FUTURE, f"the bundle was made at {bundle.time:%Y-%m-%d %H:%M:%S} UTC")
    before = asked.previous
    last = None if before is None else before.digest
    if bundle.previous != last:
        follows, released = (each[:12] if each is not None else "none" for each in (bundle.previous, last))
        what = f"the bundle follows {follows}; the last release here was under {released}"
        yield _blocked(ReasonCode.CHANGES_NOT_TOLD, what)
    elif tuple(bundle.changes) != with_changes(bundle, before):
        yield _blocked(ReasonCode.CHANGES_NOT_TOLD, "what it says has changed since the last release is not what has changed")
    yield from _records(bundle, asked)
    yield from _protection(bundle)


def _records(bundle: EvidenceBundle, asked: Asked) -> Iterator[Reason]:
    if asked.records is None:
        return
    if not are_same_claims(bundle.trainings, asked.records):
        what = f"what the bundle says of the trainings is not what {asked.party}'s records say now"
        yield _blocked(ReasonCode.FACTS_DIFFER, what)
        return
    yield from above_the_claim(asked.records)  # told since the bundle was made
    for what in given_more(bundle.trainings, asked.records):
        yield _blocked(ReasonCode.ACCOUNTED_MORE, what)


def _protection(bundle: EvidenceBundle) -> Iterator[Reason]:
    """What must hold of every private training, whatever the class."""
    for training in bundle.trainings:
        short, guarantee, test = training.job[:12], training.guarantee, training.noise_test
        if guarantee is None:
            continue
        if test is None:
            what = f"training {short} claims epsilon {guarantee.epsilon}, and no test of its noise is in the log"
            yield _blocked(ReasonCode.NO_NOISE_TEST, what)
        elif test.result != PASSED:
            yield _blocked(ReasonCode.NOISE_FAILED, f"training {short}: the test of its noise says {test.result}")
    yield from above_the_claim(bundle.trainings)


def _reports(bundle: EvidenceBundle, asked: Asked) -> Iterator[Reason]:
    """Whether the reports are what their owners signed, about this version, and from every owner."""
    yield from not_believed(bundle.trainings, asked.directory)
    for document, report in zip(bundle.risk_reports, bundle.assessed, strict=True):
        try:
            verify_risk_report(document, asked.directory)
        except ConfideError as error:
            yield _blocked(ReasonCode.NOT_BELIEVED, f"the risk report of {report.owner}: {error.what}")
        if report.ref != bundle.ref:
            what = f"{report.owner}'s risk report is about {report.ref.label}, not about {bundle.ref.label}"
            yield _blocked(ReasonCode.OTHER_VERSION, what)
        if report.made > asked.now + CLOCK_SKEW:
            what = f"{report.owner}'s risk report is of {report.made:%Y-%m-%d %H:%M:%S} UTC"
            yield _blocked(ReasonCode.FROM_THE_FUTURE, what)
    about = {name for report in latest_reports(bundle) for name in report.datasets if name.startswith(f"{report.owner}/")}
    for name in () if is_unassessed(bundle) else sorted(set(bundle.datasets) - about):
        owner = name.partition("/")[0]
        yield _blocked(ReasonCode.NO_REPORT, f"{owner} has not assessed this version with its rows of {name}")
    for document, stated in zip(bundle.utility, bundle.evaluated, strict=True):
        measured = stated.report
        try:
            verify_utility_report(document, asked.directory)
        except ConfideError as error:
            what = f"the report of {stated.querier} on evaluation {measured.job[:12]}: {error.what}"
            yield _blocked(ReasonCode.NOT_BELIEVED, what)
        if measured.model != bundle.ref.label:
            what = f"evaluation {measured.job[:12]} is of {measured.model}, not of {bundle.ref.label}"
            yield _blocked(ReasonCode.OTHER_VERSION, what)


def _above_ceiling(bundle: EvidenceBundle) -> Iterator[Reason]:
    """An attack that surely finds more than the guarantee allows shows that the guarantee does not hold.

    Rows are what an attack is about: the ceiling is one for them only if a single training touched them.
    """
    if bundle.guarantees is None or len(bundle.guarantees) > 1:
        return
    (guarantee,) = bundle.guarantees
    ceilings = {name: getattr(guarantee, name) for name in ("tpr_at_1_percent", "tpr_at_0_1_percent")}
    for report in latest_reports(bundle):
        for name, figure in report.report.figures.items():
            ceiling = ceilings.get(name.rpartition(".")[2]) if name.startswith("membership.") else None
            if ceiling is not None and figure.low > float(ceiling):
                what = f"{report.owner}: {name} is {figure.low:.4f} or more; the guarantee allows at most {ceiling}"
                yield _blocked(ReasonCode.ATTACK_ABOVE_CEILING, what)
    yield from overtaken_ceilings(bundle, {name: Decimal(ceiling) for name, ceiling in ceilings.items()})


def _class_reasons(bundle: EvidenceBundle, asked: ReleaseClass, name: str, now: datetime) -> Iterator[Reason]:
    yield from _guarantee(bundle, asked, name)
    yield from missing_audits(bundle.trainings, asked, name)
    if is_unassessed(bundle):
        age = now - bundle.time
        if age > timedelta(days=asked.max_age_days):
            what = f"the bundle, which has no figures, is {age.days} days old; class {name} takes {asked.max_age_days}"
            yield _blocked(ReasonCode.STALE, what)
        what = f"{bundle.issuer} has not attacked this model with the rows behind it; class {name} asks for figures"
        yield Reason(ReasonCode.NO_REPORT, Verdict.BLOCKED if asked.unassessed_own is None else Verdict.NEEDS_OFFICER, what)
        return
    yield from _needed(bundle, asked, name, now)
    if asked.requires_utility and not asked.min_figures and bundle.own is None and not bundle.utility:
        what = f"nobody who evaluated the version has said how useful it is, and class {name} asks for it"
        yield _blocked(ReasonCode.NOT_MEASURED, what)
    for figure, limit in asked.max_figures.items():
        measured: list[tuple[str, str, Figure | None]] = [
            (report.owner, report.owner, report.figures[figure]) for report in latest_reports(bundle) if figure in report.figures
        ]
        if not figure.startswith(RISK_FIGURES):
            measured = _measured(bundle, figure)
        yield from _each(measured, figure, name, _over, limit)
    for figure, limit in asked.min_figures.items():
        yield from _each(_measured(bundle, figure), figure, name, _under, limit)


def _needed(bundle: EvidenceBundle, asked: ReleaseClass, name: str, now: datetime) -> Iterator[Reason]:
    """Of each figure that the class limits, its last measurement must be recent, and by enough shadow models."""
    for needed in needed_of(bundle, asked):
        report = needed.report
        if report is None:
            what = f"{needed.owner}: {needed.figure} was not measured, and class {name} asks for it"
            yield _blocked(ReasonCode.NOT_MEASURED, what)
            continue
        age = now - report.made
        if age > timedelta(days=asked.max_age_days):
            what = f"{report.owner}'s risk report is {age.days} days old; class {name} takes {asked.max_age_days}"
            yield _blocked(ReasonCode.STALE, what)
        if needed.is_of_shadows and report.report.shadows < asked.shadows_asked:
            what = f"{report.owner}'s risk report is of an attack with {report.report.shadows} shadow models; class {name} takes"
            yield _blocked(ReasonCode.FEW_SHADOWS, f"{what} {asked.shadows_asked} or more")


def _guarantee(bundle: EvidenceBundle, asked: ReleaseClass, name: str) -> Iterator[Reason]:
    if bundle.spent is None or bundle.unit is None:
        if asked.requires_guarantee:
            plain = [training.job[:12] for training in bundle.trainings if training.guarantee is None]
            lacking = f"training {', '.join(plain)}" if plain else "a model that was trained outside"
            what = f"class {name} asks for differential privacy; {lacking} has no formal guarantee"
            yield _blocked(ReasonCode.NO_GUARANTEE, what)
        return
    epsilon, delta = bundle.spent
    if asked.max_epsilon is not None and epsilon > asked.max_epsilon:
        yield _blocked(ReasonCode.EPSILON, f"epsilon is {epsilon:f}; class {name} takes {asked.max_epsilon:f}")
    if asked.max_delta is not None and delta > asked.max_delta:
        yield _blocked(ReasonCode.DELTA, f"delta is {delta:f}; class {name} takes {asked.max_delta:f}")
    if not is_protected(bundle.unit, asked.unit):
        what = f"a {bundle.unit.value} is protected; class {name} asks for {asked.unit.value}"
        yield _blocked(ReasonCode.UNIT, what)


def _measured(bundle: EvidenceBundle, figure: str) -> list[tuple[str, str, Figure | None]]:
    reports = [stated.report for stated in bundle.evaluated]
    found: list[tuple[str, str, Figure | None]] = [
        ("", f"evaluation {report.job[:12]}", report.figures[figure]) for report in reports if figure in report.figures
    ]
    if bundle.own is not None and figure in bundle.own.usefulness:
        found.append(("", f"{bundle.issuer}'s rows", bundle.own.usefulness[figure]))
    return found or [("", "usefulness", None)]


def _each(
    measured: Iterable[tuple[str, str, Figure | None]],
    name: str,
    of_class: str,
    judge: Callable[[Figure, Decimal], tuple[ReasonCode, Verdict, str] | None],
    limit: Decimal,
) -> Iterator[Reason]:
    for owner, who, figure in measured:
        if figure is None:
            yield _blocked(ReasonCode.NOT_MEASURED, f"{who}: {name} was not measured, and class {of_class} asks for it")
        elif (found := judge(figure, limit)) is not None:
            code, verdict, words = found
            yield Reason(code, verdict, f"{who}: {name} {words} (class {of_class})", f"{owner} {name}")


def _over(found: Figure, limit: Decimal) -> tuple[ReasonCode, Verdict, str] | None:
    if found.value > limit:
        return ReasonCode.FIGURE, Verdict.BLOCKED, f"is {found.value:.4f}, over {limit:f}"
    if found.high > limit:
        return ReasonCode.INTERVAL, Verdict.NEEDS_OFFICER, f"may be {found.high:.4f}, over {limit:f}"
    return None


def _under(found: Figure, limit: Decimal) -> tuple[ReasonCode, Verdict, str] | None:
    if found.value < limit:
        return ReasonCode.USEFULNESS, Verdict.BLOCKED, f"is {found.value:.4f}, under {limit:f}"
    if found.low < limit:
        return ReasonCode.INTERVAL, Verdict.NEEDS_OFFICER, f"may be {found.low:.4f}, under {limit:f}"
    return None


def _approvals(
    bundle: EvidenceBundle, terms: ReleaseTerms, names: Sequence[str], asked: Asked, reasons: Sequence[Reason]
) -> tuple[list[Reason], bool]:
    """Whose approval is missing, and whether somebody has approved this very bundle for everything that takes people."""
    raised = any(reason.code is not ReasonCode.NO_REPORT for reason in reasons)
    good = [each for each in asked.earlier if _is_good_for(bundle, each, terms, names, asked, reasons)]
    missing: list[Reason] = []
    approved_itself: list[bool] = []
    for name in names:
        of = terms.classes[name]
        wanted: list[Quorum] = [quorum for quorum in (of.approvals,) if quorum is not None]
        if raised:
            if of.more_approvals is None:
                missing.append(_blocked(ReasonCode.APPROVALS, f"class {name} names nobody who may approve a risk that has risen"))
                continue
            wanted.append(of.more_approvals)
        if is_unassessed(bundle) and of.unassessed_own is not None:
            wanted.append(of.unassessed_own)
        for quorum in wanted:
            able = approvers_of(asked.policy, quorum)
            own, have = who_approved(
                asked.approvals,
                bundle,
                good,
                party=asked.party,
                policy=asked.policy,
                among=able,
                now=asked.now,
                max_age_days=of.max_age_days,
            )
            approved_itself.append(bool(own))
            if len(have) < quorum.needed:
                what = (
                    f"{quorum.needed - len(have)} more of {len(able)} people must approve ({', '.join(quorum.of)}; class {name})"
                )
                missing.append(_officer(ReasonCode.APPROVALS, what))
    return missing, bool(approved_itself) and all(approved_itself)


def _is_good_for(
    bundle: EvidenceBundle,
    earlier: EvidenceBundle,
    terms: ReleaseTerms,
    names: Sequence[str],
    asked: Asked,
    reasons: Sequence[Reason],
) -> bool:
    # Where the later bundle follows the earlier one, what the earlier one followed says nothing of the later one.
    before = asked.previous if earlier.previous == bundle.previous else None
    then = _of_figures(earlier, terms, names, before=before, now=asked.now)
    officers = [reason for reason in then if reason.verdict is Verdict.NEEDS_OFFICER]
    questions = None if bundle.own is not None else questions_of(terms, () if asked.previous is None else (asked.previous,))
    return is_no_worse(bundle, earlier, asks=reasons, asked=officers, questions=questions)
