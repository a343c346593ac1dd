"""Fresh keys in the middle of a session, over its own authenticated links (docs/protocols/serving.md).

As in the handshake that opened the session: every participant sends all others a fresh nonce; then a digest over all nonces,
and from the earlier participant of a pair 32 fresh bytes that only the two of them hold. Nothing of the keys before enters, so
whoever learns the new keys learns nothing of the old ones, and the other way round.

Learns: nobody anything but nonces; each pair its own secret. Cost: two rounds among all participants, 96 bytes a direction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.mpc.channels import Channel
from protocols.mpc.keys import NONCE_BYTES, SECRET_BYTES, SessionKeys, derive_keys
from protocols.plan.plan import Plan

_DIGEST_BYTES = 32


def renew_keys(
    *, job: Job, plan: Plan, old: SessionKeys, channels: Mapping[str, Channel], fresh: Callable[[int], bytes]
) -> SessionKeys:
    """Erases a party's keys and returns fresh ones; all participants call it at the same point of the session.

    Args:
        job: the agreed job.
        plan: its plan.
        old: the keys in force; erased.
        channels: to every other participant, by id.
        fresh: gives so many random bytes of this party's own.

    Raises:
        ConfideError: BAD_FRAME (the fault of the party named) if a party told others another nonce, or sent a secret that it
            does not choose; what the links raise.
    """
    old.erase()
    party, participants = old.party, plan.participants
    nonces = {party: fresh(NONCE_BYTES)}
    for channel in channels.values():
        channel.send_bytes(np.frombuffer(nonces[party], np.uint8))
    for peer, channel in channels.items():
        nonces[peer] = channel.receive_bytes(NONCE_BYTES).tobytes()
    salt = hashlib.sha256(b"".join(nonces[name] for name in participants)).digest()

    secrets: dict[str, bytes] = {}
    for peer, channel in channels.items():
        chooses = participants.index(party) < participants.index(peer)
        if chooses:
            secrets[peer] = fresh(SECRET_BYTES)
        said = salt + (secrets[peer] if chooses else bytes(SECRET_BYTES))
        channel.send_bytes(np.frombuffer(said, np.uint8))
    for peer, channel in channels.items():
        heard = channel.receive_bytes(_DIGEST_BYTES + SECRET_BYTES).tobytes()
        if heard[:_DIGEST_BYTES] != salt:
            raise ConfideError(ErrorCode.BAD_FRAME, "a participant told different parties different nonces", party=peer)
        secret = heard[_DIGEST_BYTES:]
        chooses = participants.index(peer) < participants.index(party)
        if chooses != any(secret):
            what = "sent none, as the one that chooses it" if chooses else "sent one, and does not choose it"
            raise ConfideError(ErrorCode.BAD_FRAME, f"a pair's secret: {peer} {what}", party=peer)
        if chooses:
            secrets[peer] = secret
    return derive_keys(
        party=party,
        participants=participants,
        pair_secrets=secrets,
        nonces=nonces,
        job_digest=job.digest,
        attempt=job.attempt,
        plan_digest=plan.digest,
    )
