"""The cascade at a holder: whatever rests on a consent that has ended is marked, and destroyed where its owner asks for that.

Nothing is remembered of what arrived when: every run compares the models held here with the revocations that are known and
with the clock. So a revocation that came before its model, twice, or while this party was down has the same effect.
"""

from __future__ import annotations

from datetime import datetime

import structlog

from governance.audit.entries import EntryKind, Fact
from governance.lineage.standing import TrainingFacts, Withdrawal, ends, next_end, trainings_behind
from parties.lineage import trainings_behind_job, withdrawals
from parties.model_registry import Holder, destroy_marked, mark_model
from parties.server.party import Party
from parties.storage.database import Tables
from parties.storage.models import ModelRecord
from parties.storage.registry import MarkRecord
from protocols.errors import ConfideError
from protocols.job import ModelRef

_log = structlog.get_logger()


class Cascade:
    """Marks and destroys; `run` is called by one thread at a time."""

    def __init__(self, party: Party) -> None:
        self._party = party
        # What a published model rests on never changes, so it is read once.
        self._behind: dict[ModelRef, tuple[TrainingFacts, ...]] = {}

    def run(self, *, now: datetime) -> datetime | None:
        """Brings marks and shares up to what is known now. Idempotent.

        Returns:
            When the next consent ends by the clock, or None.

        Raises:
            ConfideError: DISK_FULL (the operator's fault): to be called again.
        """
        party = self._party
        holder = Holder.of(party.member, party.directory)
        with party.database.transaction() as tables:
            withdrawn = withdrawals(tables)
            times = [self._mark(tables, holder, model, withdrawn, now) for model in tables.models.usable()]
            stale = self._stale_checkpoints(tables, withdrawn, now) if any(each.delete for each in withdrawn) else {}
            for job_id, names in stale.items():
                facts: dict[str, Fact] = {"job": job_id, "checkpoints": len(names)}
                tables.audit.append(EntryKind.MODEL_DELETED, facts, now=now)
        for names in stale.values():
            for name in names:  # what a crash leaves here no table names, and the next start sweeps it
                party.sealed.delete(name)
        for ref in destroy_marked(party.database, party.sealed, holder, now=now):
            _log.warning("model_deleted", model=ref.label)
        return min((time for time in times if time is not None), default=None)

    def _mark(
        self, tables: Tables, holder: Holder, model: ModelRecord, withdrawn: tuple[Withdrawal, ...], now: datetime
    ) -> datetime | None:
        behind = self._trainings(tables, model)
        for end in ends(behind, withdrawn, now=now):
            mark = MarkRecord(model.ref, end.issuer, end.subject, end.code, end.delete, now)
            if mark_model(tables, holder, mark):
                _log.warning("model_revoked", model=model.ref.label, code=end.code.name, by=end.issuer)
        return next_end(behind, now=now)

    def _trainings(self, tables: Tables, model: ModelRecord) -> tuple[TrainingFacts, ...]:
        if model.ref not in self._behind:
            try:
                known = trainings_behind_job(tables, model.job_id)
            except ConfideError as error:  # one model's damaged papers must not keep the others in use
                _log.error("lineage_unreadable", model=model.ref.label, code=error.code.name, what=error.what)
                return ()
            self._behind[model.ref] = trainings_behind(model.job_id, known)
        return self._behind[model.ref]

    def _stale_checkpoints(self, tables: Tables, withdrawn: tuple[Withdrawal, ...], now: datetime) -> dict[str, tuple[str, ...]]:
        """Forgets the checkpoints of trainings that rest on a consent withdrawn with deletion; returns their files by job."""
        found = {}
        for job_id in tables.checkpoints.job_ids():
            try:
                behind = trainings_behind(job_id, trainings_behind_job(tables, job_id))
            except ConfideError as error:  # as above; these checkpoints go with their retention
                _log.error("lineage_unreadable", job=job_id, code=error.code.name, what=error.what)
                continue
            if any(end.delete for end in ends(behind, withdrawn, now=now)):
                found[job_id] = tables.checkpoints.discard(job_id)
        return found
