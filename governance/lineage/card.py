"""The model card: what people must know of a model before they use it, made from facts alone.

Nothing in it is written by hand. What a fact cannot show (what the model is good for, whether it is fair) is not claimed; the
card says where it says nothing. Every statement about what was agreed and done names the entries of this party's audit log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from governance.lineage.graph import ModelRecords, holders_of
from governance.lineage.standing import End, TrainingFacts, trainings_behind
from governance.privacy_claims import claims_in_words, claims_of
from privacy.accounting.statement import NO_GUARANTEE, privacy_in_words, terms_of
from protocols.canonical import Document, canonical_bytes, sha256_hex
from protocols.job import Job, JobType, ModelRef, Partition
from protocols.session.states import State

FORMAT = "confide.model-card/1"
NO_DP = f"Trained without differential privacy: {NO_GUARANTEE}. No bound on what the weights tell about single rows is claimed."
NOT_SAID = (
    "How well it works outside the evaluated rows, whether it treats groups alike, and what its outputs tell about single rows:"
    " nothing here measures that."
)


@dataclass(frozen=True)
class LogReference:
    """An entry of the party's audit log that shows something about the model."""

    index: int
    kind: str
    about: str


@dataclass(frozen=True)
class ModelCard:
    """The facts about one model version, as one party knows them; public in the consortium.

    Attributes:
        ref: the version.
        party: who made the card.
        made: when the card was made, UTC.
        created_by: querier of each training, the latest first.
        purposes: what the trainings were for.
        agreements: digests of the agreements that they kept to.
        rows: how many rows of each party went in, over all trainings, each registration once.
        parts: if its rows were joined of different columns of the same people: which data set brought which.
        schema: the document of the columns that all rows follow.
        architecture: the manifest.
        trainings: settings of each training, the latest first.
        privacy: what is said of the privacy of each of them, each sentence once; one training without a guarantee leaves none.
        holders: who holds shares, without those that have destroyed theirs.
        evaluations: how many completed ones this party knows.
        inferences: likewise, with the samples in them; of a serving, as many as it might answer.
        aliases: what it is called, `alias at holder`.
        consents: grants it rests on, with issuer and until when derived models may be used.
        restrictions: what limits its use now, in sentences.
        ends: why it is not used any more; empty if it may be used.
        log: entries of the party's audit log that show all this.
    """

    ref: ModelRef
    party: str
    made: datetime
    created_by: tuple[str, ...]
    purposes: tuple[str, ...]
    agreements: tuple[str, ...]
    rows: Mapping[str, int]
    parts: tuple[str, ...]
    schema: Document
    architecture: Document
    trainings: tuple[Document, ...]
    privacy: tuple[str, ...]
    holders: tuple[str, ...]
    evaluations: int
    inferences: tuple[int, int]
    aliases: tuple[str, ...]
    consents: tuple[tuple[str, str, str | None], ...]
    restrictions: tuple[str, ...]
    ends: tuple[str, ...]
    log: tuple[LogReference, ...]

    def to_document(self) -> Document:
        """Returns the card as a document."""
        return {
            "format": FORMAT,
            "model": self.ref.label,
            "party": self.party,
            "made": self.made.isoformat(),
            "usable": not self.ends,
            "why_not": list(self.ends),
            "created_by": list(self.created_by),
            "purposes": list(self.purposes),
            "agreements": list(self.agreements),
            "rows_by_party": dict(self.rows),
            "parts": list(self.parts),
            "schema": dict(self.schema),
            "schema_digest": sha256_hex(canonical_bytes(self.schema)),
            "architecture": dict(self.architecture),
            "architecture_digest": sha256_hex(canonical_bytes(self.architecture)),
            "trainings": [dict(training) for training in self.trainings],
            "holders": list(self.holders),
            "differential_privacy": list(self.privacy),
            "evaluations": self.evaluations,
            "inferences": self.inferences[0],
            "inferred_samples": self.inferences[1],
            "aliases": list(self.aliases),
            "consents": [{"party": party, "grant": grant, "derived_until": until} for party, grant, until in self.consents],
            "restrictions": list(self.restrictions),
            "not_said": NOT_SAID,
            "log": [vars(reference) for reference in self.log],
        }

    def to_markdown(self) -> str:
        """Returns the card as Markdown."""
        state = "may be used" if not self.ends else "is not used any more"
        lines = [f"# Model {self.ref.label}", "", f"It {state}, as {self.party} sees it at {self.made:%Y-%m-%d %H:%M:%S} UTC."]
        lines += [f"- {why}" for why in self.ends]
        lines += _section("What for", [*self.purposes])
        rows = [f"{party}: {count}" for party, count in self.rows.items()]
        lines += _section("Rows", [*rows, *(f"of the same people: {part}" for part in self.parts)])
        lines += _section("Columns", [_column(entry) for entry in self.schema["columns"]])
        digest = sha256_hex(canonical_bytes(self.architecture))
        lines += _section("Architecture", [f"manifest {digest}", *_layers(self.architecture)])
        settings = [", ".join(f"{name} {value}" for name, value in _flat(training)) for training in self.trainings]
        lines += _section("Training", [*settings, *self.privacy])
        lines += _section("Held as shares by", [*self.holders])
        used = [f"{self.evaluations} evaluation(s)", f"{self.inferences[0]} inference(s) on {self.inferences[1]} sample(s)"]
        lines += _section("Used", used)
        lines += _section("Named", [*self.aliases])
        lines += _section("Restrictions", [*self.restrictions])
        shown = [f"{party}: grant {grant}" + (f", until {until}" if until else "") for party, grant, until in self.consents]
        lines += _section("Consent", [*shown, *(f"agreement {digest}" for digest in self.agreements)])
        lines += _section("Not said here", [NOT_SAID])
        entries = [f"entry {each.index}: {each.kind} ({each.about})" for each in self.log]
        lines += _section(f"Shown by the audit log of {self.party}", entries)
        return "\n".join(lines) + "\n"


