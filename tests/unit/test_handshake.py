"""The first frames of a session: everything is compared before any secret is sent."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from parties.transport.frames import FrameKind, decode
from parties.worker import handshake
from parties.worker.handshake import SECRET_BYTES, Agreed, PairKeys, shake_hands
from parties.worker.link import WorkerLink
from protocols import PROTOCOL_VERSION
from protocols.canonical import canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode
from tests.support.link_pairs import Running, a_link, read_frames

ALPHA, BETA, GAMMA = "alpha", "beta", "gamma"
PARTIES = (ALPHA, BETA, GAMMA)
JOB, PLAN, OTHER = "a" * 64, "b" * 64, "c" * 64
NONCE = "0f" * SECRET_BYTES


@contextmanager
def a_mesh() -> Iterator[Mapping[str, Mapping[str, WorkerLink]]]:
    """For every party its links to the two others."""
    with ExitStack() as stack:
        links: dict[str, dict[str, WorkerLink]] = {party: {} for party in PARTIES}
        for one, other in ((ALPHA, BETA), (ALPHA, GAMMA), (BETA, GAMMA)):
            left, right = socket.socketpair()
            stack.enter_context(left)
            stack.enter_context(right)
            links[one][other], links[other][one] = a_link(left, peer=other), a_link(right, peer=one)
        yield links


def begin(party: str, links: Mapping[str, WorkerLink], *, job: str = JOB, plan: str = PLAN) -> Running:
    return Running(lambda: shake_hands(party=party, participants=PARTIES, links=links, job_digest=job, plan_digest=plan))


def agreed(running: Running) -> Agreed:
    result = running.result()
    assert isinstance(result, Agreed)
    return result


def failed(running: Running) -> ConfideError:
    error = running.failure()
    assert isinstance(error, ConfideError)
    return error


@dataclass(frozen=True)
class Hostile:
    """hospital alpha's handshake is under test; beta and gamma are bare sockets that say what the test wants."""

    alpha: Running
    beta: WorkerLink
    gamma: WorkerLink
    beta_socket: socket.socket
    gamma_socket: socket.socket

    def keys_sent(self) -> int:
        """How many KEY frames alpha sent to anybody; reads what waits at both peers."""
        frames = read_frames(self.beta_socket) + read_frames(self.gamma_socket)
        return sum(decode(memoryview(frame))[0].kind is FrameKind.KEY for frame in frames)


@contextmanager
def alpha_among_hostile_peers(party: str = ALPHA) -> Iterator[Hostile]:
    """`party` is the one under test; the two others follow in the order of the participants."""
    with ExitStack() as stack:
        links, ends = {}, []
        for peer in (name for name in PARTIES if name != party):
            left, right = socket.socketpair()
            stack.enter_context(left)
            stack.enter_context(right)
            links[peer] = a_link(left, peer=peer)
            ends.append(right)
        running = begin(party, links)
        yield Hostile(running, a_link(ends[0], peer=party), a_link(ends[1], peer=party), *ends)


def a_hello(**changes: str) -> bytes:
    return canonical_bytes({"version": PROTOCOL_VERSION, "job": JOB, "plan": PLAN, "nonce": NONCE} | changes)


def test_handshake_three_parties_agree_on_pairwise_secrets_and_all_nonces() -> None:
    with a_mesh() as links:
        running = {party: begin(party, links[party]) for party in PARTIES}
        found = {party: agreed(running[party]) for party in PARTIES}
    assert found[ALPHA].nonces == found[BETA].nonces == found[GAMMA].nonces
    assert set(found[ALPHA].nonces) == set(PARTIES)
    secrets = set()
    for one, other in ((ALPHA, BETA), (ALPHA, GAMMA), (BETA, GAMMA)):
        assert found[one].pair_secrets[other] == found[other].pair_secrets[one]
        secrets.add(found[one].pair_secrets[other])
    assert len(secrets) == 3
    assert {len(secret) for secret in secrets} == {SECRET_BYTES}
    for party in PARTIES:
        assert set(found[party].pair_secrets) == set(PARTIES) - {party}


