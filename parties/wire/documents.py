"""Signed documents between the wire's form and ours; the bytes pass verbatim."""

from __future__ import annotations

from governance.documents import SignedDocument
from parties.wire.generated.confide.v1 import common_pb2


def to_wire(signed: SignedDocument) -> common_pb2.SignedDocument:
    """Returns the wire's form."""
    return common_pb2.SignedDocument(kind=signed.kind.value, signer=signed.signer, body=signed.body, signature=signed.signature)


def from_wire(message: common_pb2.SignedDocument) -> SignedDocument:
    """Returns our form; nothing about it is believed before `governance.documents.verify`.

    Raises:
        ConfideError: INVALID_DOCUMENT (the sender's fault): unknown kind, wrong form, body not canonical.
    """
    return SignedDocument.from_parts(message.kind, message.signer, message.body, message.signature)
