"""The revocation: an agreement or a grant ends before its time.

A grant is revoked by its issuer, an agreement by any of its signatories. There is no way back: consent is given anew, by a new
document.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from governance.consent.reading import refuse, require_one_form, time_text
from governance.documents import DocumentKind, SignedDocument, sign
from governance.identity.directory import Directory
from governance.identity.fields import fields_of
from governance.identity.keys import SigningKey
from governance.identity.names import check_id
from governance.statement import verify_statement
from protocols.canonical import Document, canonical_bytes, parse_canonical
from protocols.errors import Problem
from protocols.job_fields import check_hex

FORMAT = "confide.revocation/1"
GRANT_ID_DIGITS = 32
AGREEMENT_DIGITS = 64
MAX_REASON = 1_024
_NAMES = {"format", "consortium", "issuer", "subject", "effect", "reason", "time"}


class Effect(Enum):
    """What becomes of what exists already."""

    STOP = "stop"  # jobs stop and derived models are not used any more
    DELETE = "delete"  # besides, every holder destroys its shares of derived models and says so


@dataclass(frozen=True)
class Revocation:
    """The end of a consent; public in the consortium.

    Attributes:
        consortium: its id.
        issuer: the party that withdraws.
        subject: id of a grant (32 hexadecimal digits) or digest of an agreement (64).
        effect: what becomes of derived models.
        reason: for people.
        time: when it was issued, UTC, whole seconds; it takes effect when it arrives, whatever this says.
    """

    consortium: str
    issuer: str
    subject: str
    effect: Effect
    reason: str
    time: datetime

    @property
    def is_of_agreement(self) -> bool:
        """Whether an agreement ends; else a grant does."""
        return len(self.subject) == AGREEMENT_DIGITS

    def to_bytes(self) -> bytes:
        """Returns the canonical bytes, which are what is signed and kept."""
        return canonical_bytes(self.to_document())

    def to_document(self) -> Document:
        """Returns the revocation as a document."""
        return {
            "format": FORMAT,
            "consortium": self.consortium,
            "issuer": self.issuer,
            "subject": self.subject,
            "effect": self.effect.value,
            "reason": self.reason,
            "time": time_text(self.time),
        }

    @staticmethod
    def from_bytes(body: bytes) -> Revocation:
        """Reads a revocation; nothing about it is believed before its signature is verified.

        Raises:
            ConfideError: INVALID_DOCUMENT (the author's fault), with all problems.
        """
        problems: list[Problem] = []
        fields = fields_of(parse_canonical(body), names=_NAMES, form=FORMAT, problems=problems)
        revocation = Revocation(
            consortium=fields.text("consortium"),
            issuer=fields.text("issuer"),
            subject=fields.text("subject"),
            effect=fields.choice("effect", Effect, otherwise=Effect.STOP),
            reason=fields.text("reason", most=MAX_REASON),
            time=fields.time("time"),
        )
        refuse(problems or _check(revocation), what="the revocation")
        require_one_form(revocation.to_document(), body, what="the revocation")
        return revocation


def sign_revocation(revocation: Revocation, key: SigningKey) -> SignedDocument:
    """Signs a revocation as its issuer.

    Raises:
        ConfideError: INVALID_DOCUMENT: it would be refused; all problems at once.
    """
    refuse(_check(revocation), what="the revocation")
    return sign(revocation.to_document(), kind=DocumentKind.REVOCATION, signer=revocation.issuer, key=key)


def verify_revocation(signed: SignedDocument, directory: Directory) -> Revocation:
    """Checks that the party that it names has issued a revocation in this consortium, and returns it.

    Whether that party could end the subject is the reader's question: the issuer of a grant can, and any signatory of an
    agreement.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE or NOT_ENROLLED (the signer's fault).
    """
    return verify_statement(
        signed,
        directory,
        kind=DocumentKind.REVOCATION,
        read=Revocation.from_bytes,
        author=lambda revocation: revocation.issuer,
        what="revocation",
    )


def _check(revocation: Revocation) -> Iterable[Problem]:
    yield from check_id("consortium", revocation.consortium)
    yield from check_id("issuer", revocation.issuer)
    digits = AGREEMENT_DIGITS if revocation.is_of_agreement else GRANT_ID_DIGITS
    yield from check_hex("subject", revocation.subject, digits)
    if not 1 <= len(revocation.reason) <= MAX_REASON:
        yield Problem("reason", f"a text of 1 to {MAX_REASON} characters is expected", "say why, in a sentence")
