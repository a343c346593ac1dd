"""A sound bundle of evidence about a private model of two hospitals, and terms that it keeps to; to be changed part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from governance.canary_audit import CanaryAudit, sign_canary_audit
from governance.documents import SignedDocument
from governance.evidence.bundle import EvidenceBundle, sign_evidence, with_changes
from governance.evidence.facts import NoiseTest, TrainingEvidence
from governance.evidence.gate import Asked, Decision, decide_release
from governance.identity.keys import SigningKey
from governance.people.authorisation import Authorisation, sign_authorisation
from governance.people.roles import Action
from governance.policy.release import Quorum, ReleaseClass, ReleaseTerms
from governance.policy.rules import Policy
from governance.risk_report import StatedRisk, sign_risk_report
from governance.utility_report import StatedUtility, sign_utility_report
from privacy.accounting.statement import PrivacyStatement
from privacy.figures import Figure
from privacy.risk.report import ATTACKED_IN_THE_CLEAR, RiskReport
from privacy.utility.report import UtilityReport
from protocols.job import ModelRef
from protocols.private_training import Unit
from tests.support.members import World
from tests.support.people import NOW, Signer, a_policy, an_officer

REF, OTHER_VERSION = ModelRef("diagnosis", "0123456789ab"), ModelRef("diagnosis", "ba9876543210")
JOB, EVALUATION = "1a" * 16, "2b" * 16
A_ROWS, B_ROWS = "hospital-a/hearts/1", "hospital-b/hearts/1"
STATEMENT = PrivacyStatement(
    epsilon="2.0", delta="0.000001", relation="zero-out", unit="person", rows_per_person=1, mechanism="shared_gradients",
    sampler="FullBatch", noise_multiplier="12.0", sampling_rate="1", steps=60, colluders=1, owners=2, nominal_rows=3000,
    nominal_people=3000, accounted_epsilon="1.9", rdp_epsilon="2.1", distance="0.000e+00", tpr_at_1_percent="0.05",
    tpr_at_0_1_percent="0.007", advantage="0.4", accountant="a test", prepared_with=0, whole_epsilon="2.0",
    whole_delta="0.000001",
)  # fmt: skip
RISKS = {
    "membership.lira.auc": Figure(0.51, 0.49, 0.53),
    "membership.lira.tpr_at_1_percent": Figure(0.012, 0.008, 0.018),
    "attribute_inference.gain": Figure(0.0, -0.01, 0.01),
    "reconstruction.gain": Figure(0.0, -0.01, 0.01),
}
USE = {
    "accuracy": Figure(0.9, 0.88, 0.92),
    "ece": Figure(0.02, 0.02, 0.02),
    "group.accuracy_gap": Figure(0.03, 0.01, 0.05),
    "shift.accuracy_drop": Figure(0.01, 0.0, 0.02),
}
UTILITY = UtilityReport(EVALUATION, REF.label, 500, 10, (450, 450), ("women", "men"), USE)
CLASS = ReleaseClass(
    requires_guarantee=True,
    max_epsilon=Decimal(3),
    max_delta=Decimal("0.00001"),
    unit=Unit.PERSON,
    max_figures={"membership.lira.tpr_at_1_percent": Decimal("0.03"), "group.accuracy_gap": Decimal("0.1")},
    min_figures={"accuracy": Decimal("0.8")},
    requires_utility=True,
    min_canaries=0,
    min_shadows=64,
    max_age_days=30,
    approvals=Quorum(1, ("privacy-officers",)),
    more_approvals=Quorum(2, ("privacy-officers",)),
)
TERMS = ReleaseTerms({"confidential": CLASS}, "confidential")


@dataclass(frozen=True)
class Case:
    """What a test changes: fields of the bundle, of its training and statement, the reports, the class, the approvals.

    Attributes:
        world: the consortium.
        officers: who are listed, two of them privacy officers who have approved or not.
    """

    world: World
    officers: tuple[Signer, ...] = field(default_factory=lambda: (an_officer("nora"), an_officer("emil")))

    def report(
        self,
        owner: str = "hospital-a",
        *,
        key: SigningKey | None = None,
        days: int = 1,
        ref: ModelRef = REF,
        shadows: int = 64,
        **figures: Figure,
    ) -> SignedDocument:
        """An owner's risk report; `figures` change some, with `__` for a dot."""
        changed = {name.replace("__", "."): figure for name, figure in figures.items()}
        found = RiskReport(RISKS | changed, 400, 400, shadows, (7,), ATTACKED_IN_THE_CLEAR)
        stated = StatedRisk("cardio", owner, ref, NOW - timedelta(days=days), (f"{owner}/hearts/1",), found)
        own = self.world.hospital_a if owner == "hospital-a" else self.world.hospital_b
        return sign_risk_report(stated, key or own.signing)

    def audit(
        self, owner: str = "hospital-a", epsilon: str = "0.7", *, key: SigningKey | None = None, **changes: Any
    ) -> SignedDocument:
        """What an owner tells of 400 canaries in the training."""
        own = self.world.hospital_a if owner == "hospital-a" else self.world.hospital_b
        return sign_canary_audit(replace(CanaryAudit("cardio", owner, JOB, epsilon, "0.999", 400), **changes), key or own.signing)

    def utility(self, report: UtilityReport = UTILITY, *, key: SigningKey | None = None) -> SignedDocument:
        """The report of alice on an evaluation."""
        return sign_utility_report(StatedUtility("cardio", "alice", report), key or self.world.alice.signing)

    def bundle(
        self, *, statement: Mapping[str, Any] | None = None, training: Mapping[str, Any] | None = None, **changes: Any
    ) -> EvidenceBundle:
        """The bundle, with changes of the statement, the training and the bundle itself."""
        made = TrainingEvidence(
            job=JOB,
            datasets=(A_ROWS, B_ROWS),
            guarantee=_stated(statement or {}),
            noise_test=NoiseTest(12, "passed"),
            audits=(self.audit(),),
        )
        whole = EvidenceBundle(
            consortium="cardio",
            issuer="hospital-a",
            ref=REF,
            time=NOW,
            previous=None,
            trainings=(replace(made, **(training or {})),),
            architecture="a1" * 32,
            parameters=31,
            preparations={A_ROWS: "c3" * 32},
            risk_reports=(self.report("hospital-a"), self.report("hospital-b")),
            utility=(self.utility(),),
        )
        return replace(whole, **changes)

    def after(self, previous: EvidenceBundle, **changes: Any) -> EvidenceBundle:
        """The bundle of the release after another one."""
        made = self.bundle(**changes)
        made = replace(made, previous=previous.digest)
        return replace(made, changes=with_changes(made, previous))

    def signed(self, bundle: EvidenceBundle) -> SignedDocument:
        return sign_evidence(bundle, self.world.hospital_a.signing)

    def policy(self, terms: ReleaseTerms | None = TERMS) -> Policy:
        return replace(a_policy(people=self.officers), release=terms)

    def approval(self, bundle: EvidenceBundle, officer: int = 0, *, party: str = "hospital-a") -> SignedDocument:
        signer = self.officers[officer]
        said = Authorisation(party, signer.person.id, Action.APPROVE_RELEASE, bundle.digest, "d4" * 32, NOW)
        return sign_authorisation(said, signer.key)

    def decide(
        self,
        bundle: EvidenceBundle,
        *,
        approvals: tuple[SignedDocument, ...] | None = None,
        signed: SignedDocument | None = None,
        previous: EvidenceBundle | None = None,
        terms: ReleaseTerms | None = TERMS,
        now: datetime = NOW,
        **asked: Any,
    ) -> Decision:
        """What the gate says; one officer has approved unless something else is said."""
        counted = (self.approval(bundle),) if approvals is None else approvals
        what = Asked(self.world.directory, self.policy(terms), "hospital-a", previous, counted, now, **asked)
        return decide_release(signed or self.signed(bundle), what)


def _stated(changes: Mapping[str, Any]) -> PrivacyStatement:
    """The statement with changes; a training that was prepared with nothing spends what it claims."""
    whole = {f"whole_{name}": changes[name] for name in ("epsilon", "delta") if name in changes}
    return replace(STATEMENT, **{**whole, **changes})
