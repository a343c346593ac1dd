"""The blast radius of a revocation: what a party knows of that would end with one of its grants or with an agreement.

Shown before anything is revoked. A party knows every job over its own rows, and so every model that came of them directly; of
models trained further from these by others it knows those whose jobs it took part in, and those whose aliases it was told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from governance.lineage.alias import AliasName
from governance.lineage.standing import TrainingFacts, rests_on, trainings_behind
from protocols.canonical import Document
from protocols.job import Job, ModelRef
from protocols.session.states import State

_STARTED = frozenset({State.PREPARING, State.PREPARED, State.RUNNING, State.RELEASING})


@dataclass(frozen=True)
class OpenJob:
    """A job that has not ended, as a party knows it: its document, where it stands, and the party's own grants that it uses."""

    job: Job
    state: State
    grants: tuple[str, ...]


@dataclass(frozen=True)
class HolderAlias:
    """What an alias of a model stands for at one holder."""

    holder: str
    alias: AliasName
    ref: ModelRef


@dataclass(frozen=True)
class OpenEnquiry:
    """An open enquiry at a model's owner: its id, who asks which model, and under which grant and agreement."""

    enquiry_id: str
    querier: str
    model: str
    grant: str
    agreement: str


@dataclass(frozen=True)
class BlastRadius:
    """What would end; every list in a fixed order.

    Attributes:
        issuer: who would revoke.
        subject: id of its grant, or digest of the agreement.
        datasets: `party/name/version` whose rows lie behind the models below.
        running: jobs that would stop at their next step.
        queued: jobs that would not start.
        models: versions that nobody could use any more.
        holders: who holds their shares, by label.
        aliases: names that would stand for nothing, `model@alias at holder`.
        enquiries: encrypted enquiries that nothing more would be answered of, `id (querier, model)`.
    """

    issuer: str
    subject: str
    datasets: tuple[str, ...]
    running: tuple[str, ...]
    queued: tuple[str, ...]
    models: tuple[ModelRef, ...]
    holders: Mapping[str, tuple[str, ...]]
    aliases: tuple[str, ...]
    enquiries: tuple[str, ...] = ()

    def to_document(self) -> Document:
        """Returns it as a document."""
        return {
            "issuer": self.issuer,
            "subject": self.subject,
            "datasets": list(self.datasets),
            "running_jobs": list(self.running),
            "queued_jobs": list(self.queued),
            "models": [ref.label for ref in self.models],
            "holders": {label: list(holders) for label, holders in self.holders.items()},
            "aliases": list(self.aliases),
            "enquiries": list(self.enquiries),
        }

    def to_text(self) -> str:
        """Returns it for a terminal."""
        lines = [f"If {self.issuer} revokes {self.subject}:"]
        lines += [f"  data set {label}" for label in self.datasets]
        lines += [f"  job {job_id[:12]} runs and would stop at its next step" for job_id in self.running]
        lines += [f"  job {job_id[:12]} waits and would not start" for job_id in self.queued]
        for ref in self.models:
            lines.append(f"  model {ref.label}, held by {', '.join(self.holders[ref.label])}, could not be used any more")
        lines += [f"  alias {alias} would stand for nothing" for alias in self.aliases]
        lines += [f"  enquiry {shown} would be answered nothing more" for shown in self.enquiries]
        if len(lines) == 1:
            lines.append("  nothing that is known here would end")
        return "\n".join(lines)


def blast_radius(
    *,
    issuer: str,
    subject: str,
    trainings: Mapping[str, TrainingFacts],
    open_jobs: Iterable[OpenJob],
    aliases: Iterable[HolderAlias],
    enquiries: Iterable[OpenEnquiry] = (),
) -> BlastRadius:
    """Returns what would end if a party revoked a grant of its own, or an agreement.

    Args:
        issuer: the party.
        subject: id of the grant, or digest of the agreement.
        trainings: all that the party knows, by job id.
        open_jobs: jobs that have not ended.
        aliases: what aliases stand for, at all holders that have said so.
        enquiries: open ones at this party.
    """
    behind = {job_id: trainings_behind(job_id, trainings) for job_id in trainings}
    touched = [job_id for job_id in sorted(trainings) if rests_on(behind[job_id], issuer=issuer, subject=subject)]
    models = {
        made: trainings[job_id].job.computing_parties
        for job_id in touched
        if trainings[job_id].state == State.COMPLETED.value and (made := trainings[job_id].job.produced_model) is not None
    }
    datasets = {
        f"{dataset.party}/{dataset.name}/{dataset.version}"
        for job_id in touched
        for facts in behind[job_id]
        for dataset in facts.job.datasets
        if dataset.party == issuer
    }
    running: list[str] = []
    queued: list[str] = []
    for each in open_jobs:
        if subject in each.grants or subject == each.job.agreement or each.job.model_ref in models:
            (running if each.state in _STARTED else queued).append(each.job.job_id)
            if each.job.datasets:
                datasets |= {f"{d.party}/{d.name}/{d.version}" for d in each.job.datasets if d.party == issuer}
    refs = tuple(sorted(models, key=lambda ref: ref.label))
    return BlastRadius(
        issuer=issuer,
        subject=subject,
        datasets=tuple(sorted(datasets)),
        running=tuple(sorted(running)),
        queued=tuple(sorted(queued)),
        models=refs,
        holders={ref.label: models[ref] for ref in refs},
        enquiries=tuple(
            sorted(
                f"{each.enquiry_id[:12]} ({each.querier}, {each.model})"
                for each in enquiries
                if subject in (each.grant, each.agreement)
            )
        ),
        aliases=tuple(sorted(f"{each.ref.name}@{each.alias.value} at {each.holder}" for each in aliases if each.ref in models)),
    )
