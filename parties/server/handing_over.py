"""One assessment for all owners that have ordered the same: one of them asks, the others wait for it, and each states it itself.

What a job opened, only the institution of its researcher has. If its order says so, its party hands the openings to the other
owners; each opens the counts by its own record of the ending, as it would a researcher's file, and states what it found in its
own name, under its own order. Nobody believes figures, and nobody chooses them: of several jobs only the first is taken. An owner
that is handed nothing in time asks for a job of its own.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from governance.audit.entries import Fact
from governance.commitments import CommittedShare
from governance.documents import SignedDocument
from governance.evidence.standing import StandingAssessment
from governance.opened_assessment import opened_assessment, read_opened_assessment
from governance.risk_report import StatedRisk
from parties.assessed_jobs import open_assessed
from parties.risk_statements import MAX_FILE_BYTES, keep_statement, unsigned_risk
from parties.server.assessor import Asks
from parties.server.order_records import note_order, require_order_stands
from parties.server.party import Party
from parties.standing_assessments import next_due, waits_at_most
from parties.storage.assessments import OrderRecord, RunState
from parties.storage.database import Tables
from privacy.risk.joint import risk_of
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode
from protocols.job import TIME_FORMAT, Job, JobType
from protocols.session.endings import Ending
from protocols.session.states import State

STAGGER = timedelta(minutes=10)  # between two owners of one assessment, so that one of them asks first
HANDED_WITHIN = timedelta(minutes=15)  # after the end of a job; then the others ask for one of their own
AGAIN_EVERY = timedelta(seconds=20)
_RECENT = 50
_log = structlog.get_logger()


def is_same(order: StandingAssessment, job: Job) -> bool:
    """Returns whether a job asks what an order asks, whoever asks."""
    from parties.client.risk import usual_thresholds

    assessment = job.assessment
    if job.job_type is not JobType.ASSESS or assessment is None:
        return False
    names = [f"{each.party}/{each.name}" for each in job.datasets]
    asked = (job.model_ref, job.agreement, job.purpose, job.computing_parties, job.dealer)
    attacked = (assessment.attack, assessment.shadows, assessment.thresholds, max(output.min_cell for output in job.outputs))
    return (
        asked == (order.ref, order.agreement, order.purpose, order.computing_parties, order.dealer)
        and sorted(names) == sorted(order.datasets)
        and {names[place] for place in assessment.members} == set(order.members)
        and attacked == (order.attack, order.shadows, order.thresholds or usual_thresholds(order.attack), order.min_cell)
    )


def waits_for_another(tables: Tables, order: StandingAssessment, *, due: datetime, at_most: timedelta, now: datetime) -> bool:
    """Returns whether a party should not ask yet, since another owner's job may serve it.

    Args:
        tables: of the transaction; nothing is written.
        order: that is due.
        due: since when.
        at_most: how long it waits from then on.
        now: the time, UTC.
    """
    if len(order.owners) < 2 or now - due >= at_most:
        return False
    if now < due + STAGGER * order.owners.index(order.party):
        return True
    for record in tables.jobs.without_ending():
        job = Job.from_bytes(record.document)
        if now <= job.expires and is_same(order, job):
            return True
    return any(is_same(order, job) and timedelta(0) <= now - ended < HANDED_WITHIN for job, ended in _completed(tables))


def _completed(tables: Tables) -> list[tuple[Job, datetime]]:
    found = []
    for record in tables.jobs.recent(querier=None, limit=_RECENT):
        document = tables.jobs.ending(record.job_id)
        if document is None:
            continue
        ending = Ending.from_document(parse_canonical(SignedDocument.from_bytes(document).body))
        if ending.state is not State.COMPLETED:
            continue
        ended = datetime.strptime(ending.time, TIME_FORMAT).replace(tzinfo=UTC)
        found.append((Job.from_bytes(record.document), ended))
    return found


@dataclass
class _Handing:
    order: StandingAssessment
    job: Job
    opened: bytes = field(repr=False)
    since: datetime
    tried: datetime | None = None


class HandingOver:
    """Hands what this party's assessments opened to the other owners, and tries again for a while."""

    def __init__(self, party: Party, asks: Asks) -> None:
        self._party = party
        self._asks = asks
        self._waiting: dict[tuple[str, str], _Handing] = {}

    def add(self, order: StandingAssessment, job: Job, found: StatedRisk, shares: tuple[CommittedShare, ...]) -> None:
        """Takes what a job of an order found, with the shares of the counts, secret, if the order hands it to the other owners.

        It is forgotten with the process, and then the others ask for a job of their own.
        """
        others = [owner for owner in order.owners if owner != self._party.id] if order.for_owners else []
        if not others:
            return
        opened = canonical_bytes(opened_assessment(found, shares).to_document())
        for owner in others:
            self._waiting[job.job_id, owner] = _Handing(order, job, opened, self._party.now())

    def look(self) -> None:
        """Hands over what waits, to whom it can be handed now."""
        now = self._party.now()
        for (job_id, owner), handing in list(self._waiting.items()):
            if handing.tried is not None and timedelta(0) <= now - handing.tried < AGAIN_EVERY:
                continue
            handing.tried = now
            try:
                stated = self._asks.hand_over(owner, handing.opened)
            except ConfideError as error:  # it does not know the ending yet, or cannot be reached
                if timedelta(0) <= now - handing.since < HANDED_WITHIN:
                    continue
                _log.warning("assessment_not_handed_over", job=job_id, peer=owner, code=error.code.name, what=error.what)
            else:
                with self._party.database.transaction() as tables:
                    note_order(tables, handing.order, "handed-over", f"to {owner}", job=handing.job, now=now)
                _log.info("assessment_handed_over", job=job_id, peer=owner, kind="stated" if stated else "not-needed")
            del self._waiting[job_id, owner]


