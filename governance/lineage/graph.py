"""The lineage of a model as a graph: data set, preparation, job, model, use, alias; from the records of one party.

Nodes are named by what the consortium calls them, so that the graphs of two parties can be laid over each other. What only the
owner knows of its rows (how many were left out, their salt) is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from governance.lineage.blast import HolderAlias
from governance.lineage.receipt import DeletionReceipt, missing_receipts
from governance.lineage.standing import Basis, End, TrainingFacts, training_of, trainings_behind
from governance.prepared_with import preparations_in_words
from governance.privacy_claims import claim_of, claims_in_words, claims_of
from protocols.canonical import Document
from protocols.errors import ErrorCode
from protocols.job import DatasetRef, Job, JobType, ModelRef, Partition
from protocols.session.states import State

_SHOWN_DIGITS = 12


class NodeKind(Enum):
    """What a node stands for."""

    DATASET = "dataset"  # one registration, by its salted commitment
    PREPARATION = "preparation"  # how rows became numbers: schema, and contract and recipe where the owner's statement is known
    GRANT = "grant"
    JOB = "job"
    MODEL = "model"
    ALIAS = "alias"
    RECEIPT = "receipt"  # of a deletion


@dataclass(frozen=True)
class Node:
    """One thing; `name` is unique among the nodes of its kind, `facts` are public in the consortium."""

    kind: NodeKind
    name: str
    facts: Mapping[str, str | int | None]

    @property
    def id(self) -> str:
        """Unique in the graph."""
        return f"{self.kind.value}:{self.name}"


@dataclass(frozen=True)
class Edge:
    """What came of what: `source` is an input of, or a condition for, `target`; both are node ids."""

    source: str
    target: str
    relation: str


@dataclass(frozen=True)
class PreparedBy:
    """How the rows of a data set were made from a raw file, as its owner signed it; public.

    Attributes:
        contract: name and digest of the contract.
        recipe: name with version, and digest of the recipe.
        statement: digest of what was signed.
    """

    contract: tuple[str, str]
    recipe: tuple[str, str]
    statement: str

    @property
    def sentence(self) -> str:
        """The same for people."""
        (contract, contract_digest), (recipe, recipe_digest) = self.contract, self.recipe
        return (
            f"by recipe {recipe} ({recipe_digest[:_SHOWN_DIGITS]}) under contract {contract} ({contract_digest[:_SHOWN_DIGITS]})"
        )

    @property
    def facts(self) -> Mapping[str, str]:
        """The same for programs."""
        named = {"contract": self.contract[0], "contract_digest": self.contract[1], "recipe": self.recipe[0]}
        return named | {"recipe_digest": self.recipe[1], "statement_digest": self.statement}


@dataclass(frozen=True)
class ModelRecords:
    """What one party knows of all models and their uses; public in the consortium.

    Attributes:
        trainings: by job id.
        uses: evaluations and inferences with the value of their state, the oldest first.
        aliases: what every alias stands for, at every holder that has said so.
        ends: why a model is not used any more, as this party sees it.
        receipts: of deletions.
        preparations: by data set, `party/name/version`: how its rows were made, as far as this party holds the statement.
    """

    trainings: Mapping[str, TrainingFacts]
    uses: Sequence[tuple[Job, str]]
    aliases: Sequence[HolderAlias]
    ends: Mapping[ModelRef, Sequence[End]]
    receipts: Sequence[DeletionReceipt]
    preparations: Mapping[str, PreparedBy] = field(default_factory=dict)


@dataclass(frozen=True)
class Lineage:
    """The graph around one model."""

    ref: ModelRef
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def to_document(self) -> Document:
        """Returns the graph as a document."""
        return {
            "model": self.ref.label,
            "nodes": [{"id": node.id, "kind": node.kind.value, "name": node.name, **node.facts} for node in self.nodes],
            "edges": [vars(edge) for edge in self.edges],
        }


def lineage_of(ref: ModelRef, records: ModelRecords) -> Lineage:
    """Returns everything that a model came of and that came of it, as far as the party knows."""
    nodes: dict[str, Node] = {}
    edges: dict[Edge, None] = {}

    def add(node: Node, *links: tuple[str, str, str]) -> None:
        # A training may be met first as a preparation of another one, of which less is known.
        known = nodes.get(node.id, node)
        nodes[node.id] = replace(known, facts={**node.facts, **known.facts})
        edges.update(dict.fromkeys(Edge(*link) for link in links))

    made = training_of(ref, records.trainings)
    behind = () if made is None else trainings_behind(made.job.job_id, records.trainings)
    add(_model(ref, records))
    for facts in (*behind, *_after(ref, records.trainings)):
        _add_training(facts, records, add)
    models = {node.name for node in nodes.values() if node.kind is NodeKind.MODEL}
    for job, state in records.uses:
        if job.model_ref is not None and job.model_ref.label in models:
            add(_job(job, state), (f"model:{job.model_ref.label}", f"job:{job.job_id}", "used by"))
    for alias in records.aliases:
        if alias.ref.label in models:
            name = f"{alias.ref.name}@{alias.alias.value} at {alias.holder}"
            add(Node(NodeKind.ALIAS, name, {}), (f"model:{alias.ref.label}", f"alias:{name}", "named"))
    for receipt in records.receipts:
        if receipt.ref.label in models:
            name = f"{receipt.ref.label} at {receipt.holder} for {receipt.subject}"
            facts_of = {"sealed_sha256": receipt.sealed_sha256, "issuer": receipt.issuer}
            add(Node(NodeKind.RECEIPT, name, facts_of), (f"model:{receipt.ref.label}", f"receipt:{name}", "destroyed"))
    return Lineage(ref, tuple(nodes.values()), tuple(edges))


def lineage_text(ref: ModelRef, records: ModelRecords) -> str:
    """Returns the lineage as an indented tree, for a terminal."""
    return "\n".join(_tree(ref, records, depth=0, seen=set()))


def _tree(ref: ModelRef, records: ModelRecords, *, depth: int, seen: set[ModelRef]) -> Iterator[str]:
    pad = "  " * depth
    made = training_of(ref, records.trainings)
    yield f"{pad}model {ref.label}" + (
        "" if made is None else f", shares held by {', '.join(holders_of(made, records)) or 'nobody'}"
    )
    if ref in seen:
        return
    seen.add(ref)
    if made is not None:
        yield f"{pad}  privacy: {_privacy(ref, records)}"
    for end in records.ends.get(ref, ()):
        yield f"{pad}  not used any more: {end.sentence}"
    yield from (f"{pad}  {line}" for line in receipt_lines(ref, made, records))
    if made is not None:
        yield from _training_lines(made, records, depth=depth + 1)
        if made.job.model_ref is not None:
            yield f"{pad}    goes on from"
            yield from _tree(made.job.model_ref, records, depth=depth + 3, seen=seen)
    if depth > 0:
        return
    yield from (f"{pad}  {line}" for line in _use_lines(ref, records))
    for facts in _after(ref, records.trainings):
        if facts.job.model_ref == ref and facts.job.produced_model is not None:
            yield f"{pad}  went into model {facts.job.produced_model.label} by job {facts.job.job_id[:_SHOWN_DIGITS]}"


def _training_lines(facts: TrainingFacts, records: ModelRecords, *, depth: int) -> Iterator[str]:
    pad, job = "  " * depth, facts.job
    yield (
        f"{pad}made by job {job.job_id[:_SHOWN_DIGITS]} of {job.querier} for {job.purpose},"
        f" under agreement {job.agreement[:_SHOWN_DIGITS]}"
    )
    for dataset in job.datasets:
        label = " and the label" if dataset.has_label else ""
        columns = "" if job.partition is Partition.ROWS else f" with {dataset.num_features} feature(s){label} of the same people"
        yield (
            f"{pad}  data set {dataset.party}/{dataset.name}/{dataset.version}: {dataset.num_rows} rows{columns},"
            f" commitment {dataset.commitment[:_SHOWN_DIGITS]}, prepared under schema {dataset.schema_digest[:_SHOWN_DIGITS]}"
        )
        made = records.preparations.get(_label(dataset))
        if made is not None:
            yield f"{pad}    {made.sentence}"
    yield from (f"{pad}  {_basis_line(basis)}" for basis in facts.bases)
    yield from (f"{pad}  prepared with {line}" for line in preparations_in_words(job))
    if job.resumes is not None:
        yield f"{pad}  goes on from a checkpoint of job {job.resumes.job_id[:_SHOWN_DIGITS]}"
        before = records.trainings.get(job.resumes.job_id)
        if before is not None:
            yield from (f"{pad}    {_basis_line(basis)}" for basis in before.bases)


def _label(dataset: DatasetRef) -> str:
    return f"{dataset.party}/{dataset.name}/{dataset.version}"


def _dataset_facts(dataset: DatasetRef) -> Mapping[str, str | int | None]:
    facts: dict[str, str | int | None] = {"commitment": dataset.commitment, "num_rows": dataset.num_rows}
    return facts | ({"alignment": dataset.alignment} if dataset.alignment else {})


def _basis_line(basis: Basis) -> str:
    until = "" if basis.until is None else f", derived models until {basis.until:%Y-%m-%d %H:%M:%S} UTC"
    return f"consent of {basis.party}: grant {basis.grant_id}{until}"


def _use_lines(ref: ModelRef, records: ModelRecords) -> Iterator[str]:
    inferences = samples = 0
    for job, state in records.uses:
        if job.model_ref != ref or state != State.COMPLETED.value:
            continue
        if job.serving is not None:
            yield f"served by job {job.job_id[:_SHOWN_DIGITS]} to {job.querier}: at most {job.most_samples} sample(s)"
        elif job.job_type is JobType.INFER:
            inferences, samples = inferences + 1, samples + (job.query_rows or 0)
        else:
            opened = ", ".join(output.name for output in job.outputs)
            yield f"evaluated by job {job.job_id[:_SHOWN_DIGITS]} of {job.querier}: {opened}"
    if inferences:
        yield f"used for {inferences} inference(s) on {samples} sample(s)"
    for alias in records.aliases:
        if alias.ref == ref:
            yield f"{alias.alias.value} at {alias.holder}"


def holders_of(made: TrainingFacts, records: ModelRecords) -> tuple[str, ...]:
    """Returns who holds shares of what a training made: its computing parties, but those that have destroyed theirs."""
    ref = made.job.produced_model
    return missing_receipts(made.job.computing_parties, (receipt for receipt in records.receipts if receipt.ref == ref))


def receipt_lines(ref: ModelRef, made: TrainingFacts | None, records: ModelRecords) -> Iterator[str]:
    """Yields who has destroyed its shares of a model, and who has not said so although it was asked to."""
    receipts = [receipt for receipt in records.receipts if receipt.ref == ref]
    for receipt in receipts:
        sealed = f"sealed file {receipt.sealed_sha256[:_SHOWN_DIGITS]}" if receipt.sealed_sha256 else "no file was left"
        yield f"destroyed at {receipt.holder} at {receipt.time:%Y-%m-%d %H:%M:%S} UTC ({sealed}), for {receipt.subject}"
    asked = any(end.delete and end.code is not ErrorCode.MODEL_REVOKED for end in records.ends.get(ref, ()))
    if made is not None and asked:
        for holder in holders_of(made, records):
            yield f"no deletion receipt of {holder} has arrived"


def _after(ref: ModelRef, trainings: Mapping[str, TrainingFacts]) -> Iterator[TrainingFacts]:
    """Yields the completed trainings that went on from a model, directly or further."""
    waiting, seen = [ref], {ref}
    while waiting:
        current = waiting.pop(0)
        for facts in trainings.values():
            made = facts.job.produced_model
            if facts.job.model_ref == current and facts.state == State.COMPLETED.value and made is not None and made not in seen:
                seen.add(made)
                waiting.append(made)
                yield facts


def _add_training(facts: TrainingFacts, records: ModelRecords, add: Callable[..., None]) -> None:
    job = facts.job
    here = f"job:{job.job_id}"
    add(_job(job, facts.state))
    for dataset in job.datasets:
        name = _label(dataset)
        made = records.preparations.get(name)
        preparation = f"{name} under {dataset.schema_digest}"
        add(Node(NodeKind.DATASET, name, _dataset_facts(dataset)))
        add(
            Node(
                NodeKind.PREPARATION,
                preparation,
                {"schema_digest": dataset.schema_digest, **({} if made is None else made.facts)},
            ),
            (f"dataset:{name}", f"preparation:{preparation}", "prepared"),
            (f"preparation:{preparation}", here, "input of"),
        )
    for basis in facts.bases:
        until = None if basis.until is None else basis.until.isoformat()
        node = Node(NodeKind.GRANT, basis.grant_id, {"issuer": basis.party, "derived_until": until})
        add(node, (node.id, here, "permits"))
    if job.model_ref is not None:
        add(_model(job.model_ref, records), (f"model:{job.model_ref.label}", here, "input of"))
    for each in job.prepared_with:
        told = {"type": each.job_type.value, "epsilon": each.epsilon or None, "delta": each.delta if each.epsilon else None}
        add(Node(NodeKind.JOB, each.job, told), (f"job:{each.job}", here, "prepared"))
    if job.resumes is not None:
        add(_job(job, facts.state), (f"job:{job.resumes.job_id}", here, "resumed by"))
    if job.produced_model is not None and facts.state == State.COMPLETED.value:
        add(_model(job.produced_model, records), (here, f"model:{job.produced_model.label}", "made"))


def _job(job: Job, state: str) -> Node:
    facts: dict[str, str | int | None] = {
        "type": job.job_type.value,
        "querier": job.querier,
        "purpose": job.purpose,
        "agreement": job.agreement,
        "state": state,
        "query_rows": job.most_samples or None,
        "privacy": claim_of(job).in_words if job.job_type is JobType.TRAIN else None,
    }
    return Node(NodeKind.JOB, job.job_id, facts)


def _model(ref: ModelRef, records: ModelRecords) -> Node:
    ended = [end.sentence for end in records.ends.get(ref, ())]
    usable = {"usable": "no" if ended else "yes", "why": "; ".join(ended) or None}
    return Node(NodeKind.MODEL, ref.label, {**usable, "privacy": _privacy(ref, records)})


def _privacy(ref: ModelRef, records: ModelRecords) -> str:
    made = training_of(ref, records.trainings)
    behind = () if made is None else trainings_behind(made.job.job_id, records.trainings)
    return claims_in_words(claims_of(facts.job for facts in behind))
