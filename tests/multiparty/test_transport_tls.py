"""The public port over real mutual TLS on loopback: who gets in, what they may call, and how links live and end."""

from __future__ import annotations

import itertools
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from governance.identity.names import MemberKind, tls_name
from parties.server.access import ACCESS
from parties.transport import streams
from parties.transport.frames import MAX_FRAME_BYTES
from parties.transport.streams import ATTEMPT_KEY, LINK_METHOD, SESSION_KEY, LinkTable, dial
from parties.transport.tls import MAX_MESSAGE_BYTES, open_channel
from parties.wire.methods import DELIVER, Method
from parties.wire.status import from_rpc_error
from protocols.errors import ConfideError, ErrorCode
from protocols.links import TensorSpec
from tests.support.link_pairs import SESSION, Running, a_frame, a_link, framed
from tests.support.tls_world import (
    PEER,
    PROBLEMS,
    RESEARCHER,
    SERVER,
    STREAMING,
    UNLISTED_METHOD,
    TlsWorld,
    a_tls_world,
    serving,
)

pytestmark = pytest.mark.multiparty
HELLO = "/confide.v1.PartyService/Hello"
PARTY_ONLY = ["/confide.v1.SessionService/Deliver", LINK_METHOD]
RESEARCHER_ONLY = [
    f"/confide.v1.JobsService/{name}" for name in ("PlanJob", "SubmitJob", "ListJobs", "WatchJob", "CancelJob", "FetchOutput")
]
FOR_BOTH = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    HELLO,
    "/confide.v1.PartyService/ListDatasets",
    "/confide.v1.PartyService/ListModels",
    "/confide.v1.JobsService/GetJob",
]
NO_DEADLINE_NEEDED = [LINK_METHOD, *STREAMING]
SESSION_ID = SESSION.hex()
ROOT = Path(__file__).parents[2]
_ATTEMPTS = itertools.count(1_000)  # every test its own: a link is joined once


@pytest.fixture(scope="module")
def world() -> TlsWorld:
    return a_tls_world()


@pytest.fixture(scope="module")
def links() -> LinkTable:
    return LinkTable()


@pytest.fixture(scope="module")
def endpoint(world: TlsWorld, links: LinkTable) -> Iterator[str]:
    with serving(world, links) as address:
        yield address


@pytest.fixture(autouse=True)
def _short_wait_for_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CONNECT_S", 1.5)


@pytest.fixture(scope="module")
def channels(world: TlsWorld, endpoint: str) -> Iterator[dict[MemberKind, grpc.Channel]]:
    """One channel of a party and one of a researcher."""
    with (
        open_channel(world.peer, endpoint=endpoint, party=SERVER) as party,
        open_channel(world.researcher, endpoint=endpoint, party=SERVER) as researcher,
    ):
        yield {MemberKind.PARTY: party, MemberKind.RESEARCHER: researcher}


def call(channel: grpc.Channel, method: str, request: bytes = b"", *, timeout_s: float | None = 10.0) -> bytes:
    """Calls a method as its kind is; raises what a client of ours would see."""
    try:
        if method == LINK_METHOD:
            metadata = ((SESSION_KEY, SESSION_ID), (ATTEMPT_KEY, "7"))
            return b"".join(channel.stream_stream(method)(iter([]), metadata=metadata, timeout=timeout_s))
        if method in STREAMING:
            return next(iter(channel.unary_stream(method)(request, timeout=timeout_s)))
        reply: bytes = channel.unary_unary(method)(request, timeout=timeout_s)
        return reply
    except grpc.RpcError as error:
        raise from_rpc_error(error, party=SERVER) from error


def refusal(channel: grpc.Channel, method: str, request: bytes = b"", *, timeout_s: float | None = 10.0) -> ConfideError:
    with pytest.raises(ConfideError) as caught:
        call(channel, method, request, timeout_s=timeout_s)
    return caught.value


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


@pytest.mark.parametrize("method", [m for m in FOR_BOTH + PARTY_ONLY if m != LINK_METHOD])
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


# Links.


