"""The first bytes of every CKKS message: what it is and which plan it belongs to; and the refusal of what is none of ours."""

from __future__ import annotations

from enum import IntEnum

from protocols.errors import ConfideError, ErrorCode

MAGIC = b"CFDCKKS\0"
VERSION = 1
DIGEST_BYTES = 32
HEADER_BYTES = len(MAGIC) + 2 + 2 + DIGEST_BYTES
"""Magic, version, kind, then the digest of the plan."""

_SEAL_START = b"\x5e\xa1\x10\x04"
_LENGTH_DELIMITED = 2
_TENSEAL_SECRET_FIELD = 3
_MAX_FIELDS = 16

_OURS = "Ask with `confide infer`, or with the Python client of Confide."


class MessageKind(IntEnum):
    """What a message holds."""

    QUERY = 1
    EVALUATION_KEYS = 2
    ANSWER = 3
    SECRET_KEY = 4
    """The kind of a key file. It never travels; a key file that is sent by mistake is recognised by it and refused."""
    BATCH_QUERY = 5


def header(kind: MessageKind, plan_digest: bytes) -> bytes:
    """Returns the header of a message.

    Args:
        kind: what the message holds.
        plan_digest: SHA-256 of the plan that the message belongs to.
    """
    if len(plan_digest) != DIGEST_BYTES:
        raise ValueError("a digest has 32 bytes")
    return MAGIC + VERSION.to_bytes(2, "little") + int(kind).to_bytes(2, "little") + plan_digest


def payload(
    data: bytes | memoryview, kind: MessageKind, plan_digest: bytes, payload_bytes: int, *, code: ErrorCode
) -> memoryview:
    """Checks a message's header and exact length and returns what follows the header. Allocates nothing.

    Args:
        data: the message, from somebody else.
        kind: what it must hold.
        plan_digest: the digest of the plan that it must belong to.
        payload_bytes: the exact length that follows from the plan.
        code: INVALID_ARGUMENT for what a querier sends, BAD_FRAME for what an evaluator sends.

    Raises:
        ConfideError: with that code (the sender's fault): the message of another library, with secret-key material, of another
            version, kind or plan, or of another length.
    """
    view = memoryview(data)
    start = bytes(view[:HEADER_BYTES])
    if not start.startswith(MAGIC):
        _refuse_foreign(view, code)
    version, found = int.from_bytes(start[8:10], "little"), int.from_bytes(start[10:12], "little")
    if found == MessageKind.SECRET_KEY:
        raise _leaked(code)
    if version != VERSION:
        raise ConfideError(
            code,
            f"a CKKS message of version {version}; this party reads version {VERSION}",
            remedy="Run the same version of Confide on both sides.",
        )
    if found != kind:
        raise ConfideError(
            code, f"a CKKS message of kind {found} where {kind.name.lower().replace('_', ' ')} ({kind}) is expected"
        )
    if start[12:] != plan_digest:
        raise ConfideError(
            code,
            "the CKKS message belongs to another plan: another model, version or parameter set",
            remedy="Fetch the model's plan again, and make keys and queries for it.",
        )
    if len(view) != HEADER_BYTES + payload_bytes:
        raise ConfideError(code, f"the CKKS message has {len(view)} bytes; its plan says {HEADER_BYTES + payload_bytes}")
    return view[HEADER_BYTES:]


def _refuse_foreign(view: memoryview, code: ErrorCode) -> None:
    """Raises the refusal that says most: which library wrote this, and whether it holds a secret key."""
    start = bytes(view[:256])
    if _tenseal_secret(view):
        raise _leaked(code)
    if _SEAL_START in start:
        raise ConfideError(
            code,
            "this is an object of SEAL or TenSEAL, which is not read here; if it is or holds a secret key, that key is known to "
            "others now and must not be used again",
            remedy=_OURS,
        )
    raise ConfideError(code, "this is no CKKS message of Confide", remedy=_OURS)


def _leaked(code: ErrorCode) -> ConfideError:
    return ConfideError(
        code,
        "your secret key left your machine: the message holds a secret key. It was refused and is not kept, but whoever carried "
        "it can read every query and answer under that key",
        remedy="Destroy that key, make a new one with `confide infer keygen`, and send only what Confide's client writes.",
    )


def _tenseal_secret(view: memoryview) -> bool:
    """Whether this is a TenSEAL context with its private part: fields 1 (parameters of SEAL) and 3 (secret key)."""
    at, fields = 0, {}
    for _ in range(_MAX_FIELDS):
        key, at = _varint(view, at)
        if key & 7 == 0:
            _, at = _varint(view, at)
        elif key & 7 == _LENGTH_DELIMITED:
            size, at = _varint(view, at)
            if size < 0 or at < 0:
                return False
            fields[key >> 3] = (size, bytes(view[at : at + len(_SEAL_START)]))
            at += size  # beyond the end, where this is the first part of an upload
        else:
            return False
        if not 0 <= at < len(view):
            break
    return fields.get(1, (0, b""))[1] == _SEAL_START and fields.get(_TENSEAL_SECRET_FIELD, (0, b""))[0] > 0


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """Reads a number of at most ten bytes; (-1, -1) if there is none."""
    value = 0
    for shift in range(0, 70, 7):
        if not 0 <= at < len(view):
            break
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    return -1, -1
