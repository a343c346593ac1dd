"""Targets that read evidence about model versions, and what policies ask of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from governance.canary_audit import read_canary_audit
from governance.documents import DocumentKind, sign_bytes
from governance.evidence.bundle import EvidenceBundle
from governance.evidence.gate import Asked, decide_release
from governance.evidence.overtaken import Overtaken
from governance.evidence.own import OwnModel, own_ref
from governance.evidence.standing import StandingAssessment
from governance.identity.directory import Directory
from governance.identity.keys import SigningKey
from parties.policy_file import load_policy
from privacy.figures import Figure
from protocols.canonical import parse_canonical
from tests.fuzz.files import from_file
from tests.fuzz.target import Target
from tests.support.evidence import A_ROWS, USE, Case
from tests.support.members import World
from tests.support.orders import an_order
from tests.support.people import NOW, Signer, an_officer

# A key that every process of a campaign knows, so that altered bundles can be signed again and reach what comes after.
_KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(b"\x0c" * 32))
_KEYS = SimpleNamespace(signing=_KEY)
_MEMBER = SimpleNamespace(signing_key=_KEY.public)
_DIRECTORY = SimpleNamespace(consortium="cardio", party=lambda _party: _MEMBER, researcher=lambda _researcher: _MEMBER)
_WORLD = cast(World, SimpleNamespace(hospital_a=_KEYS, hospital_b=_KEYS, alice=_KEYS, directory=cast(Directory, _DIRECTORY)))
_OFFICERS: tuple[Signer, ...] = (an_officer("nora", key=_KEY),)
_CASE = Case(_WORLD, _OFFICERS)

_POLICY = f"""api_version: confide.policy/1
people:
  - {{id: nora, roles: [privacy-officer], key: "{_KEY.public.hex}"}}
otherwise: {{decision: refuse}}
release:
  default_class: confidential
  datasets: {{hospital-a/hearts/2: special, hospital-b/*: confidential}}
  classes:
    confidential:
      requires_guarantee: false
      max_figures: {{membership.lira.tpr_at_1_percent: "0.03"}}
      max_age_days: 90
      approvals: null
    special:
      requires_guarantee: true
      max_epsilon: "3"
      max_delta: "0.00001"
      unit: person
      max_figures: {{group.accuracy_gap: "0.1"}}
      min_figures: {{accuracy: "0.8"}}
      min_canaries: 400
      max_age_days: 30
      approvals: {{needed: 1, of: [privacy-officers]}}
"""


def _seeds() -> list[bytes]:
    before = _CASE.bundle(parameters=30)
    plain = _CASE.bundle(training={"guarantee": None, "noise_test": None, "audits": ()}, risk_reports=(), utility=())
    worse = _CASE.report("hospital-b", days=3, membership__lira__tpr_at_1_percent=Figure(0.04, 0.02, 0.06))
    carried = _CASE.bundle(overtaken=Overtaken((worse,), (_CASE.utility(),)), utility=())
    ref, commitment = own_ref("diagnosis", "5c" * 32), "5c" * 32
    own = _CASE.bundle(
        ref=ref,
        trainings=(),
        utility=(),
        preparations={},
        own=OwnModel(commitment, (A_ROWS,), ("prognosis@0123456789ab",), USE, {"accuracy": Figure(0.5, 0.4, 0.6)}),
        risk_reports=(_CASE.report(ref=ref),),
    )
    planted = {"canaries": {"hospital-a": 400, "hospital-b": 401}, "audits": (_CASE.audit(), _CASE.audit("hospital-b", "2.1"))}
    audited = _CASE.bundle(statement={"mechanism": "noisy_sums"}, training=planted)
    return [made.to_bytes() for made in (_CASE.bundle(), _CASE.after(before), plain, own, carried, audited)]


def _judge(body: bytes) -> object:
    """Signed by its issuer whatever it says, so that the gate itself must cope with it."""
    made = EvidenceBundle.from_bytes(body)
    signed = sign_bytes(body, kind=DocumentKind.EVIDENCE, signer=made.issuer, key=_KEY)
    earlier = _CASE.bundle()
    previous, approvals = _CASE.bundle(parameters=30), (_CASE.approval(earlier),)
    asked = Asked(_WORLD.directory, _CASE.policy(), "hospital-a", previous, approvals, NOW, earlier=(earlier,))
    return decide_release(signed, asked)


def _audit(body: bytes) -> object:
    return read_canary_audit(parse_canonical(body))


def _orders() -> list[bytes]:
    without_rows = an_order(querier=None, datasets=("hospital-b/hearts",), members=("hospital-b/hearts",), for_owners=True)
    return [an_order().to_bytes(), an_order(thresholds=()).to_bytes(), without_rows.to_bytes()]


TARGETS = (
    Target("evidence", EvidenceBundle.from_bytes, _seeds),
    Target("release-gate", _judge, _seeds),
    Target("canary-audit", _audit, lambda: [_CASE.audit().body, _CASE.audit(epsilon="0").body]),
    Target("standing-assessment", StandingAssessment.from_bytes, _orders),
    Target("release-policy", from_file(load_policy), lambda: [_POLICY.encode()]),
)
