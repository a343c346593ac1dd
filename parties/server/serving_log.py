"""Queries of servings on their way into the log: an answer leaves this party only after its query is kept.

Keeping a query takes a transaction and with it a write to the disk. All queries that wait, of all servings, share one, so that
the disk sets no bound on how many are answered; and the transaction runs while the workers compute.
"""

from __future__ import annotations

import queue
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Thread

from governance.audit.entries import EntryKind, Fact
from governance.release import Evidence, Withheld, release_withheld, withheld_answers
from parties.server.consents import consent_findings, ended_elsewhere, next_end
from parties.server.party import Party
from parties.server.terms import log_defect
from parties.storage.database import Tables
from parties.storage.serving import QueryRecord
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.plan.plan import Plan

_AT_ONCE = 64
# A clock that was set, or a document that reads differently under a new directory, is noticed after this at the latest. What was
# added, and what ends by the clock, counts at once; and the watch over consents looks every second besides.
_VERDICT_FOR = timedelta(seconds=15)


@dataclass(frozen=True)
class _Item:
    job: Job
    plan: Plan
    record: QueryRecord
    kept: Future[None]


@dataclass(frozen=True)
class _Refused:
    job_id: str
    query: str


@dataclass(frozen=True)
class _Verdict:
    stamp: tuple[str, int]
    since: datetime
    until: datetime
    reasons: tuple[Withheld, ...]


class ServingLog:
    """Keeps queries, on a thread of its own."""

    def __init__(self, party: Party) -> None:
        self._party = party
        self._queue: queue.SimpleQueue[_Item | _Refused | None] = queue.SimpleQueue()
        self._verdicts: dict[str, _Verdict] = {}
        self._thread = Thread(target=self._run, name="serving-log", daemon=True)

    def start(self) -> None:
        """Begins to work."""
        self._thread.start()

    def stop(self) -> None:
        """Ends when everything before is kept."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def keep(self, job: Job, plan: Plan, record: QueryRecord) -> Future[None]:
        """Keeps a query with its entry in the audit log, if the release gate would let its answer out now.

        Returns:
            What becomes of it: its result is None once the query is durable; or it raises RELEASE_WITHHELD (a rule of this
            party), JOB_CONFLICT (the querier's fault), NOT_READY (the serving is over) or DISK_FULL (the operator's), and then
            nothing is kept.
        """
        item = _Item(job, plan, record, Future())
        self._queue.put(item)
        return item.kept

    def take_back(self, job_id: str, query: str) -> None:
        """Has a query that was kept count no more, since this party's worker refused it; its entry in the audit log stays."""
        self._queue.put(_Refused(job_id, query))

    def _run(self) -> None:
        while True:
            batch = [self._queue.get()]
            while len(batch) < _AT_ONCE and not self._queue.empty():
                batch.append(self._queue.get())
            self._keep([item for item in batch if item is not None])
            if None in batch:
                return

    def _keep(self, items: Sequence[_Item | _Refused]) -> None:
        if not items:
            return
        now = self._party.now()
        try:
            with self._party.database.transaction() as tables:
                refusals = self._keep_all(tables, items, now)
        except Exception as error:  # whatever it was: whoever waits must hear of it, and the next batch is another one
            if not isinstance(error, ConfideError):
                log_defect("", "ServingLog", error)
                error = ConfideError(ErrorCode.INTERNAL)
            for item in items:
                if isinstance(item, _Item):
                    item.kept.set_exception(error)
            return
        for item, refusal in zip(items, refusals, strict=True):  # only now is it durable
            if isinstance(item, _Refused):
                continue
            if refusal is None:
                item.kept.set_result(None)
            else:
                item.kept.set_exception(refusal)

    def _keep_all(self, tables: Tables, items: Iterable[_Item | _Refused], now: datetime) -> list[ConfideError | None]:
        """Returns for every item why it is not kept, or None; one that is not kept is nothing to the others."""
        withheld: dict[str, tuple[Withheld, ...]] = {}
        refusals: list[ConfideError | None] = []
        entries: list[tuple[EntryKind, Mapping[str, Fact]]] = []
        for item in items:
            refusals.append(None)
            if isinstance(item, _Refused):
                tables.serving.take_back(item.job_id, item.query)
                continue
            job_id = item.job.job_id
            if job_id not in withheld:
                withheld[job_id] = self._withheld(tables, item.job, item.plan, now)
            if withheld[job_id]:
                refusals[-1] = release_withheld(withheld[job_id])
                continue
            try:
                tables.serving.let_in(item.record)
            except ConfideError as error:  # of this query alone: another one may be of another researcher
                refusals[-1] = error
                continue
            entries.append((EntryKind.QUERY, _facts(item)))
        tables.audit.append_many(entries, now=now)
        return refusals

    def _withheld(self, tables: Tables, job: Job, plan: Plan, now: datetime) -> tuple[Withheld, ...]:
        """Asks the release gate; again if something was added that a consent ends by, when one ends, and after `_VERDICT_FOR`."""
        stamp = (tables.serving.consent_stamp(), self._party.directory.version)
        known = self._verdicts.get(job.job_id)
        if known is None or known.stamp != stamp or not known.since <= now < known.until:
            reasons = withheld_answers(job, _evidence(self._party, tables, job, plan, now))
            latest, end = now + _VERDICT_FOR, next_end(self._party, tables, job, now)
            known = _Verdict(stamp, now, latest if end is None else min(latest, end), reasons)
            self._verdicts = {job_id: each for job_id, each in self._verdicts.items() if now < each.until}
            self._verdicts[job.job_id] = known
        return known.reasons


def _facts(item: _Item) -> dict[str, Fact]:
    job, record = item.job, item.record
    return {
        "job": job.job_id,
        "query": record.query,
        "model": "" if job.model_ref is None else job.model_ref.label,
        "querier": job.querier,
        "rows": record.num_rows,
        "commitment": record.commitment,
    }


def _evidence(party: Party, tables: Tables, job: Job, plan: Plan, now: datetime) -> Evidence:
    """Returns what this party knows of a serving when one of its answers is about to leave; no share of it is sealed."""
    used = [tables.grants.get(grant_id) for grant_id in tables.grants.used_by(job.job_id)]
    missing = (*consent_findings(party, tables, job, now), *ended_elsewhere(party, tables, job, now))
    return Evidence(
        plan_digest=plan.digest,
        planned={output.name: output.shape for output in plan.outputs},
        sealed=None,
        countersignatures={record.party: record.plan_digest for record in tables.jobs.countersignatures(job.job_id)},
        missing_consent=[finding.problem for finding in missing],
        missing_evidence=(),
        output_rules={record.grant_id: record.grant.outputs for record in used},
    )
