"""Evidence at a holder: bundles are made of its own records and of what owners signed, and the gate decides by them.

`require_release` is the one function that whoever is about to let a model leave its shares has to ask: the alias `released`, a
release of weights, a publication for encrypted queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from governance.audit.entries import EntryKind, Fact
from governance.documents import SignedDocument
from governance.evidence.bundle import EvidenceBundle, verify_evidence
from governance.evidence.gate import Asked, Decision, Reason, ReasonCode, Verdict, decide_release
from governance.identity.directory import Directory
from governance.lineage.alias import AliasName
from governance.people.authorisation import read_authorisation
from governance.people.roles import Action
from governance.policy.rules import Policy
from governance.risk_report import verify_risk_report
from governance.utility_report import read_stated_utility, verify_utility_report
from parties.agreements import load_member
from parties.arrived_reports import is_behind
from parties.authority import authorise, keep_authorisation
from parties.config import PartyConfig
from parties.evidence_records import behind, keep_evidence, trainings_of
from parties.model_registry import Holder, fall_from_release, require_usable
from parties.policy_file import load_policy
from parties.release_remedies import remedy_for as remedy_for
from parties.storage.database import Tables, one_transaction
from parties.storage.evidence import EvidenceRecord
from parties.storage.files import read_public
from privacy.accounting.statement import statement_of
from privacy.utility.report import conditions_of
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job, JobType, ModelRef
from protocols.session.states import State

MAX_FILE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Judged:
    """A bundle that is kept, and what the gate says about it now.

    Attributes:
        record: the bundle.
        decision: what the gate says.
        ended_release: whether `released` stood for the version, or would have again after moves back, until this bundle.
    """

    record: EvidenceRecord
    decision: Decision
    ended_release: bool = False


def make_evidence(
    config: PartyConfig,
    person_folder: Path,
    ref: ModelRef,
    *,
    risk_reports: Sequence[Path],
    utility: Sequence[Path],
    now: datetime,
) -> Judged:
    """Makes, signs and keeps a bundle of evidence about a model version that this party holds.

    If `released` stands for the version and the gate blocks it by the new bundle, the alias falls, here at once.

    Args:
        config: the party's.
        person_folder: of the person who has it done; a data steward or privacy officer.
        ref: the version.
        risk_reports: files that owners signed.
        utility: files of reports that queriers signed.
        now: the time, UTC.

    Raises:
        ConfideError: UNKNOWN_MODEL or MODEL_REVOKED; INVALID_DOCUMENT or BAD_SIGNATURE: a report that nobody would believe;
            NOT_AUTHORISED (the person's fault).
    """
    member, policy = load_member(config, now), load_policy(config.policy)
    holder, now = Holder.of(member, member.directory), now.replace(microsecond=0)
    reports = tuple(_report(path, member.directory) for path in risk_reports)
    figures = tuple(_utility(path, member.directory) for path in utility)
    authorisation = authorise(config, person_folder, Action.MAKE_EVIDENCE, ref.label, now)
    warm_statements(lambda: one_transaction(config.folder.database_file), ref, party=config.party, now=now)
    with one_transaction(config.folder.database_file) as tables:
        require_usable(tables, ref, party=holder.party)
        _require_known(tables, figures)
        kept = keep_authorisation(tables, authorisation, now=now)
        record = keep_evidence(
            tables,
            holder,
            ref,
            directory=member.directory,
            policy=policy,
            risk_reports=reports,
            utility=figures,
            left_out=(),  # whoever makes one by hand chooses when people are asked
            authorisation=kept,
            now=now,
        )
        found = decide(tables, party=holder.party, policy=policy, directory=member.directory, ref=ref, now=now)
        ended = found.verdict is Verdict.BLOCKED and fall_from_release(tables, holder, ref, now=now)
    return Judged(record, found, ended_release=ended)


def approve_release(config: PartyConfig, person_folder: Path, ref: ModelRef, *, now: datetime, seen: str = "") -> Judged:
    """Has a person approve the release of a version under the last bundle about it, and returns what the gate says then.

    Args:
        config: the party's.
        person_folder: of the person.
        ref: the version.
        now: the time, UTC.
        seen: first digits of the digest of the bundle that she has looked at; empty if she does not say.

    Raises:
        ConfideError: EVIDENCE_MISSING: there is no bundle; INVALID_ARGUMENT: the last one is not what she has looked at;
            NOT_AUTHORISED (the person's fault).
    """
    member, policy = load_member(config, now), load_policy(config.policy)
    with one_transaction(config.folder.database_file) as tables:
        record = tables.evidence.latest(ref)
    require_seen(record, seen)
    authorisation = authorise(config, person_folder, Action.APPROVE_RELEASE, record.digest, now)
    warm_statements(lambda: one_transaction(config.folder.database_file), ref, party=config.party, now=now)
    with one_transaction(config.folder.database_file) as tables:
        keep_authorisation(tables, authorisation, now=now)
        return Judged(record, decide(tables, party=config.party, policy=policy, directory=member.directory, ref=ref, now=now))


def require_seen(record: EvidenceRecord, seen: str) -> None:
    """Checks that a bundle is the one that a person has looked at, if she says which.

    Raises:
        ConfideError: INVALID_ARGUMENT (nobody's fault): it is another one.
    """
    if not record.digest.startswith(seen):
        what = f"the last bundle about {record.ref.label} is {record.digest[:12]}, not {seen[:64]}"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Look at it first: `confide model evidence show`.")


def judge_evidence(config: PartyConfig, ref: ModelRef, *, policy: Policy | None = None, now: datetime) -> Judged:
    """Returns the last bundle about a version, and what the gate says about it now; writes no decision.

    Args:
        config: the party's.
        ref: the version.
        policy: to be tried out; None for the party's own.
        now: the time, UTC.

    Raises:
        ConfideError: EVIDENCE_MISSING: there is no bundle.
    """
    member = load_member(config, now)
    warm_statements(lambda: one_transaction(config.folder.database_file), ref, party=config.party, now=now)
    with one_transaction(config.folder.database_file) as tables:
        record = tables.evidence.latest(ref)
        asked = policy or load_policy(config.policy)
        found = judge(tables, record, party=config.party, policy=asked, directory=member.directory, now=now)
        found = _with_all_that_is_told(tables, found, ref, party=config.party, policy=asked, directory=member.directory, now=now)
    return Judged(record, found)


def warm_statements(
    transaction: Callable[[], AbstractContextManager[Tables]], ref: ModelRef, *, party: str, now: datetime
) -> None:
    """Derives the statements of privacy of a version's trainings before a transaction that decides by them opens.

    The accountants take a second, and keep what they found: the transaction, for which every other writer waits, finds it there.
    What is wrong is left for that transaction to say.

    Args:
        transaction: opens one, in which the trainings are read.
        ref: the version.
        party: this party.
        now: the time, UTC.
    """
    with suppress(ConfideError):
        with transaction() as tables:
            found = behind(tables, ref, party=party, now=now)
        for facts in found:
            statement_of(facts.job)


def decide(tables: Tables, *, party: str, policy: Policy, directory: Directory, ref: ModelRef, now: datetime) -> Decision:
    """Returns what the gate says about a version by the last bundle about it, and writes it into the audit log.

    Raises:
        ConfideError: EVIDENCE_MISSING: there is no bundle.
    """
    record = tables.evidence.latest(ref)
    found = judge(tables, record, party=party, policy=policy, directory=directory, now=now)
    note_decision(tables, ref, replace(found, bundle=record.digest), policy=policy, now=now)
    return found


def note_decision(tables: Tables, ref: ModelRef, found: Decision, *, policy: Policy, now: datetime) -> None:
    """Writes what the gate said about a version into the audit log."""
    facts: dict[str, Fact] = {
        "model": ref.label,
        "evidence": found.bundle,
        "verdict": found.verdict.value,
        "reasons": sorted({reason.code.value for reason in found.reasons}),
        "policy": policy.digest,
    }
    tables.audit.append(EntryKind.RELEASE_DECIDED, facts, now=now)


def require_release(
    tables: Tables, *, party: str, policy: Policy, directory: Directory, ref: ModelRef, now: datetime
) -> Decision:
    """Checks that a version may leave its shares now: this party holds a bundle of evidence about it that the gate passes.

    Args:
        tables: of the transaction that lets it go.
        party: this party.
        policy: in force.
        directory: whose keys are believed.
        ref: the version.
        now: the time, UTC.

    Returns:
        The decision, a pass; noted in the audit log, as a refusal is not: its transaction may be rolled back.

    Raises:
        ConfideError: EVIDENCE_MISSING, with every reason.
    """
    found = decide(tables, party=party, policy=policy, directory=directory, ref=ref, now=now)
    found = _with_all_that_is_told(tables, found, ref, party=party, policy=policy, directory=directory, now=now)
    require_pass(found, party=party)
    note_pass(tables, found, now=now)
    return found


def _with_all_that_is_told(
    tables: Tables, found: Decision, ref: ModelRef, *, party: str, policy: Policy, directory: Directory, now: datetime
) -> Decision:
    """A pass, blocked if owners have told something worse since: evidence from before lets nothing out."""
    if found.verdict is not Verdict.PASS or not is_behind(tables, ref, party=party, policy=policy, directory=directory, now=now):
        return found
    what = "since this evidence was made, an owner has told something worse, on which nobody has decided"
    why = Reason(ReasonCode.OVERTAKEN, Verdict.BLOCKED, what)
    return replace(found, verdict=Verdict.BLOCKED, reasons=(why, *found.reasons))


def note_pass(tables: Tables, found: Decision, *, now: datetime) -> None:
    """Notes in the transaction that a version goes on, or goes out, under a bundle that the gate passes."""
    tables.evidence.mark_released(found.bundle, now=now)
    if found.by_people:
        tables.evidence.mark_decided(found.bundle)


def require_pass(found: Decision, *, party: str) -> None:
    """Checks a decision.

    Raises:
        ConfideError: EVIDENCE_MISSING, with every reason.
    """
    if found.verdict is Verdict.PASS:
        return
    label = found.ref.label if found.ref is not None else "the model"
    problems = [Problem(reason.code.value, reason.what, remedy_for(reason)) for reason in found.reasons]
    what = f"{label} may not be released: {found.verdict.value}"
    raise ConfideError(ErrorCode.EVIDENCE_MISSING, what, problems=problems, party=party)


def judge_alone(
    signed: SignedDocument,
    *,
    policy: Policy,
    party: str,
    directory: Directory,
    previous: SignedDocument | None,
    now: datetime,
) -> Decision:
    """Returns what the gate says about a bundle by what it says alone: for pipelines, which have no records.

    Nobody has approved anything there, and the facts are those that the issuer has signed.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE or NOT_ENROLLED: the bundle before it is none; what is wrong in the bundle
            itself is a reason.
    """
    before = None if previous is None else verify_evidence(previous, directory)
    return decide_release(signed, Asked(directory, policy, party, before, (), now))


def judge(tables: Tables, record: EvidenceRecord, *, party: str, policy: Policy, directory: Directory, now: datetime) -> Decision:
    """Returns what the gate says about a version by a bundle about it; nothing is written."""
    before, kept = tables.evidence.last_decided(record.ref.name), tables.evidence.of_model(record.ref.name)
    if before is not None and _goes_on(tables, record, before):
        known = EvidenceBundle.from_bytes(record.signed.body).previous
        before = next((each for each in kept if each.digest == known), None)
    approvals = tables.authorisations.all()
    try:
        records = trainings_of(tables, behind(tables, record.ref, party=party, now=now), party=party)
    except ConfideError as error:
        if error.code is not ErrorCode.INVALID_JOB:
            raise
        # The accountant of today gives more than a training claims.
        what = "; ".join([error.what, *(problem.what for problem in error.problems)])
        why = Reason(ReasonCode.ACCOUNTED_MORE, Verdict.BLOCKED, what)
        return Decision(record.ref, record.digest, Verdict.BLOCKED, (why,))
    asked = Asked(
        directory=directory,
        policy=policy,
        party=party,
        previous=None if before is None else verify_evidence(before.signed, directory),
        approvals=approvals,
        now=now,
        expected=record.ref,
        records=records,
        earlier=approved_before(record, kept, approvals),
    )
    return decide_release(record.signed, asked)


def approved_before(
    record: EvidenceRecord, kept: Sequence[EvidenceRecord], approvals: Iterable[SignedDocument]
) -> tuple[EvidenceBundle, ...]:
    """Bundles about the same version, made before this one, that somebody has approved; whether she may have is the gate's."""
    said = (read_authorisation(signed) for signed in approvals)
    subjects = {each.subject for each in said if each.action is Action.APPROVE_RELEASE}
    place = next(place for place, each in enumerate(kept) if each.digest == record.digest)
    earlier = (each for each in kept[:place] if each.ref == record.ref and each.digest in subjects)
    return tuple(EvidenceBundle.from_bytes(each.signed.body) for each in earlier)


def _goes_on(tables: Tables, record: EvidenceRecord, last: EvidenceRecord) -> bool:
    """Whether a bundle follows the one that it did when its version was released under it, and not the last one.

    So it is for the last release, and for one that `released` stands for or would again after moves back.
    """
    released = tables.registry.alias_history(record.ref.name, AliasName.RELEASED)
    return record.digest == last.digest or (record.released is not None and released.holds(record.ref.version))


def _report(path: Path, directory: Directory) -> SignedDocument:
    signed = SignedDocument.from_bytes(read_public(path, max_bytes=MAX_FILE_BYTES))
    verify_risk_report(signed, directory)
    return signed


def _utility(path: Path, directory: Directory) -> SignedDocument:
    signed = SignedDocument.from_bytes(read_public(path, max_bytes=MAX_FILE_BYTES))
    verify_utility_report(signed, directory)
    return signed


def _require_known(tables: Tables, reports: Iterable[SignedDocument]) -> None:
    """Checks that what reports on utility speak of has happened here, for whoever signed it; only she knows what it opened.

    Raises:
        ConfideError: UNKNOWN_JOB, INVALID_DOCUMENT or NOT_AUTHORISED (the author's fault).
    """
    for signed in reports:
        report = read_stated_utility(signed.document).report
        record = tables.jobs.find(report.job)
        job = None if record is None else Job.from_bytes(record.document)
        is_one = job is not None and job.job_type is JobType.EVALUATE and job.model_ref is not None
        if record is None or not is_one or record.state != State.COMPLETED.value:
            what = f"no completed evaluation {report.job} is known here"
            raise ConfideError(ErrorCode.UNKNOWN_JOB, what, remedy="Bring the report of one that this party took part in.")
        if job is not None and job.model_ref is not None and job.model_ref.label != report.model:
            what = f"evaluation {report.job} was of {job.model_ref.label}, not of {report.model}"
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, what)
        if job is not None and job.querier != signed.signer:
            what = f"evaluation {report.job} was {job.querier}'s, and {signed.signer} has signed what it opened"
            raise ConfideError(ErrorCode.NOT_AUTHORISED, what, remedy="Have its querier sign the report.")
        if job is not None:
            for name, known in conditions_of(job).items():
                if getattr(report, name) != known:
                    what = f"evaluation {report.job} had {name} {known}, and its report says {getattr(report, name)}"
                    raise ConfideError(
                        ErrorCode.INVALID_DOCUMENT, what, remedy="Have its querier sign the report as it was made."
                    )
