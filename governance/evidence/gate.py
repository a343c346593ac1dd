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
from enum import Enum

from governance.documents import SignedDocument
from governance.evidence.approvals import approvers_of, counted
from governance.evidence.bundle import EvidenceBundle, verify_evidence, with_changes
from governance.evidence.facts import TrainingEvidence
from governance.evidence.records import are_same_claims, given_more
from governance.identity.directory import Directory
from governance.policy.release import ATTACKS, RISK_FIGURES, Quorum, ReleaseClass, is_protected
from governance.policy.rules import Policy
from governance.risk_report import StatedRisk, verify_risk_report
from governance.utility_report import verify_utility_report
from privacy.figures import Figure
from protocols.errors import ConfideError
from protocols.job import ModelRef

# Clocks of honest parties may differ by this much; a report from further ahead is not believed.
CLOCK_SKEW = timedelta(minutes=5)
PASSED = "passed"  # of a noise test


class Verdict(Enum):
    """What the gate says."""

    PASS = "pass"  # noqa: S105 - no password
    NEEDS_OFFICER = "needs-officer"
    BLOCKED = "blocked"


class ReasonCode(Enum):
    """Why; the value stands in decisions and in the audit log, and is never reused for another meaning."""

    NO_TERMS = "no-release-terms"
    NOT_BELIEVED = "document-not-believed"
    OTHER_MODEL = "evidence-about-another-model"
    FACTS_DIFFER = "facts-differ-from-the-records"
    ACCOUNTED_MORE = "accountant-gives-more"
    FROM_THE_FUTURE = "made-in-the-future"
    CHANGES_NOT_TOLD = "changes-not-told"
    NO_GUARANTEE = "no-formal-guarantee"
    EPSILON = "epsilon-over-the-limit"
    DELTA = "delta-over-the-limit"
    UNIT = "protects-less-than-asked"
    NO_NOISE_TEST = "noise-test-missing"
    NOISE_FAILED = "noise-test-failed"
    AUDIT = "audit-above-the-claim"
    ATTACK_ABOVE_CEILING = "attack-above-the-claim"
    NO_REPORT = "owner-without-risk-report"
    OTHER_VERSION = "assessment-of-another-version"
    STALE = "assessment-too-old"
    FEW_SHADOWS = "too-few-shadows"
    NOT_MEASURED = "figure-missing"
    FIGURE = "figure-over-the-limit"
    USEFULNESS = "figure-under-the-limit"
    INTERVAL = "interval-over-the-limit"
    RISEN = "risk-has-risen"
    LESS_PROTECTED = "protection-has-fallen"
    GROWN = "capacity-has-grown"
    LARGER_THAN_NEEDED = "capacity-larger-than-needed"
    APPROVALS = "approvals-missing"


@dataclass(frozen=True)
class Reason:
    """One reason against a release as it stands.

    Attributes:
        code: which.
        verdict: BLOCKED, or NEEDS_OFFICER if people may decide.
        what: in words, with figures.
    """

    code: ReasonCode
    verdict: Verdict
    what: str


