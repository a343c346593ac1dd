"""The first frames of a session's links: agree on what runs, then exchange fresh secrets.

1. HELLO to every peer: protocol version, job and plan digest, own fresh nonce. Everything is compared before anything secret
   is sent.
2. KEY to every peer: a digest over all nonces (so that everybody has the same ones) and, from the earlier participant of a
   pair, 32 fresh bytes that only the two of them hold.
3. CONFIRM to every peer: the first frame under the pair's own tag keys, which depend on everything above. Whoever was told
   anything else, or another secret, is found here, before the first message of the plan.

Learns: nobody anything but the versions and digests, which are public among the participants; each pair its own secret.
Cost: three rounds, under 1 KiB a peer; not counted as the plan's payload. The plan's keys follow in `protocols.mpc.keys`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from parties.transport.frames import FrameKind
from parties.transport.tags import TagKey
from parties.worker.link import WorkerLink
from protocols import PROTOCOL_VERSION
from protocols.canonical import canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.keys import expand_key
from protocols.secrets import SecretBytes

SECRET_BYTES = 32
FORMAT = "confide.frames/1"


@dataclass(frozen=True)
class Agreed:
    """What the handshake leaves: the pairs' secrets (by peer) and all participants' nonces (by party)."""

    pair_secrets: Mapping[str, bytes] = field(repr=False)
    nonces: Mapping[str, bytes]


def shake_hands(
    *, party: str, participants: Sequence[str], links: Mapping[str, WorkerLink], job_digest: str, plan_digest: str
) -> Agreed:
    """Runs the handshake with every peer.

    Raises:
        ConfideError: VERSION_DIFFERS, PLAN_DIFFERS, BAD_FRAME, PEER_LOST or PEER_SILENT, naming the peer.
    """
    mine = {"version": PROTOCOL_VERSION, "job": job_digest, "plan": plan_digest, "nonce": os.urandom(SECRET_BYTES).hex()}
    for link in links.values():
        link.send_control(FrameKind.HELLO, canonical_bytes(mine))
    nonces = {party: bytes.fromhex(mine["nonce"])}
    for peer, link in links.items():
        nonces[peer] = _check_hello(peer, mine, link.receive_control(FrameKind.HELLO))
    salt = sha256_hex(b"".join(nonces[name] for name in participants))

    secrets: dict[str, bytes] = {}
    for peer, link in links.items():
        first = participants.index(party) < participants.index(peer)
        if first:
            secrets[peer] = os.urandom(SECRET_BYTES)
        body = {"salt": salt, "secret": secrets[peer].hex() if first else ""}
        link.send_control(FrameKind.KEY, canonical_bytes(body))
    for peer, link in links.items():
        secret = _check_key(peer, salt, link.receive_control(FrameKind.KEY))
        if participants.index(peer) < participants.index(party):
            secrets[peer] = _exactly(secret, peer)
        elif secret:
            raise ConfideError(ErrorCode.BAD_FRAME, "a secret from the party that does not choose it", party=peer)

    for peer, link in links.items():
        pair = PairKeys(secrets[peer], salt, {**mine, "attempt": link.attempt})
        link.confirm(outgoing=pair.derive(party, peer), incoming=pair.derive(peer, party))
    for link in links.values():
        if link.receive_control(FrameKind.CONFIRM):
            raise ConfideError(ErrorCode.BAD_FRAME, "a confirmation that says something", party=link.peer)
    return Agreed(secrets, nonces)


class PairKeys:
    """The tag keys of a pair: HKDF-SHA256(secret of the pair, salt = digest of all nonces, info = what runs and who speaks)."""

    def __init__(self, secret: bytes, salt: str, said: Mapping[str, str | int]) -> None:
        """Takes the pair's secret, the digest of all nonces (hexadecimal), and version, job, plan and attempt; both public."""
        self._secret = SecretBytes(secret)
        self._salt = bytes.fromhex(salt)
        self._info = {"format": FORMAT, **{name: said[name] for name in ("version", "job", "plan", "attempt")}}

    def derive(self, sender: str, receiver: str) -> TagKey:
        """Returns the key of the frames from one of the pair to the other; secret."""
        info = canonical_bytes({**self._info, "sender": sender, "receiver": receiver})
        return TagKey(expand_key(self._secret, salt=self._salt, info=info))


def _check_hello(peer: str, mine: Mapping[str, str], body: bytes) -> bytes:
    theirs = _read(peer, body, set(mine))
    if theirs["version"] != mine["version"]:
        text = f"{peer} speaks protocol version {theirs['version'][:20]!a}, this party {mine['version']!a}"
        raise ConfideError(ErrorCode.VERSION_DIFFERS, text, party=peer)
    if theirs["job"] != mine["job"] or theirs["plan"] != mine["plan"]:
        raise ConfideError(ErrorCode.PLAN_DIFFERS, f"{peer} would run a different plan", party=peer)
    return _exactly(theirs["nonce"], peer)


def _check_key(peer: str, salt: str, body: bytes) -> str:
    theirs = _read(peer, body, {"salt", "secret"})
    if theirs["salt"] != salt:
        raise ConfideError(ErrorCode.BAD_FRAME, "a participant told different parties different nonces", party=peer)
    return theirs["secret"]


def _read(peer: str, body: bytes, fields: set[str]) -> dict[str, str]:
    try:
        document = parse_canonical(body)
    except ConfideError as error:
        raise ConfideError(ErrorCode.BAD_FRAME, "a handshake frame that is no document", party=peer) from error
    if set(document) != fields or not all(isinstance(value, str) for value in document.values()):
        raise ConfideError(ErrorCode.BAD_FRAME, "a handshake frame with other fields", party=peer)
    return document


def _exactly(text: str, peer: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != SECRET_BYTES:
        raise ConfideError(ErrorCode.BAD_FRAME, f"a handshake value is not {SECRET_BYTES} bytes", party=peer)
    return value
