"""A consortium that a researcher's client asks for descriptions: every party answers from memory, nothing is sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from parties.client.calls import PreparedJob
from parties.client.client import Client
from parties.client.prepare import prepare_job
from parties.wire.documents import to_wire
from parties.wire.generated.confide.v1 import governance_pb2, party_pb2
from protocols.canonical import canonical_bytes
from protocols.model.layers import Linear
from protocols.model.spec import ModelSpec
from tests.support.consent import HOSPITALS, ConsentWorld, an_agreement
from tests.support.jobs import SCHEMA

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
LABEL = "diagnosis@0123456789ab"
COMMON = {"api_version": "confide/v1", "computing_parties": ["hospital-a", "hospital-b"], "dealer": "hospital-c"}
GRADE = {"name": "grade", "role": "label", "type": "choice", "choices": ["low", "medium", "high"]}
STAY = {"name": "days", "role": "label", "type": "integer", "range": ["0", "30"]}
BENIGN = SCHEMA["columns"][-1]
WIDTHS = {"benign": 1, "days": 1, "grade": 3}
CONSENT = ConsentWorld()


@dataclass
class Consortium:
    """What the parties answer: one data set each, and a model that the computing parties hold."""

    label: dict[str, Any]
    steps: int = 40

    def __post_init__(self) -> None:
        self.directory = CONSENT.directory
        self.calls = self
        self.folder = Path("a-folder-without-files")
        self.signed = [CONSENT.signed(an_agreement(purposes=("prognosis",), datasets=("hospital-a/*", "hospital-b/*")))]
        self.in_force_at = set(HOSPITALS)
        self.researcher = "alice"
        self.schema = SCHEMA | {"columns": [*SCHEMA["columns"][:-1], self.label]}
        self.spec = ModelSpec.chain(3, linear=Linear(WIDTHS[self.label["name"]]))

    def datasets(self, party: str) -> list[party_pb2.Dataset]:
        schema = canonical_bytes(self.schema)
        return [party_pb2.Dataset(name="rows", version=1, num_rows=100, schema=schema, commitment="c" * 64)]

    def agreements(self, party: str) -> list[governance_pb2.Agreement]:
        return [
            governance_pb2.Agreement(
                body=signed.body, signatures=[to_wire(each) for each in signed.signatures], in_force=party in self.in_force_at
            )
            for signed in self.signed
        ]

    def models(self, party: str) -> list[party_pb2.Model]:
        manifest, schema = canonical_bytes(self.spec.to_document()), canonical_bytes(self.schema)
        steps = self.steps
        return [party_pb2.Model(name="diagnosis", version="0123456789ab", manifest=manifest, schema=schema, steps=steps)]

    def prepare(self, request: Any, folder: Path = Path(), samples: Any = None) -> PreparedJob:
        return prepare_job(cast(Client, self), request, folder=folder, now=NOW, samples=samples)
