"""The public port over real mutual TLS on loopback: who gets in, and what they may call."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from governance.identity.names import MemberKind, tls_name
from parties.server.access import ACCESS
from parties.transport.tls import MAX_MESSAGE_BYTES, open_channel
from parties.wire.methods import DELIVER, Method
from parties.wire.status import from_rpc_error
from protocols.errors import ConfideError, ErrorCode
from tests.support.tls_calls import call, refusal
from tests.support.tls_world import (
    PEER,
    PROBLEMS,
    RESEARCHER,
    SERVER,
    STREAMING,
    UNLISTED_METHOD,
    TlsWorld,
    a_tls_world,
)

pytestmark = pytest.mark.multiparty
HELLO = "/confide.v1.PartyService/Hello"
PARTY_ONLY = [
    "/confide.v1.PartyService/Probe",
    "/confide.v1.GovernanceService/Tell",
    "/confide.v1.GovernanceService/ListStatements",
    "/confide.v1.GovernanceService/HandAssessment",
    "/confide.v1.AuditService/Cosign",
    "/confide.v1.AuditService/LastSeen",
    "/confide.v1.SessionService/Deliver",
    *(
        f"/confide.v1.LinkingService/{name}"
        for name in (
            "EvaluatePseudonyms",
            "OpenIntersection",
            "PutPart",
            "GetPart",
            "FinishIntersection",
            "BreakOffIntersection",
        )
    ),
]
RESEARCHER_ONLY = [
    *(
        f"/confide.v1.JobsService/{name}"
        for name in ("PlanJob", "SubmitJob", "ListJobs", "WatchJob", "CancelJob", "ExplainJob", "FetchOutput")
    ),
    *(f"/confide.v1.ServingService/{name}" for name in ("ListServings", "Ask", "StopServing")),
    *(
        f"/confide.v1.EncryptedInferenceService/{name}"
        for name in ("ListPublished", "OpenEnquiry", "GetEnquiry", "PutPart", "AskEncrypted", "FetchAnswer", "EndEnquiry")
    ),
]
FOR_BOTH = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    HELLO,
    "/confide.v1.PartyService/ListDatasets",
    "/confide.v1.PartyService/ListModels",
    "/confide.v1.JobsService/GetJob",
    "/confide.v1.GovernanceService/ListAgreements",
]
NO_DEADLINE_NEEDED = STREAMING
ROOT = Path(__file__).parents[3]


# Who gets in.


def test_member_with_its_certificate_is_known_by_its_id(channels: dict[MemberKind, grpc.Channel]) -> None:
    assert call(channels[MemberKind.PARTY], HELLO) == f"party {PEER}".encode()
    assert call(channels[MemberKind.RESEARCHER], HELLO) == f"researcher {RESEARCHER}".encode()


@pytest.mark.parametrize("who", ["another authority", "itself", "expired"])
def test_certificate_that_tls_refuses_gets_no_answer(who: str, world: TlsWorld, endpoint: str) -> None:
    identity = {
        "another authority": lambda: world.of_another_authority(PEER),
        "itself": lambda: world.signed_by_itself(PEER),
        "expired": lambda: world.outsider(PEER, age=timedelta(days=120)),
    }[who]()
    with open_channel(identity, endpoint=endpoint, party=SERVER) as channel:
        assert refusal(channel, HELLO).code is ErrorCode.PARTY_UNREACHABLE


def test_caller_without_certificate_gets_no_answer(world: TlsWorld, endpoint: str) -> None:
    credentials = grpc.ssl_channel_credentials(world.peer.ca_certificate)
    with grpc.secure_channel(endpoint, credentials, [("grpc.ssl_target_name_override", tls_name(SERVER))]) as channel:
        assert refusal(channel, HELLO).code is ErrorCode.PARTY_UNREACHABLE


def test_caller_without_tls_gets_no_answer(endpoint: str) -> None:
    with grpc.insecure_channel(endpoint) as channel:
        assert refusal(channel, HELLO).code is ErrorCode.PARTY_UNREACHABLE


@pytest.mark.parametrize(
    ("member", "kind", "text"),
    [
        ("hospital-x", MemberKind.PARTY, "hospital-x"),
        ("mallory", MemberKind.RESEARCHER, "mallory"),
        (PEER, MemberKind.PARTY, "does not hold the key in the directory"),
        (RESEARCHER, MemberKind.RESEARCHER, "does not hold the key in the directory"),
        (RESEARCHER, MemberKind.PARTY, RESEARCHER),
        (PEER, MemberKind.RESEARCHER, PEER),
    ],
)
def test_certificate_of_the_authority_that_the_directory_does_not_list_is_refused(
    member: str, kind: MemberKind, text: str, world: TlsWorld, endpoint: str
) -> None:
    with open_channel(world.outsider(member, kind=kind), endpoint=endpoint, party=SERVER) as channel:
        error = refusal(channel, HELLO)
    assert error.code is ErrorCode.UNAUTHENTICATED
    assert text in error.what


@pytest.mark.parametrize("who", ["another party", "another authority"])
def test_server_with_a_certificate_that_is_not_the_partys_is_not_believed(who: str, world: TlsWorld, endpoint: str) -> None:
    trusted = world.peer if who == "another party" else a_tls_world().peer
    expected = "hospital-c" if who == "another party" else SERVER
    with open_channel(trusted, endpoint=endpoint, party=expected) as channel:
        assert refusal(channel, HELLO).code is ErrorCode.PARTY_UNREACHABLE


def _tls_version(world: TlsWorld, endpoint: str, tmp_path: Path, version: ssl.TLSVersion) -> str | None:
    host, port = endpoint.split(":")
    key = tmp_path / "key.pem"
    key.write_bytes(world.peer.private_key + world.peer.certificate)
    context = ssl.create_default_context(cadata=world.peer.ca_certificate.decode())
    context.load_cert_chain(key)
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=tls_name(SERVER)) as wrapped,
    ):
        return wrapped.version()


def test_tls_1_3_is_spoken(world: TlsWorld, endpoint: str, tmp_path: Path) -> None:
    assert _tls_version(world, endpoint, tmp_path, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"


def test_tls_1_2_is_refused_even_with_every_cipher_suite_and_a_right_certificate(
    world: TlsWorld, endpoint: str, tmp_path: Path
) -> None:
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        _tls_version(world, endpoint, tmp_path, ssl.TLSVersion.TLSv1_2)


def test_credentials_grpc_loaded_too_early_are_not_made(world: TlsWorld) -> None:
    """Then gRPC has read its settings already, and TLS 1.2 would be open: nothing is served and nobody is called."""
    code = "import grpc; from parties.transport.tls import TlsIdentity, open_channel, server_credentials\n"
    code += "from protocols.errors import ConfideError\nidentity = TlsIdentity(b'', b'', b'')\n"
    for attempt in ("server_credentials(identity)", "open_channel(identity, endpoint='127.0.0.1:1', party='a')"):
        code += f"try:\n    {attempt}\nexcept ConfideError as error:\n    print(error.code.name)\n"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.split() == ["SETUP_INCOMPLETE"] * 2


# What they may call.


def test_table_of_this_test_covers_the_access_table() -> None:
    assert sorted(PARTY_ONLY + RESEARCHER_ONLY + FOR_BOTH) == sorted(ACCESS)


@pytest.mark.parametrize("method", FOR_BOTH + PARTY_ONLY)
def test_method_open_to_parties_answers_a_party(method: str, channels: dict[MemberKind, grpc.Channel]) -> None:
    assert call(channels[MemberKind.PARTY], method) == f"party {PEER}".encode()


@pytest.mark.parametrize("method", FOR_BOTH + RESEARCHER_ONLY)
def test_method_open_to_researchers_answers_a_researcher(method: str, channels: dict[MemberKind, grpc.Channel]) -> None:
    assert call(channels[MemberKind.RESEARCHER], method) == f"researcher {RESEARCHER}".encode()


@pytest.mark.parametrize("method", RESEARCHER_ONLY)
def test_method_of_researchers_refuses_a_party(method: str, channels: dict[MemberKind, grpc.Channel]) -> None:
    assert refusal(channels[MemberKind.PARTY], method).code is ErrorCode.NOT_AUTHORISED


@pytest.mark.parametrize("method", PARTY_ONLY)
def test_method_of_parties_refuses_a_researcher(method: str, channels: dict[MemberKind, grpc.Channel]) -> None:
    assert refusal(channels[MemberKind.RESEARCHER], method).code is ErrorCode.NOT_AUTHORISED


@pytest.mark.parametrize("kind", MemberKind)
def test_method_that_is_registered_but_not_in_the_table_is_refused(
    kind: MemberKind, channels: dict[MemberKind, grpc.Channel]
) -> None:
    assert refusal(channels[kind], UNLISTED_METHOD).code is ErrorCode.NOT_AUTHORISED


@pytest.mark.parametrize("method", ["/confide.v1.PartyService/NoSuch", "/confide.v1.NoService/Hello", "/Hello", "/"])
def test_method_that_does_not_exist_is_unknown(method: str, channels: dict[MemberKind, grpc.Channel]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channels[MemberKind.PARTY].unary_unary(method)(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", sorted(set(ACCESS) - set(NO_DEADLINE_NEEDED)))
def test_method_called_without_a_deadline_is_refused(method: str, channels: dict[MemberKind, grpc.Channel]) -> None:
    kind = MemberKind.RESEARCHER if method in RESEARCHER_ONLY else MemberKind.PARTY
    error = refusal(channels[kind], method, timeout_s=None)
    assert (error.code, error.what) == (ErrorCode.INVALID_ARGUMENT, "the call has no deadline within 3600 s")


@pytest.mark.parametrize("method", STREAMING)
def test_stream_without_a_deadline_is_answered(method: str, channels: dict[MemberKind, grpc.Channel]) -> None:
    assert call(channels[MemberKind.RESEARCHER], method, timeout_s=None) == f"researcher {RESEARCHER}".encode()


def test_refusal_with_many_problems_reaches_the_caller_whole(channels: dict[MemberKind, grpc.Channel]) -> None:
    """Over 20 KiB of problems in the trailers: more than gRPC takes unless it is told."""
    error = refusal(channels[MemberKind.PARTY], HELLO, b"refuse")
    assert (error.code, error.what, error.remedy) == (ErrorCode.INVALID_DATA, "rows are wrong", "mend them")
    assert error.problems == PROBLEMS


def test_defect_in_a_method_is_reported_without_its_text(
    channels: dict[MemberKind, grpc.Channel], capfd: pytest.CaptureFixture[str]
) -> None:
    error = refusal(channels[MemberKind.PARTY], HELLO, b"break")
    assert error.code is ErrorCode.INTERNAL
    shown = capfd.readouterr()
    assert "31.337" not in f"{error}{shown.out}{shown.err}"


def test_defect_in_the_middle_of_a_stream_is_reported_without_its_text(channels: dict[MemberKind, grpc.Channel]) -> None:
    stream = channels[MemberKind.RESEARCHER].unary_stream(STREAMING[1])(b"break", timeout=10)
    assert next(stream) == f"researcher {RESEARCHER}".encode()
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert from_rpc_error(caught.value, party=SERVER).code is ErrorCode.INTERNAL
    assert "31.337" not in str(caught.value)


def test_message_above_the_limit_is_refused_as_too_large(channels: dict[MemberKind, grpc.Channel]) -> None:
    method = Method("confide.v1.PartyService", "Hello", BytesValue, BytesValue)
    with pytest.raises(ConfideError) as caught:
        method.call(channels[MemberKind.PARTY], BytesValue(value=bytes(MAX_MESSAGE_BYTES)), party=SERVER, timeout_s=10)
    assert (caught.value.code, caught.value.what) == (
        ErrorCode.INVALID_ARGUMENT,
        f"what {SERVER} was asked, or its answer, is larger than a message may be",
    )


def test_call_to_a_port_where_nobody_listens_names_the_party(world: TlsWorld) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with open_channel(world.peer, endpoint=f"127.0.0.1:{taken.getsockname()[1]}", party=SERVER) as channel:
            error = refusal(channel, DELIVER.path)
    assert (error.code, error.party) == (ErrorCode.PARTY_UNREACHABLE, SERVER)
