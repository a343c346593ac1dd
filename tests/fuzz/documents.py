"""Targets that read documents: jobs, plans, messages, what is signed, certificates, and what the public port takes them from."""

from __future__ import annotations

import base64
import io
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.message import DecodeError

from governance.documents import DocumentKind, SignedDocument, sign_bytes
from governance.identity.certificates import load_certificate, parse_certificate
from governance.identity.directory import FOUNDER, read_directory
from governance.identity.keys import SigningKey
from governance.identity.names import MemberKind, PeerIdentity, Role
from governance.identity.request import make_request, read_request
from parties.client.progress import read_progress
from parties.server.intake import read_papers
from parties.server.links import LinkDoor
from parties.transport.opening import JOINED, LinkOpening, read_answer, refused
from parties.transport.port import first_record
from parties.transport.proxies import MAX_ANSWER_BYTES, Proxy, demand_passage
from parties.transport.streams import LinkTable
from parties.wire.documents import from_wire, to_wire
from parties.wire.generated.confide.v1 import jobs_pb2, session_pb2
from protocols.canonical import canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, Preparation
from protocols.job_parts import PreparedOpening
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_to_safetensors
from protocols.plan.plan import Plan
from protocols.session.endings import Ending, FailureReport
from protocols.session.messages import (
    AskEnding,
    Body,
    CancelRequest,
    Countersignature,
    EndingAccepted,
    EndingReply,
    Prepare,
    PrepareReply,
    ProposeEnding,
    Refusal,
    Release,
    SessionMessage,
    Start,
    Verdict,
    Vote,
)
from protocols.session.states import State
from tests.fuzz.files import some_weights
from tests.fuzz.target import Target
from tests.support.jobs import MODEL, a_training, an_evaluation, an_inference
from tests.support.members import a_world, new_keys
from tests.support.models import CHAIN, SKIP
from tests.support.parts import in_parts

# Keys that every process of a campaign knows, so that altered documents can be signed again and reach what comes after.
_KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(b"\x07" * 32))
_DIRECTORY = SimpleNamespace(researcher=lambda _id: SimpleNamespace(signing_key=_KEY.public), signing_key=lambda _id: _KEY.public)
_PARTY = cast(Any, SimpleNamespace(id="hospital-a", directory=_DIRECTORY))


def _jobs() -> Sequence[bytes]:
    opening = PreparedOpening("hospital-a", "0f" * 48, "ab" * 32)
    preparation = Preparation("1a" * 16, JobType.SUMMARISE, "1.5", "0.000000001", 1, 1, (opening,))
    jobs = (a_training(), an_evaluation(), an_inference(), in_parts(a_training()), a_training(prepared_with=(preparation,)))
    return [job.to_bytes() for job in jobs]


def _plans() -> Sequence[bytes]:
    from protocols.mpc.planning import derive_plan  # loads the tensor libraries: only who makes seeds needs them
    from tests.support.mpc_world import a_job

    jobs = [
        a_job(JobType.TRAIN, rows={"alpha": 20, "beta": 20}),
        a_job(JobType.EVALUATE, rows={"alpha": 20}),
        a_job(JobType.INFER, query_rows=3),
    ]
    return [canonical_bytes(derive_plan(job).to_document()) for job in jobs]


