"""Commitments to output shares: everybody says which share it will open before anybody opens one.

    commitment = SHA-256(tag, session, attempt, output, party, shape, scale, share, nonce)

Every field is preceded by its length, so that no two different inputs give the same bytes. The nonce is 256 random bits, drawn
once for each output: without it, a share of few possible values could be guessed from its commitment. The hash binds the party
(a second share with the same commitment would be a collision) and hides the share (to whoever does not have the nonce), which is
all that a coin-tossing by commitments needs (Blum, "Coin flipping by telephone", 1981); why nobody chooses last is in
docs/protocols/release.md. Pure: the nonce is an argument.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from protocols.errors import ConfideError, ErrorCode

NONCE_BYTES = 32
_TAG = b"confide.output-commitment/1"
_QUERY_TAG = b"confide.served-query/1\x00"
_QUERY_HEX = 32


@dataclass(frozen=True)
class CommittedShare:
    """One party's refreshed share of one output, with all that its commitment binds it to.

    Attributes:
        session: session id; public.
        attempt: attempt at the job, from 1; public.
        output: name of the output; public.
        party: whose share it is; public.
        shape: dimensions of the array; public.
        scale_bits: fractional bits of its values; public.
        share: little-endian int64 ring elements; secret.
        nonce: 32 bytes; secret until the share is opened to its recipient.
    """

    session: str
    attempt: int
    output: str
    party: str
    shape: tuple[int, ...]
    scale_bits: int
    share: bytes = field(repr=False)
    nonce: bytes = field(repr=False)


def commitment_of(opened: CommittedShare) -> str:
    """Returns the commitment to a share, 64 hexadecimal digits, public.

    Learns: whoever sees it nothing about the share, as long as the nonce is not known.

    Raises:
        ConfideError: BAD_FRAME (the fault of the party named): the nonce has another size.
    """
    if len(opened.nonce) != NONCE_BYTES:
        raise ConfideError(ErrorCode.BAD_FRAME, f"the nonce of a commitment has {NONCE_BYTES} bytes", party=opened.party)
    fields = (
        _TAG,
        opened.session.encode(),
        str(opened.attempt).encode(),
        opened.output.encode(),
        opened.party.encode(),
        b"".join(size.to_bytes(8, "big") for size in opened.shape),
        str(opened.scale_bits).encode(),
        opened.share,
        opened.nonce,
    )
    digest = hashlib.sha256()
    for value in fields:
        digest.update(len(value).to_bytes(8, "big"))
        digest.update(value)
    return digest.hexdigest()


def check_opening(opened: CommittedShare, commitment: str) -> None:
    """Checks that a share is the one that its party committed to.

    Raises:
        ConfideError: COMMITMENT_DIFFERS (the fault of the party named): it hands out another share.
    """
    if not hmac.compare_digest(commitment_of(opened), commitment):
        what = f"{opened.party} hands out another share of {opened.output} than it committed to before anything was opened"
        raise ConfideError(ErrorCode.COMMITMENT_DIFFERS, what, party=opened.party)


def bound_query(query: str, commitment: str) -> str:
    """Returns the name under which the workers of a serving know a query, 32 hexadecimal digits; public.

    It follows from the query's id and the commitment to its samples. So a querier who gives the parties different commitments
    gives them different queries, and none of them is answered; and the parties' commitments to an answer name the samples.

    Args:
        query: the querier's id of it, 32 hexadecimal digits.
        commitment: salted, to the samples, 64 hexadecimal digits.
    """
    return hashlib.sha256(_QUERY_TAG + bytes.fromhex(query) + bytes.fromhex(commitment)).hexdigest()[:_QUERY_HEX]


def answer_name(output: str, query: str) -> str:
    """Returns the output name that binds a commitment to one query of a serving session (docs/protocols/serving.md); public."""
    return f"{output}/{query}"