@dataclass(frozen=True)
class Decision:
    """What the gate says about a model version.

    Attributes:
        ref: the version; None if the bundle could not be read.
        bundle: digest of the bundle's canonical bytes; empty if it could not be read.
        verdict: in a word.
        reasons: all of them, those that block first; of a pass, what people have approved.
        classes: the sensitivity classes of the rows.
    """

    ref: ModelRef | None
    bundle: str
    verdict: Verdict
    reasons: tuple[Reason, ...]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What a bundle is judged against.

    Attributes:
        directory: whose keys are believed.
        policy: the party's.
        party: whose policy it is, and whose people approve.
        previous: the bundle under which the party last released a version of the model; None if it has released none. A bundle
            that was only made does not count: made twice, a rise would be none any more.
        approvals: authorisations of people.
        now: the time, UTC.
        expected: the version that is to be released; None: whatever the bundle is about.
        records: of the trainings, as the party derives them now from its own records; None where there are none.
    """

    directory: Directory
    policy: Policy
    party: str
    previous: EvidenceBundle | None
    approvals: Sequence[SignedDocument]
    now: datetime
    expected: ModelRef | None = None
    records: tuple[TrainingEvidence, ...] | None = None


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
    names = terms.classes_of(bundle.datasets)
    reasons = [*_about_the_bundle(bundle, asked), *_reports(bundle, asked)]
    for name in names:
        reasons += _class_reasons(bundle, terms.classes[name], name, asked.now)
    reasons += _risen(bundle, asked.previous)
    reasons = list(dict.fromkeys(reasons))
    if not any(reason.verdict is Verdict.BLOCKED for reason in reasons):
        raised = any(reason.verdict is Verdict.NEEDS_OFFICER for reason in reasons)
        missing = [why for name in names for why in _missing(bundle, terms.classes[name], name, asked, raised=raised)]
        if not missing:
            return Decision(bundle.ref, bundle.digest, Verdict.PASS, tuple(reasons), names)
        reasons += dict.fromkeys(missing)
    return _decision(bundle.ref, bundle.digest, reasons, names)


def _decision(ref: ModelRef | None, digest: str, reasons: Sequence[Reason], names: tuple[str, ...] = ()) -> Decision:
    ordered = sorted(reasons, key=lambda reason: reason.verdict is not Verdict.BLOCKED)
    return Decision(ref, digest, ordered[0].verdict, tuple(ordered), names)


def _about_the_bundle(bundle: EvidenceBundle, asked: Asked) -> Iterator[Reason]:
    if asked.expected is not None and bundle.ref != asked.expected:
        yield _blocked(ReasonCode.OTHER_MODEL, f"the bundle is about {bundle.ref.label}, not about {asked.expected.label}")
    if bundle.time > asked.now + CLOCK_SKEW:
        yield _blocked(ReasonCode.FROM_THE_FUTURE, f"the bundle was made at {bundle.time:%Y-%m-%d %H:%M:%S} UTC")
    before = asked.previous
    if (bundle.previous is None) != (before is None) or (before is not None and bundle.previous != before.digest):
        yield _blocked(ReasonCode.CHANGES_NOT_TOLD, "the bundle does not follow the one of the last release here")
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
        for audit in training.audits:
            if Decimal(audit.epsilon) > Decimal(guarantee.epsilon):
                what = (
                    f"training {short} claims epsilon {guarantee.epsilon}; {audit.party}'s canaries show at least {audit.epsilon}"
                )
                yield _blocked(ReasonCode.AUDIT, what)


def _reports(bundle: EvidenceBundle, asked: Asked) -> Iterator[Reason]:
    """Whether the reports are what their owners signed, about this version, and from every owner."""
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
    for name in sorted(set(bundle.datasets) - about):
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
    yield from _above_ceiling(bundle)


def latest_reports(bundle: EvidenceBundle) -> tuple[StatedRisk, ...]:
    """Returns the last report of each owner about each of its data sets, of those about the bundle's version."""
    latest: dict[tuple[str, tuple[str, ...]], StatedRisk] = {}
    for report in bundle.assessed:
        key = (report.owner, report.datasets)
        if report.ref == bundle.ref and (key not in latest or latest[key].made <= report.made):
            latest[key] = report
    return tuple(latest.values())


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


def _class_reasons(bundle: EvidenceBundle, asked: ReleaseClass, name: str, now: datetime) -> Iterator[Reason]:
    yield from _guarantee(bundle, asked, name)
    reports = latest_reports(bundle)
    for report in reports:
        age = now - report.made
        if age > timedelta(days=asked.max_age_days):
            what = f"{report.owner}'s risk report is {age.days} days old; class {name} takes {asked.max_age_days}"
            yield _blocked(ReasonCode.STALE, what)
        if report.report.shadows < asked.shadows_asked:
            what = f"{report.owner}'s risk report is of an attack with {report.report.shadows} shadow models; class {name} takes"
            yield _blocked(ReasonCode.FEW_SHADOWS, f"{what} {asked.shadows_asked} or more")
    for figure, limit in asked.max_figures.items():
        measured = [(report.owner, report.report.figures.get(figure)) for report in reports]
        if not figure.startswith(RISK_FIGURES):
            measured = _measured(bundle, figure)
        yield from _each(measured, figure, name, _over, limit)
    for figure, limit in asked.min_figures.items():
        yield from _each(_measured(bundle, figure), figure, name, _under, limit)


def _guarantee(bundle: EvidenceBundle, asked: ReleaseClass, name: str) -> Iterator[Reason]:
    if bundle.spent is None or bundle.unit is None:
        if asked.requires_guarantee:
            plain = [training.job[:12] for training in bundle.trainings if training.guarantee is None]
            what = f"class {name} asks for differential privacy; training {', '.join(plain)} has no formal guarantee"
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