class Joined:
    """A link between this test's worker ends: `near` dialled, `far` was accepted by the server."""

    def __init__(self, links: LinkTable, channel: grpc.Channel, attempt: int) -> None:
        self.near, near_party = socket.socketpair()
        self.far, far_party = socket.socketpair()
        links.expect(SESSION_ID, attempt, PEER, far_party)
        dial(channel, session=SESSION_ID, attempt=attempt, endpoint=near_party)
        for end in (self.near, self.far):
            end.settimeout(15)
        self._parties = (near_party, far_party)

    def close(self) -> None:
        for end in (self.near, self.far, *self._parties):
            end.close()


@pytest.fixture
def joined(links: LinkTable, channels: dict[MemberKind, grpc.Channel]) -> Iterator[Joined]:
    made = Joined(links, channels[MemberKind.PARTY], attempt=next(_ATTEMPTS))
    yield made
    made.close()


def test_link_carries_messages_of_any_size_in_both_directions(joined: Joined) -> None:
    rng = np.random.default_rng(3)
    arrays = [rng.integers(-(2**63), 2**63 - 1, count, dtype=np.int64) for count in (1, (1 << 20) // 8, (3 << 20) // 8 + 1)]
    near, far = a_link(joined.near, peer=SERVER), a_link(joined.far, peer=PEER)

    def answer() -> None:
        for number, array in enumerate(arrays, start=1):
            far.send(number, far.receive(number, [TensorSpec("int64", array.shape)]))

    answering = Running(answer)
    for number, array in enumerate(arrays, start=1):
        near.send(number, [array])
        (returned,) = near.receive(number, [TensorSpec("int64", array.shape)])
        np.testing.assert_array_equal(returned, array)
    answering.result()
    near.close()
    far.close()
    assert near.frame_bytes == far.frame_bytes
    assert near.payload_bytes == sum(array.nbytes for array in arrays)


def test_link_worker_that_ends_ends_the_other_side_after_its_last_words(joined: Joined) -> None:
    joined.near.sendall(a_frame())
    joined.near.close()
    data = b"".join(iter(lambda: joined.far.recv(1 << 16), b""))
    assert data == a_frame()


def test_link_accepting_worker_that_ends_ends_the_dialling_side_after_its_last_words(joined: Joined) -> None:
    joined.near.sendall(a_frame())
    assert joined.far.recv(1 << 16)
    joined.far.sendall(a_frame(sequence=1))
    joined.far.close()
    data = b"".join(iter(lambda: joined.near.recv(1 << 16), b""))
    assert data == a_frame(sequence=1)


def test_link_frame_above_the_limit_from_a_worker_ends_the_link(joined: Joined) -> None:
    joined.near.sendall(a_frame())
    assert joined.far.recv(1 << 16) == a_frame()
    joined.near.sendall((MAX_FRAME_BYTES + 1).to_bytes(4, "little"))
    assert joined.far.recv(1) == b""


def test_link_frame_above_the_limit_from_a_peer_ends_the_link(links: LinkTable, channels: dict[MemberKind, grpc.Channel]) -> None:
    far, far_party = socket.socketpair()
    with far, far_party:
        far.settimeout(15)
        links.expect(SESSION_ID, 3, PEER, far_party)
        metadata = ((SESSION_KEY, SESSION_ID), (ATTEMPT_KEY, "3"))
        frames = iter([b"x" * 100, b"x" * (MAX_FRAME_BYTES + 1), b"y" * 100])
        stream = channels[MemberKind.PARTY].stream_stream(LINK_METHOD)(frames, metadata=metadata, timeout=15)
        received = b"".join(iter(lambda: far.recv(1 << 16), b""))
        assert received == framed(b"x" * 100)
        assert list(stream) == []


def test_link_of_an_unknown_session_is_refused(channels: dict[MemberKind, grpc.Channel]) -> None:
    error = refusal(channels[MemberKind.PARTY], LINK_METHOD)
    assert error.code is ErrorCode.UNKNOWN_SESSION


@pytest.mark.parametrize("attempt", ["", "-1", "one", "1.0", "9999999"])
def test_link_without_a_sound_attempt_is_refused(attempt: str, channels: dict[MemberKind, grpc.Channel]) -> None:
    metadata = ((SESSION_KEY, SESSION_ID), (ATTEMPT_KEY, attempt))
    with pytest.raises(grpc.RpcError) as caught:
        list(channels[MemberKind.PARTY].stream_stream(LINK_METHOD)(iter([]), metadata=metadata, timeout=10))
    assert from_rpc_error(caught.value, party=SERVER).code is ErrorCode.INVALID_ARGUMENT


def test_link_meant_for_another_party_is_refused(links: LinkTable, channels: dict[MemberKind, grpc.Channel]) -> None:
    far, far_party = socket.socketpair()
    with far, far_party:
        links.expect(SESSION_ID, 7, "hospital-c", far_party)
        assert refusal(channels[MemberKind.PARTY], LINK_METHOD).code is ErrorCode.UNKNOWN_SESSION
        assert links.take(SESSION_ID, 7, "hospital-c") is far_party


def test_link_second_stream_for_the_same_one_is_refused_and_the_first_lives(
    links: LinkTable, channels: dict[MemberKind, grpc.Channel]
) -> None:
    first = Joined(links, channels[MemberKind.PARTY], attempt=7)
    first.near.sendall(a_frame())
    assert first.far.recv(1 << 16) == a_frame()
    assert refusal(channels[MemberKind.PARTY], LINK_METHOD).code is ErrorCode.UNKNOWN_SESSION
    first.far.sendall(a_frame())
    assert first.near.recv(1 << 16) == a_frame()
    first.close()


def test_link_dial_before_the_other_side_expects_it_is_joined_in_time(
    links: LinkTable, channels: dict[MemberKind, grpc.Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "CONNECT_S", 15)
    near, near_party = socket.socketpair()
    far, far_party = socket.socketpair()
    with near, near_party, far, far_party:
        far.settimeout(15)
        dial(channels[MemberKind.PARTY], session=SESSION_ID, attempt=8, endpoint=near_party)
        near.sendall(a_frame())
        time.sleep(0.3)
        links.expect(SESSION_ID, 8, PEER, far_party)
        assert far.recv(1 << 16) == a_frame()


def test_link_dial_to_a_port_where_nobody_listens_ends_for_the_worker(world: TlsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CONNECT_S", 0.3)
    near, near_party = socket.socketpair()
    with socket.socket() as taken, near, near_party:
        near.settimeout(15)
        taken.bind(("127.0.0.1", 0))
        with open_channel(world.peer, endpoint=f"127.0.0.1:{taken.getsockname()[1]}", party=SERVER) as channel:
            dial(channel, session=SESSION_ID, attempt=1, endpoint=near_party)
            assert near.recv(1) == b""


# A peer that is killed.

_PEER_PROCESS = """
import json, socket, sys
from parties.transport.streams import dial
from parties.transport.tls import TlsIdentity, open_channel

said = json.loads(sys.stdin.readline())
identity = TlsIdentity(*(said[name].encode() for name in ("private_key", "certificate", "ca_certificate")))
worker, party = socket.socketpair()
channel = open_channel(identity, endpoint=said["endpoint"], party=said["party"])
dial(channel, session=said["session"], attempt=said["attempt"], endpoint=party)
worker.sendall(bytes.fromhex(said["frame"]))
worker.recv(1)
print("joined", flush=True)
worker.recv(1 << 20)
sys.stdin.read()
"""


def test_link_killed_peer_ends_it_within_seconds(world: TlsWorld, endpoint: str, links: LinkTable) -> None:
    said = {
        "private_key": world.peer.private_key.decode(),
        "certificate": world.peer.certificate.decode(),
        "ca_certificate": world.peer.ca_certificate.decode(),
        "endpoint": endpoint,
        "party": SERVER,
        "session": SESSION_ID,
        "attempt": next(_ATTEMPTS),
        "frame": a_frame().hex(),
    }
    far, far_party = socket.socketpair()
    command = [sys.executable, "-c", _PEER_PROCESS]
    with far, far_party, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        far.settimeout(30)
        links.expect(SESSION_ID, said["attempt"], PEER, far_party)
        process.stdin.write(json.dumps(said).encode() + b"\n")
        process.stdin.flush()
        assert far.recv(1 << 16) == a_frame()
        far.sendall(a_frame())
        assert process.stdout.readline() == b"joined\n"
        started = time.monotonic()
        process.kill()
        assert far.recv(1) == b""
        assert time.monotonic() - started < 5
