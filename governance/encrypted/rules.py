"""Whether the owner of a published model answers an enquiry: every reason against it at once.

The owner decides for itself, from its own grants, and for its own model only: rows of others are not in it, or it would not be
the owner's to publish. Pure: what is known arrives as arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from governance.admission import CLOCK_SKEW, Finding
from governance.consent.agreement import SignedAgreement, why_not_in_force
from governance.consent.reading import time_text
from governance.consent.revocation import Revocation
from governance.encrypted.capacity import require_room
from governance.encrypted.enquiry import Enquiry
from governance.encrypted.grant import EncryptedGrant
from governance.encrypted.published import PublishedModel
from governance.identity.directory import Directory
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import JobType

_SHOWN = 12


@dataclass(frozen=True)
class EncryptedGrantStanding:
    """A grant for a published model as it stands now.

    Attributes:
        grant: what it says.
        learnt: numbers answered or set aside under it.
        revocation: its issuer's, or None.
        unsound: why its document does not hold; None if it does.
    """

    grant: EncryptedGrant
    learnt: int
    revocation: Revocation | None
    unsound: ConfideError | None


@dataclass(frozen=True)
class Known:
    """What the evaluator knows when it decides about an enquiry.

    Attributes:
        party: its id.
        published: the model, or None if it is unknown here, or withdrawn.
        agreement: the one that the enquiry names, or None if it is not known here.
        revoked_by: signatories that have revoked it, with the times they state.
        grants: its own for this model, as they stand.
        learnt: numbers of the model answered or set aside over its life, of recipients for whom it does not count as known.
        learnt_by_key: numbers answered or set aside under the enquiry's key.
        key_since: when the key was first used here, or None.
    """

    party: str
    published: PublishedModel | None
    agreement: SignedAgreement | None
    revoked_by: Mapping[str, datetime]
    grants: Sequence[EncryptedGrantStanding]
    learnt: int
    learnt_by_key: int
    key_since: datetime | None


@dataclass(frozen=True)
class EnquiryDecision:
    """Whether an enquiry is answered.

    Attributes:
        findings: every reason against it; empty if it is.
        grant: the one that covers it; None if there are findings.
    """

    findings: tuple[Finding, ...]
    grant: EncryptedGrant | None


def decide_enquiry(enquiry: Enquiry, known: Known, *, directory: Directory, now: datetime) -> EnquiryDecision:
    """Applies the rule.

    Args:
        enquiry: what is asked; its signature is verified.
        known: what the party knows.
        directory: who is who now.
        now: the time, UTC.
    """
    findings = [*_times(enquiry, now), *_agreement(enquiry, known, directory, now)]
    model = known.published
    if enquiry.evaluator != known.party:
        what = f"the enquiry is for {enquiry.evaluator}, this is {known.party}"
        findings.append(Finding(ErrorCode.INVALID_ARGUMENT, Problem("evaluator", what, "ask the model's owner")))
    if model is None or model.digest != enquiry.published:
        what = f"{enquiry.ref.label} is not published here"
        findings.append(Finding(ErrorCode.UNKNOWN_MODEL, Problem("model", what, "list the published models")))
        return EnquiryDecision(tuple(findings), None)
    findings += _model(enquiry, model, known, now)
    institution = {entry.id: entry.institution for entry in directory.researchers}.get(enquiry.querier)
    judged = [(each.grant, _mismatches(enquiry, model, each, known, institution, now)) for each in known.grants]
    covering = [grant for grant, problems in judged if not problems]
    if covering:
        grant = max(covering, key=lambda each: (each.counts_as_known, each.expires, each.grant_id))
        return EnquiryDecision(tuple(findings), None if findings else grant)
    if judged:  # the nearest one, with the fewest reasons
        findings += min(judged, key=lambda pair: (len(pair[1]), pair[0].grant_id))[1]
    else:
        what = f"{known.party} has given no grant for {model.ref.label}"
        problem = Problem("grants", what, f"ask {known.party} for one under this agreement")
        findings.append(Finding(ErrorCode.NO_CONSENT, problem))
    return EnquiryDecision(tuple(findings), None)


def _times(enquiry: Enquiry, now: datetime) -> Iterable[Finding]:
    if enquiry.created > now + CLOCK_SKEW:
        what = f"made at {time_text(enquiry.created)}, which is later than now"
        yield Finding(ErrorCode.INVALID_ARGUMENT, Problem("created", what, "set your clock"))
    if now >= enquiry.expires:
        what = f"expired at {time_text(enquiry.expires)}"
        yield Finding(ErrorCode.JOB_EXPIRED, Problem("expires", what, "make a new enquiry"))


def _agreement(enquiry: Enquiry, known: Known, directory: Directory, now: datetime) -> Iterable[Finding]:
    signed = known.agreement
    if signed is None:
        what = f"no agreement {enquiry.agreement[:_SHOWN]} is known at {known.party}"
        yield Finding(ErrorCode.NO_AGREEMENT, Problem("agreement", what, "name one that is in force there"))
        return
    agreement = signed.agreement
    problems = [*why_not_in_force(signed, directory=directory, revoked_by=known.revoked_by, now=now)]
    if enquiry.purpose not in agreement.purposes:
        what = f"{enquiry.purpose} is none of its purposes: {', '.join(agreement.purposes)}"
        problems.append(Problem("purpose", what, "name one of its purposes, if it is yours"))
    if JobType.INFER_ENCRYPTED not in agreement.job_types:
        what = f"{JobType.INFER_ENCRYPTED.value} is not permitted"
        problems.append(Problem("agreement.job_types", what, "ask under an agreement that permits it"))
    if known.party not in agreement.parties:
        what = f"{known.party} is no party of {agreement.name}"
        problems.append(Problem("agreement.parties", what, "ask under an agreement of its"))
    for problem in problems:
        yield Finding(ErrorCode.NO_AGREEMENT, problem)


def _model(enquiry: Enquiry, model: PublishedModel, known: Known, now: datetime) -> Iterable[Finding]:
    if not model.valid_from <= now < model.expires:
        what = f"{model.ref.label} is published from {time_text(model.valid_from)} to {time_text(model.expires)}"
        yield Finding(ErrorCode.JOB_EXPIRED, Problem("model", what, "ask its owner to publish it again"))
    if enquiry.lane not in model.plans:
        what = f"{model.ref.label} has no lane {enquiry.lane}, but {', '.join(sorted(model.plans))}"
        yield Finding(ErrorCode.INVALID_ARGUMENT, Problem("lane", what, "choose one of these"))
    if known.key_since is not None and now >= known.key_since + timedelta(seconds=model.key_lifetime_s):
        what = f"the key was first used at {time_text(known.key_since)}; keys are taken for {model.key_lifetime_s} s"
        yield Finding(ErrorCode.JOB_EXPIRED, Problem("key", what, "make a new key"))


def _mismatches(
    enquiry: Enquiry,
    model: PublishedModel,
    standing: EncryptedGrantStanding,
    known: Known,
    institution: str | None,
    now: datetime,
) -> tuple[Finding, ...]:
    """Returns everything for which a grant does not cover an enquiry; empty if it does."""
    grant = standing.grant
    found: list[tuple[ErrorCode, Problem]] = []

    def add(where: str, what: str, remedy: str, code: ErrorCode = ErrorCode.NO_CONSENT) -> None:
        found.append((code, Problem(f"grants.{grant.grant_id[:_SHOWN]}.{where}", what, remedy)))

    if standing.unsound is not None:
        add("document", standing.unsound.what, "have the owner issue a new one", standing.unsound.code)
    if standing.revocation is not None:
        what = f"revoked at {time_text(standing.revocation.time)}: {standing.revocation.reason}"
        add("revoked", what, "ask the owner", ErrorCode.GRANT_REVOKED)
    if now < grant.valid_from:
        add("valid_from", f"valid from {time_text(grant.valid_from)} on", "wait until then")
    if now >= grant.expires:
        add("expires", f"expired at {time_text(grant.expires)}", "ask the owner for a new one", ErrorCode.GRANT_EXPIRED)
    if (grant.consortium, grant.issuer) != (enquiry.consortium, known.party):
        add("issuer", f"issued by {grant.issuer} in {grant.consortium}", "ask the model's owner")
    if grant.ref != model.ref:
        add("model", f"given for {grant.ref.label}, not {model.ref.label}", "ask the owner for a grant on this version")
    if grant.agreement != enquiry.agreement:
        what = f"given under the agreement {grant.agreement[:_SHOWN]}, the enquiry is under {enquiry.agreement[:_SHOWN]}"
        add("agreement", what, "ask under that agreement")
    if enquiry.purpose not in grant.purposes:
        add("purposes", f"{enquiry.purpose} is not permitted; permitted: {', '.join(grant.purposes)}", "name a permitted one")
    if not grant.is_for(enquiry.querier, institution):
        add("recipients", f"{enquiry.querier} is none of them", "ask the owner")
    more = enquiry.max_answers
    for where, before, most in (
        ("max_answers", standing.learnt, grant.max_answers),
        ("max_answers_per_key", known.learnt_by_key, grant.max_answers_per_key),
    ):
        if before + more > most:
            what = f"{more} numbers are asked for; {before} of {most} are learnt or set aside"
            add(where, what, "ask for fewer, or ask the owner for more", ErrorCode.BUDGET_EXHAUSTED)
    if not grant.counts_as_known:
        try:
            require_room(model, learnt=known.learnt, more=more)
        except ConfideError as error:
            add("counts_as_known", error.what, error.remedy, error.code)
    return tuple(Finding(code, problem) for code, problem in found)
