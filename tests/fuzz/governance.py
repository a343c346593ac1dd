"""Targets that read what consent rests on: agreements, grants, approvals, statements, and the proofs of countersignatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError

from governance.audit.checkpoints import Checkpoint, cosign, open_checkpoint, origin, sign_checkpoint
from governance.audit.entries import EntryKind, entry_body
from governance.audit.manifest import GrantUse, Manifest, ManifestProof, verify_manifest
from governance.audit.merkle import is_consistent, leaf_hash
from governance.audit.notes import Note
from governance.consent.agreement import Agreement, SignedAgreement, sign_agreement
from governance.consent.grant import DatasetSubject, Grant, ModelSubject
from governance.consent.limits import OutputRule, ParameterLimits
from governance.consent.revocation import Effect, Revocation
from governance.documents import DocumentKind, sign_bytes
from governance.identity.directory import Directory
from governance.identity.keys import SigningKey
from governance.lineage.alias import AliasName, AliasStatement, MoveKind
from governance.lineage.receipt import DeletionReceipt
from governance.people.authorisation import Authorisation, read_authorisation, sign_authorisation
from governance.people.roles import Action
from governance.policy.approval import Answer, Approval, Question, read_approval, sign_approval
from governance.preview import Flow, Preview, PreviewedOutput
from parties.wire.generated.confide.v1 import audit_pb2
from protocols.errors import ConfideError
from protocols.job import JobType, ModelRef, OutputKind
from protocols.training import OptimiserKind
from tests.fuzz.target import Target
from tests.support.jobs import CREATED, an_inference

# A key that every process of a campaign knows, so that altered documents can be signed again and reach what comes after.
_KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(b"\x09" * 32))
_JOB = an_inference()
_PLAN = "c" * 64
_DIRECTORY = cast(Directory, SimpleNamespace(consortium="cardio", signing_key=lambda _party: _KEY.public))
_DAY = timedelta(days=1)


def _agreement() -> Agreement:
    return Agreement(
        consortium="cardio",
        name="prognosis",
        purposes=("prognosis", "audit"),
        parties=("hospital-a", "hospital-b", "hospital-c"),
        datasets=("hospital-a/*", "hospital-b/patients"),
        job_types=tuple(JobType),
        outputs=(OutputKind.LABEL, OutputKind.PROBABILITY),
        min_parties=2,
        min_rows=100,
        epsilon_cap="1.5",
        valid_from=CREATED,
        expires=CREATED + 30 * _DAY,
    )


def _signed_agreements() -> Sequence[bytes]:
    signed = SignedAgreement.unsigned(_agreement().to_bytes())
    both = signed
    for party in ("hospital-a", "hospital-b"):
        both = both.with_signature(sign_agreement(signed.body, party=party, key=_KEY))
    return [signed.to_bytes(), both.to_bytes()]


def _grants() -> Sequence[bytes]:
    grant = Grant(
        consortium="cardio",
        issuer="hospital-a",
        agreement="a" * 64,
        subject=DatasetSubject("patients", 2, "d" * 64),
        purposes=("prognosis",),
        job_types=(JobType.TRAIN, JobType.EVALUATE),
        derived_job_types=(JobType.INFER,),
        recipients=("alice", "institution/hospital-b"),
        outputs=(
            OutputRule(OutputKind.CORRECT_COUNT, min_cell=5),
            OutputRule(OutputKind.PROBABILITY, top_k=3, decimals=2, clip="0.01"),
        ),
        architectures=("e" * 64,),
        parameters=ParameterLimits(10, 1_000, 16, 100, (OptimiserKind.SGD,)),
        computing_parties=("hospital-a", "hospital-b"),
        dealers=("hospital-c",),
        min_parties=2,
        min_rows=100,
        max_uses=7,
        epsilon_cap=None,
        valid_from=CREATED,
        expires=CREATED + _DAY,
        derived_until=CREATED + 9 * _DAY,
        nonce="0f" * 16,
    )
    model = replace(grant, subject=ModelSubject("diagnosis", "0123456789ab"), job_types=(JobType.INFER,), recipients=("*",))
    return [grant.to_bytes(), model.to_bytes()]


def _revocations() -> Sequence[bytes]:
    of_grant = Revocation("cardio", "hospital-a", "0f" * 16, Effect.DELETE, "the study has ended", CREATED)
    return [of_grant.to_bytes(), replace(of_grant, subject="a" * 64, effect=Effect.STOP).to_bytes()]


def _aliases() -> Sequence[bytes]:
    moved = AliasStatement("cardio", "hospital-a", "diagnosis", AliasName.LIVE, MoveKind.SET, "0123456789ab", None, CREATED)
    fallen = replace(moved, move=MoveKind.FALL, version=None, before="0123456789ab")
    return [moved.to_bytes(), fallen.to_bytes()]


def _receipts() -> Sequence[bytes]:
    ref = ModelRef("diagnosis", "0123456789ab")
    receipt = DeletionReceipt("cardio", "hospital-b", ref, "hospital-a", "0f" * 16, "b" * 64, CREATED)
    return [receipt.to_bytes(), replace(receipt, subject=ref.label, sealed_sha256="").to_bytes()]


def _approvals() -> Sequence[bytes]:
    question = Question("hospital-a", "a" * 64, "b" * 64, "c" * 64)
    said = [Approval(question, "dr-grey", answer, "as discussed", CREATED) for answer in Answer]
    return [sign_approval(approval, _KEY).body for approval in said]


def _read_approval(data: bytes) -> object:
    return read_approval(sign_bytes(data, kind=DocumentKind.APPROVAL, signer="dr-grey", key=_KEY))


def _authorisations() -> Sequence[bytes]:
    made = [Authorisation("hospital-a", "dr-grey", action, "a" * 64, "c" * 64, CREATED) for action in Action]
    return [sign_authorisation(authorisation, _KEY).body for authorisation in made]


def _read_authorisation(data: bytes) -> object:
    return read_authorisation(sign_bytes(data, kind=DocumentKind.AUTHORISATION, signer="dr-grey", key=_KEY))


def _previews() -> Sequence[bytes]:
    preview = Preview(
        party="hospital-a",
        job="a" * 32,
        job_digest="b" * 64,
        plan_digest="c" * 64,
        job_type="infer",
        purpose="prognosis",
        querier="alice",
        institution="hospital-b",
        agreement="prognosis",
        agreement_digest="d" * 64,
        grants=("e" * 32,),
        roles=("computing",),
        sends=(Flow("hospital-b", openings=800, signals=3), Flow("alice", outputs=40)),
        receives=(Flow("hospital-c", corrections=4_000),),
        rounds=11,
        seconds=2,
        memory_bytes=1 << 28,
        disk_bytes=40,
        epsilon="opens without noise",
        outputs=(PreviewedOutput("prediction", "label", "alice", (5,), ""),),
        learns=(("alice", "prediction"),),
        model="",
        retention="nothing",
        numbers=("held at 16 fractional bits",),
        budgets=("dataset/patients would stand at epsilon 1 of 3",),
        prepared_with=("summarise job 0f1e2d3c4b5a: epsilon 1.5 at delta 0.000000001",),
    )
    return [preview.to_bytes()]


def _manifest() -> Manifest:
    grants = (GrantUse("0f" * 16), GrantUse("0e" * 16, CREATED), GrantUse("0d" * 16, CREATED, CREATED))
    return Manifest("hospital-a", _JOB.job_id, _JOB.digest, _PLAN, grants, "automatic", ("b" * 64,))


def _note() -> Note:
    log = origin(_DIRECTORY.consortium, "hospital-a")
    checkpoint = Checkpoint(log, 1, leaf_hash(_entry_of_one()))
    note = sign_checkpoint(checkpoint, key=_KEY)
    witness = origin(_DIRECTORY.consortium, "hospital-b")
    line = cosign(checkpoint, name=witness, key=_KEY, now=CREATED)
    return replace(note, signatures=(*note.signatures, line))


def _entry_of_one() -> bytes:
    return entry_body(index=0, time=CREATED, kind=EntryKind.COUNTERSIGNED, facts=_manifest().to_facts(), previous="0" * 64)


def _manifests() -> Sequence[bytes]:
    return [ManifestProof(_entry_of_one(), 0, 1, (), _note().to_bytes()).to_text().encode()]


def _verify(data: bytes) -> object:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None  # a document of the session holds texts
    return verify_manifest(
        text,
        party="hospital-a",
        job=_JOB,
        plan_digest=_PLAN,
        directory=_DIRECTORY,
        witnesses=("hospital-b",),
        now=CREATED,
    )


def _cosign_requests() -> Sequence[bytes]:
    note = _note().to_bytes()
    shown = [audit_pb2.CosignRequest(checkpoint=note, old_size=old, proof=[b"p" * 32] * old) for old in (0, 3)]
    return [request.SerializeToString() for request in shown]


def _cosign(data: bytes) -> object:
    """What a witness does with a request before it keeps anything."""
    request = audit_pb2.CosignRequest.FromString(data)
    log = origin(_DIRECTORY.consortium, "hospital-a")
    shown, _ = open_checkpoint(request.checkpoint, origin=log, key=_KEY.public)
    return is_consistent(request.old_size, shown.size, old_root=bytes(32), new_root=shown.root, proof=request.proof)


TARGETS = (
    Target("agreement", Agreement.from_bytes, lambda: [_agreement().to_bytes()]),
    Target("signed-agreement", SignedAgreement.from_bytes, _signed_agreements),
    Target("grant", Grant.from_bytes, _grants),
    Target("revocation", Revocation.from_bytes, _revocations),
    Target("alias", AliasStatement.from_bytes, _aliases),
    Target("deletion-receipt", DeletionReceipt.from_bytes, _receipts),
    Target("approval", _read_approval, _approvals),
    Target("authorisation", _read_authorisation, _authorisations),
    Target("preview", Preview.from_bytes, _previews),
    Target("consent-manifest", _verify, _manifests, (ConfideError,)),
    Target("cosign-request", _cosign, _cosign_requests, (ConfideError, DecodeError)),
)
