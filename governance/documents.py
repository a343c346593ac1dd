"""Signed documents: RFC 8785 bytes, who signed them, and an Ed25519 signature bound to the kind of document.

A signature covers a tag, the kind, the signer's id and the body, so a signature under one kind or name never passes as one
under another. The body is kept and forwarded verbatim: it is checked as canonical, never re-encoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from governance.identity.keys import SIGNATURE_BYTES, SigningKey, VerifyingKey
from protocols.canonical import Document, canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ID_PATTERN

FORMAT = "confide.signed/1"
_TAG = b"confide signature 1"
_SIGNATURE = re.compile(rf"[0-9a-f]{{{2 * SIGNATURE_BYTES}}}")


class DocumentKind(Enum):
    """What a signature is about; the value is part of what is signed and never reused for another meaning."""

    ENROLMENT_REQUEST = "enrolment-request"
    DIRECTORY = "directory"
    JOB = "job"
    QUERIER_REQUEST = "querier-request"  # what a querier asks about a job it submitted, for example to cancel it
    SESSION_MESSAGE = "session-message"  # what parties of a session tell each other and must be able to prove later
    ENDING = "ending"  # how a job ended, as its party tells the querier
    AGREEMENT = "agreement"  # a party's yes to an agreement; the body is the agreement itself
    GRANT = "grant"  # an owner's permission to use one of its data sets or models
    REVOCATION = "revocation"  # the end of an agreement or grant before its time
    AUTHORISATION = "authorisation"  # a person of an institution has its party do something
    APPROVAL = "approval"  # an approver's yes or no to one job with one plan
    ALIAS = "alias"  # which version of a model a name stands for
    PUBLISHED_MODEL = "published-model"  # what an owner says in public of a model that answers encrypted queries
    ENCRYPTED_GRANT = "encrypted-grant"  # an owner's permission to ask such a model
    ENQUIRY = "enquiry"  # a researcher's request to ask such a model for a while
    DELETION_RECEIPT = "deletion-receipt"  # a holder has destroyed what it held of a model
    RISK_REPORT = "risk-report"  # what an owner found when it attacked a model with its own rows
    CANARY_AUDIT = "canary-audit"  # what an owner's canaries show of a private training
    UTILITY_REPORT = "utility-report"  # what a researcher's evaluation told of a model
    ABLATION_REPORT = "ablation-report"  # what protections do to attack and analysis on rows of an owner
    EVIDENCE = "evidence"  # what a holder has in hand about a model version that is to be released
    STANDING_ASSESSMENT = "standing-assessment"  # a party repeats the assessment of a model version by itself
    LICENCE = "licence"  # for what, by whom and until when released weights may be used
    PREPARATION = "preparation"  # how an owner made the rows of a data set from its raw file


@dataclass(frozen=True)
class SignedDocument:
    """A document with its signature; public. Nothing about it is believed before `verify`.

    Attributes:
        kind: what the signature is about.
        signer: id of the party or researcher that claims to have signed, or `founder`.
        body: canonical bytes of the document.
        signature: 64 bytes, Ed25519 over tag, kind, signer and body.
    """

    kind: DocumentKind
    signer: str
    body: bytes
    signature: bytes

    @property
    def document(self) -> Document:
        """The body, parsed.

        Raises:
            ConfideError: INVALID_DOCUMENT (the signer's fault).
        """
        return parse_canonical(self.body)

    def to_bytes(self) -> bytes:
        """Returns the envelope as canonical bytes, for a file or the wire."""
        return canonical_bytes(
            {
                "format": FORMAT,
                "kind": self.kind.value,
                "signer": self.signer,
                "body": self.body.decode("utf-8"),
                "signature": self.signature.hex(),
            }
        )

    @staticmethod
    def from_bytes(data: bytes) -> SignedDocument:
        """Reads an envelope; does not verify it.

        Raises:
            ConfideError: INVALID_DOCUMENT (the sender's fault): not an envelope, unknown fields or kind, body not canonical.
        """
        envelope = parse_canonical(data)
        if set(envelope) != {"format", "kind", "signer", "body", "signature"} or envelope["format"] != FORMAT:
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"this is not a signed document of format {FORMAT}")
        kind, signer, body, signature = (envelope[key] for key in ("kind", "signer", "body", "signature"))
        if not all(isinstance(value, str) for value in (kind, signer, body, signature)):
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, "the fields of a signed document are texts")
        if not _SIGNATURE.fullmatch(signature):
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, "the signature has the wrong form")
        return SignedDocument.from_parts(kind, signer, body.encode("utf-8"), bytes.fromhex(signature))

    @staticmethod
    def from_parts(kind: str, signer: str, body: bytes, signature: bytes) -> SignedDocument:
        """Reads an envelope whose parts arrived apart, as they do on the wire; does not verify it.

        Raises:
            ConfideError: INVALID_DOCUMENT (the sender's fault): unknown kind, wrong form, body not canonical.
        """
        if kind not in [known.value for known in DocumentKind]:
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, "the signed document is of an unknown kind")
        if not ID_PATTERN.fullmatch(signer):
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, "the signer of the document is not an identifier")
        if len(signature) != SIGNATURE_BYTES:
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, "the signature has the wrong length")
        parse_canonical(body)
        return SignedDocument(DocumentKind(kind), signer, body, signature)


def sign(document: Document, *, kind: DocumentKind, signer: str, key: SigningKey) -> SignedDocument:
    """Signs a document.

    Args:
        document: the content, public to whoever receives it.
        kind: what the signature is about.
        signer: id under which others know the key.
        key: the signer's secret key.
    """
    return sign_bytes(canonical_bytes(document), kind=kind, signer=signer, key=key)


def sign_bytes(body: bytes, *, kind: DocumentKind, signer: str, key: SigningKey) -> SignedDocument:
    """Signs canonical bytes verbatim, for example those of a job.

    Raises:
        ConfideError: INVALID_DOCUMENT if the bytes are not canonical.
    """
    parse_canonical(body)
    return SignedDocument(kind, signer, body, key.sign(_message(kind, signer, body)))


def verify(signed: SignedDocument, *, kind: DocumentKind, signer: str, key: VerifyingKey) -> Document:
    """Checks that `signer` signed this document under this kind with this key, and returns the parsed body.

    Args:
        signed: what arrived.
        kind: the only kind that is accepted here.
        signer: the only signer that is accepted here.
        key: the signer's public key, from the directory (or, for a request, from the request itself).

    Raises:
        ConfideError: BAD_SIGNATURE (the sender's fault): other kind, other signer, or a signature that does not fit.
    """
    if signed.kind is not kind:
        raise ConfideError(ErrorCode.BAD_SIGNATURE, f"it was signed as {signed.kind.value}, and {kind.value} is expected")
    if signed.signer != signer:
        raise ConfideError(ErrorCode.BAD_SIGNATURE, f"{signed.signer} signed where {signer} is expected", party=signed.signer)
    if not key.is_valid(signed.signature, _message(kind, signer, signed.body)):
        raise ConfideError(ErrorCode.BAD_SIGNATURE, f"the signature of {signer} does not verify", party=signer)
    return signed.document


def _message(kind: DocumentKind, signer: str, body: bytes) -> bytes:
    # Neither a kind nor an id holds a NUL, so the parts cannot be shifted against each other.
    return b"\0".join((_TAG, kind.value.encode(), signer.encode(), body))
