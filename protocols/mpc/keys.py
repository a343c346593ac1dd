"""The key schedule: from one fresh secret per pair of parties to one stream key per use.

Every pair of participants exchanges a fresh 32-byte secret over mutual TLS before each attempt, and everybody a fresh
32-byte nonce. A key is HKDF-SHA256(secret of the pair, salt = hash of all nonces in participant order, info = format, job,
attempt, plan, label and both parties). A restored database or a repeated attempt therefore never repeats a stream: uniqueness
rests on the fresh secrets and nonces alone. See docs/protocols/key_schedule.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NoReturn

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.prefixed import prefixed
from protocols.prg import KEY_BYTES, AesCtrStream
from protocols.secrets import SecretBytes

FORMAT = b"confide.keys/2"
NONCE_BYTES = 32
SECRET_BYTES = 32


class Label(Enum):
    """What a stream is for; a key of one label never serves another."""

    DEALT = "dealt"  # (dealer, computing party): shares of correlated randomness
    REFRESH = "refresh"  # (computing party, computing party): sharings of zero; the dealer never holds it
    CHECKPOINT = "checkpoint"  # (computing party, computing party): sharings of zero for checkpoints
    INPUT = "input"  # (data owner, computing party): shares of rows
    NOISE = "noise"  # (data owner, computing party): shares of noise
    SUM = "sum"  # (data owner, computing party): shares of clipped sums


class SessionKeys:
    """The stream keys of one party in one attempt; secret, without a text form.

    Each stream can be opened once: a second one under the same key would repeat its masks.
    """

    __slots__ = ("_context", "_opened", "_party", "_salt", "_secrets")

    def __init__(self, *, party: str, secrets: Mapping[str, SecretBytes], salt: bytes, context: Sequence[bytes]) -> None:
        self._party = party
        self._secrets = dict(secrets)
        self._salt = salt
        self._context = tuple(context)
        self._opened: set[tuple[Label, str, str]] = set()

    def __repr__(self) -> str:
        return f"SessionKeys(party={self._party!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not pickled")

    @property
    def party(self) -> str:
        """Whose keys these are; public."""
        return self._party

    @property
    def handshake(self) -> str:
        """SHA-256 of all nonces of this attempt, hexadecimal; known to all participants, fresh in every attempt."""
        return self._salt.hex()

    def open_stream(self, label: Label, first: str, second: str) -> AesCtrStream:
        """Derives the stream of a label and an ordered pair of parties, of which this party must be one.

        Raises:
            ConfideError: INTERNAL (ours) if this party is not of the pair, has no secret with the other, or opened it before.
        """
        use = (label, first, second)
        peer = second if first == self._party else first
        if self._party not in (first, second) or first == second or peer not in self._secrets:
            raise ConfideError(ErrorCode.INTERNAL, f"no {label.value} key between {first} and {second} here")
        if use in self._opened:
            raise ConfideError(ErrorCode.INTERNAL, f"the {label.value} stream between {first} and {second} was opened before")
        self._opened.add(use)
        info = prefixed((*self._context, label.value.encode(), first.encode(), second.encode()))
        return AesCtrStream(expand_key(self._secrets[peer], salt=self._salt, info=info))

    def erase(self) -> None:
        """Forgets the pair secrets; streams that are open go on."""
        self._secrets.clear()


def derive_keys(
    *,
    party: str,
    participants: Sequence[str],
    pair_secrets: Mapping[str, bytes],
    nonces: Mapping[str, bytes],
    job_digest: str,
    attempt: int,
    plan_digest: str,
) -> SessionKeys:
    """Returns the key schedule of one party in one attempt.

    Args:
        party: whose keys.
        participants: all parties of the session, in the plan's order; public.
        pair_secrets: for every other participant the fresh 32-byte secret shared with it; secret.
        nonces: for every participant its fresh 32-byte nonce; known to all participants.
        job_digest: SHA-256 of the job, hexadecimal; public.
        attempt: counts the attempts of the session, from 1; public.
        plan_digest: SHA-256 of the plan, hexadecimal; public.

    Raises:
        ConfideError: INTERNAL (ours) listing every secret or nonce that is missing, unknown, repeated or of a wrong length.
    """
    problems = [
        *_check_lengths("pair_secrets", pair_secrets, set(participants) - {party}, SECRET_BYTES),
        *_check_lengths("nonces", nonces, set(participants), NONCE_BYTES),
    ]
    if party not in participants or len(set(participants)) != len(participants):
        problems.append(Problem("participants", "must name this party, and every party once", ""))
    if problems:
        raise ConfideError(ErrorCode.INTERNAL, "the session's secrets are incomplete", problems=problems)
    salt = hashlib.sha256(b"".join(nonces[name] for name in participants)).digest()
    context = (FORMAT, job_digest.encode(), str(attempt).encode(), plan_digest.encode())
    secrets = {peer: SecretBytes(bytes(value)) for peer, value in pair_secrets.items()}
    return SessionKeys(party=party, secrets=secrets, salt=salt, context=context)


def expand_key(secret: SecretBytes, *, salt: bytes, info: bytes) -> SecretBytes:
    """Returns HKDF-SHA256 (RFC 5869) of a secret, 32 bytes."""
    return SecretBytes(HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(secret.reveal()))


def _check_lengths(where: str, given: Mapping[str, bytes], wanted: set[str], length: int) -> list[Problem]:
    problems = [Problem(f"{where}.{name}", "missing", "") for name in sorted(wanted - set(given))]
    problems += [Problem(f"{where}.{name}", "not expected", "") for name in sorted(set(given) - wanted)]
    problems += [Problem(f"{where}.{name}", f"must have {length} bytes", "") for name in given if len(given[name]) != length]
    if len(set(given.values())) != len(given):
        problems.append(Problem(where, "two are equal, so they are not fresh", ""))
    return problems