def test_handshake_again_gives_other_secrets_and_nonces() -> None:
    found = []
    for _ in range(2):
        with a_mesh() as links:
            running = {party: begin(party, links[party]) for party in PARTIES}
            found.append({party: agreed(running[party]) for party in PARTIES}[ALPHA])
    assert found[0].pair_secrets[BETA] != found[1].pair_secrets[BETA]
    assert found[0].nonces[ALPHA] != found[1].nonces[ALPHA]


def test_handshake_agreement_shows_no_secret() -> None:
    with a_mesh() as links:
        running = {party: begin(party, links[party]) for party in PARTIES}
        found = [agreed(running[party]) for party in PARTIES]
    for result in found:
        assert "pair_secrets" not in repr(result)
        assert all(
            secret.hex() not in repr(result) and repr(secret) not in repr(result) for secret in result.pair_secrets.values()
        )


@pytest.mark.parametrize("what", ["job", "plan"])
def test_handshake_one_party_with_another_digest_ends_everywhere_without_a_secret(what: str) -> None:
    with a_mesh() as links:
        running = {
            ALPHA: begin(ALPHA, links[ALPHA]),
            BETA: begin(BETA, links[BETA]),
            GAMMA: begin(GAMMA, links[GAMMA], **{what: OTHER}),
        }
        errors = {party: failed(running[party]) for party in PARTIES}
    assert {error.code for error in errors.values()} == {ErrorCode.PLAN_DIFFERS}
    assert errors[ALPHA].party == errors[BETA].party == GAMMA


@pytest.mark.parametrize("what", ["job", "plan", "version"])
@pytest.mark.parametrize("party", PARTIES)
def test_handshake_differing_peer_receives_no_key_frame_nor_does_anybody(what: str, party: str) -> None:
    with alpha_among_hostile_peers(party) as world:
        world.beta.send_control(FrameKind.HELLO, a_hello())
        world.gamma.send_control(FrameKind.HELLO, a_hello(**{what: OTHER}))
        error = failed(world.alpha)
        assert world.keys_sent() == 0
    assert error.code is (ErrorCode.VERSION_DIFFERS if what == "version" else ErrorCode.PLAN_DIFFERS)
    assert error.party == [name for name in PARTIES if name != party][1]


def test_handshake_silent_third_party_keeps_every_secret_back() -> None:
    """gamma says nothing: alpha waits, and beta, whose digests are right, still gets no key."""
    with alpha_among_hostile_peers() as world:
        world.beta.send_control(FrameKind.HELLO, a_hello())
        world.gamma_socket.close()
        assert failed(world.alpha).code is ErrorCode.PEER_LOST
        frames = read_frames(world.beta_socket)
        assert [decode(memoryview(frame))[0].kind for frame in frames] == [FrameKind.HELLO]


def test_handshake_version_text_of_a_peer_is_shown_harmlessly() -> None:
    with alpha_among_hostile_peers() as world:
        world.beta.send_control(FrameKind.HELLO, a_hello(version="\x1b[2J" + "9" * 100))
        error = failed(world.alpha)
    assert error.code is ErrorCode.VERSION_DIFFERS
    assert error.what.isprintable()
    assert len(error.what) < 120


def test_handshake_different_nonces_to_different_peers_are_seen_by_both() -> None:
    """gamma tells alpha and beta different nonces; whatever digest it then names, one of the two sees it."""
    with a_mesh() as links:
        running = {ALPHA: begin(ALPHA, links[ALPHA]), BETA: begin(BETA, links[BETA])}
        gamma = links[GAMMA]
        hellos = {}
        for number, peer in enumerate((ALPHA, BETA)):
            gamma[peer].send_control(FrameKind.HELLO, a_hello(nonce=f"{number:02d}" * SECRET_BYTES))
            hellos[peer] = parse_canonical(gamma[peer].receive_control(FrameKind.HELLO))["nonce"]
        for number, peer in enumerate((ALPHA, BETA)):
            salt = sha256_hex(bytes.fromhex(hellos[ALPHA] + hellos[BETA] + f"{number:02d}" * SECRET_BYTES))
            gamma[peer].send_control(FrameKind.KEY, canonical_bytes({"salt": salt, "secret": ""}))
        errors = [failed(running[ALPHA]), failed(running[BETA])]
    # Each of the two honest parties already sees the other's digest differ from its own.
    assert {error.code for error in errors} == {ErrorCode.BAD_FRAME}
    assert all("different nonces" in error.what for error in errors)