def card_of(
    ref: ModelRef,
    records: ModelRecords,
    *,
    party: str,
    made_by: TrainingFacts,
    restrictions: Sequence[str],
    log: Sequence[LogReference],
    now: datetime,
) -> ModelCard:
    """Returns the card of a model from what a party knows.

    Args:
        ref: the model.
        records: what the party knows.
        party: who makes the card.
        made_by: the training that made the model.
        restrictions: what limits its use, in sentences.
        log: entries of the party's audit log about the model and its trainings.
        now: the time, UTC.
    """
    behind = trainings_behind(made_by.job.job_id, records.trainings)
    datasets = dict.fromkeys(dataset for facts in behind for dataset in facts.job.datasets)
    rows: dict[str, int] = {}
    # Parts of one owner with one alignment are different columns of the same rows, which count once.
    for dataset in {(each.party, each.alignment or each): each for each in datasets}.values():
        rows[dataset.party] = rows.get(dataset.party, 0) + dataset.num_rows
    uses = [job for job, state in records.uses if job.model_ref == ref and state == State.COMPLETED.value]
    inferred = [job.most_samples for job in uses if job.most_samples]
    consents = dict.fromkeys(
        (basis.party, basis.grant_id, None if basis.until is None else basis.until.isoformat())
        for facts in behind
        for basis in facts.bases
    )
    ends: Sequence[End] = records.ends.get(ref, ())
    return ModelCard(
        ref=ref,
        party=party,
        made=now,
        created_by=tuple(dict.fromkeys(facts.job.querier for facts in behind)),
        purposes=tuple(dict.fromkeys(facts.job.purpose for facts in behind)),
        agreements=tuple(dict.fromkeys(facts.job.agreement for facts in behind)),
        rows=rows,
        parts=_parts(made_by.job),
        schema=made_by.job.schema,
        architecture=made_by.job.model.to_document(),
        trainings=tuple(facts.job.training.to_document() for facts in behind if facts.job.training is not None),
        privacy=_said_of_privacy([facts.job for facts in behind]),
        holders=holders_of(made_by, records),
        evaluations=sum(job.job_type is JobType.EVALUATE for job in uses),
        inferences=(len(inferred), sum(inferred)),
        aliases=tuple(f"{each.alias.value} at {each.holder}" for each in records.aliases if each.ref == ref),
        consents=tuple(consents),
        restrictions=tuple(restrictions),
        ends=tuple(end.sentence for end in ends),
        log=tuple(log),
    )


def _said_of_privacy(behind: Sequence[Job]) -> tuple[str, ...]:
    each = tuple(dict.fromkeys(_privacy(job) for job in behind))
    return each if len(behind) == 1 else (*each, f"All {len(behind)} trainings together: {claims_in_words(claims_of(behind))}.")


def _privacy(job: Job) -> str:
    terms = terms_of(job)
    return NO_DP if terms is None else f"Differential privacy: epsilon {privacy_in_words(job)}."


def _parts(job: Job) -> tuple[str, ...]:
    """The columns that each data set brings, if they are different columns of the same rows; empty otherwise."""
    if job.partition is Partition.ROWS:
        return ()
    features = [entry["name"] for entry in job.schema["columns"] if entry["role"] == "feature"]
    start, found = 0, []
    for dataset in job.datasets:
        names = features[start : start + dataset.num_features] + (["the label"] if dataset.has_label else [])
        found.append(f"{dataset.party}/{dataset.name}/{dataset.version}: {', '.join(names)}")
        start += dataset.num_features
    return tuple(found)


def _section(title: str, items: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *([f"- {item}" for item in items] or ["- none"])]


def _column(entry: Document) -> str:
    return ", ".join(f"{name} {value}" for name, value in entry.items() if value is not None)


def _layers(architecture: Document) -> list[str]:
    return [", ".join(f"{name} {value}" for name, value in _flat(layer)) for layer in architecture["layers"]]


def _flat(document: Document) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name, value in document.items():
        if isinstance(value, Mapping):
            found += [(f"{name}.{inner}", each) for inner, each in _flat(value)]
        elif value is not None:
            found.append((name, value))
    return found