def _measured(bundle: EvidenceBundle, figure: str) -> list[tuple[str, Figure | None]]:
    reports = [stated.report for stated in bundle.evaluated]
    found = [(f"evaluation {report.job[:12]}", report.figures[figure]) for report in reports if figure in report.figures]
    return [*found] or [("usefulness", None)]


def _each(
    measured: Iterable[tuple[str, Figure | None]],
    name: str,
    of_class: str,
    judge: Callable[[Figure, Decimal], tuple[ReasonCode, Verdict, str] | None],
    limit: Decimal,
) -> Iterator[Reason]:
    for who, figure in measured:
        if figure is None:
            yield _blocked(ReasonCode.NOT_MEASURED, f"{who}: {name} was not measured, and class {of_class} asks for it")
        elif (found := judge(figure, limit)) is not None:
            code, verdict, words = found
            yield Reason(code, verdict, f"{who}: {name} {words} (class {of_class})")


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


def _risen(bundle: EvidenceBundle, before: EvidenceBundle | None) -> Iterator[Reason]:
    """What makes people look again, although every limit is kept."""
    for report in latest_reports(bundle):
        excess = report.report.figures.get("capacity.excess")
        if excess is not None and excess.low > 0:
            what = f"{report.owner}: a smaller model does as well and is attacked less ({excess.value:.4f})"
            yield _officer(ReasonCode.LARGER_THAN_NEEDED, what)
    if before is None:
        return
    known = {(report.owner, name): figure for report in latest_reports(before) for name, figure in report.report.figures.items()}
    for report in latest_reports(bundle):
        for name, figure in report.report.figures.items():
            old = known.get((report.owner, name))
            # Over the end of the last interval: two measurements of one model differ by chance.
            if old is not None and name.startswith(ATTACKS) and figure.value > old.high:
                what = f"{report.owner}: {name} is {figure.value:.4f}; it was {old.value:.4f}, at most {old.high:.4f}"
                yield _officer(ReasonCode.RISEN, what)
    yield from _less_protected(bundle, before)
    if bundle.parameters > before.parameters:
        yield _officer(ReasonCode.GROWN, f"the model has {bundle.parameters} parameters; the last one had {before.parameters}")


def _less_protected(bundle: EvidenceBundle, before: EvidenceBundle) -> Iterator[Reason]:
    old, new = before.spent, bundle.spent
    if old is None:
        return
    if new is None:
        yield _officer(ReasonCode.LESS_PROTECTED, "the last version had a formal guarantee, and this one has none")
    elif new[0] > old[0] or new[1] > old[1]:
        what = f"epsilon {new[0]:f} and delta {new[1]:f}; they were {old[0]:f} and {old[1]:f}"
        yield _officer(ReasonCode.LESS_PROTECTED, what)
    elif before.unit is not None and bundle.unit is not None and not is_protected(bundle.unit, before.unit):
        what = f"a {bundle.unit.value} is protected; it was a {before.unit.value}"
        yield _officer(ReasonCode.LESS_PROTECTED, what)


def _missing(bundle: EvidenceBundle, of: ReleaseClass, name: str, asked: Asked, *, raised: bool) -> Iterator[Reason]:
    wanted: list[Quorum] = [quorum for quorum in (of.approvals,) if quorum is not None]
    if raised:
        if of.more_approvals is None:
            yield _blocked(ReasonCode.APPROVALS, f"class {name} names nobody who may approve a risk that has risen")
            return
        wanted.append(of.more_approvals)
    for quorum in wanted:
        able = approvers_of(asked.policy, quorum)
        have = counted(asked.approvals, bundle.digest, party=asked.party, policy=asked.policy, among=able)
        if len(have) < quorum.needed:
            what = f"{quorum.needed - len(have)} more of {len(able)} people must approve ({', '.join(quorum.of)}; class {name})"
            yield _officer(ReasonCode.APPROVALS, what)


def _blocked(code: ReasonCode, what: str) -> Reason:
    return Reason(code, Verdict.BLOCKED, what)


def _officer(code: ReasonCode, what: str) -> Reason:
    return Reason(code, Verdict.NEEDS_OFFICER, what)