@pytest.mark.parametrize("secret", ["", "ab", "ab" * (SECRET_BYTES - 1), "ab" * (SECRET_BYTES + 1), "zz" * SECRET_BYTES])
def test_handshake_secret_of_a_wrong_length_is_refused(secret: str) -> None:
    """beta under test: alpha, the earlier of the pair, chooses the secret."""
    with alpha_among_hostile_peers(BETA) as world:
        alpha, gamma = world.beta, world.gamma
        alpha.send_control(FrameKind.HELLO, a_hello())
        gamma.send_control(FrameKind.HELLO, a_hello())
        own = parse_canonical(alpha.receive_control(FrameKind.HELLO))["nonce"]
        salt = sha256_hex(bytes.fromhex(NONCE + own + NONCE))
        alpha.send_control(FrameKind.KEY, canonical_bytes({"salt": salt, "secret": secret}))
        error = failed(world.alpha)
    assert (error.code, error.party) == (ErrorCode.BAD_FRAME, ALPHA)
    assert secret == "" or secret not in f"{error}{error!r}"


@pytest.mark.parametrize("what", ["secret", "plan"])
def test_handshake_peer_with_other_keys_is_refused_before_any_message_of_the_plan(what: str) -> None:
    """beta under test: what alpha told it is not what alpha's own keys follow from."""
    with alpha_among_hostile_peers(BETA) as world:
        alpha, gamma = world.beta, world.gamma
        for peer in (alpha, gamma):
            peer.send_control(FrameKind.HELLO, a_hello())
        own = parse_canonical(alpha.receive_control(FrameKind.HELLO))["nonce"]
        salt = sha256_hex(bytes.fromhex(NONCE + own + NONCE))
        alpha.send_control(FrameKind.KEY, canonical_bytes({"salt": salt, "secret": "ab" * SECRET_BYTES}))
        gamma.send_control(FrameKind.KEY, canonical_bytes({"salt": salt, "secret": ""}))
        secret = ("cd" if what == "secret" else "ab") * SECRET_BYTES
        said = {"version": PROTOCOL_VERSION, "job": JOB, "plan": OTHER if what == "plan" else PLAN, "attempt": 1}
        keys = PairKeys(bytes.fromhex(secret), salt, said)
        alpha.confirm(outgoing=keys.derive(ALPHA, BETA), incoming=keys.derive(BETA, ALPHA))
        error = failed(world.alpha)
    assert (error.code, error.party) == (ErrorCode.BAD_FRAME, ALPHA)
    assert "altered" in error.what


def test_handshake_keys_of_a_pair_differ_by_direction_peer_and_everything_agreed() -> None:
    said = {"version": PROTOCOL_VERSION, "job": JOB, "plan": PLAN, "attempt": 1}
    variants = [said | change for change in ({}, {"version": "x"}, {"job": OTHER}, {"plan": OTHER}, {"attempt": 2})]
    makers = [PairKeys(bytes(SECRET_BYTES), "0f" * 32, variant) for variant in variants]
    makers += [PairKeys(b"\1" * SECRET_BYTES, "0f" * 32, said), PairKeys(bytes(SECRET_BYTES), "0e" * 32, said)]
    keys = [maker.derive(ALPHA, BETA) for maker in makers]
    keys += [makers[0].derive(BETA, ALPHA), makers[0].derive(ALPHA, GAMMA)]
    assert len({key.tag(0, b"frame") for key in keys}) == len(keys)
    assert all("Key()" in repr(key) for key in keys)