def adopt(party: Party, caller: str, body: bytes) -> bool:
    """States what another owner's assessment found, if this party has ordered the same and has not stated it yet.

    Args:
        party: this party.
        caller: the party that hands it over.
        body: canonical bytes of the opened assessment; secret.

    Returns:
        Whether this party has stated it, now or before.

    Learns: this party the counts of a job that its rows took part in, if it has ordered the same; else it opens nothing.

    Raises:
        ConfideError: INVALID_DOCUMENT, UNKNOWN_JOB as `open_assessed`; NOT_AUTHORISED (the caller's fault): the job is of no
            researcher of the caller.
    """
    if len(body) > MAX_FILE_BYTES:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"an opened assessment of {len(body)} bytes")
    opened, now = read_opened_assessment(parse_canonical(body)), party.now()
    with party.database.transaction() as tables:
        found = tables.jobs.find(opened.job_id)
        job = None if found is None else Job.from_bytes(found.document)
        if job is not None and party.directory.researcher(job.querier).institution != caller:
            raise ConfideError(ErrorCode.NOT_AUTHORISED, f"job {job.job_id[:12]} is of no researcher of {caller}")
        record = None if job is None else _ordered_here(tables, party, job, now)
        if job is not None and record is None:
            return False
        here = open_assessed(tables, opened, party=party.id)
        if record is None:
            return False
        if _is_stated(tables, record, here.job):
            return True
        if not _is_first(tables, party, record, here.job):
            return False
    stated = unsigned_risk(here.job, risk_of(here.job, here.counts), now=min(now, max(here.ended, here.job.created)))
    order = record.order
    with party.database.transaction() as tables:
        if _is_stated(tables, record, here.job):  # handed over twice at once
            return True
        if _ordered_here(tables, party, here.job, now) is None:  # ended while the figures were made
            return False
        run = tables.assessments.begin(order.digest, here.job, now=now)
        facts: dict[str, Fact] = {"authorisation": record.authorisation, "order": order.digest, "job": here.job.job_id}
        keep_statement(tables, stated, party.member, facts, now=now)
        tables.assessments.close(run.number, RunState.DONE, what=f"asked for by {caller}", now=now)
        note_order(tables, order, RunState.DONE.value, f"asked for by {caller}", job=here.job, now=now)
    _log.info("assessment_adopted", order=order.digest, model=order.ref.label, job=here.job.job_id, by=caller)
    return True


def _is_stated(tables: Tables, record: OrderRecord, job: Job) -> bool:
    runs = tables.assessments.runs(record.order.digest)
    return any(run.job is not None and run.job.job_id == job.job_id for run in runs)


def _is_first(tables: Tables, party: Party, record: OrderRecord, job: Job) -> bool:
    """Whether the caller's institution had no job of the same completed before, since this party stated one.

    Who asked several times and handed over the one that pleases would choose what another owner states.
    """
    # By when they arrived here: when a job was made is what its author says.
    here = tables.jobs.get(job.job_id).created
    runs = tables.assessments.runs(record.order.digest)
    done = (tables.jobs.find(run.job.job_id) for run in runs if run.state is RunState.DONE and run.job is not None)
    since = max((each.created for each in done if each is not None), default=record.order.made)
    directory = party.directory
    institution = directory.researcher(job.querier).institution
    queriers = [each.id for each in directory.researchers if each.institution == institution]
    for kept, document in tables.jobs.ended_of(queriers, since=since):
        if kept.created > here or kept.job_id == job.job_id or not is_same(record.order, Job.from_bytes(kept.document)):
            continue
        if Ending.from_document(SignedDocument.from_bytes(document).document).state is State.COMPLETED:
            return False
    return True


def _ordered_here(tables: Tables, party: Party, job: Job, now: datetime) -> OrderRecord | None:
    """The order of this party by which it may state what a job found: it stands, is nearly due, and nothing is under way.

    Who asks often and hands over often uses up no runs of others.
    """
    for record in tables.assessments.standing():
        order = record.order
        if not order.measures or not is_same(order, job):
            continue
        run = tables.assessments.last_run(order.digest)
        if run is not None and run.job is not None and run.job.job_id == job.job_id:
            return record
        due = next_due(tables, order, policy=party.policy, now=now)
        wait = waits_at_most(tables, order, policy=party.policy, now=now)
        if due is None or now < due - wait or (run is not None and run.ended is None):
            continue
        with suppress(ConfideError):  # the next look of this party ends such an order
            require_order_stands(tables, record, party=party.id, policy=party.policy, now=now)
            return record
    return None
