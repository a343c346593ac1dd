"""What a researcher may name in a request: the data sets and models of all parties, as their holders describe them.

All of it is public among the members. A model is listed once, with the parties that hold its shares; if they describe it
differently, that is said, not hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from governance.lineage.alias import AliasName
from governance.privacy_claims import TrainingClaim, check_claim, claims_in_words
from parties.client.everybody import answers_of_everybody
from parties.client.listing import Listing
from parties.wire.generated.confide.v1 import party_pb2
from privacy.preparation.schema import TableSchema
from protocols.canonical import parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.session.documents import clean_text

if TYPE_CHECKING:
    from parties.client.client import Client

DATASET_HEADS = ("data set", "version", "rows", "features", "label", "schema", "aligned as")
MODEL_HEADS = ("model", "held by", "trained on", "created", "called", "state", "privacy")


@dataclass(frozen=True)
class DatasetEntry:
    """One registered data set; public.

    Attributes:
        party: its owner.
        name: at the owner; requests name it `party/name`.
        version: counts registrations under the name.
        num_rows: rows that passed the contract.
        schema: its columns.
        commitment: salted commitment to the rows.
        alignment: digest that only data sets of the same people in the same order share; empty if there is none.
    """

    party: str
    name: str
    version: int
    num_rows: int
    schema: TableSchema = field(repr=False)
    commitment: str
    alignment: str

    @property
    def label(self) -> str:
        """How requests name it."""
        return f"{self.party}/{self.name}"

    def cells(self) -> tuple[str, ...]:
        """Returns its line in a listing."""
        schema = self.schema
        return (
            self.label,
            str(self.version),
            f"{self.num_rows:,}",
            str(schema.num_features),
            schema.label.name if schema.has_label else "",
            schema.digest[:12],
            self.alignment[:12],
        )


@dataclass(frozen=True)
class ModelEntry:
    """One model that is held as shares; public.

    Attributes:
        name: given in the training request.
        version: 12 hexadecimal digits; requests name it `name@version`.
        computing_parties: who holds its shares and must take part in its use.
        sources: the data sets it was trained on, `party/name/version`.
        schema: the columns of its rows.
        job_id: its training.
        created: when the holders kept it, RFC 3339.
        disputed: whether its holders describe it differently; such a model cannot be used.
        aliases: what all of its holders that answered call it.
        revoked: why it is not used any more, `party: reason`; empty if it may be used.
        deleted_at: holders that have destroyed their shares.
        claims: what all trainings behind it claim of differential privacy, the latest first.
    """

    name: str
    version: str
    computing_parties: tuple[str, ...]
    sources: tuple[str, ...]
    schema: TableSchema = field(repr=False)
    job_id: str
    created: str
    disputed: bool
    aliases: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()
    deleted_at: tuple[str, ...] = ()
    claims: tuple[TrainingClaim, ...] = ()

    @property
    def privacy(self) -> str:
        """What is said of its privacy in a line; `no formal guarantee` unless all trainings behind it have one."""
        return claims_in_words(self.claims)

    @property
    def label(self) -> str:
        """How requests name it."""
        return f"{self.name}@{self.version}"

    @property
    def state(self) -> str:
        """Whether it may be used, in a word."""
        if self.deleted_at:
            return f"destroyed at {', '.join(self.deleted_at)}"
        return "revoked" if self.revoked else "usable"

    def cells(self) -> tuple[str, ...]:
        """Returns its line in a listing."""
        held = ", ".join(self.computing_parties) + (" (they disagree)" if self.disputed else "")
        called = ", ".join(self.aliases)
        return (self.label, held, ", ".join(self.sources), self.created[:19], called, self.state, self.privacy)


def list_datasets(client: Client, parties: Sequence[str] = ()) -> Listing[DatasetEntry]:
    """Returns the data sets of these parties, of all if none is named; those that cannot be asked are named beside it."""
    asked = tuple(parties) or tuple(party.id for party in client.directory.parties)
    found: list[DatasetEntry] = []
    unheard: dict[str, str] = {}
    for party, answer in zip(asked, answers_of_everybody(asked, client.datasets), strict=True):
        if isinstance(answer, ConfideError):
            unheard[party] = answer.what
            continue
        try:
            found += [_dataset(party, described) for described in answer]
        except ConfideError as error:  # one party's nonsense must not hide what the others have
            unheard[party] = error.what
    return Listing(DATASET_HEADS, sorted(found, key=lambda entry: entry.label), unheard=unheard)


def list_models(client: Client, parties: Sequence[str] = ()) -> Listing[ModelEntry]:
    """Returns the models of these parties, of all if none is named, the latest first."""
    asked = tuple(parties) or tuple(party.id for party in client.directory.parties)
    described: dict[tuple[str, str], dict[str, party_pb2.Model]] = {}
    unheard: dict[str, str] = {}
    for party, answer in zip(asked, answers_of_everybody(asked, client.models), strict=True):
        if isinstance(answer, ConfideError):
            unheard[party] = answer.what
            continue
        for model in answer:
            described.setdefault((model.name, model.version), {})[party] = model
    found = [_model(models) for models in described.values()]
    return Listing(MODEL_HEADS, sorted(found, key=lambda entry: entry.created, reverse=True), unheard=unheard)


def find_model(client: Client, label: str) -> ModelEntry:
    """Returns one model by its `name@version`.

    Raises:
        ConfideError: UNKNOWN_MODEL: no party that can be asked holds it; PLAN_DIFFERS: its holders describe it differently.
    """
    models = list_models(client)
    entry = next((model for model in models if model.label == label), None)
    if entry is None:
        known = ", ".join(model.label for model in models[:10]) or "none"
        raise ConfideError(ErrorCode.UNKNOWN_MODEL, f"no party holds shares of {label[:80]!r}", remedy=f"Choose among {known}.")
    if entry.disputed:
        raise ConfideError(ErrorCode.PLAN_DIFFERS, f"the parties describe {entry.label} differently")
    return entry


def _dataset(party: str, described: party_pb2.Dataset) -> DatasetEntry:
    schema = TableSchema.from_document(parse_canonical(described.schema))
    return DatasetEntry(
        party,
        clean_text(described.name),
        described.version,
        described.num_rows,
        schema,
        clean_text(described.commitment),
        clean_text(described.alignment),
    )


def _model(by_party: Mapping[str, party_pb2.Model]) -> ModelEntry:
    models = tuple(by_party.values())
    first = models[0]
    claimed = {_claims(model) for model in models}
    return ModelEntry(
        name=clean_text(first.name),
        version=clean_text(first.version),
        computing_parties=tuple(clean_text(party) for party in first.computing_parties),
        sources=tuple(clean_text(f"{source.party}/{source.dataset}") for source in first.sources),
        schema=TableSchema.from_document(parse_canonical(first.schema)),
        job_id=clean_text(first.job_id),
        created=clean_text(first.created),
        disputed=len({sha256_hex(model.manifest + model.schema) + model.job_id for model in models}) != 1 or len(claimed) != 1,
        aliases=tuple(alias.value for alias in AliasName if all(alias.value in model.aliases for model in models)),
        revoked=tuple(clean_text(f"{party}: {why}") for party, model in by_party.items() for why in model.revoked),
        deleted_at=tuple(party for party, model in by_party.items() if model.deleted),
        claims=claimed.pop() if len(claimed) == 1 else (),
    )


def _claims(model: party_pb2.Model) -> tuple[TrainingClaim, ...]:
    """Returns what a holder says of the trainings; nothing, and so no guarantee, if that is not what a job could claim."""
    claims = tuple(TrainingClaim(c.job_id, c.epsilon, c.delta, c.relation, c.unit, c.rows_per_person) for c in model.claims)
    return () if any(problem for claim in claims for problem in check_claim(claim, "claims")) else claims