def test_handshake_silent_after_keys_is_not_prepared() -> None:
    with alpha_among_hostile_peers() as world:
        for peer in (world.beta, world.gamma):
            peer.send_control(FrameKind.HELLO, a_hello())
        own = parse_canonical(world.beta.receive_control(FrameKind.HELLO))["nonce"]
        salt = sha256_hex(bytes.fromhex(own + NONCE + NONCE))
        for peer in (world.beta, world.gamma):
            peer.send_control(FrameKind.KEY, canonical_bytes({"salt": salt, "secret": ""}))
        world.beta_socket.close()
        assert failed(world.alpha).code is ErrorCode.PEER_LOST


def test_handshake_secret_from_the_later_party_is_refused() -> None:
    with alpha_among_hostile_peers() as world:
        world.beta.send_control(FrameKind.HELLO, a_hello())
        world.gamma.send_control(FrameKind.HELLO, a_hello())
        own = parse_canonical(world.beta.receive_control(FrameKind.HELLO))["nonce"]
        salt = sha256_hex(bytes.fromhex(own + NONCE + NONCE))
        world.beta.send_control(FrameKind.KEY, canonical_bytes({"salt": salt, "secret": "ab" * SECRET_BYTES}))
        error = failed(world.alpha)
    assert (error.code, error.party) == (ErrorCode.BAD_FRAME, BETA)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 4000,
        b'{"version": "1"}',
        canonical_bytes({"version": "1"}),
        a_hello() + b" ",
        a_hello(more="x"),
        canonical_bytes({"version": 1, "job": JOB, "plan": PLAN, "nonce": NONCE}),
        canonical_bytes({"version": PROTOCOL_VERSION, "job": [JOB], "plan": PLAN, "nonce": NONCE}),
        a_hello(nonce=""),
        a_hello(nonce="0f" * 31),
        a_hello(nonce="xx" * 32),
    ],
)
def test_handshake_hostile_hello_is_refused_by_name_before_any_secret(body: bytes) -> None:
    with alpha_among_hostile_peers() as world:
        world.beta.send_control(FrameKind.HELLO, body)
        world.gamma.send_control(FrameKind.HELLO, a_hello())
        error = failed(world.alpha)
        assert world.keys_sent() == 0
    assert (error.code, error.party) == (ErrorCode.BAD_FRAME, BETA)


def test_handshake_key_frame_in_place_of_hello_is_refused() -> None:
    with alpha_among_hostile_peers() as world:
        world.beta.send_control(FrameKind.KEY, a_hello())
        error = failed(world.alpha)
    assert (error.code, error.party) == (ErrorCode.BAD_FRAME, BETA)


def test_handshake_while_peers_send_heartbeats_succeeds() -> None:
    """A worker's heartbeats begin with the worker, so they come between the frames of the handshake."""
    with a_mesh() as links:
        running = {party: begin(party, links[party]) for party in (ALPHA, BETA)}
        for party in (ALPHA, BETA):
            for link in links[party].values():
                link.heartbeat()
        for link in links[GAMMA].values():
            link.heartbeat()
        running[GAMMA] = begin(GAMMA, links[GAMMA])
        assert len({agreed(running[party]).nonces[GAMMA] for party in PARTIES}) == 1


def test_handshake_secrets_come_from_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []
    numbers = itertools.count(1)

    def draw(count: int) -> bytes:
        value = bytes([next(numbers)]) * count
        drawn.append(value)
        return value

    monkeypatch.setattr(handshake.os, "urandom", draw)
    with a_mesh() as links:
        running = {party: begin(party, links[party]) for party in PARTIES}
        found = [agreed(running[party]) for party in PARTIES]
    used = {value for result in found for value in (*result.pair_secrets.values(), *result.nonces.values())}
    assert used == set(drawn)
    assert len(drawn) == 6