def _messages() -> Sequence[bytes]:
    report = FailureReport(ErrorCode.PEER_LOST, State.RUNNING, "hospital-b", "the link ended")
    ending = Ending(
        session="ab" * 16,
        attempt=1,
        state=State.ABORTED,
        code="PEER_LOST",
        phase=State.RUNNING,
        at_fault="hospital-b",
        cause="the link ended",
        remedy="submit again",
        decided_by="hospital-a",
        time="2026-03-01T12:00:00Z",
        by_majority=True,
        commitments={},
    )
    vote = Vote(Verdict.FAILED, report, {})
    completed = replace(ending, state=State.COMPLETED, code="", at_fault="", commitments={"hospital-a": {"labels": "b" * 64}})
    bodies: tuple[Body, ...] = (
        Countersignature("a" * 64, '{"index":7}'), Refusal(report), Prepare(1), PrepareReply(1, True), Release(1), Start(2), vote,
        Vote(Verdict.DONE, None, {"labels": "b" * 64}), AskEnding(3), EndingReply(1, 2, 1, ending, vote),
        ProposeEnding(1, ending), EndingAccepted(3), ending, completed, CancelRequest(),
    )  # fmt: skip
    return [canonical_bytes(SessionMessage("ab" * 16, 1, "hospital-a", body).to_document()) for body in bodies]


def _signed() -> Sequence[bytes]:
    return [sign_bytes(job, kind=DocumentKind.JOB, signer="alice", key=_KEY).to_bytes() for job in _jobs()]


def _directories() -> Sequence[bytes]:
    world = a_world()
    founder = replace(world.founder, signing=_KEY)
    directory = founder.directory(version=3, parties=world.directory.parties, researchers=world.directory.researchers)
    return [founder.signed(directory).body]


def _read_directory(data: bytes) -> object:
    signed = sign_bytes(data, kind=DocumentKind.DIRECTORY, signer=FOUNDER, key=_KEY)
    return read_directory(signed, founder_fingerprint=_KEY.public.fingerprint)


def _requests() -> Sequence[bytes]:
    party = make_request(
        kind=MemberKind.PARTY,
        member="hospital-a",
        endpoint="hospital-a.example:7443",
        roles=tuple(Role),
        institution=None,
        tls_key=new_keys().tls,
        signing_key=_KEY,
    )
    researcher = make_request(
        kind=MemberKind.RESEARCHER,
        member="alice",
        endpoint=None,
        roles=(),
        institution="hospital-a",
        tls_key=new_keys().tls,
        signing_key=_KEY,
    )
    return [party.body, researcher.body]


def _read_request(data: bytes) -> object:
    document = parse_canonical(data)
    signer = document.get("id")
    signed = sign_bytes(data, kind=DocumentKind.ENROLMENT_REQUEST, signer=signer if isinstance(signer, str) else "x", key=_KEY)
    return read_request(SignedDocument.from_parts(signed.kind.value, signed.signer, signed.body, signed.signature))


def _certificates() -> Sequence[bytes]:
    world = a_world()
    pems = [world.certificate_of(member) for member in ("hospital-a", "alice")]
    return [pem.encode() for pem in pems] + [load_certificate(pem).public_bytes(Encoding.DER) for pem in pems]


def _parse_certificate(data: bytes) -> object:
    if not data.startswith(b"-----"):  # what a TLS peer shows arrives as PEM made of any DER
        data = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(data) + b"-----END CERTIFICATE-----\n"
    return parse_certificate(data)


def _submissions() -> Sequence[bytes]:
    weights = weights_to_safetensors(some_weights(), MODEL)
    training = a_training(initial_weights_sha256=sha256_hex(weights))
    found = []
    for job, data in ((training, weights), (an_evaluation(), b""), (an_inference(), b"")):
        signed = sign_bytes(job.to_bytes(), kind=DocumentKind.JOB, signer="alice", key=_KEY)
        found.append(
            jobs_pb2.SubmitJobRequest(job=to_wire(signed), initial_weights=data, query_share=bytes(8)).SerializeToString()
        )
    return found


def _submit(data: bytes) -> object:
    request = jobs_pb2.SubmitJobRequest.FromString(data)
    signed = from_wire(request.job)
    again = sign_bytes(signed.body, kind=signed.kind, signer=signed.signer, key=_KEY)
    return read_papers(_PARTY, to_wire(again), request.initial_weights)


def _deliveries() -> Sequence[bytes]:
    signed = [sign_bytes(m, kind=DocumentKind.SESSION_MESSAGE, signer="hospital-a", key=_KEY) for m in _messages()]
    return [session_pb2.DeliverRequest(message=to_wire(message)).SerializeToString() for message in signed]


