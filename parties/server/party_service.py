"""PartyService: what a party tells the members of its consortium about itself."""

from __future__ import annotations

from governance.lineage.standing import trainings_behind
from governance.privacy_claims import claims_of
from parties.lineage import trainings_behind_job
from parties.model_registry import why_marked
from parties.server.party import Party
from parties.server.probe import Prober
from parties.storage.database import Tables
from parties.storage.models import ModelRecord
from parties.wire import methods
from parties.wire.generated.confide.v1 import party_pb2
from parties.wire.methods import Handlers
from protocols import PROTOCOL_VERSION
from protocols.job import Job


class PartyService:
    """PartyService: public facts about this party."""

    def __init__(self, party: Party, software_version: str) -> None:
        self._party = party
        self._version = software_version
        self._prober = Prober(party, software_version)

    def handlers(self) -> Handlers:
        """Returns the registrations."""
        return dict(
            (
                methods.HELLO.unary_handler(self.hello),
                methods.LIST_DATASETS.unary_handler(self.list_datasets),
                methods.LIST_MODELS.unary_handler(self.list_models),
                methods.PROBE.unary_handler(self._prober.probe),
            )
        )

    def hello(self, _request: party_pb2.HelloRequest) -> party_pb2.HelloReply:
        """Tells who and which version this is."""
        directory = self._party.directory
        return party_pb2.HelloReply(
            party=self._party.id,
            protocol_version=int(PROTOCOL_VERSION),
            software_version=self._version,
            directory_version=directory.version,
            roles=[role.value for role in directory.party(self._party.id).roles],
        )

    def list_datasets(self, _request: party_pb2.ListDatasetsRequest) -> party_pb2.ListDatasetsReply:
        """Tells the public descriptions of the registered data sets."""
        with self._party.database.transaction() as tables:
            records = tables.datasets.latest()
        found = [
            party_pb2.Dataset(
                name=record.name,
                version=record.version,
                num_rows=record.num_rows,
                schema=record.schema_document,
                commitment=record.commitment,
                alignment=record.alignment,
            )
            for record in records
        ]
        return party_pb2.ListDatasetsReply(party=self._party.id, datasets=found)

    def list_models(self, _request: party_pb2.ListModelsRequest) -> party_pb2.ListModelsReply:
        """Tells the public descriptions of the models held as shares, with their lineage and why some are not used any more."""
        with self._party.database.transaction() as tables:
            found = [_model(tables, record) for record in tables.models.usable()]
        return party_pb2.ListModelsReply(party=self._party.id, models=found)


def _model(tables: Tables, record: ModelRecord) -> party_pb2.Model:
    training = Job.from_bytes(tables.jobs.get(record.job_id).document)
    behind = trainings_behind(record.job_id, trainings_behind_job(tables, record.job_id))
    bases = dict.fromkeys((basis.party, basis.grant_id, basis.until) for facts in behind for basis in facts.bases)
    return party_pb2.Model(
        name=record.ref.name,
        version=record.ref.version,
        manifest=record.model_document,
        schema=record.schema_document,
        job_id=record.job_id,
        plan_digest=record.plan_digest,
        computing_parties=training.computing_parties,
        sources=[
            party_pb2.ModelSource(party=d.party, dataset=f"{d.name}/{d.version}", commitment=d.commitment)
            for d in training.datasets
        ],
        created=record.created.isoformat(),
        steps=record.steps,
        aliases=[alias.value for alias in tables.registry.aliases_of(record.ref)],
        revoked=[why_marked(mark) for mark in tables.registry.marks(record.ref)],
        deleted=tables.registry.deletion(record.ref) is not None,
        agreement=training.agreement,
        purpose=training.purpose,
        grants=[
            party_pb2.ModelGrant(party=party, grant_id=grant_id, derived_until=until.isoformat() if until else "")
            for party, grant_id, until in bases
        ],
        claims=[
            party_pb2.TrainingClaim(
                job_id=claim.job,
                epsilon=claim.epsilon,
                delta=claim.delta,
                relation=claim.relation,
                unit=claim.unit,
                rows_per_person=claim.rows_per_person,
            )
            for claim in claims_of(facts.job for facts in behind)
        ],
    )
