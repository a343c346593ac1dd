"""An agreement that three hospitals have signed, a grant of one of them, and jobs that keep to both; all to be changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from governance.consent.agreement import Agreement, SignedAgreement, sign_agreement
from governance.consent.covering import GrantStanding
from governance.consent.facts import Source
from governance.consent.grant import DatasetSubject, Grant, ModelSubject
from governance.consent.limits import OutputRule, ParameterLimits
from governance.consent.matching import ConsentDecision, Consents, decide_consent
from governance.consent.revocation import Effect, Revocation
from governance.identity.directory import Directory
from protocols.job import DatasetRef, Job, JobType, ModelRef, OutputKind, Serving
from protocols.training import OptimiserKind
from tests.support.jobs import CREATED, MODEL_REF, a_dataset, a_serving, a_training, an_evaluation, an_inference
from tests.support.members import Founder, Keys, a_founder, new_keys

NOW = CREATED
HOSPITALS = ("hospital-a", "hospital-b", "hospital-c")
PATIENTS = a_dataset("hospital-a")
RULES = (
    OutputRule(OutputKind.CORRECT_COUNT, min_cell=5),
    OutputRule(OutputKind.LABEL),
    OutputRule(OutputKind.PROBABILITY, top_k=2, decimals=2, clip="0.01"),
)


def an_agreement(**changes: Any) -> Agreement:
    agreement = Agreement(
        consortium="cardio",
        name="prognosis-2026",
        purposes=("prognosis", "quality"),
        parties=HOSPITALS,
        datasets=("hospital-a/patients", "hospital-b/*", "hospital-c/*"),
        job_types=tuple(JobType),
        outputs=tuple(OutputKind),
        min_parties=2,
        min_rows=50,
        epsilon_cap=None,
        valid_from=NOW - timedelta(days=1),
        expires=NOW + timedelta(days=30),
    )
    return replace(agreement, **changes)


def a_grant(**changes: Any) -> Grant:
    """Hospital A's grant for its patients, with every kind of limit, and room around the jobs of `tests.support.jobs`."""
    grant = Grant(
        consortium="cardio",
        issuer="hospital-a",
        agreement=an_agreement().digest,
        subject=DatasetSubject("patients", 1, PATIENTS.commitment),
        purposes=("prognosis",),
        job_types=(JobType.TRAIN, JobType.EVALUATE),
        derived_job_types=(JobType.EVALUATE, JobType.INFER, JobType.SERVE),
        recipients=("alice", "institution/hospital-b"),
        outputs=RULES,
        architectures=(),
        parameters=ParameterLimits(
            max_epochs=10, max_steps=1_000, min_batch_size=4, max_query_rows=10, optimisers=(OptimiserKind.SGD,)
        ),
        computing_parties=("hospital-a", "hospital-b"),
        dealers=("hospital-c",),
        min_parties=2,
        min_rows=50,
        max_uses=3,
        epsilon_cap=None,
        valid_from=NOW - timedelta(hours=1),
        expires=NOW + timedelta(days=1),
        derived_until=NOW + timedelta(days=10),
        nonce="0f" * 16,
    )
    return replace(grant, **changes)


def a_model_grant(ref: ModelRef = MODEL_REF, **changes: Any) -> Grant:
    types = {"job_types": (JobType.EVALUATE, JobType.INFER, JobType.SERVE), "derived_job_types": ()}
    return a_grant(**{"subject": ModelSubject(ref.name, ref.version), "nonce": "1f" * 16} | types | changes)


def a_revocation(subject: str, issuer: str = "hospital-a", **changes: Any) -> Revocation:
    return replace(Revocation("cardio", issuer, subject, Effect.STOP, "a patient asked", NOW), **changes)


def standing(grant: Grant, *, uses: int = 0, revocation: Revocation | None = None) -> GrantStanding:
    return GrantStanding(grant, uses, revocation, None)


def under(job: Job) -> Job:
    """The job under the agreement that is in force here."""
    return replace(job, agreement=an_agreement().digest)


SERVED = Serving(block_rows=4, max_queries=5, max_rows=10, idle_s=60, lifetime_s=600, rekey_s=300)


def jobs() -> dict[JobType, Job]:
    """A job of each type that the agreement and the grant cover."""
    return {job.job_type: under(job) for job in (a_training(), an_evaluation(), an_inference(), a_serving(serving=SERVED))}


def a_source(dataset: DatasetRef = PATIENTS, *models: ModelRef) -> Source:
    return Source(dataset, models or (MODEL_REF,))


@dataclass
class ConsentWorld:
    """Three hospitals with keys, a researcher, and the agreement that they signed."""

    founder: Founder = field(default_factory=a_founder)
    keys: dict[str, Keys] = field(default_factory=lambda: {party: new_keys() for party in HOSPITALS})
    alice: Keys = field(default_factory=new_keys)

    def __post_init__(self) -> None:
        self.directory: Directory = self.founder.directory(
            version=3,
            parties=tuple(self.founder.party(keys, party) for party, keys in self.keys.items()),
            researchers=(self.founder.researcher(self.alice, "alice", institution="hospital-b"),),
        )
        self.agreement = self.signed(an_agreement())

    def signed(self, agreement: Agreement, *, by: Sequence[str] = HOSPITALS) -> SignedAgreement:
        signed = SignedAgreement.unsigned(agreement.to_bytes())
        for party in [party for party in by if party in agreement.parties]:
            signed = signed.with_signature(sign_agreement(signed.body, party=party, key=self.keys[party].signing))
        return signed

    def consents(self, *grants: GrantStanding, **changes: Any) -> Consents:
        behind = tuple(a_source(a_dataset(party)) for party in HOSPITALS)
        known = Consents("hospital-a", self.agreement, {}, grants, behind)
        return replace(known, **changes)

    def decide(self, job: Job, consents: Consents, *, now: datetime = NOW, directory: Directory | None = None) -> ConsentDecision:
        if job.model_ref is None:  # nothing is behind a model that the job does not name
            consents = replace(consents, sources=())
        return decide_consent(job, consents, directory=directory or self.directory, now=now)
