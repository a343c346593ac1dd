"""What the gate on evidence answers, and with which reasons."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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
    NO_AUDIT = "audit-missing"
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
    OVERTAKEN = "figure-overtaken"
    GONE = "figure-not-measured-again"
    LESS_PROTECTED = "protection-has-fallen"
    GROWN = "capacity-has-grown"
    LARGER_THAN_NEEDED = "capacity-larger-than-needed"
    APPROVALS = "approvals-missing"
    TOO_MUCH = "more-than-a-bundle-holds"


@dataclass(frozen=True)
class Reason:
    """One reason against a release as it stands.

    Attributes:
        code: which.
        verdict: BLOCKED, or NEEDS_OFFICER if people may decide.
        what: in words, with figures.
        about: whose figure of which name, and for which class; empty where there can be one such reason only. Two reasons of one
            code about the same are one question to people.
    """

    code: ReasonCode
    verdict: Verdict
    what: str
    about: str = ""


def blocked(code: ReasonCode, what: str, about: str = "") -> Reason:
    """Returns a reason that nobody can approve away."""
    return Reason(code, Verdict.BLOCKED, what, about)


def officer(code: ReasonCode, what: str, about: str = "") -> Reason:
    """Returns a reason that people may decide on."""
    return Reason(code, Verdict.NEEDS_OFFICER, what, about)