def _deliver(data: bytes) -> object:
    request = session_pb2.DeliverRequest.FromString(data)
    return SessionMessage.from_document(from_wire(request.message).document)


def _open_link(data: bytes) -> object:
    known = cast(Any, SimpleNamespace(knows=lambda job_id: job_id == "ab" * 16))
    door = LinkDoor(lambda: _PARTY.directory, known, LinkTable())
    return door.admit(PeerIdentity(MemberKind.PARTY, "cardio", "hospital-b"), data)


def _answer_link(data: bytes) -> object:
    words = io.BytesIO(data)

    def hear(count: int) -> bytes:
        found = words.read(count)
        if len(found) < count:
            raise ConnectionResetError
        return found

    try:
        read_answer(hear, party="hospital-b")
    except ConfideError as error:
        if error.code is ErrorCode.BAD_FRAME:
            raise
        return error.code  # a refusal is an answer
    return None


def _first_record(data: bytes) -> object:
    near, far = socket.socketpair()
    with far:
        with near:
            near.sendall(data[: 64 << 10])
        return first_record(far, time.monotonic() + 5.0)


def _proxy_answers() -> Sequence[bytes]:
    return [b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n", b"HTTP/1.0 204\r\n\r\n"]


def _hear_proxy(data: bytes) -> object:
    return demand_passage(data[:MAX_ANSWER_BYTES], proxy=Proxy("proxy.example:3128"), endpoint="a.example:7443")


def _manifests() -> list[bytes]:
    return [canonical_bytes(model.to_document()) for model in (MODEL, CHAIN, SKIP)]


def _document(read: Callable[[Any], object]) -> Callable[[bytes], object]:
    return lambda data: read(parse_canonical(data))


def _read_status(data: bytes) -> object:
    status = jobs_pb2.JobStatus.FromString(data)
    status.ClearField("ending")  # signed: `session-message` and `signed-document` read what is in it
    return read_progress(status, party="hospital-a", job_id="ab" * 16, directory=cast(Any, None))


def _statuses() -> Sequence[bytes]:
    times = jobs_pb2.SegmentTiming(segment="step", runs=30, seconds_total=2.5, seconds_median=0.07, online_seconds_median=0.05)
    return [
        jobs_pb2.JobStatus(state="RUNNING", phase="step", step=3, steps=30, rounds=99).SerializeToString(),
        jobs_pb2.JobStatus(state="COMPLETED", timing=[times, times]).SerializeToString(),
    ]


TARGETS = (
    Target("job", Job.from_bytes, _jobs),
    Target("plan", _document(Plan.from_document), _plans),
    Target("session-message", _document(SessionMessage.from_document), _messages),
    Target("model-manifest", _document(ModelSpec.from_document), _manifests),
    Target("signed-document", SignedDocument.from_bytes, _signed),
    Target("directory", _read_directory, _directories),
    Target("enrolment-request", _read_request, _requests),
    Target("certificate", _parse_certificate, _certificates),
    Target("submit-request", _submit, _submissions, (ConfideError, DecodeError)),
    Target("deliver-request", _deliver, _deliveries, (ConfideError, DecodeError)),
    Target("job-status", _read_status, _statuses, (ConfideError, DecodeError)),
    Target("link-opening", _open_link, lambda: [LinkOpening("ab" * 16, attempt).to_bytes() for attempt in (1, 77)]),
    Target("link-answer", _answer_link, lambda: [JOINED, refused(ErrorCode.UNKNOWN_SESSION)], (ConfideError, OSError)),
    Target("proxy-answer", _hear_proxy, _proxy_answers),
    Target("first-record", _first_record, lambda: [b"\x16\x03\x01\x00\x20" + bytes(32), b"GET / HTTP/1.1"], (OSError,)),
)
