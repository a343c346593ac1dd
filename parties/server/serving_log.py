"""Queries of servings on their way into the log: an answer leaves this party only after its query is kept.

Keeping a query takes a transaction and with it a write to the disk. All queries that wait, of all servings, share one, so that
the disk sets no bound on how many are answered; and the transaction runs while the workers compute.
"""

from __future__ import annotations

import queue
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Thread

from governance.audit.entries import EntryKind, Fact
from governance.release import Evidence, Withheld, release_withheld, withheld_answers
from parties.server.consents import consent_findings, ended_elsewhere
from parties.server.party import Party
from parties.server.terms import log_defect
from parties.storage.database import Tables
from parties.storage.serving import QueryRecord
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.plan.plan import Plan

_AT_ONCE = 64
_VERDICT_FOR = timedelta(seconds=1)  # a consent that ends by the clock is noticed this late, as for a job that runs


@dataclass(frozen=True)
class _Item:
    job: Job
    plan: Plan
    record: QueryRecord
    kept: Future[None]


@dataclass(frozen=True)
class _Verdict:
    stamp: tuple[str, int]
    time: datetime
    reasons: tuple[Withheld, ...]


class ServingLog:
    """Keeps queries, on a thread of its own."""

    def __init__(self, party: Party) -> None:
        self._party = party
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
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
            party), JOB_CONFLICT (the querier's fault) or DISK_FULL (the operator's), and then nothing is kept.
        """
        item = _Item(job, plan, record, Future())
        self._queue.put(item)
        return item.kept

    def _run(self) -> None:
        while True:
            batch = [self._queue.get()]
            while len(batch) < _AT_ONCE and not self._queue.empty():
                batch.append(self._queue.get())
            self._keep([item for item in batch if item is not None])
            if None in batch:
                return

    def _keep(self, items: Sequence[_Item]) -> None:
        if not items:
            return
        now = self._party.now()
        try:
            with self._party.database.transaction() as tables:
                withheld = self._keep_all(tables, items, now)
        except Exception as error:  # whatever it was: whoever waits must hear of it, and the next batch is another one
            if not isinstance(error, ConfideError):
                log_defect(items[0].job.job_id, "ServingLog", error)
                error = ConfideError(ErrorCode.INTERNAL)
            for item in items:
                item.kept.set_exception(error)
            return
        for item in items:  # only now is it durable
            reasons = withheld[item.job.job_id]
            if reasons:
                item.kept.set_exception(release_withheld(reasons))
            else:
                item.kept.set_result(None)

    def _keep_all(self, tables: Tables, items: Iterable[_Item], now: datetime) -> dict[str, tuple[Withheld, ...]]:
        withheld: dict[str, tuple[Withheld, ...]] = {}
        for item in items:
            job, record = item.job, item.record
            if job.job_id not in withheld:
                withheld[job.job_id] = self._withheld(tables, job, item.plan, now)
            if withheld[job.job_id]:
                continue
            tables.serving.let_in(record)
            facts: dict[str, Fact] = {
                "job": job.job_id,
                "query": record.query,
                "model": "" if job.model_ref is None else job.model_ref.label,
                "querier": job.querier,
                "rows": record.num_rows,
                "commitment": record.commitment,
            }
            tables.audit.append(EntryKind.QUERY, facts, now=now)
        return withheld

    def _withheld(self, tables: Tables, job: Job, plan: Plan, now: datetime) -> tuple[Withheld, ...]:
        """Asks the release gate; again only if something was added that a consent ends by, or after `_VERDICT_FOR`."""
        stamp = (tables.serving.consent_stamp(), self._party.directory.version)
        known = self._verdicts.get(job.job_id)
        if known is None or known.stamp != stamp or not known.time <= now < known.time + _VERDICT_FOR:
            reasons = withheld_answers(job, _evidence(self._party, tables, job, plan, now))
            known = _Verdict(stamp, now, reasons)
            self._verdicts = {job_id: each for job_id, each in self._verdicts.items() if now < each.time + _VERDICT_FOR}
            self._verdicts[job.job_id] = known
        return known.reasons


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
        output_rules={record.grant_id: record.grant.outputs for record in used},
    )
