"""What a model rests on: the trainings behind it, the consents that each of them used, and which of these have ended.

A training's countersignatures name every party's grants that it used, and until when models that come of them may be used. A
model rests on all of them, and on those of every training behind it: the one that it was continued from, and the attempts that
a resumed training goes on from. If one of them ends, the model is not used any more, at any holder.

Pure: the jobs, the withdrawals that have arrived and the time are arguments, so the order of their arrival does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from protocols.errors import ErrorCode
from protocols.job import Job, ModelRef


@dataclass(frozen=True)
class Basis:
    """One party's grant that a training used; public in the consortium.

    Attributes:
        party: who issued it.
        grant_id: 32 hexadecimal digits.
        until: when models that come of it stop being used, UTC; None for no end.
        job_id: the training.
        covers_until: when the grant stops covering the job itself, UTC; None if that is not said.
    """

    party: str
    grant_id: str
    until: datetime | None
    job_id: str
    covers_until: datetime | None = None


@dataclass(frozen=True)
class TrainingFacts:
    """A training as a party knows it; public in the consortium.

    Attributes:
        job: its document.
        bases: the grants of all parties that it used.
        state: where it stands, the value of its session's state.
    """

    job: Job
    bases: tuple[Basis, ...]
    state: str

    @property
    def owners(self) -> frozenset[str]:
        """The parties whose rows it used."""
        return frozenset(dataset.party for dataset in self.job.datasets)


@dataclass(frozen=True)
class Withdrawal:
    """A revocation that has arrived; public in the consortium.

    Attributes:
        issuer: the party that withdrew.
        subject: id of its grant, or digest of an agreement.
        delete: whether every holder destroys what came of it.
        time: as its issuer states, UTC.
    """

    issuer: str
    subject: str
    delete: bool
    time: datetime


@dataclass(frozen=True)
class End:
    """One reason for which what came of a training is not used any more; public in the consortium.

    Attributes:
        issuer: the party whose consent has ended, or the holder that has withdrawn the model.
        subject: id of the grant, digest of the agreement, or the model's label.
        code: GRANT_REVOKED, GRANT_EXPIRED or NO_AGREEMENT; MODEL_REVOKED for a holder's own decision.
        delete: whether every holder destroys what came of it.
        since: as the issuer states, UTC.
        job_id: the training that used it.
    """

    issuer: str
    subject: str
    code: ErrorCode
    delete: bool
    since: datetime
    job_id: str

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        if self.code is ErrorCode.MODEL_REVOKED:
            destroyed = ", and destroyed its share" if self.delete else ""
            return f"{self.issuer} has withdrawn it at {self.since:%Y-%m-%d %H:%M:%S} UTC{destroyed}"
        named = f"{self.issuer}'s grant {self.subject}"
        if self.code is ErrorCode.GRANT_EXPIRED:
            return f"{named} permitted the use of derived models until {self.since:%Y-%m-%d %H:%M:%S} UTC"
        if self.code is ErrorCode.NO_AGREEMENT:
            return f"{self.issuer} revoked the agreement {self.subject[:12]} at {self.since:%Y-%m-%d %H:%M:%S} UTC"
        effect = ", and asked for deletion" if self.delete else ""
        return f"{named} was revoked at {self.since:%Y-%m-%d %H:%M:%S} UTC{effect}"


def trainings_behind(job_id: str, known: Mapping[str, TrainingFacts]) -> tuple[TrainingFacts, ...]:
    """Returns a training and all trainings behind it, the latest first, as far as they are known.

    Args:
        job_id: the training.
        known: trainings by job id.
    """
    by_model = {facts.job.produced_model: facts for facts in known.values()}
    waiting, found = [known.get(job_id)], dict[str, TrainingFacts]()
    while waiting:
        facts = waiting.pop(0)
        if facts is None or facts.job.job_id in found:
            continue
        found[facts.job.job_id] = facts
        if facts.job.model_ref is not None:
            waiting.append(by_model.get(facts.job.model_ref))
        if facts.job.resumes is not None:
            waiting.append(known.get(facts.job.resumes.job_id))
    return tuple(found.values())


def training_of(ref: ModelRef, known: Mapping[str, TrainingFacts]) -> TrainingFacts | None:
    """Returns the training that made a model, or None if it is not known."""
    return next((facts for facts in known.values() if facts.job.produced_model == ref), None)


def ends(trainings: Iterable[TrainingFacts], withdrawals: Sequence[Withdrawal], *, now: datetime) -> tuple[End, ...]:
    """Returns every reason for which what came of these trainings is not used any more; empty if it may be used.

    A grant ends by its own issuer alone: a withdrawal by anybody else has no effect. An agreement that an owner of the rows has
    revoked takes that owner's grants under it with it; revoked by a party without rows in the training, it ends jobs, not models.

    Args:
        trainings: all that a model rests on, see `trainings_behind`.
        withdrawals: all that have arrived, in any order.
        now: the time, UTC.
    """
    by_subject: dict[tuple[str, str], list[Withdrawal]] = {}
    for withdrawal in withdrawals:
        by_subject.setdefault((withdrawal.issuer, withdrawal.subject), []).append(withdrawal)
    return tuple(dict.fromkeys(end for facts in trainings for end in _ends(facts, by_subject, now)))


def next_end(trainings: Iterable[TrainingFacts], *, now: datetime) -> datetime | None:
    """Returns when the next consent behind a model ends by the clock, or None."""
    times = (basis.until for facts in trainings for basis in facts.bases if basis.until is not None and basis.until > now)
    return min(times, default=None)


def rests_on(trainings: Iterable[TrainingFacts], *, issuer: str, subject: str) -> bool:
    """Returns whether what came of these trainings would end with this grant of the issuer, or with this agreement."""
    for facts in trainings:
        if any((basis.party, basis.grant_id) == (issuer, subject) for basis in facts.bases):
            return True
        if facts.job.agreement == subject and issuer in facts.owners:
            return True
    return False


def _ends(facts: TrainingFacts, by_subject: Mapping[tuple[str, str], Sequence[Withdrawal]], now: datetime) -> Iterator[End]:
    job_id = facts.job.job_id
    for basis in facts.bases:
        withdrawn = by_subject.get((basis.party, basis.grant_id))
        if withdrawn:
            first, delete = min(each.time for each in withdrawn), any(each.delete for each in withdrawn)
            yield End(basis.party, basis.grant_id, ErrorCode.GRANT_REVOKED, delete, first, job_id)
        elif basis.until is not None and now >= basis.until:
            yield End(basis.party, basis.grant_id, ErrorCode.GRANT_EXPIRED, delete=False, since=basis.until, job_id=job_id)
    for owner in sorted(facts.owners):
        withdrawn = by_subject.get((owner, facts.job.agreement))
        if withdrawn:
            first, delete = min(each.time for each in withdrawn), any(each.delete for each in withdrawn)
            yield End(owner, facts.job.agreement, ErrorCode.NO_AGREEMENT, delete, first, job_id)
