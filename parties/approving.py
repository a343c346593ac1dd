"""What an approver does: sees which jobs wait for her institution's people, and signs her yes or no.

Runs beside the serving party, on the same database: the party pursues a job as soon as an answer is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from governance.audit.entries import EntryKind, Fact
from governance.documents import SignedDocument
from governance.identity.directory import Directory
from governance.identity.keys import VerifyingKey
from governance.people.roles import Action, require_permitted
from governance.policy.approval import MAX_COMMENT, Answer, Approval, Question, Tally, sign_approval, tally
from governance.policy.facts import facts_of
from governance.policy.rules import Decision, Kind, Policy, decide
from governance.preview import Preview
from parties.config import PartyConfig
from parties.people import PersonFolder
from parties.policy_cases import read_described_job
from parties.policy_file import load_policy
from parties.server.board import Measured
from parties.storage.approvals import ApprovalRequest
from parties.storage.database import Tables, one_transaction
from parties.storage.jobs import JobRecord
from protocols.canonical import parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.plan.plan import Plan
from protocols.session.states import State

LEAST_PREFIX = 4  # digits of a job's id that a person must give
_TO_STOP = "`confide job pending` lists what waits; to stop a job that was countersigned, revoke its grant or cancel it."


@dataclass(frozen=True)
class Pending:
    """A job that waits for people of this institution.

    Attributes:
        job: its document.
        request: what they are asked.
        tally: how their answers stand.
    """

    job: Job
    request: ApprovalRequest
    tally: Tally


def pending(config: PartyConfig) -> tuple[Pending, ...]:
    """Returns the jobs that wait for people, the longest first; after a change of the policy, once the party has asked anew.

    Raises:
        ConfideError: INVALID_CONFIG: the policy; STATE_SCHEMA: the database.
    """
    policy = load_policy(config.policy)
    with one_transaction(config.folder.database_file) as tables:
        waiting = [(request, tables.jobs.get(request.job_id)) for request in tables.approvals.requests()]
        found = [
            Pending(job, request, _tally(config.party, tables, job, request, policy))
            for request, record in waiting
            if not _why_not_asked(tables, record) and request.policy_digest == policy.digest
            for job in [Job.from_bytes(record.document)]
        ]
    return tuple(entry for entry in found if not entry.tally.is_denied and not entry.tally.is_approved)


def answer(
    config: PartyConfig, person_folder: Path, job_id: str, said: Answer, *, comment: str = "", now: datetime
) -> tuple[Approval, Tally]:
    """Signs a person's yes or no to a job that waits, and keeps it with its entry in the audit log.

    Args:
        config: the party's.
        person_folder: the person's, with her secret key.
        job_id: the job's, or its beginning.
        said: yes or no.
        comment: her reason; a denial's is told to the querier and the other parties.
        now: the time, UTC.

    Returns:
        What she signed, and how the answers stand with it.

    Raises:
        ConfideError: UNKNOWN_DOCUMENT: no such job waits here; NOT_AUTHORISED: she may not answer, or not about this job;
            NOT_READY: the policy has changed, and the party has not yet asked under the new one; INVALID_ARGUMENT: the comment.
    """
    if len(comment) > MAX_COMMENT:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"a comment has at most {MAX_COMMENT} characters")
    policy = load_policy(config.policy)
    person, key = PersonFolder(person_folder).load()
    action = Action.APPROVE_JOB if said is Answer.APPROVE else Action.DENY_JOB
    require_permitted(action, policy.persons.get(person).roles, person=person)
    with one_transaction(config.folder.database_file) as tables:
        request, record = _find(tables, job_id)
        job = Job.from_bytes(record.document)
        if why := _why_not_asked(tables, record):
            what = f"job {job.job_id[:12]} {why}; nobody is asked about it any more"
            raise ConfideError(ErrorCode.UNKNOWN_DOCUMENT, what, remedy=_TO_STOP)
        if policy.digest != request.policy_digest:
            what = "the policy has changed since people were asked; the party asks anew under it"
            raise ConfideError(ErrorCode.NOT_READY, what, remedy="Look at `confide job pending` again in a few seconds.")
        asked = _question(config.party, job, request)
        approval = Approval(asked, person, said, comment, now.replace(microsecond=0))
        signed = sign_approval(approval, key)
        _require_counted(signed, request, asked, policy)
        if tables.approvals.add(job.job_id, signed, now=now):
            facts: dict[str, Fact] = {
                "job": job.job_id,
                "plan_digest": request.plan_digest,
                "policy": request.policy_digest,
                "rule": request.rule,
                "person": person,
                "answer": said.value,
                "approval": sha256_hex(signed.to_bytes()),
            }
            tables.audit.append(EntryKind.APPROVAL, facts, now=now)
        return approval, _tally(config.party, tables, job, request, policy)


@dataclass(frozen=True)
class ShownJob:
    """What a person is shown of a job at her institution.

    Attributes:
        preview: what was planned.
        state: where the job stands here.
        measured: what this party's worker did; None before the job has ended.
        request: what people are, or were, asked; None if nobody was.
        tally: how their answers stand; None likewise.
    """

    preview: Preview
    state: str
    measured: Measured | None
    request: ApprovalRequest | None
    tally: Tally | None


def show_job(config: PartyConfig, job_id: str) -> ShownJob:
    """Returns the preview of a job, and once it has ended what was measured beside it.

    Args:
        config: the party's.
        job_id: the job's, or its beginning.

    Raises:
        ConfideError: UNKNOWN_JOB; UNKNOWN_DOCUMENT: the job was refused before it could be planned.
    """
    policy = load_policy(config.policy)
    with one_transaction(config.folder.database_file) as tables:
        record = known_job(tables, job_id)
        preview = Preview.from_bytes(tables.approvals.preview(record.job_id))
        measured = tables.jobs.measured(record.job_id)
        request = tables.approvals.request(record.job_id)
        job = Job.from_bytes(record.document)
        answers = None if request is None else _tally(config.party, tables, job, request, policy)
    return ShownJob(preview, record.state, Measured.from_text(measured) if measured else None, request, answers)


def _find(tables: Tables, job_id: str) -> tuple[ApprovalRequest, JobRecord]:
    _require_prefix(job_id, ErrorCode.UNKNOWN_DOCUMENT)
    requests = [request for request in tables.approvals.requests() if request.job_id.startswith(job_id)]
    if len(requests) != 1:
        what = f"{len(requests) or 'no'} request(s) for approval of a job {job_id[:32]!r} are known here"
        raise ConfideError(ErrorCode.UNKNOWN_DOCUMENT, what, remedy="`confide job pending` lists them.")
    return requests[0], tables.jobs.get(requests[0].job_id)


def _why_not_asked(tables: Tables, record: JobRecord) -> str:
    # An answer after the decision would change nothing: whoever signs a denial then must learn that the job goes on.
    if record.state != State.PROPOSED.value:
        return f"is {record.state}"
    kept = tables.acceptances.find(record.job_id)
    return "was countersigned here already" if kept is not None and kept.entry_index is not None else ""


def _question(party: str, job: Job, request: ApprovalRequest) -> Question:
    return Question(party, job.digest, request.plan_digest, request.policy_digest)


def _decision(request: ApprovalRequest) -> Decision:
    return Decision(Kind.APPROVAL, request.rule, request.needed, request.approvers)


def _tally(party: str, tables: Tables, job: Job, request: ApprovalRequest, policy: Policy) -> Tally:
    answers = tables.approvals.of_job(job.job_id)
    return tally(_decision(request), answers, question=_question(party, job, request), people=policy.persons)


def _require_counted(signed: SignedDocument, request: ApprovalRequest, asked: Question, policy: Policy) -> None:
    """Refuses an answer that would count nothing, before it is kept.

    Raises:
        ConfideError: NOT_AUTHORISED, with the reason.
    """
    ignored = tally(_decision(request), [signed], question=asked, people=policy.persons).ignored
    if ignored:
        raise ConfideError(
            ErrorCode.NOT_AUTHORISED,
            f"this answer would count nothing: {ignored[0]}",
            remedy=f"Those who may answer are {', '.join(request.approvers)}.",
        )


def policy_decision(config: PartyConfig, job: str) -> Decision:
    """Says what the policy file decides about a job.

    Args:
        config: the party's.
        job: the id of a job that is known here, or its beginning; or a YAML file that describes one (`parties.policy_cases`).

    Raises:
        ConfideError: UNKNOWN_JOB: neither; INVALID_CONFIG: the policy, or the file.
    """
    policy = load_policy(config.policy)
    if Path(job).is_file():
        return decide(policy, read_described_job(Path(job)), querier_key=None)
    directory = config.folder.member.load_directory()
    with one_transaction(config.folder.database_file) as tables:
        record = known_job(tables, job)
        document = Job.from_bytes(record.document)
        plan, agreement = tables.jobs.plan(record.job_id), tables.agreements.find(document.agreement)
    facts = facts_of(
        document,
        None if plan is None else Plan.from_document(parse_canonical(plan.document)),
        directory=directory,
        agreement="" if agreement is None else agreement.agreement.name,
    )
    return decide(policy, facts, querier_key=_key_of(directory, document.querier))


def known_job(tables: Tables, job_id: str) -> JobRecord:
    """Returns a job by its id or the beginning of it.

    Raises:
        ConfideError: UNKNOWN_JOB: none or several begin so.
    """
    _require_prefix(job_id, ErrorCode.UNKNOWN_JOB)
    found = tables.jobs.starting_with(job_id)
    if len(found) != 1:
        raise ConfideError(ErrorCode.UNKNOWN_JOB, f"{len(found) or 'no'} job(s) {job_id[:32]!r} are known here")
    return found[0]


def _require_prefix(job_id: str, code: ErrorCode) -> None:
    if len(job_id) < LEAST_PREFIX:
        raise ConfideError(code, f"{job_id!r} could be any job: give at least {LEAST_PREFIX} digits of its id")


def _key_of(directory: Directory, querier: str) -> VerifyingKey | None:
    try:
        return directory.researcher(querier).signing_key
    except ConfideError:  # enrolled no more; the rules say the same about the job
        return None
